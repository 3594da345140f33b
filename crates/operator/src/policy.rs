//! What a BackupPolicy says of itself: whether it can do what it is for, and how many claims take it.
//!
//! Counted from the caches every few seconds, and written where it differs from what stands there.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::v1alpha1::BackupPolicy;
use api::v1alpha1::conditions::{ConditionStatus, ConditionType, Finding, Reason, set};
use api::v1alpha1::policy::{BackupPolicyStatus, ClaimCounts};
use api::validate;
use api::volsync::ReplicationSource;
use api::volsync::status::SUCCESSFUL;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;
use kube::api::Api;
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};

use crate::apply;
use crate::caches::{Caches, key};
use crate::claim::judge::{Judgement, asking, judge};
use crate::context::Context;
use crate::error::Error;
use crate::gauges;
use crate::sync::Times;

/// How old what stands in a status may be.
const AGE_MAX: Duration = Duration::from_secs(15);

/// Keeps the statuses of all policies true, and never ends.
pub async fn keep(context: &Context) {
    let mut ticks = interval(AGE_MAX);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        context.metrics.went_round("policy", AGE_MAX, context.now());
        let mut counts = count(&context.caches, context.now());
        for policy in context.caches.policies.state() {
            let counts = counts.remove(&policy.name_any()).unwrap_or_default();
            if let Err(error) = report(&policy, counts, context).await {
                tracing::warn!(policy = policy.name_any(), error = %error.chain(), "its status is not written yet");
            }
        }
    }
}

/// How the claims are that take each policy, by its name.
fn count(caches: &Caches, now: Timestamp) -> HashMap<String, ClaimCounts> {
    let policies = caches.policies_in_order();
    let classes = caches.classes.state();
    let mut counts: HashMap<String, ClaimCounts> = HashMap::new();
    for claim in caches.claims.state() {
        let namespace = caches.namespaces.get(&key(&claim.namespace().unwrap_or_default(), None));
        let Some(namespace) = namespace else { continue };
        let Some((policy, _)) = asking(&claim, namespace.labels(), &policies) else { continue };
        let of_policy = counts.entry(policy.name_any()).or_default();
        match judge(&claim, namespace.labels(), &policies) {
            Judgement::Ignored(_) => {}
            Judgement::Exempt { .. } => of_policy.exempt += 1,
            Judgement::Raw(_) | Judgement::Review { .. } => of_policy.needs_review += 1,
            Judgement::Protected(_) => {
                of_policy.protected += 1;
                let waits = gauges::reason_to_wait(&claim).is_some() || gauges::is_pending(&claim, &classes);
                of_policy.held += u64::from(waits);
                of_policy.current +=
                    u64::from(source_of(&claim, caches).is_some_and(|source| is_current(&source, now)));
            }
        }
    }
    counts
}

fn source_of(claim: &PersistentVolumeClaim, caches: &Caches) -> Option<Arc<ReplicationSource>> {
    caches.sources.get(&key(&format!("{}-backup", claim.name_any()), claim.namespace()))
}

/// Whether the last backup was good and is younger than two intervals.
fn is_current(source: &ReplicationSource, now: Timestamp) -> bool {
    let Some(sync) = source.status.as_ref().map(|status| &status.sync) else { return false };
    let Some(last) = &sync.last_sync_time else { return false };
    let is_good = sync.latest_mover_status.as_ref().is_some_and(|mover| mover.result.as_deref() == Some(SUCCESSFUL));
    let times = Times::of(source.spec.trigger.as_ref(), Duration::ZERO);
    is_good && times.is_ok_and(|times| !times.is_late(Some(last.0), now))
}

/// Whether it can do what it is for, and why not.
fn readiness(policy: &BackupPolicy, caches: &Caches) -> (Reason, String) {
    let violations = validate::policy::violations(&policy.spec);
    if let Some(first) = violations.first() {
        return (Reason::InvalidSpec, first.to_string());
    }
    if !policy.spec.hooks.is_empty() {
        let why = "spec.hooks: hooks are not run by this version, and backups are taken without them".to_owned();
        return (Reason::InvalidSpec, why);
    }
    let name = &policy.spec.repository;
    let Some(repository) = caches.repositories.get(&key(name, None)) else {
        return (Reason::RepositoryNotFound, format!("there is no BackupRepository {name}"));
    };
    let conditions = repository.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    match conditions.iter().find(|found| found.type_ == ConditionType::Ready.as_str()) {
        Some(ready) if ready.status == ConditionStatus::True.as_str() => {}
        Some(ready) => {
            let why = format!("BackupRepository {name} is not ready: {}", ready.message);
            return (Reason::RepositoryNotReady, why);
        }
        None => return (Reason::RepositoryNotReady, format!("BackupRepository {name} has not been looked at yet")),
    }
    match policy.spec.paused {
        true => (Reason::Paused, "no new backup starts; restores go on".to_owned()),
        false => (Reason::Ok, format!("claims are backed up to BackupRepository {name}")),
    }
}

async fn report(policy: &BackupPolicy, counts: ClaimCounts, context: &Context) -> Result<(), Error> {
    let (reason, message) = readiness(policy, &context.caches);
    let finding = Finding {
        type_: ConditionType::Ready.as_str(),
        status: if reason == Reason::Ok { ConditionStatus::True } else { ConditionStatus::False },
        reason: reason.as_str(),
        message: &message,
        observed_generation: policy.metadata.generation,
    };
    let before = policy.status.clone().unwrap_or_default();
    let mut conditions = before.conditions.clone();
    set(&mut conditions, &finding, context.now());
    let after =
        BackupPolicyStatus { observed_generation: policy.metadata.generation, claims: Some(counts), conditions };
    if before == after {
        return Ok(());
    }
    let name = policy.name_any();
    let policies: Api<BackupPolicy> = Api::all(context.client.clone());
    let change = json!({"metadata": {"uid": policy.metadata.uid}, "status": after});
    apply::merge_status(&policies, &name, &change, &format!("report on BackupPolicy {name}")).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[track_caller]
    fn check(last: &str, result: &str, now: &str, expected: bool) {
        let status: Value = json!({"lastSyncTime": last, "latestMoverStatus": {"result": result}});
        let source = json!({
            "metadata": {"name": "data-backup"}, "spec": {"trigger": {"schedule": "0 * * * *"}}, "status": status,
        });
        let source: ReplicationSource = serde_json::from_value(source).unwrap();
        assert_eq!(is_current(&source, now.parse().unwrap()), expected, "{last} {result} {now}");
    }

    #[test]
    fn a_backup_is_current_for_two_intervals() {
        check("2026-11-22T10:02:00Z", "Successful", "2026-11-22T11:59:00Z", true);
        check("2026-11-22T10:02:00Z", "Successful", "2026-11-22T12:01:00Z", false);
        check("2026-11-22T10:02:00Z", "Failed", "2026-11-22T10:03:00Z", false);
    }
}
