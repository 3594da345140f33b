//! Maintenance over a store in memory whose clock is set: what goes, when, and what never does.

mod backlog;
mod faults;
mod golden;
mod legacy;
mod locks;
mod random;
mod scenario;
pub mod world;
