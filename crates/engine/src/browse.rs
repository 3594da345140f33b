//! What goes wrong while somebody looks into snapshots: find, diff and download.

use std::io;
use std::path::PathBuf;

use repository_kopia::{IgnoreError, ReadError};
use storage::Class;

use crate::restore::fetch::FetchError;

/// Looking ended early. Nothing in the repository was changed.
#[derive(Debug, thiserror::Error)]
pub enum BrowseError {
    /// An entry could not be read.
    #[error("read {path}")]
    Read {
        /// Relative to what was asked for; `.` is that itself.
        path: String,
        /// Why not.
        #[source]
        source: ReadError,
    },
    /// A file does not hold as many bytes as its entry says.
    #[error("{path} holds {found_bytes} bytes, and its entry says {stated_bytes}")]
    Length {
        /// Relative to what was asked for.
        path: String,
        /// What is there.
        found_bytes: u64,
        /// What should be.
        stated_bytes: u64,
    },
    /// What a snapshot is compared with cannot be read.
    #[error("read {}", path.display())]
    Source {
        /// On this machine.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// An ignore rule makes no sense.
    #[error("ignore rules of {path}")]
    Ignore {
        /// Directory they belong to, from the source's root.
        path: String,
        /// What is wrong with them.
        #[source]
        source: IgnoreError,
    },
    /// Whoever is told cannot take more.
    #[error("write the output")]
    Output(#[source] io::Error),
    /// Asked to stop.
    #[error("stopped on request")]
    Interrupted,
}

impl BrowseError {
    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Read { source, .. } => source.class(),
            Self::Length { .. } => Class::Damaged,
            Self::Source { .. } | Self::Ignore { .. } | Self::Output(_) => Class::Blocked,
            Self::Interrupted => Class::Retry,
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Read { source, .. } => source.hint(),
            Self::Length { .. } => Some("run `perennial verify` to learn what is affected"),
            Self::Source { .. } => Some("check the path and the rights on it"),
            Self::Ignore { .. } => Some("mend the pattern in the policy or in the ignore file"),
            Self::Output(_) => Some("check where the output goes, and that there is room"),
            Self::Interrupted => None,
        }
    }

    /// For `map_err`: an entry that could not be read.
    pub(crate) fn read(path: impl Into<String>) -> impl FnOnce(ReadError) -> Self {
        let path = path.into();
        move |source| Self::Read { path, source }
    }
}

impl From<FetchError> for BrowseError {
    fn from(_: FetchError) -> Self {
        Self::Interrupted
    }
}
