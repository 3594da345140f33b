//! What happened, in the words of [`api::mover`].

use std::collections::BTreeMap;
use std::error::Error;

use api::exit;
use api::mover::{Outcome, Report, Unreadable};
use engine::{Run, Shortfall, Shortfalls};
use repository::{Clock, FailedEntry};
use storage::Class;

/// How often a wait looks whether the run was asked to stop, in milliseconds.
const CANCEL_LOOK_MS: u64 = 50;

/// Why a run ends before its end.
#[derive(Debug)]
pub(crate) enum Stop {
    /// It was asked to.
    Interrupted,
    /// Something went wrong.
    Failed { class: Class, reason: String, hint: String },
}

impl Stop {
    /// `what` failed because of `error`.
    pub(crate) fn failed(what: &str, error: &dyn Error, class: Class, hint: Option<&'static str>) -> Self {
        Self::Failed { class, reason: format!("{what}: {}", chain(error)), hint: hint.unwrap_or_default().to_owned() }
    }

    /// Someone must act first.
    pub(crate) fn blocked(reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Failed { class: Class::Blocked, reason: reason.into(), hint: hint.into() }
    }

    /// Repository bytes are wrong.
    pub(crate) fn damaged(reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Failed { class: Class::Damaged, reason: reason.into(), hint: hint.into() }
    }

    pub(crate) fn into_outcome(self) -> Outcome {
        match self {
            Self::Interrupted => Outcome::Interrupted,
            Self::Failed { class, reason, hint } => Outcome::Failed { class: class_of(class), reason, hint },
        }
    }
}

/// The failure of a verb: if the run was asked to stop, that is why.
pub(crate) fn stopped(run: &Run, what: &str, error: &dyn Error, class: Class, hint: Option<&'static str>) -> Stop {
    if run.cancel.is_cancelled() { Stop::Interrupted } else { Stop::failed(what, error, class, hint) }
}

/// The same class, in the word of reports.
pub(crate) fn class_of(class: Class) -> exit::Class {
    match class {
        Class::Retry => exit::Class::Retry,
        Class::Blocked => exit::Class::Blocked,
        Class::Damaged => exit::Class::Damaged,
        Class::Bug => exit::Class::Bug,
    }
}

/// An error and its sources on one line, each said once.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let more = source.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = source.source();
    }
    text.replace(['\n', '\r'], " ")
}

/// Waits for the store, and no longer than until the run is asked to stop. Not for writes: their end must be known.
pub(crate) fn wait<T>(run: &Run, work: impl Future<Output = T>) -> Result<T, Stop> {
    let cancelled = async {
        while !run.cancel.is_cancelled() {
            tokio::time::sleep(std::time::Duration::from_millis(CANCEL_LOOK_MS)).await;
        }
    };
    run.runtime.block_on(async {
        tokio::select! {
            biased;
            () = cancelled => Err(Stop::Interrupted),
            result = work => Ok(result),
        }
    })
}

/// Does `work` and adds how long it took to the stage `name`.
pub(crate) fn stage<T>(
    name: &str,
    clock: &dyn Clock,
    report: &mut Report,
    work: impl FnOnce(&mut Report) -> Result<T, Stop>,
) -> Result<T, Stop> {
    let start = clock.now();
    let result = work(report);
    let took = u64::try_from(clock.now().duration_since(start).as_millis()).unwrap_or(0);
    add(&mut report.stages_ms, name, took);
    result
}

fn add(stages: &mut BTreeMap<String, u64>, name: &str, ms: u64) {
    let stage = stages.entry(name.to_owned()).or_default();
    *stage = stage.saturating_add(ms);
}

/// What could not be read or written. All the paths that are known: the report cuts them to what fits.
pub(crate) fn unreadable(count: u64, failed: &[FailedEntry]) -> Unreadable {
    Unreadable { count, paths: failed.iter().map(|entry| entry.path.clone()).collect() }
}

/// What is not kept of entries, by kind; the log names them.
pub(crate) fn shortfalls(shortfalls: &Shortfalls) -> BTreeMap<String, u64> {
    for Shortfall { kind, path, reason } in &shortfalls.first {
        tracing::warn!(kind = kind.name(), %path, %reason, "not kept");
    }
    shortfalls.counts.iter().map(|(kind, count)| (kind.name().to_owned(), *count)).collect()
}

/// The most memory that this process ever had, in bytes; 0 where the system does not say.
pub(crate) fn peak_memory_bytes() -> u64 {
    std::fs::read_to_string("/proc/self/status").ok().and_then(|status| peak_of(&status)).unwrap_or(0)
}

fn peak_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peak_is_read_in_kib() {
        assert_eq!(peak_of("Name:\tmover\nVmPeak:\t  9 kB\nVmHWM:\t   17328 kB\n"), Some(17_328 * 1024));
        assert_eq!(peak_of("Name:\tmover\n"), None);
        assert!(peak_memory_bytes() > 0);
    }

    #[test]
    fn a_chain_says_each_cause_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] Inner);
        #[derive(Debug, thiserror::Error)]
        #[error("inner\nline")]
        struct Inner;
        assert_eq!(chain(&Outer(Inner)), "outer: inner line");
    }
}
