//! Snapshots that retention no longer keeps, or that a person wants gone.
//!
//! Forgetting removes snapshots from sight, not their data: that goes when maintenance finds that nothing needs it. Nothing
//! is forgotten while any record of a snapshot is unreadable, since what stays is decided by what else there is.

use std::collections::BTreeSet;

use repository::{Identity, Snapshot, SnapshotId};
use repository_kopia::{ReadError, Repository, Retention, WriteError, retain};
use storage::Class;

use crate::restore::fetch::{FetchError, wait};
use crate::run::Run;

/// What was forgotten, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForgetOutcome {
    /// What stays, and why: `latest-1`, `daily-2`, `incomplete`, `pin: …`.
    pub kept: Vec<(SnapshotId, Vec<String>)>,
    /// What is gone; on a dry run, what would be.
    pub removed: Vec<SnapshotId>,
}

/// Forgetting failed. No snapshot is gone.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// The snapshots could not be listed.
    #[error("list the snapshots")]
    List(#[source] ReadError),
    /// Some records of snapshots cannot be read.
    #[error("nothing is forgotten while {count} records of the repository are unreadable: {first}")]
    Damaged {
        /// How many.
        count: usize,
        /// The first of them.
        first: String,
    },
    /// The policy could not be read.
    #[error("read the policy of {identity}")]
    Policy {
        /// Whose.
        identity: Identity,
        /// Why not.
        #[source]
        source: ReadError,
    },
    /// There is no such snapshot.
    #[error("there is no snapshot {id}")]
    Unknown {
        /// Which.
        id: SnapshotId,
    },
    /// It is pinned.
    #[error("snapshot {id} is pinned: {pins}")]
    Pinned {
        /// Which.
        id: SnapshotId,
        /// The reasons.
        pins: String,
    },
    /// The record of it could not be written.
    #[error("write that {count} snapshots are gone")]
    Write {
        /// How many.
        count: usize,
        /// Why not.
        #[source]
        source: WriteError,
    },
    /// Asked to stop.
    #[error("stopped on request before anything was forgotten")]
    Interrupted,
}

impl ForgetError {
    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::List(source) | Self::Policy { source, .. } => source.class(),
            Self::Damaged { .. } => Class::Damaged,
            Self::Unknown { .. } | Self::Pinned { .. } => Class::Blocked,
            Self::Write { source, .. } => source.class(),
            Self::Interrupted => Class::Retry,
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::List(source) | Self::Policy { source, .. } => source.hint(),
            Self::Damaged { .. } => Some("run `perennial verify` to learn what is affected, and repair it first"),
            Self::Unknown { .. } => Some("`perennial snapshots --all` shows every id"),
            Self::Pinned { .. } => Some("take the pin away first"),
            Self::Write { source, .. } => source.hint(),
            Self::Interrupted => None,
        }
    }
}

impl From<FetchError> for ForgetError {
    fn from(_: FetchError) -> Self {
        Self::Interrupted
    }
}

/// Forgets the snapshots of `identity` that its retention does not keep; without an identity those of every identity, each
/// history by itself. Without `retention`, each identity's own policy decides. Pinned snapshots always stay.
///
/// The open repository still lists what is gone until its next refresh.
///
/// # Errors
/// When a record is unreadable or the store fails.
pub fn forget(
    repository: &Repository,
    identity: Option<&Identity>,
    retention: Option<Retention>,
    dry_run: bool,
    run: &Run,
) -> Result<ForgetOutcome, ForgetError> {
    let snapshots = sound_snapshots(repository, run)?;
    let identities: BTreeSet<&Identity> = match identity {
        Some(identity) => BTreeSet::from([identity]),
        None => snapshots.iter().map(|snapshot| &snapshot.identity).collect(),
    };
    let mut outcome = ForgetOutcome::default();
    for identity in identities {
        let history: Vec<Snapshot> =
            snapshots.iter().filter(|snapshot| snapshot.identity == *identity).cloned().collect();
        let retention = match retention {
            Some(retention) => retention,
            None => own_retention(repository, identity, run)?,
        };
        for (verdict, snapshot) in retain(&history, &retention, &repository.retention_zone()).into_iter().zip(&history)
        {
            if verdict.expired && snapshot.pins.is_empty() {
                outcome.removed.push(verdict.snapshot);
            } else {
                let pins = snapshot.pins.iter().map(|pin| format!("pin: {pin}"));
                outcome.kept.push((verdict.snapshot, verdict.reasons.into_iter().chain(pins).collect()));
            }
        }
    }
    remove(repository, &outcome.removed, dry_run, run)?;
    Ok(outcome)
}

/// Forgets exactly these snapshots, all or none.
///
/// # Errors
/// When one of them is not there or is pinned, a record is unreadable, or the store fails.
pub fn forget_ids(
    repository: &Repository,
    ids: &[SnapshotId],
    dry_run: bool,
    run: &Run,
) -> Result<ForgetOutcome, ForgetError> {
    let snapshots = sound_snapshots(repository, run)?;
    let wanted: BTreeSet<&SnapshotId> = ids.iter().collect();
    for id in &wanted {
        let snapshot = snapshots
            .iter()
            .find(|snapshot| snapshot.id == **id)
            .ok_or_else(|| ForgetError::Unknown { id: (*id).clone() })?;
        if !snapshot.pins.is_empty() {
            return Err(ForgetError::Pinned { id: (*id).clone(), pins: snapshot.pins.join(", ") });
        }
    }
    let removed: Vec<SnapshotId> = wanted.into_iter().cloned().collect();
    remove(repository, &removed, dry_run, run)?;
    Ok(ForgetOutcome { kept: Vec::new(), removed })
}

fn sound_snapshots(repository: &Repository, run: &Run) -> Result<Vec<Snapshot>, ForgetError> {
    let listing = wait(run, repository.snapshots())?.map_err(ForgetError::List)?;
    match listing.damage.first() {
        None => Ok(listing.snapshots),
        Some(first) => Err(ForgetError::Damaged { count: listing.damage.len(), first: first.to_string() }),
    }
}

fn own_retention(repository: &Repository, identity: &Identity, run: &Run) -> Result<Retention, ForgetError> {
    let policy = wait(run, repository.policy(identity))?
        .map_err(|source| ForgetError::Policy { identity: identity.clone(), source })?;
    Ok(policy.retention)
}

/// Not to be interrupted: a half-written answer would leave the caller in doubt.
fn remove(repository: &Repository, ids: &[SnapshotId], dry_run: bool, run: &Run) -> Result<(), ForgetError> {
    if dry_run || ids.is_empty() {
        return Ok(());
    }
    if run.cancel.is_cancelled() {
        return Err(ForgetError::Interrupted);
    }
    run.runtime.block_on(repository.forget(ids)).map_err(|source| ForgetError::Write { count: ids.len(), source })
}
