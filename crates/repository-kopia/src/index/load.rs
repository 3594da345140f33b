//! The index as it is in the store now.

use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use storage::{ErrorKind, Object, ObjectKey, Storage};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::active::{Active, IndexSets, active};
use super::table::{Builder, Places, TableSet};
use super::{IndexFile, MergedIndex};
use crate::blob;
use crate::content::Crypto;
use crate::epoch::View;
use crate::error::IndexError;

/// Index blobs read at the same time: 5,000 of them from a store that takes 30 ms for a call are there in some three seconds.
const READS_IN_FLIGHT: usize = 64;
/// Their sizes together in KiB, or one that is larger.
const READ_KIB_IN_FLIGHT: u32 = 16 << 10;
/// Bytes of index blobs added in one go, or one blob that is larger.
const ADDED_BYTES: usize = 1 << 20;
/// How often the list of index blobs is read anew when one of them is gone.
const ATTEMPTS: u32 = 10;

/// The index at one moment.
pub(crate) struct Loaded {
    pub(crate) view: View,
    pub(crate) index: Arc<MergedIndex>,
    /// What the index stands for.
    set: TableSet,
    pub(crate) blob_count: usize,
    /// Of these, how many could be read.
    pub(crate) opened_count: usize,
    /// Blobs that could not be read.
    pub(crate) damage: Vec<IndexError>,
    /// Why the table is not kept where it should be.
    pub(crate) problem: Option<String>,
}

/// The index as it was at one moment.
#[derive(Clone)]
pub struct IndexView(pub(crate) Arc<Loaded>);

impl IndexView {
    /// The table.
    pub fn index(&self) -> &MergedIndex {
        &self.0.index
    }

    /// Entries deleted up to this Unix second were dropped from it.
    pub fn deletion_watermark_seconds(&self) -> Option<u64> {
        self.0.view.deletion_watermark_seconds
    }
}

/// The index as it is in the store now: what was loaded `before` if nothing has changed, a table kept on this machine if it
/// stands for the same blobs, else all blobs merged anew.
pub(crate) async fn load(
    storage: &dyn Storage,
    crypto: &Arc<Crypto>,
    sets: IndexSets,
    places: &Places,
    before: Option<&Loaded>,
) -> Result<Loaded, IndexError> {
    load_without(storage, crypto, sets, places, before, &HashSet::new()).await
}

/// The index as it would be if some of its blobs were not there.
pub(crate) async fn load_without(
    storage: &dyn Storage,
    crypto: &Arc<Crypto>,
    sets: IndexSets,
    places: &Places,
    before: Option<&Loaded>,
    without: &HashSet<ObjectKey>,
) -> Result<Loaded, IndexError> {
    let mut attempt = 1;
    loop {
        let Active { view, blobs, mut damage } = active(storage, crypto, sets, without).await?;
        let watermark_seconds = view.deletion_watermark_seconds;
        let blob_count = blobs.len();
        let set = places.set(blobs.iter().map(|blob| blob.key.as_str()), watermark_seconds);
        if let Some(before) = before.filter(|before| before.set == set && before.opened_count == blob_count) {
            let (index, problem) = (before.index.clone(), before.problem.clone());
            return Ok(Loaded { view, index, set, blob_count, opened_count: blob_count, damage, problem });
        }
        if let Some(index) = kept(places, set).await? {
            let index = Arc::new(index);
            return Ok(Loaded { view, index, set, blob_count, opened_count: blob_count, damage, problem: None });
        }
        match read_index_blobs(storage, crypto, places, blobs).await {
            Ok((builder, damaged)) => {
                let opened_count = blob_count - damaged.len();
                // What misses something is of no use the next time.
                let kept_as = damaged.is_empty().then_some(set);
                damage.extend(damaged);
                let built = blocking(move || builder.finish(kept_as.as_ref(), watermark_seconds)).await??;
                let index = Arc::new(MergedIndex::new(built.table, built.path));
                return Ok(Loaded { view, index, set, blob_count, opened_count, damage, problem: built.problem });
            }
            Err(IndexError::Storage { source, .. }) if source.kind == ErrorKind::NotFound && attempt < ATTEMPTS => {
                attempt += 1;
            }
            Err(IndexError::Storage { operation, source }) if source.kind == ErrorKind::NotFound => {
                return Err(IndexError::Vanishing { blob: operation, attempts: attempt });
            }
            Err(error) => return Err(error),
        }
    }
}

async fn kept(places: &Places, set: TableSet) -> Result<Option<MergedIndex>, IndexError> {
    let places = places.clone();
    let opened = blocking(move || places.open(&set)).await?;
    Ok(opened.map(|(table, path)| MergedIndex::new(table, Some(path))))
}

