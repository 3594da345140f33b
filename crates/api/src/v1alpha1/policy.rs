//! BackupPolicy: which claims are backed up, when, to where and how.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::claims::Claims;
use super::hooks::Hooks;
use crate::ledger::Thresholds;
use crate::span::Span;
use crate::volsync::options::CopyMethod;

/// What a schedule of ours may be: the part of VolSync's expression that means something, with one blank between fields.
///
/// Five fields, each `*`, `*/n`, `a-b`, `a/n` or a list of numbers; or one of the names that begin with `@`; a time zone
/// may stand before five fields.
pub const SCHEDULE_PATTERN: &str = r"^(@(annually|yearly|monthly|weekly|daily|hourly)|((CRON_)?TZ=[A-Za-z0-9_+/-]+ )?((\d+,)*\d+|\d+[/-]\d+|\*(/\d+)?)( ((\d+,)*\d+|\d+[/-]\d+|\*(/\d+)?)){4})$";

/// Which claims are backed up, when, to where and how.
///
/// A claim takes the first policy that fits it, the largest priority first and names in order where those are equal.
/// Every default is that of the installation.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[expect(clippy::duplicated_attributes, reason = "columns have types in common")]
#[kube(
    group = "perennial.dev",
    version = "v1alpha1",
    kind = "BackupPolicy",
    plural = "backuppolicies",
    status = "BackupPolicyStatus",
    derive = "PartialEq",
    derive = "Default",
    category = "perennial",
    doc = "Which claims are backed up, when, to where and how.",
    annotation("helm.sh/resource-policy", "keep"),
    printcolumn(name = "Priority", type_ = "integer", json_path = ".spec.priority"),
    printcolumn(name = "Repository", type_ = "string", json_path = ".spec.repository"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Protected", type_ = "integer", json_path = ".status.claims.protected"),
    printcolumn(name = "Held", type_ = "integer", json_path = ".status.claims.held"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase", default)]
pub struct BackupPolicySpec {
    /// Where several policies fit a claim, the one with the largest number counts.
    pub priority: i32,
    /// Which claims.
    pub claims: Claims,
    /// The BackupRepository.
    #[schemars(length(min = 1, max = 253))]
    pub repository: String,
    /// Whether no new backup starts. Restores go on.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// The movers' pods.
    pub mover: Mover,
    /// The movers' caches.
    pub cache: Cache,
    /// How a stable copy of a claim is made before it is read.
    pub copy_method: CopyMethod,
    /// Class of VolumeSnapshots; that of the claim's driver when absent, the default one first.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub volume_snapshot_class_name: Option<String>,
    /// Storage class of the copy; the claim's own when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
    /// Access modes of the copy; the claim's own when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4))]
    pub access_modes: Option<Vec<AccessMode>>,
    /// Kopia's name of a compressor. A restic repository knows only whether one is named.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9-]+$"))]
    pub compression: String,
    /// Uploads at a time.
    #[schemars(range(min = 1, max = 64))]
    pub parallelism: u32,
    /// What runs in the claim's pods around the copy.
    #[serde(skip_serializing_if = "Hooks::is_empty")]
    pub hooks: Hooks,
    /// How far a backup may shrink before it is held back.
    pub guard: Guard,
    /// How old a volume must be before its first backup, where it started empty although its identity has a history.
    pub minimum_age: Span,
    /// Backups start up to so much later than the schedule says, each claim always at the same distance. At most 24h.
    pub offset: Span,
    /// Backups start up to so much later still, at random. At most 1h.
    pub jitter: Span,
}

/// The installation's policy: the contract of the label `backup`.
///
/// Classes stay unsaid, so that a copy has the class of its claim and a VolumeSnapshot that of the claim's driver;
/// [`BackupPolicySpec::seeds`] names those of the set-ups that the contract comes from.
impl Default for BackupPolicySpec {
    fn default() -> Self {
        Self {
            priority: 0,
            claims: Claims::default(),
            repository: "default".to_owned(),
            paused: false,
            mover: Mover::default(),
            cache: Cache::default(),
            copy_method: CopyMethod::Snapshot,
            volume_snapshot_class_name: None,
            storage_class_name: None,
            access_modes: None,
            compression: "zstd-fastest".to_owned(),
            parallelism: 2,
            hooks: Hooks::default(),
            guard: Guard::default(),
            minimum_age: Span::of_hours(2),
            offset: Span::of_minutes(5),
            jitter: Span::of_seconds(10),
        }
    }
}

impl BackupPolicySpec {
    /// The default with the classes of the set-ups that the contract comes from: Longhorn.
    pub fn seeds() -> Self {
        Self {
            volume_snapshot_class_name: Some("longhorn-snapclass".to_owned()),
            storage_class_name: Some("longhorn".to_owned()),
            ..Self::default()
        }
    }
}

/// How a volume may be mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum AccessMode {
    /// By one node.
    ReadWriteOnce,
    /// By many nodes, to read.
    ReadOnlyMany,
    /// By many nodes.
    ReadWriteMany,
    /// By one pod.
    ReadWriteOncePod,
}

impl AccessMode {
    /// The mode as claims spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadWriteOnce => "ReadWriteOnce",
            Self::ReadOnlyMany => "ReadOnlyMany",
            Self::ReadWriteMany => "ReadWriteMany",
            Self::ReadWriteOncePod => "ReadWriteOncePod",
        }
    }
}

