//! What was found goes into the index, and only then what is damaged goes out of the way.

use std::collections::HashSet;

use storage::ObjectKey;

use super::{Salvage, aside};
use crate::error::WriteError;
use crate::index::{IndexEntry, parse_blob};
use crate::repository::Repository;

impl Repository {
    /// Publishes what can be taken back, reads it back, and sets the unreadable index blobs aside: those that must stay only
    /// if the loss is accepted. Returns the names under which they are kept.
    ///
    /// # Errors
    /// When the store fails. What was published by then is true and stays.
    pub async fn take_back(&self, salvage: &Salvage, accept_loss: bool) -> Result<Vec<ObjectKey>, WriteError> {
        self.publish(salvage.entries.clone()).await?;
        let leaving: Vec<ObjectKey> = salvage
            .unreadable
            .iter()
            .filter(|unreadable| accept_loss || unreadable.stays.is_none())
            .map(|unreadable| ObjectKey::new(unreadable.blob.as_str()))
            .collect();
        self.check_published(&salvage.entries, &leaving).await?;
        let mut kept = Vec::new();
        for key in leaving {
            kept.extend(self.set_index_blob_aside(&key).await?);
        }
        self.refresh().await?;
        Ok(kept)
    }

    /// Marks contents whose bytes are proven gone as deleted, so that every writer stores them again when it meets them. The
    /// mark is only just newer than the entry: a content that anybody has stored again meanwhile wins over it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn strike(&self, gone: Vec<IndexEntry>) -> Result<(), WriteError> {
        let mark =
            |entry: IndexEntry| IndexEntry { timestamp_seconds: entry.timestamp_seconds + 1, deleted: true, ..entry };
        self.publish(gone.into_iter().map(mark).collect()).await?;
        Ok(self.refresh().await?)
    }

    async fn publish(&self, entries: Vec<IndexEntry>) -> Result<(), WriteError> {
        if entries.is_empty() {
            return Ok(());
        }
        self.begin_repair()?.publish(entries).await
    }

    /// Every entry that was published, and every one that was known, must be found without the blobs that are to go.
    async fn check_published(&self, published: &[IndexEntry], leaving: &[ObjectKey]) -> Result<(), WriteError> {
        if published.is_empty() && leaving.is_empty() {
            return Ok(());
        }
        let without: HashSet<ObjectKey> = leaving.iter().cloned().collect();
        let after = self.load_without(&without).await?;
        let loaded = self.loaded();
        for entry in published.iter().cloned().map(Ok).chain(loaded.index.iter()) {
            let entry = entry?;
            let found = after.index.find(&entry.content)?;
            if found.is_none_or(|found| found.timestamp_seconds < entry.timestamp_seconds) {
                return Err(WriteError::NotReadBack { content: entry.content });
            }
        }
        Ok(())
    }

    async fn set_index_blob_aside(&self, key: &ObjectKey) -> Result<Option<ObjectKey>, WriteError> {
        let failed = |source| WriteError::Storage { operation: format!("set index blob {key} aside"), source };
        let stored = match self.storage().get(key).await {
            Ok(stored) => stored,
            Err(error) if error.kind == storage::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(failed(source)),
        };
        // It was read once and did not open; twice is damage and not a moment's trouble on the way.
        if parse_blob(self.crypto(), key, Vec::from(stored)).is_ok() {
            return Ok(None);
        }
        aside::set(&**self.storage(), key).await.map_err(failed)
    }
}
