//! Restore, start empty, or wait: the one place that decides what a new claim gets.
//!
//! ```text
//! Facts (a live look at the store) ─┐
//!                                   ├─ decide ─→ Restore{snapshot} | Fresh{proof} | Hold{reason, detail}
//! Claim (what is expected of it)  ──┘
//! ```
//! Guarantee: unknown never becomes empty. `Fresh` is made in `decide_empty`, in `decide_unseen`, and where a person's
//! [`Word`] outweighs an open repository, each with the [`Proof`] it rests on; everything that is not proven ends in `Hold`, which is asked again for ever.
//! A restore names a snapshot that is good, finished and not newer than what was asked for.
//!
//! Caveat: the facts must be a live look. This function cannot tell a cached answer from a fresh one.

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{RepositoryId, SnapshotId};
use crate::ledger::LedgerEntry;
use crate::owner::Ids;

mod word;

pub use word::{Dismissal, Restore, Word};

/// How many claims of a rebuild may be fresh before somebody has to confirm that this is meant.
pub const MASS_FRESH_THRESHOLD: u64 = 3;

/// What a live look at the store found for one claim; the catalog's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// Whether the repository's credentials were there to look with.
    pub secret_present: bool,
    /// What stands at the repository's location.
    pub location: Location,
    /// What the ledger says.
    pub ledger: Ledger,
    /// Whether a person declared this repository new, which is consumed once.
    pub declared_new: bool,
}

/// What stands at the location where the claim's repository should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Location {
    /// No answer that can be trusted: time-out, name resolution, TLS, 5xx, a listing that ended early.
    Unreachable {
        /// What the store said, without secrets.
        detail: String,
    },
    /// 401, 403, or a password that does not open the repository.
    AuthDenied {
        /// What the store said, without secrets.
        detail: String,
    },
    /// The bucket itself does not exist, or the directory is missing or not mounted.
    StoreMissing {
        /// What the store said, without secrets.
        detail: String,
    },
    /// The listing of the location is complete, and nothing is there.
    Empty,
    /// Objects are there, but not the one that makes them a repository.
    Uninitialised,
    /// Anything that has no row of its own. Unknown is not absent.
    Unknown {
        /// What happened.
        detail: String,
    },
    /// The repository was opened with the password.
    Open {
        /// Its unique id.
        id: RepositoryId,
        /// Whether the listing of its snapshots reached the end.
        listing_complete: bool,
        /// What it holds for this claim's identity.
        snapshots: Snapshots,
    },
}

/// The snapshots of one identity, in any order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Snapshots {
    /// Finished, and not quarantined. All of them, so that a point in time can be chosen.
    pub good: Vec<Snapshot>,
    /// Finished, but held back by the content guard. One that is also listed as good counts as quarantined.
    pub quarantined: Vec<Snapshot>,
    /// How many were begun and not finished (Kopia's checkpoints). Never restored, but not nothing either.
    pub unfinished: u64,
}

/// One snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// Its id.
    pub id: SnapshotId,
    /// The moment whose data it holds: when it was begun.
    pub time: Timestamp,
    /// Regular files in it.
    pub files: u64,
    /// Sum of their lengths in bytes.
    pub bytes: u64,
    /// Whose most of them are, if that was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Ids>,
}

/// What the ledger says about one claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Ledger {
    /// Listed completely, and this claim's record read if there is one.
    Present {
        /// This claim's record.
        entry: Option<LedgerEntry>,
        /// Records of all claims. A ledger without any proves nothing and counts as absent.
        entries: u64,
    },
    /// Listed completely, and there is none.
    Absent,
    /// It could not be listed, or this claim's record could not be read or believed.
    Unreadable {
        /// Why.
        detail: String,
    },
}

/// What is expected of a claim's repository, from Git, the cluster and the claim itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Claim {
    /// The repository it must be, if anyone has pinned one.
    pub pinned_repository_id: Option<RepositoryId>,
    /// Whether a repository may be created.
    pub creation: Creation,
    /// Whether this store must have a ledger, since it had one before.
    pub ledger_expected: bool,
    /// Whether the ledger's mirror in the cluster, or Git's export of it, knows a backup of this identity.
    pub backup_expected: bool,
    /// Take the newest snapshot that is not newer than this. Whoever asks for it expects a backup.
    pub restore_as_of: Option<Timestamp>,
    /// What a person says about this claim.
    pub word: Word,
}