/// How the movers' pods are made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Mover {
    /// User that reads and writes the files. When absent: whose most files of the snapshot are, or whoever has read all of
    /// the volume before; else as whom the pods run that use the claim; else 568.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub uid: Option<i64>,
    /// Its group; found like the user when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub gid: Option<i64>,
    /// The group that the volume is given to; found like the user when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 2_147_483_647))]
    pub fs_group: Option<i64>,
    /// Resources of the container, over the installation's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Affinity of the pod, beside the node that a mounted volume asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Labels of the pod, over those it has anyway.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub pod_labels: BTreeMap<String, String>,
    /// An existing ServiceAccount in the claim's namespace; one without any rights is made when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub service_account: Option<String>,
}

/// The movers' caches. A class makes them claims that outlive the pod; without one they come and go with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Cache {
    /// Size of each.
    pub capacity: Quantity,
    /// Storage class of each; node-local is best.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
    /// Access modes of each; `ReadWriteOnce` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4))]
    pub access_modes: Option<Vec<AccessMode>>,
}

impl Default for Cache {
    fn default() -> Self {
        Self { capacity: Quantity("2Gi".to_owned()), storage_class_name: None, access_modes: None }
    }
}

/// Below which share of the last good snapshot a new one is held back: stored, but neither restored by itself nor counted
/// in retention until a person accepts it. One without any file is always held back where there were some.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Guard {
    /// Per cent of the files; 0 for no floor.
    #[schemars(range(min = 0, max = 100))]
    pub files_percent: u8,
    /// Per cent of the bytes; 0 for no floor.
    #[schemars(range(min = 0, max = 100))]
    pub bytes_percent: u8,
}

impl Default for Guard {
    fn default() -> Self {
        let Thresholds { files_percent, bytes_percent } = Thresholds::default();
        Self { files_percent, bytes_percent }
    }
}

impl From<Guard> for Thresholds {
    fn from(guard: Guard) -> Self {
        Self { files_percent: guard.files_percent, bytes_percent: guard.bytes_percent }
    }
}

/// What became of a policy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupPolicyStatus {
    /// The generation of the spec that this speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The claims that take this policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claims: Option<ClaimCounts>,
    /// `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// How many claims take a policy, and how they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ClaimCounts {
    /// Those that are backed up.
    pub protected: u64,
    /// Those of them whose last good backup is younger than two intervals.
    pub current: u64,
    /// Those of them that wait for a decision or a restore.
    pub held: u64,
    /// Those that ask not to be backed up and say why.
    pub exempt: u64,
    /// Those that a person must look at: a label that names no schedule, an exemption without a reason.
    pub needs_review: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1alpha1::claims::EXEMPT_REASON;

    #[test]
    fn the_default_is_the_contract_of_the_label() {
        let spec = BackupPolicySpec::default();
        assert_eq!(spec.claims.label.key, "backup");
        let cadences: Vec<_> =
            spec.claims.label.values.iter().map(|c| (c.value.as_str(), c.schedule.as_str())).collect();
        assert_eq!(cadences, [("hourly", "0 * * * *"), ("daily", "0 2 * * *")]);
        assert!(spec.claims.label.values.iter().all(|cadence| {
            let kept = cadence.retain;
            [kept.hourly, kept.daily, kept.weekly, kept.monthly] == [Some(24), Some(7), Some(4), Some(2)]
        }));
        for namespace in ["kube-system", "volsync-system", "kyverno"] {
            assert!(!spec.claims.includes(namespace, &BTreeMap::new()), "{namespace}");
        }
        assert!(spec.claims.includes("media", &BTreeMap::new()));
        assert_eq!((spec.mover.uid, spec.mover.gid, spec.mover.fs_group), (None, None, None));
        assert_eq!((spec.cache.capacity.0.as_str(), spec.copy_method), ("2Gi", CopyMethod::Snapshot));
        assert_eq!((spec.compression.as_str(), spec.parallelism), ("zstd-fastest", 2));
        assert_eq!(spec.claims.exempt.reason_annotations[0], EXEMPT_REASON);
        let seeds = BackupPolicySpec::seeds();
        let classes = (seeds.storage_class_name.as_deref(), seeds.volume_snapshot_class_name.as_deref());
        assert_eq!(classes, (Some("longhorn"), Some("longhorn-snapclass")));
    }

    #[test]
    fn saying_nothing_is_the_default() {
        let spec: BackupPolicySpec = serde_json::from_str("{}").unwrap();
        assert_eq!(spec, BackupPolicySpec::default());
        assert_eq!(Thresholds::from(spec.guard), Thresholds::default());
    }
}
