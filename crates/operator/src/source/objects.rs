//! What a backup needs for a while: a VolumeSnapshot, a claim made of it or a clone, and the Job. Pure.

use std::collections::BTreeMap;

use api::decide::{Creation, Proof};
use api::mover::{BackupTask, Task};
use api::naming::{ClaimKey, source_job_name};
use api::recorded::{Recorded, Verdict};
use api::retain::Retain;
use api::volsync::ReplicationSource;
use api::volsync::kopia::SourceKopia;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, TypedLocalObjectReference, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

use super::observe::Observed;
use crate::authorities::Authorities;
use crate::consumers::{self, Place};
use crate::credentials;
use crate::job::{self, Direction, Identity, Run};
use crate::names::{CLEANUP, CREATED_BY, CREATOR, DECISION};
use crate::quantity;
use crate::repository;
use crate::snapshots::{VolumeSnapshot, VolumeSnapshotSource, VolumeSnapshotSpec};
use crate::sync::{self, MANUAL};

/// Name, namespace, owner and marks of a temporary object.
fn metadata(source: &ReplicationSource) -> ObjectMeta {
    let labels = [(CREATED_BY, CREATOR.to_owned()), (CLEANUP, source.uid().unwrap_or_default())];
    ObjectMeta {
        name: Some(format!("volsync-{}-src", source.name_any())),
        namespace: source.namespace(),
        labels: Some(labels.map(|(key, value)| (key.to_owned(), value)).into()),
        owner_references: Some(vec![sync::owner(source)]),
        ..ObjectMeta::default()
    }
}

/// The VolumeSnapshot.
pub fn snapshot(source: &ReplicationSource, claim: &PersistentVolumeClaim, manual: &str) -> VolumeSnapshot {
    let class = section(source).and_then(|kopia| kopia.volume.volume_snapshot_class_name.clone());
    let spec = VolumeSnapshotSpec {
        source: VolumeSnapshotSource { persistent_volume_claim_name: Some(claim.name_any()) },
        volume_snapshot_class_name: class,
    };
    let mut snapshot = VolumeSnapshot { metadata: metadata(source), spec, status: None };
    snapshot.annotations_mut().insert(MANUAL.to_owned(), manual.to_owned());
    snapshot
}

/// A claim made of a VolumeSnapshot.
pub fn copy(source: &ReplicationSource, claim: &PersistentVolumeClaim, of: &VolumeSnapshot) -> PersistentVolumeClaim {
    let reference = TypedLocalObjectReference {
        api_group: Some("snapshot.storage.k8s.io".to_owned()),
        kind: "VolumeSnapshot".to_owned(),
        name: of.name_any(),
    };
    let size = of.status.as_ref().and_then(|status| status.restore_size.clone()).map(Quantity);
    made_of(source, claim, reference, size.filter(|size| quantity::bytes(size) != Some(0)))
}

/// A clone.
pub fn clone(source: &ReplicationSource, claim: &PersistentVolumeClaim, manual: &str) -> PersistentVolumeClaim {
    let reference =
        TypedLocalObjectReference { api_group: None, kind: "PersistentVolumeClaim".to_owned(), name: claim.name_any() };
    let mut clone = made_of(source, claim, reference, None);
    clone.annotations_mut().insert(MANUAL.to_owned(), manual.to_owned());
    clone
}

