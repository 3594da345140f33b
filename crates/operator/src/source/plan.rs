//! What is to be done about a source now: pure, from what was seen. Source: VolSync API §4, zero-touch H29.

use std::time::Duration;

use api::id::RepositoryId;
use api::mover::{Outcome, Report};
use api::volsync::kopia::SourceKopia;
use api::volsync::options::CopyMethod;
use api::volsync::status::{FAILED, MoverStatus, SUCCESSFUL, SynchronizingReason};
use api::volsync::{ReplicationSource, ReplicationSourceStatus};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use ring::digest;

use super::objects;
use super::observe::Observed;
use crate::duration;
use crate::ids::{self, Ids};
use crate::job::Progress;
use crate::snapshots::VolumeSnapshot;
use crate::sync::{self, NO_TRIGGER, News, Times, UNDER_WAY, usual};

/// How soon a Secret that is missing is looked for again: nobody watches Secrets.
const WITHOUT_SECRET: Duration = Duration::from_secs(10);

/// How soon a new volume that was empty is looked at again: apps write some time after they have their volume.
const LOOK_AGAIN: Duration = Duration::from_secs(600);

/// What a backup of a volume without anything in it says. Source: VolSync's movers.
const EMPTY: &str = "Directory is empty: nothing to back up";

/// What is done, and what the status says afterwards.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The next step.
    pub step: Step,
    /// The status, its condition aside.
    pub status: ReplicationSourceStatus,
    /// The condition.
    pub condition: (SynchronizingReason, String),
    /// What became of a run, if one has ended.
    pub done: Option<Done>,
    /// What is told, if it is new.
    pub news: Option<News>,
    /// When to look again although nothing changes.
    pub again: Option<Duration>,
    /// Whether one more try is given up.
    pub has_failed: bool,
    /// Whether a run has ended well.
    pub has_succeeded: bool,
    /// Whether the last backup has failed, or is older than it should be.
    pub is_out_of_sync: bool,
    /// Between two runs of the schedule; none without one.
    pub interval: Option<Duration>,
}

/// The next step.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing.
    Stay,
    /// A VolumeSnapshot is made.
    Snapshot(Box<VolumeSnapshot>),
    /// A claim is made of it, or a clone.
    Copy(Box<PersistentVolumeClaim>),
    /// The mover starts, if there is room for it.
    Start(Box<Job>),
    /// Everything temporary goes.
    ClearUp,
}

/// What became of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Done {
    /// How long it took.
    pub duration: Duration,
    /// Whether all of the volume is in a snapshot that counts.
    pub is_good: bool,
    /// Whether the next one was due before it ended.
    pub is_late: bool,
    /// Whether its snapshot is held back.
    pub is_quarantined: bool,
    /// Whether upkeep was due and did not come to its end.
    pub is_maintenance_failed: bool,
    /// The repository.
    pub repository: Option<RepositoryId>,
    /// As whom the next one runs, as far as this one has taught it.
    pub ids: Option<Ids>,
}

/// What is to be done about a source.
pub fn plan(source: &ReplicationSource, observed: &Observed, now: Timestamp) -> Plan {
    let status = source.status.clone().unwrap_or_default();
    let mut plan = Plan {
        step: Step::Stay,
        is_out_of_sync: status.sync.last_sync_time.is_none(),
        status,
        condition: usual(SynchronizingReason::SyncInProgress),
        done: None,
        news: None,
        again: None,
        has_failed: false,
        has_succeeded: false,
        interval: None,
    };
    let kopia = match &observed.kopia {
        Ok(kopia) => kopia,
        Err(why) => return wrong(plan, why.clone()),
    };
    let times = match Times::of(source.spec.trigger.as_ref(), offset(source, observed)) {
        Ok(times) => times,
        Err(why) => return wrong(plan, why),
    };
    plan.interval = times.interval(now);
    plan.is_out_of_sync = is_out_of_sync(&plan.status, &times, now);
    let Some(claim) = observed.claim.as_deref() else {
        let name = source.spec.source_pvc.clone().unwrap_or_default();
        return wrong(plan, format!("PersistentVolumeClaim {name} does not exist"));
    };
    let Some(method) = kopia.volume.copy_method else {
        return wrong(plan, "copyMethod is missing: it must be Direct, Clone or Snapshot".to_owned());
    };
    match plan.status.sync.last_sync_start_time.clone() {
        None => idle(source, observed, claim, &times, now, &mut plan),
        Some(started) => under_way(source, observed, (claim, method), &times, (started.0, now), &mut plan),
    }
    if let (CopyMethod::Snapshot, Some(why)) = (method, &observed.directly) {
        plan.condition.1.push_str(&format!("; the volume is read directly: {why}"));
    }
    plan
}

