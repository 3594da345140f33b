//! `kopia.maintenance`: when the next cycles are due, and what ran before.
//!
//! Encrypted under a key of its own. What it says of earlier runs decides what may be deleted, so a blob that does not open
//! is never taken for an empty one. Source: Kopia format, "Schedule blob".

use std::collections::BTreeMap;

use codec::cipher::{open_aes256_gcm, seal_aes256_gcm};
use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use super::stats::TaskStats;
use crate::json::{self, null_is_default};

/// Name of the blob.
pub(crate) const SCHEDULE_BLOB: &str = "kopia.maintenance";
/// Purpose under which its key is derived.
pub(crate) const KEY_PURPOSE: &str = "maintenance schedule";
const ASSOCIATED_DATA: &[u8] = b"maintenance";
/// Runs of one task that are remembered.
const RUNS_MAX: usize = 50;
/// Go's zero time, 0001-01-01T00:00:00Z, in Unix seconds: "never".
const NEVER_SECONDS: i64 = -62_135_596_800;

/// One step of a cycle, by Kopia's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Task {
    /// Marks contents that no snapshot needs.
    SnapshotGc,
    /// Moves contents out of short metadata packs, without epochs.
    QuickRewriteContents,
    /// Moves contents out of short packs.
    FullRewriteContents,
    /// Deletes metadata packs that nothing names, without epochs.
    QuickDeleteBlobs,
    /// Deletes packs that nothing names.
    FullDeleteBlobs,
    /// Drops marked contents from the index.
    FullDropDeletedContent,
    /// Merges index blobs, without epochs.
    IndexCompaction,
    /// Begins a new epoch.
    AdvanceEpoch,
    /// Merges the index blobs of settled epochs.
    CompactSingleEpoch,
    /// Merges the index blobs of a run of epochs.
    GenerateEpochRangeIndex,
    /// Deletes markers of epochs long past.
    CleanupEpochMarkers,
    /// Deletes index blobs that a merged one stands for.
    DeleteSupersededEpochIndexes,
    /// Makes object locks longer.
    ExtendBlobRetentionTime,
    /// Deletes old diagnostic logs.
    CleanupLogs,
}

impl Task {
    /// Kopia's name.
    pub fn kopia_name(self) -> &'static str {
        match self {
            Self::SnapshotGc => "snapshot-gc",
            Self::QuickRewriteContents => "quick-rewrite-contents",
            Self::FullRewriteContents => "full-rewrite-contents",
            Self::QuickDeleteBlobs => "quick-delete-blobs",
            Self::FullDeleteBlobs => "full-delete-blobs",
            Self::FullDropDeletedContent => "full-drop-deleted-content",
            Self::IndexCompaction => "index-compaction",
            Self::AdvanceEpoch => "advance-epoch",
            Self::CompactSingleEpoch => "compact-single-epoch",
            Self::GenerateEpochRangeIndex => "generate-epoch-range-index",
            Self::CleanupEpochMarkers => "cleanup-epoch-markers",
            Self::DeleteSupersededEpochIndexes => "delete-superseded-epoch-indexes",
            Self::ExtendBlobRetentionTime => "extend-blob-retention-time",
            Self::CleanupLogs => "cleanup-logs",
        }
    }
}

/// When the next cycles are due, and what ran before. Members that are unknown here are kept as they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    #[serde(default = "never", rename = "nextFullMaintenance", deserialize_with = "null_is_never")]
    pub(crate) next_full: Timestamp,
    #[serde(default = "never", rename = "nextQuickMaintenance", deserialize_with = "null_is_never")]
    pub(crate) next_quick: Timestamp,
    /// Newest first.
    #[serde(default, deserialize_with = "null_is_default", serialize_with = "empty_is_null")]
    runs: BTreeMap<String, Vec<RunRecord>>,
    #[serde(flatten)]
    other: Map<String, Value>,
}

/// One run of a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// When it began.
    #[serde(default = "never")]
    pub start: Timestamp,
    /// When it ended.
    #[serde(default = "never")]
    pub end: Timestamp,
    /// Whether it did what it should.
    #[serde(default, skip_serializing_if = "std::ops::Not::not", deserialize_with = "null_is_default")]
    pub success: bool,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub error: String,
    /// Counts, as the program that ran it wrote them.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    extra: Vec<Value>,
    #[serde(flatten)]
    other: Map<String, Value>,
}

impl RunRecord {
    pub(crate) fn new(start: Timestamp, end: Timestamp, error: Option<String>, stats: Option<&TaskStats>) -> Self {
        let extra = stats.and_then(|stats| serde_json::to_value(stats).ok());
        Self {
            start,
            end,
            success: error.is_none(),
            error: error.unwrap_or_default(),
            extra: extra.into_iter().collect(),
            other: Map::new(),
        }
    }
}

impl Default for Schedule {
    fn default() -> Self {
        Self { next_full: never(), next_quick: never(), runs: BTreeMap::new(), other: Map::new() }
    }
}

impl Schedule {
    /// When the next full cycle is due; `None` when none ever ran.
    pub fn next_full(&self) -> Option<Timestamp> {
        Some(self.next_full).filter(|time| *time > never())
    }

    /// When the next quick cycle is due; `None` when none ever ran.
    pub fn next_quick(&self) -> Option<Timestamp> {
        Some(self.next_quick).filter(|time| *time > never())
    }

    /// Runs of one task that are remembered, newest first.
    pub fn runs_of(&self, task: Task) -> &[RunRecord] {
        self.runs.get(task.kopia_name()).map_or(&[], Vec::as_slice)
    }

