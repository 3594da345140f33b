//! Index files into one table, in bounded memory.
//!
//! ```text
//! index file ─▶ entries, unsorted ─▶ sorted runs in a file ─▶ merged ─▶ table in a file
//!               up to RUN_BYTES      as many as it takes            └─▶ table in memory, if it is small
//! ```

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::path::PathBuf;

use repository::PackId;

use super::cache::{Places, TableSet};
use super::record::{Record, VALUE_BYTES};
use super::rows::{BLOCK_ROWS, Body, Cursor, Output, Rows, RowsWriter};
use super::sorted::{KEY_BYTES_MAX, SortedWriter};
use super::{PackNames, PackTable, Scratch, Table};
use crate::error::IndexError;
use crate::index::IndexFile;

/// Entries sorted at a time, in bytes, and what merging reads at a time from all runs together. Sorting takes a third of it
/// besides.
const RUN_BYTES: usize = 16 << 20;

/// Gathers the entries of index files.
pub(crate) struct Builder {
    places: Places,
    scratch: Scratch,
    key_bytes: usize,
    run_bytes: usize,
    packs: PackNames,
    entries: Vec<u8>,
    runs: Vec<Rows>,
}

/// A finished table.
pub(crate) struct Built {
    pub(crate) table: Table,
    /// Where it is kept, if it is.
    pub(crate) path: Option<PathBuf>,
    /// Why it is not where it should be, or is built from elsewhere than it should.
    pub(crate) problem: Option<String>,
}

impl Builder {
    /// For content ids whose binary form has `key_bytes` bytes.
    pub(crate) fn new(places: Places, key_bytes: usize) -> Self {
        let scratch = places.scratch();
        let run_bytes = RUN_BYTES.min(4 * places.memory_bytes);
        let (packs, entries, runs) = (PackNames::default(), Vec::new(), Vec::new());
        Self { places, scratch, key_bytes, run_bytes, packs, entries, runs }
    }

    /// Adds all entries of a file, or none if it makes no sense.
    ///
    /// # Errors
    /// When there is no place for them. What is wrong with the file is the inner error, in words.
    pub(crate) fn add(&mut self, file: &IndexFile) -> Result<Result<(), String>, IndexError> {
        if file.len() > 0 && file.key(0).len() != self.key_bytes {
            return Ok(Err("its content ids are not as long as this repository's hash makes them".to_owned()));
        }
        // All of it or nothing: so each entry is looked at before the first one is taken.
        if let Err(detail) = (0..file.len()).try_for_each(|at| file.entry(at).map(|_| ())) {
            return Ok(Err(detail));
        }
        let mut numbers: HashMap<PackId, u32> = HashMap::new();
        for at in 0..file.len() {
            let entry = match file.entry(at) {
                Ok(entry) => entry,
                Err(detail) => return Ok(Err(detail)),
            };
            let pack = &entry.location.pack;
            let number = match numbers.get(pack) {
                Some(number) => *number,
                None => *numbers.entry(pack.clone()).or_insert_with(|| self.packs.number(pack)),
            };
            super::record::write(&entry, number, &mut self.entries);
            if self.entries.len() >= self.run_bytes {
                self.end_run()?;
            }
        }
        Ok(Ok(()))
    }

    fn end_run(&mut self) -> Result<(), IndexError> {
        let Self { scratch, entries, packs, key_bytes, .. } = self;
        let row_bytes = *key_bytes + VALUE_BYTES;
        let (writer, body) = scratch.write(|out| {
            let mut rows = RowsWriter::new(out, row_bytes);
            each_of_entries(entries, *key_bytes, packs, &mut |row| rows.push(out, row))?;
            Ok(rows)
        })?;
        self.runs.push(writer.finish(body));
        self.entries.clear();
        Ok(())
    }

    /// Merges everything; deleted entries with a timestamp up to `watermark_seconds` are left out. The table is kept as that
    /// of `set`, unless it is small or there is none.
    ///
    /// # Errors
    /// When there is no place for it.
    pub(crate) fn finish(
        mut self,
        set: Option<&TableSet>,
        watermark_seconds: Option<u64>,
    ) -> Result<Built, IndexError> {
        let key_bytes = self.key_bytes;
        if self.runs.is_empty() && self.entries.len() <= self.places.memory_bytes {
            let Self { entries, packs, .. } = &self;
            let count_max = entries.len() / (key_bytes + VALUE_BYTES);
            let mut out = Output::memory(u64::MAX);
            let parts = Parts::write(&mut out, key_bytes, count_max, packs, watermark_seconds, &|take| {
                each_of_entries(entries, key_bytes, packs, take)
            });
            let table = parts.and_then(|parts| Ok(parts.finish(out.finish()?))).map_err(failed)?;
            return Ok(Built { table, path: None, problem: None });
        }
        if !self.entries.is_empty() {
            self.end_run()?;
        }
        let Self { places, mut scratch, run_bytes, packs, entries, runs, .. } = self;
        drop(entries);
        let count_max = runs.iter().map(Rows::len).sum();
        let write = |out: &mut Output| {
            Parts::write(out, key_bytes, count_max, &packs, watermark_seconds, &|take| {
                each_of_runs(&runs, key_bytes, run_bytes, &packs, take)
            })
        };
        if let Some(set) = set.filter(|_| scratch.problem().is_none()) {
            match places.keep(set, &mut |mut out| write(&mut out).and_then(|parts| Ok(parts.finish(out.finish()?)))) {
                Ok(Some((table, path))) => return Ok(Built { table, path: Some(path), problem: None }),
                Ok(None) => {}
                Err(error) => scratch.give_up(&error),
            }
        }
        let (parts, body) = scratch.write(write)?;
        Ok(Built { table: parts.finish(body), path: None, problem: scratch.problem() })
    }
}

