//! `spec.kopia` of both kinds.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::options::{CacheOptions, CustomCa, DestinationVolumeOptions, MoverConfig, VolumeOptions, kept};
use super::trigger::Moment;
use crate::retain::Retain;

/// What a username or hostname may be.
pub const NAME_PATTERN: &str = "^[a-zA-Z0-9][a-zA-Z0-9._-]*[a-zA-Z0-9]$|^[a-zA-Z0-9]$";

/// What a path in a snapshot may be.
pub const PATH_PATTERN: &str = "^/.*";

/// Back up with Kopia.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceKopia {
    /// The point-in-time copy.
    #[serde(flatten)]
    pub volume: VolumeOptions,
    /// The Secret that says where the repository is, in the same namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Certificate authorities for the store.
    #[serde(rename = "customCA", skip_serializing_if = "Option::is_none")]
    pub custom_ca: Option<CustomCa>,
    /// Which snapshots stay; the repository's own policy when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retain: Option<KopiaRetain>,
    /// Kopia's name of a compressor, as in `zstd-fastest`; the repository's own policy when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression: Option<String>,
    /// Uploads at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<i32>,
    /// The cache.
    #[serde(flatten)]
    pub cache: KopiaCache,
    /// Shell commands that run in the mover's pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actions: Option<KopiaActions>,
    /// Policy files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_config: Option<KopiaPolicyConfig>,
    /// Who, in the snapshot's identity; derived from the object's name when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = NAME_PATTERN))]
    pub username: Option<String>,
    /// Where, in the snapshot's identity; derived from the namespace when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = NAME_PATTERN))]
    pub hostname: Option<String>,
    /// The path recorded in the snapshot; `/data` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = PATH_PATTERN))]
    pub source_path_override: Option<String>,
    /// More flags for Kopia.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20))]
    pub additional_args: Option<Vec<String>>,
    /// The mover's pod.
    #[serde(flatten)]
    pub mover: MoverConfig,
}

/// Restore with Kopia.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DestinationKopia {
    /// The volume that is written.
    #[serde(flatten)]
    pub volume: DestinationVolumeOptions,
    /// The Secret that says where the repository is, in the same namespace; taken from the source that `sourceIdentity`
    /// names when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Certificate authorities for the store.
    #[serde(rename = "customCA", skip_serializing_if = "Option::is_none")]
    pub custom_ca: Option<CustomCa>,
    /// The cache.
    #[serde(flatten)]
    pub cache: KopiaCache,
    /// Whether the cache's claim is deleted after each successful synchronization.
    #[serde(rename = "cleanupCachePVC", skip_serializing_if = "Option::is_none")]
    pub cleanup_cache_pvc: Option<bool>,
    /// Take the newest snapshot that is not newer than this moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restore_as_of: Option<Moment>,
    /// Directories deeper than this stay unwritten; of little use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shallow: Option<i32>,
    /// How many snapshots to skip, counted from the newest; 0 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<i32>,
    /// Policy files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_config: Option<KopiaPolicyConfig>,
    /// Whose snapshots these are, by the ReplicationSource that made them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_identity: Option<SourceIdentity>,
    /// Who, in the snapshots' identity; only together with `hostname`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = NAME_PATTERN))]
    pub username: Option<String>,
    /// Where, in the snapshots' identity; only together with `username`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = NAME_PATTERN))]
    pub hostname: Option<String>,
    /// Whether files that the snapshot does not have are removed from the volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_file_deletion: Option<bool>,
    /// More flags for Kopia.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 20))]
    pub additional_args: Option<Vec<String>>,
    /// The mover's pod.
    #[serde(flatten)]
    pub mover: MoverConfig,
}

impl SourceKopia {
    /// The fields that are set and that our mover passes over.
    pub fn unserved(&self) -> Vec<&'static str> {
        let set = [
            (self.actions.is_some(), "actions"),
            (self.policy_config.is_some(), "policyConfig"),
            (self.additional_args.as_ref().is_some_and(|flags| !flags.is_empty()), "additionalArgs"),
        ];
        set.into_iter().filter_map(|(is_set, name)| is_set.then_some(name)).collect()
    }
}

impl DestinationKopia {
    /// The fields that are set and that our mover passes over.
    pub fn unserved(&self) -> Vec<&'static str> {
        let set = [
            (self.shallow.is_some_and(|depth| depth > 0), "shallow"),
            (self.policy_config.is_some(), "policyConfig"),
            (self.additional_args.as_ref().is_some_and(|flags| !flags.is_empty()), "additionalArgs"),
        ];
        set.into_iter().filter_map(|(is_set, name)| is_set.then_some(name)).collect()
    }
}

