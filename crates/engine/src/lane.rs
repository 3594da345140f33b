//! The only place that starts threads and makes channels.
//!
//! A flow is a set of named threads, joined by bounded channels. A step is a plain function over a receiver and a sender:
//! when the step before it ends, its sender is dropped and the receiver runs dry; when the step after it ends early, sending
//! fails with [`Stopped`] and the step ends too. So the first error stops everything, and comes out of [`scope`].

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

pub(crate) use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

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