/// Whether a repository may be created where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Creation {
    /// In a location that is completely listed and empty, and that nobody expects anything of.
    #[default]
    IfEmpty,
    /// Not at all: a person creates repositories.
    Never,
}

/// What a claim gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Decision {
    /// The data of this snapshot.
    Restore {
        /// Which one.
        snapshot: Snapshot,
    },
    /// An empty volume.
    Fresh {
        /// Why nothing is lost by it.
        proof: Proof,
    },
    /// Nothing yet: it stays Pending and is asked again.
    Hold {
        /// Why, from a closed list.
        reason: HoldReason,
        /// The same for a person, with the names that help.
        detail: String,
    },
}

/// Why an empty volume is right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Proof {
    /// The repository is the right one, holds nothing of this identity, and its ledger knows others but not this one.
    RepositoryOpenNoHistory {
        /// The repository.
        repository_id: RepositoryId,
        /// Records in its ledger.
        ledger_entries: u64,
    },
    /// The location is empty and nobody expects anything there: the first backup creates the repository.
    NeverInitialised,
    /// The repository holds nothing of this identity, and a person declared it new.
    DeclaredNew {
        /// The repository.
        repository_id: RepositoryId,
    },
    /// A person dismissed this backup, and there is none that they did not.
    Dismissed {
        /// The newest.
        snapshot: Snapshot,
    },
    /// The repository is the right one, and a person said that the claim is never to be restored by itself.
    NotWanted {
        /// The repository.
        repository_id: RepositoryId,
    },
}

/// Why a claim waits. The names are those of Events, conditions and metric labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HoldReason {
    /// There was a backup, or one was asked for, and it is not there.
    ExpectedBackupMissing,
    /// There are snapshots, but none that may be restored without a person's word.
    OnlyQuarantined,
    /// There is no repository where one must be.
    RepositoryMissing,
    /// There is another repository than the expected one.
    WrongRepository,
    /// The store or the repository refuses the credentials.
    RepositoryAuth,
    /// The store gives no complete answer.
    RepositoryUnreachable,
    /// The facts fit no other row.
    Unknown,
    /// The credentials are not there yet.
    WaitingForRepoSecret,
    /// Too many claims of a rebuild would start empty.
    MassFresh,
    /// The snapshot does not fit into the claim.
    CapacityTooSmall,
    /// The snapshot holds files, and the claim is a raw device.
    VolumeModeMismatch,
    /// What the claim asks for cannot be understood.
    InvalidLabelOrAnnotation,
    /// The claim's policy names a repository that is not there, or that its namespace may not use.
    RepositoryNotFound,
    /// The claim was bound by others, and a backup of it is not in its volume.
    BoundWithoutDecision,
    /// The last try to restore it has failed.
    RestoreFailed,
}

impl HoldReason {
    /// The name, as Events and labels spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ExpectedBackupMissing => "ExpectedBackupMissing",
            Self::OnlyQuarantined => "OnlyQuarantined",
            Self::RepositoryMissing => "RepositoryMissing",
            Self::WrongRepository => "WrongRepository",
            Self::RepositoryAuth => "RepositoryAuth",
            Self::RepositoryUnreachable => "RepositoryUnreachable",
            Self::Unknown => "Unknown",
            Self::WaitingForRepoSecret => "WaitingForRepoSecret",
            Self::MassFresh => "MassFresh",
            Self::CapacityTooSmall => "CapacityTooSmall",
            Self::VolumeModeMismatch => "VolumeModeMismatch",
            Self::InvalidLabelOrAnnotation => "InvalidLabelOrAnnotation",
            Self::RepositoryNotFound => "RepositoryNotFound",
            Self::BoundWithoutDecision => "BoundWithoutDecision",
            Self::RestoreFailed => "RestoreFailed",
        }
    }
}

