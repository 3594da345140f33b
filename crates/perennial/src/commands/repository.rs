//! `perennial repository create|status|password`.

mod create;
mod password;

use std::time::Instant;

use api::exit::Exit;
use clap::{Args, Subcommand};
use repository_kopia::Repository;
use serde::Serialize;
use storage::ObjectKey;

use crate::cli::Shared;
use crate::failure::Failure;
use crate::runner::Runner;
use crate::store::{self, Cache, Open};
use crate::{choice, output};

const STATUS_EXAMPLES: &str = "\
Examples:
  perennial repository status
  perennial repository status --json

JSON: {kind: \"repository\", address, format, uniqueId, version, hash, encryption, splitter, eccOverheadPercent, retention: {mode, hours} or null, maxPackBytes, indexBlobs, \
contents, writeEpoch, snapshots, roundTripMs, damage: [text]}";

/// Make a repository, say what one is, or change its password
#[derive(Debug, Subcommand)]
pub enum Command {
    Create(create::Arguments),
    Status(StatusArguments),
    Password(password::Arguments),
}

/// Say what a repository is made of and what is in it
#[derive(Debug, Args)]
#[command(after_help = STATUS_EXAMPLES)]
pub struct StatusArguments {}

pub fn run(command: &Command, shared: &Shared) -> Result<Exit, Failure> {
    let runner = Runner::start(shared)?;
    match command {
        Command::Create(arguments) => create::run(arguments, shared, &runner),
        Command::Password(arguments) => password::run(arguments, shared, &runner),
        Command::Status(StatusArguments {}) => {
            let open = store::open(shared, &runner, Cache::Use)?;
            show(&open, shared, &runner)
        }
    }
}

/// What `--json` prints.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RepositoryView {
    kind: &'static str,
    address: String,
    format: &'static str,
    unique_id: String,
    version: u32,
    hash: String,
    encryption: String,
    splitter: String,
    ecc_overhead_percent: u32,
    retention: Option<RetentionView>,
    max_pack_bytes: u64,
    index_blobs: usize,
    contents: usize,
    write_epoch: Option<u64>,
    snapshots: usize,
    round_trip_ms: f64,
    damage: Vec<String>,
}

#[derive(Serialize)]
struct RetentionView {
    mode: &'static str,
    hours: i64,
}

fn show(open: &Open, shared: &Shared, runner: &Runner) -> Result<Exit, Failure> {
    let repository = &open.repository;
    let listing = choice::list(repository, runner)?;
    let view = RepositoryView {
        snapshots: listing.snapshots.len(),
        round_trip_ms: round_trip_ms(repository, runner)?,
        damage: listing.damage.iter().map(|damage| output::chain(damage)).collect(),
        ..view(repository)
    };
    let exit = if view.damage.is_empty() { Exit::Success } else { Exit::Damaged };
    if shared.json {
        output::json(&view)?;
    } else if !shared.quiet {
        output::print(&text(&view))?;
    }
    Ok(exit)
}

fn view(repository: &Repository) -> RepositoryView {
    let description = repository.description();
    RepositoryView {
        kind: "repository",
        address: repository.storage().address(),
        format: "kopia",
        unique_id: description.unique_id,
        version: description.version,
        hash: description.hash,
        encryption: description.encryption,
        splitter: description.splitter,
        ecc_overhead_percent: description.ecc_overhead_percent,
        retention: description
            .retention
            .map(|(mode, period)| RetentionView { mode: mode.s3_name(), hours: period.as_hours() }),
        max_pack_bytes: description.max_pack_bytes,
        index_blobs: description.index_blob_count,
        contents: description.content_count,
        write_epoch: description.write_epoch,
        snapshots: 0,
        round_trip_ms: 0.0,
        damage: Vec::new(),
    }
}

/// How long the store takes for the smallest question.
fn round_trip_ms(repository: &Repository, runner: &Runner) -> Result<f64, Failure> {
    let began = Instant::now();
    runner.wait(repository.storage().stat(&ObjectKey::new("kopia.repository")))?;
    Ok((began.elapsed().as_secs_f64() * 100_000.0).round() / 100.0)
}

fn error_correction(view: &RepositoryView) -> String {
    match view.ecc_overhead_percent {
        0 => "none".to_owned(),
        percent => format!("{percent} %"),
    }
}

fn object_lock(view: &RepositoryView) -> String {
    match &view.retention {
        None => "none".to_owned(),
        Some(RetentionView { mode, hours }) => format!("{mode}, {hours} h"),
    }
}

fn index(view: &RepositoryView) -> String {
    let blobs = output::counted(view.index_blobs as u64, "blob", "blobs");
    match view.write_epoch {
        Some(epoch) => format!("{blobs} in epoch {epoch}"),
        None => format!("{blobs}, without epochs"),
    }
}

fn text(view: &RepositoryView) -> String {
    let lines = [
        ("format", format!("{}, version {}", view.format, view.version)),
        ("unique id", view.unique_id.clone()),
        ("hash", view.hash.clone()),
        ("encryption", view.encryption.clone()),
        ("splitter", view.splitter.clone()),
        ("error correction", error_correction(view)),
        ("object lock", object_lock(view)),
        ("pack size", output::bytes(view.max_pack_bytes)),
        ("index", index(view)),
        ("contents", output::count(view.contents as u64)),
        ("snapshots", output::count(view.snapshots as u64)),
        ("round trip", format!("{} ms", view.round_trip_ms)),
    ];
    format!("repository {}\n{}", output::visible(&view.address), output::block(&lines))
}
