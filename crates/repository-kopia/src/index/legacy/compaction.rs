//! Merging index blobs without epochs.
//!
//! ```text
//! choose blobs ─▶ merged blob n… ─▶ log m… ─▶ an hour later: inputs gone ─▶ list l… of old logs ─▶ an hour later: logs gone
//! ```
//! Every step leaves a readable set. A log must outlive the blobs that it replaces, or they would count again; and what an
//! earlier log replaces must go before what a later one does, for the same reason. So inputs go in the order of their
//! logs, and a log only when none of its inputs is left. All ages are measured by the store's clock.
//!
//! Memory: the chosen index blobs, and the entries of one blob to write.
//!
//! Source: Kopia format, "Legacy index manager".

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use storage::{ErrorKind, Object, ObjectKey, PutMode};

use super::{BlobMetadata, CompactionLog, INDEX_PREFIX, LOG_PREFIX, LegacySet};
use crate::blob;
use crate::error::{IndexError, WriteError};
use crate::index::active::list;
use crate::index::{self, IndexEntry, IndexFile, IndexSets};
use crate::json::{self, null_is_default};
use crate::repository::Repository;

/// Prefix of the lists of logs that are to go.
const CLEANUP_PREFIX: &str = "l";
/// Fewer blobs than this are left as they are.
const BLOBS_MIN: usize = 8;
/// Blobs shorter than this part of a pack are merged among themselves first.
const VERY_SMALL_PART: u64 = 20;
/// Entries of one merged blob at most.
const ENTRIES_MAX: usize = 1_000_000;
/// Index blobs read at the same time.
const READS_IN_FLIGHT: usize = 16;

/// What a compaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LegacyCompaction {
    /// Index blobs merged.
    pub merged_count: usize,
    /// Blobs written for them.
    pub written_count: usize,
    /// Entries of deleted contents left out.
    pub dropped_count: u64,
    /// Index blobs deleted that earlier compactions had replaced.
    pub deleted_count: usize,
}

/// Which logs are to go, and since when.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CleanupList {
    #[serde(rename = "blobIDs", default, deserialize_with = "null_is_default")]
    blob_ids: Vec<String>,
    cleanup_schedule_time: Timestamp,
}

impl Repository {
    /// Merges index blobs of a repository without epochs where there are many, and takes away what earlier compactions
    /// replaced at least `settle` ago. With `drop_deleted_before`, all blobs are merged and entries of contents that were
    /// deleted before that moment are left out.
    ///
    /// Nothing is done where there are epochs.
    ///
    /// # Errors
    /// When the store fails, part of the index cannot be read, or another repository is in its place. What was there stays
    /// readable.
    pub async fn compact_legacy_index(
        &self,
        drop_deleted_before: Option<Timestamp>,
        settle: SignedDuration,
    ) -> Result<LegacyCompaction, WriteError> {
        let mut done = LegacyCompaction::default();
        if self.index_sets() != IndexSets::Legacy {
            return Ok(done);
        }
        let set = self.legacy_set().await?;
        self.clean_up_logs_of_compactions(&set, settle).await?;
        let chosen = choose(&set, self.max_pack_bytes(), drop_deleted_before.is_some());
        if chosen.is_empty() {
            return Ok(done);
        }
        let log = self.write_compaction(&chosen, drop_deleted_before, &mut done).await?;
        done.merged_count = chosen.len();
        self.delete_replaced(log.modified, settle, &mut done).await?;
        Ok(done)
    }

    async fn legacy_set(&self) -> Result<LegacySet, WriteError> {
        let set = super::read(&**self.storage(), self.crypto()).await?;
        match set.damage.first() {
            Some(error) => Err(WriteError::DamagedIndex { detail: error.to_string() }),
            None => Ok(set),
        }
    }

    /// Writes the merged blobs and then the log that puts them in the place of `chosen`.
    async fn write_compaction(
        &self,
        chosen: &[&Object],
        drop_deleted_before: Option<Timestamp>,
        done: &mut LegacyCompaction,
    ) -> Result<Object, WriteError> {
        let files = self.read_chosen(chosen).await?;
        let before = drop_deleted_before.map(|moment| u64::try_from(moment.as_second()).unwrap_or(0));
        let is_dropped =
            |entry: &IndexEntry| entry.deleted && before.is_some_and(|before| entry.timestamp_seconds < before);
        let mut outputs = Vec::new();
        let mut waiting = Vec::new();
        for entry in merged(&files) {
            let entry = entry.map_err(|detail| WriteError::DamagedIndex { detail })?;
            if is_dropped(&entry) {
                done.dropped_count += 1;
                continue;
            }
            waiting.push(entry);
            if waiting.len() == ENTRIES_MAX {
                outputs.push(self.write_merged(&std::mem::take(&mut waiting)).await?);
            }
        }
        if !waiting.is_empty() {
            outputs.push(self.write_merged(&waiting).await?);
        }
        // Whoever upgraded the repository meanwhile has not seen these blobs, and has no use for them.
        self.refuse_changes().await?;
        done.written_count = outputs.len();
        let metadata = |object: &Object| BlobMetadata {
            id: object.key.to_string(),
            length: i64::try_from(object.size_bytes).unwrap_or(i64::MAX),
            timestamp: object.modified,
        };
        let log = CompactionLog {
            input_metadata: chosen.iter().map(|object| metadata(object)).collect(),
            output_metadata: outputs.iter().map(metadata).collect(),
        };
        self.write_control(LOG_PREFIX, &json::to_vec(&log)).await
    }

