//! `perennial ls`.

use std::io::{self, BufWriter, Write};

use api::exit::Exit;
use clap::Args;
use repository::{Entry, EntryKind, Snapshot};
use repository_kopia::Repository;
use serde::Serialize;

use crate::choice::{self, Choice, Found, Reference};
use crate::cli::Shared;
use crate::failure::Failure;
use crate::runner::Runner;
use crate::store::{self, Cache};
use crate::{output, source};

const EXAMPLES: &str = "\
Examples:
  perennial ls latest
  perennial ls latest:photos/2025 --source media@nas:/srv/photos
  perennial ls -r 1a2b3c4d --json

A directory's size is that of all files below it.

JSON: an array of {path, kind: \"file\" | \"directory\" | \"symlink\", mode: \"0644\", uid, gid, size, mtime, target}";

/// Bytes of output that are gathered before they are written.
const OUT_BYTES: usize = 64 << 10;

/// List what is in a snapshot
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// latest, an id or its first characters; after a colon a path inside
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    reference: Reference,

    #[command(flatten)]
    choice: Choice,

    /// Go down into directories
    #[arg(short, long)]
    recursive: bool,
}

pub fn run(arguments: &Arguments, shared: &Shared) -> Result<Exit, Failure> {
    let runner = Runner::start(shared)?;
    let open = store::open(shared, &runner, Cache::Use)?;
    let listing = choice::list(&open.repository, &runner)?;
    let snapshot = choice::find(&listing, &arguments.reference, &arguments.choice, &source::client(shared))?;
    let mut lister = Lister {
        repository: &open.repository,
        runner: &runner,
        recursive: arguments.recursive,
        out: Out { to: BufWriter::with_capacity(OUT_BYTES, io::stdout().lock()), json: shared.json, count: 0 },
    };
    lister.list(&snapshot, arguments.reference.path.as_deref())?;
    lister.out.finish().map_err(|error| Failure::printing(&error))?;
    Ok(if listing.damage.is_empty() { Exit::Success } else { Exit::Damaged })
}

/// Writes entries as they are read: a snapshot may have millions.
struct Lister<'a, W: Write> {
    repository: &'a Repository,
    runner: &'a Runner,
    recursive: bool,
    out: Out<W>,
}

impl<W: Write> Lister<'_, W> {
    fn list(&mut self, snapshot: &Snapshot, path: Option<&str>) -> Result<(), Failure> {
        let start = self.runner.wait(choice::entry(self.repository, snapshot, path))?;
        if start.entry.kind != EntryKind::Directory {
            let path = if start.path.is_empty() { start.entry.name.clone() } else { start.path.clone() };
            return self.write(&Found { path, ..start });
        }
        // Deepest last: the next directory stands on top, in the order of names.
        let mut open = vec![(start.path, start.entry.data)];
        while let Some((directory, data)) = open.pop() {
            let mut entries = self.repository.entries(&data);
            let mut next =
                || self.runner.wait(async { entries.next().await.map_err(|error| choice::reading(error, &directory)) });
            let first = open.len();
            while let Some(some) = next()? {
                for entry in some.into_owned() {
                    let path = match directory.as_str() {
                        "" => entry.name.clone(),
                        parent => format!("{parent}/{}", entry.name),
                    };
                    let found = Found { entry, path };
                    self.write(&found)?;
                    if self.recursive && found.entry.kind == EntryKind::Directory {
                        open.push((found.path, found.entry.data));
                    }
                }
            }
            open[first..].reverse();
        }
        Ok(())
    }

    fn write(&mut self, found: &Found) -> Result<(), Failure> {
        let target = match found.entry.kind {
            EntryKind::Symlink => Some(self.target(found)?),
            EntryKind::File | EntryKind::Directory => None,
        };
        self.out.write(&EntryView::of(found, target)).map_err(|error| Failure::printing(&error))
    }

    fn target(&self, link: &Found) -> Result<String, Failure> {
        let read = async {
            let read = self.repository.object(&link.entry.data).await;
            read.map_err(|error| choice::reading(error, &link.path))
        };
        Ok(String::from_utf8_lossy(&self.runner.wait(read)?).into_owned())
    }
}

