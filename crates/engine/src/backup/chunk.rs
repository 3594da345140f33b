//! Files into chunks: opened, read and cut.
//!
//! A file so large that Kopia cuts it in parts is read in these parts, by several threads at once.
//!
//! Everything is read into segments of one length. Small files share a segment, so that hashing them costs one message and
//! can work on several at once. Large files are cut while they are read: a piece is a row of parts of segments, and nothing
//! is copied at a cut.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use codec::compress::Algorithm;
use codec::split::{self, Splitter};
use repository::{Entry, FailedEntry};
use repository_kopia::ObjectId;
use rustix::fs::{FileType, Mode, OFlags, fstat, openat};

use super::BackupError;
use super::holes::HoleReader;
use super::tree::{DirectoryNumber, Finished};
use crate::lane::{Receiver, Sender, Stopped};
use crate::limits::SEGMENT_BYTES;
use crate::listing::folder::Folder;
use crate::meter::Counter;
use crate::pool::{Buffer, Pool, Turns};
use crate::run::Run;

/// A file to be read.
#[derive(Clone)]
pub(super) struct FileJob {
    pub(super) directory: DirectoryNumber,
    /// The directory it is opened in.
    pub(super) parent: Arc<Folder>,
    /// Its raw name there.
    pub(super) name: std::ffi::CString,
    /// Path relative to the root, for messages.
    pub(super) path: String,
    /// What is known of it before it is read; size and data come later.
    pub(super) draft: Entry,
    pub(super) compression: Option<Algorithm>,
    /// Larger files are cut anew at multiples of this, as Kopia does.
    pub(super) parts_bytes: Option<u64>,
    /// The policy says to pass over files that cannot be read.
    pub(super) ignore_errors: bool,
}

/// A file to be read, or a part of one.
pub(super) struct ReadJob {
    file: FileJob,
    part: Option<FilePart>,
}

/// Which part of which file.
#[derive(Clone)]
struct FilePart {
    whole: Arc<WholeFile>,
    number: usize,
}

impl FileJob {
    /// Gives `take` the file, or each part of it.
    pub(super) fn split<E>(self, mut take: impl FnMut(ReadJob) -> Result<(), E>) -> Result<(), E> {
        let Some(part_bytes) = self.parts_bytes.filter(|bytes| self.draft.size_bytes > *bytes) else {
            return take(ReadJob { file: self, part: None });
        };
        // The last one may be empty, and goes on to wherever the file ends by then.
        let count = (self.draft.size_bytes / part_bytes) as usize + 1;
        let whole = WholeFile::new(count, part_bytes);
        let part = |number| Some(FilePart { whole: whole.clone(), number });
        (0..count).try_for_each(|number| take(ReadJob { file: self.clone(), part: part(number) }))
    }
}

impl FilePart {
    fn start(&self) -> u64 {
        self.whole.part_bytes * self.number as u64
    }

    fn is_last(&self) -> bool {
        self.number + 1 == self.whole.part_count
    }
}

impl ReadJob {
    /// Another part of the file could not be read.
    fn is_lost(&self) -> bool {
        self.part.as_ref().is_some_and(|part| part.whole.state().has_failed)
    }

    /// True the first time that reading fails: a file fails once, however many of its parts do.
    fn fails(&self) -> bool {
        self.part.as_ref().is_none_or(|part| !std::mem::replace(&mut part.whole.state().has_failed, true))
    }
}

/// A file that is read in parts.
pub(super) struct WholeFile {
    part_bytes: u64,
    part_count: usize,
    state: Mutex<WholeState>,
}

struct WholeState {
    /// The pieces of each part that is done.
    parts: Vec<Option<Vec<(ObjectId, u64)>>>,
    missing_count: usize,
    has_failed: bool,
}

