//! Entries of a directory that is being put together, on this machine: as many as there are, in little memory.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::io;

use repository::{Entry, EntryKind};

use super::{EntryJson, ReadEntry};
use crate::error::IndexError;
use crate::index::{Body, Output, Scratch};
use crate::json;
use crate::repository::Repository;

/// What is written, checked and read at a time, in bytes; an entry more.
const PART_BYTES: usize = 32 << 10;

/// Kopia's order of entries: directories first, each group by name.
pub fn stored_order(a: &Entry, b: &Entry) -> Ordering {
    let is_other = |entry: &Entry| entry.kind != EntryKind::Directory;
    (is_other(a), a.name.as_bytes()).cmp(&(is_other(b), b.name.as_bytes()))
}

/// Entries that wait for the others of their directory, in a file without a name: nothing is left of it when the process ends,
/// however it ends.
///
/// Memory: 8 bytes for each 32 KiB that wait; while they are read, 32 KiB for each time that some were put away.
#[derive(Debug)]
pub struct WaitingEntries {
    scratch: Scratch,
    runs: Vec<Run>,
}

/// Entries in order, as lines of JSON.
#[derive(Debug)]
struct Run {
    body: Body,
    start: u64,
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    length_bytes: usize,
    crc32: u32,
}

impl Repository {
    /// A place for the entries of one directory.
    pub fn waiting_entries(&self) -> WaitingEntries {
        WaitingEntries::new(self.scratch())
    }
}

impl WaitingEntries {
    fn new(scratch: Scratch) -> Self {
        Self { scratch, runs: Vec::new() }
    }

    /// Puts entries away, which stand in [`stored_order`].
    ///
    /// # Errors
    /// When there is no place for them on this machine.
    pub fn put(&mut self, entries: &[Entry]) -> Result<(), IndexError> {
        let written = self.scratch.write(|out: &mut Output| {
            let (start, mut parts, mut part) = (out.position(), Vec::new(), Vec::new());
            for (at, entry) in entries.iter().enumerate() {
                json::write(&EntryJson::from(entry), &mut part);
                part.push(b'\n');
                if part.len() >= PART_BYTES || at + 1 == entries.len() {
                    out.write(&part)?;
                    parts.push(Part { length_bytes: part.len(), crc32: crc32fast::hash(&part) });
                    part.clear();
                }
            }
            Ok((start, parts))
        });
        let ((start, parts), body) = written?;
        self.runs.push(Run { body, start, parts });
        Ok(())
    }

    /// All that were put away and `others`, which stand in [`stored_order`] too, as if they were one list in that order. What
    /// was put away stays there.
    pub fn with<'a>(&'a self, others: &'a [Entry]) -> impl Iterator<Item = io::Result<Cow<'a, Entry>>> {
        let mut sources: Vec<Source<'a>> = self.runs.iter().map(|run| Source::Run(Reader::new(run))).collect();
        sources.push(Source::Memory(others.iter()));
        let mut merge = Merge { heads: BinaryHeap::with_capacity(sources.len()), sources, failed: None };
        (0..merge.sources.len()).for_each(|source| merge.advance(source));
        merge
    }
}

enum Source<'a> {
    Run(Reader<'a>),
    Memory(std::slice::Iter<'a, Entry>),
}

/// Several lists in order as one.
struct Merge<'a> {
    sources: Vec<Source<'a>>,
    /// The next entry of each source that has one.
    heads: BinaryHeap<Head<'a>>,
    failed: Option<io::Error>,
}

struct Head<'a> {
    entry: Cow<'a, Entry>,
    source: usize,
}

impl<'a> Merge<'a> {
    fn advance(&mut self, source: usize) {
        let next = match &mut self.sources[source] {
            Source::Run(reader) => reader.next().map(|entry| entry.map(Cow::Owned)),
            Source::Memory(entries) => entries.next().map(|entry| Ok(Cow::Borrowed(entry))),
        };
        match next {
            Some(Ok(entry)) => self.heads.push(Head { entry, source }),
            Some(Err(error)) => self.failed = Some(error),
            None => {}
        }
    }
}

impl<'a> Iterator for Merge<'a> {
    type Item = io::Result<Cow<'a, Entry>>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.failed.take() {
            // Without one of its lists the rest is not what it should be.
            self.heads.clear();
            return Some(Err(error));
        }
        let Head { entry, source } = self.heads.pop()?;
        self.advance(source);
        Some(Ok(entry))
    }
}

/// The first entry is the greatest head.
impl Ord for Head<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        stored_order(&other.entry, &self.entry).then(other.source.cmp(&self.source))
    }
}

impl PartialOrd for Head<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Head<'_> {}

