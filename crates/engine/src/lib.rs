//! Files into a repository and back: backup, restore, verify, forget, maintain.
//!
//! Each verb is a function over an open repository, its options and a [`Run`]; it blocks until it is done, and can be
//! watched through the run's [`Meter`] and stopped through its [`Cancel`]. Nothing here knows of Kubernetes, terminals or
//! configuration files.

mod backup;
mod forget;
mod lane;
mod limits;
mod maintain;
mod meter;
mod pool;
mod restore;
mod run;
mod select;
mod shortfall;
mod verify;
mod xattr;

pub use backup::{BackupError, BackupOptions, BackupOutcome, backup};
pub use forget::{ForgetError, ForgetOutcome, forget, forget_ids};
pub use limits::Limits;
pub use maintain::{Done, MaintainError, MaintainOptions, MaintainOutcome, TaskOutcome, maintain};
pub use meter::{Counter, Meter};
pub use restore::{OwnerMode, RestoreError, RestoreOptions, RestoreOutcome, restore};
pub use run::{Cancel, Run};
pub use select::{SelectError, Selection, select};
pub use shortfall::{Shortfall, ShortfallKind, Shortfalls};
pub use verify::{Affected, Finding, Severity, Subject, VerifyError, VerifyOptions, VerifyOutcome, verify};
