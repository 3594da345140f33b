//! The index as it is in the store now.

use std::sync::Arc;

use futures::StreamExt as _;
use storage::{ErrorKind, ObjectKey, Storage};

use super::active::{Active, IndexSets, active};
use super::{IndexFile, MergedIndex};
use crate::blob;
use crate::content::Crypto;
use crate::epoch::View;
use crate::error::IndexError;

/// Index blobs read at the same time.
const READS_IN_FLIGHT: usize = 16;
/// How often the list of index blobs is read anew when one of them is gone.
const ATTEMPTS: u32 = 10;

/// The index at one moment.
pub(crate) struct Loaded {
    pub(crate) view: View,
    pub(crate) index: MergedIndex,
    pub(crate) blob_count: usize,
    /// Of these, how many could be read.
    pub(crate) opened_count: usize,
    /// Blobs that could not be read.
    pub(crate) damage: Vec<IndexError>,
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

pub(crate) async fn load(storage: &dyn Storage, crypto: &Crypto, sets: IndexSets) -> Result<Loaded, IndexError> {
    let mut attempt = 1;
    loop {
        let Active { view, keys, damage: of_logs } = active(storage, crypto, sets).await?;
        match read_index_blobs(storage, crypto, &keys).await {
            Ok((files, mut damage)) => {
                damage.extend(of_logs);
                let index = MergedIndex::merge(&files, view.deletion_watermark_seconds).or_else(|detail| {
                    damage.push(IndexError::Damaged { blob: "one of several".to_owned(), detail });
                    MergedIndex::merge(&[], None)
                });
                let index = index.map_err(|detail| IndexError::Damaged { blob: String::new(), detail })?;
                return Ok(Loaded { view, index, blob_count: keys.len(), opened_count: files.len(), damage });
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

/// Reads and decrypts index blobs; those that are damaged come second.
async fn read_index_blobs(
    storage: &dyn Storage,
    crypto: &Crypto,
    keys: &[ObjectKey],
) -> Result<(Vec<IndexFile>, Vec<IndexError>), IndexError> {
    let read: Vec<Result<IndexFile, IndexError>> = futures::stream::iter(keys)
        .map(|key| async move {
            let sealed = storage
                .get(key)
                .await
                .map_err(|source| IndexError::Storage { operation: format!("read index blob {key}"), source })?;
            blob::open(crypto, key.as_str(), Vec::from(sealed))
                .and_then(IndexFile::parse)
                .and_then(check_entries)
                .map_err(|detail| IndexError::Damaged { blob: key.to_string(), detail })
        })
        .buffer_unordered(READS_IN_FLIGHT)
        .collect()
        .await;
    let mut files = Vec::new();
    let mut damage = Vec::new();
    for result in read {
        match result {
            Ok(file) => files.push(file),
            Err(error @ IndexError::Damaged { .. }) => damage.push(error),
            Err(error) => return Err(error),
        }
    }
    Ok((files, damage))
}

/// An index blob whose entries make no sense is damaged as a whole; so merging need not doubt any of them.
fn check_entries(file: IndexFile) -> Result<IndexFile, String> {
    (0..file.len()).try_for_each(|at| file.entry(at).map(|_| ()))?;
    Ok(file)
}