/// Lines, or elements of one JSON array.
struct Out<W: Write> {
    to: W,
    json: bool,
    count: u64,
}

impl<W: Write> Out<W> {
    fn write(&mut self, entry: &EntryView) -> io::Result<()> {
        self.count += 1;
        if !self.json {
            return self.to.write_all(entry.line().as_bytes());
        }
        self.to.write_all(if self.count == 1 { b"[\n" } else { b",\n" })?;
        serde_json::to_writer(&mut self.to, entry).map_err(io::Error::from)
    }

    fn finish(&mut self) -> io::Result<()> {
        match (self.json, self.count) {
            (false, _) => {}
            (true, 0) => self.to.write_all(b"[]\n")?,
            (true, _) => self.to.write_all(b"\n]\n")?,
        }
        self.to.flush()
    }
}

/// An entry in JSON.
#[derive(Serialize)]
struct EntryView {
    path: String,
    kind: &'static str,
    mode: String,
    uid: u32,
    gid: u32,
    size: u64,
    mtime: jiff::Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip)]
    permissions: String,
}

impl EntryView {
    fn of(found: &Found, target: Option<String>) -> Self {
        let entry = &found.entry;
        let below = entry.summary.as_ref().filter(|_| entry.kind == EntryKind::Directory);
        Self {
            path: found.path.clone(),
            kind: choice::kind_name(entry.kind),
            mode: format!("{:04o}", entry.mode),
            uid: entry.uid,
            gid: entry.gid,
            size: below.map_or(entry.size_bytes, |summary| summary.size_bytes),
            mtime: entry.mtime,
            target,
            permissions: permissions(entry),
        }
    }

    fn line(&self) -> String {
        let Self { permissions, uid, gid, size, .. } = self;
        let (time, path) = (output::time(self.mtime), output::visible(&self.path));
        let target = self.target.as_ref().map(|target| format!(" -> {}", output::visible(target))).unwrap_or_default();
        format!("{permissions} {uid:>5} {gid:>5} {size:>12} {time} {path}{target}\n")
    }
}

/// `drwxr-xr-x`, as `ls -l` writes it.
fn permissions(entry: &Entry) -> String {
    let kind = match entry.kind {
        EntryKind::File => '-',
        EntryKind::Directory => 'd',
        EntryKind::Symlink => 'l',
    };
    let mut text = String::from(kind);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = entry.mode >> shift;
        text.push(if bits & 4 == 0 { '-' } else { 'r' });
        text.push(if bits & 2 == 0 { '-' } else { 'w' });
        text.push(match (bits & 1 != 0, entry.mode & special != 0) {
            (false, false) => '-',
            (true, false) => 'x',
            (true, true) => letter,
            (false, true) => letter.to_ascii_uppercase(),
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::permissions;
    use jiff::Timestamp;
    use repository::{DataId, Entry, EntryKind};

    #[test]
    fn modes_look_like_those_of_ls() {
        let check = |kind, mode, expected: &str| {
            let (name, data, mtime) = (String::new(), DataId::new(""), Timestamp::UNIX_EPOCH);
            let entry =
                Entry { name, kind, mode, uid: 0, gid: 0, mtime, size_bytes: 0, data, summary: None, side: None };
            assert_eq!(permissions(&entry), expected);
        };
        check(EntryKind::File, 0o644, "-rw-r--r--");
        check(EntryKind::Directory, 0o1777, "drwxrwxrwt");
        check(EntryKind::File, 0o4755, "-rwsr-xr-x");
        check(EntryKind::File, 0o6644, "-rwSr-Sr--");
        check(EntryKind::Symlink, 0o777, "lrwxrwxrwx");
    }
}