/// Somebody has to mend it first. Most of what they change wakes it; policies and repositories do not.
fn wrong(plan: Plan, why: String) -> Plan {
    Plan { condition: (SynchronizingReason::Error, why), again: Some(UNDER_WAY), ..plan }
}

/// The last backup has failed, or is older than it should be.
fn is_out_of_sync(status: &ReplicationSourceStatus, times: &Times<'_>, now: Timestamp) -> bool {
    let sync = &status.sync;
    let has_failed = sync.latest_mover_status.as_ref().is_some_and(|mover| mover.result.as_deref() == Some(FAILED));
    has_failed || times.is_late(sync.last_sync_time.as_ref().map(|time| time.0), now)
}

/// The claims of one schedule do not all begin at once: each has its own place in the policy's span.
fn offset(source: &ReplicationSource, observed: &Observed) -> Duration {
    let Some(own) = &observed.run.own else { return Duration::ZERO };
    let spec = &own.policy.spec;
    let last = source.status.as_ref().and_then(|status| status.sync.last_sync_time.as_ref());
    let turn = last.map(|time| time.0.as_second()).unwrap_or_default();
    let place = own.key.repository_prefix();
    within(&place, spec.offset.seconds()) + within(&format!("{place} {turn}"), spec.jitter.seconds())
}

/// A place between zero and so many seconds that depends on the text alone.
fn within(text: &str, seconds: u64) -> Duration {
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    let head = hash.as_ref().iter().take(4).fold(0_u64, |head, byte| head << 8 | u64::from(*byte));
    Duration::from_secs(head % (seconds + 1))
}

fn idle(
    source: &ReplicationSource,
    observed: &Observed,
    claim: &PersistentVolumeClaim,
    times: &Times<'_>,
    now: Timestamp,
    plan: &mut Plan,
) {
    if observed.job.is_some() || observed.copy.is_some() || observed.snapshot.is_some() {
        plan.step = Step::ClearUp;
        plan.condition = usual(SynchronizingReason::CleaningUp);
        return;
    }
    let sync = &mut plan.status.sync;
    let last = sync.last_sync_time.as_ref().map(|time| time.0);
    let next = last.and_then(|last| times.next(last));
    let again = empty_again(&sync.latest_mover_status, observed, claim, last);
    let next = [next, again].into_iter().flatten().min();
    sync.next_sync_time = next.map(Time);
    let is_asked_for = !times.manual.is_empty() && sync.last_manual_sync.as_deref() != Some(times.manual);
    if !times.is_any() {
        plan.condition = (SynchronizingReason::WaitingForManual, NO_TRIGGER.to_owned());
        return;
    }
    plan.condition = times.waiting();
    let at = next.map(|next| if again == Some(next) { next } else { next.checked_add(times.offset).unwrap_or(next) });
    let is_due = last.is_none() || is_asked_for || at.is_some_and(|at| at <= now);
    if !is_due {
        plan.again = at.and_then(|at| Duration::try_from(at.duration_since(now)).ok());
        return;
    }
    if source.spec.paused == Some(true) {
        plan.condition.1 = "paused".to_owned();
        return;
    }
    if claim.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Bound") {
        plan.condition.1 = format!("claim {} has no volume yet: nobody has used it", claim.name_any());
        return;
    }
    sync.last_sync_start_time = Some(Time(now));
    plan.condition = usual(SynchronizingReason::SyncInProgress);
}

/// When a volume that was empty, and of which there is no backup yet, is looked at again. Pauses double with its age, so
/// that one that stays empty costs little.
fn empty_again(
    mover: &Option<MoverStatus>,
    observed: &Observed,
    claim: &PersistentVolumeClaim,
    last: Option<Timestamp>,
) -> Option<Timestamp> {
    let is_new = observed.run.own.as_ref().is_some_and(|own| !own.has_history);
    let was_empty = mover.as_ref().and_then(|mover| mover.logs.as_deref()) == Some(EMPTY);
    let last = last.filter(|_| is_new && was_empty)?;
    let age = claim.creation_timestamp().and_then(|created| Duration::try_from(last.duration_since(created.0)).ok());
    last.checked_add(age.unwrap_or_default().max(LOOK_AGAIN)).ok()
}

