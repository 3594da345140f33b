//! A ReplicationSource: when it is due, a stable copy of the volume, a mover that reads it, and what became of it.
//!
//! ```text
//! idle ─ due ─→ copy (VolumeSnapshot and a claim of it, clone, or the volume itself) ─→ Job ─→ Report ─┬→ idle, cleared up
//!                └──────────────────────── after a pause, with a new copy ←───────────────── failed ───┘
//! ```

mod objects;
mod observe;
mod plan;

use std::sync::Arc;
use std::time::Duration;

use api::naming::source_job_name;
use api::v1alpha1::conditions::{ConditionStatus, Finding, set};
use api::volsync::ReplicationSource;
use api::volsync::status::{SYNCHRONIZING, SynchronizingReason};
use kube::api::Api;
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};
use serde_json::json;

use self::observe::{Observed, observe};
use self::plan::{News, Plan, Step, plan};
use crate::apply;
use crate::context::Context;
use crate::error::Error;
use crate::job::Direction;
use crate::ledger::Entry;
use crate::slots::Start;

/// How soon a backup that found no slot asks again.
const PAUSE_FOR_SLOT: Duration = Duration::from_secs(5);

/// Brings a source to where it should be.
///
/// # Errors
/// The API server refuses, or does not answer. What is wrong with the source itself stands in its condition.
pub async fn reconcile(source: Arc<ReplicationSource>, context: Arc<Context>) -> Result<Action, Error> {
    let is_going = source.meta().deletion_timestamp.is_some() || context.caches.is_going(source.namespace());
    if is_going || source.spec.external.is_some() {
        return Ok(Action::await_change());
    }
    let observed = observe(&context, &source).await?;
    if let Some(job) = &observed.job {
        context.slots.seen(job);
    }
    let plan = plan(&source, &observed, context.now());
    let pause = carry_out(&source, &observed, &plan, &context).await?;
    report(&source, &observed, &plan, &context).await?;
    if plan.has_failed {
        context.failed(&*source);
    } else if plan.has_succeeded {
        context.succeeded(&*source);
    }
    Ok(pause.or(plan.again).map_or_else(Action::await_change, Action::requeue))
}

async fn carry_out(
    source: &ReplicationSource,
    observed: &Observed,
    plan: &Plan,
    context: &Context,
) -> Result<Option<Duration>, Error> {
    match &plan.step {
        Step::Stay => {}
        Step::Snapshot(snapshot) => drop(apply::create(&context.client, &**snapshot).await?),
        Step::Copy(copy) => drop(apply::create(&context.client, &**copy).await?),
        Step::Start(job) => {
            let run = &observed.run;
            let namespace = source.namespace().unwrap_or_default();
            let name = source_job_name(&source.name_any());
            let start = Start::new(&namespace, &name, &run.repository, &run.class, Direction::Backup);
            if !context.slots.take(&start, &run.limits, &context.caches, context.now()) {
                return Ok(Some(PAUSE_FOR_SLOT));
            }
            let created = apply::create(&context.client, &**job).await;
            if !matches!(created, Ok(true)) {
                context.slots.give_back(&start.job);
            }
            if !created? {
                return Ok(Some(PAUSE_FOR_SLOT));
            }
        }
        Step::ClearUp => {
            if let Some(job) = &observed.job {
                apply::delete(&context.client, &**job).await?;
            }
            if let Some(copy) = &observed.copy {
                apply::delete(&context.client, &**copy).await?;
            }
            if let Some(snapshot) = &observed.snapshot {
                apply::delete(&context.client, &**snapshot).await?;
            }
        }
    }
    Ok(None)
}

/// Writes the status where it changed, tells what is new, and counts.
async fn report(source: &ReplicationSource, observed: &Observed, plan: &Plan, context: &Context) -> Result<(), Error> {
    let before = source.status.clone().unwrap_or_default();
    let mut after = plan.status.clone();
    let mut conditions = after.sync.conditions.take().unwrap_or_default();
    let (reason, message) = &plan.condition;
    let finding = Finding {
        type_: SYNCHRONIZING,
        status: if reason.is_synchronizing() { ConditionStatus::True } else { ConditionStatus::False },
        reason: reason.as_str(),
        message,
        observed_generation: None,
    };
    set(&mut conditions, &finding, context.now());
    after.sync.conditions = Some(conditions);
    if let Some(done) = &plan.done {
        count(source, observed, done, context).await?;
    }
    if before != after {
        let (namespace, name) = (source.namespace().unwrap_or_default(), source.name_any());
        let sources: Api<ReplicationSource> = Api::namespaced(context.client.clone(), &namespace);
        let what = format!("report on ReplicationSource {namespace}/{name}");
        let change =
            json!({"metadata": {"uid": source.uid()}, "status": apply::difference(&json!(before), json!(&after))});
        apply::merge_status(&sources, &name, &change, &what).await?;
    }
    if let Some(News { reason, is_warning, text }) = &plan.news {
        let about = source.object_ref(&());
        context.tell(&about, *is_warning, reason, "Synchronize", text).await;
    }
    context.metrics.source(source, &observed.run.method, plan.is_out_of_sync);
    context.metrics.age(source, &after, plan.interval);
    Ok(())
}

/// What a run that has ended means for the numbers and for the ledger's mirror.
async fn count(
    source: &ReplicationSource,
    observed: &Observed,
    done: &plan::Done,
    context: &Context,
) -> Result<(), Error> {
    context.metrics.synchronized(source, &observed.run.method, done.duration, done.is_late);
    context.metrics.troubled(source, done.is_quarantined, done.is_maintenance_failed);
    let Some(own) = &observed.run.own else { return Ok(()) };
    match &done.repository {
        Some(id) if done.is_good => {
            let entry = Entry { repository_id: id.clone() };
            let namespace = &context.settings.namespace;
            context.ledger.note(&context.client, namespace, &own.repository.name_any(), &own.key, entry).await
        }
        Some(_) | None => Ok(()),
    }
}

/// The condition's message for a reason that has its own.
fn usual(reason: SynchronizingReason) -> (SynchronizingReason, String) {
    (reason, reason.message().unwrap_or_default().to_owned())
}
