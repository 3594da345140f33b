//! `perennial download`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::path::{Path, PathBuf};

use api::exit::Exit;
use clap::Args;
use engine::DownloadOutcome;
use repository_kopia::Repository;
use serde::Serialize;

use crate::choice::{self, Choice, Found, Reference};
use crate::cli::Shared;
use crate::failure::Failure;
use crate::output::{self, ShortfallView};
use crate::progress::Progress;
use crate::runner::Runner;
use crate::source;
use crate::store::{self, Cache};

const EXAMPLES: &str = "\
Examples:
  perennial download latest:photos -o photos.tar
  perennial download latest | ssh other-host tar --xattrs --xattrs-include='*' --acls -xp -C /srv/restored
  perennial download 1a2b3c4d:etc | tar -tv

The stream is a tar archive with pax records: long names and names of any bytes, times to the nanosecond, any size, hard links, \
devices and named pipes, extended attributes and access control lists. Plain tar leaves the last two out; GNU tar unpacks \
them with --xattrs --xattrs-include='*' --acls. No archive can hold sockets: they are named, and the exit code is 3.

`perennial cat` writes a single file as it is. A stream that broke off has no end mark, so tar reports it; a file given with -o \
appears only when it is complete.

JSON, with -o only: {kind: \"download\", snapshot, path, entries, bytes, shortfallCount, shortfallKinds: {kind: count}, \
shortfalls: [{kind, path, error}]}";

/// Bytes written at once.
const BUFFER_BYTES: usize = 256 << 10;

/// Write a directory or file of a snapshot as a tar stream
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// latest, an id or its first characters; after a colon a path inside
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    reference: Reference,

    /// Where the archive goes; - for standard output
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    output: PathBuf,

    #[command(flatten)]
    choice: Choice,
}

pub fn run(arguments: &Arguments, shared: &Shared) -> Result<Exit, Failure> {
    let to_stdout = arguments.output.as_os_str() == "-";
    if to_stdout && (io::stdout().is_terminal() || shared.json) {
        let message = "an archive is nothing to read";
        return Err(Failure::usage(message, "name a file with -o, or pipe it into tar"));
    }
    let runner = Runner::start(shared)?;
    let open = store::open(shared, &runner, Cache::Use)?;
    let repository = &open.repository;
    let listing = choice::list(repository, &runner)?;
    let snapshot = choice::find(&listing, &arguments.reference, &arguments.choice, &source::client(shared))?;
    let found = runner.wait(choice::entry(repository, &snapshot, arguments.reference.path.as_deref()))?;
    if to_stdout {
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, io::stdout().lock());
        let outcome = write(repository, &found, &runner, &mut out)?;
        output::shortfalls("in the archive", &outcome.shortfalls).lines().for_each(output::warn);
        return Ok(exit(&outcome));
    }
    let progress = Progress::show(shared, &runner.run.meter);
    let outcome = to_file(&arguments.output, |out| write(repository, &found, &runner, out));
    drop(progress);
    let outcome = outcome?;
    let view = DownloadView {
        kind: "download",
        snapshot: snapshot.id.to_string(),
        path: found.path,
        entries: outcome.entry_count,
        bytes: outcome.file_bytes,
        shortfall_count: outcome.shortfalls.count(),
        shortfall_kinds: output::shortfall_kinds(&outcome.shortfalls),
        shortfalls: ShortfallView::all(&outcome.shortfalls),
    };
    if shared.json {
        output::json(&view)?;
    } else if !shared.quiet {
        let entries = output::counted(view.entries, "entry", "entries");
        let bytes = output::bytes(view.bytes);
        let file = output::visible(&arguments.output.display().to_string());
        let shortfalls = output::shortfalls("in the archive", &outcome.shortfalls);
        output::print(&format!("{entries}, {bytes}, in {file}\n{shortfalls}"))?;
    }
    Ok(exit(&outcome))
}

fn exit(outcome: &DownloadOutcome) -> Exit {
    if outcome.shortfalls.count() == 0 { Exit::Success } else { Exit::Partial }
}

fn write(
    repository: &Repository,
    found: &Found,
    runner: &Runner,
    out: &mut dyn Write,
) -> Result<DownloadOutcome, Failure> {
    match engine::download(repository, &found.entry, &runner.run, out) {
        Err(engine::BrowseError::Output(error)) => Err(Failure::printing(&error)),
        other => runner.outcome(other).map_err(|failure| failure.during(format!("download /{}", found.path))),
    }
}

/// Writes beside the file, and gives it its name when it is whole.
fn to_file<T>(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<T, Failure>) -> Result<T, Failure> {
    let failed = |error: io::Error| {
        Failure::blocked(format!("write {}: {error}", path.display()), "check the path, the rights and the room there")
    };
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let partial =
        tempfile::Builder::new().prefix(".perennial-").suffix(".part").tempfile_in(directory).map_err(failed)?;
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, partial);
    let outcome = write(&mut out)?;
    let partial = out.into_inner().map_err(|error| failed(error.into_error()))?;
    let file: &File = partial.as_file();
    file.sync_all().map_err(failed)?;
    partial.persist(path).map_err(|error| failed(error.error))?;
    Ok(outcome)
}

/// What `--json` prints.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DownloadView {
    kind: &'static str,
    snapshot: String,
    path: String,
    entries: u64,
    bytes: u64,
    shortfall_count: u64,
    shortfall_kinds: BTreeMap<&'static str, u64>,
    shortfalls: Vec<ShortfallView>,
}
