//! `perennial diff`.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io::{self, BufWriter, Write as _};
use std::path::PathBuf;
use std::str::FromStr;

use api::exit::Exit;
use clap::Args;
use engine::{Aspect, Difference, Node, NodeKind, OnDisk, Other};
use repository::{DeviceNumber, EntryKind, FailedEntry, SpecialKind, Xattr};
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
  perennial diff latest /srv/photos
  perennial diff latest:etc /etc --source root@host:/ --read-all

A line is + for what only the second has, - for what only the first has, ~ for what both have differently, and says what \
differs. Directories with equal contents are passed over without being read.

The second may be a directory or file of this machine: what begins with / or a dot is one. What the policies of the snapshot's \
source leave out of backups is left out here too. A file whose length and time are as stored is taken to be equal, as a backup \
takes it; any other is read and compared by the hashes of the repository, and with --read-all all are. Which names are one file \
is not compared.

The exit code is 0 whether there are differences or not; with --exit-code it is 3 if there are any. It is also 3 if something on \
this machine could not be read.

JSON: a line for each, {change: \"added\" | \"removed\" | \"changed\", path, aspects: [\"kind\" | \"size\" | \"time\" | \"mode\" | \
\"owner\" | \"attributes\" | \"content\"], before, after: null or {kind: \"file\" | \"directory\" | \"symlink\" | \"fifo\" | \"socket\" | \
\"characterDevice\" | \"blockDevice\", mode, uid, gid, size, mtime, xattrs: [name]}}; with --stat one object {added, removed, \
changed, bytesAdded, bytesRemoved}";

const OUT_BYTES: usize = 64 << 10;

/// Say what differs between two snapshots, or a snapshot and a directory
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// latest, an id or its first characters; after a colon a path inside
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    before: Reference,

    /// The same, for the second, or a directory or file of this machine
    #[arg(value_name = "SNAPSHOT[:PATH]|DIRECTORY")]
    after: After,

    /// Look only at snapshots of this source: user@host:/path, or a path of this user and machine
    #[arg(long, value_name = "SOURCE")]
    source: Option<String>,

    /// With a directory: read every file, also those that look unchanged
    #[arg(long)]
    read_all: bool,

    /// Only count
    #[arg(long)]
    stat: bool,

    /// End with 3 if there are differences
    #[arg(long)]
    exit_code: bool,
}

/// A snapshot, or a path of this machine.
#[derive(Clone, Debug)]
enum After {
    Stored(Reference),
    OnDisk(PathBuf),
}

impl FromStr for After {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.starts_with(['/', '.']) {
            true => Self::OnDisk(PathBuf::from(text)),
            false => Self::Stored(text.parse()?),
        })
    }
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
        let found = runner.wait(choice::entry(repository, &snapshot, reference.path.as_deref()))?;
        Ok::<_, Failure>((snapshot, found))
    };
    let (snapshot, before) = entry(&arguments.before)?;
    let stored;
    let after = match &arguments.after {
        After::Stored(_) if arguments.read_all => {
            return Err(Failure::usage("--read-all goes with a directory", "leave it out"));
        }
        After::Stored(reference) => {
            (_, stored) = entry(reference)?;
            Other::Stored(&stored.entry)
        }
        After::OnDisk(path) => {
            let (identity, inside) = (&snapshot.identity, before.path.as_str());
            Other::OnDisk(OnDisk { path, identity, inside, read_all: arguments.read_all })
        }
    };
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
    let outcome = match engine::diff(repository, &before.entry, after, &runner.run, tell) {
        Err(engine::BrowseError::Output(error)) => return Err(Failure::printing(&error)),
        other => runner.outcome(other).map_err(|failure| failure.during("diff"))?,
    };
    if arguments.stat && shared.json {
        serde_json::to_writer(&mut out, &stat).map_err(|error| Failure::printing(&error.into()))?;
        writeln!(out).map_err(|error| Failure::printing(&error))?;
    } else if arguments.stat {
        writeln!(out, "{}", stat.text()).map_err(|error| Failure::printing(&error))?;
    }
    out.flush().map_err(|error| Failure::printing(&error))?;
    for FailedEntry { path, error } in &outcome.unreadable {
        output::warn(&format!("not compared: {path}: {error}"));
    }
    let is_equal = stat.is_empty() || !arguments.exit_code;
    Ok(if is_equal && outcome.unreadable.is_empty() { Exit::Success } else { Exit::Partial })
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
        let size = |node: &Option<Node>| node.as_ref().map_or(0, |node| node.size_bytes);
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
        Aspect::Attributes => "attributes",
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
                difference.aspects.iter().map(|aspect| aspect_text(*aspect, before, after)).collect();
            format!("~ {path}  ({})", what.join(", "))
        }
    }
}

