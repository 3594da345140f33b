//! `perennial demo`: the whole story on this machine.

use std::path::PathBuf;

use api::exit::Exit;
use clap::Args;

use crate::cli::Shared;
use crate::demo::{self, Options};
use crate::failure::Failure;
use crate::source;

const DETAILS: &str = "\
Starts an S3 server and a catalog on the loopback interface and takes three volumes (a database
in use, big media files, ten thousand odd small files) through a life: first backup, edits,
second backup, loss of the volumes, storage that is down or wrong, restore, movers killed at
work. Whatever comes back is compared with what was there, byte for byte and with all attributes.
Every backup and restore is decided and run as in a cluster: facts, decision, task, mover,
report.

No cluster, no root, nothing to install: it writes only into a new directory below TMPDIR (about
1 GB) and removes it at its end, also after Ctrl-C. Root sees owners and devices too. Exit code 0
says that everything was equal.

Examples:
  perennial demo
  perennial demo --path ~/Documents     adds your own files: they are read, and never written
  perennial demo --keep                 leaves the repositories and says how kopia opens them

JSON: {kind: \"demo\", equal, durationMs, claims: [{claim, files, bytes, firstBackupMs,
firstBytes, secondBytes, restoreMs, compared}], kept: [{claim, path, password, source}]}";

/// Show backup, loss and recovery on this machine, in about a minute
#[derive(Debug, Args)]
#[command(after_help = DETAILS)]
pub struct Arguments {
    /// Back this directory up too, restore it beside it and compare
    #[arg(long, value_name = "DIRECTORY")]
    path: Option<PathBuf>,

    /// Leave the repositories, and say how to open them
    #[arg(long)]
    keep: bool,
}

pub fn run(arguments: &Arguments, shared: &Shared) -> Result<Exit, Failure> {
    let path = arguments.path.as_deref().map(source::absolute).transpose()?;
    demo::run(Options { path, keep: arguments.keep }, shared)
}
