//! Files into a repository and back: backup, restore, verify, repair, forget, maintain; find, diff, download.
//!
//! Each verb is a function over an open repository, its options and a [`Run`]; it blocks until it is done, and can be
//! watched through the run's [`Meter`] and stopped through its [`Cancel`]. Nothing here knows of Kubernetes, terminals or
//! configuration files.

mod backup;
mod bits;
mod browse;
mod by_name;
mod diff;
mod download;
mod find;
mod forget;
mod lane;
mod limits;
mod listing;
mod maintain;
mod meter;
mod pool;
mod repair;
mod restore;
mod run;
mod select;
mod shortfall;
mod verify;
mod xattr;

pub use backup::{BackupError, BackupOptions, BackupOutcome, backup};
pub use browse::BrowseError;
pub use diff::{Aspect, DiffOutcome, Difference, Node, NodeKind, OnDisk, Other, diff};
pub use download::{DownloadOutcome, download};
pub use find::{FindOutcome, Version, find};
pub use forget::{ForgetError, ForgetOutcome, forget, forget_ids};
pub use limits::Limits;
pub use maintain::{Done, MaintainError, MaintainOptions, MaintainOutcome, TaskOutcome, maintain, maintain_if_due};
pub use meter::{Counter, Meter};
pub use repair::{Action, RepairError, RepairOptions, RepairOutcome, repair};
pub use restore::{OwnerMode, RestoreError, RestoreOptions, RestoreOutcome, restore};
pub use run::{Cancel, Run};
pub use select::{SelectError, Selection, select};
pub use shortfall::{Shortfall, ShortfallKind, Shortfalls};
pub use verify::{Affected, Finding, Severity, Subject, VerifyError, VerifyOptions, VerifyOutcome, verify};
