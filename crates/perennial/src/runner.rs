//! What a command runs with: threads for the network, a budget, counters, and signals.
//!
//! The first SIGINT or SIGTERM asks for an end: the engine stops at its next chunk, and whatever waits for the store is let
//! go. The second ends the process at once.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

use api::exit::Exit;
use engine::{Cancel, Counter, Limits, Meter, Run};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::cli::Shared;
use crate::failure::Failure;
use crate::{memory, output};

/// Threads for store calls: they wait far more than they work.
const NETWORK_THREADS: usize = 2;
/// Threads for file calls of directory stores, made when needed. Each keeps memory of its own for the buffers it fills: with
/// more of them a restore's peak grows by tens of MiB and its time does not shrink.
const FILE_THREADS_MAX: usize = 2;

/// What a command runs with.
pub struct Runner {
    /// What the engine is given.
    pub run: Run,
    /// When the command began.
    pub started: Instant,
    asked: watch::Receiver<bool>,
    /// Always there until the drop.
    runtime: Option<Runtime>,
}

impl Runner {
    /// Starts the threads and listens for signals.
    pub fn start(shared: &Shared) -> Result<Self, Failure> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(NETWORK_THREADS)
            .max_blocking_threads(FILE_THREADS_MAX)
            .thread_name("store")
            .enable_all()
            .build()
            .map_err(|error| Failure::blocked(format!("start threads: {error}"), "check the limits of this process"))?;
        let cancel = Cancel::new();
        let (ask, asked) = watch::channel(false);
        {
            let _inside = runtime.enter();
            let listen = |kind| {
                signal(kind)
                    .map_err(|error| Failure::blocked(format!("listen for signals: {error}"), "check this system"))
            };
            let signals =
                Signals { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? };
            runtime.spawn(end_on_signal(signals, cancel.clone(), ask));
        }
        let processors = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let threads = shared.threads.unwrap_or_else(processors);
        let limits = Limits::for_memory(shared.memory.unwrap_or_else(memory::default_bytes), threads);
        let run = Run { runtime: runtime.handle().clone(), limits, meter: Arc::new(Meter::new()), cancel };
        Ok(Self { run, started: Instant::now(), asked, runtime: Some(runtime) })
    }

    /// Waits for async work, or for a signal.
    pub fn wait<T, E: Into<Failure>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, Failure> {
        let mut asked = self.asked.clone();
        self.run.runtime.block_on(async {
            tokio::select! {
                biased;
                answer = work => answer.map_err(Into::into),
                // An error would mean that the listener is gone, which it is not before the runtime.
                _ = asked.wait_for(|asked| *asked) => Err(self.interruption()),
            }
        })
    }

    /// What came of a verb of the engine: errors that only say that it was asked to stop become the interruption.
    pub fn outcome<T, E: Into<Failure>>(&self, result: Result<T, E>) -> Result<T, Failure> {
        match result.map_err(Into::into) {
            Err(failure) if failure.may_pass() && self.run.cancel.is_cancelled() => Err(self.interruption()),
            other => other,
        }
    }

    fn interruption(&self) -> Failure {
        let count = |counter| self.run.meter.get(counter);
        let (done, found) = (count(Counter::FilesDone), count(Counter::FilesFound));
        let left = match found.saturating_sub(done) {
            0 => String::new(),
            left => format!(": {} done, {} or more left", output::counted(done, "file", "files"), output::count(left)),
        };
        Failure::interrupted(
            format!("stopped by a signal{left}"),
            "the repository is as good as before; the same command carries on with what was already done",
        )
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        // A store that does not answer must not hold the process up.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

async fn end_on_signal(mut signals: Signals, cancel: Cancel, ask: watch::Sender<bool>) {
    signals.next().await;
    cancel.cancel();
    // Nobody may be waiting: the engine looks at `cancel`.
    let _ = ask.send(true);
    output::say("stopping at the next chunk; a second signal ends at once");
    signals.next().await;
    std::process::exit(i32::from(Exit::Interrupted.code()));
}