/// What takes entries in order.
type Take<'a> = &'a mut dyn FnMut(&[u8]) -> io::Result<()>;

/// A table whose rows have been written.
struct Parts {
    entries: SortedWriter,
    packs: RowsWriter,
    named: Vec<u8>,
}

impl Parts {
    fn write(
        out: &mut Output,
        key_bytes: usize,
        count_max: usize,
        packs: &PackNames,
        watermark_seconds: Option<u64>,
        each: &dyn Fn(Take<'_>) -> io::Result<()>,
    ) -> io::Result<Self> {
        let mut entries = SortedWriter::new(out, key_bytes, VALUE_BYTES, Some(count_max));
        let mut named = vec![0; packs.len().div_ceil(8)];
        each(&mut |row| {
            let record = Record::new(row);
            let seconds = u64::from(record.timestamp_seconds());
            if record.is_deleted() && watermark_seconds.is_some_and(|watermark| seconds <= watermark) {
                return Ok(());
            }
            let pack = record.pack() as usize;
            named[pack / 8] |= 1 << (pack % 8);
            entries.push(out, row)
        })?;
        Ok(Self { entries, packs: packs.write(out)?, named })
    }

    fn finish(self, body: Body) -> Table {
        let packs = PackTable::new(self.packs.finish(body.clone()), self.named);
        Table { entries: self.entries.finish(body), packs }
    }
}

/// The entry that counts of two for one content: the later one; of equals one that is not deleted; then the one in the pack
/// of the greater name.
fn newer<'a>(a: &'a [u8], b: &'a [u8], packs: &PackNames) -> &'a [u8] {
    let rank = |row: &'a [u8]| {
        let record = Record::new(row);
        (record.timestamp_seconds(), !record.is_deleted(), packs.name(record.pack()))
    };
    if rank(a) >= rank(b) { a } else { b }
}

/// Unsorted entries in the order of their keys, one of each key.
fn each_of_entries(entries: &[u8], key_bytes: usize, packs: &PackNames, take: Take<'_>) -> io::Result<()> {
    let row_bytes = key_bytes + VALUE_BYTES;
    let row = |at: u32| &entries[at as usize * row_bytes..][..row_bytes];
    let beginning = |row: &[u8]| {
        let mut bytes = [0; 8];
        let length = key_bytes.min(8);
        bytes[..length].copy_from_slice(&row[..length]);
        u64::from_be_bytes(bytes)
    };
    let mut order: Vec<(u64, u32)> =
        entries.chunks_exact(row_bytes).enumerate().map(|(at, row)| (beginning(row), at as u32)).collect();
    // Stable, since that makes use of the order which index files have already.
    order.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| row(a.1)[..key_bytes].cmp(&row(b.1)[..key_bytes])));
    let mut rows = order.into_iter().map(|(_, at)| row(at)).peekable();
    while let Some(mut best) = rows.next() {
        while let Some(same) = rows.next_if(|row| row[..key_bytes] == best[..key_bytes]) {
            best = newer(best, same, packs);
        }
        take(best)?;
    }
    Ok(())
}

/// The entries of sorted runs in the order of their keys, one of each key.
fn each_of_runs(
    runs: &[Rows],
    key_bytes: usize,
    bytes_at_once: usize,
    packs: &PackNames,
    take: Take<'_>,
) -> io::Result<()> {
    let block_bytes = BLOCK_ROWS * (key_bytes + VALUE_BYTES);
    let blocks_at_once = bytes_at_once / block_bytes / runs.len().max(1);
    let mut heads = BinaryHeap::new();
    let mut cursors: Vec<Head> = Vec::new();
    for (run, rows) in runs.iter().enumerate() {
        let mut head = Head { cursor: rows.cursor(0, blocks_at_once), row: Vec::new() };
        if let Some(key) = head.next(key_bytes)? {
            heads.push(Reverse((key, run)));
        }
        cursors.push(head);
    }
    let mut best: Vec<u8> = Vec::new();
    while let Some(Reverse((_, run))) = heads.pop() {
        let row = &cursors[run].row;
        if best.is_empty() {
            best.clone_from(row);
        } else if best[..key_bytes] == row[..key_bytes] {
            let winner = newer(&best, row, packs).to_vec();
            best = winner;
        } else {
            take(&best)?;
            best.clone_from(row);
        }
        if let Some(key) = cursors[run].next(key_bytes)? {
            heads.push(Reverse((key, run)));
        }
    }
    if best.is_empty() { Ok(()) } else { take(&best) }
}

/// Where a run has been read to.
struct Head {
    cursor: Cursor,
    row: Vec<u8>,
}

impl Head {
    /// Goes on to the next row; gives its key.
    fn next(&mut self, key_bytes: usize) -> io::Result<Option<[u8; KEY_BYTES_MAX]>> {
        let Some(row) = self.cursor.next()? else { return Ok(None) };
        self.row.clear();
        self.row.extend_from_slice(row);
        let mut key = [0; KEY_BYTES_MAX];
        key[..key_bytes].copy_from_slice(&row[..key_bytes]);
        Ok(Some(key))
    }
}

fn failed(source: io::Error) -> IndexError {
    IndexError::Table { operation: "merge the index".to_owned(), source }
}
