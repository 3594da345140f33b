//! Kopia's repository format, in Kopia's words.
//!
//! Read this crate with the format's description open: `docs/formats/kopia.md`. From the bytes upward:
//!
//! ```text
//! format_blob   kopia.repository: password → keys and parameters
//! content       bytes ⇄ hashed, compressed, encrypted contents
//! pack          contents ⇄ pack blobs
//! index, epoch  content → pack, offset, length; which index blobs count
//! object        a file's bytes as contents, or as an index of pieces
//! directory     listings; side: what they have beyond Kopia's
//! manifest      labelled documents: snapshot, policy
//! session       writing, in the order that survives a kill
//! maintenance   giving storage back, in the order and after the times that keep what others write
//! recover       what can be had back when parts of all this are damaged
//! ```
//! Control blobs that are written again under the same name: `kopia.maintenance`, by maintenance; those that are damaged, by
//! repair.

mod blob;
mod blob_lock;
mod content;
mod create;
mod directory;
mod epoch;
mod error;
mod format_blob;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod ignore;
mod in_flight;
mod index;
mod json;
mod maintenance;
mod manifest;
mod new_contents;
mod object;
mod open_options;
mod pack;
mod pack_sizes;
mod packer;
mod password;
mod policy;
mod read;
mod records;
mod recover;
mod repository;
mod retention;
mod session;
mod side;
mod snapshot;
mod supported;
mod survey;
mod timestamp;

pub use content::{ContentHasher, Sealed, Sealer, Unsealed};
pub use create::{CreateOptions, PACK_BYTES, VERSION_DEFAULT, VERSIONS};
pub use directory::{DirectoryListing, Entries, WaitingEntries, stored_order};
pub use error::{BadOption, ContentError, IndexError, OpenError, ReadError, Unsupported, WriteError};
pub use format_blob::Password;
pub use ignore::{CACHEDIR_TAG_SIGNATURE, IgnoreError, Rules, parse_dot_ignore};
pub use in_flight::Ticket;
pub use index::{IndexEntry, IndexView, LegacyCompaction, Location, MergedIndex};
pub use maintenance::{
    CycleKind, CycleParameters, LogRetention, MaintenanceCycle, MaintenanceError, MaintenanceParameters, PacksDeleted,
    RunRecord, Safety, Schedule, Task, TaskStats,
};
pub use object::{ObjectId, ObjectIdError, Piece};
pub use open_options::OpenOptions;
pub use packer::{FinishedPack, PACK_CONTENTS_MAX, Packer};
pub use password::change_password;
pub use policy::{CompressionChoice, ErrorHandling, FileRules, Policy};
pub use recover::{ControlRepair, Remedy, RepairMode, Salvage, SalvagedPack, Search, UnreadableIndex};
pub use repository::{Client, Description, Repository};
pub use retention::{Retention, Verdict, retain};
pub use session::{Checkpoint, Reservation, Session};
pub use snapshot::Listing;
pub use survey::{LostPack, Survey, UnreadablePack};

/// Content prefix of file data and link targets: none.
pub const PREFIX_DATA: u8 = 0;
/// Content prefix of directory listings.
pub const PREFIX_DIRECTORY: u8 = b'k';
/// Content prefix of manifests.
pub const PREFIX_MANIFEST: u8 = manifest::MANIFEST_PREFIX;
/// Content prefix of the index objects of files.
pub const PREFIX_INDEX: u8 = b'x';

/// Writes a directory listing, entry by entry. `entries` come in [`stored_order`].
///
/// `side` and what entries have of it stand in members that Kopia passes over; see the format's section "Side record".
///
/// # Errors
/// Those of `out`, and the first of `entries`.
pub fn write_directory<'a>(
    entries: impl Iterator<Item = std::io::Result<std::borrow::Cow<'a, ::repository::Entry>>>,
    summary: &::repository::Summary,
    side: &::repository::DirectorySide,
    out: &mut dyn std::io::Write,
) -> std::io::Result<()> {
    directory::write(entries, summary, side, out)
}

/// The bytes of an index object over `pieces`, each with its length in bytes, that follow each other without gaps.
pub fn write_index_object(pieces: &[(ObjectId, u64)]) -> Vec<u8> {
    object::write_index_object(pieces)
}
