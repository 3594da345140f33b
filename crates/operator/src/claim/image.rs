//! A claim that names a destination which somebody wrote: it gets the image that the destination has when the claim is
//! filled. Source: VolSync API §8.
//!
//! ```text
//! wait for the image ─→ prime, made of the VolumeSnapshot ─→ hand over ─→ bound ─→ clear up
//! ```

use std::sync::Arc;
use std::time::Duration;

use api::naming::{ClaimKey, prime_name};
use api::volsync::ReplicationDestination;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, TypedObjectReference};
use kube::api::Api;
use kube::{Resource, ResourceExt};

use super::volume::{self, Placement, holder};
use crate::apply;
use crate::caches::{destination_of, key};
use crate::context::Context;
use crate::destination::is_generated;
use crate::error::Error;
use crate::neighbours;
use crate::quantity;
use crate::snapshots::VolumeSnapshot;
use crate::sync::News;

/// How long a claim that waits for somebody is left alone; whoever it waits for wakes it sooner.
const IDLE: Duration = Duration::from_secs(60);

/// The group of VolumeSnapshots.
const SNAPSHOT_GROUP: &str = "snapshot.storage.k8s.io";

/// What is seen of such a claim.
#[derive(Clone, Debug)]
struct Observed {
    /// The destination; none if it is not there.
    destination: Option<Arc<ReplicationDestination>>,
    /// Its image, where that is a VolumeSnapshot and it is time to look.
    snapshot: Option<VolumeSnapshot>,
    /// Whether the claim's storage class is there, and where its volume belongs; none without the class.
    placement: Option<Placement>,
    prime: Option<Arc<PersistentVolumeClaim>>,
    /// The volume of the prime, once it has one.
    volume: Option<PersistentVolume>,
}

/// What is done about such a claim.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    Stay,
    MakePrime { snapshot: String },
    HandOver { volume: Box<PersistentVolume>, snapshot: String },
    ClearUp { prime: Arc<PersistentVolumeClaim> },
}

/// The step, and what is told about the claim.
#[derive(Clone, Debug, PartialEq)]
struct Plan {
    step: Step,
    news: Option<News>,
}

impl Plan {
    fn step(step: Step) -> Self {
        Self { step, news: None }
    }

    fn tell(step: Step, reason: &'static str, is_warning: bool, text: String) -> Self {
        Self { step, news: Some(News { reason, is_warning, text }) }
    }

    fn wait(reason: &'static str, text: String) -> Self {
        Self::tell(Step::Stay, reason, true, text)
    }
}

/// Fills a claim from the destination that it names, if somebody has written that. Answers when it is to be looked at
/// again although nothing changes.
///
/// # Errors
/// The API server refuses, or does not answer.
pub async fn populate(claim: &PersistentVolumeClaim, context: &Context) -> Result<Option<Duration>, Error> {
    let Some(name) = destination_of(claim).filter(|name| !name.is_empty()) else { return Ok(None) };
    let Some(namespace) = claim.namespace() else { return Ok(None) };
    let destination = context.caches.destinations.get(&key(name, Some(namespace.clone())));
    if destination.as_ref().is_some_and(|destination| is_generated(destination)) {
        return Ok(None);
    }
    let prime = prime_name(&claim.uid().unwrap_or_default());
    let prime = context.caches.claims.get(&key(&prime, Some(namespace.clone())));
    let is_waiting = volume_of(claim).is_none();
    if !is_waiting && prime.is_none() {
        return Ok(None);
    }
    if let Some(other) = context.neighbours.at_work().await? {
        tracing::debug!(claim = apply::describe(claim), other, "left to another controller");
        return Ok(is_waiting.then_some(neighbours::AGE_MAX));
    }
    let names =
        ClaimKey::new(namespace, claim.name_any()).map_err(|error| Error::Object { what: error.to_string() })?;
    let observed = observe(claim, destination, prime, context).await?;
    let plan = plan(claim, name, &observed);
    if let Some(News { reason, is_warning, text }) = &plan.news {
        context.tell(&claim.object_ref(&()), *is_warning, reason, "Populate", text).await;
    }
    match plan.step {
        Step::Stay => {}
        Step::MakePrime { snapshot } => {
            let source = TypedObjectReference {
                api_group: Some(SNAPSHOT_GROUP.to_owned()),
                kind: "VolumeSnapshot".to_owned(),
                name: snapshot,
                namespace: None,
            };
            apply::create(&context.client, &volume::prime(claim, &names, Some(source))).await?;
        }
        Step::HandOver { volume, snapshot } => volume::hand_over(claim, &volume, &snapshot, &[], context).await?,
        Step::ClearUp { prime } => apply::delete(&context.client, &*prime).await?,
    }
    Ok(is_waiting.then_some(IDLE))
}