impl fmt::Display for HoldReason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RepositoryOpenNoHistory { repository_id, ledger_entries } => {
                write!(out, "repository {repository_id} has no history of it, nor has its ledger of {ledger_entries}")
            }
            Self::NeverInitialised => out.write_str("the location is empty and was never used"),
            Self::DeclaredNew { repository_id } => write!(out, "repository {repository_id} was declared new"),
            Self::Dismissed { snapshot } => write!(out, "snapshot {} of {} was dismissed", snapshot.id, snapshot.time),
            Self::NotWanted { repository_id } => {
                write!(out, "it is never to be restored by itself from repository {repository_id}")
            }
        }
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Restore { snapshot } => write!(out, "restore {} of {}", snapshot.id, snapshot.time),
            Self::Fresh { proof } => write!(out, "fresh: {proof}"),
            Self::Hold { reason, detail } => write!(out, "hold {reason}: {detail}"),
        }
    }
}

/// What a claim gets, given what was found and what is expected.
pub fn decide(facts: &Facts, claim: &Claim) -> Decision {
    match look(facts, claim) {
        Decision::Fresh { proof } if claim.word.restore == Restore::Force => {
            hold(HoldReason::ExpectedBackupMissing, format!("a backup must exist (restore-mode force), but {proof}"))
        }
        decision => decision,
    }
}

fn look(facts: &Facts, claim: &Claim) -> Decision {
    if !facts.secret_present {
        return hold(HoldReason::WaitingForRepoSecret, "the repository's credentials are not there yet");
    }
    match &facts.location {
        Location::Unreachable { detail } => hold(HoldReason::RepositoryUnreachable, detail),
        Location::AuthDenied { detail } => hold(HoldReason::RepositoryAuth, detail),
        Location::Unknown { detail } => hold(HoldReason::Unknown, detail),
        Location::StoreMissing { detail } => match expectation(facts, claim) {
            Some(why) => hold(HoldReason::RepositoryMissing, format!("{detail}, but {why}")),
            None => hold(HoldReason::RepositoryUnreachable, detail),
        },
        Location::Uninitialised => match expectation(facts, claim) {
            Some(why) => hold(HoldReason::RepositoryMissing, format!("no repository is there, but {why}")),
            None => hold(HoldReason::Unknown, "objects are there, but they are no repository"),
        },
        Location::Empty => decide_empty(facts, claim),
        Location::Open { id, listing_complete, snapshots } => {
            if let Some(wrong) = other_repository(id, facts, claim) {
                return hold(HoldReason::WrongRepository, wrong);
            }
            if !listing_complete {
                return hold(HoldReason::RepositoryUnreachable, "the listing of snapshots ended early");
            }
            if claim.word.restore == Restore::Never {
                return Decision::Fresh { proof: Proof::NotWanted { repository_id: id.clone() } };
            }
            decide_seen(snapshots, claim).unwrap_or_else(|| decide_unseen(id, facts, claim))
        }
    }
}

/// Nothing at all is at the location.
///
/// `declared_new` has no say here: it is about a repository that exists, and who wants a new one in an expected place
/// creates it or withdraws the expectation. A ledger beside the location (layout PerClaim) that is present and does not
/// know the claim is what an expected ledger should look like for a new claim.
fn decide_empty(facts: &Facts, claim: &Claim) -> Decision {
    if let Some(why) = expectation(facts, claim) {
        return hold(HoldReason::RepositoryMissing, format!("the location is empty, but {why}"));
    }
    if let Ledger::Unreadable { detail } = &facts.ledger {
        return hold(HoldReason::Unknown, format!("the location is empty and the ledger cannot be read: {detail}"));
    }
    match claim.creation {
        Creation::Never => hold(HoldReason::RepositoryMissing, "the location is empty and create is Never"),
        Creation::IfEmpty => Decision::Fresh { proof: Proof::NeverInitialised },
    }
}

