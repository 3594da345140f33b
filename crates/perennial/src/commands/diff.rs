//! `perennial diff`.

use std::io::{self, BufWriter, Write as _};

use api::exit::Exit;
use clap::Args;
use engine::{Aspect, Difference};
use repository::Entry;
use serde::Serialize;

use crate::choice::{self, Choice, Reference};
use crate::cli::Shared;
use crate::failure::Failure;
use crate::runner::Runner;
use crate::store::{self, Cache};
use crate::{output, source};

const EXAMPLES: &str = "\
Examples:
  perennial diff 1a2b3c4d latest
  perennial diff 1a2b3c4d:etc latest:etc --source root@host:/
  perennial diff 1a2b3c4d 5e6f7a8b --stat

A line is + for what only the second has, - for what only the first has, ~ for what both have differently, and says what \
differs. Directories with equal contents are passed over without being read.

The exit code is 0 whether there are differences or not; with --exit-code it is 3 if there are any.

JSON: a line for each, {change: \"added\" | \"removed\" | \"changed\", path, aspects: [\"kind\" | \"size\" | \"time\" | \"mode\" | \
\"owner\" | \"content\"], before, after: null or {kind, mode, uid, gid, size, mtime}}; with --stat one object {added, removed, \
changed, bytesAdded, bytesRemoved}";

const OUT_BYTES: usize = 64 << 10;

/// Say what differs between two snapshots
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// latest, an id or its first characters; after a colon a path inside
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    before: Reference,

    /// The same, for the second
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    after: Reference,

    /// Look only at snapshots of this source: user@host:/path, or a path of this user and machine
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,

    /// Only count
    #[arg(long)]
    stat: bool,

    /// End with 3 if there are differences
    #[arg(long)]
    exit_code: bool,
}

pub fn run(arguments: &Arguments, shared: &Shared) -> Result<Exit, Failure> {
    let runner = Runner::start(shared)?;
    let client = source::client(shared);
    let open = store::open(shared, &runner, Cache::Use)?;
    let repository = &open.repository;
    let listing = choice::list(repository, &runner)?;
    let choice = Choice { source: arguments.source.clone(), as_of: None, previous: None };
    let entry = |reference: &Reference| {
        let snapshot = choice::find(&listing, reference, &choice, &client)?;
        runner.wait(choice::entry(repository, &snapshot, reference.path.as_deref()))
    };
    let (before, after) = (entry(&arguments.before)?, entry(&arguments.after)?);
    let mut out = BufWriter::with_capacity(OUT_BYTES, io::stdout().lock());
    let mut stat = Stat::default();
    let tell = &mut |difference: Difference| {
        stat.count(&difference);
        match (arguments.stat, shared.json) {
            (true, _) => Ok(()),
            (false, true) => json_line(&difference, &mut out),
            (false, false) => writeln!(out, "{}", text_line(&difference)),
        }
    };
    match engine::diff(repository, &before.entry, &after.entry, &runner.run, tell) {
        Err(engine::BrowseError::Output(error)) => return Err(Failure::printing(&error)),
        other => runner.outcome(other).map_err(|failure| failure.during("diff"))?,
    }
    if arguments.stat && shared.json {
        serde_json::to_writer(&mut out, &stat).map_err(|error| Failure::printing(&error.into()))?;
        writeln!(out).map_err(|error| Failure::printing(&error))?;
    } else if arguments.stat {
        writeln!(out, "{}", stat.text()).map_err(|error| Failure::printing(&error))?;
    }
    out.flush().map_err(|error| Failure::printing(&error))?;
    Ok(if stat.is_empty() || !arguments.exit_code { Exit::Success } else { Exit::Partial })
}

/// How much differs.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Stat {
    added: u64,
    removed: u64,
    changed: u64,
    bytes_added: u64,
    bytes_removed: u64,
}

impl Stat {
    fn count(&mut self, difference: &Difference) {
        let size = |entry: &Option<Entry>| entry.as_ref().map_or(0, |entry| entry.size_bytes);
        match (&difference.before, &difference.after) {
            (None, _) => self.added += 1,
            (_, None) => self.removed += 1,
            (Some(_), Some(_)) => self.changed += 1,
        }
        let (before, after) = (size(&difference.before), size(&difference.after));
        self.bytes_added += after.saturating_sub(before);
        self.bytes_removed += before.saturating_sub(after);
    }

    fn is_empty(&self) -> bool {
        self.added + self.removed + self.changed == 0
    }

    fn text(&self) -> String {
        let count = output::count;
        format!(
            "{} added, {} removed, {} changed; {} more, {} less",
            count(self.added),
            count(self.removed),
            count(self.changed),
            output::bytes(self.bytes_added),
            output::bytes(self.bytes_removed)
        )
    }
}

fn aspect_name(aspect: Aspect) -> &'static str {
    match aspect {
        Aspect::Kind => "kind",
        Aspect::Size => "size",
        Aspect::Time => "time",
        Aspect::Mode => "mode",
        Aspect::Owner => "owner",
        Aspect::Content => "content",
    }
}

fn text_line(difference: &Difference) -> String {
    let path = output::visible(&difference.path);
    match (&difference.before, &difference.after) {
        (None, _) => format!("+ {path}"),
        (_, None) => format!("- {path}"),
        (Some(before), Some(after)) => {
            let what: Vec<String> =
                difference.aspects().into_iter().map(|aspect| aspect_text(aspect, before, after)).collect();
            format!("~ {path}  ({})", what.join(", "))
        }
    }
}

fn aspect_text(aspect: Aspect, before: &Entry, after: &Entry) -> String {
    match aspect {
        Aspect::Kind => format!("{} → {}", choice::kind_name(before.kind), choice::kind_name(after.kind)),
        Aspect::Size => format!("{} → {}", output::bytes(before.size_bytes), output::bytes(after.size_bytes)),
        Aspect::Time => format!("{} → {}", output::time(before.mtime), output::time(after.mtime)),
        Aspect::Mode => format!("{:04o} → {:04o}", before.mode, after.mode),
        Aspect::Owner => format!("{}:{} → {}:{}", before.uid, before.gid, after.uid, after.gid),
        Aspect::Content => "content".to_owned(),
    }
}

#[derive(Serialize)]
struct DifferenceView<'a> {
    change: &'static str,
    path: &'a str,
    aspects: Vec<&'static str>,
    before: Option<EntryView>,
    after: Option<EntryView>,
}

#[derive(Serialize)]
struct EntryView {
    kind: &'static str,
    mode: String,
    uid: u32,
    gid: u32,
    size: u64,
    mtime: jiff::Timestamp,
}

impl EntryView {
    fn of(entry: &Entry) -> Self {
        Self {
            kind: choice::kind_name(entry.kind),
            mode: format!("{:04o}", entry.mode),
            uid: entry.uid,
            gid: entry.gid,
            size: entry.size_bytes,
            mtime: entry.mtime,
        }
    }
}

fn json_line(difference: &Difference, out: &mut impl io::Write) -> io::Result<()> {
    let view = DifferenceView {
        change: match (&difference.before, &difference.after) {
            (None, _) => "added",
            (_, None) => "removed",
            (Some(_), Some(_)) => "changed",
        },
        path: &difference.path,
        aspects: difference.aspects().into_iter().map(aspect_name).collect(),
        before: difference.before.as_ref().map(EntryView::of),
        after: difference.after.as_ref().map(EntryView::of),
    };
    serde_json::to_writer(&mut *out, &view)?;
    writeln!(out)
}
