use std::sync::Arc;

use api::id::SnapshotId;
use api::mover::Layout;
use api::naming::{ClaimKey, Identity};
use api::v1alpha1::repository::Limits;
use api::v1alpha1::{BackupPolicy, BackupRepository};
use serde_json::{Value, json};

use super::super::observe::{Own, Run};
use super::*;
use crate::claim::word::Said;

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
            ids: crate::sync::USER,
            place: crate::consumers::Place::Anywhere,
            method: "kopia".to_owned(),
        },
        secret: Ok(()),
        job: None,
        progress: None,
        obstacle: None,
        foreign_job: None,
        snapshot: None,
        copy: None,
        directly: None,
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
    let directly = |seen: &mut Observed| seen.directly = Some("the driver d of class c has no way".to_owned());
    let plan = check(hourly(), status(), directly, ("start", "SyncInProgress", true));
    assert!(plan.condition.1.ends_with("; the volume is read directly: the driver d of class c has no way"));
}

/// What was copied before somebody asked does not answer them: the run goes on for whom it began.
#[test]
fn a_trigger_that_comes_meanwhile_gets_a_run_of_its_own() {
    let asked = || json!({"schedule": "0 * * * *", "manual": "now"});
    let status = || json!({"lastSyncStartTime": "2026-11-22T06:29:00Z"});
    let copied = |began_for: &'static str| {
        move |seen: &mut Observed| {
            let body = json!({
                "metadata": {"name": "volsync-app-src", "annotations": {"perennial.dev/manual": began_for}},
                "spec": {"source": {}}, "status": {"boundVolumeSnapshotContentName": "c", "readyToUse": true},
            });
            seen.snapshot = Some(Arc::new(serde_json::from_value(body).unwrap()));
            let body = json!({"metadata": {"name": "volsync-app-src"}});
            seen.copy = Some(Arc::new(serde_json::from_value(body).unwrap()));
        }
    };
    let tag = |plan: &Plan| match &plan.step {
        Step::Start(job) => sync::manual(&**job),
        Step::Snapshot(snapshot) => sync::manual(&**snapshot),
        Step::Stay | Step::Copy(_) | Step::ClearUp => None,
    };
    let first = check(asked(), status(), |_| {}, ("snapshot", "SyncInProgress", true));
    assert_eq!(tag(&first).as_deref(), Some("now"));
    let began_for_nobody = check(asked(), status(), copied(""), ("start", "SyncInProgress", true));
    assert_eq!(tag(&began_for_nobody).as_deref(), Some(""));
    let began_for_it = check(asked(), status(), copied("now"), ("start", "SyncInProgress", true));
    assert_eq!(tag(&began_for_it).as_deref(), Some("now"));
}

/// The source of a labelled claim that was created at five in the morning.
fn generated(has_history: bool) -> impl Fn(&mut Observed) {
    move |seen| {
        let claim = json!({
            "metadata": {"name": "data", "namespace": "media", "creationTimestamp": "2026-11-22T05:00:00Z"},
            "status": {"phase": "Bound"},
        });
        seen.claim = Some(Arc::new(serde_json::from_value(claim).unwrap()));
        let repository = json!({
            "format": "kopia", "store": {"s3": {"endpoint": "http://s3", "bucket": "b"}},
            "credentials": {"secretRef": {"name": "repository"}},
        });
        seen.run.own = Some(Own {
            key: ClaimKey::new("media", "data").unwrap(),
            repository: Arc::new(BackupRepository::new("default", serde_json::from_value(repository).unwrap())),
            policy: Arc::new(BackupPolicy::new("default", serde_json::from_value(json!({})).unwrap())),
            // Somebody has pinned the repository: that says nothing about this claim.
            expected: Some(RepositoryId::new("pinned")),
            said: Said::default(),
            has_history,
        });
    }
}

