//! What a person says about one claim, over what is found.
//!
//! A word that starts a claim empty is bound to one occasion: it names the snapshot, or the moment up to which snapshots
//! are dismissed. Left in Git, it is worth nothing once there is a newer backup.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::SnapshotId;

/// What a person says about one claim.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Word {
    /// Whether it is to be restored at all.
    pub restore: Restore,
    /// The backups that it is to start empty in spite of.
    pub dismissed: Option<Dismissal>,
    /// The quarantined snapshot that is a good one.
    pub accepted: Option<SnapshotId>,
}

/// Whether a claim is to be restored. Source: pvc-plumber's `restore-mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Restore {
    /// If there is a backup.
    #[default]
    IfThere,
    /// Not by itself, whatever there is.
    Never,
    /// There must be a backup: it never starts empty.
    Force,
}

/// Backups that are not wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Dismissal {
    /// All that are not newer than this.
    UpTo(Timestamp),
    /// This one, as long as it is the newest.
    Snapshot(SnapshotId),
}

impl Dismissal {
    /// Whether it speaks of this snapshot.
    pub fn covers(&self, id: &SnapshotId, time: Timestamp) -> bool {
        match self {
            Self::UpTo(moment) => time <= *moment,
            Self::Snapshot(named) => named == id,
        }
    }
}
