//! Labels, annotations and names that objects of ours carry, and those of others that we read.

/// The field manager of every write.
pub const FIELD_MANAGER: &str = "perennial";

/// Who made an object for a claim, and may therefore change and delete it.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY`] on what we make.
pub const MANAGER: &str = "perennial";

/// VolSync's label on everything that a mover's run needs.
pub const CREATED_BY: &str = "app.kubernetes.io/created-by";
/// The value of [`CREATED_BY`].
pub const CREATOR: &str = "volsync";

/// The object for which a mover runs, on its Job and pod: `kubectl logs -l volsync.backube/owner=<name>`.
pub const OWNER: &str = "volsync.backube/owner";

/// The UID of the object whose run a temporary object belongs to.
pub const CLEANUP: &str = "volsync.backube/cleanup";

/// Somebody's word that a VolumeSnapshot is to stay, whatever becomes of the destination that made it.
pub const DO_NOT_DELETE: &str = "volsync.backube/do-not-delete";

/// The claim that a prime is filled for.
pub const POPULATOR_FOR: &str = "volsync.backube/populator-pvc-for";

/// From what a volume was filled, on the volume.
pub const POPULATED_FROM: &str = "volsync.backube/populated-from";

/// The claim for which an object was generated.
pub const FOR_CLAIM: &str = "volsync.backup/pvc";

/// The repository whose mover a Job is: limits are counted by it.
pub const REPOSITORY: &str = "perennial.dev/repository";

/// The storage class of the volume that a mover works on.
pub const CLASS: &str = "perennial.dev/storage-class";

/// Whether a Job backs up or restores.
pub const DIRECTION: &str = "perennial.dev/direction";

/// The decision about a claim, JSON, on the claim.
pub const DECISION: &str = "perennial.dev/decision";

/// A person's word that the data of a bound claim is the right one although a backup of another volume exists.
pub const ACCEPT_DATA: &str = "perennial.dev/accept-data";

/// A moment in time up to which snapshots count for a restore, on a claim.
pub const RESTORE_AS_OF: &str = "perennial.dev/restore-as-of";

/// The backups that a new claim is to start empty in spite of: a moment up to which, or a snapshot's id. The older
/// spellings are pvc-plumber's.
pub const SKIP_RESTORE: [&str; 3] =
    ["perennial.dev/skip-restore", "pvc-plumber.io/skip-restore", "volsync.backup/skip-restore"];

/// Behind a key of [`SKIP_RESTORE`]: why.
pub const REASON_SUFFIX: &str = "-reason";

/// Whether a claim is to be restored: `never`, or `force` where a backup must exist.
pub const RESTORE_MODE: [&str; 2] = ["perennial.dev/restore-mode", "pvc-plumber.io/restore-mode"];

/// A person's word that a quarantined snapshot is a good one, on a claim.
pub const ACCEPT_SNAPSHOT: &str = "perennial.dev/accept-snapshot";

/// The scheduler's choice of a node, on a claim.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";

/// Whether movers of a namespace may run with elevated rights.
pub const PRIVILEGED_MOVERS: &str = "volsync.backube/privileged-movers";

/// What generated objects carry so that engines which apply Git's state leave them alone.
pub const LEAVE_ALONE: [(&str, &str); 2] =
    [("argocd.argoproj.io/compare-options", "IgnoreExtraneous"), ("kustomize.toolkit.fluxcd.io/prune", "disabled")];

/// The group of the kinds that populate claims.
pub const VOLSYNC_GROUP: &str = "volsync.backube";

/// The kind that a marked claim names as its source.
pub const DESTINATION_KIND: &str = "ReplicationDestination";
