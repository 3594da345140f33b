//! What the sections of all movers share: how volumes are copied and how the mover's pod is made.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::{
    Affinity, NFSVolumeSource, PersistentVolumeClaimVolumeSource, PodSecurityContext, ResourceRequirements,
    SecretVolumeSource,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a stable copy of a volume is made. It has no default: leaving it out is an error that the condition names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum CopyMethod {
    /// No copy: the volume itself.
    Direct,
    /// An older name of `Direct`.
    None,
    /// A clone by the storage system.
    Clone,
    /// A VolumeSnapshot, and a volume made of it.
    Snapshot,
}

impl CopyMethod {
    /// The value as the schema spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "Direct",
            Self::None => "None",
            Self::Clone => "Clone",
            Self::Snapshot => "Snapshot",
        }
    }

    /// Whether the volume itself is used.
    pub fn is_direct(self) -> bool {
        match self {
            Self::Direct | Self::None => true,
            Self::Clone | Self::Snapshot => false,
        }
    }
}

impl fmt::Display for CopyMethod {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// How the point-in-time copy of a source is made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeOptions {
    /// How a stable copy of the volume is made. Required in effect, although the schema has it optional.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copy_method: Option<CopyMethod>,
    /// Source: size of the copy, in place of the source's. Destination: size of the volume that is made, required unless
    /// `destinationPVC` is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Quantity>,
    /// Source: storage class of the copy, else the source's. Destination: class of the volume that is made, else the
    /// cluster's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_class_name: Option<String>,
    /// Source: access modes of the copy, else the source's. Destination: required unless `destinationPVC` is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub access_modes: Option<Vec<String>>,
    /// Class of VolumeSnapshots; the driver's default when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_snapshot_class_name: Option<String>,
}

/// Into which volume a destination writes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DestinationVolumeOptions {
    /// How the volume is made and what is made of it afterwards.
    #[serde(flatten)]
    pub volume: VolumeOptions,
    /// An existing claim to write into, in the same namespace.
    #[serde(rename = "destinationPVC", skip_serializing_if = "Option::is_none")]
    pub destination_pvc: Option<String>,
    /// Whether the volume that was made is deleted after each successful synchronization.
    #[serde(rename = "cleanupTempPVC", skip_serializing_if = "Option::is_none")]
    pub cleanup_temp_pvc: Option<bool>,
}

/// How the mover's pod is made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MoverConfig {
    /// The pod's security context, taken as it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mover_security_context: Option<PodSecurityContext>,
    /// An existing ServiceAccount; one is made when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mover_service_account: Option<String>,
    /// Labels of the pod, over those it has anyway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mover_pod_labels: Option<BTreeMap<String, String>>,
    /// Resources of the container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mover_resources: Option<ResourceRequirements>,
    /// Affinity of the pod, beside the node that a mounted volume asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mover_affinity: Option<Affinity>,
    /// More volumes, mounted below `/mnt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mover_volumes: Option<Vec<MoverVolume>>,
}

/// A volume that is mounted at `/mnt/<mountPath>` in the mover's pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MoverVolume {
    /// Where, below `/mnt`.
    pub mount_path: String,
    /// What; exactly one member is to be set.
    pub volume_source: MoverVolumeSource,
}

/// What is mounted; exactly one member is to be set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MoverVolumeSource {
    /// A Secret of the same namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretVolumeSource>,
    /// A directory of an NFS server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nfs: Option<NFSVolumeSource>,
    /// A claim of the same namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<PersistentVolumeClaimVolumeSource>,
}

/// Certificate authorities for the store. Without a key it has no effect; a Secret outweighs a ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CustomCa {
    /// A Secret of the same namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
    /// A ConfigMap of the same namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map_name: Option<String>,
    /// The key of the certificates, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// Where the repository's cache lies.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CacheOptions {
    /// Its size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_capacity: Option<Quantity>,
    /// Storage class of its claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_storage_class_name: Option<String>,
    /// Access modes of its claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_access_modes: Option<Vec<String>>,
}

/// A number of snapshots as retention counts them. A negative one keeps all: that is what it means to restic, and the
/// only reading of it that removes nothing.
pub(super) fn kept(count: i32) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
