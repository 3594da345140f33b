//! Many index blobs into few, in bounded memory.
//!
//! The contents are divided by their hash into parts of a bounded number of entries; each part is read from all blobs,
//! merged, and becomes one blob of the new set. So memory does not grow with the index, at the price of reading the blobs
//! once for each part. Deleted entries stay: they keep older entries for the same content from coming back.

use bytes::Bytes;
use codec::cipher::random_bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use repository::ContentId;
use storage::{Object, ObjectKey, PutMode};

use super::cycle::MaintenanceCycle;
use super::epochs::{self, Superseded};
use super::error::MaintenanceError;
use super::stats::TaskStats;
use crate::blob;
use crate::epoch::View;
use crate::error::IndexError;
use crate::index::{self, IndexEntry, IndexFile};

/// Entries of one part, about: some 100 bytes each while they are merged, and three times 35 as bytes.
const PART_ENTRIES: u64 = 200_000;
/// An entry takes at least so many bytes of an index blob.
const ENTRY_BYTES_MIN: u64 = 30;
/// Bytes of index blobs read at the same time, about.
const READ_BYTES: u64 = 8 << 20;
/// Index blobs read at the same time.
const READS_IN_FLIGHT: u64 = 16;
/// Blobs deleted at the same time.
pub(crate) const DELETES_IN_FLIGHT: usize = 8;

/// The share of all contents that is merged together.
#[derive(Clone, Copy)]
struct Part {
    number: u64,
    count: u64,
}

impl Part {
    fn all(blobs: &[&Object], entries_per_part: u64) -> impl Iterator<Item = Self> + use<> {
        let bytes: u64 = blobs.iter().map(|blob| blob.size_bytes).sum();
        let count = (bytes / ENTRY_BYTES_MIN).div_ceil(entries_per_part).max(1);
        (0..count).map(move |number| Self { number, count })
    }

    fn has(self, content: &ContentId) -> bool {
        let number = content.hash().iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        number % self.count == self.number
    }
}

/// Reads `blobs` one after the other, some ahead, and hands every file to `take`.
async fn each_file(
    cycle: &MaintenanceCycle<'_>,
    blobs: &[&Object],
    mut take: impl FnMut(&Object, IndexFile) -> Result<(), IndexError>,
) -> Result<(), MaintenanceError> {
    let largest = blobs.iter().map(|blob| blob.size_bytes).max().unwrap_or(0).max(1);
    let in_flight = (READ_BYTES / largest).clamp(1, READS_IN_FLIGHT) as usize;
    let mut files = futures::stream::iter(blobs)
        .map(|blob| async move {
            let read = cycle.repository.storage().get(&blob.key).await;
            let failed = |source| IndexError::Storage { operation: format!("read index blob {}", blob.key), source };
            let plain = blob::open(cycle.repository.crypto(), blob.key.as_str(), Vec::from(read.map_err(failed)?));
            let file = plain.and_then(IndexFile::parse).map_err(|detail| damaged(blob, detail))?;
            Ok::<_, IndexError>((*blob, file))
        })
        .buffer_unordered(in_flight);
    while let Some((blob, file)) = files.try_next().await? {
        take(blob, file)?;
    }
    Ok(())
}

fn damaged(blob: &Object, detail: String) -> IndexError {
    IndexError::Damaged { blob: blob.key.to_string(), detail }
}

/// The entry that counts for each content of one part, sorted; and any entry at all, if there is one.
async fn entries_of_part(
    cycle: &MaintenanceCycle<'_>,
    blobs: &[&Object],
    part: Part,
) -> Result<(Vec<IndexEntry>, Option<IndexEntry>), MaintenanceError> {
    let mut entries: Vec<IndexEntry> = Vec::new();
    let mut any = None;
    let mut tidy_at = 2 * PART_ENTRIES as usize;
    each_file(cycle, blobs, |blob, file| {
        for at in 0..file.len() {
            let entry = file.entry(at).map_err(|detail| damaged(blob, detail))?;
            if part.has(&entry.content) {
                entries.push(entry);
            } else if any.is_none() {
                any = Some(entry);
            }
        }
        // The same contents over and over must not add up.
        if entries.len() > tidy_at {
            keep_best(&mut entries);
            tidy_at = tidy_at.max(2 * entries.len());
        }
        Ok(())
    })
    .await?;
    keep_best(&mut entries);
    let any = entries.first().cloned().or(any);
    Ok((entries, any))
}

fn keep_best(entries: &mut Vec<IndexEntry>) {
    entries.sort_by(|a, b| a.content.cmp(&b.content).then_with(|| b.rank().cmp(&a.rank())));
    entries.dedup_by(|later, first| later.content == first.content);
}

