//! Ids of repositories and snapshots as the formats write them: opaque text, compared byte for byte.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A repository's own unique id.
///
/// Kopia: `uniqueID` of the format blob in hexadecimal; restic: `id` of the config. Opaque here: only equality counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct RepositoryId(String);

impl RepositoryId {
    /// The id as the repository spells it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The same text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RepositoryId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// A snapshot's id within its repository.
///
/// Kopia: the id of the snapshot manifest; restic: the name of the snapshot object. Opaque here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SnapshotId(String);

impl SnapshotId {
    /// The id as the repository spells it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The same text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}
