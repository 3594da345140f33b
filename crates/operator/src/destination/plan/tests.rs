use std::collections::BTreeSet;

use api::exit::Class;
use api::id::SnapshotId;
use api::naming::Identity;
use serde_json::{Value, json};

use super::*;

const NOW: &str = "2026-11-22T06:30:00Z";

/// A run has begun.
fn begun() -> Value {
    json!({"lastSyncStartTime": "2026-11-22T06:29:00Z"})
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn destination(kopia: Value, trigger: Value, status: Value) -> ReplicationDestination {
    let mut section = json!({
        "repository": "repo", "copyMethod": "Snapshot", "capacity": "5Gi", "accessModes": ["ReadWriteOnce"],
    });
    for (key, value) in kopia.as_object().unwrap() {
        section[key] = value.clone();
    }
    let body = json!({
        "metadata": {"name": "app", "namespace": "media", "uid": "d-1"},
        "spec": {"trigger": trigger, "kopia": section},
        "status": status,
    });
    serde_json::from_value(body).unwrap()
}

fn claim(name: &str) -> Arc<PersistentVolumeClaim> {
    let body = json!({
        "metadata": {"name": name, "namespace": "media"},
        "spec": {"resources": {"requests": {"storage": "5Gi"}}},
    });
    Arc::new(serde_json::from_value(body).unwrap())
}

fn image(name: &str, more: Value) -> Arc<VolumeSnapshot> {
    let mut body = json!({
        "metadata": {"name": name, "creationTimestamp": "2026-11-22T06:00:00Z", "ownerReferences": [
            {"apiVersion": "volsync.backube/v1alpha1", "kind": "ReplicationDestination", "name": "app", "uid": "d-1"},
        ]},
        "spec": {"source": {}},
        "status": {"boundVolumeSnapshotContentName": "c", "readyToUse": true},
    });
    if let Some(labels) = more.get("labels") {
        body["metadata"]["labels"] = labels.clone();
    }
    if let Some(status) = more.get("status") {
        body["status"] = status.clone();
    }
    Arc::new(serde_json::from_value(body).unwrap())
}

fn observed(destination: &ReplicationDestination) -> Observed {
    let identity = Identity { username: "app".to_owned(), hostname: "media".to_owned(), path: "/data".to_owned() };
    Observed {
        kopia: Ok(destination.spec.kopia.clone().unwrap()),
        identity: Ok(identity),
        target: Target::Own(Some(claim("volsync-app-dest"))),
        place: Place::Anywhere,
        ids: crate::sync::USER,
        secret_name: Some("repo".to_owned()),
        secret: Ok(()),
        repository: "media.repo".to_owned(),
        is_privileged: false,
        job: None,
        progress: None,
        obstacle: None,
        foreign_job: None,
        images: Vec::new(),
        in_use: BTreeSet::new(),
        can_snapshot: true,
        pause: Duration::from_secs(60),
        image: "image".to_owned(),
    }
}

fn word(step: &Step) -> String {
    let names =
        |images: &[Arc<VolumeSnapshot>]| images.iter().map(|image| image.name_any()).collect::<Vec<_>>().join(" ");
    match step {
        Step::Stay => "stay".to_owned(),
        Step::Claim(claim) => format!("claim {}", claim.name_any()),
        Step::Grow(_) => "grow".to_owned(),
        Step::Snapshot(snapshot) => format!("snapshot {}", snapshot.name_any()),
        Step::Start(_) => "start".to_owned(),
        Step::ClearUp(left) => {
            let job = left.job.as_ref().map_or("", |_| " job");
            let claim = left.claim.as_ref().map_or("", |_| " claim");
            format!("clear up{job}{claim} [{}] [{}]", names(&left.images), names(&left.released))
        }
    }
}

/// The step and the condition's reason.
#[track_caller]
fn check(
    (kopia, trigger, status): (Value, Value, Value),
    change: impl Fn(&mut Observed),
    expected: (&str, &str),
) -> Plan {
    let destination = destination(kopia, trigger, status);
    let mut seen = observed(&destination);
    change(&mut seen);
    let plan = plan(&destination, &seen, at(NOW));
    let found = word(&plan.step);
    assert_eq!((found.as_str(), plan.condition.0.as_str()), expected, "{}", plan.condition.1);
    plan
}

fn once() -> Value {
    json!({"manual": "once"})
}

fn ended(outcome: Outcome) -> impl Fn(&mut Observed) {
    let mut report = Report::new(outcome);
    report.snapshot = Some(SnapshotId::new("k1"));
    move |seen| {
        let finished = json!({"status": {"conditions": [
            {"type": "Complete", "status": "True", "lastTransitionTime": "2026-11-22T06:29:50Z"},
        ]}, "metadata": {"annotations": {"perennial.dev/manual": "once"}}});
        seen.job = Some(Arc::new(serde_json::from_value(finished).unwrap()));
        seen.progress = Some(Progress::Ended(Some(Box::new(report.clone()))));
    }
}

#[test]
fn when_a_run_begins() {
    let begins = ("stay", "SyncInProgress");
    let runs = |plan: Plan| plan.status.sync.last_sync_start_time.is_some();
    assert!(runs(check((json!({}), once(), json!({})), |_| {}, begins)));
    let done = json!({"lastSyncTime": "2026-11-22T06:00:05Z", "lastManualSync": "once"});
    assert!(!runs(check((json!({}), once(), done.clone()), |_| {}, ("stay", "WaitingForManual"))));
    assert!(runs(check((json!({}), json!({"manual": "twice"}), done.clone()), |_| {}, begins)));
    // A tag that was obeyed does not stop the schedule.
    let both = json!({"manual": "once", "schedule": "15 * * * *"});
    let plan = check((json!({}), both.clone(), done), |_| {}, begins);
    assert!(runs(plan));
    let recent = json!({"lastSyncTime": "2026-11-22T06:20:00Z", "lastManualSync": "once"});
    let plan = check((json!({}), both, recent), |_| {}, ("stay", "WaitingForSchedule"));
    assert_eq!(plan.again, Some(Duration::from_secs(45 * 60)));
    let silent = check((json!({}), json!({}), json!({})), |_| {}, ("stay", "WaitingForManual"));
    assert_eq!(silent.condition.1, NO_TRIGGER);
}

#[test]
fn a_run_step_by_step() {
    let run = || (json!({}), once(), begun());
    let no_claim = |seen: &mut Observed| seen.target = Target::Own(None);
    check(run(), no_claim, ("claim volsync-app-dest", "SyncInProgress"));
    check(run(), |_| {}, ("start", "SyncInProgress"));
    check((json!({"capacity": "6Gi"}), once(), begun()), |_| {}, ("grow", "SyncInProgress"));
    check((json!({"capacity": "4Gi"}), once(), begun()), |_| {}, ("start", "SyncInProgress"));
    check(run(), |seen| seen.place = Place::Unknown, ("stay", "SyncInProgress"));
    check(run(), |seen| seen.secret = Err("there is no Secret media/repo".to_owned()), ("stay", "Error"));
    let name = "volsync-app-dest-20261122062900";
    let taken = |status: Value| {
        move |seen: &mut Observed| {
            ended(Outcome::Complete)(seen);
            seen.images = vec![image(name, json!({"status": status}))];
        }
    };
    check(run(), ended(Outcome::Complete), (format!("snapshot {name}").as_str(), "SyncInProgress"));
    check(run(), taken(json!({})), ("stay", "SyncInProgress"));
    let ready = taken(json!({"boundVolumeSnapshotContentName": "c", "readyToUse": true}));
    let plan = check(run(), ready, ("stay", "CleaningUp"));
    assert_eq!(plan.status.latest_image.as_ref().map(|image| image.name.as_str()), Some(name));
    let sync = &plan.status.sync;
    assert_eq!((sync.last_manual_sync.as_deref(), sync.last_sync_duration.as_deref()), (Some("once"), Some("1m0s")));
    assert!(sync.last_sync_start_time.is_none() && plan.done.is_some());
    let failed = taken(json!({"error": {"message": "no room"}}));
    let plan = check(run(), failed, (format!("clear up [{name}] []").as_str(), "Error"));
    assert!(plan.has_failed && plan.status.latest_image.is_none());
}

#[test]
fn the_claim_itself_is_the_image_of_direct() {
    let given = |seen: &mut Observed| {
        ended(Outcome::Complete)(seen);
        seen.target = Target::Given { name: "data".to_owned(), claim: Some(claim("data")) };
    };
    let kopia = json!({"copyMethod": "Direct", "destinationPVC": "data"});
    let plan = check((kopia, once(), begun()), given, ("stay", "CleaningUp"));
    let expected = LatestImage {
        api_group: Some(String::new()),
        kind: "PersistentVolumeClaim".to_owned(),
        name: "data".to_owned(),
    };
    assert_eq!(plan.status.latest_image, Some(expected));
}

#[test]
fn whose_snapshots_there_are_is_told_until_some_are_found() {
    let direct = || (json!({"copyMethod": "Direct", "shallow": 1}), once(), begun());
    let nothing = |seen: &mut Observed| {
        ended(Outcome::Nothing)(seen);
        let latest = at("2026-11-21T03:00:00Z");
        let known = Available { identity: "other@media:/data".to_owned(), snapshots: 3, latest };
        if let Some(Progress::Ended(Some(report))) = &mut seen.progress {
            report.available = vec![known];
        }
    };
    let plan = check(direct(), nothing, ("stay", "CleaningUp"));
    let said = serde_json::to_value(plan.status.kopia).unwrap();
    let known =
        json!([{"identity": "other@media:/data", "snapshotCount": 3, "latestSnapshot": "2026-11-21T03:00:00Z"}]);
    assert_eq!((&said["snapshotsFound"], &said["availableIdentities"]), (&json!(0), &known));
    let plan = check(direct(), ended(Outcome::Complete), ("stay", "CleaningUp"));
    let said = serde_json::to_value(plan.status.kopia).unwrap();
    assert!(said["availableIdentities"].is_null() && said["snapshotsFound"].is_null(), "{said}");
    assert!(plan.news.unwrap().text.ends_with("; not served, and passed over: shallow"));
}

#[test]
fn nothing_to_restore_is_a_success_and_failing_is_none() {
    let direct = || (json!({"copyMethod": "Direct"}), once(), begun());
    let plan = check(direct(), ended(Outcome::Nothing), ("stay", "CleaningUp"));
    let logs = plan.status.sync.latest_mover_status.and_then(|status| status.logs).unwrap();
    assert_eq!(logs, "No eligible snapshots found: No snapshots of app@media:/data. No data will be restored");
    let reason = "no complete snapshot had begun".to_owned();
    let refused = Outcome::Failed { class: Class::Blocked, reason, hint: String::new() };
    let plan = check(direct(), ended(refused.clone()), ("stay", "Error"));
    assert_eq!((plan.again, plan.status.latest_image), (Some(Duration::from_secs(50)), None));
    assert_eq!(plan.condition.1, "blocked: no complete snapshot had begun");
    let waited = |seen: &mut Observed| {
        ended(refused.clone())(seen);
        seen.pause = Duration::from_secs(5);
    };
    assert!(check(direct(), waited, ("clear up job [] []", "Error")).has_failed);
    check(direct(), ended(Outcome::Partial), ("stay", "Error"));
}

#[test]
fn what_is_replaced_goes_and_what_is_wanted_stays() {
    let current = json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "new"});
    let status = json!({"lastSyncTime": NOW, "lastManualSync": "once", "latestImage": current});
    let idle = |kopia: Value| (kopia, once(), status.clone());
    let both = |seen: &mut Observed| seen.images = vec![image("old", json!({})), image("new", json!({}))];
    check(idle(json!({})), both, ("clear up [old] []", "CleaningUp"));
    let wanted = |seen: &mut Observed| {
        seen.images = vec![image("old", json!({"labels": {"volsync.backube/do-not-delete": ""}}))];
    };
    check(idle(json!({})), wanted, ("clear up [] [old]", "CleaningUp"));
    let used = |seen: &mut Observed| {
        both(seen);
        seen.in_use.insert("old".to_owned());
    };
    let plan = check(idle(json!({})), used, ("stay", "WaitingForManual"));
    assert_eq!(plan.again, Some(UNDER_WAY));
    check(idle(json!({"cleanupTempPVC": true})), |_| {}, ("clear up claim [] []", "CleaningUp"));
    check(idle(json!({"cleanupTempPVC": true, "copyMethod": "Direct"})), |_| {}, ("stay", "WaitingForManual"));
    let given = |seen: &mut Observed| {
        seen.target = Target::Given { name: "data".to_owned(), claim: Some(claim("data")) };
    };
    check(idle(json!({"cleanupTempPVC": true})), given, ("stay", "WaitingForManual"));
}

