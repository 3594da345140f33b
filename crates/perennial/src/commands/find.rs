//! `perennial find`.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write as _};

use api::exit::Exit;
use clap::{Args, ValueEnum};
use engine::{Selection, Version};
use jiff::Timestamp;
use repository::{Entry, EntryKind, Identity, Snapshot};
use serde::Serialize;

use crate::choice;
use crate::cli::Shared;
use crate::failure::Failure;
use crate::runner::Runner;
use crate::store::{self, Cache};
use crate::{memory, output, source};

const EXAMPLES: &str = "\
Examples:
  perennial find '*.pdf'
  perennial find 'invoices/**/2025*' --all
  perennial find --larger 1GiB --type file --snapshot 1a2b3c4d
  perennial find 'dump.sql*' --newer 2026-03-01 --json

A pattern without a slash is compared with names, one with a slash with paths inside the snapshot. * stands for any characters \
but a slash, ** for any, ? for one, [a-z] for one of these. Each version of a file is one line, with the number of snapshots \
that have it and the first and last of these. Of several sources each has a heading.

JSON: a line for each version, {path, kind: \"file\" | \"directory\" | \"symlink\", size, mtime, mode, uid, gid, identity: {user, \
host, path}, snapshots: [id, oldest first]}";

const OUT_BYTES: usize = 64 << 10;

/// Find files by name, size, time or kind, in all snapshots of a source
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// Name or path, with *, **, ? and [a-z]
    #[arg(value_name = "PATTERN", default_value = "*")]
    pattern: String,

    /// Look only at snapshots of this source: user@host:/path, or a path of this user and machine
    #[arg(long, value_name = "SOURCE", conflicts_with = "all")]
    source: Option<String>,

    /// Look at snapshots of every user and machine, not only of this one
    #[arg(long)]
    all: bool,

    /// Look only into this snapshot: an id or its first characters; may be given more than once
    #[arg(long, value_name = "ID")]
    snapshot: Vec<String>,

    /// Only this kind
    #[arg(long = "type", value_enum, value_name = "KIND")]
    kind: Option<Kind>,

    /// Only files of more bytes than this, as in 10MiB
    #[arg(long, value_name = "SIZE", value_parser = memory::size)]
    larger: Option<u64>,

    /// Only files of fewer bytes than this
    #[arg(long, value_name = "SIZE", value_parser = memory::size)]
    smaller: Option<u64>,

    /// Only what was modified after this time
    #[arg(long, value_name = "TIME", value_parser = choice::instant)]
    newer: Option<Timestamp>,

    /// Only what was modified before this time
    #[arg(long, value_name = "TIME", value_parser = choice::instant)]
    older: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    File,
    Directory,
    Symlink,
}

pub fn run(arguments: &Arguments, shared: &Shared) -> Result<Exit, Failure> {
    let runner = Runner::start(shared)?;
    let client = source::client(shared);
    let named = arguments.source.as_deref().map(|text| source::identity(text, &client)).transpose()?;
    let open = store::open(shared, &runner, Cache::Use)?;
    let listing = choice::list(&open.repository, &runner)?;
    let mut chosen: Vec<&Snapshot> = Vec::new();
    for id in &arguments.snapshot {
        chosen.push(engine::select(&listing.snapshots, named.as_ref(), &Selection::Id(id.clone()))?);
    }
    if arguments.snapshot.is_empty() {
        let own = |identity: &Identity| identity.user == client.username && identity.host == client.hostname;
        chosen.extend(listing.snapshots.iter().filter(|snapshot| match &named {
            Some(identity) => snapshot.identity == *identity,
            None => arguments.all || own(&snapshot.identity),
        }));
    }
    let mut histories: BTreeMap<&Identity, Vec<&Snapshot>> = BTreeMap::new();
    for snapshot in chosen {
        histories.entry(&snapshot.identity).or_default().push(snapshot);
    }
    if histories.is_empty() && !listing.snapshots.is_empty() && !shared.quiet {
        output::say("no snapshot of this user and machine: --all looks at those of others, --source at one of them");
    }
    let mut out = BufWriter::with_capacity(OUT_BYTES, io::stdout().lock());
    let is_wanted = |path: &str, entry: &Entry| arguments.matches(path, entry);
    let mut is_damaged = !listing.damage.is_empty();
    let is_one = histories.len() == 1;
    for (identity, snapshots) in histories {
        let mut is_headed = is_one;
        let tell = &mut |version: Version| {
            if shared.json {
                return json_line(&version, identity, &snapshots, &mut out);
            }
            if !is_headed {
                is_headed = true;
                writeln!(out, "{}", output::visible(&identity.to_string()))?;
            }
            writeln!(out, "{}", text_line(&version, &snapshots))
        };
        let found = match engine::find(&open.repository, &snapshots, &is_wanted, &runner.run, tell) {
            Err(engine::BrowseError::Output(error)) => return Err(Failure::printing(&error)),
            other => runner.outcome(other).map_err(|failure| failure.during("find"))?,
        };
        for (path, error) in &found.unreadable {
            output::warn(&format!("{identity}: {path} cannot be read: {error}"));
            is_damaged = true;
        }
    }
    out.flush().map_err(|error| Failure::printing(&error))?;
    Ok(if is_damaged { Exit::Damaged } else { Exit::Success })
}

