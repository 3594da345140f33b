//! What is to be done about a destination that somebody wrote: pure, from what was seen. Source: VolSync API §4, §5.4.
//!
//! ```text
//! idle ─ due ─→ claim ─→ Job ─→ Report ─┬→ image (VolumeSnapshot, or the claim itself) ─→ idle, cleared up
//!                ↑                      │
//!                └──── after a pause ───┴ failed
//! ```
//! Guarantees: the image before stays until the new one is ready; a restore that failed makes no image; nothing is written
//! into a claim that was neither named nor made for it.

use std::sync::Arc;
use std::time::Duration;

use api::mover::{Available, Outcome, Report};
use api::volsync::destination::LatestImage;
use api::volsync::kopia::{AvailableIdentity, DestinationKopia, DestinationKopiaStatus};
use api::volsync::options::CopyMethod;
use api::volsync::status::{FAILED, MoverStatus, SUCCESSFUL, SynchronizingReason};
use api::volsync::{ReplicationDestination, ReplicationDestinationStatus};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Resource, ResourceExt};

use super::objects;
use super::observe::{Observed, Target};
use crate::consumers::Place;
use crate::duration;
use crate::job::Progress;
use crate::names::DO_NOT_DELETE;
use crate::quantity;
use crate::snapshots::VolumeSnapshot;
use crate::sync::{self, NO_TRIGGER, News, Times, UNDER_WAY, usual};

/// What is done, and what the status says afterwards.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The next step.
    pub step: Step,
    /// The status, its condition aside.
    pub status: ReplicationDestinationStatus,
    /// The condition.
    pub condition: (SynchronizingReason, String),
    /// How long a run took that has ended well, and whether the next one was due before it ended.
    pub done: Option<(Duration, bool)>,
    /// What is told, if it is new.
    pub news: Option<News>,
    /// When to look again although nothing changes.
    pub again: Option<Duration>,
    /// Whether one more try is given up.
    pub has_failed: bool,
    /// Whether the last restore is older than it should be.
    pub is_out_of_sync: bool,
}

/// The next step.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing.
    Stay,
    /// The claim that is written into is made.
    Claim(Box<PersistentVolumeClaim>),
    /// It gets more room.
    Grow(Box<PersistentVolumeClaim>),
    /// The mover starts, if there is room for it.
    Start(Box<Job>),
    /// The image is made.
    Snapshot(Box<VolumeSnapshot>),
    /// What is not needed any more goes.
    ClearUp(Box<Leftovers>),
}

/// What is not needed any more.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Leftovers {
    /// The Job.
    pub job: Option<Arc<Job>>,
    /// The claim that was written into.
    pub claim: Option<Arc<PersistentVolumeClaim>>,
    /// VolumeSnapshots that go.
    pub images: Vec<Arc<VolumeSnapshot>>,
    /// VolumeSnapshots that somebody else wants to keep: they are the destination's no more.
    pub released: Vec<Arc<VolumeSnapshot>>,
}

impl Leftovers {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What is to be done about a destination.
pub fn plan(destination: &ReplicationDestination, observed: &Observed, now: Timestamp) -> Plan {
    let status = destination.status.clone().unwrap_or_default();
    let mut plan = Plan {
        step: Step::Stay,
        is_out_of_sync: status.sync.last_sync_time.is_none(),
        status,
        condition: usual(SynchronizingReason::SyncInProgress),
        done: None,
        news: None,
        again: None,
        has_failed: false,
    };
    match wanted(destination, observed) {
        Err(why) => return wrong(plan, why),
        Ok(wanted) => {
            let found = plan.status.kopia.get_or_insert_default();
            found.requested_identity = observed.identity.as_ref().ok().map(ToString::to_string);
            match plan.status.sync.last_sync_start_time.clone() {
                None => idle(destination, observed, &wanted, now, &mut plan),
                Some(began) => under_way(destination, observed, &wanted, (began.0, now), &mut plan),
            }
        }
    }
    plan
}

/// What was found of the identity that was asked for, as far as the mover looked: how many snapshots is told only where
/// there is none.
fn note_available(found: &mut DestinationKopiaStatus, report: &Report) {
    let of = |available: &Available| AvailableIdentity {
        identity: available.identity.clone(),
        snapshot_count: i32::try_from(available.snapshots).unwrap_or(i32::MAX),
        latest_snapshot: Some(Time(available.latest)),
    };
    let is_none = !report.available.is_empty();
    found.snapshots_found = is_none.then_some(0);
    found.available_identities = is_none.then(|| report.available.iter().map(of).collect());
}

/// Somebody has to mend it first; whatever they change wakes it.
fn wrong(plan: Plan, why: String) -> Plan {
    Plan { condition: (SynchronizingReason::Error, why), again: Some(UNDER_WAY), ..plan }
}

/// A destination that makes sense.
struct Wanted<'a> {
    kopia: &'a DestinationKopia,
    times: Times<'a>,
    /// Whether what is restored becomes a VolumeSnapshot; else the claim itself is the image.
    is_snapshot: bool,
}

