//! The harness itself: does the cluster do everything that the product's tests will rely on?

mod admission;
mod driver;
mod external_secrets;
mod kinds;
mod knobs;
mod pods;
mod populator;
mod product;
mod snapshots;
mod volumes;
mod webhooks;