fn under_way(
    source: &ReplicationSource,
    observed: &Observed,
    (claim, method): (&PersistentVolumeClaim, CopyMethod),
    times: &Times<'_>,
    (started, now): (Timestamp, Timestamp),
    plan: &mut Plan,
) {
    plan.again = Some(UNDER_WAY);
    if is_going(observed) {
        return;
    }
    if let (Some(job), Some(progress)) = (observed.job.as_deref(), &observed.progress) {
        match progress {
            Progress::Running | Progress::Ending => {
                if let Some(obstacle) = &observed.obstacle {
                    plan.condition.1 = format!("Synchronization in-progress: {obstacle}");
                }
            }
            Progress::Ended(report) => ended(job, report.as_deref(), observed, times, (started, now), plan),
        }
        return;
    }
    if source.spec.paused == Some(true) {
        plan.condition.1 = "Synchronization in-progress: paused".to_owned();
        return;
    }
    let is_direct = method == CopyMethod::Snapshot && observed.directly.is_some();
    let method = if is_direct { CopyMethod::Direct } else { method };
    let data = match method {
        CopyMethod::Direct | CopyMethod::None => claim.name_any(),
        CopyMethod::Clone => match &observed.copy {
            None => return plan.step = Step::Copy(Box::new(objects::clone(source, claim, times.manual))),
            Some(copy) => copy.name_any(),
        },
        CopyMethod::Snapshot => match (&observed.snapshot, &observed.copy) {
            (None, _) => return plan.step = Step::Snapshot(Box::new(objects::snapshot(source, claim, times.manual))),
            (Some(snapshot), _) if snapshot.failure().is_some() => {
                let why = format!("VolumeSnapshot {}: {}", snapshot.name_any(), snapshot.failure().unwrap_or_default());
                let since = snapshot.creation_timestamp().map_or(now, |time| time.0);
                return fail(why, since, observed, now, plan);
            }
            (Some(snapshot), _) if !snapshot.is_ready() => {
                plan.condition.1 =
                    format!("Synchronization in-progress: VolumeSnapshot {} is being taken", snapshot.name_any());
                return;
            }
            (Some(snapshot), None) => {
                return plan.step = Step::Copy(Box::new(objects::copy(source, claim, snapshot)));
            }
            (Some(_), Some(copy)) => copy.name_any(),
        },
    };
    if let Err(why) = &observed.secret {
        plan.again = Some(WITHOUT_SECRET);
        plan.condition = (SynchronizingReason::Error, why.clone());
        return;
    }
    if let Some(foreign) = &observed.foreign_job {
        plan.condition =
            (SynchronizingReason::Error, format!("Job {foreign} is somebody else's, and its name is needed"));
        return;
    }
    let began_for = observed.snapshot.as_deref().and_then(sync::manual);
    let began_for = began_for.or_else(|| observed.copy.as_deref().and_then(sync::manual));
    let manual = began_for.as_deref().unwrap_or(times.manual);
    match objects::job(source, observed, &data, manual) {
        Ok(job) => plan.step = Step::Start(Box::new(job)),
        Err(why) => plan.condition = (SynchronizingReason::Error, why),
    }
}

/// Whether something of an earlier try is on its way out: the next one waits for it.
fn is_going(observed: &Observed) -> bool {
    let job = observed.job.as_ref().is_some_and(|job| job.metadata.deletion_timestamp.is_some());
    let copy = observed.copy.as_ref().is_some_and(|copy| copy.metadata.deletion_timestamp.is_some());
    let snapshot = observed.snapshot.as_ref().is_some_and(|snapshot| snapshot.metadata.deletion_timestamp.is_some());
    job || copy || snapshot
}

/// How a mover's end counts.
enum End {
    /// The volume is in a snapshot.
    Good(String),
    /// It is not, or not all of it, and trying again at once would not change that.
    Alarming(String),
    /// It may be different next time.
    Failed(String),
}