/// The right repository holds snapshots of this identity; nothing if it holds none of any kind.
fn decide_seen(snapshots: &Snapshots, claim: &Claim) -> Option<Decision> {
    let in_time = |snapshot: &&Snapshot| claim.restore_as_of.is_none_or(|as_of| snapshot.time <= as_of);
    let is_accepted = |snapshot: &Snapshot| claim.word.accepted.as_ref() == Some(&snapshot.id);
    let is_quarantined =
        |snapshot: &Snapshot| !is_accepted(snapshot) && snapshots.quarantined.iter().any(|held| held.id == snapshot.id);
    let accepted = snapshots.quarantined.iter().filter(|held| is_accepted(held));
    // Equal times are rare and must not make two looks differ.
    let by_age = |one: &&Snapshot, other: &&Snapshot| (one.time, &one.id).cmp(&(other.time, &other.id));
    let newest = snapshots
        .good
        .iter()
        .filter(|snapshot| !is_quarantined(snapshot))
        .chain(accepted)
        .filter(in_time)
        .max_by(by_age);
    let is_held = |held: &&Snapshot| is_quarantined(held);
    // One that is listed as good as well counts with whatever is said of it there.
    let held = snapshots.quarantined.iter().chain(&snapshots.good);
    let held = held.filter(is_held).filter(in_time).max_by(by_age);
    let is_dismissed = |snapshot: &Snapshot| {
        claim.word.dismissed.as_ref().is_some_and(|word| word.covers(&snapshot.id, snapshot.time))
    };
    if let Some(snapshot) = newest.filter(|snapshot| !is_dismissed(snapshot)) {
        return Some(Decision::Restore { snapshot: snapshot.clone() });
    }
    // What is held back is not nothing: only its own dismissal, or that of a newer one, lets an empty volume follow it.
    let newer_held = held.filter(|held| newest.is_none_or(|newest| held.time > newest.time));
    if let Some(held) = newer_held.filter(|held| !is_dismissed(held)) {
        let detail = match newest {
            Some(newest) => {
                format!("{} of {} is dismissed, {} of {} is quarantined", newest.id, newest.time, held.id, held.time)
            }
            None => format!("only quarantined snapshots, the newest {} of {}", held.id, held.time),
        };
        return Some(hold(HoldReason::OnlyQuarantined, detail));
    }
    if let Some(snapshot) = newer_held.or(newest) {
        return Some(Decision::Fresh { proof: Proof::Dismissed { snapshot: snapshot.clone() } });
    }
    match claim.restore_as_of {
        Some(as_of) if !snapshots.good.is_empty() || !snapshots.quarantined.is_empty() => {
            Some(hold(HoldReason::ExpectedBackupMissing, format!("no snapshot is as old as {as_of}")))
        }
        _ if snapshots.unfinished > 0 => {
            let detail = format!("only unfinished snapshots, {} of them", snapshots.unfinished);
            Some(hold(HoldReason::OnlyQuarantined, detail))
        }
        _ => None,
    }
}

/// The right repository is open, listed to the end, and holds nothing of this identity.
fn decide_unseen(id: &RepositoryId, facts: &Facts, claim: &Claim) -> Decision {
    let (entry, entries) = match &facts.ledger {
        Ledger::Unreadable { detail } => {
            return hold(HoldReason::Unknown, format!("no snapshot, and the ledger cannot be read: {detail}"));
        }
        Ledger::Present { entry, entries } => (entry.as_ref(), *entries),
        Ledger::Absent => (None, 0),
    };
    // A person's word that the repository is new outweighs what another repository held, not what this one held.
    if let Some(entry) = entry.filter(|entry| !facts.declared_new || entry.repository_id == *id) {
        if claim.word.dismissed.as_ref().is_some_and(|word| word.covers(&entry.snapshot_id, entry.time)) {
            let LedgerEntry { snapshot_id, time, files, bytes, .. } = entry.clone();
            return Decision::Fresh {
                proof: Proof::Dismissed { snapshot: Snapshot { id: snapshot_id, time, files, bytes, owner: None } },
            };
        }
        let detail = format!("no snapshot, but the ledger records {} of {}", entry.snapshot_id, entry.time);
        return hold(HoldReason::ExpectedBackupMissing, detail);
    }
    if let Some(as_of) = claim.restore_as_of {
        return hold(HoldReason::ExpectedBackupMissing, format!("no snapshot, but one as of {as_of} was asked for"));
    }
    if facts.declared_new {
        return Decision::Fresh { proof: Proof::DeclaredNew { repository_id: id.clone() } };
    }
    if claim.backup_expected {
        return hold(HoldReason::ExpectedBackupMissing, "no snapshot, but the cluster's ledger records one");
    }
    if entries == 0 {
        let detail = "no snapshot and no ledger: declare the repository new if nothing was ever backed up to it";
        return hold(HoldReason::Unknown, detail);
    }
    Decision::Fresh { proof: Proof::RepositoryOpenNoHistory { repository_id: id.clone(), ledger_entries: entries } }
}

