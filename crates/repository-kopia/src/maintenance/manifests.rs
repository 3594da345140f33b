//! Many manifest contents into one.
//!
//! Each snapshot, policy change and deletion adds one; every client reads all of them at each start. Kopia's clients merge them
//! from sixteen on, and so does this. Nothing is left out but the records of deletions and what they delete.

use std::collections::BTreeMap;

use futures::{StreamExt as _, TryStreamExt as _};
use repository::ContentId;

use super::cycle::MaintenanceCycle;
use super::error::MaintenanceError;
use crate::error::ReadError;
use crate::index::IndexEntry;
use crate::manifest::{MANIFEST_PREFIX, ManifestRecord, read_content};

/// Fewer are not worth it.
const CONTENTS_MIN: usize = 16;
/// Manifest contents read at the same time.
const READS_IN_FLIGHT: usize = 16;

/// The records that count, without those of what is deleted. Entries are kept as they are, whoever wrote them.
fn live(records: impl IntoIterator<Item = ManifestRecord>) -> Vec<ManifestRecord> {
    let mut latest: BTreeMap<String, ManifestRecord> = BTreeMap::new();
    for record in records {
        match latest.get(&record.id) {
            Some(known) if known.modified >= record.modified => {}
            _ => {
                latest.insert(record.id.clone(), record);
            }
        }
    }
    latest.into_values().filter(|record| !record.deleted).collect()
}

impl MaintenanceCycle<'_> {
    /// Writes one content with every manifest there is, and marks the others as deleted, both in one index blob. Does nothing
    /// below sixteen. Gives how many were merged.
    ///
    /// A client that writes a manifest meanwhile loses nothing: its content is not among those that are marked.
    ///
    /// # Errors
    /// When a manifest content cannot be read, or writing fails; then nothing is marked.
    pub async fn compact_manifests(&self) -> Result<usize, MaintenanceError> {
        let repository = self.repository;
        let view = repository.index();
        let contents = view
            .index()
            .with_prefix(MANIFEST_PREFIX)
            .filter(|entry| entry.as_ref().map_or(true, |entry| !entry.deleted))
            .collect::<Result<Vec<IndexEntry>, _>>()?;
        if contents.len() < CONTENTS_MIN {
            return Ok(0);
        }
        let read = |content: ContentId| async move {
            let failed = |source| ReadError::Content { what: format!("read manifest content {content}"), source };
            read_content(&content.to_string(), &repository.content(&content).await.map_err(failed)?)
        };
        let records: Vec<Vec<ManifestRecord>> = futures::stream::iter(&contents)
            .map(|entry| read(entry.content))
            .buffered(READS_IN_FLIGHT)
            .try_collect()
            .await?;
        let session = repository.begin_moving()?;
        let merged = session.write_manifests(live(records.into_iter().flatten())).await?;
        for entry in contents.iter().filter(|entry| entry.content != merged) {
            session.mark_deleted(entry);
        }
        self.check_alone().await?;
        session.finish().await?;
        repository.refresh().await?;
        Ok(contents.len())
    }
}

#[cfg(test)]
mod tests {
    use super::live;
    use crate::manifest::ManifestRecord;

    fn record(text: &str) -> ManifestRecord {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn only_what_is_deleted_is_left_out() {
        let kept = live([
            record(r#"{"id":"a","labels":{"type":"x"},"modified":"2026-01-01T00:00:01Z","data":null}"#),
            record(r#"{"id":"b","labels":{"type":"x"},"modified":"2026-01-01T00:00:01Z","data":[1, 2]}"#),
            record(r#"{"id":"b","labels":null,"modified":"2026-01-01T00:00:02Z","deleted":true,"data":null}"#),
            record(r#"{"id":"c","labels":null,"modified":"2026-01-01T00:00:01Z","deleted":true,"data":null}"#),
            record(r#"{"id":"c","labels":{"type":"x"},"modified":"2026-01-01T00:00:02Z","data":{"z":1,"a":2}}"#),
        ]);
        let texts: Vec<String> = kept.iter().map(|record| serde_json::to_string(record).unwrap()).collect();
        assert_eq!(
            texts,
            [
                r#"{"id":"a","labels":{"type":"x"},"modified":"2026-01-01T00:00:01Z","data":null}"#,
                r#"{"id":"c","labels":{"type":"x"},"modified":"2026-01-01T00:00:02Z","data":{"z":1,"a":2}}"#,
            ]
        );
    }
}
