//! Finished backups and whose they are.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

use crate::Entry;

/// Whose history a snapshot belongs to: `user@host:/path`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// User name; for a claim, the claim's or the source's name.
    pub user: String,
    /// Host name; for a claim, its namespace.
    pub host: String,
    /// Absolute path; for a claim, `/data`.
    pub path: String,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}:{}", self.user, self.host, self.path)
    }
}

/// A text that is no `user@host:/path`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not of the form user@host:/path")]
pub struct IdentityError(pub String);

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || IdentityError(text.to_owned());
        let (user, rest) = text.split_once('@').ok_or_else(refuse)?;
        let (host, path) = rest.split_once(':').ok_or_else(refuse)?;
        if user.is_empty() || host.is_empty() || path.is_empty() {
            return Err(refuse());
        }
        Ok(Self { user: user.to_owned(), host: host.to_owned(), path: path.to_owned() })
    }
}

/// The name of one snapshot.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId(String);

impl SnapshotId {
    /// Takes the format's text as it is.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The format's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One finished backup, or a checkpoint of one that is still running.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Its name.
    pub id: SnapshotId,
    /// Whose history it belongs to.
    pub identity: Identity,
    /// Free text.
    pub description: String,
    /// When the backup began.
    pub start: Timestamp,
    /// When the backup ended.
    pub end: Timestamp,
    /// Why it is not a complete backup, if it is not.
    pub incomplete: Option<String>,
    /// The root of the tree; absent only in failures of old programs.
    pub root: Option<Entry>,
    /// Counts of the run that made it.
    pub stats: Stats,
    /// Free labels.
    pub tags: BTreeMap<String, String>,
    /// Reasons why retention must never remove it.
    pub pins: Vec<String>,
}

/// Counts of the run that made a snapshot. Informational.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes in regular files.
    pub total_bytes: u64,
    /// Files that were read.
    pub file_count: u64,
    /// Files taken over from an earlier snapshot without being read.
    pub cached_file_count: u64,
    /// Directories.
    pub directory_count: u64,
    /// Files left out by rules.
    pub excluded_file_count: u64,
    /// Directories left out by rules.
    pub excluded_directory_count: u64,
    /// Bytes left out by rules.
    pub excluded_bytes: u64,
    /// Entries that could not be read and that the policy says to pass over.
    pub ignored_error_count: u64,
    /// Entries that could not be read.
    pub error_count: u64,
}
