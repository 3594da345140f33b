//! A ReplicationDestination.
//!
//! One that was generated is the restore's face: the claim itself is filled elsewhere, and what became of it is told here.
//! One that somebody wrote restores when its trigger says so, into a claim of its own or one that it names, and keeps an
//! image of what came of it.

mod objects;
mod observe;
mod plan;

use std::sync::Arc;
use std::time::Duration;

use api::recorded::{Recorded, Verdict};
use api::v1alpha1::repository::Limits;
use api::volsync::status::{MoverStatus, SUCCESSFUL, SynchronizingReason};
use api::volsync::{ReplicationDestination, ReplicationDestinationStatus};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::Api;
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};
use serde_json::json;

use self::observe::observe;
use self::plan::{Leftovers, Plan, Step, plan};
use crate::apply;
use crate::context::Context;
use crate::error::Error;
use crate::names::{CLEANUP, CREATED_BY, MANAGED_BY, MANAGER};
use crate::neighbours;
use crate::slots;
use crate::snapshots::VolumeSnapshot;
use crate::sync::{self, News, PAUSE_FOR_SLOT};

/// Brings a destination to where it should be. Generated ones are looked after with their claim.
///
/// # Errors
/// The API server refuses, or does not answer. What is wrong with the destination itself stands in its condition.
pub async fn reconcile(destination: Arc<ReplicationDestination>, context: Arc<Context>) -> Result<Action, Error> {
    let is_other = destination.spec.external.is_some();
    if is_generated(&destination) || is_other || destination.meta().deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    if let Some(other) = context.neighbours.left_to(&*destination).await? {
        tracing::debug!(destination = apply::describe(&*destination), other, "left to another controller");
        return Ok(Action::requeue(neighbours::AGE_MAX));
    }
    let observed = observe(&context, &destination).await?;
    if let Some(job) = &observed.job {
        context.slots.seen(job);
    }
    let plan = plan(&destination, &observed, context.now());
    let pause = carry_out(&destination, &plan, &context).await?;
    report(&destination, &plan, &context).await?;
    if plan.has_failed {
        context.failed(&*destination);
    } else if plan.done.is_some() {
        context.succeeded(&*destination);
    }
    Ok(pause.or(plan.again).map_or_else(Action::await_change, Action::requeue))
}

/// Whether it was made for a claim by us.
pub fn is_generated(destination: &ReplicationDestination) -> bool {
    destination.labels().get(MANAGED_BY).map(String::as_str) == Some(MANAGER)
}

async fn carry_out(
    destination: &ReplicationDestination,
    plan: &Plan,
    context: &Context,
) -> Result<Option<Duration>, Error> {
    match &plan.step {
        Step::Stay => {}
        Step::Claim(claim) => drop(apply::create(&context.client, &**claim).await?),
        Step::Grow(claim) => grow(claim, context).await?,
        Step::Snapshot(snapshot) => drop(apply::create(&context.client, &**snapshot).await?),
        Step::Start(job) => {
            if !slots::start(job, &Limits::default(), context).await? {
                return Ok(Some(PAUSE_FOR_SLOT));
            }
        }
        Step::ClearUp(left) => clear_up(destination, left, context).await?,
    }
    Ok(None)
}

/// A claim gets the room that the destination asks for by now.
async fn grow(wanted: &PersistentVolumeClaim, context: &Context) -> Result<(), Error> {
    let (namespace, name) = (wanted.namespace().unwrap_or_default(), wanted.name_any());
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(context.client.clone(), &namespace);
    let requests = wanted.spec.as_ref().and_then(|spec| spec.resources.as_ref()?.requests.clone());
    let change = json!({"spec": {"resources": {"requests": requests}}});
    let what = format!("give claim {namespace}/{name} the room that its destination asks for");
    apply::merge(&claims, &name, &change, &what).await.map(drop)
}

async fn clear_up(destination: &ReplicationDestination, left: &Leftovers, context: &Context) -> Result<(), Error> {
    if let Some(job) = &left.job {
        apply::delete(&context.client, &**job).await?;
    }
    if let Some(claim) = &left.claim {
        apply::delete(&context.client, &**claim).await?;
    }
    for image in &left.images {
        apply::delete(&context.client, &**image).await?;
    }
    for image in &left.released {
        release(destination, image, context).await?;
    }
    Ok(())
}

