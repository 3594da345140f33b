//! BackupRepository: where backups lie, how one gets in, and what is expected to be there.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::credentials::Credentials;
use super::namespaces::Namespaces;
use super::store::Store;
use crate::decide::{Creation, MASS_FRESH_THRESHOLD};
use crate::id::RepositoryId;
use crate::mover::Layout;

/// Where backups lie, how one gets in, and what is expected to be there.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[expect(clippy::duplicated_attributes, reason = "columns have types in common")]
#[kube(
    group = "perennial.dev",
    version = "v1alpha1",
    kind = "BackupRepository",
    plural = "backuprepositories",
    status = "BackupRepositoryStatus",
    derive = "PartialEq",
    category = "perennial",
    doc = "Where backups lie, how one gets in, and what is expected to be there.",
    annotation("helm.sh/resource-policy", "keep"),
    printcolumn(name = "Format", type_ = "string", json_path = ".spec.format"),
    printcolumn(name = "Location", type_ = "string", json_path = ".status.location"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Claims", type_ = "integer", json_path = ".status.ledger.entries"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct BackupRepositorySpec {
    /// The format of the repository. It cannot be changed.
    pub format: Format,
    /// Where the objects lie.
    pub store: Store,
    /// How repositories lie in the store. It cannot be changed.
    #[serde(default = "layout")]
    pub layout: Layout,
    /// Where the password and the store's keys come from.
    pub credentials: Credentials,
    /// The repository that must be there, by its unique id; any other holds every claim. Once set it cannot be changed.
    /// Only with layout Shared: with PerClaim each claim has a repository, and the ledger knows its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub id: Option<RepositoryId>,
    /// Whether a repository may be created where there is none.
    #[serde(default)]
    pub create: Creation,
    /// A person's word that this store is new and that nothing was ever backed up to it: any tag, such as today's date.
    /// Each tag counts once; the operator notes the one it has used in `status.declaredNew`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub declared_new: Option<String>,
    /// This cluster's name, where several clusters share one repository: it becomes part of every identity. With layout
    /// Shared it cannot be changed, set or removed later, since all histories would be left behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    pub cluster_name: Option<String>,
    /// Which namespaces may use the repository; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_namespaces: Option<Namespaces>,
    /// Upkeep of the repository.
    #[serde(default)]
    pub maintenance: Maintenance,
    /// How many movers run at a time.
    #[serde(default)]
    pub limits: Limits,
    /// When a rebuild is stopped because everything would start empty.
    #[serde(default)]
    pub mass_fresh: MassFresh,
    /// The pod that reads the repository.
    #[serde(default)]
    pub catalog: Catalog,
}

fn layout() -> Layout {
    Layout::PerClaim
}

/// The format of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Kopia's.
    Kopia,
    /// restic's.
    Restic,
}

/// Upkeep of a repository: merging indexes, giving back the storage of snapshots that were forgotten.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Maintenance {
    /// Whether it runs.
    pub enabled: bool,
    /// When: five fields of cron, off the hour, when backups run. What is due decides what a run does.
    #[schemars(length(max = 256), regex(pattern = super::policy::SCHEDULE_PATTERN))]
    pub schedule: String,
    /// In whose name, `user@host`: Kopia's repositories name one client that does it. `maintenance@` and the cluster's
    /// name, or `perennial`, when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 255), regex(pattern = "^[A-Za-z0-9._-]+@[A-Za-z0-9._-]+$"))]
    pub owner: Option<String>,
}

impl Default for Maintenance {
    fn default() -> Self {
        Self { enabled: true, schedule: "37 */6 * * *".to_owned(), owner: None }
    }
}

/// How many movers of the repository run at a time; restores come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    /// In all.
    #[schemars(range(min = 1, max = 1000))]
    pub movers: u32,
    /// On one node, where there is a choice: a volume that only one node can reach is waited for only if that is known.
    #[schemars(range(min = 1, max = 1000))]
    pub per_node: u32,
    /// On volumes of one storage class.
    #[schemars(range(min = 1, max = 1000))]
    pub per_class: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { movers: 8, per_node: 2, per_class: 4 }
    }
}

/// When a rebuild is stopped because everything would start empty although a ledger elsewhere knows of backups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MassFresh {
    /// The claim with this number is held if it and all before it would start empty.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub threshold: u32,
    /// A person's word that starting empty is meant: any tag. Each counts for one rebuild; the operator notes the one it
    /// has used in `status.massFreshConfirmed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub confirmed: Option<String>,
}

impl Default for MassFresh {
    fn default() -> Self {
        Self { threshold: u32::try_from(MASS_FRESH_THRESHOLD).expect("a small constant"), confirmed: None }
    }
}

/// The pod that reads the repository for everyone who asks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Catalog {
    /// Resources of its container, over the installation's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Labels of the nodes it may run on.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints it puts up with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
}

