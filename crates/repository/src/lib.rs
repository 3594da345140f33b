//! What every repository format keeps, in one set of words.
//!
//! A format crate speaks its upstream's language inside and these types at its edge, so that the engine reads and writes
//! files without knowing whose bytes they become.

mod clock;
mod content;
mod entry;
mod side;
mod snapshot;

pub use clock::{Clock, SystemClock};
pub use content::{ContentId, ContentIdError, HASH_BYTES_MAX, PackId};
pub use entry::{DataId, Directory, Entry, EntryKind, FailedEntry, Summary};
pub use side::{DeviceNumber, DirectorySide, HardLink, Side, Special, SpecialKind, UnknownSpecial, Xattr};
pub use snapshot::{Identity, IdentityError, Snapshot, SnapshotId, Stats};
