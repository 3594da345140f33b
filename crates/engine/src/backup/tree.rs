//! Finished entries into directories, deepest first.
//!
//! A directory is written when its last entry has finished, and then is an entry of its parent. Only directories on the way
//! from the root to what is being read are kept.

use std::collections::HashMap;
use std::io::{self, BufWriter, Write as _};
use std::time::Duration;

use codec::compress::Algorithm;
use codec::split::Splitter;
use repository::{DirectorySide, Entry, EntryKind, FailedEntry, Summary};
use repository_kopia::{
    Checkpoint, ObjectId, PREFIX_DATA, PREFIX_DIRECTORY, PREFIX_INDEX, write_directory, write_index_object,
};

use super::BackupError;
use super::checkpoint::{self, Checkpoints};
use super::seal::{Seal, Worker};
use super::walk::Source;
use crate::lane::{Receiver, RecvTimeoutError, Stopped};
use crate::meter::Counter;
use crate::shortfall::{Shortfall, Shortfalls};

/// Failed entries named in one directory's summary; their counts are complete.
const ERRORS_NAMED: usize = 10;
/// Failed entries named in the outcome; their count is complete.
const OUTCOME_ENTRIES_NAMED: usize = 100;

/// What is written of a listing before it is cut, in bytes.
const LISTING_BUFFER_BYTES: usize = 64 << 10;

/// A directory of this run.
pub(super) type DirectoryNumber = u64;

/// Something that is finished, in any order; but a directory is announced before anything inside it.
pub(super) enum Finished {
    /// A directory was listed.
    Directory {
        number: DirectoryNumber,
        /// `None` for the root.
        parent: Option<DirectoryNumber>,
        draft: Entry,
        /// What it has beside its entries.
        side: DirectorySide,
        /// How many entries will come.
        entry_count: usize,
        metadata_compression: Option<Algorithm>,
    },
    /// A file was stored.
    File { directory: DirectoryNumber, draft: Entry, pieces: Vec<(ObjectId, u64)> },
    /// Files are as they were in an earlier snapshot, which holds their data.
    Unchanged { directory: DirectoryNumber, entries: Vec<Entry> },
    /// A symbolic link was read.
    Symlink { directory: DirectoryNumber, draft: Entry, target: Vec<u8> },
    /// An entry could not be read.
    Failed { directory: DirectoryNumber, failed: FailedEntry },
    /// An entry could not be read, and the policy says to pass over it.
    Ignored { directory: DirectoryNumber, failed: FailedEntry },
    /// Something of an entry is not kept; the entry itself comes, or is none that is waited for.
    Short(Shortfall),
}

/// The finished tree.
pub(super) struct Tree {
    pub(super) root: Entry,
    pub(super) counts: Counts,
    /// Checkpoints that the finished snapshot replaces.
    pub(super) checkpoints: Vec<Checkpoint>,
}

/// Figures of the whole run.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) read_count: u64,
    pub(super) unchanged_count: u64,
    pub(super) failed_count: u64,
    pub(super) ignored_error_count: u64,
    pub(super) failed: Vec<FailedEntry>,
    pub(super) shortfalls: Shortfalls,
}

struct OpenDirectory {
    parent: Option<DirectoryNumber>,
    draft: Entry,
    side: DirectorySide,
    missing_count: usize,
    entries: Vec<Entry>,
    failed: Vec<FailedEntry>,
    ignored: Vec<FailedEntry>,
    metadata_compression: Option<Algorithm>,
}

/// How often the clock is looked at while nothing finishes.
const IDLE: Duration = Duration::from_secs(60);