/// Size: what the source says, what the copy needs, what the claim has, what it asked for; the first that is known.
fn made_of(
    source: &ReplicationSource,
    claim: &PersistentVolumeClaim,
    reference: TypedLocalObjectReference,
    needed: Option<Quantity>,
) -> PersistentVolumeClaim {
    let wanted = claim.spec.clone().unwrap_or_default();
    let options = section(source).map(|kopia| kopia.volume.clone()).unwrap_or_default();
    let has = claim.status.as_ref().and_then(|status| status.capacity.as_ref()?.get("storage").cloned());
    let asked = wanted.resources.and_then(|resources| resources.requests?.get("storage").cloned());
    let size = options.capacity.or(needed).or(has).or(asked);
    let requests = size.map(|size| BTreeMap::from([("storage".to_owned(), size)]));
    PersistentVolumeClaim {
        metadata: metadata(source),
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: options.access_modes.or(wanted.access_modes),
            storage_class_name: options.storage_class_name.or(wanted.storage_class_name),
            volume_mode: wanted.volume_mode,
            data_source: Some(reference),
            resources: Some(VolumeResourceRequirements { requests, limits: None }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

fn section(source: &ReplicationSource) -> Option<&SourceKopia> {
    source.spec.kopia.as_ref()
}

/// The Job that reads `data`; an error is what a person has to mend.
pub fn job(source: &ReplicationSource, observed: &Observed, data: &str, manual: &str) -> Result<Job, String> {
    let kopia = section(source).ok_or("spec.kopia is missing")?;
    let claim = source.spec.source_pvc.clone().unwrap_or_default();
    let names = ClaimKey::new(source.namespace().unwrap_or_default(), claim).map_err(|error| error.to_string())?;
    let secret = kopia.repository.clone().unwrap_or_default();
    let own = observed.run.own.as_ref();
    let spec = own.map(|own| &own.repository.spec);
    let task = Task::Backup(BackupTask {
        claim: names,
        identity: observed.run.identity.clone(),
        data: "/data".into(),
        layout: observed.run.layout,
        ledger: own.is_some(),
        cluster: spec.and_then(|spec| spec.cluster_name.clone()),
        compression: kopia.compression.clone().filter(|name| !name.is_empty()),
        parallelism: kopia.parallelism.and_then(|count| u32::try_from(count).ok()).filter(|count| *count > 0),
        retain: kopia.retain.as_ref().map(Retain::from).unwrap_or_default(),
        expected_repository_id: own.and_then(|own| own.expected.clone()),
        creation: spec.map_or(Creation::IfEmpty, |spec| spec.create),
        no_maintenance: spec.is_some_and(|spec| !spec.maintenance.enabled),
        accepted: own.and_then(|own| own.said.word.accepted.clone()),
        disregarded: own.and(observed.claim.as_deref()).and_then(disregarded),
    });
    let volumes = kopia.mover.mover_volumes.clone().unwrap_or_default();
    let mut variables = spec.map(repository::variables).unwrap_or_else(|| sync::variables(&volumes));
    if let Some(own) = own {
        let guard = own.policy.spec.guard;
        variables.push(("PERENNIAL_GUARD_FILES_PERCENT", guard.files_percent.to_string()));
        variables.push(("PERENNIAL_GUARD_BYTES_PERCENT", guard.bytes_percent.to_string()));
    }
    let given = kopia.mover.mover_security_context.clone().map(Box::new);
    let is_live = source.spec.source_pvc.as_deref() == Some(data);
    let affinity = kopia.mover.mover_affinity.clone();
    let (affinity, tolerations) = match &observed.run.place {
        Place::Node { name, tolerations } if is_live => (Some(consumers::on_node(affinity, name)), tolerations.clone()),
        Place::Node { .. } | Place::Anywhere | Place::Unknown => (affinity, Vec::new()),
    };
    let run = Run {
        name: &source_job_name(&source.name_any()),
        namespace: &source.namespace().unwrap_or_default(),
        owner: sync::owner(source),
        image: &observed.image,
        direction: Direction::Backup,
        repository: &observed.run.repository,
        class: &observed.run.class,
        secret: &secret,
        data,
        is_live,
        directory: spec.and_then(|spec| credentials::directory(&spec.store)),
        authorities: Authorities::of(kopia.custom_ca.as_ref()),
        identity: Identity::of(observed.run.is_privileged, given, observed.run.ids),
        cache: kopia.cache.place.cache_capacity.clone(),
        variables,
        resources: kopia.mover.mover_resources.clone(),
        affinity,
        node_selector: BTreeMap::new(),
        tolerations,
        labels: kopia.mover.mover_pod_labels.clone().unwrap_or_default(),
        service_account: kopia.mover.mover_service_account.clone(),
        volumes,
    };
    let mut job = job::build(&run, &task);
    job.annotations_mut().insert(MANUAL.to_owned(), manual.to_owned());
    Ok(job)
}

/// The moment up to which snapshots were left out when the claim started empty.
fn disregarded(claim: &PersistentVolumeClaim) -> Option<Timestamp> {
    let uid = claim.uid().unwrap_or_default();
    let recorded = Recorded::read(claim.annotations().get(DECISION).map(String::as_str), &uid)?;
    match recorded.verdict {
        Verdict::Fresh { proof: Proof::Dismissed { snapshot } } => Some(snapshot.time),
        Verdict::Fresh { proof: Proof::NotWanted { .. } } => Some(recorded.time),
        Verdict::Fresh { .. } | Verdict::Restore { .. } | Verdict::Kept { .. } | Verdict::Hold { .. } => None,
    }
}
