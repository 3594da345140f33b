//! `perennial restore`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use api::exit::Exit;
use clap::Args;
use engine::{OwnerMode, RestoreOptions, RestoreOutcome};
use repository::Snapshot;
use serde::Serialize;
use storage::Class;

use super::snapshots::IdentityView;
use crate::choice::{self, Choice, Reference};
use crate::cli::Shared;
use crate::failure::Failure;
use crate::output::{self, FailedView, ShortfallView, StorageView};
use crate::progress::Progress;
use crate::runner::Runner;
use crate::source;
use crate::store::{self, Cache};

const EXAMPLES: &str = "\
Examples:
  perennial restore latest /tmp/restored
  perennial restore latest:photos/2025 /tmp/photos --source media@nas:/srv/photos
  perennial restore latest /srv/photos --as-of '2026-03-01 12:00' --delete
  perennial restore 1a2b3c4d /tmp/restored --verify

What the target cannot hold of an entry (extended attributes, devices, hard links) is named; it makes the exit code 3 \
unless only root could have given it back.

A run that was stopped carries on where it was: files that are already there and right are not written again.

JSON: {kind: \"restore\", snapshot, identity: {user, host, path}, target, complete, files, directories, symlinks, specials, bytes, \
filesResumed, bytesResumed, bytesLinked, deleted, ownersSkipped, shortfallCount, shortfallKinds: {kind: count}, \
shortfalls: [{kind, path, error}], failedCount, failed: [{path, error}], damaged: [text], durationMs, storage: {…as of backup}}";

/// Write a snapshot's files into a directory
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// latest, an id or its first characters; after a colon a path inside
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    reference: Reference,

    /// Where to: a directory, which is made if it is not there
    #[arg(value_name = "TARGET")]
    target: PathBuf,

    #[command(flatten)]
    choice: Choice,

    /// Remove from the target what the snapshot does not have
    #[arg(long)]
    delete: bool,

    /// Read everything back from the target and compare it
    #[arg(long)]
    verify: bool,

    /// Let files belong to whoever runs this
    #[arg(long)]
    no_owners: bool,

    /// Begin even if the target seems too small: files with holes may need less than their size
    #[arg(long)]
    ignore_room: bool,
}

pub fn run(arguments: &Arguments, shared: &Shared) -> Result<Exit, Failure> {
    let runner = Runner::start(shared)?;
    let target = source::absolute(&arguments.target)?;
    let open = store::open(shared, &runner, Cache::Use)?;
    let listing = choice::list(&open.repository, &runner)?;
    let snapshot = choice::find(&listing, &arguments.reference, &arguments.choice, &source::client(shared))?;
    let options = RestoreOptions {
        path: arguments.reference.path.clone().filter(|path| !path.is_empty()),
        delete_extra: arguments.delete,
        owners: if arguments.no_owners { OwnerMode::Skip } else { OwnerMode::Auto },
        verify: arguments.verify,
        ignore_room: arguments.ignore_room,
    };
    let progress = Progress::show(shared, &runner.run.meter);
    let result = engine::restore(&open.repository, &snapshot, &target, &options, &runner.run);
    drop(progress);
    let during = |failure: Failure| failure.during(format!("restore of {} to {}", snapshot.id, target.display()));
    let outcome = runner.outcome(result).map_err(during)?;
    let place = target.display().to_string();
    let view = RestoreView::of(&outcome, &snapshot, place, &runner, StorageView::of(&open.calls()));
    if shared.json {
        output::json(&view)?;
    } else if shared.quiet {
        view.failed.iter().for_each(|entry| output::warn(&format!("not restored: {}: {}", entry.path, entry.error)));
        view.shortfalls_text.lines().for_each(output::warn);
    } else {
        output::print(&view.text(&snapshot))?;
    }
    // What was chosen as the latest may not be it where records are damaged.
    let doubtful = arguments.reference.is_latest() && !listing.damage.is_empty();
    // What only root could have done is no failure of whoever else restores, as with owners.
    let falls_short = outcome.shortfalls.count() > outcome.rightless_count;
    Ok(match (outcome.class(), doubtful) {
        (Some(Class::Damaged), _) | (None, true) => Exit::Damaged,
        (Some(Class::Retry | Class::Blocked | Class::Bug), _) => Exit::Partial,
        (None, false) if falls_short => Exit::Partial,
        (None, false) => Exit::Success,
    })
}

