//! What can stop a backup.

use std::io;
use std::path::PathBuf;

use repository_kopia::{IgnoreError, ReadError, WriteError};
use storage::Class;

use crate::lane::{LaneError, Stopped};

/// A backup that made no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The root itself cannot be read.
    #[error("read {}", path.display())]
    Source {
        /// The root.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The root is neither a directory nor a file.
    #[error("{} is neither a directory nor a file", path.display())]
    SourceKind {
        /// The root.
        path: PathBuf,
    },
    /// An ignore rule makes no sense.
    #[error("ignore rules of {path}")]
    Ignore {
        /// Directory they belong to, relative to the root.
        path: String,
        /// What is wrong with them.
        #[source]
        source: IgnoreError,
    },
    /// The repository could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The repository could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Entries that waited in a file on this machine could not be read again.
    #[error("read entries of a large directory from a temporary file")]
    Waiting(#[source] io::Error),
    /// The run was asked to stop.
    #[error("the backup was interrupted")]
    Interrupted,
    /// A later step stopped; its own error says why.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl BackupError {
    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Source { .. } | Self::SourceKind { .. } | Self::Ignore { .. } | Self::Waiting(_) => Class::Blocked,
            Self::Read(error) => error.class(),
            Self::Write(error) => error.class(),
            Self::Interrupted => Class::Retry,
            Self::Stopped(_) => Class::Bug,
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Source { .. } => Some("check the path and the rights on it"),
            Self::SourceKind { .. } => Some("name a directory or a regular file"),
            Self::Ignore { .. } => Some("mend the pattern in the policy or in the ignore file"),
            Self::Read(error) => error.hint(),
            Self::Write(error) => error.hint(),
            Self::Waiting(_) => Some("check the disk of the cache directory, or name another one"),
            Self::Interrupted => Some("run it again: it carries on with what was already stored"),
            Self::Stopped(_) => None,
        }
    }
}

impl LaneError for BackupError {
    fn is_stopped(&self) -> bool {
        matches!(self, Self::Stopped(_))
    }
}
