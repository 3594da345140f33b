//! What can stop a cycle of maintenance.

use repository::{ContentId, SnapshotId};
use repository_kopia::{ContentError, IndexError, MaintenanceError, ReadError, WriteError};
use storage::Class;
use tokio::task::JoinError;

use crate::lane::{LaneError, Stopped};
use crate::restore::fetch::FetchError;

/// A cycle did not begin, or ended early. What it had done until then is sound, and the next one carries on.
#[derive(Debug, thiserror::Error)]
pub enum MaintainError {
    /// A step failed.
    #[error("maintenance task {task}")]
    Task {
        /// By Kopia's name.
        task: &'static str,
        /// Why.
        #[source]
        source: Box<MaintainError>,
    },
    /// The snapshots could not be listed.
    #[error("list the snapshots")]
    List(#[source] ReadError),
    /// Some records of snapshots cannot be read, and what they need is unknown.
    #[error("nothing is marked while {count} records of the repository are unreadable: {first}")]
    Damaged {
        /// How many.
        count: usize,
        /// The first of them.
        first: String,
    },
    /// A snapshot has no root.
    #[error("nothing is marked while it is unknown what snapshot {id} needs: it has no root")]
    NoRoot {
        /// Which.
        id: SnapshotId,
    },
    /// A directory or an index object of a snapshot cannot be read.
    #[error("nothing is marked while it is unknown what snapshot {id} needs")]
    Unreadable {
        /// Which.
        id: SnapshotId,
        /// Why not.
        #[source]
        source: ReadError,
    },
    /// A content that a snapshot needs is gone.
    #[error("nothing is marked: snapshot {id} needs content {content}, which is in no index")]
    Missing {
        /// Which snapshot.
        id: SnapshotId,
        /// Which content.
        content: ContentId,
    },
    /// A content that is needed, or must be moved, cannot be read.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The index could not be searched.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// Writing failed.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The cycle could not begin, or a step of it failed.
    #[error(transparent)]
    Cycle(#[from] MaintenanceError),
    /// A reading task broke off.
    #[error("read from the store")]
    Ended(#[source] JoinError),
    /// Asked to stop.
    #[error("maintenance stopped on request")]
    Interrupted,
    /// Another step stopped; its own error says why.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl MaintainError {
    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Task { source, .. } => source.class(),
            Self::List(source) | Self::Unreadable { source, .. } => source.class(),
            Self::Damaged { .. } | Self::NoRoot { .. } | Self::Missing { .. } => Class::Damaged,
            Self::Content(source) => source.class(),
            Self::Index(source) => source.class(),
            Self::Write(source) => source.class(),
            Self::Cycle(source) => source.class(),
            Self::Interrupted => Class::Retry,
            Self::Ended(_) | Self::Stopped(_) => Class::Bug,
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Task { source, .. } => source.hint(),
            Self::List(source) => source.hint(),
            Self::Damaged { .. } | Self::Missing { .. } | Self::Unreadable { .. } | Self::NoRoot { .. } => Some(
                "`perennial verify` says what is affected; repair it, or forget the snapshots that cannot be saved, and \
                 run again",
            ),
            Self::Content(source) => source.hint(),
            Self::Index(source) => source.hint(),
            Self::Write(source) => source.hint(),
            Self::Cycle(source) => source.hint(),
            Self::Interrupted => Some("run it again: it carries on with what was already done"),
            Self::Ended(_) | Self::Stopped(_) => None,
        }
    }
}

impl LaneError for MaintainError {
    fn is_stopped(&self) -> bool {
        matches!(self, Self::Stopped(_))
    }
}

impl From<FetchError> for MaintainError {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Interrupted => Self::Interrupted,
            FetchError::Stopped(stopped) => Self::Stopped(stopped),
            FetchError::Ended(source) => Self::Ended(source),
        }
    }
}
