//! The harness itself: does the cluster do everything that the product's tests will rely on?

mod admission;
mod calls;
mod devices;
mod driver;
mod external_secrets;
mod isolation;
mod kinds;
mod knobs;
mod pods;
mod populator;
mod product;
mod report;
mod snapshots;
mod volumes;
mod webhooks;
