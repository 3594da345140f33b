//! Work that has begun and not ended, in the order of its beginning.
//!
//! A checkpoint must not refer to a content that another thread has only promised to write. So every promise is a
//! [`Ticket`], and a checkpoint waits for those that were given before it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use crate::error::WriteError;
use crate::session::lock;

/// All promises of one kind.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    open: BTreeSet<u64>,
    /// A ticket was dropped without its end: what was promised will not come.
    broken: bool,
}

/// A promise. Dropped without [`Ticket::end`], it is broken, and so is every wait for it.
#[derive(Debug)]
pub struct Ticket {
    number: u64,
    shared: Arc<Shared>,
    ended: bool,
}

impl InFlight {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Shared { state: Mutex::default(), changed: Notify::new() }))
    }

    /// Gives a promise.
    pub(crate) fn begin(&self) -> Ticket {
        let mut state = lock(&self.0.state);
        let number = state.next;
        state.next += 1;
        state.open.insert(number);
        Ticket { number, shared: self.0.clone(), ended: false }
    }

    /// Waits until every promise given before now has been kept.
    pub(crate) async fn wait_for_earlier(&self) -> Result<(), WriteError> {
        let now = lock(&self.0.state).next;
        loop {
            let changed = self.0.changed.notified();
            {
                let state = lock(&self.0.state);
                if state.broken {
                    return Err(WriteError::GivenUp);
                }
                if state.open.first().is_none_or(|oldest| *oldest >= now) {
                    return Ok(());
                }
            }
            changed.await;
        }
    }
}

impl Ticket {
    /// The promise is kept.
    pub fn end(mut self) {
        self.ended = true;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        state.open.remove(&self.number);
        state.broken |= !self.ended;
        drop(state);
        self.shared.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::InFlight;

    #[test]
    fn a_wait_ends_with_the_promises_before_it_and_breaks_with_a_broken_one() {
        let in_flight = InFlight::new();
        let first = in_flight.begin();
        let second = in_flight.begin();
        let mut wait = pin!(in_flight.wait_for_earlier());
        let mut poll = || wait.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(poll().is_pending());
        let later = in_flight.begin();
        second.end();
        assert!(poll().is_pending());
        first.end();
        assert!(matches!(poll(), Poll::Ready(Ok(()))));
        drop(later);
        let mut broken = pin!(in_flight.wait_for_earlier());
        let outcome = broken.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(outcome, Poll::Ready(Err(_))));
    }
}
