//! The program of a mover's Job: one [`Task`] in, one [`Report`] out.
//!
//! ```text
//!            ┌ backup:  empty? ─ preflight ─ engine::backup ─ guard ─┬ good: ledger, retention ─┐
//! Task ─ run ┤                   open,                               └ collapsed: quarantine ───┼─ Report
//!            └ restore: ──────── pin     ─── select ─ engine::restore ─ counts ─────────────────┘
//! ```
//! Guarantees: nothing here panics or fails without a report; a repository is created only by a backup, where nothing is
//! and nothing is expected; a restore that restored nothing is never a success; a collapsed snapshot neither becomes the
//! last good one nor pushes another out of retention.
//!
//! Assumption: one mover per identity at a time, which the operator sees to.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use api::exit::Class;
use api::mover::{Outcome, Report, Task};
use engine::{Counter, Run};

mod backup;
mod environment;
mod ledger;
mod owners;
mod place;
mod preflight;
mod quarantine;
mod report;
mod restore;

pub use environment::{Environment, EnvironmentError, OpenStore};
pub use ledger::{Ledger, LedgerReadError};
pub use place::Place;
pub use quarantine::{figures, is_quarantined};

/// Does what the task says, and says how it went. Blocks; must not be called from inside the run's runtime.
///
/// An interrupted run ([`engine::Cancel`]) leaves a valid repository and is [`Outcome::Interrupted`].
pub fn run(task: &Task, environment: &Environment, run: &Run) -> Report {
    let mut report = Report::new(Outcome::Interrupted);
    let ended = catch_unwind(AssertUnwindSafe(|| match task {
        Task::Backup(task) => backup::run(task, environment, run, &mut report),
        Task::Restore(task) => restore::run(task, environment, run, &mut report),
    }));
    report.outcome = match ended {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(stop)) => stop.into_outcome(),
        Err(panic) => Outcome::Failed {
            class: Class::Bug,
            reason: format!("the mover itself went wrong: {}", words_of(&*panic)),
            hint: "report this with the mover's log".to_owned(),
        },
    };
    report.new_bytes = run.meter.get(Counter::BytesUploaded);
    report.storage_calls = environment.calls.snapshot().call_count();
    report.peak_memory_bytes = report::peak_memory_bytes();
    report
}

fn words_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no words")
}
