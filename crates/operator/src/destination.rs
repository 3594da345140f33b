//! A ReplicationDestination.
//!
//! One that was generated is the restore's face: the claim itself is filled elsewhere, and what became of it is told here.

use std::sync::Arc;

use api::recorded::{Recorded, Verdict};
use api::v1alpha1::conditions::{ConditionStatus, Finding, set};
use api::volsync::method::Method;
use api::volsync::status::{MoverStatus, SUCCESSFUL, SYNCHRONIZING, SynchronizingReason};
use api::volsync::{ReplicationDestination, ReplicationDestinationStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::Api;
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};
use serde_json::json;

use crate::apply;
use crate::context::Context;
use crate::error::Error;
use crate::names::{MANAGED_BY, MANAGER};

/// Brings a destination to where it should be. Generated ones are looked after with their claim.
///
/// # Errors
/// The API server refuses, or does not answer.
pub async fn reconcile(destination: Arc<ReplicationDestination>, context: Arc<Context>) -> Result<Action, Error> {
    let is_generated = destination.labels().get(MANAGED_BY).map(String::as_str) == Some(MANAGER);
    let is_other = destination.spec.external.is_some();
    if is_generated || is_other || destination.meta().deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let why = match destination.spec.method() {
        Method::Kopia(_) => "restores by hand-written destinations are not served by this version".to_owned(),
        Method::Restic(_) => "the restic mover is not served by this version".to_owned(),
        Method::Foreign(name) => format!("the mover {name} is not served here"),
        Method::External(_) | Method::Missing => {
            "a replication method must be specified - enabled movers: [kopia]".to_owned()
        }
        Method::Several(sections) => {
            let names = sections.names().collect::<Vec<_>>().join(", ");
            format!("only one replication method can be supplied, here are {names}")
        }
    };
    let status = destination.status.clone().unwrap_or_default();
    write(&destination, status, (SynchronizingReason::Error, why), &context).await?;
    Ok(Action::await_change())
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
    (reason, message): (SynchronizingReason, String),
    context: &Context,
) -> Result<(), Error> {
    let before = destination.status.clone().unwrap_or_default();
    let mut conditions = after.sync.conditions.take().unwrap_or_default();
    let finding = Finding {
        type_: SYNCHRONIZING,
        status: if reason.is_synchronizing() { ConditionStatus::True } else { ConditionStatus::False },
        reason: reason.as_str(),
        message: &message,
        observed_generation: None,
    };
    set(&mut conditions, &finding, context.now());
    after.sync.conditions = Some(conditions);
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