fn wanted<'a>(destination: &'a ReplicationDestination, observed: &'a Observed) -> Result<Wanted<'a>, String> {
    let kopia = observed.kopia.as_ref().map_err(Clone::clone)?;
    let times = Times::of(destination.spec.trigger.as_ref(), Duration::ZERO)?;
    observed.identity.as_ref().map_err(Clone::clone)?;
    objects::selection(kopia)?;
    let is_snapshot = match kopia.volume.volume.copy_method {
        Some(CopyMethod::Snapshot) if observed.can_snapshot => true,
        Some(CopyMethod::Snapshot) => {
            return Err("copyMethod Snapshot: the cluster has no VolumeSnapshots; use Direct".to_owned());
        }
        Some(CopyMethod::Direct | CopyMethod::None) => false,
        Some(CopyMethod::Clone) => {
            return Err("unsupported copyMethod: Clone -- must be Direct, None, or Snapshot".to_owned());
        }
        None => return Err("copyMethod is missing: it must be Direct or Snapshot".to_owned()),
    };
    Ok(Wanted { kopia, times, is_snapshot })
}

fn idle(
    destination: &ReplicationDestination,
    observed: &Observed,
    wanted: &Wanted<'_>,
    now: Timestamp,
    plan: &mut Plan,
) {
    let left = leftovers(observed, wanted, &plan.status);
    if !left.is_empty() {
        plan.step = Step::ClearUp(Box::new(left));
        plan.condition = usual(SynchronizingReason::CleaningUp);
        return;
    }
    let times = &wanted.times;
    let sync = &mut plan.status.sync;
    let last = sync.last_sync_time.as_ref().map(|time| time.0);
    let next = last.and_then(|last| times.next(last));
    sync.next_sync_time = next.map(Time);
    // A run that should have begun has until the one after it to end.
    let deadline = next.and_then(|next| times.next(next));
    plan.is_out_of_sync = last.is_none() || deadline.is_some_and(|deadline| now > deadline);
    if !times.is_any() {
        plan.condition = (SynchronizingReason::WaitingForManual, NO_TRIGGER.to_owned());
        return;
    }
    plan.condition = times.waiting();
    let is_asked_for = !times.manual.is_empty() && sync.last_manual_sync.as_deref() != Some(times.manual);
    let at = last.and_then(|last| times.due(last));
    let is_due = last.is_none() || is_asked_for || at.is_some_and(|at| at <= now);
    if !is_due {
        // An image that a claim is being made of goes when that is done.
        let is_held_back = !observed.in_use.is_empty();
        let until = at.and_then(|at| Duration::try_from(at.duration_since(now)).ok());
        plan.again = until.into_iter().chain(is_held_back.then_some(UNDER_WAY)).min();
        return;
    }
    if destination.spec.paused == Some(true) {
        plan.condition.1 = "paused".to_owned();
        return;
    }
    sync.last_sync_start_time = Some(Time(now));
    plan.condition = usual(SynchronizingReason::SyncInProgress);
}

/// What an ended run has left, and images that have been replaced.
fn leftovers(observed: &Observed, wanted: &Wanted<'_>, status: &ReplicationDestinationStatus) -> Leftovers {
    let own = match &observed.target {
        Target::Own(claim) => claim.clone(),
        Target::Given { .. } | Target::Foreign { .. } => None,
    };
    // Without a VolumeSnapshot the claim is what was asked for.
    let is_temporary = wanted.is_snapshot && wanted.kopia.volume.cleanup_temp_pvc == Some(true);
    let mut left = Leftovers {
        job: observed.job.clone(),
        claim: own.filter(|_| is_temporary && status.sync.last_sync_time.is_some()),
        ..Leftovers::default()
    };
    let current = status.latest_image.as_ref().filter(|image| image.kind == "VolumeSnapshot");
    for image in &observed.images {
        let is_current = current.is_some_and(|current| current.name == image.name_any());
        // Somebody who begins with Direct keeps what there was.
        let is_replaced = current.is_some() && !is_current && !observed.in_use.contains(&image.name_any());
        let is_wanted = image.labels().contains_key(DO_NOT_DELETE);
        if is_wanted || is_replaced && image.owner_references().len() > 1 {
            left.released.push(Arc::clone(image));
        } else if is_replaced {
            left.images.push(Arc::clone(image));
        }
    }
    left
}

