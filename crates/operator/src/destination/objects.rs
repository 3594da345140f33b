//! What a restore needs: the claim that is written into, the Job, and the VolumeSnapshot of what came of it. Pure.

use std::collections::BTreeMap;

use api::mover::{Layout, RestoreTask, Selection, Task};
use api::naming::{ClaimKey, destination_job_name};
use api::volsync::ReplicationDestination;
use api::volsync::kopia::DestinationKopia;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt};

use super::observe::Observed;
use crate::authorities::Authorities;
use crate::consumers::{self, Place};
use crate::job::{self, Direction, Identity, Run};
use crate::names::{CREATED_BY, CREATOR};
use crate::snapshots::{VolumeSnapshot, VolumeSnapshotSource, VolumeSnapshotSpec};
use crate::sync::{self, GENERATION, MANUAL};

/// The claim that is made where none is given.
pub fn claim_name(destination: &ReplicationDestination) -> String {
    format!("volsync-{}-dest", destination.name_any())
}

/// The VolumeSnapshot of the run that began then: the same name however often it is tried.
pub fn snapshot_name(claim: &str, began: Timestamp) -> String {
    format!("{claim}-{}", began.strftime("%Y%m%d%H%M%S"))
}

fn metadata(destination: &ReplicationDestination, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: destination.namespace(),
        labels: Some(BTreeMap::from([(CREATED_BY.to_owned(), CREATOR.to_owned())])),
        owner_references: Some(vec![sync::owner(destination)]),
        ..ObjectMeta::default()
    }
}

/// A claim to write into; an error is what a person has to say first.
pub fn claim(destination: &ReplicationDestination, kopia: &DestinationKopia) -> Result<PersistentVolumeClaim, String> {
    let options = kopia.volume.volume.clone();
    let modes = options.access_modes.filter(|modes| !modes.is_empty());
    let modes = modes.ok_or("accessModes must be provided when destinationPVC is not")?;
    let capacity = options.capacity.ok_or("capacity must be provided when destinationPVC is not")?;
    let requests = BTreeMap::from([("storage".to_owned(), capacity)]);
    let spec = PersistentVolumeClaimSpec {
        access_modes: Some(modes),
        resources: Some(VolumeResourceRequirements { requests: Some(requests), limits: None }),
        storage_class_name: options.storage_class_name,
        volume_mode: Some("Filesystem".to_owned()),
        ..PersistentVolumeClaimSpec::default()
    };
    Ok(PersistentVolumeClaim {
        metadata: metadata(destination, claim_name(destination)),
        spec: Some(spec),
        status: None,
    })
}

/// The VolumeSnapshot of a filled claim.
pub fn snapshot(
    destination: &ReplicationDestination,
    kopia: &DestinationKopia,
    claim: &str,
    began: Timestamp,
) -> VolumeSnapshot {
    let spec = VolumeSnapshotSpec {
        source: VolumeSnapshotSource { persistent_volume_claim_name: Some(claim.to_owned()) },
        volume_snapshot_class_name: kopia.volume.volume.volume_snapshot_class_name.clone(),
    };
    VolumeSnapshot { metadata: metadata(destination, snapshot_name(claim, began)), spec, status: None }
}

/// Which snapshot is asked for; an error is what a person has to mend.
pub fn selection(kopia: &DestinationKopia) -> Result<Selection, String> {
    let previous = kopia.previous.unwrap_or_default();
    let previous = u32::try_from(previous).map_err(|_| format!("previous is {previous}: it must not be negative"))?;
    match &kopia.restore_as_of {
        Some(moment) => {
            let time = moment.timestamp().map_err(|error| format!("restoreAsOf: {error}"))?;
            Ok(Selection::AsOf { time, previous })
        }
        None if previous == 0 => Ok(Selection::Latest),
        None => Ok(Selection::Previous(previous)),
    }
}

/// The Job that writes into `claim`; an error is what a person has to mend.
pub fn job(
    destination: &ReplicationDestination,
    kopia: &DestinationKopia,
    observed: &Observed,
    claim: &PersistentVolumeClaim,
    manual: &str,
) -> Result<Job, String> {
    let namespace = destination.namespace().unwrap_or_default();
    let data = claim.name_any();
    let selection = selection(kopia)?;
    let task = Task::Restore(RestoreTask {
        claim: ClaimKey::new(namespace.clone(), data.clone()).map_err(|error| error.to_string())?,
        identity: observed.identity.clone()?,
        data: "/data".into(),
        layout: Layout::Shared,
        ledger: false,
        cluster: None,
        parallelism: None,
        expected_repository_id: None,
        // Whoever names a moment, or a number of snapshots, knows that there are some.
        may_be_nothing: selection == Selection::Latest,
        selection,
        delete_extra: kopia.enable_file_deletion.unwrap_or(false),
    });
    let given = kopia.mover.mover_security_context.clone().map(Box::new);
    let affinity = kopia.mover.mover_affinity.clone();
    let (affinity, tolerations) = match &observed.place {
        Place::Node { name, tolerations } => (Some(consumers::on_node(affinity, name)), tolerations.clone()),
        Place::Anywhere | Place::Unknown => (affinity, Vec::new()),
    };
    let volumes = kopia.mover.mover_volumes.clone().unwrap_or_default();
    let secret = observed.secret_name.clone().unwrap_or_default();
    let run = Run {
        name: &destination_job_name(&destination.name_any()),
        namespace: &namespace,
        owner: sync::owner(destination),
        image: &observed.image,
        direction: Direction::Restore,
        repository: &observed.repository,
        class: claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref()).unwrap_or_default(),
        secret: &secret,
        data: &data,
        is_live: false,
        directory: None,
        authorities: Authorities::of(kopia.custom_ca.as_ref()),
        identity: Identity::of(observed.is_privileged, given, observed.ids),
        cache: kopia.cache.place.cache_capacity.clone(),
        variables: sync::variables(&volumes),
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
    if let Some(generation) = destination.meta().generation {
        job.annotations_mut().insert(GENERATION.to_owned(), generation.to_string());
    }
    Ok(job)
}
