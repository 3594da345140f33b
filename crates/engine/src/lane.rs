//! The only place that starts threads and makes channels.
//!
//! A flow is a set of named threads, joined by bounded channels. A step is a plain function over a receiver and a sender:
//! when the step before it ends, its sender is dropped and the receiver runs dry; when the step after it ends early, sending
//! fails with [`Stopped`] and the step ends too. So the first error stops everything, and comes out of [`scope`].

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

pub(crate) use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError};

/// The next step is gone: end quietly, the reason comes from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a later step stopped")]
pub struct Stopped;

/// Errors of a flow: they know which of them only report that another step failed.
pub(crate) trait LaneError: From<Stopped> + Send {
    /// True for [`Stopped`].
    fn is_stopped(&self) -> bool;
}

/// Threads of one flow.
pub(crate) struct Lanes<'scope, 'env, E> {
    scope: &'scope thread::Scope<'scope, 'env>,
    first_error: Arc<Mutex<Option<E>>>,
}

impl<'scope, E: LaneError + 'scope> Lanes<'scope, '_, E> {
    /// Starts one step.
    pub(crate) fn spawn(&self, name: &str, step: impl FnOnce() -> Result<(), E> + Send + 'scope) {
        let first_error = self.first_error.clone();
        let run = move || {
            if let Err(error) = step() {
                keep_first(&first_error, error);
            }
        };
        thread::Builder::new()
            .name(name.to_owned())
            .spawn_scoped(self.scope, run)
            .expect("a machine that cannot start a handful of threads cannot run a backup");
    }
}

fn keep_first<E: LaneError>(slot: &Mutex<Option<E>>, error: E) {
    let mut first = slot.lock().unwrap_or_else(PoisonError::into_inner);
    match &*first {
        Some(known) if !known.is_stopped() || error.is_stopped() => {}
        _ => *first = Some(error),
    }
}

/// Runs a flow: `build` starts the steps and may be the last of them itself. Returns when all have ended.
pub(crate) fn scope<'env, T, E: LaneError + 'env>(
    build: impl for<'scope> FnOnce(&Lanes<'scope, 'env, E>) -> Result<T, E>,
) -> Result<T, E> {
    let first_error = Arc::new(Mutex::new(None));
    let built = thread::scope(|scope| build(&Lanes { scope, first_error: first_error.clone() }));
    let first = first_error.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (built, first) {
        (Ok(value), None) => Ok(value),
        (Ok(_), Some(error)) => Err(error),
        (Err(error), Some(first)) if error.is_stopped() => Err(first),
        (Err(error), _) => Err(error),
    }
}

/// A channel of at most `capacity` things; which it is of says the name of the variable it is bound to.
pub(crate) fn channel<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    crossbeam_channel::bounded(capacity)
}

/// Work that leads to more work of its kind, shared by the threads that do it; what came last is taken first.
pub(crate) struct Frontier<T> {
    state: Mutex<FrontierState<T>>,
    changed: Condvar,
}

struct FrontierState<T> {
    waiting: Vec<T>,
    /// Pieces of work that somebody is at, and that may lead to more.
    busy_count: usize,
    /// A thread gave up: the others end too.
    given_up: bool,
}

impl<T> Frontier<T> {
    pub(crate) fn new(first: T) -> Self {
        let state = FrontierState { waiting: vec![first], busy_count: 0, given_up: false };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Does what there is to do, until nothing is left or a thread gave up. `step` gives what is to be done next, in that
    /// order. Each thread of the flow calls this.
    pub(crate) fn work<E>(&self, mut step: impl FnMut(T) -> Result<Vec<T>, E>) -> Result<(), E> {
        while let Some(next) = self.take() {
            let at_work = AtWork { frontier: self, found: None };
            at_work.ends_with(step(next)?);
        }
        Ok(())
    }

    fn take(&self) -> Option<T> {
        let is_idle =
            |state: &mut FrontierState<T>| state.waiting.is_empty() && state.busy_count > 0 && !state.given_up;
        let state = self.changed.wait_while(self.lock(), is_idle);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        let next = if state.given_up { None } else { state.waiting.pop() };
        state.busy_count += usize::from(next.is_some());
        next
    }

    fn lock(&self) -> MutexGuard<'_, FrontierState<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One piece of work being done. Dropped without an end, by an error or a panic, it ends the work of all.
struct AtWork<'a, T> {
    frontier: &'a Frontier<T>,
    found: Option<Vec<T>>,
}

impl<T> AtWork<'_, T> {
    fn ends_with(mut self, found: Vec<T>) {
        self.found = Some(found);
    }
}

impl<T> Drop for AtWork<'_, T> {
    fn drop(&mut self) {
        let mut state = self.frontier.lock();
        state.busy_count -= 1;
        match self.found.take() {
            Some(found) => state.waiting.extend(found.into_iter().rev()),
            None => state.given_up = true,
        }
        drop(state);
        self.frontier.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::{Frontier, LaneError, Stopped, scope};
    use std::sync::atomic::{AtomicU64, Ordering};

    #[derive(Debug, PartialEq)]
    enum TestError {
        Stopped,
        Own,
    }

    impl From<Stopped> for TestError {
        fn from(_: Stopped) -> Self {
            Self::Stopped
        }
    }

    impl LaneError for TestError {
        fn is_stopped(&self) -> bool {
            *self == Self::Stopped
        }
    }

    /// Counts the nodes of a tree: each number has the numbers below it as children.
    fn count(threads: usize, depth: u64, fails_at: Option<u64>) -> Result<u64, TestError> {
        let frontier = Frontier::new(depth);
        let seen = AtomicU64::new(0);
        scope(|lanes| {
            for _ in 0..threads {
                lanes.spawn("count", || {
                    frontier.work(|node| {
                        if seen.fetch_add(1, Ordering::Relaxed) + 1 == fails_at.unwrap_or(0) {
                            return Err(TestError::Own);
                        }
                        Ok((0..node).collect())
                    })
                });
            }
            Ok(())
        })?;
        Ok(seen.into_inner())
    }

    #[test]
    fn shared_work_is_done_once_and_ends() {
        for threads in [1, 2, 7] {
            assert_eq!(count(threads, 0, None), Ok(1));
            assert_eq!(count(threads, 12, None), Ok(1 << 12));
        }
    }

    #[test]
    fn one_thread_that_gives_up_ends_all() {
        for threads in [1, 2, 7] {
            for fails_at in [1, 2, 100, 1 << 12] {
                assert_eq!(count(threads, 12, Some(fails_at)), Err(TestError::Own));
            }
        }
    }

    #[test]
    fn one_thread_goes_depth_first_and_in_order() {
        let mut order = Vec::new();
        let frontier = Frontier::new("a");
        let below = |node| match node {
            "a" => vec!["b", "e"],
            "b" => vec!["c", "d"],
            _ => Vec::new(),
        };
        let done: Result<(), TestError> = frontier.work(|node| {
            order.push(node);
            Ok(below(node))
        });
        assert_eq!(done, Ok(()));
        assert_eq!(order, ["a", "b", "c", "d", "e"]);
    }
}