pub(super) fn run(
    finished: &Receiver<Finished>,
    seal: &Seal<'_>,
    source: &Source,
    mut checkpoints: Checkpoints<'_>,
) -> Result<Tree, BackupError> {
    let mut builder = Builder {
        worker: Worker::new(seal),
        seal,
        is_single_file: source.is_single_file(),
        open: HashMap::new(),
        counts: Counts::default(),
    };
    loop {
        match finished.recv_timeout(IDLE) {
            Ok(message) => {
                if let Some(root) = builder.take(message)? {
                    return Ok(Tree { root, counts: builder.counts, checkpoints: checkpoints.made });
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(Stopped.into()),
        }
        if checkpoints.is_due()
            && let Some(root) = builder.unfinished_root()?
        {
            checkpoints.make(root)?;
        }
    }
}

struct Builder<'a> {
    worker: Worker<'a>,
    seal: &'a Seal<'a>,
    is_single_file: bool,
    open: HashMap<DirectoryNumber, OpenDirectory>,
    counts: Counts,
}

impl Builder<'_> {
    /// Takes one message; the last one gives the root.
    fn take(&mut self, message: Finished) -> Result<Option<Entry>, BackupError> {
        let directory = match message {
            Finished::Directory { number, parent, draft, side, entry_count, metadata_compression } => {
                let open = OpenDirectory {
                    parent,
                    draft,
                    side,
                    missing_count: entry_count,
                    entries: Vec::with_capacity(entry_count),
                    failed: Vec::new(),
                    ignored: Vec::new(),
                    metadata_compression,
                };
                self.open.insert(number, open);
                number
            }
            Finished::File { directory, draft, pieces } => {
                self.counts.read_count += 1;
                let entry = self.file(directory, draft, &pieces)?;
                self.add(directory, entry);
                directory
            }
            Finished::Unchanged { directory, entries } => {
                let count = entries.len();
                self.counts.unchanged_count += count as u64;
                self.seal.meter.add(Counter::FilesUnchanged, count as u64);
                self.seal.meter.add(Counter::FilesDone, count as u64);
                self.seal.meter.add(Counter::BytesDone, entries.iter().map(|entry| entry.size_bytes).sum());
                self.with(directory, count, |open| open.entries.extend(entries));
                directory
            }
            Finished::Symlink { directory, draft, target } => {
                let content = self.seal.session.repository().content_id(PREFIX_DATA, &target);
                self.worker.store(content, &[&target], None)?;
                self.add(directory, Entry { data: ObjectId::direct(content).into(), ..draft });
                directory
            }
            Finished::Failed { directory, failed } => {
                self.counts.failed_count += 1;
                name(&mut self.counts.failed, &failed);
                self.with(directory, 1, |open| open.failed.push(failed));
                directory
            }
            Finished::Ignored { directory, failed } => {
                self.counts.ignored_error_count += 1;
                self.with(directory, 1, |open| open.ignored.push(failed));
                directory
            }
            Finished::Short(shortfall) => {
                self.counts.shortfalls.note(shortfall);
                return Ok(None);
            }
        };
        self.close(directory)
    }

    /// So many entries of a directory have finished.
    fn with(&mut self, directory: DirectoryNumber, count: usize, change: impl FnOnce(&mut OpenDirectory)) {
        let open =
            self.open.get_mut(&directory).expect("a directory is announced before its entries and kept until the last");
        open.missing_count -= count;
        change(open);
    }

    fn add(&mut self, directory: DirectoryNumber, entry: Entry) {
        if entry.kind == EntryKind::File {
            self.seal.meter.add(Counter::FilesDone, 1);
        }
        self.with(directory, 1, |open| open.entries.push(entry));
    }

    /// Closes a directory if nothing of it is missing, then its parent if that was the last, and so on.
    fn close(&mut self, mut number: DirectoryNumber) -> Result<Option<Entry>, BackupError> {
        while self.open.get(&number).is_some_and(|open| open.missing_count == 0) {
            let Some(open) = self.open.remove(&number) else { break };
            let parent = open.parent;
            if parent.is_none() && self.is_single_file {
                return Ok(Some(single_file(open)));
            }
            let entry = self.directory(open, None)?;
            match parent {
                None => return Ok(Some(entry)),
                Some(parent) => {
                    self.with(parent, 1, |open| open.entries.push(entry));
                    number = parent;
                }
            }
        }
        Ok(None)
    }

    /// The root as it would be if nothing more came. Nothing for a single file.
    fn unfinished_root(&mut self) -> Result<Option<Entry>, BackupError> {
        let mut below: HashMap<DirectoryNumber, Vec<DirectoryNumber>> = HashMap::new();
        let mut root = None;
        for (number, open) in &self.open {
            match open.parent {
                Some(parent) => below.entry(parent).or_default().push(*number),
                None => root = Some(*number),
            }
        }
        match root.filter(|_| !self.is_single_file) {
            Some(root) => Ok(Some(self.unfinished(root, &below)?)),
            None => Ok(None),
        }
    }

    fn unfinished(
        &mut self,
        number: DirectoryNumber,
        below: &HashMap<DirectoryNumber, Vec<DirectoryNumber>>,
    ) -> Result<Entry, BackupError> {
        let mut entries = Vec::new();
        for directory in below.get(&number).into_iter().flatten() {
            entries.push(self.unfinished(*directory, below)?);
        }
        let open = &self.open[&number];
        let mut copy = OpenDirectory {
            parent: open.parent,
            draft: open.draft.clone(),
            side: open.side.clone(),
            missing_count: 0,
            entries: open.entries.clone(),
            failed: open.failed.clone(),
            ignored: open.ignored.clone(),
            metadata_compression: open.metadata_compression,
        };
        copy.entries.append(&mut entries);
        self.directory(copy, Some(checkpoint::REASON))
    }

    fn file(
        &mut self,
        directory: DirectoryNumber,
        draft: Entry,
        pieces: &[(ObjectId, u64)],
    ) -> Result<Entry, BackupError> {
        let object = match pieces {
            [(object, _)] => *object,
            _ => {
                let compression = self.open.get(&directory).and_then(|open| open.metadata_compression);
                self.object(PREFIX_INDEX, &write_index_object(pieces), compression)?.indirect()
            }
        };
        let size_bytes = pieces.iter().map(|(_, length)| length).sum();
        Ok(Entry { size_bytes, data: object.into(), ..draft })
    }

    fn directory(&mut self, mut open: OpenDirectory, incomplete: Option<&str>) -> Result<Entry, BackupError> {
        open.entries.sort_by(|a, b| {
            let is_other = |entry: &Entry| entry.kind != EntryKind::Directory;
            (is_other(a), a.name.as_bytes()).cmp(&(is_other(b), b.name.as_bytes()))
        });
        let summary = Summary { incomplete: incomplete.map(str::to_owned), ..summarize(&open) };
        let object = self.listing(&open, &summary)?;
        Ok(Entry { data: object.into(), summary: Some(Box::new(summary)), size_bytes: 0, ..open.draft })
    }

    fn listing(&mut self, open: &OpenDirectory, summary: &Summary) -> Result<ObjectId, BackupError> {
        let writer = ObjectWriter::new(self, PREFIX_DIRECTORY, open.metadata_compression);
        // Short words become long stretches, which are cut much faster.
        let mut out = BufWriter::with_capacity(LISTING_BUFFER_BYTES, writer);
        let written = write_directory(&open.entries, summary, &open.side, &mut out).and_then(|()| out.flush());
        let (mut writer, _) = out.into_parts();
        match (written, writer.failed.take()) {
            (_, Some(error)) => Err(error),
            (written, None) => {
                written.expect("a listing can be written, and what stops its writer is told");
                writer.finish()
            }
        }
    }

    /// Stores bytes as an object, cut by the repository's splitter, with index objects above as needed.
    fn object(&mut self, prefix: u8, bytes: &[u8], compression: Option<Algorithm>) -> Result<ObjectId, BackupError> {
        let mut writer = ObjectWriter::new(self, prefix, compression);
        writer.take(bytes)?;
        writer.finish()
    }
}

