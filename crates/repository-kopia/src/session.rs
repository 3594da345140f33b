//! Writing: contents go into packs, packs into the store, and only then their entries into an index.
//!
//! ```text
//! seal (many threads) ─▶ Packer ─▶ FinishedPack ─▶ Session::upload ─▶ Session::flush ─▶ Session::commit
//!                        fills packs               marker, pack       index blobs       manifests, index, marker gone
//! ```
//! A session that ends anywhere leaves a repository in which nothing refers to what is not there: packs without an index
//! entry are garbage, kept from collection by the session's marker while that is young. Source: Kopia format, "Write order
//! for crash safety".

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;
use codec::compress::Algorithm;
use jiff::Timestamp;
use repository::{ContentId, Snapshot, SnapshotId};
use storage::{ObjectKey, PutMode};
use tokio::sync::OnceCell;

use crate::blob::{self, SessionMarker};
use crate::error::{IndexError, WriteError};
use crate::in_flight::{InFlight, Ticket};
use crate::index::{self, IndexEntry, IndexSets, IndexView, legacy};
use crate::manifest::{MANIFEST_PREFIX, ManifestRecord, write_content};
use crate::new_contents::NewContents;
use crate::pack::content_timestamp;
use crate::pack_sizes::PackSizes;
use crate::packer::{FinishedPack, Packer};
use crate::repository::Repository;
use crate::snapshot;
use crate::supported::LOOK_AGAIN_AFTER;

/// Kopia asks this of manifests; they hardly ever shrink, being compressed already.
const MANIFEST_COMPRESSION: Algorithm = Algorithm::ZstdFastest;
/// Entries of one index blob at most. Kopia shards above 16 million; smaller blobs load in parallel.
const INDEX_ENTRIES_MAX: usize = 1_000_000;
/// So many entries of durable packs are not kept waiting for the next checkpoint: some 7 MiB.
const DURABLE_ENTRIES_MAX: usize = 64 << 10;
/// Content timestamps decide merges and garbage collection, so a clock this far off must not write.
const CLOCK_SKEW_SECONDS_MAX: i64 = 300;
/// How often index blobs are written again because the epoch moved on meanwhile.
const INDEX_ATTEMPTS: u32 = 3;

/// One run of writing. Made by [`Repository::begin`].
pub struct Session<'a> {
    repository: &'a Repository,
    id: String,
    started: Timestamp,
    marker: OnceCell<ObjectKey>,
    existing: RwLock<Existing>,
    known: Mutex<NewContents>,
    /// Contents reserved and not yet in a pack.
    sealing: InFlight,
    /// Packs finished and not yet durable.
    uploading: InFlight,
    durable: Mutex<Vec<IndexEntry>>,
    /// When the format blob was last looked at.
    looked: Mutex<Timestamp>,
    /// Index blobs are written one set after the other, so that one who waits for a flush has waited for all before.
    flushing: tokio::sync::Mutex<()>,
}

/// What is in the repository already, and sound as far as a listing can tell.
struct Existing {
    index: IndexView,
    /// By the number of the pack in that index, in bytes; 0 for one that is not there. A greater length than fits counts as
    /// the greatest that does.
    pack_bytes: Vec<u32>,
}

impl Existing {
    async fn list(repository: &Repository) -> Result<Self, WriteError> {
        let index = repository.index();
        let sizes = PackSizes::list(&**repository.storage(), |_, _| ()).await?;
        let mut pack_bytes = vec![0; index.index().pack_number_limit()];
        for pack in index.index().numbered_packs() {
            let (number, pack) = pack?;
            let bytes = sizes.get(&pack).unwrap_or(0);
            pack_bytes[number as usize] = u32::try_from(bytes).unwrap_or(u32::MAX);
        }
        Ok(Self { index, pack_bytes })
    }

    fn find(&self, content: &ContentId) -> Result<Option<Stored>, IndexError> {
        self.index.index().find_with(content, |_, record| {
            let pack_bytes = self.pack_bytes.get(record.pack() as usize).copied().unwrap_or(0);
            let is_sound = !record.is_deleted() && record.end() <= u64::from(pack_bytes);
            Stored { is_sound, timestamp_seconds: u64::from(record.timestamp_seconds()) }
        })
    }
}

/// What the index says of a content.
struct Stored {
    /// It counts as there: not deleted, and its pack is there and long enough to hold it.
    is_sound: bool,
    timestamp_seconds: u64,
}

/// Whether a content must be written.
#[derive(Debug)]
pub enum Reservation {
    /// It is there, or on its way.
    Known,
    /// The caller must write it. `replaces` is the timestamp of a deleted or damaged entry that the new one must beat.
    New {
        /// Unix seconds.
        replaces: Option<u64>,
        /// To be ended when the content is in a pack.
        ticket: Ticket,
    },
}

