//! Finished entries into directories, deepest first.
//!
//! A directory is written when its last entry has finished, and then is an entry of its parent. Only directories on the way
//! from the root to what is being read are kept; of large ones the entries wait in a file.

use std::collections::HashMap;
use std::io::{self, BufWriter, Write as _};
use std::time::Duration;

use codec::compress::Algorithm;
use codec::split::Splitter;
use repository::{Entry, FailedEntry, Special, Xattr};
use repository_kopia::{
    Checkpoint, ObjectId, PREFIX_DATA, PREFIX_DIRECTORY, PREFIX_INDEX, WriteError, write_index_object,
};

use super::BackupError;
use super::checkpoint::{self, Checkpoints};
use super::gather::OpenDirectory;
use super::seal::{Seal, Worker};
use super::walk::Source;
use crate::lane::{Receiver, RecvTimeoutError, Stopped};
use crate::meter::Counter;
use crate::shortfall::{Shortfall, Shortfalls};

/// Failed entries named in the outcome; their count is complete.
const OUTCOME_ENTRIES_NAMED: usize = 100;

/// Entries of unfinished directories held in memory, in bytes: beyond that those of the largest are put away, unless all of
/// them are small.
const HELD_BYTES_MAX: usize = 16 << 20;
const PUT_AWAY_BYTES_MIN: usize = 256 << 10;
/// What is written of a listing before it is cut, in bytes.
const LISTING_BUFFER_BYTES: usize = 64 << 10;

/// A directory of this run.
pub(super) type DirectoryNumber = u64;

/// Something that is finished, in any order; but a directory is announced before anything inside it, and entries before they
/// finish.
pub(super) enum Finished {
    /// A directory was opened.
    Directory {
        number: DirectoryNumber,
        /// `None` for the root.
        parent: Option<DirectoryNumber>,
        draft: Entry,
        xattrs: Vec<Xattr>,
        metadata_compression: Option<Algorithm>,
    },
    /// Some names in a directory were looked at, or the last of them.
    Listed {
        directory: DirectoryNumber,
        /// How many entries will come of them.
        entry_count: usize,
        specials: Vec<Special>,
        is_last: bool,
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
        held_bytes: 0,
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
    /// What the entries of all of them take in memory.
    held_bytes: usize,
    counts: Counts,
}

impl Builder<'_> {
    /// Takes one message; the last one gives the root.
    fn take(&mut self, message: Finished) -> Result<Option<Entry>, BackupError> {
        let directory = match message {
            Finished::Directory { number, parent, draft, xattrs, metadata_compression } => {
                self.open.insert(number, OpenDirectory::new(parent, draft, xattrs, metadata_compression));
                return Ok(None);
            }
            Finished::Listed { directory, entry_count, specials, is_last } => {
                let open = self.directory_mut(directory);
                open.side.specials.extend(specials);
                open.announce(entry_count, is_last);
                directory
            }
            Finished::File { directory, draft, pieces } => {
                self.counts.read_count += 1;
                let entry = self.file(directory, draft, &pieces)?;
                self.seal.meter.add(Counter::FilesDone, 1);
                self.hold(directory, entry)?;
                directory
            }
            Finished::Unchanged { directory, entries } => {
                let count = entries.len();
                self.counts.unchanged_count += count as u64;
                self.seal.meter.add(Counter::FilesUnchanged, count as u64);
                self.seal.meter.add(Counter::FilesDone, count as u64);
                self.seal.meter.add(Counter::BytesDone, entries.iter().map(|entry| entry.size_bytes).sum());
                entries.into_iter().try_for_each(|entry| self.hold(directory, entry))?;
                directory
            }
            Finished::Symlink { directory, draft, target } => {
                let content = self.seal.session.repository().content_id(PREFIX_DATA, &target);
                self.worker.store(content, &[&target], None)?;
                self.hold(directory, Entry { data: ObjectId::direct(content).into(), ..draft })?;
                directory
            }
            Finished::Failed { directory, failed } => {
                self.counts.failed_count += 1;
                name(&mut self.counts.failed, &failed);
                self.directory_mut(directory).fail(&failed, false);
                directory
            }
            Finished::Ignored { directory, failed } => {
                self.counts.ignored_error_count += 1;
                self.directory_mut(directory).fail(&failed, true);
                directory
            }
            Finished::Short(shortfall) => {
                self.counts.shortfalls.note(shortfall);
                return Ok(None);
            }
        };
        self.close(directory)
    }

    fn directory_mut(&mut self, number: DirectoryNumber) -> &mut OpenDirectory {
        self.open.get_mut(&number).expect("a directory is announced before its entries and kept until the last")
    }

    /// An entry has finished and waits for the others of its directory, in memory as far as there is room.
    fn hold(&mut self, directory: DirectoryNumber, entry: Entry) -> Result<(), BackupError> {
        let open = self.directory_mut(directory);
        let before = open.held_bytes();
        open.add(entry);
        self.held_bytes += open.held_bytes() - before;
        if self.held_bytes < HELD_BYTES_MAX {
            return Ok(());
        }
        let largest = self.open.values_mut().max_by_key(|open| open.held_bytes());
        if let Some(largest) = largest.filter(|largest| largest.held_bytes() >= PUT_AWAY_BYTES_MIN) {
            self.held_bytes -= largest.held_bytes();
            largest.put_away(self.seal.session.repository()).map_err(WriteError::from)?;
        }
        Ok(())
    }

    /// Closes a directory if nothing of it is missing, then its parent if that was the last, and so on.
    fn close(&mut self, mut number: DirectoryNumber) -> Result<Option<Entry>, BackupError> {
        while self.open.get(&number).is_some_and(OpenDirectory::is_complete) {
            let Some(mut open) = self.open.remove(&number) else { break };
            self.held_bytes -= open.held_bytes();
            let parent = open.parent;
            if parent.is_none() && self.is_single_file {
                return Ok(Some(open.into_single_file()));
            }
            let entry = self.listing(&mut open, Vec::new(), None)?;
            match parent {
                None => return Ok(Some(entry)),
                Some(parent) => {
                    self.hold(parent, entry)?;
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
        // It is put back when it is written: writing takes nothing out of it.
        let mut open = self.open.remove(&number).expect("a directory is kept until its last entry has finished");
        let written = self.listing(&mut open, entries, Some(checkpoint::REASON));
        self.open.insert(number, open);
        written
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

    /// Stores the listing of a directory; gives the entry of it.
    fn listing(
        &mut self,
        open: &mut OpenDirectory,
        unfinished: Vec<Entry>,
        incomplete: Option<&str>,
    ) -> Result<Entry, BackupError> {
        let writer = ObjectWriter::new(self, PREFIX_DIRECTORY, open.metadata_compression);
        // Short words become long stretches, which are cut much faster.
        let mut out = BufWriter::with_capacity(LISTING_BUFFER_BYTES, writer);
        let written = open.write(unfinished, incomplete, &mut out).and_then(|summary| {
            out.flush()?;
            Ok(summary)
        });
        let (mut writer, _) = out.into_parts();
        match (written, writer.failed.take()) {
            (_, Some(error)) => Err(error),
            (Err(error), None) => Err(BackupError::Waiting(error)),
            (Ok(summary), None) => {
                let data = writer.finish()?.into();
                Ok(Entry { data, summary: Some(Box::new(summary)), size_bytes: 0, ..open.draft.clone() })
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

fn name(list: &mut Vec<FailedEntry>, entry: &FailedEntry) {
    if list.len() < OUTCOME_ENTRIES_NAMED {
        list.push(entry.clone());
    }
}
