//! `perennial backup`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use api::exit::Exit;
use clap::Args;
use codec::compress::Algorithm;
use engine::{BackupOptions, BackupOutcome, Counter};
use repository::Identity;
use repository_kopia::CompressionChoice;
use serde::Serialize;

use super::maintain::due::{self, DueArguments, DueView};
use super::snapshots::IdentityView;
use crate::cli::Shared;
use crate::failure::Failure;
use crate::output::{self, FailedView, ShortfallView, StorageView};
use crate::progress::Progress;
use crate::runner::Runner;
use crate::source;
use crate::store::{self, Cache};

const EXAMPLES: &str = "\
Examples:
  perennial backup ~/Documents
  perennial backup /srv/photos --description 'before the move' --tag reason:move
  perennial backup /mnt/snap/photos --as media@nas:/srv/photos

What did not change since the last snapshot of the same source is not read again. Which files are left out and how they \
are compressed is said by the repository's policies, which kopia edits, and by .kopiaignore files.
An entry that cannot be read is named, left out, and makes the exit code 3; the rest is backed up. Extended attributes, \
access control lists, hard links, devices and names that are not UTF-8 are kept, for restores with this program.
The client that maintains the repository runs the maintenance that is due afterwards; should that fail, the backup is good \
all the same, and the exit code says so.

JSON: {kind: \"backup\", snapshot, identity: {user, host, path}, parent, complete, rootId, files, directories, bytes, \
filesRead, filesUnchanged, bytesRead, bytesNew, bytesUploaded, unreadableCount, unreadable: [{path, error}], \
shortfallCount, shortfallKinds: {kind: count}, shortfalls: [{kind, path, error}], durationMs, maintenance: null | {cycle: null | quick | full, error}, storage: {calls, puts, gets, ranges, stats, listPages, deletes, \
failed, bytesUp, bytesDown}}";

/// Entries that the text names; the JSON has all that are known.
const NAMED_MAX: usize = 20;

/// Back up a directory or a file
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// What to back up
    #[arg(value_name = "PATH")]
    path: PathBuf,

    /// Whose history the snapshot joins [default: this user and machine, and the path]
    #[arg(long = "as", value_name = "USER@HOST:/PATH")]
    identity: Option<Identity>,

    /// Free text to keep with the snapshot
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    description: String,

    /// A label to keep with the snapshot; may be given several times
    #[arg(long = "tag", value_name = "KEY:VALUE", value_parser = tag)]
    tags: Vec<(String, String)>,

    /// How to compress, instead of what the policies say: none, zstd-fastest, zstd, s2-default, …
    #[arg(long, value_name = "NAME", value_parser = compression)]
    compression: Option<CompressionChoice>,

    /// Read every file, also those that look unchanged
    #[arg(long)]
    read_all: bool,

    #[command(flatten)]
    due: DueArguments,
}

/// Kopia keeps labels of people under keys that begin with `tag:`.
fn tag(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((key, value)) if !key.is_empty() && !value.is_empty() => Ok((format!("tag:{key}"), value.to_owned())),
        _ => Err("not of the form key:value".to_owned()),
    }
}

fn compression(text: &str) -> Result<CompressionChoice, String> {
    if text == "none" {
        return Ok(CompressionChoice::always(None));
    }
    let writable = || Algorithm::ALL.into_iter().filter(Algorithm::writable);
    let found = writable().find(|algorithm| algorithm.kopia_name() == text);
    found.map(|algorithm| CompressionChoice::always(Some(algorithm))).ok_or_else(|| {
        let names: Vec<&str> = writable().map(|algorithm| algorithm.kopia_name()).collect();
        format!("none of none, {}", names.join(", "))
    })
}

pub fn run(arguments: &Arguments, shared: &Shared) -> Result<Exit, Failure> {
    let runner = Runner::start(shared)?;
    let options = options(arguments, shared)?;
    let open = store::open(shared, &runner, Cache::Use)?;
    let progress = Progress::show(shared, &runner.run.meter);
    let result = engine::backup(&open.repository, &arguments.path, &options, &runner.run);
    drop(progress);
    let outcome =
        runner.outcome(result).map_err(|failure| failure.during(format!("backup of {}", options.identity)))?;
    let mut view = BackupView::of(&outcome, &options.identity, &runner, StorageView::of(&open.calls()));
    if shared.json {
        view.maintenance = due::run(&arguments.due, &open, shared, &runner);
        view.storage = StorageView::of(&open.calls());
        output::json(&view)?;
        return Ok(exit(&outcome));
    }
    if shared.quiet {
        for entry in view.unreadable.iter().take(NAMED_MAX) {
            output::warn(&format!("not read: {}: {}", entry.path, entry.error));
        }
        view.shortfalls_text.lines().for_each(output::warn);
    } else {
        output::print(&view.text())?;
    }
    let maintained = due::run(&arguments.due, &open, shared, &runner);
    if !shared.quiet {
        output::print(&due::text(maintained.as_ref()))?;
    }
    Ok(exit(&outcome))
}