impl Arguments {
    fn matches(&self, path: &str, entry: &Entry) -> bool {
        let name = path.rsplit('/').next().unwrap_or(path);
        let subject = if self.pattern.contains('/') { path } else { name };
        let kind = match entry.kind {
            EntryKind::File => Kind::File,
            EntryKind::Directory => Kind::Directory,
            EntryKind::Symlink => Kind::Symlink,
        };
        let is_file = kind == Kind::File;
        path != "."
            && self.kind.is_none_or(|wanted| wanted == kind)
            && self.larger.is_none_or(|limit| is_file && entry.size_bytes > limit)
            && self.smaller.is_none_or(|limit| is_file && entry.size_bytes < limit)
            && self.newer.is_none_or(|limit| entry.mtime > limit)
            && self.older.is_none_or(|limit| entry.mtime < limit)
            && glob(self.pattern.trim_start_matches('/').as_bytes(), subject.as_bytes())
    }
}

/// Whether `text` is what `pattern` describes.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match pattern {
        [] => text.is_empty(),
        [b'*', b'*', b'/', rest @ ..] if glob(rest, text) => true,
        [b'*', b'*', rest @ ..] => (0..=text.len()).any(|at| glob(rest, &text[at..])),
        [b'*', rest @ ..] => {
            let reach = text.iter().position(|byte| *byte == b'/').unwrap_or(text.len());
            (0..=reach).any(|at| glob(rest, &text[at..]))
        }
        [b'?', rest @ ..] => {
            // One character, however many bytes it has.
            let width = text.iter().skip(1).take_while(|byte| **byte & 0xc0 == 0x80).count() + 1;
            text.first().is_some_and(|first| *first != b'/') && glob(rest, &text[width..])
        }
        [b'[', rest @ ..] if rest.contains(&b']') => {
            let end = rest.iter().position(|byte| *byte == b']').unwrap_or(0);
            let Some((first, after)) = text.split_first() else { return false };
            is_in_class(&rest[..end], *first) && glob(&rest[end + 1..], after)
        }
        [b'\\', literal, rest @ ..] | [literal, rest @ ..] => {
            text.split_first().is_some_and(|(first, after)| first == literal && glob(rest, after))
        }
    }
}

fn is_in_class(class: &[u8], byte: u8) -> bool {
    let (negated, mut class) = match class {
        [b'!' | b'^', rest @ ..] => (true, rest),
        class => (false, class),
    };
    let mut found = false;
    while let [first, rest @ ..] = class {
        (found, class) = match rest {
            [b'-', last, rest @ ..] => (found || (*first..=*last).contains(&byte), rest),
            rest => (found || *first == byte, rest),
        };
    }
    found != negated
}

fn text_line(version: &Version, snapshots: &[&Snapshot]) -> String {
    let Version { path, entry, snapshots: places } = version;
    let id = |place: Option<&usize>| place.map_or("", |at| output::short_id(snapshots[*at].id.as_str()));
    let (first, last) = (id(places.first()), id(places.last()));
    let where_it_is = match places.len() {
        1 => first.to_owned(),
        count => format!("{first}…{last} ({count})"),
    };
    let (size, slash) = match entry.kind {
        EntryKind::Directory => ("-".to_owned(), "/"),
        EntryKind::File | EntryKind::Symlink => (output::bytes(entry.size_bytes), ""),
    };
    format!("{size:>10}  {}  {}{slash}  {where_it_is}", output::time(entry.mtime), output::visible(path))
}

#[derive(Serialize)]
struct VersionView<'a> {
    path: &'a str,
    kind: &'static str,
    size: u64,
    mtime: Timestamp,
    mode: String,
    uid: u32,
    gid: u32,
    identity: super::snapshots::IdentityView,
    snapshots: Vec<&'a str>,
}

fn json_line(
    version: &Version,
    identity: &Identity,
    snapshots: &[&Snapshot],
    out: &mut impl io::Write,
) -> io::Result<()> {
    let entry = &version.entry;
    let view = VersionView {
        path: &version.path,
        kind: choice::kind_name(entry.kind),
        size: entry.size_bytes,
        mtime: entry.mtime,
        mode: format!("{:04o}", entry.mode),
        uid: entry.uid,
        gid: entry.gid,
        identity: super::snapshots::IdentityView::of(identity),
        snapshots: version.snapshots.iter().map(|at| snapshots[*at].id.as_str()).collect(),
    };
    serde_json::to_writer(&mut *out, &view)?;
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::glob;

    #[test]
    fn patterns_are_as_in_a_shell() {
        for (pattern, text, expected) in [
            ("*.pdf", "a.pdf", true),
            ("*.pdf", "a.pdf.gz", false),
            ("a*b", "a/b", false),
            ("a/**/b", "a/x/y/b", true),
            ("a/**/b", "a/b", true),
            ("a/**", "a/x/y", true),
            ("**/x", "x", true),
            ("?", "ä", true),
            ("?", "/", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[", "[", true),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("", "", true),
            ("*", "", true),
        ] {
            assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }
}
