//! `perennial forget`.

use std::collections::HashMap;

use api::exit::Exit;
use clap::Args;
use engine::{ForgetOutcome, Selection};
use repository::{Snapshot, SnapshotId};
use repository_kopia::{Listing, Retention};
use serde::Serialize;

use super::maintain::due::{self, DueArguments, DueView};
use crate::cli::Shared;
use crate::failure::Failure;
use crate::output::{self, Align};
use crate::runner::Runner;
use crate::store::{self, Cache};
use crate::{choice, source};

const EXAMPLES: &str = "\
Examples:
  perennial forget --dry-run
  perennial forget --source media@nas:/srv/photos --keep-daily 7 --keep-weekly 4
  perennial forget --snapshot 1a2b3c4d --snapshot 5e6f7a8b

Without --keep… the retention of each source's own policy decides. A pinned snapshot always stays. What is forgotten is \
no longer listed; its data goes when full maintenance finds that nothing needs it, a day later at the earliest. The client that \
maintains the repository runs what is due afterwards.

JSON: {kind: \"forget\", dryRun, kept: [{id, reasons: [text]}], removed: [id], maintenance: null | {cycle: null | quick | full, \
error}}";

/// Remove snapshots that nobody needs any more
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Only those of this source: user@host:/path, or a path of this user and machine [default: each source by itself]
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,

    /// Exactly this one, by its id or its first characters; may be given several times
    #[arg(long = "snapshot", value_name = "ID", conflicts_with_all = ["source", "Keep"])]
    snapshots: Vec<String>,

    #[command(flatten)]
    keep: Keep,

    /// Only say what would go
    #[arg(short = 'n', long)]
    dry_run: bool,

    #[command(flatten)]
    due: DueArguments,
}

/// What stays, whatever the policies say.
#[derive(Debug, Args)]
struct Keep {
    /// Keep the newest so many; with any of these options the policies do not count
    #[arg(long, value_name = "NUMBER")]
    keep_latest: Option<u32>,

    /// Keep the newest of each of so many hours
    #[arg(long, value_name = "NUMBER")]
    keep_hourly: Option<u32>,

    /// Keep the newest of each of so many days
    #[arg(long, value_name = "NUMBER")]
    keep_daily: Option<u32>,

    /// Keep the newest of each of so many weeks
    #[arg(long, value_name = "NUMBER")]
    keep_weekly: Option<u32>,

    /// Keep the newest of each of so many months
    #[arg(long, value_name = "NUMBER")]
    keep_monthly: Option<u32>,

    /// Keep the newest of each of so many years
    #[arg(long, value_name = "NUMBER")]
    keep_annual: Option<u32>,
}

impl Keep {
    fn retention(&self) -> Option<Retention> {
        let retention = Retention {
            keep_latest: self.keep_latest,
            keep_hourly: self.keep_hourly,
            keep_daily: self.keep_daily,
            keep_weekly: self.keep_weekly,
            keep_monthly: self.keep_monthly,
            keep_annual: self.keep_annual,
        };
        (retention != Retention::default()).then_some(retention)
    }
}

pub fn run(arguments: &Arguments, shared: &Shared) -> Result<Exit, Failure> {
    let runner = Runner::start(shared)?;
    let client = source::client(shared);
    let wanted = arguments.source.as_deref().map(|text| source::identity(text, &client)).transpose()?;
    let open = store::open(shared, &runner, Cache::Use)?;
    let repository = &open.repository;
    let listing = choice::list(repository, &runner)?;
    let result = if arguments.snapshots.is_empty() {
        let retention = arguments.keep.retention();
        engine::forget(repository, wanted.as_ref(), retention, arguments.dry_run, &runner.run)
    } else {
        let ids = ids(&listing, &arguments.snapshots)?;
        engine::forget_ids(repository, &ids, arguments.dry_run, &runner.run)
    };
    let outcome = runner.outcome(result).map_err(|failure| failure.during("forget snapshots"))?;
    if !shared.json && !shared.quiet {
        output::print(&text(&outcome, &listing, arguments.dry_run))?;
    }
    let maintained = if arguments.dry_run { None } else { due::run(&arguments.due, &open, shared, &runner) };
    if shared.json {
        output::json(&ForgetView::of(&outcome, arguments.dry_run, maintained))?;
    } else if !shared.quiet {
        output::print(&due::text(maintained.as_ref()))?;
    }
    Ok(Exit::Success)
}

fn ids(listing: &Listing, given: &[String]) -> Result<Vec<SnapshotId>, Failure> {
    let find = |id: &String| {
        let found = engine::select(&listing.snapshots, None, &Selection::Id(id.clone()))?;
        Ok(found.id.clone())
    };
    given.iter().map(find).collect()
}

/// What `--json` prints.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ForgetView<'a> {
    kind: &'static str,
    dry_run: bool,
    kept: Vec<KeptView<'a>>,
    removed: Vec<&'a str>,
    maintenance: Option<DueView>,
}

#[derive(Serialize)]
struct KeptView<'a> {
    id: &'a str,
    reasons: &'a [String],
}

impl<'a> ForgetView<'a> {
    fn of(outcome: &'a ForgetOutcome, dry_run: bool, maintenance: Option<DueView>) -> Self {
        Self {
            kind: "forget",
            dry_run,
            kept: outcome.kept.iter().map(|(id, reasons)| KeptView { id: id.as_str(), reasons }).collect(),
            removed: outcome.removed.iter().map(SnapshotId::as_str).collect(),
            maintenance,
        }
    }
}

fn text(outcome: &ForgetOutcome, listing: &Listing, dry_run: bool) -> String {
    let known: HashMap<&SnapshotId, &Snapshot> =
        listing.snapshots.iter().map(|snapshot| (&snapshot.id, snapshot)).collect();
    let row = |what: &str, id: &SnapshotId, reasons: String| {
        let snapshot = known.get(id);
        let begun = snapshot.map(|snapshot| output::time(snapshot.start)).unwrap_or_default();
        let source = snapshot.map(|snapshot| snapshot.identity.to_string()).unwrap_or_default();
        vec![what.to_owned(), output::short_id(id.as_str()).to_owned(), begun, source, reasons]
    };
    let gone = if dry_run { "would go" } else { "gone" };
    let kept = outcome.kept.iter().map(|(id, reasons)| row("stays", id, reasons.join(", ")));
    let rows: Vec<Vec<String>> = kept.chain(outcome.removed.iter().map(|id| row(gone, id, String::new()))).collect();
    let columns = ["", "ID", "BEGUN", "SOURCE", "BECAUSE OF"].map(|heading| (heading, Align::Left));
    let table = if rows.is_empty() { String::new() } else { output::table(&columns, &rows) };
    let (removed, kept) = (outcome.removed.len() as u64, outcome.kept.len() as u64);
    let all = output::counted(removed, "snapshot", "snapshots");
    // Of snapshots that were named there is nothing to say but this.
    let kept = if kept == 0 { String::new() } else { format!(", {} kept", output::count(kept)) };
    format!("{table}{all} {gone}{kept}\n")
}
