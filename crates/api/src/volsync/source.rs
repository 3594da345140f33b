//! ReplicationSource: which claim is backed up, when, and by which mover.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::kopia::{SourceKopia, SourceKopiaStatus};
use super::others::{External, SourceRclone, SourceRsync, SourceRsyncTls, SourceSyncthing};
use super::restic::{SourceRestic, SourceResticStatus};
use super::status::{ForeignStatus, SyncStatus};
use super::trigger::Trigger;

// Sections that few objects have stand apart: thousands of objects are kept in memory.
/// What a ReplicationSource asks for.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[expect(clippy::duplicated_attributes, reason = "columns have types in common")]
#[kube(
    group = "volsync.backube",
    version = "v1alpha1",
    kind = "ReplicationSource",
    namespaced,
    status = "ReplicationSourceStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A claim that is backed up or copied elsewhere, and when.",
    annotation("helm.sh/resource-policy", "keep"),
    printcolumn(name = "Source", type_ = "string", json_path = ".spec.sourcePVC"),
    printcolumn(name = "Last sync", type_ = "string", format = "date-time", json_path = ".status.lastSyncTime"),
    printcolumn(name = "Duration", type_ = "string", json_path = ".status.lastSyncDuration"),
    printcolumn(name = "Next sync", type_ = "string", format = "date-time", json_path = ".status.nextSyncTime")
)]
#[serde(rename_all = "camelCase", remote = "Self")]
pub struct ReplicationSourceSpec {
    /// The claim, in the same namespace.
    #[serde(rename = "sourcePVC", skip_serializing_if = "Option::is_none")]
    pub source_pvc: Option<String>,
    /// When; without it one synchronization follows the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger: Option<Trigger>,
    /// Whether nothing is started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// Back up with restic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restic: Option<Box<SourceRestic>>,
    /// Back up with Kopia.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kopia: Option<SourceKopia>,
    /// Another mover's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rsync: Option<Box<SourceRsync>>,
    /// Another mover's.
    #[serde(rename = "rsyncTLS", skip_serializing_if = "Option::is_none")]
    pub rsync_tls: Option<Box<SourceRsyncTls>>,
    /// Another mover's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rclone: Option<Box<SourceRclone>>,
    /// Another mover's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub syncthing: Option<Box<SourceSyncthing>>,
    /// Another controller's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<External>,
}

impl<'de> Deserialize<'de> for ReplicationSourceSpec {
    /// An absent `spec` is an empty one: it arrives as an absent option, which a derived implementation would refuse.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Given(#[serde(with = "ReplicationSourceSpec")] ReplicationSourceSpec);
        Ok(Option::<Given>::deserialize(deserializer)?.map(|given| given.0).unwrap_or_default())
    }
}

impl Serialize for ReplicationSourceSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

/// What became of a ReplicationSource.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicationSourceStatus {
    /// How far its synchronizations are.
    #[serde(flatten)]
    pub sync: SyncStatus,
    /// What the restic mover keeps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restic: Option<SourceResticStatus>,
    /// What the Kopia mover keeps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kopia: Option<SourceKopiaStatus>,
    /// Another mover's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rsync: Option<ForeignStatus>,
    /// Another mover's.
    #[serde(rename = "rsyncTLS", skip_serializing_if = "Option::is_none")]
    pub rsync_tls: Option<ForeignStatus>,
    /// Another mover's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub syncthing: Option<ForeignStatus>,
}