impl WholeFile {
    fn new(part_count: usize, part_bytes: u64) -> Arc<Self> {
        let state = WholeState { parts: vec![None; part_count], missing_count: part_count, has_failed: false };
        Arc::new(Self { part_bytes, part_count, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, WholeState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a part; the last one gives the pieces of the file.
    fn part_done(&self, number: usize, pieces: Vec<(ObjectId, u64)>) -> Option<Vec<(ObjectId, u64)>> {
        let mut state = self.state();
        state.parts[number] = Some(pieces);
        state.missing_count -= 1;
        if state.missing_count > 0 || state.has_failed {
            return None;
        }
        let mut parts: Vec<_> = std::mem::take(&mut state.parts).into_iter().flatten().collect();
        let bytes = |part: &[(ObjectId, u64)]| part.iter().map(|(_, length)| length).sum::<u64>();
        // A file that has shrunk ends with its first short part, whose piece may be empty.
        if let Some(end) = parts.iter().position(|part| bytes(part) < self.part_bytes) {
            let after = parts.split_off(end + 1);
            parts.extend(after.into_iter().filter(|part| bytes(part) > 0));
        }
        Some(parts.concat())
    }
}

/// One piece of one file.
pub(super) struct Chunk {
    pub(super) file: Arc<FileInProgress>,
    /// Which piece of the file, from 0.
    pub(super) number: usize,
    parts: Vec<Part>,
}

/// Bytes of a piece in one segment, which other pieces may share.
struct Part {
    segment: Arc<Buffer>,
    range: Range<usize>,
}

impl Chunk {
    /// Its bytes, in order.
    pub(super) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.parts.iter().map(|part| &part.segment[part.range.clone()])
    }

    /// The bytes of a part of it; none of one behind the last.
    pub(super) fn part(&self, number: usize) -> &[u8] {
        self.parts.get(number).map_or(&[], |part| &part.segment[part.range.clone()])
    }

    /// Its bytes, if they lie in one segment.
    pub(super) fn whole(&self) -> Option<&[u8]> {
        (self.parts.len() < 2).then(|| self.part(0))
    }

    pub(super) fn length_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.range.len() as u64).sum()
    }
}

/// A file some of whose pieces are still on their way.
pub(super) struct FileInProgress {
    directory: DirectoryNumber,
    pub(super) compression: Option<Algorithm>,
    /// The file that this is a part of, and which part.
    part_of: Option<FilePart>,
    state: Mutex<FileState>,
}

struct FileState {
    draft: Option<Entry>,
    pieces: Vec<Option<(ObjectId, u64)>>,
    done: usize,
    /// Known when the file has been read to its end.
    total: Option<usize>,
}

impl FileInProgress {
    fn new(job: &ReadJob) -> Arc<Self> {
        let ReadJob { file: job, part } = job;
        Arc::new(Self {
            directory: job.directory,
            compression: job.compression,
            part_of: part.clone(),
            state: Mutex::new(FileState { draft: Some(job.draft.clone()), pieces: Vec::new(), done: 0, total: None }),
        })
    }

    /// Notes a piece; the last one gives the finished file.
    pub(super) fn piece_done(&self, number: usize, object: ObjectId, length_bytes: u64) -> Option<Finished> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.pieces.len() <= number {
            state.pieces.resize(number + 1, None);
        }
        state.pieces[number] = Some((object, length_bytes));
        state.done += 1;
        self.finished(&mut state)
    }

    /// Notes that the file has been read to its end in so many pieces.
    fn all_read(&self, total: usize) -> Option<Finished> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.total = Some(total);
        self.finished(&mut state)
    }

    fn finished(&self, state: &mut FileState) -> Option<Finished> {
        if state.total != Some(state.done) {
            return None;
        }
        let pieces: Vec<_> = std::mem::take(&mut state.pieces).into_iter().flatten().collect();
        let draft = state.draft.take()?;
        let pieces = match &self.part_of {
            None => pieces,
            Some(part) => part.whole.part_done(part.number, pieces)?,
        };
        Some(Finished::File { directory: self.directory, draft, pieces })
    }
}

pub(super) fn run(
    files: &Receiver<ReadJob>,
    to_hash: &Sender<Vec<Chunk>>,
    to_tree: &Sender<Finished>,
    splitter: split::Algorithm,
    memory: &Memory,
    run: &Run,
) -> Result<(), BackupError> {
    let segments = &memory.segments;
    let filling = Filling { segments, to_hash, buffer: None, ended: Vec::new(), piece: Vec::new(), piece_start: 0 };
    let mut reader = Reader { to_tree, splitter, filling, large_files: &memory.large_files, run };
    while let Some(job) = reader.next(files)? {
        if run.cancel.is_cancelled() {
            return Err(BackupError::Interrupted);
        }
        reader.file(job)?;
    }
    Ok(())
}

/// What was a file when its directory was listed may be something else by now, whose bytes are none or never end. Another
/// file is no name of the one that was listed.
fn still_a_file(fd: OwnedFd, draft: &mut Entry) -> io::Result<OwnedFd> {
    let stat = fstat(&fd)?;
    if let Some(side) = &mut draft.side
        && side.hard_link.is_some_and(|link| link.inode != stat.st_ino)
    {
        side.hard_link = None;
    }
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(fd),
        _ => Err(io::Error::other("it was a file when its directory was listed, and is none any more")),
    }
}

