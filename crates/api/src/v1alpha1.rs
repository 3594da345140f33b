//! Our own kinds, `perennial.dev/v1alpha1`: where backups go, and which claims get them.

pub mod claims;
pub mod conditions;
pub mod credentials;
pub mod hooks;
pub mod namespaces;
pub mod policy;
pub mod repository;
pub mod store;

pub use policy::{BackupPolicy, BackupPolicySpec, BackupPolicyStatus};
pub use repository::{BackupRepository, BackupRepositorySpec, BackupRepositoryStatus};

/// The group of these kinds.
pub const GROUP: &str = "perennial.dev";

/// Their only version.
pub const VERSION: &str = "v1alpha1";
