//! What a run has done so far.

use std::sync::atomic::{AtomicU64, Ordering};

/// One thing that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Files whose part of the run is done.
    FilesDone,
    /// Bytes of files that have gone all the way, or need not: counted chunk by chunk while a large file is under way.
    BytesDone,
    /// Files found so far, or known from the plan.
    FilesFound,
    /// Bytes of files found so far, or known from the plan.
    BytesFound,
    /// Files taken over from an earlier snapshot without being opened.
    FilesUnchanged,
    /// Bytes read from files.
    BytesRead,
    /// Bytes of contents that were not in the repository before, before compression.
    BytesNew,
    /// Bytes of packs put into the store.
    BytesUploaded,
    /// Contents that were not in the repository before.
    ContentsNew,
    /// Entries that could not be read or written.
    Errors,
}

const COUNTERS: usize = Counter::Errors as usize + 1;

/// Counters of one run, readable from other threads while it goes on.
#[derive(Debug, Default)]
pub struct Meter([AtomicU64; COUNTERS]);

impl Meter {
    /// All zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts.
    pub fn add(&self, counter: Counter, amount: u64) {
        self.0[counter as usize].fetch_add(amount, Ordering::Relaxed);
    }

    /// The count so far.
    pub fn get(&self, counter: Counter) -> u64 {
        self.0[counter as usize].load(Ordering::Relaxed)
    }
}
