//! `perennial maintain`.

pub mod due;
mod words;

use api::exit::Exit;
use clap::{Args, Subcommand, ValueEnum};
use engine::{Done, MaintainOptions, MaintainOutcome, TaskOutcome};
use jiff::Timestamp;
use repository_kopia::{CycleKind, CycleParameters, MaintenanceParameters, Safety, Schedule, TaskStats};
use serde::Serialize;

use crate::cli::Shared;
use crate::failure::Failure;
use crate::output::{self, Align, StorageView};
use crate::progress::Progress;
use crate::runner::Runner;
use crate::store::{self, Cache, Open};

const EXAMPLES: &str = "\
Examples:
  perennial maintain
  perennial maintain --full
  perennial maintain info
  perennial maintain owner me@nas

Without --full: index blobs that piled up are merged. With it: contents that no snapshot needs are marked, those marked long \
enough are dropped, short packs are rewritten, packs that nothing names are deleted. Nothing goes at once: other programs \
may be using the repository. What is forgotten today is really gone after three full runs or more, hours apart, and a day \
at least.
One client, the owner, maintains a repository; two must never do it at the same time.

JSON: {kind: \"maintain\", cycle, tasks: [{task, outcome: done | nothing | waits, counts: {kind, data}}], manifestsMerged, \
nextFull, nextQuick, durationMs, storage}";

const INFO_EXAMPLES: &str = "\
JSON: {kind: \"maintenance\", owner, isOwner, quick: {enabled, intervalSeconds, next}, full: {enabled, intervalSeconds, \
next}, extendsLocks, runs: [{task, start, end, success, error}]}";

/// Merge what piled up, and give the storage of forgotten snapshots back
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,

    /// Also look for what no snapshot needs, and remove what was found long enough ago
    #[arg(long)]
    full: bool,

    /// Run although another client is the owner; it must not run at the same time
    #[arg(long)]
    force: bool,

    /// Become the owner first; the one before must not run any more
    #[arg(long, conflicts_with = "force")]
    take_over: bool,

    /// How long things wait before they go
    #[arg(long, hide = true, value_enum, default_value_t = SafetyChoice::Full)]
    safety: SafetyChoice,
}

#[derive(Debug, Subcommand)]
enum Command {
    Info(InfoArguments),
    Owner(OwnerArguments),
    ExtendLocks(ExtendLocksArguments),
}

/// Say who maintains the repository, what is due, and what ran
#[derive(Debug, Args)]
#[command(after_help = INFO_EXAMPLES)]
pub struct InfoArguments {}

/// Name the one client that maintains the repository
#[derive(Debug, Args)]
pub struct OwnerArguments {
    /// The new owner [default: this user and machine]
    #[arg(value_name = "USER@HOST", value_parser = owner)]
    owner: Option<String>,
}

/// Say whether full runs make object locks longer
#[derive(Debug, Args)]
pub struct ExtendLocksArguments {
    /// Whether they do
    #[arg(value_name = "ON-OR-OFF", value_enum)]
    extend: Switch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

/// `none` destroys the backups of every client that writes at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SafetyChoice {
    Full,
    None,
}

fn owner(text: &str) -> Result<String, String> {
    match text.split_once('@') {
        Some((user, host)) if !user.is_empty() && !host.is_empty() => Ok(text.to_owned()),
        _ => Err("not of the form user@host".to_owned()),
    }
}

pub fn run(arguments: &Arguments, shared: &Shared) -> Result<Exit, Failure> {
    let runner = Runner::start(shared)?;
    let open = store::open(shared, &runner, Cache::Use)?;
    match &arguments.command {
        None => cycle(arguments, &open, shared, &runner)?,
        Some(Command::Info(InfoArguments {})) => info(&open, shared, &runner)?,
        Some(Command::Owner(new)) => {
            let owner = new.owner.clone().unwrap_or_else(|| open.repository.client_name());
            runner.wait(open.repository.set_maintenance_owner(&owner))?;
            info(&open, shared, &runner)?;
        }
        Some(Command::ExtendLocks(ExtendLocksArguments { extend })) => {
            runner.wait(open.repository.set_extend_object_locks(*extend == Switch::On))?;
            info(&open, shared, &runner)?;
        }
    }
    Ok(Exit::Success)
}

fn cycle(arguments: &Arguments, open: &Open, shared: &Shared, runner: &Runner) -> Result<(), Failure> {
    if arguments.take_over {
        runner.wait(open.repository.set_maintenance_owner(&open.repository.client_name()))?;
    }
    let options = MaintainOptions {
        cycle: if arguments.full { CycleKind::Full } else { CycleKind::Quick },
        force: arguments.force,
        safety: match arguments.safety {
            SafetyChoice::Full => Safety::full(),
            SafetyChoice::None => Safety::none(),
        },
    };
    let progress = Progress::show(shared, &runner.run.meter);
    let result = engine::maintain(&open.repository, &options, &runner.run);
    drop(progress);
    let outcome = runner.outcome(result)?;
    if shared.json {
        output::json(&MaintainView::of(&outcome, runner, StorageView::of(&open.calls())))?;
    } else if !shared.quiet {
        output::print(&words::outcome(&outcome, runner.started.elapsed()))?;
    }
    Ok(())
}

