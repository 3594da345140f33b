//! What a restore has done so far, and what went wrong.

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use repository::FailedEntry;
use repository_kopia::{ContentError, ReadError};
use rustix::io::Errno;
use storage::Class;

use crate::shortfall::{Shortfall, Shortfalls};

/// Failed entries and damaged objects that are named; all are counted.
const NAMED_MAX: usize = 100;

/// Why one entry could not be restored.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) class: Class,
    pub(crate) text: String,
    /// The call on the target and the system's answer, for those that came from there.
    pub(crate) call: Option<(&'static str, Errno)>,
}

impl Problem {
    /// A call on the target failed.
    pub(crate) fn target(operation: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| Self {
            class: Class::Blocked,
            text: format!("{operation}: {}", std::io::Error::from(errno)),
            call: Some((operation, errno)),
        }
    }

    /// The target is not as it should be.
    pub(crate) fn blocked(text: impl Into<String>) -> Self {
        Self { class: Class::Blocked, text: text.into(), call: None }
    }

    /// The repository is not as it should be.
    pub(crate) fn damaged(text: impl Into<String>) -> Self {
        Self { class: Class::Damaged, text: text.into(), call: None }
    }

    /// The call and its answer, when the next entry would meet the same: no room, read-only, out of descriptors.
    pub(crate) fn concerning_all(&self) -> Option<(&'static str, Errno)> {
        let for_all = [
            Errno::NOSPC,
            Errno::DQUOT,
            Errno::ROFS,
            Errno::IO,
            Errno::MFILE,
            Errno::NFILE,
            Errno::NOMEM,
            Errno::NODEV,
            Errno::STALE,
        ];
        self.call.filter(|(_, errno)| for_all.contains(errno))
    }
}

impl From<&ContentError> for Problem {
    fn from(error: &ContentError) -> Self {
        Self { class: error.class(), text: chain(error), call: None }
    }
}

impl From<&ReadError> for Problem {
    fn from(error: &ReadError) -> Self {
        Self { class: error.class(), text: chain(error), call: None }
    }
}

/// An error and its sources on one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

/// Counts of one restore, from all its threads.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) file_count: AtomicU64,
    pub(crate) symlink_count: AtomicU64,
    pub(crate) directory_count: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) resumed_file_count: AtomicU64,
    pub(crate) resumed_bytes: AtomicU64,
    pub(crate) deleted_count: AtomicU64,
    pub(crate) owners_skipped_count: AtomicU64,
    pub(crate) special_count: AtomicU64,
    pub(crate) linked_bytes: AtomicU64,
    pub(crate) rightless_count: AtomicU64,
    shortfalls: Mutex<Shortfalls>,
    failed_count: AtomicU64,
    named: Mutex<Named>,
}

#[derive(Debug, Default)]
struct Named {
    failed: Vec<FailedEntry>,
    damaged: BTreeSet<String>,
}

/// What went wrong, all together.
pub(crate) struct Failures {
    pub(crate) count: u64,
    pub(crate) named: Vec<FailedEntry>,
    pub(crate) damaged: Vec<String>,
}

impl Tally {
    pub(crate) fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }

    /// One entry is not restored.
    pub(crate) fn fail(&self, path: String, problem: &Problem) {
        Self::add(&self.failed_count, 1);
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        if problem.class == Class::Damaged && named.damaged.len() < NAMED_MAX {
            named.damaged.insert(problem.text.clone());
        }
        if named.failed.len() < NAMED_MAX {
            named.failed.push(FailedEntry { path, error: problem.text.clone() });
        }
    }

    pub(crate) fn falls_short(&self, shortfall: Shortfall, for_rights: bool) {
        Self::add(&self.rightless_count, u64::from(for_rights));
        self.shortfalls.lock().unwrap_or_else(PoisonError::into_inner).note(shortfall);
    }

    pub(crate) fn shortfalls(&self) -> Shortfalls {
        let mut shortfalls = std::mem::take(&mut *self.shortfalls.lock().unwrap_or_else(PoisonError::into_inner));
        shortfalls.first.sort_by(|a, b| a.path.cmp(&b.path));
        shortfalls
    }

    pub(crate) fn failures(&self) -> Failures {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        let mut failed = std::mem::take(&mut named.failed);
        failed.sort_by(|a, b| a.path.cmp(&b.path));
        let damaged = std::mem::take(&mut named.damaged).into_iter().collect();
        Failures { count: self.failed_count.load(Ordering::Relaxed), named: failed, damaged }
    }
}
