//! `perennial cat`.

use std::io::{self, Write as _};

use api::exit::Exit;
use clap::Args;
use repository::EntryKind;

use crate::choice::{self, Choice, Reference};
use crate::cli::Shared;
use crate::failure::Failure;
use crate::runner::Runner;
use crate::source;
use crate::store::{self, Cache};

const EXAMPLES: &str = "\
Examples:
  perennial cat latest:etc/fstab
  perennial cat 1a2b3c4d:db/dump.sql.gz | zcat | less";

/// Write one file of a snapshot to standard output
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// latest, an id or its first characters; after the colon the file's path inside
    #[arg(value_name = "SNAPSHOT:PATH")]
    reference: Reference,

    #[command(flatten)]
    choice: Choice,
}

pub fn run(arguments: &Arguments, shared: &Shared) -> Result<Exit, Failure> {
    let runner = Runner::start(shared)?;
    let open = store::open(shared, &runner, Cache::Use)?;
    let repository = &open.repository;
    let listing = choice::list(repository, &runner)?;
    let snapshot = choice::find(&listing, &arguments.reference, &arguments.choice, &source::client(shared))?;
    let found = runner.wait(choice::entry(repository, &snapshot, arguments.reference.path.as_deref()))?;
    if found.entry.kind != EntryKind::File {
        let what = choice::kind_name(found.entry.kind);
        let hint = format!("`perennial ls {}:{}` shows what is there", snapshot.id, found.path);
        return Err(Failure::usage(format!("/{} is a {what}, not a file", found.path), hint));
    }
    let data = &found.entry.data;
    let reading = |error| choice::reading(error, &found.path);
    let pieces = runner.wait(async { repository.pieces(data).await.map_err(reading) })?;
    let mut out = io::stdout().lock();
    for piece in pieces {
        let bytes = runner.wait(async { repository.piece(data, &piece).await.map_err(reading) })?;
        out.write_all(&bytes).map_err(|error| Failure::printing(&error))?;
    }
    out.flush().map_err(|error| Failure::printing(&error))?;
    Ok(Exit::Success)
}