fn under_way(
    destination: &ReplicationDestination,
    observed: &Observed,
    wanted: &Wanted<'_>,
    (began, now): (Timestamp, Timestamp),
    plan: &mut Plan,
) {
    plan.again = Some(UNDER_WAY);
    let claim = match target(destination, observed, wanted.kopia) {
        Ok(Ready::Claim(claim)) => claim,
        Ok(Ready::Wait(why)) => return plan.condition.1 = format!("Synchronization in-progress: {why}"),
        Ok(Ready::Step(step)) => return plan.step = *step,
        Err(why) => return plan.condition = (SynchronizingReason::Error, why),
    };
    match (observed.job.as_deref(), &observed.progress) {
        (Some(job), _) if job.meta().deletion_timestamp.is_some() => {}
        (Some(_), None | Some(Progress::Running | Progress::Ending)) => {
            if let Some(obstacle) = &observed.obstacle {
                plan.condition.1 = format!("Synchronization in-progress: {obstacle}");
            }
        }
        (Some(job), Some(Progress::Ended(report))) => {
            if let Some(report) = report {
                note_available(plan.status.kopia.get_or_insert_default(), report);
            }
            match judge(report.as_deref(), observed) {
                Ok(text) => image(destination, observed, wanted, (claim, job, &text), (began, now), plan),
                Err(why) => {
                    // Something else is asked for by now: no reason to wait.
                    let is_current = sync::is_of_generation(job, destination.meta().generation);
                    let since = if is_current { sync::finished(job).unwrap_or(now) } else { Timestamp::MIN };
                    let left = Leftovers { job: observed.job.clone(), ..Leftovers::default() };
                    fail(why, left, (since, now), observed, plan);
                }
            }
        }
        (None, _) => begin(destination, observed, wanted, claim, plan),
    }
}

/// What there is to write into.
enum Ready<'a> {
    Claim(&'a PersistentVolumeClaim),
    Wait(String),
    Step(Box<Step>),
}

fn target<'a>(
    destination: &ReplicationDestination,
    observed: &'a Observed,
    kopia: &DestinationKopia,
) -> Result<Ready<'a>, String> {
    let claim = match &observed.target {
        Target::Foreign { name } => {
            return Err(format!(
                "PersistentVolumeClaim {name} was not made for this destination: remove it, or name it as destinationPVC"
            ));
        }
        Target::Given { name, claim: None } => return Err(format!("PersistentVolumeClaim {name} does not exist")),
        Target::Own(None) => {
            let claim = objects::claim(destination, kopia)?;
            return Ok(Ready::Step(Box::new(Step::Claim(Box::new(claim)))));
        }
        Target::Given { claim: Some(claim), .. } => claim,
        Target::Own(Some(claim)) => {
            let wanted = kopia.volume.volume.capacity.as_ref().and_then(quantity::bytes);
            if wanted > quantity::requested_bytes(claim) && claim.meta().deletion_timestamp.is_none() {
                return Ok(Ready::Step(Box::new(Step::Grow(Box::new(objects::claim(destination, kopia)?)))));
            }
            claim
        }
    };
    if claim.meta().deletion_timestamp.is_some() {
        return Ok(Ready::Wait(format!("claim {} is going", claim.name_any())));
    }
    Ok(Ready::Claim(claim))
}

fn begin(
    destination: &ReplicationDestination,
    observed: &Observed,
    wanted: &Wanted<'_>,
    claim: &PersistentVolumeClaim,
    plan: &mut Plan,
) {
    if destination.spec.paused == Some(true) {
        plan.condition.1 = "Synchronization in-progress: paused".to_owned();
        return;
    }
    if let Err(why) = &observed.secret {
        plan.condition = (SynchronizingReason::Error, why.clone());
        return;
    }
    if let Some(foreign) = &observed.foreign_job {
        let why = format!("Job {foreign} is somebody else's, and its name is needed");
        plan.condition = (SynchronizingReason::Error, why);
        return;
    }
    if observed.place == Place::Unknown {
        let name = claim.name_any();
        plan.condition.1 = format!("Synchronization in-progress: a pod that uses claim {name} is not scheduled yet");
        return;
    }
    match objects::job(destination, wanted.kopia, observed, claim, wanted.times.manual) {
        Ok(job) => plan.step = Step::Start(Box::new(job)),
        Err(why) => plan.condition = (SynchronizingReason::Error, why),
    }
}