impl Repository {
    /// Begins to write. Lists the packs, so that nothing is built on contents whose pack is gone.
    ///
    /// # Errors
    /// When the store fails, or part of the index is damaged.
    pub async fn begin(&self) -> Result<Session<'_>, WriteError> {
        let existing = Existing::list(self).await?;
        self.begin_over(existing)
    }

    /// Begins to write without a look at the packs: no content counts as there already. For what is moved or marked.
    ///
    /// # Errors
    /// When part of the index is damaged.
    pub fn begin_moving(&self) -> Result<Session<'_>, WriteError> {
        self.begin_over(Existing { index: self.index(), pack_bytes: Vec::new() })
    }

    fn begin_over(&self, existing: Existing) -> Result<Session<'_>, WriteError> {
        match self.damage().into_iter().next() {
            Some(detail) => Err(WriteError::DamagedIndex { detail }),
            None => self.begin_anyway(existing),
        }
    }

    /// Begins to write although part of the index may be damaged: to repair it.
    pub(crate) fn begin_repair(&self) -> Result<Session<'_>, WriteError> {
        self.begin_anyway(Existing { index: self.index(), pack_bytes: Vec::new() })
    }

    fn begin_anyway(&self, existing: Existing) -> Result<Session<'_>, WriteError> {
        let started = self.clock().now();
        let id =
            blob::new_session_id(started).map_err(|source| WriteError::SealBlob { blob: "session marker", source })?;
        Ok(Session {
            repository: self,
            id,
            started,
            marker: OnceCell::new(),
            existing: RwLock::new(existing),
            known: Mutex::new(NewContents::new(self.scratch())),
            sealing: InFlight::new(),
            uploading: InFlight::new(),
            durable: Mutex::new(Vec::new()),
            looked: Mutex::new(started),
            flushing: tokio::sync::Mutex::new(()),
        })
    }
}

