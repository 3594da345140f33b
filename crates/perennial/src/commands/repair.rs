//! `perennial repair`.

use api::exit::Exit;
use clap::Args;
use engine::{Action, RepairOptions, RepairOutcome};
use repository_kopia::{ControlRepair, Remedy, RepairMode};
use serde::Serialize;

use super::verify::{FindingView, text_of_finding};
use crate::cli::Shared;
use crate::failure::{self, Failure};
use crate::output::{self, StorageView};
use crate::progress::Progress;
use crate::runner::Runner;
use crate::store;

const EXAMPLES: &str = "\
Examples:
  perennial repair --dry-run
  perennial repair
  perennial repair --read-percent 100
  perennial repair --accept-loss

What is lost or damaged is had back where it can be: kopia.repository from its copies, the index from the packs, contents \
from other packs. What is gone leaves the index, so that the next backup of the same files stores it again and heals older \
snapshots too: repair, then back up, then verify. Snapshots stay as they are. No object is deleted: what is damaged is kept \
under a name that begins with aside_. Running it twice changes nothing. Let no maintenance run meanwhile.

--accept-loss gives up what cannot be had back and stands in the way of the rest: unreadable records of snapshots and \
policies, index blobs that nothing can stand for, a damaged kopia.blobcfg. Look at --dry-run first: it names them.

Exit code 5 means that something is still damaged.

JSON: {kind: \"repair\", dryRun, control: [{object, problem, remedy: \"recovered\" | \"replaced\" | \"needsConsent\", detail}], \
actions: [{action: \"takenBack\" | \"copyFound\" | \"setAside\" | \"struck\" | \"recordsGivenUp\", subject, contents, detail}], \
left: [text], sound, findings: […as of verify], durationMs, storage: {…as of backup}}";

/// Have back what can be had back from a damaged repository
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,

    /// Give up what cannot be had back, so that the rest can be used
    #[arg(long)]
    accept_loss: bool,

    /// Take back, too, what is still in the packs and may have been dropped on purpose
    #[arg(long)]
    include_dropped: bool,

    /// Share of the contents to read back first, in percent, to find those whose bytes changed
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    read_percent: u8,
}

pub fn run(arguments: &Arguments, shared: &Shared) -> Result<Exit, Failure> {
    let runner = Runner::start(shared)?;
    let mode = RepairMode { dry_run: arguments.dry_run, accept_loss: arguments.accept_loss };
    let (open, control) = store::open_for_repair(shared, &runner, mode)?;
    // Without knowing whether new objects are to be locked none is written.
    let waits = control.iter().any(|repair| matches!(repair.remedy, Remedy::NeedsConsent(_)));
    let options = RepairOptions {
        dry_run: arguments.dry_run || waits,
        accept_loss: arguments.accept_loss,
        include_dropped: arguments.include_dropped,
        read_percent: arguments.read_percent,
    };
    let progress = Progress::show(shared, &runner.run.meter);
    let result = engine::repair(&open.repository, &options, &runner.run);
    drop(progress);
    let outcome = runner.outcome(result).map_err(|failure| failure.during("repair"))?;
    if shared.json {
        let storage = StorageView::of(&open.calls());
        output::json(&RepairView::of(&control, &outcome, options.dry_run, &runner, storage))?;
    } else {
        output::print(&text(&control, &outcome, options.dry_run, shared.quiet))?;
    }
    Ok(match outcome.after.class() {
        Some(class) => failure::exit_of(class),
        None if waits => Exit::Blocked,
        None => Exit::Success,
    })
}

