//! ReplicationDestination: which history is restored, into what, and by which mover.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::kopia::{DestinationKopia, DestinationKopiaStatus};
use super::others::{DestinationRclone, DestinationRsync, DestinationRsyncTls, External};
use super::restic::DestinationRestic;
use super::status::{ForeignStatus, SyncStatus};
use super::trigger::Trigger;

// Sections that few objects have stand apart: thousands of objects are kept in memory.
/// What a ReplicationDestination asks for.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[expect(clippy::duplicated_attributes, reason = "columns have types in common")]
#[kube(
    group = "volsync.backube",
    version = "v1alpha1",
    kind = "ReplicationDestination",
    namespaced,
    status = "ReplicationDestinationStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "A volume that is restored or copied from elsewhere, and when.",
    annotation("helm.sh/resource-policy", "keep"),
    printcolumn(name = "Last sync", type_ = "string", format = "date-time", json_path = ".status.lastSyncTime"),
    printcolumn(name = "Duration", type_ = "string", json_path = ".status.lastSyncDuration"),
    printcolumn(name = "Next sync", type_ = "string", format = "date-time", json_path = ".status.nextSyncTime")
)]
#[serde(rename_all = "camelCase", remote = "Self")]
pub struct ReplicationDestinationSpec {
    /// When; without it one synchronization follows the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger: Option<Trigger>,
    /// Whether nothing is started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// Restore with restic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restic: Option<Box<DestinationRestic>>,
    /// Restore with Kopia.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kopia: Option<DestinationKopia>,
    /// Another mover's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rsync: Option<Box<DestinationRsync>>,
    /// Another mover's.
    #[serde(rename = "rsyncTLS", skip_serializing_if = "Option::is_none")]
    pub rsync_tls: Option<Box<DestinationRsyncTls>>,
    /// Another mover's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rclone: Option<Box<DestinationRclone>>,
    /// Another controller's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<External>,
}

impl<'de> Deserialize<'de> for ReplicationDestinationSpec {
    /// An absent `spec` is an empty one: it arrives as an absent option, which a derived implementation would refuse.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Given(#[serde(with = "ReplicationDestinationSpec")] ReplicationDestinationSpec);
        Ok(Option::<Given>::deserialize(deserializer)?.map(|given| given.0).unwrap_or_default())
    }
}

impl Serialize for ReplicationDestinationSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

/// What became of a ReplicationDestination.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReplicationDestinationStatus {
    /// How far its synchronizations are.
    #[serde(flatten)]
    pub sync: SyncStatus,
    /// The newest complete image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest_image: Option<LatestImage>,
    /// What the Kopia mover found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kopia: Option<DestinationKopiaStatus>,
    /// Another mover's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rsync: Option<ForeignStatus>,
    /// Another mover's.
    #[serde(rename = "rsyncTLS", skip_serializing_if = "Option::is_none")]
    pub rsync_tls: Option<ForeignStatus>,
}

/// A VolumeSnapshot or a claim of the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct LatestImage {
    /// Its group; absent for a claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_group: Option<String>,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
}
