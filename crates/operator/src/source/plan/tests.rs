use std::sync::Arc;

use api::id::SnapshotId;
use api::mover::Layout;
use api::naming::Identity;
use api::v1alpha1::repository::Limits;
use serde_json::{Value, json};

use super::super::observe::Run;
use super::*;

const NOW: &str = "2026-11-22T06:30:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn source(trigger: Value, status: Value) -> ReplicationSource {
    let body = json!({
        "metadata": {"name": "app", "namespace": "media", "uid": "s-1"},
        "spec": {"sourcePVC": "data", "trigger": trigger, "kopia": {"repository": "repo", "copyMethod": "Snapshot"}},
        "status": status,
    });
    serde_json::from_value(body).unwrap()
}

fn observed(source: &ReplicationSource) -> Observed {
    let claim = json!({"metadata": {"name": "data"}, "spec": {}, "status": {"phase": "Bound"}});
    let identity = Identity { username: "app".to_owned(), hostname: "media".to_owned(), path: "/data".to_owned() };
    Observed {
        claim: Some(Arc::new(serde_json::from_value(claim).unwrap())),
        kopia: Ok(source.spec.kopia.clone().unwrap()),
        run: Run {
            own: None,
            identity,
            layout: Layout::Shared,
            repository: "media.repo".to_owned(),
            limits: Limits::default(),
            class: String::new(),
            is_privileged: false,
            method: "kopia".to_owned(),
        },
        secret: Ok(()),
        job: None,
        progress: None,
        obstacle: None,
        foreign_job: None,
        snapshot: None,
        copy: None,
        can_snapshot: true,
        pause: Duration::from_secs(60),
        image: "image".to_owned(),
    }
}

fn word(step: &Step) -> &'static str {
    match step {
        Step::Stay => "stay",
        Step::Snapshot(_) => "snapshot",
        Step::Copy(_) => "copy",
        Step::Start(_) => "start",
        Step::ClearUp => "clear up",
    }
}

/// The step, the condition's reason and whether a run is under way afterwards.
#[track_caller]
fn check(trigger: Value, status: Value, change: impl Fn(&mut Observed), expected: (&str, &str, bool)) -> Plan {
    let source = source(trigger, status);
    let mut seen = observed(&source);
    change(&mut seen);
    let plan = plan(&source, &seen, at(NOW));
    let runs = plan.status.sync.last_sync_start_time.is_some();
    assert_eq!((word(&plan.step), plan.condition.0.as_str(), runs), expected, "{}", plan.condition.1);
    plan
}

fn hourly() -> Value {
    json!({"schedule": "0 * * * *"})
}

fn ended(change: impl Fn(&mut Report)) -> impl Fn(&mut Observed) {
    let mut report = Report::new(Outcome::Complete);
    report.snapshot = Some(SnapshotId::new("k1"));
    change(&mut report);
    move |seen| {
        let finished = json!({"status": {"conditions": [
            {"type": "Complete", "status": "True", "lastTransitionTime": "2026-11-22T06:29:50Z"},
        ]}, "metadata": {"annotations": {"perennial.dev/manual": "tag"}}});
        seen.job = Some(Arc::new(serde_json::from_value(finished).unwrap()));
        seen.progress = Some(Progress::Ended(Some(Box::new(report.clone()))));
    }
}

#[test]
fn when_a_run_begins() {
    let done = |at: &str| json!({"lastSyncTime": at});
    check(hourly(), json!({}), |_| {}, ("stay", "SyncInProgress", true));
    let idle = check(hourly(), done("2026-11-22T06:00:05Z"), |_| {}, ("stay", "WaitingForSchedule", false));
    assert_eq!(idle.again, Some(Duration::from_secs(1800)));
    assert!(!idle.is_out_of_sync);
    check(hourly(), done("2026-11-22T05:30:00Z"), |_| {}, ("stay", "SyncInProgress", true));
    let late = check(hourly(), done("2026-11-22T03:30:00Z"), |_| {}, ("stay", "SyncInProgress", true));
    assert!(late.is_out_of_sync);
    // A new manual tag gives one more run beside the schedule.
    let both = json!({"schedule": "0 * * * *", "manual": "two"});
    let asked = json!({"lastSyncTime": "2026-11-22T06:00:05Z", "lastManualSync": "one"});
    check(both.clone(), asked, |_| {}, ("stay", "SyncInProgress", true));
    let obeyed = json!({"lastSyncTime": "2026-11-22T06:00:05Z", "lastManualSync": "two"});
    check(both, obeyed.clone(), |_| {}, ("stay", "WaitingForSchedule", false));
    check(json!({"manual": "two"}), obeyed, |_| {}, ("stay", "WaitingForManual", false));
    // Without a trigger nothing runs, and that is said.
    let silent = check(json!({}), json!({}), |_| {}, ("stay", "WaitingForManual", false));
    assert!(silent.condition.1.contains("no trigger"));
}

