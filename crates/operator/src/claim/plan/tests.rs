use std::sync::Arc;

use api::decide::Proof;
use api::id::SnapshotId;
use api::mover::Unreadable;
use api::v1alpha1::BackupPolicy;
use k8s_openapi::api::batch::v1::Job;
use serde_json::{Value, json};

use super::super::judge::Protection;
use super::super::observe::Answer;
use super::super::word::Said;
use super::*;

const NOW: &str = "2026-11-22T06:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn claim(change: Value) -> PersistentVolumeClaim {
    let mut body = json!({
        "metadata": {"name": "data", "namespace": "media", "uid": "u-1", "creationTimestamp": "2026-11-22T05:00:00Z"},
        "spec": {"resources": {"requests": {"storage": "1Gi"}}},
    });
    for (key, value) in change.as_object().into_iter().flatten() {
        body["metadata"][key] = value.clone();
    }
    serde_json::from_value(body).unwrap()
}

/// A claim that waits for us, and of which nothing is known yet.
fn waiting() -> Observed {
    let policy = Arc::new(BackupPolicy::new("default", serde_json::from_value(json!({})).unwrap()));
    let cadence = policy.spec.claims.label.cadence("hourly").unwrap().clone();
    Observed {
        protection: Protection { policy, cadence, said: Said::default() },
        is_marked: true,
        is_being_bound: false,
        is_bound: false,
        recorded: None,
        carried: None,
        answer: None,
        placement: Placement::Known,
        prime: None,
        restoring: Restoring::No,
        volume: None,
        source: None,
    }
}

fn snapshot() -> Snapshot {
    Snapshot { id: SnapshotId::new("k1"), time: at("2026-11-21T02:00:00Z"), files: 3, bytes: 70, owner: None }
}

fn restore() -> Verdict {
    Verdict::Restore { snapshot: snapshot() }
}

fn fresh() -> Verdict {
    Verdict::Fresh { proof: Proof::NeverInitialised }
}

fn recorded(verdict: Verdict) -> Option<Recorded> {
    Some(Recorded { verdict, repository_id: None, uid: "u-1".to_owned(), time: at(NOW) })
}

fn answer(decision: Decision) -> Option<Answer> {
    Some(Answer { decision, repository_id: None })
}

fn prime(purpose: &str) -> Option<Arc<PersistentVolumeClaim>> {
    let body =
        json!({"metadata": {"name": "vs-prime-u-1", "uid": "p-1", "annotations": {"perennial.dev/decision": purpose}}});
    Some(Arc::new(serde_json::from_value(body).unwrap()))
}

fn volume_of(uid: &str) -> Option<PersistentVolume> {
    Some(serde_json::from_value(json!({"metadata": {"name": "pv"}, "spec": {"claimRef": {"uid": uid}}})).unwrap())
}

fn job(progress: Progress) -> Restoring {
    Restoring::Job { job: Arc::new(Job::default()), progress }
}

fn report(change: impl Fn(&mut Report)) -> Restoring {
    let mut report = Report::new(Outcome::Complete);
    report.snapshot = Some(SnapshotId::new("k1"));
    (report.files, report.bytes) = (3, 70);
    change(&mut report);
    job(Progress::Ended(Some(Box::new(report))))
}

fn word(step: &Step) -> String {
    match step {
        Step::Stay => "stay".to_owned(),
        Step::MakePrime { purpose } => format!("make prime for {}", purpose.as_str()),
        Step::DropPrime => "drop prime".to_owned(),
        Step::Start { snapshot, .. } => format!("start {}", snapshot.id),
        Step::Discard => "discard".to_owned(),
        Step::HandOver { .. } => "hand over".to_owned(),
        Step::ClearUp => "clear up".to_owned(),
    }
}

/// What is done, and what is recorded if that is new.
#[track_caller]
fn check(change: impl Fn(&mut Observed), step: &str, record: &str) -> Plan {
    check_claim(&claim(json!({})), change, step, record)
}

#[track_caller]
fn check_claim(claim: &PersistentVolumeClaim, change: impl Fn(&mut Observed), step: &str, record: &str) -> Plan {
    let mut observed = waiting();
    change(&mut observed);
    let plan = plan(claim, &observed, at(NOW));
    let said = plan.record.as_ref().map(|recorded| match &recorded.verdict {
        Verdict::Hold { reason, .. } => reason.to_string(),
        Verdict::Kept { why } => format!("{why:?}").split([' ', '{']).next().unwrap_or_default().to_owned(),
        verdict => verdict.as_str().to_owned(),
    });
    assert_eq!((word(&plan.step).as_str(), said.as_deref().unwrap_or_default()), (step, record));
    plan
}

#[test]
fn what_is_decided_is_recorded_and_carried_out() {
    check(|_| {}, "stay", "");
    check(
        |seen| seen.answer = answer(Decision::Fresh { proof: Proof::NeverInitialised }),
        "make prime for fresh",
        "fresh",
    );
    check(|seen| seen.answer = answer(Decision::Restore { snapshot: snapshot() }), "make prime for restore", "restore");
    let hold = || Decision::Hold { reason: HoldReason::RepositoryAuth, detail: "403".to_owned() };
    check(|seen| seen.answer = answer(hold()), "stay", "RepositoryAuth");
    // Said once.
    let again = |seen: &mut Observed| {
        seen.recorded = recorded(hold().into());
        seen.answer = answer(hold());
    };
    assert_eq!(check(again, "stay", "").news, None);
}