/// What files are read into.
pub(super) struct Memory {
    pub(super) segments: Pool,
    /// Large files that may be read at the same time: each holds up to a longest piece of memory that nobody can hash yet.
    large_files: Turns,
}

impl Memory {
    /// Segments of `bytes` in all, or as many more as it takes for readers to go on always: a longest piece for each large
    /// file, which may begin and end inside a segment, one for each small file, and one to ask for.
    pub(super) fn new(bytes: usize, threads: usize, splitter: split::Algorithm) -> Self {
        let large_files = threads;
        let least = large_files * (splitter.max_piece_bytes() / SEGMENT_BYTES + 2) + threads + 1;
        let count = (bytes / SEGMENT_BYTES).max(least);
        Self { segments: Pool::new(count, SEGMENT_BYTES), large_files: Turns::new(large_files) }
    }
}

/// The segment that is being filled, and the pieces in it. A full one is handed on with the pieces that end in it.
struct Filling<'a> {
    segments: &'a Pool,
    to_hash: &'a Sender<Vec<Chunk>>,
    buffer: Option<Buffer>,
    /// Pieces that end in this segment: what of them lies in it is not among their parts yet.
    ended: Vec<(Chunk, Range<usize>)>,
    /// Parts of the piece that has not ended, in earlier segments.
    piece: Vec<Part>,
    /// Where in this segment it begins or goes on.
    piece_start: usize,
}

impl Filling<'_> {
    fn buffer(&mut self) -> &mut Buffer {
        self.buffer.get_or_insert_with(|| match self.segments.try_take() {
            Some(buffer) => buffer,
            None => {
                // Whoever waits for more to hash must not: memory comes back only by hashing what there is. Should nobody
                // listen any more, the next piece finds out.
                let _ = self.to_hash.send(Vec::new());
                self.segments.take()
            }
        })
    }

    fn room_bytes(&self) -> usize {
        SEGMENT_BYTES - self.buffer.as_ref().map_or(0, |buffer| buffer.len())
    }

    /// A piece ends at `end` in this segment, the next one begins there.
    fn end_piece(&mut self, file: &Arc<FileInProgress>, number: usize, end: usize) {
        let chunk = Chunk { file: file.clone(), number, parts: std::mem::take(&mut self.piece) };
        self.ended.push((chunk, self.piece_start..end));
        self.piece_start = end;
    }

    /// Forgets the piece that has not ended.
    fn drop_piece(&mut self) {
        self.piece.clear();
        let start = self.piece_start;
        if let Some(buffer) = &mut self.buffer {
            buffer.truncate(start);
        }
    }

    /// Hands the segment on.
    fn send(&mut self) -> Result<(), BackupError> {
        let Some(buffer) = self.buffer.take() else { return Ok(()) };
        let segment = Arc::new(buffer);
        let part = |range: Range<usize>| Part { segment: segment.clone(), range };
        let rest = std::mem::take(&mut self.piece_start)..segment.len();
        if !rest.is_empty() {
            self.piece.push(part(rest));
        }
        let mut chunks = Vec::with_capacity(self.ended.len());
        for (mut chunk, range) in self.ended.drain(..) {
            if !range.is_empty() {
                chunk.parts.push(part(range));
            }
            chunks.push(chunk);
        }
        match chunks.is_empty() {
            true => Ok(()),
            false => self.to_hash.send(chunks).map_err(|_| Stopped.into()),
        }
    }
}

struct Reader<'a> {
    to_tree: &'a Sender<Finished>,
    splitter: split::Algorithm,
    filling: Filling<'a>,
    large_files: &'a Turns,
    run: &'a Run,
}