fn name(cycle: CycleKind) -> &'static str {
    match cycle {
        CycleKind::Quick => "quick",
        CycleKind::Full => "full",
    }
}

/// What `--json` prints.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MaintainView<'a> {
    kind: &'static str,
    cycle: &'static str,
    tasks: Vec<TaskView<'a>>,
    manifests_merged: usize,
    next_full: Option<Timestamp>,
    next_quick: Option<Timestamp>,
    duration_ms: u64,
    storage: StorageView,
}

#[derive(Serialize)]
struct TaskView<'a> {
    task: &'static str,
    outcome: &'static str,
    counts: Option<&'a TaskStats>,
}

impl<'a> TaskView<'a> {
    fn of(TaskOutcome { task, done }: &'a TaskOutcome) -> Self {
        let (outcome, counts) = match done {
            Done::Counted(counts) => ("done", Some(counts)),
            Done::Nothing => ("nothing", None),
            Done::Waits => ("waits", None),
        };
        Self { task: task.kopia_name(), outcome, counts }
    }
}

impl<'a> MaintainView<'a> {
    fn of(outcome: &'a MaintainOutcome, runner: &Runner, storage: StorageView) -> Self {
        Self {
            kind: "maintain",
            cycle: name(outcome.cycle),
            tasks: outcome.tasks.iter().map(TaskView::of).collect(),
            manifests_merged: outcome.manifests_merged_count,
            next_full: outcome.next_full,
            next_quick: outcome.next_quick,
            duration_ms: output::milliseconds(runner.started.elapsed()),
            storage,
        }
    }
}

/// What `--json` prints of `info`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InfoView<'a> {
    kind: &'static str,
    owner: &'a str,
    is_owner: bool,
    quick: CycleView,
    full: CycleView,
    extends_locks: bool,
    runs: Vec<RunView<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CycleView {
    enabled: bool,
    interval_seconds: i64,
    next: Option<Timestamp>,
}

#[derive(Serialize)]
struct RunView<'a> {
    task: &'a str,
    start: Timestamp,
    end: Timestamp,
    success: bool,
    error: &'a str,
}

impl CycleView {
    fn of(cycle: &CycleParameters, next: Option<Timestamp>) -> Self {
        Self { enabled: cycle.enabled, interval_seconds: cycle.interval().as_secs(), next }
    }

    fn text(&self) -> String {
        if !self.enabled {
            return "switched off".to_owned();
        }
        let seconds = u64::try_from(self.interval_seconds).unwrap_or(0);
        let every = output::duration(std::time::Duration::from_secs(seconds));
        let next = self.next.map_or_else(|| "now".to_owned(), output::time);
        format!("every {every}, next {next}")
    }
}

fn info(open: &Open, shared: &Shared, runner: &Runner) -> Result<(), Failure> {
    let parameters: MaintenanceParameters = runner.wait(open.repository.maintenance_parameters())?;
    let schedule: Schedule = runner.wait(open.repository.maintenance_schedule())?;
    let runs = schedule.runs().flat_map(|(task, runs)| runs.iter().map(move |run| (task, run)));
    let mut runs: Vec<RunView<'_>> = runs
        .map(|(task, run)| RunView { task, start: run.start, end: run.end, success: run.success, error: &run.error })
        .collect();
    runs.sort_by_key(|run| std::cmp::Reverse(run.start));
    let view = InfoView {
        kind: "maintenance",
        owner: &parameters.owner,
        is_owner: parameters.owner == open.repository.client_name(),
        quick: CycleView::of(&parameters.quick, schedule.next_quick()),
        full: CycleView::of(&parameters.full, schedule.next_full()),
        extends_locks: parameters.extend_object_locks,
        runs,
    };
    if shared.json {
        output::json(&view)
    } else if shared.quiet {
        Ok(())
    } else {
        output::print(&info_text(&view))
    }
}

/// The latest run of each task.
fn info_text(view: &InfoView<'_>) -> String {
    let who = match (view.owner.is_empty(), view.is_owner) {
        (true, _) => "nobody".to_owned(),
        (false, true) => format!("{} (this client)", output::visible(view.owner)),
        (false, false) => output::visible(view.owner),
    };
    let locks = if view.extends_locks { "made longer in full runs" } else { "left as they are" };
    let mut text = output::block(&[
        ("owner", who),
        ("quick", view.quick.text()),
        ("full", view.full.text()),
        ("object locks", locks.to_owned()),
    ]);
    let mut seen = std::collections::BTreeSet::new();
    let latest = view.runs.iter().filter(|run| seen.insert(run.task));
    let rows: Vec<Vec<String>> = latest
        .map(|run| {
            let came = if run.success { "done".to_owned() } else { format!("failed: {}", run.error) };
            vec![output::time(run.start), run.task.to_owned(), came]
        })
        .collect();
    if !rows.is_empty() {
        let columns = ["LAST RUN", "TASK", ""].map(|heading| (heading, Align::Left));
        text.push_str(&output::table(&columns, &rows));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::owner;

    #[test]
    fn owners_are_users_at_hosts() {
        assert_eq!(owner("me@nas"), Ok("me@nas".to_owned()));
        assert!(["me", "@nas", "me@", ""].iter().all(|text| owner(text).is_err()));
    }
}