#[test]
fn an_empty_volume_is_handed_over_as_it_comes() {
    let with = |volume: Option<PersistentVolume>| {
        move |seen: &mut Observed| {
            seen.recorded = recorded(fresh());
            seen.prime = prime("fresh");
            seen.volume = volume.clone();
        }
    };
    check(with(None), "stay", "");
    check(with(volume_of("p-1")), "hand over", "");
    check(with(volume_of("u-1")), "stay", "");
}

#[test]
fn a_volume_is_handed_over_only_when_all_of_the_snapshot_is_in_it() {
    let with = |restoring: Restoring| {
        move |seen: &mut Observed| {
            seen.recorded = recorded(restore());
            seen.prime = prime("restore");
            seen.volume = volume_of("p-1");
            seen.restoring = restoring.clone();
        }
    };
    check(with(Restoring::No), "start k1", "");
    check(with(job(Progress::Running)), "stay", "");
    check(with(job(Progress::Ending)), "stay", "");
    check(with(report(|_| {})), "hand over", "");
    check(with(job(Progress::Ended(None))), "discard", "RestoreFailed");
    check(with(report(|report| report.files = 2)), "discard", "RestoreFailed");
    check(with(report(|report| report.bytes = 69)), "discard", "RestoreFailed");
    check(with(report(|report| report.snapshot = Some(SnapshotId::new("k0")))), "discard", "RestoreFailed");
    check(with(report(|report| report.snapshot = None)), "discard", "RestoreFailed");
    check(with(report(|report| report.outcome = Outcome::Nothing)), "discard", "RestoreFailed");
    check(with(report(|report| report.outcome = Outcome::Interrupted)), "discard", "RestoreFailed");
    let partial = |report: &mut Report| {
        report.outcome = Outcome::Partial;
        report.unreadable = Unreadable { count: 1, paths: vec!["a/b".to_owned()] };
    };
    let told = check(with(report(partial)), "discard", "RestoreFailed").news.unwrap();
    assert_eq!(told.text, "1 entries could not be restored, a/b among them");
    check(with(Restoring::Foreign { owner: "Job x".to_owned() }), "stay", "");
}

#[test]
fn what_a_restore_has_touched_is_never_handed_out_as_empty() {
    let changed = |seen: &mut Observed| {
        seen.recorded = recorded(fresh());
        seen.prime = prime("restore");
        seen.volume = volume_of("p-1");
    };
    check(changed, "drop prime", "");
}

#[test]
fn a_claim_without_a_place_is_decided_and_waits() {
    let late = |seen: &mut Observed| {
        seen.placement = Placement::WaitsForConsumer;
        seen.answer = answer(Decision::Restore { snapshot: snapshot() });
    };
    check(late, "stay", "restore");
}

#[test]
fn a_snapshot_that_does_not_fit_is_not_begun() {
    let large = Snapshot { bytes: (1 << 30) + 1, ..snapshot() };
    let too_large = |seen: &mut Observed| seen.answer = answer(Decision::Restore { snapshot: large.clone() });
    check(too_large, "stay", "CapacityTooSmall");
}

#[test]
fn a_raw_device_gets_no_files_and_starts_empty_where_there_are_none() {
    let mut raw = claim(json!({}));
    raw.spec.as_mut().unwrap().volume_mode = Some("Block".to_owned());
    let backed_up = |seen: &mut Observed| seen.answer = answer(Decision::Restore { snapshot: snapshot() });
    check_claim(&raw, backed_up, "stay", "VolumeModeMismatch");
    let never = |seen: &mut Observed| seen.answer = answer(Decision::Fresh { proof: Proof::NeverInitialised });
    check_claim(&raw, never, "make prime for fresh", "fresh");
    let filled = |seen: &mut Observed| {
        seen.is_bound = true;
        seen.recorded = recorded(fresh());
    };
    assert_eq!(check_claim(&raw, filled, "stay", "").gate, Gate::NoFiles);
}

#[test]
fn what_was_needed_goes_when_the_claim_has_its_volume() {
    let bound = |seen: &mut Observed| {
        seen.is_bound = true;
        seen.recorded = recorded(restore());
        seen.prime = prime("restore");
    };
    // No backup before that.
    assert_eq!(check(bound, "clear up", "").gate, Gate::WaitingForBound);
    let done = |seen: &mut Observed| {
        bound(seen);
        seen.prime = None;
    };
    assert_eq!(check(done, "stay", "").gate, Gate::Ready);
}

#[test]
fn a_claim_that_came_without_us_is_judged_by_its_history() {
    let with = |decision: Decision| {
        move |seen: &mut Observed| {
            seen.is_marked = false;
            seen.is_bound = true;
            seen.answer = answer(decision.clone());
        }
    };
    let kept = check(with(Decision::Fresh { proof: Proof::NeverInitialised }), "stay", "NoHistory");
    assert_eq!(kept.gate, Gate::Ready);
    let older = check(with(Decision::Restore { snapshot: snapshot() }), "stay", "BoundWithoutDecision");
    assert_eq!(older.gate, Gate::WaitingForRestore);
    let newer = Snapshot { time: at("2026-11-22T05:30:00Z"), ..snapshot() };
    check(with(Decision::Restore { snapshot: newer }), "stay", "OwnHistory");
    let accepts = |id: &str| claim(json!({"annotations": {"perennial.dev/accept-data": id}}));
    check_claim(&accepts("k1"), with(Decision::Restore { snapshot: snapshot() }), "stay", "Accepted");
    check_claim(&accepts("k0"), with(Decision::Restore { snapshot: snapshot() }), "stay", "BoundWithoutDecision");
    // The decision that was carried out stands on the volume, too.
    let carried = |seen: &mut Observed| {
        with(Decision::Restore { snapshot: snapshot() })(seen);
        seen.carried = recorded(restore());
    };
    assert_eq!(check(carried, "stay", "restore").gate, Gate::Ready);
}