#[test]
fn a_new_volume_that_was_empty_is_looked_at_again_soon() {
    let daily = || json!({"schedule": "0 2 * * *"});
    let empty =
        |last: &str| json!({"lastSyncTime": last, "latestMoverStatus": {"result": "Successful", "logs": EMPTY}});
    let next = |last: &str, has_history: bool| {
        let plan = check(daily(), empty(last), generated(has_history), ("stay", "WaitingForSchedule", false));
        plan.status.sync.next_sync_time.unwrap().0.to_string()
    };
    // After ten minutes, or when the claim is twice as old as it was: whichever is later.
    assert_eq!(next("2026-11-22T06:25:00Z", false), "2026-11-22T07:50:00Z");
    assert_eq!(next("2026-11-22T06:25:00Z", true), "2026-11-23T02:00:00Z", "there is a backup");
    check(daily(), empty("2026-11-22T05:00:20Z"), generated(false), ("stay", "SyncInProgress", true));
    let full =
        json!({"lastSyncTime": "2026-11-22T05:00:20Z", "latestMoverStatus": {"result": "Successful", "logs": "k1"}});
    check(daily(), full, generated(false), ("stay", "WaitingForSchedule", false));
    // The schedule comes first where it is sooner.
    let plan = check(hourly(), empty("2026-11-22T06:25:00Z"), generated(false), ("stay", "WaitingForSchedule", false));
    assert_eq!(plan.status.sync.next_sync_time, Some(Time(at("2026-11-22T07:00:00Z"))));
}

#[test]
fn an_empty_volume_is_alarming_only_where_there_are_backups_of_it() {
    let status = || json!({"lastSyncStartTime": "2026-11-22T06:29:00Z"});
    let with = |has_history: bool| {
        move |seen: &mut Observed| {
            ended(|report| report.outcome = Outcome::Nothing)(seen);
            generated(has_history)(seen);
        }
    };
    let new = check(hourly(), status(), with(false), ("stay", "CleaningUp", false));
    assert!(new.done.is_some_and(|done| done.is_good));
    let old = check(hourly(), status(), with(true), ("stay", "CleaningUp", false));
    assert!(old.done.is_some_and(|done| !done.is_good && done.is_quarantined));
}

#[test]
fn a_run_that_does_not_end_is_late_at_some_time() {
    let since = |last: &str| json!({"lastSyncStartTime": "2026-11-22T06:00:00Z", "lastSyncTime": last});
    assert!(
        !check(hourly(), since("2026-11-22T05:00:05Z"), |_| {}, ("snapshot", "SyncInProgress", true)).is_out_of_sync
    );
    assert!(
        check(hourly(), since("2026-11-22T04:00:05Z"), |_| {}, ("snapshot", "SyncInProgress", true)).is_out_of_sync
    );
}

#[test]
fn the_claims_of_one_schedule_do_not_all_begin_at_once() {
    let offsets: Vec<u64> =
        (0..100).map(|number| within(&format!("media/data-{number}"), 600)).map(|span| span.as_secs()).collect();
    assert!(offsets.iter().all(|seconds| *seconds <= 600));
    let in_first_minute = offsets.iter().filter(|seconds| **seconds < 60).count();
    assert!(in_first_minute < 25, "{in_first_minute} of 100 in a tenth of the time");
    assert_eq!(within("media/data", 600), within("media/data", 600));
    assert_eq!(within("media/data", 0), Duration::ZERO);
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
    // What it cannot do of what is asked for is no secret.
    let asking = |seen: &mut Observed| {
        ended(|_| {})(seen);
        let kopia = json!({
            "repository": "repo", "copyMethod": "Snapshot",
            "actions": {"beforeSnapshot": "dump"}, "additionalArgs": ["--x"],
        });
        seen.kopia = Ok(serde_json::from_value(kopia).unwrap());
    };
    let plan = check(hourly(), status.clone(), asking, ("stay", "CleaningUp", false));
    let said = plan.news.unwrap().text;
    assert!(said.ends_with("; not served, and passed over: actions, additionalArgs"), "{said}");
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
