//! What can be had back from a damaged repository.
//!
//! ```text
//! control   kopia.repository from a copy, or by undoing one changed character; kopia.blobcfg, kopia.maintenance
//! salvage   entries that no index lists any more, from the packs' own indexes
//! aside     a damaged object under a name that neither program looks at: nothing is ever deleted
//! ```
//! Nothing here decides what a person must decide: the engine's `repair` does the wiring. Source: Kopia format, "Checksummed
//! copy of the format blob inside packs", "Local index and postamble", "Merging".

mod aside;
mod control;
mod mend;
mod publish;
mod salvage;

pub use control::{ControlRepair, Remedy, RepairMode};
pub use salvage::{Salvage, SalvagedPack, Search, UnreadableIndex};