/// What is known of a repository. Everything is absent until it was seen once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupRepositoryStatus {
    /// The generation of the spec that this speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The place on one line, for people: `s3://bucket/prefix`, `nfs://server/path`, `claim:name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// The unique id of the repository that is there, with layout Shared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<RepositoryId>,
    /// Whether the store answered when it was last asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reachable: Option<bool>,
    /// When the numbers below were taken, at most ten minutes ago while it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked: Option<Time>,
    /// How long that look took, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency_ms: Option<u64>,
    /// Finished snapshots in it, of everybody who writes to it, with layout Shared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshots: Option<u64>,
    /// Index blobs in it, with layout Shared: thousands of small ones make every open slow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index_blobs: Option<u64>,
    /// When a step of its upkeep last ended well, whoever did it, with layout Shared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_maintenance: Option<Time>,
    /// What the ledger holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<LedgerStatus>,
    /// The last tag of `spec.declaredNew` that was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared_new: Option<String>,
    /// The last tag of `spec.massFresh.confirmed` that was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mass_fresh_confirmed: Option<String>,
    /// `Ready`, `Reachable` and `Maintained`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// What the ledger beside a repository holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LedgerStatus {
    /// Records, one for each claim that has a backup, as far as this cluster has seen.
    pub entries: u64,
}

impl BackupRepositorySpec {
    /// In whose name upkeep runs: the owner that was given, else `maintenance@` and the cluster's name.
    pub fn maintenance_owner(&self) -> String {
        let cluster = self.cluster_name.as_deref().unwrap_or("perennial");
        self.maintenance.owner.clone().unwrap_or_else(|| format!("maintenance@{cluster}"))
    }

    /// The store on one line, for people.
    pub fn location(&self) -> String {
        match &self.store {
            Store::S3(s3) => match &s3.prefix {
                Some(prefix) => format!("s3://{}/{prefix}", s3.bucket),
                None => format!("s3://{}", s3.bucket),
            },
            Store::Nfs(nfs) => format!("nfs://{}{}", nfs.server, nfs.path),
            Store::Claim(claim) => format!("claim:{}", claim.name),
        }
    }

    /// Whether claims of the namespace `name`, which has these labels, may use the repository.
    pub fn allows(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        self.allowed_namespaces.as_ref().is_none_or(|namespaces| namespaces.contains(name, labels))
    }

    /// The tag of `declaredNew` that still counts, given what was already used.
    pub fn declared_new(&self, status: Option<&BackupRepositoryStatus>) -> Option<&str> {
        let used = status.and_then(|status| status.declared_new.as_deref());
        self.declared_new.as_deref().filter(|tag| Some(*tag) != used)
    }

    /// The tag of `massFresh.confirmed` that still counts, given what was already used.
    pub fn mass_fresh_confirmed(&self, status: Option<&BackupRepositoryStatus>) -> Option<&str> {
        let used = status.and_then(|status| status.mass_fresh_confirmed.as_deref());
        self.mass_fresh.confirmed.as_deref().filter(|tag| Some(*tag) != used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn spec(more: Value) -> BackupRepositorySpec {
        let mut spec = json!({
            "format": "kopia",
            "store": {"s3": {"endpoint": "s3.example.com", "bucket": "backups"}},
            "credentials": {"secretRef": {"name": "s3"}},
        });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn what_is_not_said() {
        let spec = spec(json!({}));
        assert_eq!((spec.layout, spec.create), (Layout::PerClaim, Creation::IfEmpty));
        assert_eq!((spec.maintenance.enabled, spec.maintenance.schedule.as_str()), (true, "37 */6 * * *"));
        assert_eq!(spec.maintenance_owner(), "maintenance@perennial");
        assert_eq!(u64::from(spec.mass_fresh.threshold), MASS_FRESH_THRESHOLD);
        assert!(spec.allows("anywhere", &BTreeMap::new()));
        assert_eq!(spec.location(), "s3://backups");
    }

    #[test]
    fn upkeep_has_one_stable_owner() {
        assert_eq!(spec(json!({"clusterName": "home"})).maintenance_owner(), "maintenance@home");
        let given = spec(json!({"clusterName": "home", "maintenance": {"owner": "maintenance@volsync"}}));
        assert_eq!(given.maintenance_owner(), "maintenance@volsync");
    }

    #[test]
    fn a_persons_word_counts_once_for_each_tag() {
        let spec = spec(json!({"declaredNew": "2026-10-02"}));
        let used = |tag: &str| BackupRepositoryStatus { declared_new: Some(tag.to_owned()), ..Default::default() };
        assert_eq!(spec.declared_new(None), Some("2026-10-02"));
        assert_eq!(spec.declared_new(Some(&used("2026-10-01"))), Some("2026-10-02"));
        assert_eq!(spec.declared_new(Some(&used("2026-10-02"))), None);
        assert_eq!(spec.mass_fresh_confirmed(None), None);
    }
}