async fn observe(
    claim: &PersistentVolumeClaim,
    destination: Option<Arc<ReplicationDestination>>,
    prime: Option<Arc<PersistentVolumeClaim>>,
    context: &Context,
) -> Result<Observed, Error> {
    let class = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref()).unwrap_or_default();
    let is_class_there = class.is_empty() || context.caches.classes.get(&key(class, None)).is_some();
    let volume = match prime.as_deref().filter(|prime| is_bound(prime)).and_then(volume_of) {
        Some(of_prime) if volume_of(claim).is_none() => volume::get(of_prime, context).await?,
        Some(_) | None => None,
    };
    let snapshot = match snapshot_of(destination.as_deref()) {
        // Not from the cache: one that somebody keeps is not the destination's any more.
        Some(name) if prime.is_none() => {
            let namespace = claim.namespace().unwrap_or_default();
            let snapshots: Api<VolumeSnapshot> = Api::namespaced(context.client.clone(), &namespace);
            let what = format!("get VolumeSnapshot {namespace}/{name}");
            snapshots.get_opt(name).await.map_err(Error::kubernetes(what))?
        }
        Some(_) | None => None,
    };
    let placement = is_class_there.then(|| volume::placement(claim, &context.caches));
    Ok(Observed { destination, snapshot, placement, prime, volume })
}

fn plan(claim: &PersistentVolumeClaim, name: &str, observed: &Observed) -> Plan {
    if let Some(prime) = observed.prime.as_ref().filter(|_| is_bound(claim)) {
        let step = Step::ClearUp { prime: Arc::clone(prime) };
        return Plan::tell(step, "VolSyncPopulatorFinished", false, "the volume is filled and bound".to_owned());
    }
    if volume_of(claim).is_some() {
        return Plan::step(Step::Stay);
    }
    match observed.prime.as_deref() {
        Some(prime) => Plan::step(filled(prime, observed)),
        None => begin(claim, name, observed),
    }
}

/// What was begun goes on, whatever has become of the destination.
fn filled(prime: &PersistentVolumeClaim, observed: &Observed) -> Step {
    let own = observed.volume.as_ref().filter(|volume| holder(volume).is_some() && holder(volume) == prime.uid());
    let source = prime.spec.as_ref().and_then(|spec| spec.data_source_ref.as_ref());
    match (own, source) {
        (Some(volume), Some(source)) => {
            Step::HandOver { volume: Box::new(volume.clone()), snapshot: source.name.clone() }
        }
        _ => Step::Stay,
    }
}

fn begin(claim: &PersistentVolumeClaim, name: &str, observed: &Observed) -> Plan {
    const ERROR: &str = "VolSyncPopulatorError";
    match observed.placement {
        // The class wakes nobody, but the claim is looked at again.
        None => return Plan::wait(ERROR, "waits for its storage class, which does not exist".to_owned()),
        Some(Placement::WaitsForConsumer) => {
            let text = "waits for a pod that uses it, and is filled where that is scheduled".to_owned();
            return Plan::tell(Step::Stay, "WaitingForFirstConsumer", false, text);
        }
        Some(Placement::Known) => {}
    }
    let Some(destination) = observed.destination.as_deref() else {
        let text = format!("waits for ReplicationDestination {name}, which does not exist");
        return Plan::wait("VolSyncPopulatorReplicationDestinationMissing", text);
    };
    let Some(image) = destination.status.as_ref().and_then(|status| status.latest_image.as_ref()) else {
        let text = format!("waits for ReplicationDestination {name}, which has no latestImage yet");
        return Plan::wait("VolSyncPopulatorReplicationDestinationNoLatestImage", text);
    };
    if image.kind != "VolumeSnapshot" {
        let text = format!(
            "the image of ReplicationDestination {name} is {} {}: only a VolumeSnapshot fills a claim, use copyMethod \
             Snapshot",
            image.kind, image.name
        );
        return Plan::wait(ERROR, text);
    }
    let Some(snapshot) = &observed.snapshot else {
        return Plan::wait(ERROR, format!("VolumeSnapshot {} does not exist", image.name));
    };
    if !snapshot.is_ready() || snapshot.meta().deletion_timestamp.is_some() {
        return Plan::wait(ERROR, format!("VolumeSnapshot {} is not ready, or going", image.name));
    }
    let needed = snapshot.status.as_ref().and_then(|status| status.restore_size.clone());
    let needed = needed.map(k8s_openapi::apimachinery::pkg::api::resource::Quantity);
    let (needs, asked) = (needed.as_ref().and_then(quantity::bytes), quantity::requested_bytes(claim));
    if let (Some(needs), Some(asked)) = (needs, asked)
        && needs > asked
    {
        let text = format!(
            "CapacityTooSmall: VolumeSnapshot {} needs {needs} bytes, the claim asks for {asked}: ask for more",
            image.name
        );
        return Plan::wait(ERROR, text);
    }
    let text = format!("fills the claim from VolumeSnapshot {} of ReplicationDestination {name}", image.name);
    Plan::tell(Step::MakePrime { snapshot: image.name.clone() }, "VolSyncPopulatorPVCCreated", false, text)
}

fn snapshot_of(destination: Option<&ReplicationDestination>) -> Option<&str> {
    let image = destination?.status.as_ref()?.latest_image.as_ref()?;
    (image.kind == "VolumeSnapshot").then_some(image.name.as_str())
}

fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound")
}