/// Makes a VolumeSnapshot its own master: the destination neither owns nor deletes it any more.
async fn release(destination: &ReplicationDestination, image: &VolumeSnapshot, context: &Context) -> Result<(), Error> {
    let (namespace, name) = (image.namespace().unwrap_or_default(), image.name_any());
    let owners: Vec<_> =
        image.owner_references().iter().filter(|owner| Some(&owner.uid) != destination.uid().as_ref()).collect();
    let change = json!({"metadata": {
        "resourceVersion": image.resource_version(),
        "ownerReferences": owners,
        "labels": {CREATED_BY: null, CLEANUP: null},
    }});
    let images: Api<VolumeSnapshot> = Api::namespaced(context.client.clone(), &namespace);
    apply::merge(&images, &name, &change, &format!("release VolumeSnapshot {namespace}/{name}")).await.map(drop)
}

/// Writes the status where it changed, tells what is new, and counts.
async fn report(destination: &ReplicationDestination, plan: &Plan, context: &Context) -> Result<(), Error> {
    if let Some((duration, is_late)) = plan.done {
        context.metrics.synchronized(destination, "kopia", duration, is_late);
    }
    write(destination, plan.status.clone(), plan.condition.clone(), context).await?;
    if let Some(News { reason, is_warning, text }) = &plan.news {
        let about = destination.object_ref(&());
        context.tell(&about, *is_warning, reason, "Synchronize", text).await;
    }
    context.metrics.looked_at(destination, "kopia", plan.is_out_of_sync);
    Ok(())
}

/// What a generated destination says about its claim.
///
/// # Errors
/// The API server refuses, or does not answer.
pub async fn report_population(
    destination: &ReplicationDestination,
    recorded: Option<&Recorded>,
    is_bound: bool,
    obstacle: Option<&str>,
    trigger: &str,
    context: &Context,
) -> Result<(), Error> {
    let mut status = destination.status.clone().unwrap_or_default();
    let verdict = recorded.map(|recorded| &recorded.verdict);
    let condition = match (verdict, is_bound) {
        (Some(Verdict::Hold { reason, detail }), false) => (SynchronizingReason::Error, format!("{reason}: {detail}")),
        (Some(verdict), false) => match obstacle {
            Some(obstacle) => (SynchronizingReason::SyncInProgress, format!("{verdict}; {obstacle}")),
            None => (SynchronizingReason::SyncInProgress, verdict.to_string()),
        },
        (None, false) => (SynchronizingReason::SyncInProgress, "the repository is being asked".to_owned()),
        (verdict, true) => {
            done(&mut status, recorded, trigger, context);
            let text = verdict.map(ToString::to_string).unwrap_or_default();
            (SynchronizingReason::WaitingForManual, format!("Waiting for manual trigger; {text}"))
        }
    };
    write(destination, status, condition, context).await
}

/// The claim is bound: noted once.
fn done(status: &mut ReplicationDestinationStatus, recorded: Option<&Recorded>, trigger: &str, context: &Context) {
    if status.sync.last_manual_sync.as_deref() == Some(trigger) {
        return;
    }
    status.sync.last_manual_sync = Some(trigger.to_owned());
    status.sync.last_sync_time = Some(Time(context.now()));
    status.sync.last_sync_start_time = None;
    let logs = recorded.map(|recorded| recorded.verdict.to_string());
    status.sync.latest_mover_status = Some(MoverStatus { result: Some(SUCCESSFUL.to_owned()), logs });
}

async fn write(
    destination: &ReplicationDestination,
    mut after: ReplicationDestinationStatus,
    condition: (SynchronizingReason, String),
    context: &Context,
) -> Result<(), Error> {
    let before = destination.status.clone().unwrap_or_default();
    sync::say(&mut after.sync, &condition, context.now());
    if before == after {
        return Ok(());
    }
    let (namespace, name) = (destination.namespace().unwrap_or_default(), destination.name_any());
    let destinations: Api<ReplicationDestination> = Api::namespaced(context.client.clone(), &namespace);
    let what = format!("report on ReplicationDestination {namespace}/{name}");
    let change =
        json!({"metadata": {"uid": destination.uid()}, "status": apply::difference(&json!(before), json!(after))});
    apply::merge_status(&destinations, &name, &change, &what).await?;
    Ok(())
}
