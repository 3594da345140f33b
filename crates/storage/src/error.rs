//! What can go wrong at a store, sorted by what a person or a program can do about it.

use std::fmt;

/// What to do about an error; every error of this project answers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// May pass by itself: try again later.
    Retry,
    /// Someone must act first.
    Blocked,
    /// Repository bytes are wrong: never retried, never silent.
    Damaged,
    /// A fault of this program.
    Bug,
}

/// What happened at the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The object is not there, and the store itself is.
    NotFound,
    /// The bucket or the directory itself is not there.
    StoreMissing,
    /// A put that must not replace found the name taken.
    AlreadyExists,
    /// The object is shorter than what was asked for.
    Truncated,
    /// 401 or 403, a bad signature, or file permissions.
    AccessDenied,
    /// Time-out, name resolution, TLS, connection, 5xx, too many requests.
    Unreachable,
    /// No space, quota.
    Full,
    /// An object was to be locked, and the store or the bucket knows no locks.
    CannotLock,
    /// The address or the settings make no sense, or the store refuses the request for good.
    Misconfigured,
    /// The store broke its contract: wrong bytes, a lost write, a listing that ends early.
    Lies,
    /// Anything not listed above. Unknown is not absent.
    Other,
}

/// An operation on a store that failed.
#[derive(Debug)]
pub struct Error {
    /// What happened.
    pub kind: ErrorKind,
    /// The operation and its object, as in `get range of p3f9…`.
    pub operation: String,
    /// The store's address.
    pub address: String,
    /// What the store said, without secrets.
    pub detail: String,
    /// How long the store asks to be left alone; 0 if it does not say.
    pub retry_after_seconds: u32,
}

impl Error {
    /// What to do about it.
    pub fn class(&self) -> Class {
        match self.kind {
            ErrorKind::Unreachable | ErrorKind::Other => Class::Retry,
            ErrorKind::StoreMissing
            | ErrorKind::AccessDenied
            | ErrorKind::Full
            | ErrorKind::CannotLock
            | ErrorKind::Misconfigured => Class::Blocked,
            ErrorKind::NotFound | ErrorKind::Truncated | ErrorKind::Lies => Class::Damaged,
            ErrorKind::AlreadyExists => Class::Blocked,
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self.kind {
            ErrorKind::NotFound | ErrorKind::Truncated => Some("run `perennial verify` to learn what is affected"),
            ErrorKind::StoreMissing => {
                Some("check the bucket or directory name; for a mounted directory, that it is mounted")
            }
            ErrorKind::AlreadyExists => None,
            ErrorKind::AccessDenied => {
                Some("check the access key, the secret key and the rights they have on the bucket or directory")
            }
            ErrorKind::Unreachable => {
                Some("check that the store answers at this address; the run can be repeated at any time")
            }
            ErrorKind::Full => Some("make room in the store; what is already there is still good"),
            ErrorKind::CannotLock => Some(
                "the repository wants new objects locked: keep it in a bucket with object lock, or switch its retention off",
            ),
            ErrorKind::Misconfigured => Some("check the store's address and settings"),
            ErrorKind::Lies => Some("do not use this store for backups: it does not keep what it acknowledges"),
            ErrorKind::Other => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {}", self.operation, self.address, self.detail)
    }
}

impl std::error::Error for Error {}