#[test]
fn a_run_step_by_step() {
    let status = || json!({"lastSyncStartTime": "2026-11-22T06:29:00Z"});
    let ready = |seen: &mut Observed| {
        let body = json!({
            "metadata": {"name": "volsync-app-src"}, "spec": {"source": {}},
            "status": {"boundVolumeSnapshotContentName": "c", "readyToUse": true},
        });
        seen.snapshot = Some(Arc::new(serde_json::from_value(body).unwrap()));
    };
    let copied = move |seen: &mut Observed| {
        ready(seen);
        let body = json!({"metadata": {"name": "volsync-app-src"}});
        seen.copy = Some(Arc::new(serde_json::from_value(body).unwrap()));
    };
    check(hourly(), status(), |_| {}, ("snapshot", "SyncInProgress", true));
    check(hourly(), status(), ready, ("copy", "SyncInProgress", true));
    check(hourly(), status(), copied, ("start", "SyncInProgress", true));
    let without_secret = move |seen: &mut Observed| {
        copied(seen);
        seen.secret = Err("there is no Secret media/repo".to_owned());
    };
    check(hourly(), status(), without_secret, ("stay", "Error", true));
    let directly = |seen: &mut Observed| seen.can_snapshot = false;
    check(hourly(), status(), directly, ("start", "SyncInProgress", true));
}

#[test]
fn a_run_that_ended_is_recorded_and_cleared_up() {
    let status = json!({"lastSyncStartTime": "2026-11-22T06:29:00Z", "lastSyncTime": "2026-11-22T05:00:05Z"});
    let plan = check(hourly(), status.clone(), ended(|_| {}), ("stay", "CleaningUp", false));
    let sync = &plan.status.sync;
    assert_eq!((sync.last_sync_duration.as_deref(), sync.last_manual_sync.as_deref()), (Some("1m0s"), Some("tag")));
    assert_eq!(sync.next_sync_time, Some(Time(at("2026-11-22T07:00:00Z"))));
    assert!(plan.done.is_some_and(|done| done.is_good && !done.is_late && !done.is_quarantined));
    let idle = json!({"lastSyncTime": "2026-11-22T06:29:55Z"});
    check(hourly(), idle, ended(|_| {}), ("clear up", "CleaningUp", false));
    // What is held back, and what could not all be read, is no success and is not tried again at once.
    let held = |report: &mut Report| {
        report.outcome =
            Outcome::Failed { class: api::exit::Class::Blocked, reason: "quarantined".to_owned(), hint: String::new() };
        report.quarantined = true;
    };
    let plan = check(hourly(), status.clone(), ended(held), ("stay", "CleaningUp", false));
    assert!(plan.done.is_some_and(|done| !done.is_good && done.is_quarantined));
    let plan =
        check(hourly(), status, ended(|report| report.outcome = Outcome::Partial), ("stay", "CleaningUp", false));
    assert!(plan.is_out_of_sync && plan.done.is_some_and(|done| !done.is_good && !done.is_quarantined));
}

#[test]
fn a_failed_run_waits_and_begins_anew() {
    let failed = |report: &mut Report| {
        let reason = "S3 answered 503".to_owned();
        report.outcome = Outcome::Failed { class: api::exit::Class::Retry, reason, hint: String::new() };
    };
    let status = || json!({"lastSyncStartTime": "2026-11-22T06:29:00Z"});
    let plan = check(hourly(), status(), ended(failed), ("stay", "Error", true));
    assert_eq!((plan.again, plan.has_failed), (Some(Duration::from_secs(50)), false));
    assert_eq!(plan.condition.1, "retry: S3 answered 503");
    let waited = |seen: &mut Observed| {
        ended(failed)(seen);
        seen.pause = Duration::from_secs(5);
    };
    assert!(check(hourly(), status(), waited, ("clear up", "Error", true)).has_failed);
}

#[test]
fn what_is_wrong_stands_in_the_condition() {
    let said = |trigger: Value, change: fn(&mut Observed)| {
        check(trigger, json!({}), change, ("stay", "Error", false)).condition.1
    };
    assert_eq!(said(hourly(), |seen| seen.claim = None), "PersistentVolumeClaim data does not exist");
    assert_eq!(said(hourly(), |seen| seen.kopia = Err("no section".to_owned())), "no section");
    assert!(said(json!({"schedule": "0 25 * * *"}), |_| {}).contains("hour \"25\""));
}
