//! The index of a repository without epochs: merged, and rid of marked contents.
//!
//! Source: Kopia format, "Legacy index manager" and "Sequence".

use jiff::Timestamp;

use super::cycle::MaintenanceCycle;
use super::error::MaintenanceError;
use super::schedule::never;
use super::stats::TaskStats;
use crate::index::IndexSets;

impl MaintenanceCycle<'_> {
    /// Whether the repository's index has epochs. What a cycle does to index blobs differs.
    pub fn has_epochs(&self) -> bool {
        self.repository.index_sets() == IndexSets::Epochs
    }

    /// Merges index blobs of a repository without epochs where there are many, and takes away what earlier mergers replaced.
    ///
    /// # Errors
    /// When the store fails, or part of the index cannot be read.
    pub async fn compact_legacy_index(&self) -> Result<Option<TaskStats>, MaintenanceError> {
        self.check_alone().await?;
        let done = self.repository.compact_legacy_index(None, self.safety.index_settle).await?;
        Ok((done.merged_count > 0).then_some(TaskStats::CompactIndexes { dropped_contents_deleted_before: never() }))
    }

    /// Writes the whole index anew without what was marked up to `until`; not where there is nothing of the kind.
    pub(super) async fn drop_deleted_without_epochs(
        &self,
        until: Timestamp,
    ) -> Result<Option<TaskStats>, MaintenanceError> {
        let seconds = u64::try_from(until.as_second()).unwrap_or(0);
        let view = self.repository.index();
        let mut is_any = false;
        for entry in view.index().iter() {
            let entry = entry?;
            if entry.deleted && entry.timestamp_seconds < seconds {
                is_any = true;
                break;
            }
        }
        if is_any {
            self.check_alone().await?;
            self.repository.compact_legacy_index(Some(until), self.safety.index_settle).await?;
            self.repository.refresh().await?;
        }
        Ok(Some(TaskStats::CompactIndexes { dropped_contents_deleted_before: until }))
    }
}
