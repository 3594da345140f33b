//! What is to be done about a protected claim now: pure, from what was seen.
//!
//! ```text
//! marked, no volume:  ask ─→ Hold ─→ ask again, for ever
//!                      ├──→ Fresh ────→ prime, bound ─────────────────────────┐
//!                      └──→ Restore ──→ prime, Job, Report complete and equal ┴→ hand over → bound → clear up
//! has a volume:       gate ─→ source
//! ```
//! Guarantees: a volume is handed over only when its decision is carried out to the end; a decision belongs to one UID and
//! is made once; every step may be cut off and done again.

use std::time::Duration;

use api::decide::{Decision, HoldReason, Proof, Snapshot};
use api::exit::Class;
use api::id::RepositoryId;
use api::mover::{Outcome, Report};
use api::recorded::{Kept, Recorded, Verdict};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::ResourceExt;

use super::gate::{Gate, Seen, gate};
use super::judge::is_raw;
use super::observe::{Observed, Restoring};
use super::volume::Placement;
use crate::job::Progress;
use crate::names::{ACCEPT_DATA, SKIP_RESTORE};
use crate::quantity;

/// What is done, in this order, and when the claim is looked at again.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// One step at most changes the volume's fate; the next look goes on.
    pub step: Step,
    /// What is to stand on the claim, if that is new.
    pub record: Option<Recorded>,
    /// Where the gate for backups stands.
    pub gate: Gate,
    /// What is told about the claim, if it is new.
    pub news: Option<News>,
    /// When to look again although nothing changes.
    pub again: Option<Duration>,
}

/// What is done about the claim's volume.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing.
    Stay,
    /// The volume that is to be filled is asked for.
    MakePrime {
        /// What for.
        purpose: Purpose,
    },
    /// The mover starts, if there is room for it.
    Start {
        /// What it restores.
        snapshot: Snapshot,
        /// From which repository.
        repository: Option<RepositoryId>,
    },
    /// The Job has failed and goes, so that there can be another.
    Discard,
    /// The volume that was begun is not what is wanted any more, and goes.
    DropPrime,
    /// The filled volume becomes the claim's.
    HandOver {
        /// The volume.
        volume: Box<PersistentVolume>,
    },
    /// What was needed for it goes.
    ClearUp,
}

/// What a prime is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To be written to.
    Restore,
    /// To stay as it comes.
    Fresh,
}

impl Purpose {
    /// As it stands on the prime.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Restore => "restore",
            Self::Fresh => "fresh",
        }
    }
}

/// Something worth an Event.
#[derive(Clone, Debug, PartialEq)]
pub struct News {
    /// From a closed list.
    pub reason: Reason,
    /// For a person.
    pub text: String,
}

/// Reasons of Events on claims. Source: zero-touch §2.9.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It is decided.
    BackupStateKnown,
    /// It cannot be decided.
    BackupStateUnknown,
    /// A restore has begun.
    RestoreStarted,
    /// A restore has failed, and is tried again.
    RestoreFailed,
    /// The volume is the claim's.
    VolumePopulated,
    /// A bound claim stands in the way of its own backup.
    BoundWithoutDecision,
    /// Its consumer is not scheduled yet.
    WaitingForFirstConsumer,
    /// Something about it cannot be understood.
    InvalidLabelOrAnnotation,
    /// Somebody else has an object of a name that we need.
    DependencyNotReady,
}

impl Reason {
    /// As Events spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BackupStateKnown => "BackupStateKnown",
            Self::BackupStateUnknown => "BackupStateUnknown",
            Self::RestoreStarted => "RestoreInjected",
            Self::RestoreFailed => "RestoreFailed",
            Self::VolumePopulated => "VolSyncPopulatorFinished",
            Self::BoundWithoutDecision => "BoundWithoutDecision",
            Self::WaitingForFirstConsumer => "WaitingForFirstConsumer",
            Self::InvalidLabelOrAnnotation => "InvalidLabelOrAnnotation",
            Self::DependencyNotReady => "DependencyNotReady",
        }
    }

    /// Whether somebody should look at it.
    pub fn is_warning(self) -> bool {
        match self {
            Self::BackupStateUnknown
            | Self::RestoreFailed
            | Self::BoundWithoutDecision
            | Self::InvalidLabelOrAnnotation
            | Self::DependencyNotReady => true,
            Self::BackupStateKnown | Self::RestoreStarted | Self::VolumePopulated | Self::WaitingForFirstConsumer => {
                false
            }
        }
    }
}

/// How long a claim that waits for somebody is left alone; whoever it waits for wakes it sooner.
const IDLE: Duration = Duration::from_secs(60);