/// Why something should be at the location, if anything says so.
fn expectation(facts: &Facts, claim: &Claim) -> Option<String> {
    if let Some(id) = &claim.pinned_repository_id {
        return Some(format!("repository {id} is pinned"));
    }
    let entries = match &facts.ledger {
        Ledger::Present { entry: Some(entry), .. } => {
            return Some(format!("the ledger records {} in repository {}", entry.snapshot_id, entry.repository_id));
        }
        Ledger::Present { entry: None, entries } => *entries,
        Ledger::Absent | Ledger::Unreadable { .. } => 0,
    };
    if claim.backup_expected {
        return Some("the cluster's ledger records a backup".to_owned());
    }
    if let Some(as_of) = claim.restore_as_of {
        return Some(format!("a backup as of {as_of} was asked for"));
    }
    (claim.ledger_expected && entries == 0).then(|| "a ledger is expected and was not found".to_owned())
}

/// How the open repository is not the expected one, if so. Without a pin, the claim's ledger record speaks.
fn other_repository(id: &RepositoryId, facts: &Facts, claim: &Claim) -> Option<String> {
    if let Some(pinned) = &claim.pinned_repository_id {
        return (pinned != id).then(|| format!("repository {id} is there, {pinned} is pinned"));
    }
    match &facts.ledger {
        Ledger::Present { entry: Some(entry), .. } if entry.repository_id != *id && !facts.declared_new => {
            Some(format!("repository {id} is there, the ledger names {}", entry.repository_id))
        }
        Ledger::Present { .. } | Ledger::Absent | Ledger::Unreadable { .. } => None,
    }
}

fn hold(reason: HoldReason, detail: impl Into<String>) -> Decision {
    Decision::Hold { reason, detail: detail.into() }
}

/// Stops a rebuild in which everything would start empty although something else remembers backups.
///
/// One value per rebuild (one life of a cluster, or since the last confirmation). Each decision goes through
/// [`MassFreshGuard::admit`] and, once acted on, through [`MassFreshGuard::record`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MassFreshGuard {
    /// Claims restored so far.
    pub restored: u64,
    /// Claims that started empty so far.
    pub fresh: u64,
    /// The claim with this number is held when it and all before it would be fresh; [`MASS_FRESH_THRESHOLD`] normally.
    pub threshold: u64,
    /// Identities that the cluster's ledger or Git's export knows.
    pub expected: u64,
    /// Whether a person said that starting empty is meant.
    pub confirmed: bool,
}

impl MassFreshGuard {
    /// At the beginning of a rebuild, when a ledger elsewhere knows `expected` identities.
    pub fn new(expected: u64) -> Self {
        Self { restored: 0, fresh: 0, threshold: MASS_FRESH_THRESHOLD, expected, confirmed: false }
    }

    /// The decision, or a hold in its place.
    ///
    /// Not held: what a person declared new or does not want, and everything after the first restore, which proves the store right.
    pub fn admit(&self, decision: Decision) -> Decision {
        let is_suspicious = match &decision {
            Decision::Fresh { proof: Proof::RepositoryOpenNoHistory { .. } | Proof::NeverInitialised } => true,
            Decision::Fresh {
                proof: Proof::DeclaredNew { .. } | Proof::Dismissed { .. } | Proof::NotWanted { .. },
            } => false,
            Decision::Restore { .. } | Decision::Hold { .. } => false,
        };
        let is_mass = self.restored == 0 && self.fresh.saturating_add(1) >= self.threshold;
        if !(is_suspicious && is_mass && self.expected > 0 && !self.confirmed) {
            return decision;
        }
        let detail = format!(
            "{} claims started empty and none was restored, but a ledger elsewhere records {} backups",
            self.fresh, self.expected
        );
        hold(HoldReason::MassFresh, detail)
    }

    /// Counts a decision that was acted on.
    pub fn record(&mut self, decision: &Decision) {
        match decision {
            Decision::Restore { .. } => self.restored = self.restored.saturating_add(1),
            Decision::Fresh { .. } => self.fresh = self.fresh.saturating_add(1),
            Decision::Hold { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests;
