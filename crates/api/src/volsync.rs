//! VolSync's kinds, `volsync.backube/v1alpha1`: what its users already have, served unchanged.
//!
//! Names, patterns and printer columns are VolSync's, so that manifests, scripts and dashboards keep working. Sections of
//! movers that are not ours are carried, so that nothing of such an object is pruned. Source: VolSync API §1.
//!
//! Whatever the schema lets through is read without an error: an object that cannot be read would stop the list that it
//! stands in. Fields are optional for that reason, and a moment that a person writes stays text until somebody asks.

pub mod destination;
pub mod kopia;
pub mod method;
pub mod options;
pub mod others;
pub mod restic;
pub mod source;
pub mod status;
pub mod trigger;

pub use destination::{ReplicationDestination, ReplicationDestinationSpec, ReplicationDestinationStatus};
pub use source::{ReplicationSource, ReplicationSourceSpec, ReplicationSourceStatus};

/// The group of both kinds.
pub const GROUP: &str = "volsync.backube";

/// Their only version.
pub const VERSION: &str = "v1alpha1";
