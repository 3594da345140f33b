//! Packs and session markers that nothing names any more.
//!
//! The order of looking is what makes it safe next to writers: first the sessions that are writing, then the index, then the
//! packs. A pack that no entry names then belongs to a session seen before, or was written after, and is too young to go; or
//! it is garbage.

use std::collections::BTreeSet;

use futures::TryStreamExt as _;
use jiff::{SignedDuration, Timestamp};
use repository::PackId;
use storage::{ErrorKind, Object, ObjectKey};

use super::cycle::MaintenanceCycle;
use super::error::MaintenanceError;
use super::safety::PacksDeleted;
use super::stats::TaskStats;
use crate::blob::{self, SessionMarker, session_of};
use crate::pack::{PackKind, is_pack_name};
use crate::pack_sizes::PackSet;

/// The packs of what began this soon after the cycle are too young by any measure.
const CUTOFF_MARGIN: SignedDuration = SignedDuration::from_secs(1);
/// Prefix of session markers.
const MARKER_PREFIX: &str = "s";

/// Which unreferenced packs stay.
struct Rule {
    cutoff: Timestamp,
    pack_age_min: SignedDuration,
    writing: BTreeSet<String>,
}

impl Rule {
    fn keeps(&self, object: &Object) -> bool {
        object.modified > self.cutoff
            || self.cutoff.duration_since(object.modified) < self.pack_age_min
            || session_of(object.key.as_str()).is_some_and(|session| self.writing.contains(session))
    }
}

impl MaintenanceCycle<'_> {
    /// Deletes packs that no index entry names, not even a deleted one, and markers of sessions that ended long ago; of
    /// packs, those of [`Self::packs_deleted`].
    ///
    /// # Errors
    /// When the store fails, part of the index is damaged, or a session marker cannot be read.
    pub async fn delete_unreferenced_packs(&self) -> Result<Option<TaskStats>, MaintenanceError> {
        let rule = self.rule().await?;
        self.repository.refresh().await?;
        if let Some(first) = self.repository.damage().into_iter().next() {
            return Err(MaintenanceError::Damaged { count: self.repository.damage().len(), first });
        }
        let view = self.repository.index();
        let referenced = PackSet::new(view.index().packs())?;
        let mut doomed = Vec::new();
        let (mut kept, mut gone) = ((0_u64, 0_u64), (0_u64, 0_u64));
        let [data, metadata] = [PackKind::Data, PackKind::Metadata].map(|kind| kind.prefix().to_string());
        let prefixes: &[&str] = match self.packs_deleted() {
            PacksDeleted::All => &[&data, &metadata, MARKER_PREFIX],
            PacksDeleted::Metadata => &[&metadata],
        };
        for prefix in prefixes.iter().copied() {
            let mut listing = self.repository.storage().list(prefix);
            let failed = || MaintenanceError::storage(format!("list objects {prefix}…"));
            while let Some(object) = listing.try_next().await.map_err(|source| failed()(source))? {
                let name = object.key.as_str();
                let is_ours = prefix == MARKER_PREFIX || is_pack_name(name);
                if !is_ours || referenced.contains(&PackId::new(name)) {
                    continue;
                }
                let counts = if rule.keeps(&object) { &mut kept } else { &mut gone };
                counts.0 += 1;
                counts.1 += object.size_bytes;
                if !rule.keeps(&object) {
                    doomed.push(object.key);
                }
            }
        }
        self.delete_all(doomed).await?;
        Ok(Some(TaskStats::DeleteUnreferencedPacks {
            unreferenced_pack_count: kept.0 + gone.0,
            unreferenced_total_size: kept.1 + gone.1,
            deleted_pack_count: gone.0,
            deleted_total_size: gone.1,
            retained_pack_count: kept.0,
            retained_total_size: kept.1,
        }))
    }

    async fn rule(&self) -> Result<Rule, MaintenanceError> {
        let cutoff = self.started().checked_add(CUTOFF_MARGIN).unwrap_or(self.started());
        let failed = MaintenanceError::storage("list session markers");
        let markers: Vec<Object> = self.repository.storage().list(MARKER_PREFIX).try_collect().await.map_err(failed)?;
        let mut writing = BTreeSet::new();
        for marker in markers {
            let (session, last_seen) = self.read_marker(&marker.key).await?;
            let is_alive = last_seen.is_none_or(|seen| cutoff.duration_since(seen) < self.safety.session_age_max);
            if is_alive {
                writing.insert(session);
            }
        }
        Ok(Rule { cutoff, pack_age_min: self.safety.pack_age_min, writing })
    }

    /// The session of a marker and when it was last known to write: `None` when it ended this moment.
    async fn read_marker(&self, key: &ObjectKey) -> Result<(String, Option<Timestamp>), MaintenanceError> {
        let damaged = |detail: String| MaintenanceError::DamagedMarker { blob: key.to_string(), detail };
        let session =
            session_of(key.as_str()).ok_or_else(|| damaged("its name carries no session".to_owned()))?.to_owned();
        let sealed = match self.repository.storage().get(key).await {
            Err(error) if error.kind == ErrorKind::NotFound => return Ok((session, None)),
            sealed => sealed.map_err(MaintenanceError::storage(format!("read session marker {key}")))?,
        };
        let plain = blob::open(self.repository.crypto(), key.as_str(), sealed.into()).map_err(damaged)?;
        let marker: SessionMarker = serde_json::from_slice(&plain).map_err(|error| damaged(error.to_string()))?;
        Ok((session, Some(marker.checkpoint_time)))
    }
}
