//! What a catalog knows of its store as a whole: goes into the status of the BackupRepository.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The header with which a catalog that is not ready says why, by the reasons for which claims wait.
pub const NOT_READY: &str = "perennial-not-ready";

/// The newest look.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Overview {
    /// When it began.
    pub checked: Timestamp,
    /// How long it took, in milliseconds.
    pub latency_ms: u64,
    /// The repository; none where each claim has its own, or where there is none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<Figures>,
}

/// A repository in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// Finished snapshots, of everybody who writes to it.
    pub snapshots: u64,
    /// Index blobs that every open reads.
    pub index_blobs: u64,
    /// Its upkeep; none where its records could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upkeep: Option<Upkeep>,
}

/// How a repository's upkeep is, whoever does it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Upkeep {
    /// When a step of it last ended well; none if none ever has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_good: Option<Timestamp>,
    /// When all of it is due next; none before the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_full: Option<Timestamp>,
    /// The step whose last run failed, and why; the latest of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}