/// How a mover's end counts: in words, or why it is none that an image may be made of.
fn judge(report: Option<&Report>, observed: &Observed) -> Result<String, String> {
    let report = report.ok_or("the mover's pod ended without a word")?;
    let whose = observed.identity.as_ref().map(ToString::to_string).unwrap_or_default();
    match &report.outcome {
        Outcome::Complete => {
            let id = report.snapshot.as_ref().map_or("none", |id| id.as_str());
            let text = format!("snapshot {id} of {whose} restored: {} files, {} bytes", report.files, report.bytes);
            let fields = observed.kopia.as_ref().map(DestinationKopia::unserved).unwrap_or_default();
            Ok(sync::passing_over(&text, &fields))
        }
        Outcome::Nothing => {
            Ok(format!("No eligible snapshots found: No snapshots of {whose}. No data will be restored"))
        }
        Outcome::Partial => {
            let first = report.unreadable.paths.first().map(String::as_str).unwrap_or_default();
            Err(format!("{} entries could not be restored, {first} among them", report.unreadable.count))
        }
        Outcome::Interrupted => Err("the mover was interrupted".to_owned()),
        Outcome::Failed { class, reason, hint } => Err(crate::claim::sentence(*class, reason, hint)),
    }
}

/// The claim is filled: what is asked for is made of it, and when that is ready the run has ended.
fn image(
    destination: &ReplicationDestination,
    observed: &Observed,
    wanted: &Wanted<'_>,
    (claim, job, text): (&PersistentVolumeClaim, &Job, &str),
    (began, now): (Timestamp, Timestamp),
    plan: &mut Plan,
) {
    let name = claim.name_any();
    if !wanted.is_snapshot {
        let kind = "PersistentVolumeClaim".to_owned();
        let image = LatestImage { api_group: Some(String::new()), kind, name };
        return done(image, wanted, (job, text), (began, now), plan);
    }
    let wanted_name = objects::snapshot_name(&name, began);
    let Some(snapshot) = observed.images.iter().find(|image| image.name_any() == wanted_name) else {
        plan.step = Step::Snapshot(Box::new(objects::snapshot(destination, wanted.kopia, &name, began)));
        return;
    };
    if snapshot.meta().deletion_timestamp.is_some() {
        return;
    }
    if let Some(failure) = snapshot.failure() {
        let since = snapshot.creation_timestamp().map_or(now, |time| time.0);
        let left = Leftovers { images: vec![Arc::clone(snapshot)], ..Leftovers::default() };
        return fail(format!("VolumeSnapshot {wanted_name}: {failure}"), left, (since, now), observed, plan);
    }
    if !snapshot.is_ready() {
        plan.condition.1 = format!("Synchronization in-progress: VolumeSnapshot {wanted_name} is being taken");
        return;
    }
    let api_group = Some("snapshot.storage.k8s.io".to_owned());
    let image = LatestImage { api_group, kind: "VolumeSnapshot".to_owned(), name: wanted_name };
    done(image, wanted, (job, text), (began, now), plan);
}

fn done(
    image: LatestImage,
    wanted: &Wanted<'_>,
    (job, text): (&Job, &str),
    (began, now): (Timestamp, Timestamp),
    plan: &mut Plan,
) {
    let times = &wanted.times;
    let duration = Duration::try_from(now.duration_since(began)).unwrap_or_default();
    plan.status.latest_image = Some(image);
    let sync = &mut plan.status.sync;
    let deadline = sync.last_sync_time.as_ref().and_then(|last| times.next(times.next(last.0)?));
    sync.last_sync_time = Some(Time(now));
    sync.last_sync_start_time = None;
    sync.last_sync_duration = Some(duration::go(duration));
    sync.next_sync_time = times.next(now).map(Time);
    sync.last_manual_sync = sync::manual(job).filter(|tag| !tag.is_empty());
    sync.latest_mover_status = Some(MoverStatus { result: Some(SUCCESSFUL.to_owned()), logs: Some(text.to_owned()) });
    plan.condition = usual(SynchronizingReason::CleaningUp);
    plan.again = None;
    plan.is_out_of_sync = false;
    plan.done = Some((duration, deadline.is_some_and(|deadline| now > deadline)));
    plan.news = Some(News { reason: "RestoreSucceeded", is_warning: false, text: text.to_owned() });
}

/// Waits, then what has failed goes, and is tried again.
fn fail(why: String, left: Leftovers, (since, now): (Timestamp, Timestamp), observed: &Observed, plan: &mut Plan) {
    let logs = MoverStatus { result: Some(FAILED.to_owned()), logs: Some(why.clone()) };
    if plan.status.sync.latest_mover_status.as_ref() != Some(&logs) {
        plan.news = Some(News { reason: "RestoreFailed", is_warning: true, text: why.clone() });
    }
    plan.status.sync.latest_mover_status = Some(logs);
    plan.condition = (SynchronizingReason::Error, why);
    let until = since.checked_add(observed.pause).unwrap_or(now);
    match Duration::try_from(until.duration_since(now)) {
        Ok(pause) if !pause.is_zero() => plan.again = Some(pause),
        Ok(_) | Err(_) => {
            plan.step = Step::ClearUp(Box::new(left));
            plan.has_failed = true;
        }
    }
}

#[cfg(test)]
mod tests;