/// Merges `blobs` into a new set whose names begin with `prefix`, and reads it back. Gives the number of its blobs.
async fn merge(
    cycle: &MaintenanceCycle<'_>,
    prefix: &str,
    blobs: &[&Object],
    entries_per_part: u64,
) -> Result<usize, MaintenanceError> {
    let sealed = |source| MaintenanceError::Seal { blob: "index blob", source };
    let set = format!("s{}", hex::encode(random_bytes::<8>().map_err(sealed)?));
    let parts: Vec<Part> = Part::all(blobs, entries_per_part).collect();
    for part in &parts {
        let (mut entries, any) = entries_of_part(cycle, blobs, *part).await?;
        // A set has as many blobs as its names say, so a part without contents repeats an entry of another.
        if entries.is_empty() {
            entries.extend(any);
        }
        if !entries.is_empty() {
            write_part(cycle, prefix, &format!("{set}-c{}", parts.len()), entries).await?;
        }
    }
    Ok(parts.len())
}

async fn write_part(
    cycle: &MaintenanceCycle<'_>,
    prefix: &str,
    suffix: &str,
    entries: Vec<IndexEntry>,
) -> Result<(), MaintenanceError> {
    let repository = cycle.repository;
    let file = index::write(repository.index_version(), &entries);
    let differs = |key: &ObjectKey, detail: &str| MaintenanceError::ReadsBackDifferently {
        blob: key.to_string(),
        detail: detail.to_owned(),
    };
    let (key, sealed) = blob::seal(repository.crypto(), prefix, Some(suffix), &file)
        .map_err(|source| MaintenanceError::Seal { blob: "index blob", source })?;
    let parsed = IndexFile::parse(file).map_err(|detail| differs(&key, &detail))?;
    let same = parsed.len() == entries.len()
        && entries.iter().enumerate().all(|(at, entry)| parsed.entry(at).as_ref() == Ok(entry));
    if !same {
        return Err(differs(&key, "its entries are not those that were merged"));
    }
    let sealed = Bytes::from(sealed);
    let storage = repository.storage();
    let failed = MaintenanceError::storage(format!("write index blob {key}"));
    repository.put_blob(&key, sealed.clone(), PutMode::Replace).await.map_err(failed)?;
    let failed = MaintenanceError::storage(format!("read index blob {key} back"));
    if storage.get(&key).await.map_err(failed)? != sealed {
        return Err(differs(&key, "the store gives other bytes than it was given"));
    }
    blob::open(repository.crypto(), key.as_str(), sealed.into()).map_err(|detail| differs(&key, &detail))?;
    Ok(())
}

/// Whether `set` says of every content in `blobs` the same as they do, or something newer. What cannot be read says nothing.
async fn stands_for(
    cycle: &MaintenanceCycle<'_>,
    set: &[&Object],
    blobs: &[&Object],
) -> Result<bool, MaintenanceError> {
    let mut stands = true;
    for part in Part::all(set, PART_ENTRIES).collect::<Vec<_>>() {
        let (known, _) = match entries_of_part(cycle, set, part).await {
            Err(MaintenanceError::Index(IndexError::Damaged { .. })) => return Ok(false),
            known => known?,
        };
        let compared = each_file(cycle, blobs, |blob, file| {
            for at in 0..file.len() {
                let entry = file.entry(at).map_err(|detail| damaged(blob, detail))?;
                let is_known = || {
                    let found = known.binary_search_by(|known| known.content.cmp(&entry.content));
                    found.is_ok_and(|found| known[found].rank() >= entry.rank())
                };
                stands &= !part.has(&entry.content) || is_known();
            }
            Ok(())
        });
        match compared.await {
            Err(MaintenanceError::Index(IndexError::Damaged { .. })) => return Ok(false),
            compared => compared?,
        }
    }
    Ok(stands)
}