fn ended(
    job: &Job,
    report: Option<&Report>,
    observed: &Observed,
    times: &Times<'_>,
    (started, now): (Timestamp, Timestamp),
    plan: &mut Plan,
) {
    let (text, is_good) = match judge(report, observed) {
        End::Failed(why) => {
            let since = sync::finished(job).unwrap_or(now);
            return fail(why, since, observed, now, plan);
        }
        End::Good(text) => {
            let fields = observed.kopia.as_ref().map(SourceKopia::unserved).unwrap_or_default();
            (sync::passing_over(&text, &fields), true)
        }
        End::Alarming(text) => (text, false),
    };
    let is_quarantined =
        report.is_some_and(|report| report.quarantined || report.outcome == Outcome::Nothing) && !is_good;
    let duration = Duration::try_from(now.duration_since(started)).unwrap_or_default();
    let sync = &mut plan.status.sync;
    let deadline = sync.last_sync_time.as_ref().and_then(|last| times.next(times.next(last.0)?));
    sync.last_sync_time = Some(Time(now));
    sync.last_sync_start_time = None;
    sync.last_sync_duration = Some(duration::go(duration));
    sync.next_sync_time = times.next(now).map(Time);
    sync.last_manual_sync = sync::manual(job).filter(|tag| !tag.is_empty());
    let result = if is_good { SUCCESSFUL } else { FAILED };
    sync.latest_mover_status = Some(MoverStatus { result: Some(result.to_owned()), logs: Some(text.clone()) });
    plan.condition = usual(SynchronizingReason::CleaningUp);
    plan.again = None;
    plan.is_out_of_sync = !is_good;
    plan.has_succeeded = true;
    plan.done = Some(Done {
        duration,
        is_good,
        is_late: deadline.is_some_and(|deadline| now > deadline),
        is_quarantined,
        is_maintenance_failed: report.is_some_and(|report| report.maintenance_failed),
        repository: report.and_then(|report| report.repository.clone()),
        ids: report.and_then(|report| ids::learned(job, report)),
    });
    let reason = match (is_good, is_quarantined) {
        (true, _) => "BackupSucceeded",
        (false, true) => "BackupQuarantined",
        (false, false) => "BackupIncomplete",
    };
    plan.news = Some(News { reason, is_warning: !is_good, text });
}

fn judge(report: Option<&Report>, observed: &Observed) -> End {
    let Some(report) = report else { return End::Failed("the mover's pod ended without a word".to_owned()) };
    match &report.outcome {
        Outcome::Complete => End::Good(success(report)),
        Outcome::Partial => {
            let first = report.unreadable.paths.first().map(String::as_str).unwrap_or_default();
            End::Alarming(format!(
                "{} entries could not be read, {first} among them; {}",
                report.unreadable.count,
                success(report)
            ))
        }
        Outcome::Nothing if observed.run.own.as_ref().is_some_and(|own| own.has_history) => End::Alarming(
            "the volume is empty although there are backups of it: none was taken, and they stay".to_owned(),
        ),
        Outcome::Nothing => End::Good(EMPTY.to_owned()),
        Outcome::Interrupted => End::Failed("the mover was interrupted".to_owned()),
        Outcome::Failed { reason, hint, .. } if report.quarantined => End::Alarming(format!("{reason} ({hint})")),
        Outcome::Failed { class, reason, hint } => End::Failed(crate::claim::sentence(*class, reason, hint)),
    }
}

fn success(report: &Report) -> String {
    let id = report.snapshot.as_ref().map_or("none", |id| id.as_str());
    format!("snapshot {id} saved: {} files, {} bytes, {} bytes new", report.files, report.bytes, report.new_bytes)
}

/// Waits, then everything of this try goes, and the next begins with a new copy.
fn fail(why: String, since: Timestamp, observed: &Observed, now: Timestamp, plan: &mut Plan) {
    let logs = MoverStatus { result: Some(FAILED.to_owned()), logs: Some(why.clone()) };
    if plan.status.sync.latest_mover_status.as_ref() != Some(&logs) {
        plan.news = Some(News { reason: "BackupFailed", is_warning: true, text: why.clone() });
    }
    plan.status.sync.latest_mover_status = Some(logs);
    plan.condition = (SynchronizingReason::Error, why);
    let until = since.checked_add(observed.pause).unwrap_or(now);
    match Duration::try_from(until.duration_since(now)) {
        Ok(left) if !left.is_zero() => plan.again = Some(left),
        Ok(_) | Err(_) => {
            plan.step = Step::ClearUp;
            plan.has_failed = true;
        }
    }
}

#[cfg(test)]
mod tests;