impl Session<'_> {
    /// The repository written to.
    pub fn repository(&self) -> &Repository {
        self.repository
    }

    /// When it began.
    pub fn started(&self) -> Timestamp {
        self.started
    }

    /// True when a content is in the repository and sound, or was reserved in this session.
    ///
    /// # Errors
    /// When the index cannot be searched.
    pub fn has(&self, content: &ContentId) -> Result<bool, WriteError> {
        let stored = self.find(content)?;
        Ok(stored.is_some_and(|stored| stored.is_sound) || lock(&self.known).contains(content)?)
    }

    /// Asks whether a content must be written; the one who is told [`Reservation::New`] must do it or give the session up.
    ///
    /// # Errors
    /// When the index cannot be searched.
    pub fn reserve(&self, content: &ContentId) -> Result<Reservation, WriteError> {
        let stored = self.find(content)?;
        if stored.as_ref().is_some_and(|stored| stored.is_sound) || !lock(&self.known).insert(content)? {
            return Ok(Reservation::Known);
        }
        let replaces = stored.map(|stored| stored.timestamp_seconds);
        Ok(Reservation::New { replaces, ticket: self.sealing.begin() })
    }

    fn find(&self, content: &ContentId) -> Result<Option<Stored>, IndexError> {
        self.existing.read().unwrap_or_else(PoisonError::into_inner).find(content)
    }

    /// Looks anew at what is there. Maintenance elsewhere may mark a content that this session has not met yet; built upon by
    /// a look from many hours ago, it would be missing one day.
    async fn see_others_work(&self) -> Result<(), WriteError> {
        self.repository.refresh().await?;
        if let Some(detail) = self.repository.damage().into_iter().next() {
            return Err(WriteError::DamagedIndex { detail });
        }
        let existing = Existing::list(self.repository).await?;
        *self.existing.write().unwrap_or_else(PoisonError::into_inner) = existing;
        Ok(())
    }

    /// A filler of packs for this session.
    pub fn packer(&self) -> Packer<'_> {
        Packer::new(self)
    }

    /// Notes a pack that is finished and must become durable.
    pub(crate) fn begin_upload(&self) -> Ticket {
        self.uploading.begin()
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Puts a pack into the store, after the session's marker. Its entries wait for the next flush, which is now if many
    /// wait. Gives the pack's memory back for the next one.
    ///
    /// # Errors
    /// When the store fails, or its clock and this one are more than five minutes apart.
    pub async fn upload(&self, pack: FinishedPack) -> Result<Vec<u8>, WriteError> {
        self.marker.get_or_try_init(|| self.write_marker()).await?;
        self.look_again().await?;
        let body = Bytes::from(pack.bytes);
        self.repository
            .put_blob(&ObjectKey::new(pack.id.as_str()), body.clone(), PutMode::Replace)
            .await
            .map_err(|source| WriteError::Storage { operation: format!("upload pack {}", pack.id), source })?;
        let is_much = {
            let mut durable = lock(&self.durable);
            durable.extend(pack.entries);
            durable.len() >= DURABLE_ENTRIES_MAX
        };
        pack.ticket.end();
        if is_much {
            self.flush().await?;
        }
        Ok(Vec::from(body))
    }

    /// Refuses to go on, after a while, when the repository changed or is locked.
    async fn look_again(&self) -> Result<(), WriteError> {
        let now = self.repository.clock().now();
        let is_due = now.duration_since(*lock(&self.looked)) >= LOOK_AGAIN_AFTER;
        if is_due {
            self.repository.refuse_changes().await?;
            *lock(&self.looked) = now;
        }
        Ok(())
    }

    async fn write_marker(&self) -> Result<ObjectKey, WriteError> {
        let client = self.repository.client();
        let now = self.repository.clock().now();
        let marker = SessionMarker {
            id: self.id.clone(),
            start_time: self.started,
            checkpoint_time: now,
            username: client.username.clone(),
            hostname: client.hostname.clone(),
        };
        let (key, bytes) = marker
            .seal(self.repository.crypto())
            .map_err(|source| WriteError::SealBlob { blob: "session marker", source })?;
        let failed = |source| WriteError::Storage { operation: "write the session marker".to_owned(), source };
        self.repository.put_blob(&key, Bytes::from(bytes), PutMode::Replace).await.map_err(failed)?;
        let written = self.repository.storage().stat(&key).await.map_err(failed)?.modified;
        let skew_seconds = written.duration_since(now).as_secs();
        if skew_seconds.abs() > CLOCK_SKEW_SECONDS_MAX {
            // It stands for no pack. That it stays would be no harm, and the clocks are what must be told.
            let _ = self.repository.storage().delete(&key).await;
            return Err(WriteError::ClockSkew { skew_seconds });
        }
        Ok(key)
    }

    /// Publishes the entries of all packs uploaded so far.
    ///
    /// # Errors
    /// When the store fails, or holds another repository by now. What was published before stays.
    pub async fn flush(&self) -> Result<(), WriteError> {
        let _one_at_a_time = self.flushing.lock().await;
        let mut entries = std::mem::take(&mut *lock(&self.durable));
        if entries.is_empty() {
            return Ok(());
        }
        entries.sort_by_key(|entry| entry.content);
        let published = self.write_entries(&entries).await;
        if published.is_err() {
            // Whoever comes next must not take them for published.
            lock(&self.durable).append(&mut entries);
        }
        published
    }

    async fn write_entries(&self, entries: &[IndexEntry]) -> Result<(), WriteError> {
        self.repository.refuse_changes().await?;
        let version = self.repository.index_version();
        let files: Vec<Vec<u8>> =
            entries.chunks(INDEX_ENTRIES_MAX).map(|entries| index::write(version, entries)).collect();
        if self.repository.index_sets() == IndexSets::Legacy {
            self.write_index_blobs(legacy::INDEX_PREFIX, &self.id, &files).await?;
            // An upgrade to epochs meanwhile may have missed them.
            return self.repository.refuse_changes().await;
        }
        for _ in 0..INDEX_ATTEMPTS {
            if self.write_index(&files).await? {
                return Ok(());
            }
        }
        Err(WriteError::TooSlow { epoch: self.repository.read_view().await?.write_epoch })
    }

    /// Publishes entries of packs that have long been there.
    pub(crate) async fn publish(&self, entries: Vec<IndexEntry>) -> Result<(), WriteError> {
        lock(&self.durable).extend(entries);
        self.flush().await
    }

    /// Writes one set of index blobs into the current epoch. False when that epoch was closed meanwhile, so that a
    /// compaction may have missed them: they are taken back then.
    async fn write_index(&self, files: &[Vec<u8>]) -> Result<bool, WriteError> {
        let epoch = self.repository.read_view().await?.write_epoch;
        let storage = self.repository.storage();
        let suffix = format!("{}-c{}", self.id, files.len());
        let written = self.write_index_blobs(&format!("xn{epoch}_"), &suffix, files).await?;
        if self.repository.read_view().await?.write_epoch < epoch + 2 {
            return Ok(true);
        }
        for key in written {
            storage
                .delete(&key)
                .await
                .map_err(|source| WriteError::Storage { operation: format!("take index blob {key} back"), source })?;
        }
        Ok(false)
    }

    async fn write_index_blobs(
        &self,
        prefix: &str,
        suffix: &str,
        files: &[Vec<u8>],
    ) -> Result<Vec<ObjectKey>, WriteError> {
        let mut written = Vec::new();
        for file in files {
            let (key, bytes) = blob::seal(self.repository.crypto(), prefix, Some(suffix), file)
                .map_err(|source| WriteError::SealBlob { blob: "index blob", source })?;
            self.repository
                .put_blob(&key, Bytes::from(bytes), PutMode::Replace)
                .await
                .map_err(|source| WriteError::Storage { operation: format!("write index blob {key}"), source })?;
            written.push(key);
        }
        Ok(written)
    }

    /// Makes a manifest out of labels and a document, to be handed to [`Session::commit`].
    pub(crate) fn record(
        &self,
        labels: BTreeMap<String, String>,
        data: &impl serde::Serialize,
    ) -> Result<ManifestRecord, WriteError> {
        ManifestRecord::put(labels, data, self.repository.clock().now())
            .map_err(|source| WriteError::SealBlob { blob: "manifest", source })
    }

    /// Publishes a snapshot and everything it refers to; the last write makes it visible. Checkpoints of the same run are
    /// gone at the same moment. Ends the session.
    ///
    /// # Errors
    /// When the store fails; then the snapshot does not exist.
    pub async fn commit_snapshot(
        &self,
        snapshot: &Snapshot,
        checkpoints: &[Checkpoint],
    ) -> Result<SnapshotId, WriteError> {
        let record = self.snapshot_record(snapshot)?;
        let id = SnapshotId::new(record.id.clone());
        let now = self.repository.clock().now();
        let gone = checkpoints.iter().map(|checkpoint| checkpoint.0.deletion(now));
        self.commit(std::iter::once(record).chain(gone).collect()).await?;
        Ok(id)
    }

    /// Publishes a snapshot of what is finished so far, while the run goes on; it must say that it is incomplete. It keeps
    /// what was stored from being collected as garbage, and lets the next run carry on should this one be killed.
    ///
    /// Waits until every content reserved before is in a pack and every pack filled before is durable, so nothing that
    /// `snapshot` refers to can be missing. Then looks anew at what others have done to the repository since.
    ///
    /// # Errors
    /// When the store fails, or a thread gave up on a content or a pack that it had begun.
    pub async fn checkpoint(&self, packer: &Packer<'_>, snapshot: &Snapshot) -> Result<Checkpoint, WriteError> {
        self.sealing.wait_for_earlier().await?;
        let record = self.snapshot_record(snapshot)?;
        for pack in packer.finish()? {
            self.upload(pack).await?;
        }
        self.uploading.wait_for_earlier().await?;
        self.write_manifests(vec![record.clone()]).await?;
        self.flush().await?;
        self.see_others_work().await?;
        Ok(Checkpoint(record))
    }

    fn snapshot_record(&self, snapshot: &Snapshot) -> Result<ManifestRecord, WriteError> {
        self.record(snapshot::labels(snapshot), &snapshot::SnapshotJson::from(snapshot))
    }

    /// Writes manifests, publishes everything uploaded, and ends the session.
    pub(crate) async fn commit(&self, records: Vec<ManifestRecord>) -> Result<(), WriteError> {
        self.write_manifests(records).await?;
        self.finish().await
    }

    /// Notes that a content is to be marked as deleted, with the next flush. It stays readable.
    ///
    /// Gives the number of entries that wait for the flush.
    pub fn mark_deleted(&self, entry: &IndexEntry) -> usize {
        let timestamp_seconds = content_timestamp(self.repository.clock().now(), Some(entry.timestamp_seconds));
        let mut durable = lock(&self.durable);
        durable.push(IndexEntry { timestamp_seconds, deleted: true, ..entry.clone() });
        durable.len()
    }

    /// Publishes everything uploaded, and ends the session.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn finish(&self) -> Result<(), WriteError> {
        self.flush().await?;
        if let Some(marker) = self.marker.get() {
            self.repository
                .storage()
                .delete(marker)
                .await
                .map_err(|source| WriteError::Storage { operation: "delete the session marker".to_owned(), source })?;
        }
        Ok(())
    }

    /// Writes one content of manifests and uploads it. Gives its id.
    pub(crate) async fn write_manifests(&self, records: Vec<ManifestRecord>) -> Result<ContentId, WriteError> {
        let bytes = write_content(records);
        let content = self.repository.content_id(MANIFEST_PREFIX, &bytes);
        let packer = self.packer();
        let mut packs = Vec::new();
        if let Reservation::New { replaces, ticket } = self.reserve(&content)? {
            let mut scratch = Vec::new();
            self.repository.sealer().seal(
                content,
                &[&bytes],
                Some(MANIFEST_COMPRESSION),
                &mut scratch,
                |sealed, out| {
                    packer.push(&sealed, out, replaces, Vec::new, &mut |pack| -> Result<(), WriteError> {
                        packs.push(pack);
                        Ok(())
                    })
                },
            )??;
            ticket.end();
        }
        packs.extend(packer.finish()?);
        for pack in packs {
            self.upload(pack).await?;
        }
        Ok(content)
    }
}

/// A snapshot of a run that was still going on.
#[derive(Clone, Debug)]
pub struct Checkpoint(ManifestRecord);

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