fn exit(outcome: &BackupOutcome) -> Exit {
    if outcome.is_complete() { Exit::Success } else { Exit::Partial }
}

fn options(arguments: &Arguments, shared: &Shared) -> Result<BackupOptions, Failure> {
    let mut tags = BTreeMap::new();
    for (key, value) in &arguments.tags {
        if tags.insert(key.clone(), value.clone()).is_some() {
            return Err(Failure::usage(format!("the label {key} is given twice"), "give each label once"));
        }
    }
    let identity = match &arguments.identity {
        Some(identity) => identity.clone(),
        None => source::of_path(&arguments.path, &source::client(shared))?,
    };
    Ok(BackupOptions {
        identity,
        description: arguments.description.clone(),
        tags,
        compression: arguments.compression.clone(),
        read_all: arguments.read_all,
        cache_directory: store::cache_directory(shared),
    })
}

/// What `--json` prints.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BackupView {
    kind: &'static str,
    snapshot: String,
    identity: IdentityView,
    parent: Option<String>,
    complete: bool,
    root_id: String,
    files: u64,
    directories: u64,
    bytes: u64,
    files_read: u64,
    files_unchanged: u64,
    bytes_read: u64,
    bytes_new: u64,
    bytes_uploaded: u64,
    unreadable_count: u64,
    unreadable: Vec<FailedView>,
    shortfall_count: u64,
    shortfall_kinds: BTreeMap<&'static str, u64>,
    shortfalls: Vec<ShortfallView>,
    #[serde(skip)]
    shortfalls_text: String,
    duration_ms: u64,
    maintenance: Option<DueView>,
    storage: StorageView,
}

impl BackupView {
    fn of(outcome: &BackupOutcome, identity: &Identity, runner: &Runner, storage: StorageView) -> Self {
        let count = |counter| runner.run.meter.get(counter);
        let summary = outcome.root.summary.as_ref();
        Self {
            kind: "backup",
            snapshot: outcome.snapshot.to_string(),
            identity: IdentityView::of(identity),
            parent: outcome.parent.as_ref().map(ToString::to_string),
            complete: outcome.is_complete(),
            root_id: outcome.root.data.to_string(),
            files: summary.map_or(1, |summary| summary.file_count),
            directories: summary.map_or(0, |summary| summary.directory_count),
            bytes: summary.map_or(outcome.root.size_bytes, |summary| summary.size_bytes),
            files_read: outcome.stats.file_count,
            files_unchanged: outcome.stats.cached_file_count,
            bytes_read: count(Counter::BytesRead),
            bytes_new: count(Counter::BytesNew),
            bytes_uploaded: count(Counter::BytesUploaded),
            unreadable_count: outcome.unreadable_count,
            unreadable: FailedView::all(&outcome.unreadable),
            shortfall_count: outcome.shortfalls.count(),
            shortfall_kinds: output::shortfall_kinds(&outcome.shortfalls),
            shortfalls: ShortfallView::all(&outcome.shortfalls),
            shortfalls_text: output::shortfalls("kept", &outcome.shortfalls),
            duration_ms: output::milliseconds(runner.started.elapsed()),
            maintenance: None,
            storage,
        }
    }

    fn text(&self) -> String {
        let (read, unchanged) = (output::count(self.files_read), output::count(self.files_unchanged));
        let lines = [
            ("files", format!("{} ({read} read, {unchanged} unchanged)", output::count(self.files))),
            ("size", output::bytes(self.bytes)),
            ("new data", format!("{}, {} stored", output::bytes(self.bytes_new), output::bytes(self.bytes_uploaded))),
            ("time", output::duration(std::time::Duration::from_millis(self.duration_ms))),
        ];
        let source = output::visible(&self.identity.text());
        let mut text = format!("snapshot {} of {source}\n{}", self.snapshot, output::block(&lines));
        text.push_str(&output::failed(
            "not read, and missing from the snapshot",
            self.unreadable_count,
            &self.unreadable,
        ));
        text.push_str(&self.shortfalls_text);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::{compression, tag};

    #[test]
    fn labels_and_compressors_are_checked() {
        assert_eq!(tag("a:b:c"), Ok(("tag:a".to_owned(), "b:c".to_owned())));
        assert!(["a", ":b", "a:"].iter().all(|text| tag(text).is_err()));
        assert!(["none", "zstd-fastest", "s2-default"].iter().all(|text| compression(text).is_ok()));
        assert!(["lz4", "zip", ""].iter().all(|text| compression(text).is_err()));
    }
}
