//! Why a cycle did not begin, or ended early.

use storage::Class;

use crate::error::{IndexError, ReadError, WriteError};

/// Maintenance did not begin, or ended early. What it had written until then is sound, and the next run carries on.
#[derive(Debug, thiserror::Error)]
pub enum MaintenanceError {
    /// Somebody else maintains this repository.
    #[error("maintenance is the task of {owner}, and this is {client}")]
    NotOwner {
        /// Who.
        owner: String,
        /// Who we are.
        client: String,
    },
    /// Nobody was named to maintain this repository.
    #[error("nobody is named as the one who maintains this repository")]
    NoOwner,
    /// There are no locks to make longer.
    #[error("this repository does not lock its objects")]
    NothingLocked,
    /// Locks would end before the next full cycle.
    #[error("objects are locked for {hours} hours, and full cycles are {interval_hours} hours apart")]
    LocksTooShort {
        /// How long locks last.
        hours: i64,
        /// How far apart full cycles are.
        interval_hours: i64,
    },
    /// The same open repository is being maintained already.
    #[error("this repository is being maintained by this program already")]
    Running,
    /// `kopia.maintenance` changed under us.
    #[error("another program maintains this repository at the same time: kopia.maintenance changed meanwhile")]
    Concurrent,
    /// The store's clock and this machine's are too far apart.
    #[error("the store's clock is {skew_seconds} seconds ahead of this machine's")]
    ClockSkew {
        /// Store minus machine.
        skew_seconds: i64,
    },
    /// `kopia.maintenance` does not open.
    #[error("kopia.maintenance is damaged: {detail}")]
    DamagedSchedule {
        /// Why not.
        detail: String,
    },
    /// Part of the repository cannot be read, so nobody knows what it needs.
    #[error("nothing is removed while {count} records of the repository are unreadable: {first}")]
    Damaged {
        /// How many.
        count: usize,
        /// The first of them.
        first: String,
    },
    /// A session marker cannot be read, so nobody knows which packs are being written.
    #[error("session marker {blob} is damaged: {detail}")]
    DamagedMarker {
        /// The object.
        blob: String,
        /// What is wrong with it.
        detail: String,
    },
    /// A merged index blob does not read back as it was written.
    #[error("index blob {blob} does not read back as it was written: {detail}")]
    ReadsBackDifferently {
        /// The object.
        blob: String,
        /// How.
        detail: String,
    },
    /// The store failed.
    #[error("{operation}")]
    Storage {
        /// What was being done.
        operation: String,
        /// The store's answer.
        #[source]
        source: storage::Error,
    },
    /// A blob could not be sealed.
    #[error("seal {blob}")]
    Seal {
        /// What kind of blob.
        blob: &'static str,
        /// Why.
        #[source]
        source: codec::Error,
    },
    /// The index could not be read.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A record could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Writing failed.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl MaintenanceError {
    pub(crate) fn storage(operation: impl Into<String>) -> impl FnOnce(storage::Error) -> Self {
        let operation = operation.into();
        move |source| Self::Storage { operation, source }
    }

    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::NotOwner { .. }
            | Self::NoOwner
            | Self::ClockSkew { .. }
            | Self::NothingLocked
            | Self::LocksTooShort { .. } => Class::Blocked,
            Self::Running | Self::Concurrent => Class::Retry,
            Self::DamagedSchedule { .. }
            | Self::Damaged { .. }
            | Self::DamagedMarker { .. }
            | Self::ReadsBackDifferently { .. } => Class::Damaged,
            Self::Storage { source, .. } => source.class(),
            Self::Seal { .. } => Class::Bug,
            Self::Index(error) => error.class(),
            Self::Read(error) => error.class(),
            Self::Write(error) => error.class(),
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotOwner { .. } | Self::NoOwner => Some(
                "`--take-over` makes this client the owner for good, once the other one has stopped; \
                 two must never maintain at once",
            ),
            Self::NothingLocked => Some("object locks are asked for when a repository is created, or with kopia"),
            Self::LocksTooShort { .. } => {
                Some("locks must last a day longer than that: `kopia repository set-parameters --retention-period`")
            }
            Self::Running | Self::Concurrent => {
                Some("let the other run end, and see to it that only one program maintains this repository")
            }
            Self::ClockSkew { .. } => Some("set the clocks; their difference decides what may be removed"),
            Self::DamagedSchedule { .. } => Some(
                "put a copy of it back; without one, delete it: then the history of earlier runs is gone, and \
                 everything waits its full time once more",
            ),
            Self::Damaged { .. } => Some("run `perennial verify` to learn what is affected, and repair it first"),
            Self::DamagedMarker { .. } => {
                Some("if no backup has been running for four days, move this object away and run again")
            }
            Self::ReadsBackDifferently { .. } => {
                Some("nothing was removed; the store or this machine's memory is not to be trusted")
            }
            Self::Storage { source, .. } => source.hint(),
            Self::Seal { .. } => None,
            Self::Index(error) => error.hint(),
            Self::Read(error) => error.hint(),
            Self::Write(error) => error.hint(),
        }
    }
}
