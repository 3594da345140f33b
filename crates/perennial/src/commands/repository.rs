//! `perennial repository create|status`.

use std::time::Instant;

use api::exit::Exit;
use clap::{Args, Subcommand, ValueEnum};
use futures::StreamExt as _;
use repository_kopia::{CreateOptions, Repository};
use serde::Serialize;
use storage::{ObjectKey, Storage};

use crate::cli::Shared;
use crate::failure::Failure;
use crate::runner::Runner;
use crate::store::{self, Cache, Open};
use crate::{choice, output};

const CREATE_EXAMPLES: &str = "\
Examples:
  perennial repository create --store file:/srv/repo --password-file ~/.repo-password
  perennial repository create --store 's3://backups/laptop?endpoint=http://nas:9000'

The place must be empty. The defaults are those of kopia 0.22, and kopia can use the repository from then on.
Keep the password: without it nothing can be read, by nobody.";

const STATUS_EXAMPLES: &str = "\
Examples:
  perennial repository status
  perennial repository status --json

JSON: {kind: \"repository\", address, format, uniqueId, version, hash, encryption, splitter, maxPackBytes, indexBlobs, \
contents, writeEpoch, snapshots, roundTripMs, damage: [text]}";

/// Make a repository, or say what one is
#[derive(Debug, Subcommand)]
pub enum Command {
    Create(CreateArguments),
    Status(StatusArguments),
}

/// Make a repository in an empty place
#[derive(Debug, Args)]
#[command(after_help = CREATE_EXAMPLES)]
pub struct CreateArguments {
    /// The format
    #[arg(long, value_enum, default_value_t = Format::Kopia)]
    format: Format,

    /// How contents are named, by Kopia's names
    #[arg(long, value_name = "NAME", default_value_t = CreateOptions::default().hash)]
    hash: String,

    /// How contents are encrypted, by Kopia's names
    #[arg(long, value_name = "NAME", default_value_t = CreateOptions::default().encryption)]
    encryption: String,

    /// How files are cut, by Kopia's names
    #[arg(long, value_name = "NAME", default_value_t = CreateOptions::default().splitter)]
    splitter: String,

    /// Do not try out first whether the store keeps what it promises
    #[arg(long)]
    no_probe: bool,
}

/// Say what a repository is made of and what is in it
#[derive(Debug, Args)]
#[command(after_help = STATUS_EXAMPLES)]
pub struct StatusArguments {}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Kopia,
}

pub fn run(command: &Command, shared: &Shared) -> Result<Exit, Failure> {
    let runner = Runner::start(shared)?;
    match command {
        Command::Create(arguments) => create(arguments, shared, &runner),
        Command::Status(StatusArguments {}) => {
            let open = store::open(shared, &runner, Cache::Use)?;
            show(&open, shared, &runner)
        }
    }
}

fn create(arguments: &CreateArguments, shared: &Shared, runner: &Runner) -> Result<Exit, Failure> {
    let Format::Kopia = arguments.format;
    let options = CreateOptions {
        hash: arguments.hash.clone(),
        encryption: arguments.encryption.clone(),
        splitter: arguments.splitter.clone(),
    };
    let place = store::place(shared, runner)?;
    // Nothing is tried out among the objects of others: creating refuses such a place.
    if !arguments.no_probe && runner.wait(is_empty(&*place.storage))? {
        runner.wait(storage::probe::probe(&*place.storage))?;
    }
    let open = store::create(place, &options, shared, runner)?;
    runner.wait(open.repository.refresh())?;
    show(&open, shared, runner)
}

async fn is_empty(storage: &dyn Storage) -> Result<bool, storage::Error> {
    Ok(storage.list("").next().await.transpose()?.is_none())
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
    max_pack_bytes: u64,
    index_blobs: usize,
    contents: usize,
    write_epoch: Option<u64>,
    snapshots: usize,
    round_trip_ms: f64,
    damage: Vec<String>,
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
        ("pack size", output::bytes(view.max_pack_bytes)),
        ("index", index(view)),
        ("contents", output::count(view.contents as u64)),
        ("snapshots", output::count(view.snapshots as u64)),
        ("round trip", format!("{} ms", view.round_trip_ms)),
    ];
    format!("repository {}\n{}", output::visible(&view.address), output::block(&lines))
}