    /// Runs of all tasks by Kopia's names, newest first; of tasks unknown here too.
    pub fn runs(&self) -> impl Iterator<Item = (&str, &[RunRecord])> {
        self.runs.iter().map(|(task, runs)| (task.as_str(), runs.as_slice()))
    }

    pub(crate) fn record(&mut self, task: Task, run: RunRecord) {
        let runs = self.runs.entry(task.kopia_name().to_owned()).or_default();
        runs.insert(0, run);
        runs.truncate(RUNS_MAX);
    }

    /// Encrypts the blob.
    pub(crate) fn seal(&self, key: &[u8; 32]) -> Result<Vec<u8>, codec::Error> {
        seal_aes256_gcm(key, ASSOCIATED_DATA, &json::to_vec(self))
    }

    /// Decrypts the blob.
    ///
    /// # Errors
    /// In words.
    pub(crate) fn open(key: &[u8; 32], sealed: &[u8]) -> Result<Self, String> {
        let plain = open_aes256_gcm(key, ASSOCIATED_DATA, sealed)
            .map_err(|_| "it does not decrypt: its bytes changed, or it belongs to another repository")?;
        serde_json::from_slice(&plain).map_err(|error| format!("it does not parse: {error}"))
    }
}

pub(crate) fn never() -> Timestamp {
    Timestamp::from_second(NEVER_SECONDS).expect("the year 1 is in range")
}

fn null_is_never<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_else(never))
}

fn empty_is_null<S: Serializer>(runs: &BTreeMap<String, Vec<RunRecord>>, serializer: S) -> Result<S::Ok, S::Error> {
    if runs.is_empty() { serializer.serialize_none() } else { runs.serialize(serializer) }
}

#[cfg(test)]
mod tests {
    use super::{RUNS_MAX, RunRecord, Schedule, Task, never};
    use crate::json;

    fn key(hex_digits: &str) -> [u8; 32] {
        hex::decode(hex_digits).unwrap().try_into().unwrap()
    }

    /// Source: Kopia format, "Format blob" vectors.
    #[test]
    fn the_empty_schedule_opens_and_has_kopias_bytes() {
        let key = key("52605b74e5a4fdac57ce41a87b43fa8687ef93b03d8e493f66f2d3099dd33a99");
        let stored = hex::decode("a0a1a2a3a4a5a6a7a8a9aaabce0c14e31589b23beec5008caaf36a6984f01c32b0890d91602e59707112e97a4799fb5fb20cfeb0a30f76132ec5a9f8fa34d3ad6b42c779a359eadb3f74e1ac4c977d4e717dc44473219fce28c76b9f746bca3fc96a7b8765ba905b865404de5ffaab11718f7bdeb12e16c66907b547c6de49736535b6da").unwrap();
        let schedule = Schedule::open(&key, &stored).unwrap();
        assert_eq!(schedule, Schedule::default());
        assert_eq!(
            String::from_utf8(json::to_vec(&schedule)).unwrap(),
            r#"{"nextFullMaintenance":"0001-01-01T00:00:00Z","nextQuickMaintenance":"0001-01-01T00:00:00Z","runs":null}"#
        );
        assert_eq!(Schedule::open(&key, &schedule.seal(&key).unwrap()).unwrap(), schedule);
        assert!(Schedule::open(&[0; 32], &stored).is_err());
    }

    /// Source: `vectors/maintenance.json`, written by kopia 0.22.3.
    #[test]
    fn what_kopia_wrote_is_read_and_written_again_without_loss() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/vectors/maintenance.json")).unwrap();
        let rows = vectors["maintenance"].as_array().unwrap();
        assert!(!rows.is_empty());
        for row in rows {
            let key = key(row["key"].as_str().unwrap_or(FORMAT1_KEY));
            let stored = hex::decode(row["kopia.maintenance"].as_str().unwrap()).unwrap();
            let schedule = Schedule::open(&key, &stored).unwrap();
            let again: serde_json::Value = serde_json::from_slice(&json::to_vec(&schedule)).unwrap();
            let plain = match &row["plain"] {
                serde_json::Value::String(text) => serde_json::from_str(text).unwrap(),
                plain => plain.clone(),
            };
            assert_eq!(again, plain);
            assert!(schedule.runs_of(Task::CleanupLogs)[0].success);
        }
    }
    const FORMAT1_KEY: &str = "2659d1cb37c3965a9bc040e88b993fe16562a0b87b37234bba47e018b644feb2";

    #[test]
    fn unknown_members_stay_and_old_runs_go() {
        let text = r#"{"nextFullMaintenance":"2026-01-01T00:00:00.5Z","nextQuickMaintenance":"0001-01-01T00:00:00Z","runs":{"later-task":[{"start":"2026-01-01T00:00:00Z","end":"2026-01-01T00:00:01Z","error":"x","extra":[{"data":{"n":1},"kind":"k"}],"more":2}]},"pausedBy":"me"}"#;
        let mut schedule: Schedule = serde_json::from_str(text).unwrap();
        assert_eq!(String::from_utf8(json::to_vec(&schedule)).unwrap(), text);
        for second in 0..60 {
            let at = jiff::Timestamp::from_second(second).unwrap();
            schedule.record(Task::CleanupLogs, RunRecord::new(at, at, None, None));
        }
        assert_eq!(schedule.runs_of(Task::CleanupLogs).len(), RUNS_MAX);
        assert_eq!(schedule.runs_of(Task::CleanupLogs)[0].start.as_second(), 59);
        assert!(schedule.next_full().is_some() && schedule.next_quick().is_none());
        assert!(never().to_string().starts_with("0001-01-01"));
    }
}
