//! Where the threads of restore, verify and forget meet the store.
//!
//! [`wait`] runs one small piece of async work to its end. A [`Fetcher`] has many ranges of packs read at the same time and
//! hands them to threads, in whatever order they arrive:
//!
//! ```text
//! planning thread ─▶ Fetcher::fetch ─▶ task on the runtime ─▶ channel ─▶ unsealing threads
//!                    waits for a permit                       never full: as long as all permits
//! ```
//! A permit is held until the range's bytes are let go of by the last thread, so the permits' sum is the memory used.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use repository::PackId;
use storage::{ObjectKey, Storage};
use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinSet};

use crate::lane::{self, Receiver, Sender, Stopped};
use crate::limits::CHUNK_BYTES;
use crate::run::{Cancel, Run};

/// How long a request to stop may go unnoticed while something waits for the store.
const CANCEL_POLL: Duration = Duration::from_millis(100);

/// Why no bytes came.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// Asked to stop.
    #[error("stopped on request")]
    Interrupted,
    /// The threads that take the bytes are gone.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// A task ended without an answer.
    #[error("a task that reads from the store ended without an answer")]
    Ended(#[source] JoinError),
}

/// Runs async work to its end, unless the run is cancelled meanwhile. The runtime must have its timer enabled.
pub(crate) fn wait<T>(run: &Run, work: impl Future<Output = T>) -> Result<T, FetchError> {
    run.runtime.block_on(async {
        tokio::select! {
            biased;
            value = work => Ok(value),
            () = cancelled(&run.cancel) => Err(FetchError::Interrupted),
        }
    })
}

async fn cancelled(cancel: &Cancel) {
    while !cancel.is_cancelled() {
        tokio::time::sleep(CANCEL_POLL).await;
    }
}

/// Some bytes of one pack, and what they are wanted for.
#[derive(Debug)]
pub(crate) struct Range<T> {
    pub(crate) pack: PackId,
    pub(crate) offset: u64,
    pub(crate) length_bytes: u64,
    pub(crate) wanted: T,
}

/// The answer to one [`Range`].
pub(crate) struct Fetched<T> {
    pub(crate) range: Range<T>,
    pub(crate) bytes: Result<Bytes, storage::Error>,
    /// Must be let go of no sooner than the bytes.
    pub(crate) permit: Permit,
}

/// Starts reads, not more at a time than its budget has permits for.
pub(crate) struct Fetcher<T> {
    runtime: Handle,
    cancel: Cancel,
    storage: Arc<dyn Storage>,
    budget: Arc<Budget>,
    fetched: Sender<Fetched<T>>,
    /// Dropping it ends what is still under way.
    tasks: JoinSet<()>,
}

impl<T: Send + 'static> Fetcher<T> {
    /// A fetcher, where its answers come out, and the budget that the takers must close when they end.
    pub(crate) fn new(
        storage: &Arc<dyn Storage>,
        run: &Run,
        beside: Beside,
    ) -> (Self, Receiver<Fetched<T>>, Arc<Budget>) {
        let count_max = run.limits.fetches.max(1) + run.limits.threads.max(1);
        let budget = Arc::new(Budget::new(count_max, beside.budget_bytes(run)));
        let (fetched, answers) = lane::channel(count_max);
        let fetcher = Self {
            runtime: run.runtime.clone(),
            cancel: run.cancel.clone(),
            storage: Arc::clone(storage),
            budget: Arc::clone(&budget),
            fetched,
            tasks: JoinSet::new(),
        };
        (fetcher, answers, budget)
    }

    /// Has one range read; waits for a permit.
    pub(crate) fn fetch(&mut self, range: Range<T>) -> Result<(), FetchError> {
        let permit = self.budget.acquire(range.length_bytes, &self.cancel)?;
        let (storage, fetched) = (Arc::clone(&self.storage), self.fetched.clone());
        let read = async move {
            let key = ObjectKey::new(range.pack.as_str());
            let bytes = storage.get_range(&key, range.offset, range.length_bytes).await;
            // The channel holds as many as there are permits, so this never blocks. When nobody takes it any more, the
            // takers' own error says why.
            let _ = fetched.send(Fetched { range, bytes, permit });
        };
        self.tasks.spawn_on(read, &self.runtime);
        while let Some(ended) = self.tasks.try_join_next() {
            ended.map_err(FetchError::Ended)?;
        }
        Ok(())
    }

    /// Waits until everything asked for has arrived.
    pub(crate) fn finish(mut self, run: &Run) -> Result<(), FetchError> {
        drop(self.fetched);
        while let Some(ended) = wait(run, self.tasks.join_next())? {
            ended.map_err(FetchError::Ended)?;
        }
        Ok(())
    }
}

/// What else takes memory while ranges are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beside {
    /// Nothing much: a store far away gives more the more is under way.
    Nothing,
    /// Packs that are filled with what is read.
    Packs,
}

impl Beside {
    /// Bytes of ranges that are under way or being unsealed, at most.
    fn budget_bytes(self, run: &Run) -> u64 {
        let instead_of_packs = if self == Self::Nothing { run.limits.threads.max(1) } else { 0 };
        ((run.limits.chunks.max(1) + instead_of_packs) * CHUNK_BYTES) as u64
    }
}

/// A range is not joined to more than this, so that every thread and every read under way can have one.
pub(crate) fn range_bytes_max(run: &Run) -> u64 {
    let shares = run.limits.threads.max(1) + run.limits.fetches.max(1);
    (Beside::Packs.budget_bytes(run) / shares as u64).clamp(1 << 20, super::ranges::RANGE_BYTES_MAX)
}

/// How many ranges and bytes may be under way.
pub(crate) struct Budget {
    count_max: usize,
    bytes_max: u64,
    used: Mutex<Used>,
    changed: Condvar,
}

#[derive(Default)]
struct Used {
    count: usize,
    bytes: u64,
    closed: bool,
}

impl Budget {
    fn new(count_max: usize, bytes_max: u64) -> Self {
        Self { count_max, bytes_max, used: Mutex::default(), changed: Condvar::new() }
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is room. What alone is larger than the whole budget is let through when nothing else is.
    fn acquire(self: &Arc<Self>, bytes: u64, cancel: &Cancel) -> Result<Permit, FetchError> {
        let mut used = self.used();
        loop {
            if cancel.is_cancelled() {
                return Err(FetchError::Interrupted);
            }
            if used.closed {
                return Err(Stopped.into());
            }
            let fits = used.count < self.count_max && used.bytes + bytes <= self.bytes_max;
            if fits || used.count == 0 {
                used.count += 1;
                used.bytes += bytes;
                return Ok(Permit { budget: Arc::clone(self), bytes });
            }
            used = self.changed.wait_timeout(used, CANCEL_POLL).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// No more permits once this is dropped: every taker of fetched ranges holds one for as long as it takes.
    pub(crate) fn closer(&self) -> Closer<'_> {
        Closer(self)
    }
}

/// See [`Budget::closer`].
pub(crate) struct Closer<'a>(&'a Budget);

impl Drop for Closer<'_> {
    fn drop(&mut self) {
        self.0.used().closed = true;
        self.0.changed.notify_all();
    }
}

/// The right to hold one range in memory.
pub(crate) struct Permit {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut used = self.budget.used();
        used.count -= 1;
        used.bytes -= self.bytes;
        drop(used);
        self.budget.changed.notify_all();
    }
}
