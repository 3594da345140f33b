//! Files into chunks: opened, read and cut.
//!
//! Small files share a batch, so that hashing them costs one message and can work on several at once. Large files are cut
//! while they are read, each chunk in a buffer of its own.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use codec::compress::Algorithm;
use codec::split::{self, Splitter};
use repository::{Entry, FailedEntry};
use repository_kopia::ObjectId;
use rustix::fs::{FileType, Mode, OFlags, fstat, openat};

use super::BackupError;
use super::tree::{DirectoryNumber, Finished};
use crate::lane::{Receiver, Sender, Stopped};
use crate::limits::BATCH_BYTES;
use crate::meter::Counter;
use crate::pool::{Buffer, Pool};
use crate::run::Run;

/// Bytes read at once: short enough to stay in the cache while they are cut.
const READ_BYTES: usize = 256 << 10;

/// A file to be read.
pub(super) struct FileJob {
    pub(super) directory: DirectoryNumber,
    /// The directory it is opened in.
    pub(super) parent: Arc<OwnedFd>,
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

/// Chunks on their way to be hashed, in one buffer.
pub(super) struct Batch {
    pub(super) buffer: Buffer,
    pub(super) chunks: Vec<Chunk>,
}

/// One piece of one file.
pub(super) struct Chunk {
    pub(super) file: Arc<FileInProgress>,
    /// Which piece of the file, from 0.
    pub(super) number: usize,
    /// Where in the batch's buffer.
    pub(super) range: Range<usize>,
}

/// A file some of whose pieces are still on their way.
pub(super) struct FileInProgress {
    directory: DirectoryNumber,
    pub(super) compression: Option<Algorithm>,
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
    fn new(job: &FileJob) -> Arc<Self> {
        Arc::new(Self {
            directory: job.directory,
            compression: job.compression,
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
        let pieces = std::mem::take(&mut state.pieces).into_iter().flatten().collect();
        let draft = state.draft.take()?;
        Some(Finished::File { directory: self.directory, draft, pieces })
    }
}

/// Where buffers come from.
#[derive(Clone, Copy)]
pub(super) struct Pools<'a> {
    pub(super) chunks: &'a Pool,
    pub(super) batches: &'a Pool,
}

pub(super) fn run(
    files: &Receiver<FileJob>,
    to_seal: &Sender<Batch>,
    to_tree: &Sender<Finished>,
    splitter: split::Algorithm,
    pools: Pools<'_>,
    run: &Run,
) -> Result<(), BackupError> {
    let mut reader = Reader { to_seal, to_tree, splitter, pools, run, batch: None, carry: Vec::new() };
    while let Some(job) = reader.next(files)? {
        if run.cancel.is_cancelled() {
            return Err(BackupError::Interrupted);
        }
        reader.file(job)?;
    }
    Ok(())
}

/// What was a file when its directory was listed may be something else by now, whose bytes are none or never end.
fn still_a_file(fd: OwnedFd) -> io::Result<OwnedFd> {
    match FileType::from_raw_mode(fstat(&fd)?.st_mode) {
        FileType::RegularFile => Ok(fd),
        _ => Err(io::Error::other("it was a file when its directory was listed, and is none any more")),
    }
}

struct Reader<'a> {
    to_seal: &'a Sender<Batch>,
    to_tree: &'a Sender<Finished>,
    splitter: split::Algorithm,
    pools: Pools<'a>,
    run: &'a Run,
    /// Small files that have been read and not been sent on.
    batch: Option<Batch>,
    /// What was read past a cut.
    carry: Vec<u8>,
}

impl Reader<'_> {
    /// The next file. What has been read is sent on rather than kept waiting.
    fn next(&mut self, files: &Receiver<FileJob>) -> Result<Option<FileJob>, BackupError> {
        if let Ok(job) = files.try_recv() {
            return Ok(Some(job));
        }
        self.send_batch()?;
        Ok(files.recv().ok())
    }

    fn send_batch(&mut self) -> Result<(), BackupError> {
        match self.batch.take() {
            Some(batch) => self.to_seal.send(batch).map_err(|_| Stopped.into()),
            None => Ok(()),
        }
    }

