//! VolumeSnapshot and its class, as much of them as is used. Source: external-snapshotter, `snapshot.storage.k8s.io/v1`.

use std::borrow::Cow;

use k8s_openapi::ClusterResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{CustomResource, Resource};
use serde::{Deserialize, Serialize};

/// What is to be copied.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "snapshot.storage.k8s.io",
    version = "v1",
    kind = "VolumeSnapshot",
    namespaced,
    status = "VolumeSnapshotStatus",
    derive = "PartialEq",
    schema = "disabled"
)]
#[serde(rename_all = "camelCase")]
pub struct VolumeSnapshotSpec {
    /// Of what.
    #[serde(default)]
    pub source: VolumeSnapshotSource,
    /// By which class; the driver's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_snapshot_class_name: Option<String>,
}

/// Of what a snapshot is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeSnapshotSource {
    /// A claim of the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim_name: Option<String>,
}

/// How far it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeSnapshotStatus {
    /// The driver's side of it.
    #[serde(default)]
    pub bound_volume_snapshot_content_name: Option<String>,
    /// Whether a volume can be made of it.
    #[serde(default)]
    pub ready_to_use: Option<bool>,
    /// The smallest volume that can be made of it.
    #[serde(default)]
    pub restore_size: Option<String>,
    /// What the driver said last, if it failed.
    #[serde(default)]
    pub error: Option<VolumeSnapshotError>,
}

/// A failure of the driver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSnapshotError {
    /// In its words.
    #[serde(default)]
    pub message: Option<String>,
}

impl VolumeSnapshot {
    /// Whether a volume can be made of it; a driver that does not say so is believed once it has the snapshot.
    pub fn is_ready(&self) -> bool {
        self.status.as_ref().is_some_and(|status| {
            status.bound_volume_snapshot_content_name.is_some() && status.ready_to_use != Some(false)
        })
    }

    /// What the driver said, if it failed.
    pub fn failure(&self) -> Option<&str> {
        self.status.as_ref()?.error.as_ref()?.message.as_deref()
    }
}

/// A way to take VolumeSnapshots, as much of it as is used.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct VolumeSnapshotClass {
    /// Its name.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// Whose volumes it is for.
    #[serde(default)]
    pub driver: String,
}

/// By hand: the kind has no `spec`, which the derived form asks for.
impl Resource for VolumeSnapshotClass {
    type DynamicType = ();
    type Scope = ClusterResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "VolumeSnapshotClass".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "snapshot.storage.k8s.io".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "volumesnapshotclasses".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_what_has_a_content_and_does_not_deny_it() {
        let with = |status: &str| {
            let status: VolumeSnapshotStatus = serde_json::from_str(status).unwrap();
            VolumeSnapshot { status: Some(status), ..VolumeSnapshot::new("s", VolumeSnapshotSpec::default()) }
        };
        assert!(!VolumeSnapshot::new("s", VolumeSnapshotSpec::default()).is_ready());
        assert!(!with(r#"{"readyToUse": true}"#).is_ready());
        assert!(with(r#"{"boundVolumeSnapshotContentName": "c"}"#).is_ready());
        assert!(with(r#"{"boundVolumeSnapshotContentName": "c", "readyToUse": true}"#).is_ready());
        assert!(!with(r#"{"boundVolumeSnapshotContentName": "c", "readyToUse": false}"#).is_ready());
        assert_eq!(with(r#"{"error": {"message": "disk is full", "time": "x"}}"#).failure(), Some("disk is full"));
    }
}
