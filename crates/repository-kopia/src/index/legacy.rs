//! Index blobs without epochs, as repositories of version 1 keep them.
//!
//! Writers add `n…` blobs. A compaction writes a merged one and then a log `m…` that says which blobs it replaces; those
//! are deleted an hour later at the earliest, so that whoever still lists the old ones finds them. Source: Kopia format,
//! "Legacy index manager".

mod compaction;

pub use compaction::LegacyCompaction;

use std::collections::HashSet;

use futures::StreamExt as _;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use storage::{ErrorKind, Object, ObjectKey, Storage};

use super::active::list;
use crate::blob;
use crate::content::Crypto;
use crate::error::IndexError;
use crate::json::null_is_default;

/// Prefix of index blobs.
pub(crate) const INDEX_PREFIX: &str = "n";
/// Prefix of compaction logs.
const LOG_PREFIX: &str = "m";
/// What an upgrade to epochs leaves behind so that old programs stop; no index.
pub(crate) const POISON_BLOB: &str =
    "n00000000000000000000000000000000-repository_unreadable_by_this_kopia_version_upgrade_required";
/// Compaction logs read at the same time.
const READS_IN_FLIGHT: usize = 16;

/// What a compaction log says: these blobs are replaced by those.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CompactionLog {
    #[serde(default, deserialize_with = "null_is_default")]
    pub(crate) input_metadata: Vec<BlobMetadata>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub(crate) output_metadata: Vec<BlobMetadata>,
}

/// One blob as a listing showed it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct BlobMetadata {
    pub(crate) id: String,
    pub(crate) length: i64,
    pub(crate) timestamp: Timestamp,
}

/// Everything that is listed and said about index blobs.
pub(crate) struct LegacySet {
    /// All index blobs there are.
    pub(crate) blobs: Vec<Object>,
    /// All logs that could be read.
    pub(crate) logs: Vec<(Object, CompactionLog)>,
    /// Logs that could not be read.
    pub(crate) damage: Vec<IndexError>,
}

impl LegacySet {
    /// The blobs that count: all but the inputs of compactions whose outputs are all there.
    pub(crate) fn active(&self) -> impl Iterator<Item = &Object> {
        let listed: HashSet<&str> = self.blobs.iter().map(|blob| blob.key.as_str()).collect();
        let is_there = |log: &&CompactionLog| log.output_metadata.iter().all(|blob| listed.contains(blob.id.as_str()));
        let finished = self.logs.iter().map(|(_, log)| log).filter(is_there);
        let replaced: HashSet<&str> =
            finished.flat_map(|log| &log.input_metadata).map(|blob| blob.id.as_str()).collect();
        self.blobs.iter().filter(move |blob| !replaced.contains(blob.key.as_str()))
    }
}

/// Lists index blobs and reads the compaction logs.
///
/// Index blobs are listed first: a compaction that ends in between then has an output that is not listed, so its log does
/// not count yet, and its inputs stay for another hour.
pub(crate) async fn read(storage: &dyn Storage, crypto: &Crypto) -> Result<LegacySet, IndexError> {
    let mut blobs = list(storage, INDEX_PREFIX).await?;
    blobs.retain(|blob| blob.key.as_str() != POISON_BLOB);
    blobs.sort_by(|a, b| a.key.cmp(&b.key));
    let listed = list(storage, LOG_PREFIX).await?;
    let read: Vec<_> = futures::stream::iter(listed)
        .map(|object| async move {
            let read = read_log(storage, crypto, &object.key).await;
            (object, read)
        })
        .buffered(READS_IN_FLIGHT)
        .collect()
        .await;
    let mut set = LegacySet { blobs, logs: Vec::new(), damage: Vec::new() };
    for (object, result) in read {
        match result {
            Ok(Some(log)) => set.logs.push((object, log)),
            // Cleaned up since it was listed; so its inputs are gone as well.
            Ok(None) => {}
            Err(error @ IndexError::DamagedLog { .. }) => set.damage.push(error),
            Err(error) => return Err(error),
        }
    }
    Ok(set)
}

/// Reads one log; nothing if it is gone.
async fn read_log(
    storage: &dyn Storage,
    crypto: &Crypto,
    key: &ObjectKey,
) -> Result<Option<CompactionLog>, IndexError> {
    let sealed = match storage.get(key).await {
        Ok(sealed) => sealed,
        Err(error) if error.kind == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(IndexError::Storage { operation: format!("read compaction log {key}"), source }),
    };
    let damaged = |detail| IndexError::DamagedLog { blob: key.to_string(), detail };
    let plain = blob::open(crypto, key.as_str(), Vec::from(sealed)).map_err(damaged)?;
    serde_json::from_slice(&plain).map(Some).map_err(|error| damaged(error.to_string()))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use storage::{Object, ObjectKey};

    use super::{BlobMetadata, CompactionLog, LegacySet};

    /// `blobs` are there; each log reads `inputs>outputs`.
    #[track_caller]
    fn check(blobs: &str, logs: &[&str], active: &str) {
        let object = |name: &str| Object { key: ObjectKey::new(name), size_bytes: 1, modified: Timestamp::UNIX_EPOCH };
        let metadata = |names: &str| {
            let one = |name: &str| BlobMetadata { id: name.to_owned(), length: 1, timestamp: Timestamp::UNIX_EPOCH };
            names.split_whitespace().map(one).collect()
        };
        let log = |text: &&str| {
            let (inputs, outputs) = text.split_once('>').unwrap();
            (object("m"), CompactionLog { input_metadata: metadata(inputs), output_metadata: metadata(outputs) })
        };
        let set = LegacySet {
            blobs: blobs.split_whitespace().map(object).collect(),
            logs: logs.iter().map(log).collect(),
            damage: Vec::new(),
        };
        let found: Vec<String> = set.active().map(|blob| blob.key.to_string()).collect();
        assert_eq!(found.join(" "), active);
    }

    #[test]
    fn what_a_finished_compaction_replaced_does_not_count() {
        check("", &[], "");
        check("na nb", &[], "na nb");
        check("na nb nc", &["na nb>nc"], "nc");
        check("na nb", &["na nb>nc"], "na nb");
        check("na nb nc nd", &["na nb>nc nx", "nc>nd"], "na nb nd");
        check("na nb nc nd", &["na nb>nc", "nc>nd"], "nd");
        // The first compaction's output is gone, replaced by the second: an input that is still there only counts twice.
        check("nb nd", &["na nb>nc", "nc>nd"], "nb nd");
        // Two compactions at once over the same blobs.
        check("na nb nc nd", &["na nb>nc", "na nb>nd"], "nc nd");
    }
}