    fn file(&mut self, job: FileJob) -> Result<(), BackupError> {
        let opened = openat(
            &*job.parent,
            job.name.as_c_str(),
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC,
            Mode::empty(),
        );
        let small_below = BATCH_BYTES.min(self.splitter.min_piece_bytes()) as u64;
        let read = match opened.map_err(io::Error::from).and_then(still_a_file) {
            Ok(file) if job.draft.size_bytes < small_below => self.small(&job, file.into(), small_below)?,
            Ok(file) => self.large(&job, file.into())?,
            Err(error) => Err(error),
        };
        match read {
            Ok(()) => Ok(()),
            Err(error) => {
                self.run.meter.add(Counter::Errors, 1);
                let failed = FailedEntry { path: job.path, error: error.to_string() };
                let directory = job.directory;
                let message = match job.ignore_errors {
                    true => Finished::Ignored { directory, failed },
                    false => Finished::Failed { directory, failed },
                };
                self.to_tree.send(message).map_err(|_| Stopped.into())
            }
        }
    }

    /// Reads a file that fits a batch and has no cut inside; one that has grown meanwhile goes the way of the large ones.
    fn small(&mut self, job: &FileJob, mut file: File, below: u64) -> Result<io::Result<()>, BackupError> {
        let wanted = job.draft.size_bytes as usize;
        if self.batch.as_ref().is_some_and(|batch| batch.buffer.len() + wanted > BATCH_BYTES) {
            self.send_batch()?;
        }
        let batch = self.batch.get_or_insert_with(|| Batch { buffer: self.pools.batches.take(), chunks: Vec::new() });
        let start = batch.buffer.len();
        let read = match (&mut file).take(below).read_to_end(&mut batch.buffer) {
            Ok(read) => read as u64,
            Err(error) => {
                batch.buffer.truncate(start);
                return Ok(Err(error));
            }
        };
        if read == below {
            batch.buffer.truncate(start);
            return match file.rewind() {
                Ok(()) => self.large(job, file),
                Err(error) => Ok(Err(error)),
            };
        }
        self.run.meter.add(Counter::BytesRead, read);
        let range = start..batch.buffer.len();
        let in_progress = FileInProgress::new(job);
        in_progress.all_read(1);
        batch.chunks.push(Chunk { file: in_progress, number: 0, range });
        Ok(Ok(()))
    }

    /// Reads and cuts a file of any size. The inner result is the file's, the outer one the run's.
    fn large(&mut self, job: &FileJob, mut file: File) -> Result<io::Result<()>, BackupError> {
        let in_progress = FileInProgress::new(job);
        let mut splitter = Splitter::new(self.splitter);
        let parts_bytes = job.parts_bytes.filter(|bytes| job.draft.size_bytes > *bytes);
        let mut part_left = parts_bytes.unwrap_or(u64::MAX);
        let mut number = 0;
        let mut buffer = self.pools.chunks.take();
        loop {
            if self.run.cancel.is_cancelled() {
                return Err(BackupError::Interrupted);
            }
            let scanned = buffer.len();
            let wanted = (READ_BYTES as u64).min(part_left) as usize;
            let read = match (&mut file).take(wanted as u64).read_to_end(&mut buffer) {
                Ok(read) => read,
                Err(error) => return Ok(Err(error)),
            };
            self.run.meter.add(Counter::BytesRead, read as u64);
            part_left -= read as u64;
            let mut from = scanned;
            while let Some(cut) = splitter.next_cut(&buffer[from..]) {
                // The rest waits outside of the pool: a thread that held one buffer and waited for another could wait for ever.
                let piece_end = from + cut;
                self.carry.clear();
                self.carry.extend_from_slice(&buffer[piece_end..]);
                buffer.truncate(piece_end);
                self.send(&in_progress, number, buffer)?;
                number += 1;
                buffer = self.pools.chunks.take();
                buffer.extend_from_slice(&self.carry);
                from = 0;
            }
            let part_ended = part_left == 0;
            let file_ended = read < wanted;
            if part_ended || file_ended {
                // An empty remainder is a piece only of an empty part: of an empty file, or after a whole number of parts.
                let part_was_empty = part_left == parts_bytes.unwrap_or(u64::MAX);
                if !buffer.is_empty() || part_was_empty {
                    self.send(&in_progress, number, buffer)?;
                    number += 1;
                    buffer = self.pools.chunks.take();
                }
            }
            if file_ended {
                break;
            }
            if part_ended {
                splitter.reset();
                part_left = parts_bytes.unwrap_or(u64::MAX);
            }
        }
        if let Some(finished) = in_progress.all_read(number) {
            self.to_tree.send(finished).map_err(|_| Stopped)?;
        }
        Ok(Ok(()))
    }

    fn send(&self, file: &Arc<FileInProgress>, number: usize, buffer: Buffer) -> Result<(), BackupError> {
        let chunk = Chunk { file: file.clone(), number, range: 0..buffer.len() };
        let batch = Batch { buffer, chunks: vec![chunk] };
        self.to_seal.send(batch).map_err(|_| Stopped.into())
    }
}