fn text(control: &[ControlRepair], outcome: &RepairOutcome, dry_run: bool, quiet: bool) -> String {
    let would = if dry_run { "would be " } else { "" };
    let mut text = String::new();
    for repair in control {
        let ControlRepair { object, problem, remedy } = repair;
        let remedy = match remedy {
            Remedy::Recovered(from) => format!("{would}recovered: {from}"),
            Remedy::Replaced(with) => format!("{would}replaced by {with}"),
            Remedy::NeedsConsent(what) => format!("left as it is: {what}; --accept-loss does it"),
        };
        text.push_str(&format!("{object}: {problem}: {remedy}\n"));
    }
    for action in &outcome.actions {
        text.push_str(&format!("{would}{}\n", output::visible(&action.to_string())));
    }
    for left in &outcome.left {
        text.push_str(&format!("not repaired: {}\n", output::visible(left)));
    }
    text.extend(outcome.after.findings.iter().map(text_of_finding));
    if outcome.after.left_out_count > 0 {
        text.push_str(&format!("and {} more\n", output::count(outcome.after.left_out_count)));
    }
    if quiet {
        return text;
    }
    let is_changed = !outcome.actions.is_empty() || control.iter().any(is_remedied);
    let verdict = match (outcome.after.class(), dry_run, is_changed) {
        (_, true, true) => "nothing was changed: this is what repairing would begin with",
        (_, true, false) | (None, false, false) => "there is nothing to repair",
        (None, false, true) => "repaired: everything that was looked at is sound",
        (Some(_), false, _) => {
            "what is still damaged is lost, unless a backup of the same files brings it back: back up, then verify"
        }
    };
    format!("{text}{verdict}\n")
}

fn is_remedied(repair: &ControlRepair) -> bool {
    !matches!(repair.remedy, Remedy::NeedsConsent(_))
}

/// What `--json` prints.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RepairView {
    kind: &'static str,
    dry_run: bool,
    control: Vec<ControlView>,
    actions: Vec<ActionView>,
    left: Vec<String>,
    sound: bool,
    findings: Vec<FindingView>,
    duration_ms: u64,
    storage: StorageView,
}

#[derive(Serialize)]
struct ControlView {
    object: String,
    problem: String,
    remedy: &'static str,
    detail: String,
}

#[derive(Serialize)]
struct ActionView {
    action: &'static str,
    subject: String,
    contents: u64,
    detail: Option<String>,
}

impl RepairView {
    fn of(
        control: &[ControlRepair],
        outcome: &RepairOutcome,
        dry_run: bool,
        runner: &Runner,
        storage: StorageView,
    ) -> Self {
        Self {
            kind: "repair",
            dry_run,
            control: control.iter().map(ControlView::of).collect(),
            actions: outcome.actions.iter().map(ActionView::of).collect(),
            left: outcome.left.clone(),
            sound: outcome.after.class().is_none(),
            findings: outcome.after.findings.iter().map(FindingView::of).collect(),
            duration_ms: output::milliseconds(runner.started.elapsed()),
            storage,
        }
    }
}

impl ControlView {
    fn of(repair: &ControlRepair) -> Self {
        let (remedy, detail) = match &repair.remedy {
            Remedy::Recovered(detail) => ("recovered", detail),
            Remedy::Replaced(detail) => ("replaced", detail),
            Remedy::NeedsConsent(detail) => ("needsConsent", detail),
        };
        Self { object: repair.object.clone(), problem: repair.problem.clone(), remedy, detail: detail.clone() }
    }
}

impl ActionView {
    fn of(action: &Action) -> Self {
        let view = |action, subject: String, contents, detail| Self { action, subject, contents, detail };
        match action {
            Action::TakenBack { pack, content_count } => view("takenBack", pack.to_string(), *content_count, None),
            Action::CopyFound { content } => view("copyFound", content.to_string(), 1, None),
            Action::SetAside { object, detail } => view("setAside", object.clone(), 0, Some(detail.clone())),
            Action::Struck { pack, content_count } => view("struck", pack.to_string(), *content_count, None),
            Action::StoredAnew { pack, content_count } => view("storedAnew", pack.to_string(), *content_count, None),
            Action::RecordsGivenUp { content, detail } => {
                view("recordsGivenUp", content.to_string(), 1, Some(detail.clone()))
            }
        }
    }
}
