//! What is seen of a claim and of all that was made for it: caches first, the API server for what is not in them, and the
//! catalog where something has to be decided.

use std::sync::Arc;

use api::decide::{Claim as Expected, Decision, Facts, HoldReason, Location, decide};
use api::id::RepositoryId;
use api::naming::{ClaimKey, destination_job_name, prime_name};
use api::recorded::{Recorded, Verdict};
use api::v1alpha1::BackupRepository;
use api::volsync::ReplicationSource;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::ResourceExt;

use super::judge::Protection;
use super::plan::Purpose;
use super::rebuild;
use super::volume::{self, Placement, holder, placement};
use crate::caches::{Caches, destination_of, key};
use crate::catalogs::Question;
use crate::context::Context;
use crate::error::{Error, retry_after};
use crate::job::{self, Progress};
use crate::names::{DECISION, RESTORE_AS_OF};
use crate::repository;

/// Everything that [`plan`](super::plan::plan) needs to know.
#[derive(Clone, Debug)]
pub struct Observed {
    /// How the claim is backed up.
    pub protection: Protection,
    /// Whether it names our destination as its source, and so waits for us.
    pub is_marked: bool,
    /// Whether a volume was chosen for it that is not quite its own yet.
    pub is_being_bound: bool,
    /// Whether the claim has its volume.
    pub is_bound: bool,
    /// What was decided about it, on the claim.
    pub recorded: Option<Recorded>,
    /// The same on its volume, if it is not on the claim.
    pub carried: Option<Recorded>,
    /// What a look at the repository says, where one was due.
    pub answer: Option<Answer>,
    /// Whether it is known where its volume belongs.
    pub placement: Placement,
    /// The claim whose volume is filled for it.
    pub prime: Option<Arc<PersistentVolumeClaim>>,
    /// The restore.
    pub restoring: Restoring,
    /// The volume of the prime, or of a claim about which nothing is known.
    pub volume: Option<PersistentVolume>,
    /// Its source.
    pub source: Option<Arc<ReplicationSource>>,
}

/// What a look at the repository says.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// What the claim would get.
    pub decision: Decision,
    /// The repository that was open.
    pub repository_id: Option<RepositoryId>,
}

/// How far a restore is.
#[derive(Clone, Debug, PartialEq)]
pub enum Restoring {
    /// Not begun.
    No,
    /// There is a Job for it.
    Job {
        /// The Job.
        job: Arc<Job>,
        /// How far it is.
        progress: Progress,
    },
    /// A Job of its name is not this claim's.
    Foreign {
        /// Whose it is.
        owner: String,
    },
}

impl Observed {
    /// Whether there is a Job that restores for this very claim.
    pub fn job_is_ours(&self) -> bool {
        matches!(self.restoring, Restoring::Job { .. })
    }

    /// What the prime was made for; none without one.
    pub fn purpose_of_prime(&self) -> Option<Purpose> {
        let prime = self.prime.as_ref()?;
        let is_fresh = prime.annotations().get(DECISION).map(String::as_str) == Some(Purpose::Fresh.as_str());
        Some(if is_fresh { Purpose::Fresh } else { Purpose::Restore })
    }

    /// The prime's volume, as long as it is the prime's.
    pub fn filled(&self) -> Option<Box<PersistentVolume>> {
        let (prime, volume) = (self.prime.as_ref()?, self.volume.as_ref()?);
        (holder(volume)? == prime.uid()?).then(|| Box::new(volume.clone()))
    }
}

/// Looks at everything.
///
/// # Errors
/// The API server does not answer. A catalog that does not is an answer.
pub async fn observe(
    context: &Context,
    claim: &PersistentVolumeClaim,
    protection: Protection,
    repository: &BackupRepository,
    key_of_claim: &ClaimKey,
) -> Result<Observed, Error> {
    let caches = &context.caches;
    let namespace = claim.namespace();
    let uid = claim.uid().unwrap_or_default();
    let chosen = claim.spec.as_ref().and_then(|spec| spec.volume_name.clone()).filter(|name| !name.is_empty());
    let is_bound = phase(claim) == Some("Bound") && chosen.is_some();
    let mut observed = Observed {
        protection,
        is_marked: is_marked(claim),
        is_being_bound: chosen.is_some() && !is_bound,
        is_bound,
        recorded: Recorded::read(claim.annotations().get(DECISION).map(String::as_str), &uid),
        carried: None,
        answer: None,
        placement: placement(claim, caches),
        prime: caches.claims.get(&key(&prime_name(&uid), namespace.clone())),
        restoring: restoring(claim, key_of_claim, caches),
        volume: None,
        source: caches.sources.get(&key(&key_of_claim.backup_name(), namespace.clone())),
    };
    if let Some(name) = volume_of_interest(&observed, chosen) {
        observed.volume = volume::get(&name, context).await?;
    }
    if observed.recorded.is_none() && is_bound {
        let carried = observed.volume.as_ref().and_then(|volume| volume.annotations().get(DECISION).cloned());
        observed.carried = Recorded::read(carried.as_deref(), &uid);
    }
    if is_question_open(&observed) && context.now() >= asked_again_at(&observed, context.failures(claim)) {
        let mut answer = ask(context, &observed, claim, repository, key_of_claim).await;
        if !is_bound {
            answer.decision = rebuild::admit(context, claim, repository, answer.decision);
        }
        observed.answer = Some(answer);
    }
    Ok(observed)
}