impl Reader<'_> {
    /// The next file. What has been read is sent on rather than kept waiting.
    fn next(&mut self, files: &Receiver<ReadJob>) -> Result<Option<ReadJob>, BackupError> {
        if let Ok(job) = files.try_recv() {
            return Ok(Some(job));
        }
        self.filling.send()?;
        Ok(files.recv().ok())
    }

    fn file(&mut self, mut read_job: ReadJob) -> Result<(), BackupError> {
        if read_job.is_lost() {
            return Ok(());
        }
        let ReadJob { file: job, part } = &mut read_job;
        let is_whole = part.is_none();
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let open = |parent: Arc<OwnedFd>| Ok(openat(&*parent, job.name.as_c_str(), flags, Mode::empty())?);
        let opened = job.parent.open().and_then(open);
        let small_below = SEGMENT_BYTES.min(self.splitter.min_piece_bytes()) as u64;
        let opened = opened.and_then(|fd| still_a_file(fd, &mut job.draft));
        let is_small = is_whole && job.draft.size_bytes < small_below;
        let read = match opened {
            Ok(file) if is_small => self.small(&read_job, file.into(), small_below)?,
            Ok(file) => self.large(&read_job, file.into())?,
            Err(error) => Err(error),
        };
        match read {
            Ok(()) => Ok(()),
            Err(error) => {
                self.filling.drop_piece();
                if !read_job.fails() {
                    return Ok(());
                }
                self.run.meter.add(Counter::Errors, 1);
                let ReadJob { file: FileJob { path, directory, ignore_errors, .. }, .. } = read_job;
                let failed = FailedEntry { path, error: error.to_string() };
                let message = match ignore_errors {
                    true => Finished::Ignored { directory, failed },
                    false => Finished::Failed { directory, failed },
                };
                self.to_tree.send(message).map_err(|_| Stopped.into())
            }
        }
    }

    /// Reads a file that fits a segment and has no cut inside; one that has grown meanwhile goes the way of the large ones.
    fn small(&mut self, job: &ReadJob, mut file: File, below: u64) -> Result<io::Result<()>, BackupError> {
        if self.filling.room_bytes() as u64 <= job.file.draft.size_bytes {
            self.filling.send()?;
        }
        let limit = below.min(self.filling.room_bytes() as u64);
        let buffer = self.filling.buffer();
        let read = match (&mut file).take(limit).read_to_end(buffer) {
            Ok(read) => read as u64,
            Err(error) => return Ok(Err(error)),
        };
        if read == limit {
            self.filling.drop_piece();
            return match file.rewind() {
                Ok(()) => self.large(job, file),
                Err(error) => Ok(Err(error)),
            };
        }
        let end = buffer.len();
        self.run.meter.add(Counter::BytesRead, read);
        let in_progress = FileInProgress::new(job);
        in_progress.all_read(1);
        self.filling.end_piece(&in_progress, 0, end);
        Ok(Ok(()))
    }

    /// Reads and cuts a file of any size, or one part of it. The inner result is the file's, the outer one the run's.
    fn large(&mut self, job: &ReadJob, file: File) -> Result<io::Result<()>, BackupError> {
        // Whoever waits for a turn keeps no memory from the one who has it.
        self.filling.send()?;
        let _turn = self.large_files.take();
        let in_progress = FileInProgress::new(job);
        let mut splitter = Splitter::new(self.splitter);
        let part_bytes = job.part.as_ref().map_or(u64::MAX, |part| part.whole.part_bytes);
        let (start, is_last) = job.part.as_ref().map_or((0, true), |part| (part.start(), part.is_last()));
        let mut file = match HoleReader::open(file, start) {
            Ok(file) => file,
            Err(error) => return Ok(Err(error)),
        };
        let mut part_left = part_bytes;
        // Of the piece that has not ended.
        let mut piece_is_empty = true;
        let mut number = 0;
        loop {
            if self.run.cancel.is_cancelled() {
                return Err(BackupError::Interrupted);
            }
            if self.filling.room_bytes() == 0 {
                self.filling.send()?;
            }
            let wanted = (self.filling.room_bytes() as u64).min(part_left);
            let buffer = self.filling.buffer();
            let mut from = buffer.len();
            let (read, from_disk) = match file.read(wanted, buffer) {
                Ok(read) => read,
                Err(error) => return Ok(Err(error)),
            };
            self.run.meter.add(Counter::BytesRead, from_disk);
            part_left -= read;
            piece_is_empty &= read == 0;
            while let Some(cut) = splitter.next_cut(&self.filling.buffer()[from..]) {
                from += cut;
                self.filling.end_piece(&in_progress, number, from);
                number += 1;
                piece_is_empty = from == self.filling.buffer().len();
            }
            let part_ended = part_left == 0;
            let file_ended = read < wanted;
            if part_ended || file_ended {
                // An empty remainder is a piece only of an empty part: of an empty file, or after a whole number of parts.
                let part_was_empty = part_left == part_bytes;
                if !piece_is_empty || part_was_empty {
                    let end = self.filling.buffer().len();
                    self.filling.end_piece(&in_progress, number, end);
                    number += 1;
                    piece_is_empty = true;
                }
            }
            if file_ended || (part_ended && !is_last) {
                break;
            }
            if part_ended {
                splitter.reset();
                part_left = part_bytes;
            }
        }
        self.filling.send()?;
        if let Some(finished) = in_progress.all_read(number) {
            self.to_tree.send(finished).map_err(|_| Stopped)?;
        }
        Ok(Ok(()))
    }
}

#[cfg(test)]
mod tests;