/// What is to be done about a protected claim.
pub fn plan(claim: &PersistentVolumeClaim, observed: &Observed, now: Timestamp) -> Plan {
    let mut plan = Plan { step: Step::Stay, record: None, gate: Gate::Disabled, news: None, again: None };
    if observed.is_marked && !observed.is_bound {
        populate(claim, observed, now, &mut plan);
    } else if observed.is_bound {
        settle(claim, observed, now, &mut plan);
    }
    let recorded = plan.record.as_ref().or(observed.recorded.as_ref());
    let seen = Seen {
        is_bound: observed.is_bound && observed.prime.is_none(),
        is_raw: is_raw(claim),
        recorded,
        has_history: recorded.is_some_and(|recorded| leaves_a_history(&recorded.verdict)),
        is_paused: observed.protection.policy.spec.paused,
        created: claim.creation_timestamp().map_or(now, |time| time.0),
        minimum_age: observed.protection.policy.spec.minimum_age.into(),
    };
    plan.gate = gate(&seen, now);
    if let Gate::WaitingForAge { until } = plan.gate {
        plan.again = Some(Duration::try_from(until.duration_since(now)).unwrap_or(IDLE));
    }
    plan
}

/// Whether backups were left out when the claim started empty: then its volume grows up before it is backed up.
fn leaves_a_history(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Fresh { proof: Proof::Dismissed { .. } | Proof::NotWanted { .. } })
}

/// A claim without a volume that waits for us.
fn populate(claim: &PersistentVolumeClaim, observed: &Observed, now: Timestamp, plan: &mut Plan) {
    if observed.is_being_bound {
        return;
    }
    let verdict = match (&observed.recorded, &observed.answer) {
        (_, Some(answer)) => {
            let decision = that_fits(claim, answer.decision.clone());
            let recorded = Recorded {
                verdict: decision.into(),
                repository_id: answer.repository_id.clone(),
                uid: claim.uid().unwrap_or_default(),
                time: now,
            };
            note(observed, recorded, plan)
        }
        (Some(recorded), None) => recorded.verdict.clone(),
        // Somebody has to be asked, and could not be yet.
        (None, None) => return plan.again = Some(IDLE),
    };
    let restore = match verdict {
        Verdict::Hold { .. } => return,
        Verdict::Fresh { .. } | Verdict::Kept { .. } => None,
        Verdict::Restore { snapshot } => Some(snapshot),
    };
    if observed.placement == Placement::WaitsForConsumer {
        let text = "decided; waits for a pod that uses it, and is filled where that is scheduled".to_owned();
        plan.news = plan.news.take().or(Some(News { reason: Reason::WaitingForFirstConsumer, text }));
        return;
    }
    let purpose = if restore.is_some() { Purpose::Restore } else { Purpose::Fresh };
    match observed.purpose_of_prime() {
        None => return plan.step = Step::MakePrime { purpose },
        // What a restore has written into must not be handed out as empty.
        Some(found) if found != purpose => return plan.step = Step::DropPrime,
        Some(_) => {}
    }
    match restore {
        None => plan.step = observed.filled().map_or(Step::Stay, |volume| Step::HandOver { volume }),
        Some(snapshot) => restoring(&snapshot, observed, now, plan),
    }
}

/// Says what was found; answers what counts from now on.
fn note(observed: &Observed, recorded: Recorded, plan: &mut Plan) -> Verdict {
    let verdict = recorded.verdict.clone();
    let is_new = observed.recorded.as_ref().is_none_or(|before| !before.says_the_same_as(&recorded));
    if is_new {
        let reason = match &verdict {
            Verdict::Hold { reason: HoldReason::BoundWithoutDecision, .. } => Reason::BoundWithoutDecision,
            Verdict::Hold { .. } => Reason::BackupStateUnknown,
            Verdict::Restore { .. } | Verdict::Fresh { .. } | Verdict::Kept { .. } => Reason::BackupStateKnown,
        };
        let ignored = observed.protection.said.ignored.as_deref();
        let text = ignored.map_or_else(|| verdict.to_string(), |ignored| format!("{verdict}; {ignored}"));
        plan.news = Some(News { reason, text });
        plan.record = Some(recorded);
    }
    verdict
}

/// A snapshot that is larger than the claim is not begun, nor one for a raw device. What file systems need besides shows
/// only when it is written.
fn that_fits(claim: &PersistentVolumeClaim, decision: Decision) -> Decision {
    let Decision::Restore { snapshot } = &decision else { return decision };
    if is_raw(claim) {
        let detail = format!(
            "snapshot {} of {} holds files, the claim is a raw block volume: create it with volumeMode Filesystem to get \
             them, or dismiss them with {}",
            snapshot.id, snapshot.time, SKIP_RESTORE[0]
        );
        return Decision::Hold { reason: HoldReason::VolumeModeMismatch, detail };
    }
    let Some(requested) = quantity::requested_bytes(claim) else { return decision };
    if snapshot.bytes <= requested {
        return decision;
    }
    let detail = format!(
        "snapshot {} of {} has {} bytes, the claim asks for {requested}: ask for more",
        snapshot.id, snapshot.time, snapshot.bytes
    );
    Decision::Hold { reason: HoldReason::CapacityTooSmall, detail }
}