impl MaintenanceCycle<'_> {
    async fn view(&self) -> Result<View, MaintenanceError> {
        Ok(self.repository.read_view().await?)
    }

    /// Merges the index blobs of every settled epoch. Nothing is removed.
    ///
    /// # Errors
    /// When the store fails, or an index blob is damaged.
    pub async fn compact_epochs(&self) -> Result<Option<TaskStats>, MaintenanceError> {
        let view = self.view().await?;
        let mut merged = None;
        let (mut count, mut bytes) = (0, 0);
        for epoch in epochs::epochs_to_merge(&view) {
            let blobs: Vec<&Object> = view.uncompacted(epoch).iter().collect();
            self.check_alone().await?;
            merge(self, &format!("xs{epoch}_"), &blobs, PART_ENTRIES).await?;
            count += blobs.len() as u64;
            bytes += blobs.iter().map(|blob| blob.size_bytes).sum::<u64>();
            merged = Some(epoch);
        }
        Ok(merged.map(|epoch| TaskStats::CompactSingleEpoch {
            superseded_index_blob_count: count,
            superseded_index_total_size: bytes,
            epoch,
        }))
    }

    /// Begins a new epoch when the current one is old and full.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn advance_epoch(&self) -> Result<Option<TaskStats>, MaintenanceError> {
        let view = self.view().await?;
        let is_due = epochs::is_advance_due(&view, self.repository.epoch_parameters(), self.started());
        let mut current = view.write_epoch;
        if is_due {
            self.check_alone().await?;
            current = current.saturating_add(1);
            self.put_marker(&format!("xe{current}"), "epoch-marker").await?;
        }
        Ok(Some(TaskStats::AdvanceEpoch { current_epoch: current, was_advanced: is_due }))
    }

    async fn put_marker(&self, name: &str, text: &'static str) -> Result<(), MaintenanceError> {
        let failed = MaintenanceError::storage(format!("write {name}"));
        let body = Bytes::from_static(text.as_bytes());
        self.repository.put_blob(&ObjectKey::new(name), body, PutMode::Replace).await.map_err(failed)
    }

    /// Merges a run of settled epochs, once they are enough. Nothing is removed.
    ///
    /// # Errors
    /// When the store fails, or an index blob is damaged.
    pub async fn compact_range(&self) -> Result<Option<TaskStats>, MaintenanceError> {
        let view = self.view().await?;
        let Some((first, last)) = epochs::range_to_merge(&view, self.repository.epoch_parameters()) else {
            return Ok(None);
        };
        let blobs: Vec<&Object> = view.complete_index_of(first, last).collect();
        if blobs.is_empty() {
            return Ok(None);
        }
        self.check_alone().await?;
        merge(self, &format!("xr{first}_{last}_"), &blobs, PART_ENTRIES).await?;
        Ok(Some(TaskStats::GenerateRangeCheckpoint { range_min_epoch: first, range_max_epoch: last }))
    }

    /// Deletes markers of epochs long past, and watermarks below the one that counts.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn clean_up_markers(&self) -> Result<Option<TaskStats>, MaintenanceError> {
        let view = self.view().await?;
        let Some(before) = epochs::cleanup_time(&view, self.repository.epoch_parameters()) else { return Ok(None) };
        let (markers, watermarks) = epochs::stale_markers(&view, before);
        let counts = (markers.len() as u64, watermarks.len() as u64);
        if counts == (0, 0) {
            return Ok(None);
        }
        self.delete_all(markers.into_iter().chain(watermarks).collect()).await?;
        Ok(Some(TaskStats::CleanupMarkers {
            deleted_epoch_marker_blob_count: counts.0,
            deleted_watermark_blob_count: counts.1,
        }))
    }

    /// Deletes index blobs of settled epochs once a merged set has stood for them for hours. Both are read before: a blob of
    /// which the set does not say the same stays.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn delete_superseded_indexes(&self) -> Result<Option<TaskStats>, MaintenanceError> {
        let view = self.view().await?;
        let Some(before) = epochs::cleanup_time(&view, self.repository.epoch_parameters()) else { return Ok(None) };
        let (mut count, mut bytes) = (0, 0);
        let mut latest: Option<Timestamp> = None;
        for Superseded { by, blobs } in epochs::superseded(&view, before) {
            let (set, old): (Vec<&Object>, Vec<&Object>) = (by.iter().collect(), blobs.iter().collect());
            if !stands_for(self, &set, &old).await? {
                continue;
            }
            latest = latest.max(by.iter().map(|blob| blob.modified).max());
            count += blobs.len() as u64;
            bytes += blobs.iter().map(|blob| blob.size_bytes).sum::<u64>();
            self.delete_all(blobs.iter().map(|blob| blob.key.clone()).collect()).await?;
        }
        Ok(latest.map(|max_replacement_time| TaskStats::CleanupSupersededIndexes {
            max_replacement_time,
            deleted_blob_count: count,
            deleted_total_size: bytes,
        }))
    }

    /// Drops contents from the index that were marked up to `until`. Their packs go later.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn drop_deleted(&self, until: Timestamp) -> Result<Option<TaskStats>, MaintenanceError> {
        if !self.has_epochs() {
            return self.drop_deleted_without_epochs(until).await;
        }
        let view = self.view().await?;
        let seconds = u64::try_from(until.as_second()).unwrap_or(0);
        if view.deletion_watermark_seconds.is_none_or(|current| seconds > current) {
            self.check_alone().await?;
            self.put_marker(&format!("xw{seconds}"), "deletion-watermark").await?;
            self.repository.refresh().await?;
        }
        Ok(Some(TaskStats::CompactIndexes { dropped_contents_deleted_before: until }))
    }

    /// Deletes objects, after a look whether this cycle is alone.
    pub(crate) async fn delete_all(&self, keys: Vec<ObjectKey>) -> Result<(), MaintenanceError> {
        if keys.is_empty() {
            return Ok(());
        }
        self.check_alone().await?;
        futures::stream::iter(keys)
            .map(|key| async move {
                let failed = MaintenanceError::storage(format!("delete {key}"));
                self.repository.storage().delete(&key).await.map_err(failed)
            })
            .buffer_unordered(DELETES_IN_FLIGHT)
            .try_collect()
            .await
    }
}