/// Stores what is written as an object. Of its bytes one piece is in memory.
struct ObjectWriter<'b, 'a> {
    builder: &'b mut Builder<'a>,
    prefix: u8,
    compression: Option<Algorithm>,
    splitter: Splitter,
    /// What has come of the piece that has not ended.
    piece: Vec<u8>,
    pieces: Vec<(ObjectId, u64)>,
    /// Why writing failed.
    failed: Option<BackupError>,
}

impl<'b, 'a> ObjectWriter<'b, 'a> {
    fn new(builder: &'b mut Builder<'a>, prefix: u8, compression: Option<Algorithm>) -> Self {
        let splitter = Splitter::new(builder.seal.session.repository().splitter());
        Self { builder, prefix, compression, splitter, piece: Vec::new(), pieces: Vec::new(), failed: None }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        let mut rest = bytes;
        while let Some(end) = self.splitter.next_cut(rest) {
            self.piece.extend_from_slice(&rest[..end]);
            self.end_piece()?;
            rest = &rest[end..];
        }
        self.piece.extend_from_slice(rest);
        Ok(())
    }

    fn end_piece(&mut self) -> Result<(), BackupError> {
        let content = self.builder.seal.session.repository().content_id(self.prefix, &self.piece);
        self.builder.worker.store(content, &[&self.piece], self.compression)?;
        self.pieces.push((ObjectId::direct(content), self.piece.len() as u64));
        self.piece.clear();
        Ok(())
    }

