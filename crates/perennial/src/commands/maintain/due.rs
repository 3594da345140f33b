//! The cycle that is due, run by the way once another command has done its own work.
//!
//! Whatever comes of it, that command has succeeded: what goes wrong here is a warning.

use std::sync::Arc;

use clap::Args;
use engine::{Meter, Run};
use serde::Serialize;

use super::name;
use crate::cli::Shared;
use crate::output;
use crate::progress::Progress;
use crate::runner::Runner;
use crate::store::Open;

/// Whether maintenance may follow.
#[derive(Debug, Args)]
pub struct DueArguments {
    /// Do not run the maintenance that is due, where this client is the one who maintains the repository
    #[arg(long)]
    no_maintain: bool,
}

/// What `--json` prints of it.
#[derive(Serialize)]
pub struct DueView {
    cycle: Option<&'static str>,
    error: Option<String>,
}

/// Runs the cycle that is due, if one is.
pub fn run(arguments: &DueArguments, open: &Open, shared: &Shared, runner: &Runner) -> Option<DueView> {
    if arguments.no_maintain || runner.run.cancel.is_cancelled() {
        return None;
    }
    // Counters of its own: those of the command are already told.
    let run = Run { meter: Arc::new(Meter::new()), ..runner.run.clone() };
    let progress = Progress::show(shared, &run.meter);
    let result = engine::maintain_if_due(&open.repository, &run);
    drop(progress);
    match result {
        Ok(None) => None,
        Ok(Some(outcome)) => Some(DueView { cycle: Some(name(outcome.cycle)), error: None }),
        Err(error) => {
            let text = output::chain(&error);
            output::warn(&format!("maintenance was due and did not come to its end: {text}"));
            if let Some(hint) = error.hint() {
                output::say(&format!("hint: {hint}"));
            }
            Some(DueView { cycle: None, error: Some(text) })
        }
    }
}

/// One line, or nothing.
pub fn text(done: Option<&DueView>) -> String {
    match done.and_then(|done| done.cycle) {
        Some(cycle) => format!("{cycle} maintenance, which was due, is done\n"),
        None => String::new(),
    }
}
