//! Object locks made longer, so that what is in use never becomes deletable.
//!
//! What nothing needs is left to its lock's end: a lock made longer would keep it for ever. Source: Kopia format, "Tasks".

use futures::{StreamExt as _, TryStreamExt as _};
use jiff::SignedDuration;
use repository::PackId;
use storage::{ErrorKind, ObjectKey};

use super::cycle::MaintenanceCycle;
use super::error::MaintenanceError;
use super::stats::TaskStats;
use crate::blob_lock::PREFIXES;
use crate::pack::is_pack_name;
use crate::pack_sizes::PackSet;

/// What the names of packs begin with.
const PACK_LETTERS: [char; 2] = ['p', 'q'];
/// Locks changed at the same time.
const IN_FLIGHT: usize = 8;

impl MaintenanceCycle<'_> {
    /// Whether this cycle makes object locks longer: the repository locks its blobs, and its parameters ask for it.
    pub fn extends_locks(&self) -> bool {
        self.parameters().extend_object_locks && self.repository.locks().period().is_some()
    }

    /// Makes the locks of all blobs in use last as long as if they were written now.
    ///
    /// # Errors
    /// When the store fails or refuses, or part of the index is damaged.
    pub async fn extend_locks(&self) -> Result<Option<TaskStats>, MaintenanceError> {
        let repository = self.repository;
        let Some((_, period)) = repository.locks().period() else { return Ok(None) };
        let view = repository.index();
        let referenced = PackSet::new(view.index().packs())?;
        let now = repository.clock().now();
        let mut wanted = Vec::new();
        for prefix in PREFIXES {
            let failed = || MaintenanceError::storage(format!("list objects {prefix}…"));
            let mut listing = repository.storage().list(prefix);
            while let Some(object) = listing.try_next().await.map_err(|source| failed()(source))? {
                let name = object.key.as_str();
                // Other programs' objects may begin with the letter of a pack.
                let is_in_use =
                    !name.starts_with(PACK_LETTERS) || is_pack_name(name) && referenced.contains(&PackId::new(name));
                if is_in_use {
                    wanted.push(object.key);
                }
            }
        }
        let found = wanted.len() as u64;
        let extended: u64 = futures::stream::iter(wanted)
            .map(|key: ObjectKey| async move {
                match repository.locks().extend(&**repository.storage(), &key, now).await {
                    Ok(is_locked) => Ok(u64::from(is_locked)),
                    // It went since it was listed, as index blobs and packs do.
                    Err(error) if error.kind == ErrorKind::NotFound => Ok(0),
                    Err(source) => Err(MaintenanceError::storage(format!("make the lock of {key} longer"))(source)),
                }
            })
            .buffer_unordered(IN_FLIGHT)
            .try_fold(0, |sum, one| async move { Ok(sum + one) })
            .await?;
        Ok(Some(TaskStats::ExtendBlobRetention {
            to_extend_blob_count: found,
            extended_blob_count: extended,
            retention_period: in_gos_words(period),
        }))
    }
}

/// `24h0m0s`.
fn in_gos_words(period: SignedDuration) -> String {
    let seconds = period.as_secs();
    format!("{}h{}m{}s", seconds / 3600, seconds / 60 % 60, seconds % 60)
}
