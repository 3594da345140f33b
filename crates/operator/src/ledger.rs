//! Which backups exist, as far as this cluster has seen: the ledger's mirror, in a ConfigMap beside the operator.
//!
//! It outlives claims and their objects. It is written when a history begins or moves to another repository, and not at
//! every backup: what counts is that there is one, and where.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use api::id::RepositoryId;
use api::naming::ClaimKey;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::ids::Ids;
use crate::names::{FIELD_MANAGER, MANAGED_BY, MANAGER};

/// The ConfigMap.
const NAME: &str = "perennial-ledger";

/// Bytes of all records together; a ConfigMap has a MiB. Beyond it the ledger beside the repositories is alone.
const BYTES_MAX: usize = 900 * 1024;

/// What is known of one claim's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// The repository that has it.
    pub repository_id: RepositoryId,
    /// As whom its next backup runs, if that is not the usual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<Ids>,
    /// Whether it was seen and no backup was added to it here: whoever wrote it need not have kept a ledger in the store.
    #[serde(default, rename = "foreign", skip_serializing_if = "std::ops::Not::not")]
    pub is_foreign: bool,
}

/// Claims of one repository, by `namespace/name`.
type Records = BTreeMap<String, Entry>;

/// The mirror, as it stands in the cluster.
#[derive(Debug, Default)]
pub struct Mirror {
    repositories: Mutex<BTreeMap<String, Records>>,
}

impl Mirror {
    /// Reads it.
    ///
    /// # Errors
    /// The API server does not answer, or somebody has written into it what makes no sense: then nothing is decided until
    /// a person has mended or removed it.
    pub async fn load(client: &Client, namespace: &str) -> Result<Self, Error> {
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        let found = maps.get_opt(NAME).await.map_err(Error::kubernetes(format!("get ConfigMap {namespace}/{NAME}")))?;
        let mut repositories = BTreeMap::new();
        for (repository, text) in found.and_then(|map| map.data).unwrap_or_default() {
            let records: Records = serde_json::from_str(&text).map_err(|source| Error::Encode {
                what: format!("ConfigMap {namespace}/{NAME}, key {repository} (mend it, or remove the key)"),
                source,
            })?;
            repositories.insert(repository, records);
        }
        Ok(Self { repositories: Mutex::new(repositories) })
    }

    /// What is known of a claim's history in a repository.
    pub fn of(&self, repository: &str, claim: &ClaimKey) -> Option<Entry> {
        let repositories = self.repositories.lock().unwrap_or_else(PoisonError::into_inner);
        repositories.get(repository)?.get(&claim.to_string()).cloned()
    }

    /// How many histories in the repository are known.
    pub fn count(&self, repository: &str) -> u64 {
        let repositories = self.repositories.lock().unwrap_or_else(PoisonError::into_inner);
        let count = repositories.get(repository).map(Records::len).unwrap_or_default();
        u64::try_from(count).unwrap_or(u64::MAX)
    }

    /// The repository's id, as the last backup or restore saw it; none if there is none, or several under one prefix.
    pub fn id(&self, repository: &str) -> Option<RepositoryId> {
        let repositories = self.repositories.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ids = repositories.get(repository)?.values().map(|entry| &entry.repository_id);
        let first = ids.next()?;
        ids.all(|id| id == first).then(|| first.clone())
    }

    /// Whether any history in the repository is known.
    pub fn knows(&self, repository: &str) -> bool {
        let repositories = self.repositories.lock().unwrap_or_else(PoisonError::into_inner);
        repositories.get(repository).is_some_and(|records| !records.is_empty())
    }

    /// Whether the store must have a ledger: a backup was made here, and with it a record there.
    pub fn has_been_written(&self, repository: &str) -> bool {
        let repositories = self.repositories.lock().unwrap_or_else(PoisonError::into_inner);
        repositories.get(repository).is_some_and(|records| records.values().any(|entry| !entry.is_foreign))
    }

    /// Notes that a claim has a backup, and writes that down if it is new.
    ///
    /// # Errors
    /// The API server does not take it. It is not noted then.
    pub async fn note(
        &self,
        client: &Client,
        namespace: &str,
        repository: &str,
        claim: &ClaimKey,
        entry: Entry,
    ) -> Result<(), Error> {
        let text = {
            let repositories = self.repositories.lock().unwrap_or_else(PoisonError::into_inner);
            let mut records = repositories.get(repository).cloned().unwrap_or_default();
            if records.get(&claim.to_string()) == Some(&entry) {
                return Ok(());
            }
            records.insert(claim.to_string(), entry.clone());
            serde_json::to_string(&records).map_err(|source| Error::Encode { what: NAME.to_owned(), source })?
        };
        if text.len() > BYTES_MAX {
            tracing::warn!(repository, bytes = text.len(), "the ledger's mirror is full; the ledger itself goes on");
            return Ok(());
        }
        let map = ConfigMap {
            metadata: ObjectMeta {
                name: Some(NAME.to_owned()),
                labels: Some(BTreeMap::from([(MANAGED_BY.to_owned(), MANAGER.to_owned())])),
                ..ObjectMeta::default()
            },
            data: Some(BTreeMap::from([(repository.to_owned(), text)])),
            ..ConfigMap::default()
        };
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        // One manager for each repository, so that writing one leaves the others where they are.
        let params = PatchParams::apply(&format!("{FIELD_MANAGER}-ledger-{repository}"));
        maps.patch(NAME, &params, &Patch::Apply(&map))
            .await
            .map_err(Error::kubernetes(format!("apply ConfigMap {NAME}")))?;
        let mut repositories = self.repositories.lock().unwrap_or_else(PoisonError::into_inner);
        repositories.entry(repository.to_owned()).or_default().insert(claim.to_string(), entry);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_that_was_only_seen_promises_no_ledger() {
        let seen = r#"{"repositoryId":"r1","foreign":true}"#;
        let written = r#"{"repositoryId":"r2"}"#;
        let records = |texts: &[&str]| -> Records {
            let entries = texts.iter().map(|text| serde_json::from_str::<Entry>(text).unwrap());
            entries.enumerate().map(|(number, entry)| (format!("media/{number}"), entry)).collect()
        };
        let mirror = Mirror { repositories: Mutex::new([("default".to_owned(), records(&[seen]))].into()) };
        assert!(mirror.knows("default") && !mirror.has_been_written("default"));
        let mirror = Mirror { repositories: Mutex::new([("default".to_owned(), records(&[seen, written]))].into()) };
        assert!(mirror.has_been_written("default"));
        let entry: Entry = serde_json::from_str(seen).unwrap();
        assert_eq!(serde_json::to_string(&entry).unwrap(), seen);
    }
}
