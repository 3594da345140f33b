//! `spec.restic` of both kinds.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::options::{CacheOptions, CustomCa, DestinationVolumeOptions, MoverConfig, VolumeOptions, kept};
use super::trigger::Moment;
use crate::retain::Retain;

/// Back up with restic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceRestic {
    /// The point-in-time copy.
    #[serde(flatten)]
    pub volume: VolumeOptions,
    /// The Secret that says where the repository is, in the same namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Certificate authorities for the store.
    #[serde(rename = "customCA", skip_serializing_if = "Option::is_none")]
    pub custom_ca: Option<CustomCa>,
    /// Days between prunes; 7 when absent, 0 prunes at every synchronization.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prune_interval_days: Option<i32>,
    /// Which snapshots stay; only the newest one when nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retain: Option<ResticRetain>,
    /// The cache.
    #[serde(flatten)]
    pub cache: CacheOptions,
    /// Any tag: the repository is unlocked before the backup when it differs from `status.restic.lastUnlocked`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unlock: Option<String>,
    /// What is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude: Option<ResticExclude>,
    /// The mover's pod.
    #[serde(flatten)]
    pub mover: MoverConfig,
}

/// What a restic backup leaves out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResticExclude {
    /// Whether directories that are marked as caches (CACHEDIR.TAG) are left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caches: Option<bool>,
}

/// Restore with restic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DestinationRestic {
    /// The volume that is written.
    #[serde(flatten)]
    pub volume: DestinationVolumeOptions,
    /// The Secret that says where the repository is, in the same namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Certificate authorities for the store.
    #[serde(rename = "customCA", skip_serializing_if = "Option::is_none")]
    pub custom_ca: Option<CustomCa>,
    /// The cache.
    #[serde(flatten)]
    pub cache: CacheOptions,
    /// Whether the cache's claim is deleted after each successful synchronization.
    #[serde(rename = "cleanupCachePVC", skip_serializing_if = "Option::is_none")]
    pub cleanup_cache_pvc: Option<bool>,
    /// How many snapshots to skip, counted from the newest; 0 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<i32>,
    /// Take the newest snapshot that is not newer than this moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore_as_of: Option<Moment>,
    /// Whether files that the snapshot does not have are removed from the volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_file_deletion: Option<bool>,
    /// The mover's pod.
    #[serde(flatten)]
    pub mover: MoverConfig,
}

/// How many snapshots stay, per period.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResticRetain {
    /// The newest snapshot of each of so many hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hourly: Option<i32>,
    /// The newest snapshot of each of so many days.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daily: Option<i32>,
    /// The newest snapshot of each of so many weeks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weekly: Option<i32>,
    /// The newest snapshot of each of so many months.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monthly: Option<i32>,
    /// The newest snapshot of each of so many years.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub yearly: Option<i32>,
    /// Everything younger than this span before the newest snapshot, as in `3d12h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
    /// The newest so many, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
}

impl From<&ResticRetain> for Retain {
    fn from(retain: &ResticRetain) -> Self {
        Self {
            hourly: retain.hourly.map(kept),
            daily: retain.daily.map(kept),
            weekly: retain.weekly.map(kept),
            monthly: retain.monthly.map(kept),
            yearly: retain.yearly.map(kept),
            within: retain.within.clone(),
            last: retain.last.clone(),
            latest: None,
        }
    }
}

/// What the restic mover keeps between synchronizations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceResticStatus {
    /// When the repository was last pruned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_pruned: Option<Time>,
    /// The tag of the last unlock that ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_unlocked: Option<String>,
}
