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

use api::volsync::ReplicationSource;
use kube::api::Api;
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};
use serde_json::json;

use self::observe::{Observed, observe};
use self::plan::{Plan, Step, plan};
use crate::apply;
use crate::context::Context;
use crate::error::Error;
use crate::ledger::Entry;
use crate::neighbours;
use crate::slots;
use crate::sync::{self, News, PAUSE_FOR_SLOT};

/// Brings a source to where it should be.
///
/// # Errors
/// The API server refuses, or does not answer. What is wrong with the source itself stands in its condition.
pub async fn reconcile(source: Arc<ReplicationSource>, context: Arc<Context>) -> Result<Action, Error> {
    let is_going = source.meta().deletion_timestamp.is_some() || context.caches.is_going(source.namespace());
    if is_going || source.spec.external.is_some() {
        return Ok(Action::await_change());
    }
    if let Some(other) = context.neighbours.left_to(&*source).await? {
        tracing::debug!(source = apply::describe(&*source), other, "left to another controller");
        return Ok(Action::requeue(neighbours::AGE_MAX));
    }
    let observed = observe(&context, &source).await?;
    if let Some(job) = &observed.job {
        context.slots.seen(job);
    }
    let plan = plan(&source, &observed, context.now());
    let pause = carry_out(&observed, &plan, &context).await?;
    report(&source, &observed, &plan, &context).await?;
    if plan.has_failed {
        context.failed(&*source);
    } else if plan.has_succeeded {
        context.succeeded(&*source);
    }
    Ok(pause.or(plan.again).map_or_else(Action::await_change, Action::requeue))
}

async fn carry_out(observed: &Observed, plan: &Plan, context: &Context) -> Result<Option<Duration>, Error> {
    match &plan.step {
        Step::Stay => {}
        Step::Snapshot(snapshot) => drop(apply::create(&context.client, &**snapshot).await?),
        Step::Copy(copy) => drop(apply::create(&context.client, &**copy).await?),
        Step::Start(job) => {
            if !slots::start(job, &observed.run.limits, context).await? {
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
    sync::say(&mut after.sync, &plan.condition, context.now());
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
    context.metrics.looked_at(source, &observed.run.method, plan.is_out_of_sync);
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
    let (Some(own), Some(id)) = (&observed.run.own, &done.repository) else { return Ok(()) };
    let repository = own.repository.name_any();
    // What could not all be read begins no history, but it teaches as whom to try next.
    let teaches = !done.is_quarantined && context.ledger.of(&repository, &own.key).is_some();
    if !done.is_good && !teaches {
        return Ok(());
    }
    let entry = Entry { repository_id: id.clone(), ids: done.ids, is_foreign: false };
    context.ledger.note(&context.client, &context.settings.namespace, &repository, &own.key, entry).await
}
