//! What every verb is given: where async work runs, how much memory it may take, and how it is watched and stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Handle;

use crate::limits::Limits;
use crate::meter::Meter;

/// A request to stop, looked at before each chunk and each file.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Not asked to stop.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the run to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the run was asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// One run of a verb. Must not be used from inside the runtime it names: the verbs block.
#[derive(Clone, Debug)]
pub struct Run {
    /// Where store calls run.
    pub runtime: Handle,
    /// How many threads and bytes it may use.
    pub limits: Limits,
    /// Its counters.
    pub meter: Arc<Meter>,
    /// How it is stopped.
    pub cancel: Cancel,
}
