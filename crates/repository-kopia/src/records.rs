//! Manifests written besides snapshots, and snapshots taken away.

use std::collections::BTreeMap;

use repository::{Identity, SnapshotId};

use crate::Retention;
use crate::error::WriteError;
use crate::manifest::{Manifest, ManifestRecord, with_labels};
use crate::policy::{PolicyJson, labels_of_identity_chain};
use crate::repository::{Repository, policy_of};

impl Repository {
    /// What Kopia's own command writes right after it created a repository: the global policy, and who maintains it.
    pub(crate) async fn write_first_records(&self) -> Result<(), WriteError> {
        let session = self.begin().await?;
        let global = BTreeMap::from([("type", "policy"), ("policyType", "global")]);
        let maintenance = BTreeMap::from([("type", "maintenance")]);
        let owner = format!("{}@{}", self.client().username, self.client().hostname);
        let parameters = serde_json::json!({
            "owner": owner,
            "quick": { "enabled": true, "interval": 3_600_000_000_000_i64 },
            "full": { "enabled": true, "interval": 86_400_000_000_000_i64 },
            "logRetention": { "maxTotalSize": 1_073_741_824, "maxCount": 10_000, "maxAge": 2_592_000_000_000_000_i64 },
            "extendObjectLocks": false,
            "listParallelism": 0
        });
        let records = vec![
            session.record(owned(global), &PolicyJson::defaults())?,
            session.record(owned(maintenance), &parameters)?,
        ];
        session.commit(records).await
    }

    /// Marks snapshots as gone. Their data stays until maintenance finds that nothing needs it.
    ///
    /// # Errors
    /// When a manifest cannot be read, since it may be one of these, or when writing fails; then none is gone.
    pub async fn forget(&self, snapshots: &[SnapshotId]) -> Result<(), WriteError> {
        if snapshots.is_empty() {
            return Ok(());
        }
        let (manifests, damage) = self.manifests().await?;
        if let Some(error) = damage.into_iter().next() {
            return Err(error.into());
        }
        let session = self.begin().await?;
        let now = self.clock().now();
        let is_named = |manifest: &&Manifest| snapshots.iter().any(|id| id.as_str() == manifest.id);
        session
            .commit(manifests.iter().filter(is_named).map(|found| ManifestRecord::delete(found, now)).collect())
            .await
    }

    /// Replaces the retention in the path policy of `identity`; the policy's other members stay.
    ///
    /// # Errors
    /// When the policies cannot be read or written.
    pub async fn set_retention(&self, identity: &Identity, retention: &Retention) -> Result<(), WriteError> {
        let Some(labels) = labels_of_identity_chain(identity).into_iter().next() else { return Ok(()) };
        let (manifests, damage) = self.manifests().await?;
        if let Some(error) = damage.into_iter().next() {
            return Err(error.into());
        }
        let mut found: Vec<_> = with_labels(&manifests, &labels).collect();
        found.sort_by_key(|manifest| manifest.modified);
        let old = found.last().map(|manifest| policy_of(manifest)).transpose()?;
        let new = old.clone().unwrap_or_default().with_retention(retention);
        if old.is_some_and(|old| old == new) {
            return Ok(());
        }
        let session = self.begin().await?;
        let now = self.clock().now();
        let mut records: Vec<ManifestRecord> =
            found.iter().map(|manifest| ManifestRecord::delete(manifest, now)).collect();
        records.push(session.record(labels, &new)?);
        session.commit(records).await
    }
}

fn owned(labels: BTreeMap<&str, &str>) -> BTreeMap<String, String> {
    labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}
