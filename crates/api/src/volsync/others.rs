//! Sections of movers that are not ours: carried, so that such an object loses nothing by passing through this schema.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::options::{CustomCa, DestinationVolumeOptions, MoverConfig, VolumeOptions};

/// For a controller that is neither VolSync's nor ours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct External {
    /// Whose; it should begin with a domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// What that controller reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<BTreeMap<String, String>>,
}

/// Pushes over rsync and SSH.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceRsync {
    /// The point-in-time copy.
    #[serde(flatten)]
    pub volume: VolumeOptions,
    /// What both sides have.
    #[serde(flatten)]
    pub connection: RsyncConnection,
    /// The mover's pod.
    #[serde(flatten)]
    pub mover: RsyncMover,
}

/// Takes what is pushed over rsync and SSH.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DestinationRsync {
    /// The volume that is written.
    #[serde(flatten)]
    pub volume: DestinationVolumeOptions,
    /// What both sides have.
    #[serde(flatten)]
    pub connection: RsyncConnection,
    /// Annotations of the Service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_annotations: Option<BTreeMap<String, String>>,
    /// `Filesystem` or `Block`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_mode: Option<String>,
    /// The mover's pod.
    #[serde(flatten)]
    pub mover: RsyncMover,
}

/// How the two sides of rsync over SSH find and know each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RsyncConnection {
    /// The Secret with the keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh_keys: Option<String>,
    /// Kind of the Service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_type: Option<String>,
    /// The other side's host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The other side's port.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 65535))]
    pub port: Option<i32>,
    /// The other side's directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The other side's user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ssh_user: Option<String>,
}

/// How the pod of rsync over SSH is made; less than other movers have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RsyncMover {
    /// An existing ServiceAccount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mover_service_account: Option<String>,
    /// Labels of the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mover_pod_labels: Option<BTreeMap<String, String>>,
    /// Resources of the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mover_resources: Option<ResourceRequirements>,
}

/// Pushes over rsync and TLS.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceRsyncTls {
    /// The point-in-time copy.
    #[serde(flatten)]
    pub volume: VolumeOptions,
    /// The Secret with the shared key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_secret: Option<String>,
    /// The other side's host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The other side's port.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 65535))]
    pub port: Option<i32>,
    /// The mover's pod.
    #[serde(flatten)]
    pub mover: MoverConfig,
}

/// Takes what is pushed over rsync and TLS.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DestinationRsyncTls {
    /// The volume that is written.
    #[serde(flatten)]
    pub volume: DestinationVolumeOptions,
    /// The Secret with the shared key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_secret: Option<String>,
    /// Kind of the Service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_type: Option<String>,
    /// Annotations of the Service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_annotations: Option<BTreeMap<String, String>>,
    /// `Filesystem` or `Block`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_mode: Option<String>,
    /// The mover's pod.
    #[serde(flatten)]
    pub mover: MoverConfig,
}

/// Copies to a store with rclone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceRclone {
    /// The point-in-time copy.
    #[serde(flatten)]
    pub volume: VolumeOptions,
    /// The store.
    #[serde(flatten)]
    pub store: RcloneStore,
    /// The mover's pod.
    #[serde(flatten)]
    pub mover: MoverConfig,
}

/// Copies from a store with rclone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DestinationRclone {
    /// The volume that is written.
    #[serde(flatten)]
    pub volume: DestinationVolumeOptions,
    /// The store.
    #[serde(flatten)]
    pub store: RcloneStore,
    /// The mover's pod.
    #[serde(flatten)]
    pub mover: MoverConfig,
}

/// Where rclone copies to and from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RcloneStore {
    /// The section of the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rclone_config_section: Option<String>,
    /// The directory in the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rclone_dest_path: Option<String>,
    /// The Secret with the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rclone_config: Option<String>,
    /// Certificate authorities for the store.
    #[serde(rename = "customCA", skip_serializing_if = "Option::is_none")]
    pub custom_ca: Option<CustomCa>,
}

/// Keeps volumes alike with Syncthing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SourceSyncthing {
    /// Whom to talk to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peers: Option<Vec<SyncthingPeer>>,
    /// Kind of the Service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_type: Option<String>,
    /// Size of the claim for its configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_capacity: Option<Quantity>,
    /// Storage class of that claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_storage_class_name: Option<String>,
    /// Access modes of that claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_access_modes: Option<Vec<String>>,
    /// The mover's pod.
    #[serde(flatten)]
    pub mover: MoverConfig,
}

/// Another Syncthing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SyncthingPeer {
    /// Its address.
    pub address: String,
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Whether it introduces others.
    pub introducer: bool,
}