fn aspect_text(aspect: Aspect, before: &Node, after: &Node) -> String {
    match aspect {
        Aspect::Kind => format!("{} → {}", kind_text(before.kind), kind_text(after.kind)),
        Aspect::Size => format!("{} → {}", output::bytes(before.size_bytes), output::bytes(after.size_bytes)),
        Aspect::Time => format!("{} → {}", output::time(before.mtime), output::time(after.mtime)),
        Aspect::Mode => format!("{:04o} → {:04o}", before.mode, after.mode),
        Aspect::Owner => format!("{}:{} → {}:{}", before.uid, before.gid, after.uid, after.gid),
        Aspect::Attributes => format!("attributes{}", attributes_text(&before.xattrs, &after.xattrs)),
        Aspect::Content => "content".to_owned(),
    }
}

/// The names of those that differ, each after a space.
fn attributes_text(before: &[Xattr], after: &[Xattr]) -> String {
    let only_in = |some: &[Xattr], others: &[Xattr]| -> BTreeSet<Vec<u8>> {
        some.iter().filter(|xattr| !others.contains(xattr)).map(|xattr| xattr.name.clone()).collect()
    };
    let names = &only_in(before, after) | &only_in(after, before);
    names.iter().map(|name| format!(" {}", output::visible(&String::from_utf8_lossy(name)))).collect()
}

fn kind_name(kind: NodeKind) -> &'static str {
    match kind {
        NodeKind::File => choice::kind_name(EntryKind::File),
        NodeKind::Directory => choice::kind_name(EntryKind::Directory),
        NodeKind::Symlink => choice::kind_name(EntryKind::Symlink),
        NodeKind::Special(SpecialKind::Fifo) => "fifo",
        NodeKind::Special(SpecialKind::Socket) => "socket",
        NodeKind::Special(SpecialKind::CharacterDevice(_)) => "characterDevice",
        NodeKind::Special(SpecialKind::BlockDevice(_)) => "blockDevice",
    }
}

fn kind_text(kind: NodeKind) -> String {
    match kind {
        NodeKind::Special(SpecialKind::CharacterDevice(DeviceNumber { major, minor })) => {
            format!("character device {major}:{minor}")
        }
        NodeKind::Special(SpecialKind::BlockDevice(DeviceNumber { major, minor })) => {
            format!("block device {major}:{minor}")
        }
        kind => kind_name(kind).to_owned(),
    }
}

#[derive(Serialize)]
struct DifferenceView<'a> {
    change: &'static str,
    path: &'a str,
    aspects: Vec<&'static str>,
    before: Option<NodeView>,
    after: Option<NodeView>,
}

#[derive(Serialize)]
struct NodeView {
    kind: &'static str,
    mode: String,
    uid: u32,
    gid: u32,
    size: u64,
    mtime: jiff::Timestamp,
    xattrs: Vec<String>,
}

impl NodeView {
    fn of(node: &Node) -> Self {
        Self {
            kind: kind_name(node.kind),
            mode: format!("{:04o}", node.mode),
            uid: node.uid,
            gid: node.gid,
            size: node.size_bytes,
            mtime: node.mtime,
            xattrs: node.xattrs.iter().map(|xattr| String::from_utf8_lossy(&xattr.name).into_owned()).collect(),
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
        aspects: difference.aspects.iter().copied().map(aspect_name).collect(),
        before: difference.before.as_ref().map(NodeView::of),
        after: difference.after.as_ref().map(NodeView::of),
    };
    serde_json::to_writer(&mut *out, &view)?;
    writeln!(out)
}
