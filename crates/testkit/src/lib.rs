//! What tests of every crate share: stores in memory, stores that fail on demand, and the suite every store passes.

pub mod conformance;
pub mod fault;
pub mod hostile;
pub mod memory;
pub mod tree;

pub use conformance::{conformance, conformance_with_slashes};
pub use fault::{Fault, FaultStore, Moment, Reach};
pub use memory::MemoryStore;
pub use tree::describe;