/// What `--json` prints.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RestoreView {
    kind: &'static str,
    snapshot: String,
    identity: IdentityView,
    target: String,
    complete: bool,
    files: u64,
    directories: u64,
    symlinks: u64,
    specials: u64,
    bytes: u64,
    files_resumed: u64,
    bytes_resumed: u64,
    bytes_linked: u64,
    deleted: u64,
    owners_skipped: u64,
    shortfall_count: u64,
    shortfall_kinds: BTreeMap<&'static str, u64>,
    shortfalls: Vec<ShortfallView>,
    #[serde(skip)]
    shortfalls_text: String,
    failed_count: u64,
    failed: Vec<FailedView>,
    damaged: Vec<String>,
    duration_ms: u64,
    storage: StorageView,
}

impl RestoreView {
    fn of(
        outcome: &RestoreOutcome,
        snapshot: &Snapshot,
        target: String,
        runner: &Runner,
        storage: StorageView,
    ) -> Self {
        Self {
            kind: "restore",
            snapshot: snapshot.id.to_string(),
            identity: IdentityView::of(&snapshot.identity),
            target,
            complete: outcome.is_complete(),
            files: outcome.file_count,
            directories: outcome.directory_count,
            symlinks: outcome.symlink_count,
            specials: outcome.special_count,
            bytes: outcome.bytes,
            files_resumed: outcome.resumed_file_count,
            bytes_resumed: outcome.resumed_bytes,
            bytes_linked: outcome.linked_bytes,
            deleted: outcome.deleted_count,
            owners_skipped: outcome.owners_skipped_count,
            shortfall_count: outcome.shortfalls.count(),
            shortfall_kinds: output::shortfall_kinds(&outcome.shortfalls),
            shortfalls: ShortfallView::all(&outcome.shortfalls),
            shortfalls_text: output::shortfalls("given back", &outcome.shortfalls),
            failed_count: outcome.failed_count,
            failed: FailedView::all(&outcome.failed),
            damaged: outcome.damaged.clone(),
            duration_ms: output::milliseconds(runner.started.elapsed()),
            storage,
        }
    }

    fn text(&self, snapshot: &Snapshot) -> String {
        let resumed = match self.files_resumed {
            0 => String::new(),
            count => format!(" ({} already there)", output::count(count)),
        };
        let mut lines = vec![
            ("into", self.target.clone()),
            ("files", format!("{}{resumed}", output::count(self.files))),
            ("size", output::bytes(self.bytes + self.bytes_linked)),
            ("time", output::duration(std::time::Duration::from_millis(self.duration_ms))),
        ];
        if self.deleted > 0 {
            lines.push(("removed", output::counted(self.deleted, "entry", "entries")));
        }
        if self.owners_skipped > 0 {
            let entries = output::counted(self.owners_skipped, "entry", "entries");
            lines.push(("owners", format!("{entries} not given away: that takes root")));
        }
        let (source, begun) = (output::visible(&self.identity.text()), output::time(snapshot.start));
        let mut text = format!("restored {} of {source}, begun {begun}\n{}", self.snapshot, output::block(&lines));
        text.push_str(&self.shortfalls_text);
        text.push_str(&output::failed("not restored", self.failed_count, &self.failed));
        for damaged in &self.damaged {
            text.push_str(&format!("damaged in the repository: {}\n", output::visible(damaged)));
        }
        text
    }
}