    /// Ends the object; one without bytes has an empty piece.
    fn finish(mut self) -> Result<ObjectId, BackupError> {
        if !self.piece.is_empty() || self.pieces.is_empty() {
            self.end_piece()?;
        }
        match self.pieces.as_slice() {
            [(object, _)] => Ok(*object),
            _ => {
                let index = write_index_object(&self.pieces);
                Ok(self.builder.object(self.prefix, &index, self.compression)?.indirect())
            }
        }
    }
}

impl io::Write for ObjectWriter<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.take(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(error) => {
                self.failed = Some(error);
                Err(io::Error::other("the object cannot be stored"))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The root of a snapshot of one file: the file, with a summary of its own.
fn single_file(mut open: OpenDirectory) -> Entry {
    let summary = summarize(&open);
    match open.entries.pop() {
        Some(entry) => Entry { summary: Some(Box::new(Summary { directory_count: 0, ..summary })), ..entry },
        None => Entry { kind: EntryKind::File, summary: Some(Box::new(summary)), ..open.draft },
    }
}

fn summarize(open: &OpenDirectory) -> Summary {
    let mut sum = Summary {
        size_bytes: 0,
        file_count: 0,
        symlink_count: 0,
        directory_count: 1,
        max_time: open.entries.iter().map(|entry| entry.mtime).max().unwrap_or(open.draft.mtime),
        incomplete: None,
        failed_count: open.failed.len() as u64,
        ignored_error_count: open.ignored.len() as u64,
        errors: open.failed.iter().chain(&open.ignored).cloned().collect(),
    };
    for entry in &open.entries {
        match (entry.kind, &entry.summary) {
            (EntryKind::File, _) => {
                sum.file_count += 1;
                sum.size_bytes += entry.size_bytes;
            }
            (EntryKind::Symlink, _) => sum.symlink_count += 1,
            (EntryKind::Directory, None) => sum.directory_count += 1,
            (EntryKind::Directory, Some(inner)) => {
                sum.size_bytes += inner.size_bytes;
                sum.file_count += inner.file_count;
                sum.symlink_count += inner.symlink_count;
                sum.directory_count += inner.directory_count;
                sum.max_time = sum.max_time.max(inner.max_time);
                sum.failed_count += inner.failed_count;
                sum.ignored_error_count += inner.ignored_error_count;
                sum.errors.extend(inner.errors.iter().cloned());
            }
        }
    }
    sum.errors.sort_by(|a, b| a.path.cmp(&b.path));
    sum.errors.truncate(ERRORS_NAMED);
    sum
}

fn name(list: &mut Vec<FailedEntry>, entry: &FailedEntry) {
    if list.len() < OUTCOME_ENTRIES_NAMED {
        list.push(entry.clone());
    }
}
