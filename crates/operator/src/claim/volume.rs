//! A volume that was filled for a claim changes hands. Whoever filled it, the claim becomes its owner in the same way.

use std::collections::BTreeMap;

use api::naming::{ClaimKey, prime_name};
use k8s_openapi::api::core::v1::{
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec, TypedObjectReference,
    VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::Api;
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

use crate::apply;
use crate::caches::{Caches, key};
use crate::context::Context;
use crate::error::Error;
use crate::names::{CREATED_BY, CREATOR, MANAGED_BY, MANAGER, POPULATED_FROM, POPULATOR_FOR, SELECTED_NODE};

/// Whether it is known where a volume belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// It does not matter, or it is known.
    Known,
    /// Where the first pod that uses it will run.
    WaitsForConsumer,
}

/// Whether it is known where the claim's volume belongs.
pub fn placement(claim: &PersistentVolumeClaim, caches: &Caches) -> Placement {
    let class = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    let class = class.and_then(|name| caches.classes.get(&key(name, None)));
    let is_late = class.is_some_and(|class| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"));
    if is_late && !claim.annotations().contains_key(SELECTED_NODE) {
        Placement::WaitsForConsumer
    } else {
        Placement::Known
    }
}

/// The claim as an owner. It is never held up by what it owns.
pub fn owner(claim: &PersistentVolumeClaim, is_controller: bool) -> OwnerReference {
    OwnerReference {
        api_version: PersistentVolumeClaim::api_version(&()).into_owned(),
        kind: PersistentVolumeClaim::kind(&()).into_owned(),
        name: claim.name_any(),
        uid: claim.uid().unwrap_or_default(),
        controller: is_controller.then_some(true),
        block_owner_deletion: None,
    }
}

/// The claim whose volume is filled: of the same size, class and modes, and on the node where it will be used. `source`
/// fills it at once; without one somebody writes into it, or it stays empty.
pub fn prime(
    claim: &PersistentVolumeClaim,
    names: &ClaimKey,
    source: Option<TypedObjectReference>,
) -> PersistentVolumeClaim {
    let wanted = claim.spec.clone().unwrap_or_default();
    let labels =
        [(MANAGED_BY, MANAGER.to_owned()), (CREATED_BY, CREATOR.to_owned()), (POPULATOR_FOR, names.label_value())];
    let node = claim.annotations().get(SELECTED_NODE);
    let annotations: BTreeMap<String, String> =
        node.map(|node| (SELECTED_NODE.to_owned(), node.clone())).into_iter().collect();
    let spec = PersistentVolumeClaimSpec {
        access_modes: wanted.access_modes,
        resources: wanted.resources.map(|resources| VolumeResourceRequirements { limits: None, ..resources }),
        storage_class_name: wanted.storage_class_name,
        volume_mode: wanted.volume_mode,
        volume_attributes_class_name: wanted.volume_attributes_class_name,
        data_source_ref: source,
        ..PersistentVolumeClaimSpec::default()
    };
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(prime_name(&claim.uid().unwrap_or_default())),
            namespace: Some(names.namespace().to_owned()),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value)).into()),
            annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
            owner_references: Some(vec![owner(claim, true)]),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    }
}

/// UID of the claim that a volume belongs to.
pub fn holder(volume: &PersistentVolume) -> Option<String> {
    volume.spec.as_ref()?.claim_ref.as_ref()?.uid.clone()
}

/// A volume by its name.
///
/// # Errors
/// The API server does not answer.
pub async fn get(name: &str, context: &Context) -> Result<Option<PersistentVolume>, Error> {
    let volumes: Api<PersistentVolume> = Api::all(context.client.clone());
    volumes.get_opt(name).await.map_err(Error::kubernetes(format!("get PersistentVolume {name}")))
}

/// Gives a volume to the claim, in one write. Its reclaim policy stays what its class says: a claim that is deleted before it
/// is bound takes the volume with it. `from` says what is in it; `more` are annotations.
///
/// # Errors
/// The API server refuses, also if the volume has changed since.
pub async fn hand_over(
    claim: &PersistentVolumeClaim,
    volume: &PersistentVolume,
    from: &str,
    more: &[(&str, String)],
    context: &Context,
) -> Result<(), Error> {
    let namespace = claim.namespace().unwrap_or_default();
    let mut annotations = json!({POPULATED_FROM: format!("{namespace}/{from}")});
    if let Value::Object(annotations) = &mut annotations {
        annotations.extend(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone().into())));
    }
    let change = json!({
        "metadata": {"resourceVersion": volume.resource_version(), "annotations": annotations},
        "spec": {
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": namespace,
                "name": claim.name_any(),
                "uid": claim.uid(),
                "resourceVersion": claim.resource_version(),
            },
        },
    });
    let volumes: Api<PersistentVolume> = Api::all(context.client.clone());
    let name = volume.name_any();
    let what = format!("give PersistentVolume {name} to claim {namespace}/{}", claim.name_any());
    apply::merge(&volumes, &name, &change, &what).await.map(drop)
}