    /// Every one of them, or an error: what cannot be read must not be replaced.
    async fn read_chosen(&self, chosen: &[&Object]) -> Result<Vec<IndexFile>, WriteError> {
        futures::stream::iter(chosen.iter().map(|object| object.key.clone()))
            .map(|key| async move {
                let read = self.storage().get(&key).await;
                let sealed = read.map_err(|source| storage_error(format!("read index blob {key}"), source))?;
                blob::open(self.crypto(), key.as_str(), Vec::from(sealed))
                    .and_then(IndexFile::parse)
                    .map_err(|detail| WriteError::DamagedIndex { detail: format!("index blob {key}: {detail}") })
            })
            .buffered(READS_IN_FLIGHT)
            .try_collect()
            .await
    }

    /// Random bytes at the end make the name new even if the same entries were merged before.
    async fn write_merged(&self, entries: &[IndexEntry]) -> Result<Object, WriteError> {
        let mut file = index::write(self.index_version(), entries);
        let table_bytes = file.len();
        let random = codec::cipher::random_bytes::<32>();
        file.extend_from_slice(&random.map_err(|source| WriteError::SealBlob { blob: "index blob", source })?);
        let read_back = IndexFile::parse(file[..table_bytes].to_vec())
            .and_then(|file| (0..file.len()).map(|at| file.entry(at)).collect::<Result<Vec<_>, _>>());
        if read_back.as_deref() != Ok(entries) {
            return Err(WriteError::DamagedIndex { detail: "a merged index does not read back".to_owned() });
        }
        self.write_control(INDEX_PREFIX, &file).await
    }

    /// Seals a blob, opens it again, writes it, and asks the store what it has.
    async fn write_control(&self, prefix: &str, plain: &[u8]) -> Result<Object, WriteError> {
        let failed = |source| WriteError::SealBlob { blob: "index blob", source };
        let (key, bytes) = blob::seal(self.crypto(), prefix, None, plain).map_err(failed)?;
        blob::open(self.crypto(), key.as_str(), bytes.clone())
            .map_err(|detail| WriteError::DamagedIndex { detail: format!("{key} does not read back: {detail}") })?;
        let written = self.put_blob(&key, Bytes::from(bytes), PutMode::Replace).await;
        written.map_err(|source| storage_error(format!("write {key}"), source))?;
        self.storage().stat(&key).await.map_err(|source| storage_error(format!("look at {key}"), source))
    }

    /// Deletes the inputs of settled logs, and lists the logs that are done with.
    async fn delete_replaced(
        &self,
        now: Timestamp,
        settle: SignedDuration,
        done: &mut LegacyCompaction,
    ) -> Result<(), WriteError> {
        let set = self.legacy_set().await?;
        let active: HashSet<ObjectKey> = set.active().map(|blob| blob.key.clone()).collect();
        let mut left: HashSet<&str> = set.blobs.iter().map(|blob| blob.key.as_str()).collect();
        let mut finished = Vec::new();
        for (object, log) in settled(&set, now, settle) {
            for input in &log.input_metadata {
                let key = ObjectKey::new(input.id.as_str());
                if active.contains(&key) || !left.contains(input.id.as_str()) {
                    continue;
                }
                let deleted = self.storage().delete(&key).await;
                deleted.map_err(|source| storage_error(format!("delete index blob {key}"), source))?;
                left.remove(input.id.as_str());
                done.deleted_count += 1;
            }
            if log.input_metadata.iter().all(|input| !left.contains(input.id.as_str())) {
                finished.push(object.key.to_string());
            }
        }
        if finished.is_empty() {
            return Ok(());
        }
        let list = CleanupList { blob_ids: finished, cleanup_schedule_time: now };
        self.write_control(CLEANUP_PREFIX, &json::to_vec(&list)).await?;
        Ok(())
    }