/// How many snapshots stay, per period.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KopiaRetain {
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
    /// The newest so many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest: Option<i32>,
}

impl From<&KopiaRetain> for Retain {
    fn from(retain: &KopiaRetain) -> Self {
        Self {
            hourly: retain.hourly.map(kept),
            daily: retain.daily.map(kept),
            weekly: retain.weekly.map(kept),
            monthly: retain.monthly.map(kept),
            yearly: retain.yearly.map(kept),
            within: None,
            last: None,
            latest: retain.latest.map(kept),
        }
    }
}

/// Where Kopia's cache lies and how large its parts may be.
///
/// A storage class or access modes make it a claim; without them it lives and dies with the pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KopiaCache {
    /// The place.
    #[serde(flatten)]
    pub place: CacheOptions,
    /// MB of metadata; 70 % of the capacity when absent, 0 for no limit.
    #[serde(rename = "metadataCacheSizeLimitMB", skip_serializing_if = "Option::is_none")]
    pub metadata_cache_size_limit_mb: Option<i32>,
    /// MB of contents; 20 % of the capacity when absent, 0 for no limit.
    #[serde(rename = "contentCacheSizeLimitMB", skip_serializing_if = "Option::is_none")]
    pub content_cache_size_limit_mb: Option<i32>,
}

/// Shell commands that run in the mover's pod around the snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KopiaActions {
    /// Before it is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before_snapshot: Option<String>,
    /// After it was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_snapshot: Option<String>,
}

/// Kopia's policies and settings from files. A Secret and a ConfigMap together are an error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KopiaPolicyConfig {
    /// The Secret that holds the files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
    /// The ConfigMap that holds the files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map_name: Option<String>,
    /// Key of the global policy; `global-policy.json` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub global_policy_filename: Option<String>,
    /// Key of the repository's settings; `repository.config` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository_config_filename: Option<String>,
    /// The repository's settings themselves, JSON of at most 1 MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository_config: Option<String>,
}

/// Whose snapshots a destination restores.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceIdentity {
    /// The ReplicationSource that made them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_name: Option<String>,
    /// Its namespace; the destination's when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_namespace: Option<String>,
    /// Its claim. It has no part in the identity, and keeps the source from being looked up.
    #[serde(rename = "sourcePVCName", skip_serializing_if = "Option::is_none")]
    pub source_pvc_name: Option<String>,
    /// The path recorded in the snapshots; the source's, else `/data`, when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = PATH_PATTERN))]
    pub source_path_override: Option<String>,
}

/// What the Kopia mover keeps between synchronizations of a source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceKopiaStatus {
    /// When maintenance last ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_maintenance: Option<Time>,
    /// When it is due next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_scheduled_maintenance: Option<Time>,
    /// How often it has failed since it last worked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maintenance_failures: Option<i32>,
    /// The KopiaMaintenance that looks after the repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kopia_maintenance: Option<String>,
    /// The limits of the cache that the mover set last.
    #[serde(flatten)]
    pub configured: ConfiguredCache,
}

/// What the Kopia mover found for a destination.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DestinationKopiaStatus {
    /// The identity that was asked for, `username@hostname:path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested_identity: Option<String>,
    /// How many snapshots it has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshots_found: Option<i32>,
    /// What the repository has, when nothing was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available_identities: Option<Vec<AvailableIdentity>>,
    /// The limits of the cache that the mover set last.
    #[serde(flatten)]
    pub configured: ConfiguredCache,
}

/// The limits of the cache that the mover set last, in MB.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfiguredCache {
    /// Of metadata.
    #[serde(rename = "lastConfiguredMetadataCacheSizeLimitMB", skip_serializing_if = "Option::is_none")]
    pub last_configured_metadata_cache_size_limit_mb: Option<i32>,
    /// Of contents.
    #[serde(rename = "lastConfiguredContentCacheSizeLimitMB", skip_serializing_if = "Option::is_none")]
    pub last_configured_content_cache_size_limit_mb: Option<i32>,
}

/// An identity that the repository has snapshots of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AvailableIdentity {
    /// `username@hostname:path`.
    pub identity: String,
    /// How many.
    pub snapshot_count: i32,
    /// When the newest was taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest_snapshot: Option<Time>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_negative_number_removes_nothing() {
        let retain =
            Retain::from(&KopiaRetain { daily: Some(-1), weekly: Some(4), latest: Some(0), ..Default::default() });
        let expected = Retain { daily: Some(u32::MAX), weekly: Some(4), latest: Some(0), ..Retain::default() };
        assert_eq!(retain, expected);
    }
}