fn restoring(snapshot: &Snapshot, observed: &Observed, now: Timestamp, plan: &mut Plan) {
    let repository = observed.recorded.as_ref().and_then(|recorded| recorded.repository_id.clone());
    match &observed.restoring {
        Restoring::No => plan.step = Step::Start { snapshot: snapshot.clone(), repository },
        Restoring::Foreign { owner } => {
            let text = format!("the restore waits until a Job of the same name is gone, which belongs to {owner}");
            plan.news = Some(News { reason: Reason::DependencyNotReady, text });
            plan.again = Some(IDLE);
        }
        Restoring::Job { progress: Progress::Running | Progress::Ending, .. } => plan.again = Some(IDLE),
        Restoring::Job { progress: Progress::Ended(report), .. } => {
            let lacks = report.as_deref().map_or_else(
                || Some("the mover's pod ended without a word".to_owned()),
                |report| shortfall(report, snapshot),
            );
            match lacks {
                None => plan.step = observed.filled().map_or(Step::Stay, |volume| Step::HandOver { volume }),
                Some(why) => fail(why, observed, now, plan),
            }
        }
    }
}

/// The Job goes, and what is to be restored is decided anew before the next.
fn fail(why: String, observed: &Observed, now: Timestamp, plan: &mut Plan) {
    plan.step = Step::Discard;
    plan.news = Some(News { reason: Reason::RestoreFailed, text: why.clone() });
    plan.record = observed.recorded.clone().map(|recorded| Recorded {
        verdict: Verdict::Hold { reason: HoldReason::RestoreFailed, detail: why },
        time: now,
        ..recorded
    });
}

/// What keeps a volume from being handed over; none if the report says that all of the snapshot is in it.
fn shortfall(report: &Report, snapshot: &Snapshot) -> Option<String> {
    match &report.outcome {
        Outcome::Complete => {}
        Outcome::Partial => {
            let first = report.unreadable.paths.first().map(String::as_str).unwrap_or_default();
            return Some(format!("{} entries could not be restored, {first} among them", report.unreadable.count));
        }
        Outcome::Nothing => return Some("the mover found nothing to restore".to_owned()),
        Outcome::Interrupted => return Some("the mover was interrupted".to_owned()),
        Outcome::Failed { class, reason, hint } => return Some(sentence(*class, reason, hint)),
    }
    let restored = (report.snapshot.as_ref(), report.files, report.bytes);
    if restored != (Some(&snapshot.id), snapshot.files, snapshot.bytes) {
        return Some(format!(
            "snapshot {} has {} files and {} bytes, {} files and {} bytes of {} were restored",
            snapshot.id,
            snapshot.files,
            snapshot.bytes,
            report.files,
            report.bytes,
            report.snapshot.as_ref().map_or("none", |id| id.as_str()),
        ));
    }
    None
}

/// A mover's failure for a person.
pub fn sentence(class: Class, reason: &str, hint: &str) -> String {
    if hint.is_empty() { format!("{class}: {reason}") } else { format!("{class}: {reason} (hint: {hint})") }
}

/// A claim that has a volume: what was needed to fill it goes, and if nobody decided about it, it is judged now.
fn settle(claim: &PersistentVolumeClaim, observed: &Observed, now: Timestamp, plan: &mut Plan) {
    if observed.prime.is_some() || observed.job_is_ours() {
        plan.step = Step::ClearUp;
        let text = "the volume is filled and bound".to_owned();
        plan.news = Some(News { reason: Reason::VolumePopulated, text });
        return;
    }
    let Some(answer) = &observed.answer else { return };
    let verdict = match &observed.carried {
        // What was decided stands on the volume, too: the claim's annotation was taken away.
        Some(carried) => carried.verdict.clone(),
        None => keep(claim, &answer.decision),
    };
    let recorded = Recorded {
        verdict,
        repository_id: answer.repository_id.clone(),
        uid: claim.uid().unwrap_or_default(),
        time: now,
    };
    note(observed, recorded, plan);
}

/// Whether the volume of a claim that was bound without us is the right one.
fn keep(claim: &PersistentVolumeClaim, decision: &Decision) -> Verdict {
    match decision {
        Decision::Fresh { proof } => Verdict::Kept { why: Kept::NoHistory { proof: proof.clone() } },
        Decision::Hold { reason, detail } => Verdict::Hold { reason: *reason, detail: detail.clone() },
        Decision::Restore { snapshot } => {
            let is_own = claim.creation_timestamp().is_some_and(|created| snapshot.time > created.0);
            if is_own {
                return Verdict::Kept { why: Kept::OwnHistory { snapshot: snapshot.clone() } };
            }
            if claim.annotations().get(ACCEPT_DATA).map(String::as_str) == Some(snapshot.id.as_str()) {
                return Verdict::Kept { why: Kept::Accepted };
            }
            let detail = format!(
                "the claim was bound before anybody looked, and snapshot {} of {} is not in it: create the claim again to \
                 get it (`kubectl replace --force -f` its manifest), or annotate it with {ACCEPT_DATA}={} to go on with what \
                 it has",
                snapshot.id, snapshot.time, snapshot.id
            );
            Verdict::Hold { reason: HoldReason::BoundWithoutDecision, detail }
        }
    }
}

#[cfg(test)]
mod tests;