/// Goes through a run.
struct Reader<'a> {
    body: &'a Body,
    /// Where the next part begins.
    at: u64,
    parts: std::slice::Iter<'a, Part>,
    part: Vec<u8>,
    /// What of the part was read.
    read: usize,
}

impl<'a> Reader<'a> {
    fn new(run: &'a Run) -> Self {
        Self { body: &run.body, at: run.start, parts: run.parts.iter(), part: Vec::new(), read: 0 }
    }

    fn load(&mut self, part: &Part) -> io::Result<()> {
        self.body.read_at(self.at, part.length_bytes, &mut self.part)?;
        if crc32fast::hash(&self.part) != part.crc32 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its bytes have changed"));
        }
        self.at += part.length_bytes as u64;
        self.read = 0;
        Ok(())
    }
}

impl Iterator for Reader<'_> {
    type Item = io::Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.read == self.part.len() {
            let part = self.parts.next()?;
            if let Err(error) = self.load(part) {
                return Some(Err(error));
            }
        }
        let rest = &self.part[self.read..];
        let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        let entry = serde_json::from_slice(&rest[..end]).map(|ReadEntry(entry)| entry);
        self.read = self.part.len().min(self.read + end + 1);
        Some(entry.map_err(io::Error::from))
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use jiff::Timestamp;
    use proptest::prelude::*;
    use proptest::strategy::ValueTree as _;
    use repository::{DataId, Entry, EntryKind, HardLink, Side, Summary, Xattr};

    use super::{WaitingEntries, stored_order};
    use crate::index::Scratch;

    fn entry() -> impl Strategy<Value = Entry> {
        let kind = prop::sample::select(vec![EntryKind::File, EntryKind::Directory, EntryKind::Symlink]);
        let side = prop::option::of(prop::collection::vec(1..=255_u8, 1..9));
        (("[a-c\n\"<é]{1,4}", kind, 0..0o10000_u32, any::<i32>(), any::<u64>()), side).prop_map(
            |((name, kind, mode, seconds, size_bytes), raw)| Entry {
                name,
                kind,
                mode,
                uid: mode,
                gid: 0,
                mtime: Timestamp::new(i64::from(seconds), 0).unwrap(),
                size_bytes,
                data: DataId::new("k00"),
                summary: (kind == EntryKind::Directory).then(|| {
                    Box::new(Summary {
                        size_bytes,
                        file_count: 1,
                        symlink_count: 2,
                        directory_count: 3,
                        max_time: Timestamp::UNIX_EPOCH,
                        incomplete: None,
                        failed_count: 0,
                        ignored_error_count: 0,
                        errors: Vec::new(),
                    })
                }),
                side: raw.filter(|raw| !raw.contains(&b'/') && !matches!(raw.as_slice(), b"." | b"..")).map(|raw| {
                    let xattrs = vec![Xattr { name: b"user.a".to_vec(), value: raw.clone() }];
                    let hard_link = Some(HardLink { inode: 7, file_system: 0 });
                    Box::new(Side { raw_name: Some(raw), xattrs, hard_link, unknown: Vec::new() })
                }),
            },
        )
    }

    proptest! {
        #[test]
        fn what_was_put_away_comes_back_in_order_and_stays(
            mut runs in prop::collection::vec(prop::collection::vec(entry(), 1..300), 0..5),
            mut others in prop::collection::vec(entry(), 0..20),
            has_files: bool,
        ) {
            // Without room for files all is in memory.
            let bytes_max = if has_files { 1 << 30 } else { 100 << 20 };
            let directory = has_files.then(std::env::temp_dir);
            let mut waiting = WaitingEntries::new(Scratch::new(directory.as_deref(), bytes_max));
            for run in &mut runs {
                run.sort_by(stored_order);
                waiting.put(run).unwrap();
            }
            others.sort_by(stored_order);
            let mut expected: Vec<Entry> = runs.into_iter().flatten().chain(others.clone()).collect();
            expected.sort_by(stored_order);
            for _ in 0..2 {
                let all: Vec<Entry> = waiting.with(&others).map(|entry| entry.map(Cow::into_owned).unwrap()).collect();
                prop_assert_eq!(&all, &expected);
            }
        }
    }

    #[test]
    fn what_has_changed_meanwhile_is_no_entry() {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let entry = entry().new_tree(&mut runner).unwrap().current();
        let mut waiting = WaitingEntries::new(Scratch::new(None, 1 << 30));
        waiting.put(&[entry]).unwrap();
        waiting.runs[0].parts[0].crc32 ^= 1;
        let all: Vec<_> = waiting.with(&[]).collect();
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].as_ref().unwrap_err().to_string(), "its bytes have changed");
    }
}