    /// Deletes the logs on lists that are old enough, and then the lists.
    async fn clean_up_logs_of_compactions(&self, set: &LegacySet, settle: SignedDuration) -> Result<(), WriteError> {
        let lists = list(&**self.storage(), CLEANUP_PREFIX).await?;
        let logs = set.logs.iter().map(|(object, _)| object);
        let Some(now) = lists.iter().chain(&set.blobs).chain(logs).map(|object| object.modified).max() else {
            return Ok(());
        };
        let is_settled = |object: &&Object| now.duration_since(object.modified) >= settle;
        for object in lists.iter().filter(is_settled) {
            let key = &object.key;
            let sealed = match self.storage().get(key).await {
                Ok(sealed) => sealed,
                Err(error) if error.kind == ErrorKind::NotFound => continue,
                Err(source) => return Err(storage_error(format!("read {key}"), source)),
            };
            let damaged = |detail| IndexError::DamagedLog { blob: key.to_string(), detail };
            let plain = blob::open(self.crypto(), key.as_str(), Vec::from(sealed)).map_err(damaged)?;
            let list: CleanupList = serde_json::from_slice(&plain).map_err(|error| damaged(error.to_string()))?;
            let is_listed = |log: &&(Object, CompactionLog)| list.blob_ids.iter().any(|id| id == log.0.key.as_str());
            let is_there = |input: &BlobMetadata| set.blobs.iter().any(|blob| blob.key.as_str() == input.id);
            if set.logs.iter().filter(is_listed).any(|(_, log)| log.input_metadata.iter().any(is_there)) {
                continue;
            }
            let logs =
                list.blob_ids.iter().filter(|id| id.starts_with(LOG_PREFIX)).map(|id| ObjectKey::new(id.as_str()));
            for gone in logs.chain([key.clone()]) {
                let deleted = self.storage().delete(&gone).await;
                deleted.map_err(|source| storage_error(format!("delete {gone}"), source))?;
            }
        }
        Ok(())
    }
}

fn storage_error(operation: String, source: storage::Error) -> WriteError {
    WriteError::Storage { operation, source }
}

/// The logs that were written at least `settle` before `now`, oldest first.
fn settled(set: &LegacySet, now: Timestamp, settle: SignedDuration) -> Vec<&(Object, CompactionLog)> {
    let mut logs: Vec<&(Object, CompactionLog)> =
        set.logs.iter().filter(|(object, _)| now.duration_since(object.modified) >= settle).collect();
    logs.sort_by_key(|(object, _)| (object.modified, object.key.clone()));
    logs
}

/// Which blobs are worth merging: Kopia's rule.
fn choose(set: &LegacySet, max_pack_bytes: u64, all: bool) -> Vec<&Object> {
    let active: Vec<&Object> = set.active().collect();
    if all {
        return active;
    }
    let small: Vec<&Object> = active.into_iter().filter(|blob| blob.size_bytes <= max_pack_bytes).collect();
    if small.len() < BLOBS_MIN {
        return Vec::new();
    }
    let is_very_small = |blob: &&&Object| blob.size_bytes < max_pack_bytes / VERY_SMALL_PART;
    let very_small: Vec<&Object> = small.iter().filter(is_very_small).copied().collect();
    let medium_count = small.len() - very_small.len();
    match very_small.len() > small.len() / 2 && medium_count + 1 < BLOBS_MIN {
        true => very_small,
        false => small,
    }
}

/// The entries that count, by content.
fn merged(files: &[IndexFile]) -> impl Iterator<Item = Result<IndexEntry, String>> + '_ {
    let first =
        |(number, file): (usize, &IndexFile)| (file.len() > 0).then(|| Reverse((file.key(0).to_vec(), number, 0)));
    let mut heads: BinaryHeap<Reverse<(Vec<u8>, usize, usize)>> = files.iter().enumerate().filter_map(first).collect();
    let mut next = move || {
        let Reverse((_, number, at)) = heads.pop()?;
        if at + 1 < files[number].len() {
            heads.push(Reverse((files[number].key(at + 1).to_vec(), number, at + 1)));
        }
        Some(files[number].entry(at))
    };
    let mut waiting: Option<IndexEntry> = None;
    std::iter::from_fn(move || {
        loop {
            let entry = match next() {
                None => return waiting.take().map(Ok),
                Some(Err(detail)) => return Some(Err(detail)),
                Some(Ok(entry)) => entry,
            };
            match waiting.take() {
                Some(best) if best.content == entry.content => {
                    waiting = Some(if best.rank() >= entry.rank() { best } else { entry });
                }
                Some(best) => {
                    waiting = Some(entry);
                    return Some(Ok(best));
                }
                None => waiting = Some(entry),
            }
        }
    })
}

#[cfg(test)]
mod tests;