/// Whether a claim names the destination that is generated for it. One that names another was left alone by the mark.
pub fn is_marked(claim: &PersistentVolumeClaim) -> bool {
    let own = destination_of(claim).and_then(|name| name.strip_suffix("-backup"));
    own.is_some() && own == claim.metadata.name.as_deref()
}

/// The volume that is looked at: of a prime that has one, until it is handed over; of a claim about which nothing is known.
fn volume_of_interest(observed: &Observed, chosen: Option<String>) -> Option<String> {
    if observed.is_bound {
        return chosen.filter(|_| observed.recorded.is_none());
    }
    let prime = observed.prime.as_ref().filter(|prime| phase(prime) == Some("Bound"))?;
    prime.spec.as_ref()?.volume_name.clone()
}

/// Nothing is decided yet, and the claim either waits for us or came without us.
fn is_question_open(observed: &Observed) -> bool {
    let is_undecided = observed.recorded.as_ref().is_none_or(|recorded| recorded.verdict.is_hold());
    let is_settled = observed.prime.is_none() && !observed.job_is_ours();
    let is_due = if observed.is_bound { is_settled } else { observed.is_marked && !observed.is_being_bound };
    is_undecided && is_due
}

/// A restore that has failed is not begun again at once, whatever wakes its claim.
fn asked_again_at(observed: &Observed, failures: u32) -> Timestamp {
    match &observed.recorded {
        Some(Recorded { verdict: Verdict::Hold { reason: HoldReason::RestoreFailed, .. }, time, .. }) => {
            time.checked_add(retry_after(failures)).unwrap_or(*time)
        }
        Some(_) | None => Timestamp::MIN,
    }
}

fn phase(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.status.as_ref()?.phase.as_deref()
}

fn restoring(claim: &PersistentVolumeClaim, key_of_claim: &ClaimKey, caches: &Caches) -> Restoring {
    let name = destination_job_name(&key_of_claim.backup_name());
    let Some(job) = caches.jobs.get(&key(&name, claim.namespace())) else { return Restoring::No };
    let owner = job.owner_references().iter().find(|owner| owner.controller == Some(true));
    match owner {
        Some(owner) if Some(&owner.uid) == claim.uid().as_ref() => {
            let progress = job::progress(&job, caches);
            Restoring::Job { job, progress }
        }
        Some(owner) => Restoring::Foreign { owner: format!("{} {} ({})", owner.kind, owner.name, owner.uid) },
        None => Restoring::Foreign { owner: "nobody".to_owned() },
    }
}

async fn ask(
    context: &Context,
    observed: &Observed,
    claim: &PersistentVolumeClaim,
    repository: &BackupRepository,
    of: &ClaimKey,
) -> Answer {
    let word = observed.protection.said.word.clone();
    let expected = Expected { word, ..expected(context, claim, repository, of) };
    let identity = repository::identity(&repository.spec, of);
    let (catalog, token) = match context.catalog_of(repository).await {
        Ok(found) => found,
        Err(error) => {
            let detail = format!("the catalog cannot be asked: {}", error.chain());
            return Answer {
                decision: Decision::Hold { reason: HoldReason::RepositoryUnreachable, detail },
                repository_id: None,
            };
        }
    };
    let question = Question {
        catalog: &catalog,
        token: &token,
        claim: of,
        identity: &identity,
        expected: &expected,
        declared_new: repository.spec.declared_new(repository.status.as_ref()).is_some(),
    };
    let facts = context.catalogs.facts(&question).await;
    let decision = decide(&facts, &expected);
    Answer { decision, repository_id: open_id(&facts) }
}

fn open_id(facts: &Facts) -> Option<RepositoryId> {
    match &facts.location {
        Location::Open { id, .. } => Some(id.clone()),
        Location::Unreachable { .. }
        | Location::AuthDenied { .. }
        | Location::StoreMissing { .. }
        | Location::Empty
        | Location::Uninitialised
        | Location::Unknown { .. } => None,
    }
}

fn expected(
    context: &Context,
    claim: &PersistentVolumeClaim,
    repository: &BackupRepository,
    of: &ClaimKey,
) -> Expected {
    let known = context.ledger.of(&repository.name_any(), of);
    let as_of = claim.annotations().get(RESTORE_AS_OF).and_then(|text| text.parse().ok());
    Expected {
        pinned_repository_id: repository
            .spec
            .id
            .clone()
            .or_else(|| known.as_ref().map(|entry| entry.repository_id.clone())),
        creation: repository.spec.create,
        ledger_expected: context.ledger.has_been_written(&repository.name_any()),
        backup_expected: known.is_some(),
        restore_as_of: as_of,
        ..Expected::default()
    }
}

/// Whether a decision is carried out as far as a backup may rely on it.
pub fn is_decided(recorded: Option<&Recorded>) -> bool {
    !matches!(recorded.map(|recorded| &recorded.verdict), None | Some(Verdict::Hold { .. }))
}
