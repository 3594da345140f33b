//! What can go wrong with a restore as a whole.

use std::path::PathBuf;

use repository::SnapshotId;
use repository_kopia::{ContentError, ReadError};
use storage::Class;

use super::fetch::FetchError;
use crate::lane::{LaneError, Stopped};

/// A restore ended early. What it had finished stays, and the same restore can be run again to go on from there.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The snapshot has no root.
    #[error("snapshot {snapshot} is damaged: it has no root")]
    NoRoot {
        /// Which.
        snapshot: SnapshotId,
    },
    /// What was asked for is not in the snapshot.
    #[error("there is no {path} in snapshot {snapshot}")]
    NotInSnapshot {
        /// Which.
        snapshot: SnapshotId,
        /// What was asked for.
        path: String,
    },
    /// A directory could not be read.
    #[error("read directory {path} of the snapshot")]
    ReadDirectory {
        /// Relative to what is restored.
        path: String,
        /// Why not.
        #[source]
        source: ReadError,
    },
    /// The list of a large file's pieces could not be read.
    #[error("read which pieces {path} is made of")]
    ReadPieces {
        /// Relative to what is restored.
        path: String,
        /// Why not.
        #[source]
        source: ReadError,
    },
    /// The store failed.
    #[error(transparent)]
    ReadContent(ContentError),
    /// The target cannot hold it.
    #[error("the target has room for {available_bytes} bytes, and {needed_bytes} are needed")]
    NoRoom {
        /// Bytes to be written, less what that replaces.
        needed_bytes: u64,
        /// Bytes free for this user.
        available_bytes: u64,
    },
    /// Something in the target went wrong that would go wrong with all other files too.
    #[error("{operation} {}", path.display())]
    Target {
        /// What was being done.
        operation: &'static str,
        /// To what.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// A reading task broke off.
    #[error("read from the store")]
    Ended(#[source] tokio::task::JoinError),
    /// Asked to stop.
    #[error("stopped on request")]
    Interrupted,
    /// Another step of the restore stopped; its own error says why.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl RestoreError {
    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::NoRoot { .. } => Class::Damaged,
            Self::NotInSnapshot { .. } | Self::NoRoom { .. } | Self::Target { .. } => Class::Blocked,
            Self::ReadDirectory { source, .. } | Self::ReadPieces { source, .. } => source.class(),
            Self::ReadContent(source) => source.class(),
            Self::Interrupted => Class::Retry,
            Self::Ended(_) | Self::Stopped(_) => Class::Bug,
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoRoot { .. } => Some("choose another snapshot"),
            Self::NotInSnapshot { .. } => Some("`perennial snapshot ls` shows what a snapshot holds"),
            Self::ReadDirectory { source, .. } | Self::ReadPieces { source, .. } => source.hint(),
            Self::ReadContent(source) => source.hint(),
            Self::NoRoom { .. } => {
                Some("choose a larger target, make room in it, or restore only a part; nothing was written")
            }
            Self::Target { .. } => {
                Some("see to the target's room, rights and health, then run the same restore again: it goes on")
            }
            Self::Interrupted => Some("run the same restore again: it goes on where it stopped"),
            Self::Ended(_) | Self::Stopped(_) => None,
        }
    }
}

impl LaneError for RestoreError {
    fn is_stopped(&self) -> bool {
        matches!(self, Self::Stopped(_))
    }
}

impl From<FetchError> for RestoreError {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Interrupted => Self::Interrupted,
            FetchError::Stopped(stopped) => Self::Stopped(stopped),
            FetchError::Ended(source) => Self::Ended(source),
        }
    }
}
