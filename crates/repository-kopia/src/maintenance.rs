//! Giving storage back: the records, the rules and the deletions of maintenance.
//!
//! Nothing here takes data away at once, because other clients write at the same time without locks. A content that no
//! snapshot needs is first *marked* as deleted and stays readable; if a snapshot turns out to need it after all, the next
//! collection takes the mark back. Only marks older than two whole collections are *dropped* from the index, and a pack goes
//! only when no entry names it, a day after it was written. Index blobs go hours after something that was read back says
//! the same. Every span is one of [`Safety`], and every age is measured on the store's own timestamps where the store has one.
//!
//! ```text
//! parameters   manifest: who is the owner, how often, what logs to keep
//! schedule     kopia.maintenance: when the next cycle is due, what ran before — decisions rest on it
//! safety       the spans, and the decisions: pure
//! cycle        the start of a cycle, its records, and the signs that somebody else maintains too
//! compact      index blobs into fewer
//! epochs       which index blobs: pure
//! legacy       index blobs without epochs
//! orphans      packs and markers that nothing names
//! locks        object locks made longer
//! logs         old diagnostic logs
//! manifests    manifest contents into one
//! ```
//! Source: Kopia format, "Maintenance".

mod compact;
mod cycle;
mod epochs;
mod error;
mod legacy;
mod locks;
mod logs;
mod manifests;
mod orphans;
mod parameters;
mod safety;
mod schedule;
mod stats;

pub use cycle::{CycleKind, MaintenanceCycle};
pub(crate) use cycle::{Running, latest_parameters};
pub use error::MaintenanceError;
pub use parameters::{CycleParameters, LogRetention, MaintenanceParameters};
pub use safety::{PacksDeleted, Safety};
pub use schedule::{RunRecord, Schedule, Task};
pub use stats::TaskStats;