#[test]
fn what_is_wrong_stands_in_the_condition() {
    let said = |kopia: Value, change: fn(&mut Observed)| {
        check((kopia, once(), begun()), change, ("stay", "Error")).condition.1
    };
    assert_eq!(said(json!({}), |seen| seen.kopia = Err("no section".to_owned())), "no section");
    assert!(said(json!({"copyMethod": "Clone"}), |_| {}).starts_with("unsupported copyMethod: Clone"));
    assert!(said(json!({"previous": -1}), |_| {}).contains("must not be negative"));
    assert!(said(json!({"restoreAsOf": "yesterday"}), |_| {}).contains("is no moment"));
    let foreign = |seen: &mut Observed| seen.target = Target::Foreign { name: "volsync-app-dest".to_owned() };
    assert!(said(json!({}), foreign).contains("was not made for this destination"));
    let missing = |seen: &mut Observed| seen.target = Target::Given { name: "data".to_owned(), claim: None };
    assert_eq!(said(json!({}), missing), "PersistentVolumeClaim data does not exist");
    let no_claim = |seen: &mut Observed| seen.target = Target::Own(None);
    assert_eq!(said(json!({"capacity": null}), no_claim), "capacity must be provided when destinationPVC is not");
    assert_eq!(said(json!({"accessModes": null}), no_claim), "accessModes must be provided when destinationPVC is not");
    assert!(said(json!({}), |seen| seen.can_snapshot = false).contains("use Direct"));
}