/// Reads, decrypts and sorts index blobs. Those that are damaged come second.
async fn read_index_blobs(
    storage: &dyn Storage,
    crypto: &Arc<Crypto>,
    places: &Places,
    blobs: Vec<Object>,
) -> Result<(Builder, Vec<IndexError>), IndexError> {
    let room = Semaphore::new(READ_KIB_IN_FLIGHT as usize);
    let mut read = pin!(
        futures::stream::iter(blobs)
            .map(|blob| read_index_blob(storage, &room, blob))
            .buffer_unordered(READS_IN_FLIGHT)
            .ready_chunks(READS_IN_FLIGHT)
    );
    let mut builder = Builder::new(places.clone(), crypto.content_id(0, b"").key_length());
    let mut damage = Vec::new();
    let mut next = read.next().await;
    while let Some(some) = next.take() {
        // The next ones are on their way while these are sorted.
        let (added, following) = futures::join!(add(builder, crypto, some), read.next());
        let (back, mut more) = added?;
        (builder, next) = (back, following);
        damage.append(&mut more);
    }
    Ok((builder, damage))
}

/// An index blob as the store has it, and the memory it takes.
struct Sealed<'a> {
    key: ObjectKey,
    bytes: Bytes,
    room: SemaphorePermit<'a>,
}

async fn read_index_blob<'a>(
    storage: &dyn Storage,
    room: &'a Semaphore,
    blob: Object,
) -> Result<Sealed<'a>, IndexError> {
    let Object { key, size_bytes, .. } = blob;
    let kib = u32::try_from(size_bytes / 1024 + 1).unwrap_or(u32::MAX).min(READ_KIB_IN_FLIGHT);
    let room = room.acquire_many(kib).await.expect("the semaphore is never closed");
    let failed = |source| IndexError::Storage { operation: format!("read index blob {key}"), source };
    let bytes = storage.get(&key).await.map_err(failed)?;
    Ok(Sealed { key, bytes, room })
}

/// Adds what has been read, much of it in one go: while a thread is at it nobody looks after the reads under way. What is
/// added gives its room to them.
async fn add(
    mut builder: Builder,
    crypto: &Arc<Crypto>,
    read: Vec<Result<Sealed<'_>, IndexError>>,
) -> Result<(Builder, Vec<IndexError>), IndexError> {
    let mut damage = Vec::new();
    let mut read = read.into_iter().peekable();
    while read.peek().is_some() {
        let (mut blobs, mut rooms, mut bytes_count) = (Vec::new(), Vec::new(), 0);
        while bytes_count < ADDED_BYTES
            && let Some(sealed) = read.next()
        {
            let Sealed { key, bytes, room } = sealed?;
            bytes_count += bytes.len();
            blobs.push((key, bytes));
            rooms.push(room);
        }
        let crypto = Arc::clone(crypto);
        let (back, wrong) = blocking(move || add_some(builder, &crypto, blobs)).await??;
        drop(rooms);
        builder = back;
        damage.extend(wrong);
    }
    Ok((builder, damage))
}

fn add_some(
    mut builder: Builder,
    crypto: &Crypto,
    blobs: Vec<(ObjectKey, Bytes)>,
) -> Result<(Builder, Vec<IndexError>), IndexError> {
    let mut damage = Vec::new();
    for (key, bytes) in blobs {
        let file = blob::open(crypto, key.as_str(), Vec::from(bytes)).and_then(IndexFile::parse);
        let added = match file {
            Ok(file) => builder.add(&file)?,
            Err(detail) => Err(detail),
        };
        damage.extend(added.err().map(|detail| IndexError::Damaged { blob: key.to_string(), detail }));
    }
    Ok((builder, damage))
}

/// Has a thread for blocking work do something.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, IndexError> {
    let failed =
        |error| IndexError::Table { operation: "merge the index".to_owned(), source: std::io::Error::other(error) };
    tokio::task::spawn_blocking(work).await.map_err(failed)
}

/// What an index blob holds.
///
/// # Errors
/// In words.
pub(crate) fn parse_blob(crypto: &Crypto, key: &ObjectKey, sealed: Vec<u8>) -> Result<IndexFile, String> {
    blob::open(crypto, key.as_str(), sealed).and_then(IndexFile::parse).and_then(check_entries)
}

fn check_entries(file: IndexFile) -> Result<IndexFile, String> {
    (0..file.len()).try_for_each(|at| file.entry(at).map(|_| ()))?;
    Ok(file)
}