fn volume_of(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.spec.as_ref()?.volume_name.as_deref().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn claim(spec: Value, phase: &str) -> PersistentVolumeClaim {
        let mut body = json!({
            "metadata": {"name": "data", "namespace": "media", "uid": "u"},
            "spec": {"resources": {"requests": {"storage": "1Gi"}}}, "status": {"phase": phase},
        });
        body["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        serde_json::from_value(body).unwrap()
    }

    fn destination(image: Value) -> Option<Arc<ReplicationDestination>> {
        let body = json!({"metadata": {"name": "app"}, "spec": {}, "status": {"latestImage": image}});
        Some(Arc::new(serde_json::from_value(body).unwrap()))
    }

    fn snapshot(status: Value) -> Option<VolumeSnapshot> {
        let body = json!({"metadata": {"name": "s"}, "spec": {"source": {}}, "status": status});
        Some(serde_json::from_value(body).unwrap())
    }

    fn ready() -> Value {
        json!({"boundVolumeSnapshotContentName": "c", "readyToUse": true, "restoreSize": "1Gi"})
    }

    fn observed() -> Observed {
        Observed {
            destination: destination(json!({"apiGroup": SNAPSHOT_GROUP, "kind": "VolumeSnapshot", "name": "s"})),
            snapshot: snapshot(ready()),
            placement: Some(Placement::Known),
            prime: None,
            volume: None,
        }
    }

    fn prime(phase: &str) -> Option<Arc<PersistentVolumeClaim>> {
        let body = json!({
            "metadata": {"name": "vs-prime-u", "uid": "p"},
            "spec": {"volumeName": "v", "dataSourceRef": {"kind": "VolumeSnapshot", "name": "s"}},
            "status": {"phase": phase},
        });
        Some(Arc::new(serde_json::from_value(body).unwrap()))
    }

    fn volume(holder: &str) -> Option<PersistentVolume> {
        let body = json!({"metadata": {"name": "v"}, "spec": {"claimRef": {"uid": holder}}});
        Some(serde_json::from_value(body).unwrap())
    }

    #[track_caller]
    fn check(claim: &PersistentVolumeClaim, change: impl Fn(&mut Observed), expected: &str) {
        let mut seen = observed();
        change(&mut seen);
        let plan = plan(claim, "app", &seen);
        let step = match plan.step {
            Step::Stay => "stay".to_owned(),
            Step::MakePrime { snapshot } => format!("prime of {snapshot}"),
            Step::HandOver { snapshot, .. } => format!("hand over {snapshot}"),
            Step::ClearUp { .. } => "clear up".to_owned(),
        };
        let said = plan.news.map(|news| format!(" {}", news.reason)).unwrap_or_default();
        assert_eq!(format!("{step}{said}"), expected);
    }

    #[test]
    fn a_claim_waits_until_there_is_an_image_that_fits() {
        let waiting = claim(json!({}), "Pending");
        check(&waiting, |_| {}, "prime of s VolSyncPopulatorPVCCreated");
        check(&waiting, |seen| seen.placement = None, "stay VolSyncPopulatorError");
        let late = |seen: &mut Observed| seen.placement = Some(Placement::WaitsForConsumer);
        check(&waiting, late, "stay WaitingForFirstConsumer");
        check(&waiting, |seen| seen.destination = None, "stay VolSyncPopulatorReplicationDestinationMissing");
        let no_image = |seen: &mut Observed| seen.destination = destination(Value::Null);
        check(&waiting, no_image, "stay VolSyncPopulatorReplicationDestinationNoLatestImage");
        let direct = |seen: &mut Observed| {
            seen.destination = destination(json!({"kind": "PersistentVolumeClaim", "name": "data"}));
        };
        check(&waiting, direct, "stay VolSyncPopulatorError");
        check(&waiting, |seen| seen.snapshot = None, "stay VolSyncPopulatorError");
        check(&waiting, |seen| seen.snapshot = snapshot(json!({})), "stay VolSyncPopulatorError");
        let large = |seen: &mut Observed| {
            seen.snapshot = snapshot(json!({"boundVolumeSnapshotContentName": "c", "restoreSize": "2Gi"}));
        };
        check(&waiting, large, "stay VolSyncPopulatorError");
    }

    #[test]
    fn what_was_begun_is_carried_to_its_end() {
        let waiting = claim(json!({}), "Pending");
        check(&waiting, |seen| seen.prime = prime("Pending"), "stay");
        let filled = |seen: &mut Observed| {
            seen.prime = prime("Bound");
            seen.volume = volume("p");
            seen.destination = None;
        };
        check(&waiting, filled, "hand over s");
        let handed_over = |seen: &mut Observed| {
            filled(seen);
            seen.volume = volume("u");
        };
        check(&waiting, handed_over, "stay");
        check(&claim(json!({"volumeName": "v"}), "Pending"), handed_over, "stay");
        let bound = claim(json!({"volumeName": "v"}), "Bound");
        let settled = |seen: &mut Observed| {
            seen.prime = prime("Lost");
            seen.volume = volume("u");
        };
        check(&bound, settled, "clear up VolSyncPopulatorFinished");
        check(&bound, |_| {}, "stay");
    }
}
