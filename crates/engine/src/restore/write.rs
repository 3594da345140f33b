//! Contents → files, links and, when everything in them is done, directories.
//!
//! A file of one piece is made, filled and given its attributes in one go. A larger one is made at its full length by the
//! plan; its pieces come in any order and from several threads, and whoever writes the last one gives it its attributes.
//! Whole blocks of zeros are not written: a new file has them.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use repository::{Entry, EntryKind, Xattr};
use repository_kopia::{ContentError, Piece, Unsealed};
use rustix::fs::{Advice, AtFlags};
use rustix::io::Errno;
use storage::Class;

use super::Context;
use super::attributes::{Attributes, OwnerGiven};
use super::error::RestoreError;
use super::links::Waiting;
use super::ranges::Wanted;
use super::tally::{Problem, Tally};
use super::target::{self, Folder, Handles};
use super::xattrs::{Giver, NotGiven};
use crate::meter::Counter;
use crate::shortfall::{Shortfall, ShortfallKind};
use crate::xattr;

/// Holes begin and end at multiples of this, the page and block size of common file systems.
const BLOCK_BYTES: usize = 4096;
/// Shorter pieces are written as they are, in bytes: a hole in them saves nothing worth two calls.
const SPARSE_BYTES_MIN: usize = 64 << 10;

/// A file or link on its way.
#[derive(Debug)]
pub(crate) struct FileTask {
    pub(crate) folder: Arc<Folder>,
    pub(crate) name: Vec<u8>,
    pub(crate) attributes: Attributes,
    xattrs: Vec<Xattr>,
    waiting: Waiting,
    pub(crate) size_bytes: u64,
    /// All of it is one piece, and nothing of it is there yet.
    pub(crate) is_whole: bool,
    remaining: AtomicUsize,
    problem: OnceLock<Problem>,
}

impl FileTask {
    /// Its folder is not done before it is.
    pub(crate) fn new(
        folder: &Arc<Folder>,
        entry: &Entry,
        is_whole: bool,
        piece_count: usize,
        waiting: Waiting,
    ) -> Arc<Self> {
        folder.hold();
        Arc::new(Self {
            folder: Arc::clone(folder),
            name: entry.raw_name().to_vec(),
            attributes: Attributes::from(entry),
            xattrs: entry.xattrs().to_vec(),
            waiting,
            size_bytes: entry.size_bytes,
            is_whole,
            remaining: AtomicUsize::new(piece_count),
            problem: OnceLock::new(),
        })
    }
}

/// Where a content belongs.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) task: Arc<FileTask>,
    pub(crate) offset: u64,
    pub(crate) length_bytes: u64,
}

/// One thread's hand on the target.
pub(crate) struct Writer<'a> {
    pub(crate) context: &'a Context<'a>,
    pub(crate) handles: Handles,
    giver: Giver,
    /// The large file written to last.
    open: Option<(Arc<FileTask>, File)>,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(context: &'a Context<'a>) -> Self {
        Self { context, handles: Handles::new(&context.root), giver: Giver::new(), open: None }
    }

    /// Writes a content to every place that wants it.
    pub(crate) fn take(
        &mut self,
        wanted: Wanted<Place>,
        content: Result<Unsealed<'_>, ContentError>,
    ) -> Result<(), RestoreError> {
        let Wanted { content: id, compressed, places, .. } = wanted;
        let bytes = match content {
            Ok(content) => {
                let piece = Piece { content: id, compressed, offset: 0, length_bytes: None };
                self.context.repository.open_piece(&piece, content.bytes).map_err(Problem::damaged)
            }
            Err(error) => Err(entry_problem(error)?),
        };
        for place in places {
            if self.context.run.cancel.is_cancelled() {
                return Err(RestoreError::Interrupted);
            }
            let written = match &bytes {
                Ok(bytes) if bytes.len() as u64 != place.length_bytes => Err(Problem::damaged(format!(
                    "content {id} has {} bytes where the snapshot wants {}",
                    bytes.len(),
                    place.length_bytes
                ))),
                Ok(bytes) => self.write(&place, bytes),
                Err(problem) => Err(problem.clone()),
            };
            self.piece_done(&place.task, written)?;
        }
        Ok(())
    }

    /// One piece of a file is written, or never will be.
    pub(crate) fn piece_done(
        &mut self,
        task: &Arc<FileTask>,
        written: Result<(), Problem>,
    ) -> Result<(), RestoreError> {
        if let Err(problem) = written {
            self.context.stop_if_it_concerns_all(&task.folder, &task.name, &problem)?;
            // The first problem of a file is the one to report.
            let _ = task.problem.set(problem);
        }
        if task.remaining.fetch_sub(1, Ordering::AcqRel) == 1 { self.finish(task) } else { Ok(()) }
    }

    fn write(&mut self, place: &Place, bytes: &[u8]) -> Result<(), Problem> {
        let task = &place.task;
        match (task.attributes.kind, task.is_whole) {
            (EntryKind::Symlink, _) => self.write_link(task, bytes),
            (EntryKind::File, true) => self.write_whole(task, bytes),
            (EntryKind::File, false) if task.problem.get().is_some() => Ok(()),
            (EntryKind::File, false) => self.write_piece(task, place.offset, bytes),
            (EntryKind::Directory, _) => Err(Problem::damaged("a directory is no file")),
        }
    }

    fn write_link(&mut self, task: &FileTask, to: &[u8]) -> Result<(), Problem> {
        let directory = self.handles.get(&task.folder)?;
        target::create_link(&*directory, &task.name, to)?;
        self.give_by_name(&task.attributes, &task.xattrs, &task.folder, &task.name)
    }

    /// Makes a file of these bytes, with its attributes.
    pub(crate) fn write_whole(&mut self, task: &FileTask, bytes: &[u8]) -> Result<(), Problem> {
        let directory = self.handles.get(&task.folder)?;
        let file = target::create_file(&*directory, &task.name, self.context.verify)?;
        let filled = if bytes.len() < SPARSE_BYTES_MIN {
            file.write_all_at(bytes, 0).map_err(of_io("write"))
        } else {
            set_length(&file, bytes.len() as u64).and_then(|()| write_around_holes(&file, 0, bytes))
        };
        if let Err(problem) = filled.and_then(|()| self.read_back(&file, 0, bytes)) {
            let _ = rustix::fs::unlinkat(&*directory, task.name.as_slice(), AtFlags::empty());
            return Err(problem);
        }
        self.give_attributes(task, &file)
    }

    /// Makes a large file at its full length, all of it one hole.
    pub(crate) fn create_large(&mut self, task: &Arc<FileTask>) -> Result<(), Problem> {
        let directory = self.handles.get(&task.folder)?;
        let file = target::create_file(&*directory, &task.name, self.context.verify)?;
        set_length(&file, task.size_bytes)
    }

    fn write_piece(&mut self, task: &Arc<FileTask>, offset: u64, bytes: &[u8]) -> Result<(), Problem> {
        let file = self.file_of(task)?;
        write_around_holes(&file, offset, bytes)?;
        self.read_back(&file, offset, bytes)?;
        self.open = Some((Arc::clone(task), file));
        self.context.run.meter.add(Counter::BytesDone, bytes.len() as u64);
        Ok(())
    }

    fn file_of(&mut self, task: &Arc<FileTask>) -> Result<File, Problem> {
        match self.open.take() {
            Some((open, file)) if Arc::ptr_eq(&open, task) => Ok(file),
            _ => {
                let directory = self.handles.get(&task.folder)?;
                target::open_file(&*directory, &task.name, self.context.verify)
            }
        }
    }

    /// From the disk, as far as the system can be brought to: the pages are written and dropped first.
    fn read_back(&self, file: &File, offset: u64, bytes: &[u8]) -> Result<(), Problem> {
        if !self.context.verify || bytes.is_empty() {
            return Ok(());
        }
        file.sync_data().map_err(of_io("sync"))?;
        let length = std::num::NonZeroU64::new(bytes.len() as u64);
        rustix::fs::fadvise(file, offset, length, Advice::DontNeed).map_err(Problem::target("drop from memory"))?;
        let mut read = vec![0; bytes.len()];
        file.read_exact_at(&mut read, offset).map_err(of_io("read back"))?;
        if read == bytes {
            return Ok(());
        }
        Err(Problem::blocked(format!("{} bytes at {offset} do not read back as they were written", bytes.len())))
    }

    fn give_attributes(&mut self, task: &FileTask, file: &File) -> Result<(), Problem> {
        self.give(file, &task.attributes, &task.xattrs, &task.folder, &task.name)
    }

    /// Gives an open file or directory all that it has beside its data.
    pub(crate) fn give(
        &mut self,
        file: impl AsFd,
        attributes: &Attributes,
        xattrs: &[Xattr],
        folder: &Folder,
        name: &[u8],
    ) -> Result<(), Problem> {
        let (fd, mut not_given) = (file.as_fd(), None);
        let give = || not_given = self.giver.give(xattr::Place::Open(fd), xattrs);
        let given = attributes.apply(fd, self.context.owners, give)?;
        self.context.count_owner(given, folder);
        self.context.attributes_fall_short(not_given, folder, name);
        Ok(())
    }

    /// Gives the same to what cannot be opened.
    pub(crate) fn give_by_name(
        &mut self,
        attributes: &Attributes,
        xattrs: &[Xattr],
        folder: &Folder,
        name: &[u8],
    ) -> Result<(), Problem> {
        let directory = self.handles.get(folder)?;
        let mut not_given = None;
        let give = || not_given = give_named(&mut self.giver, directory.as_fd(), name, xattrs);
        let given = attributes.apply_by_name(&*directory, name, self.context.owners, give)?;
        self.context.count_owner(given, folder);
        self.context.attributes_fall_short(not_given, folder, name);
        Ok(())
    }

    /// Gives extended attributes once more to what an earlier run has finished, so that this one can tell what is missing.
    pub(crate) fn give_again(&mut self, xattrs: &[Xattr], folder: &Folder, name: &[u8]) -> Result<(), Problem> {
        let directory = self.handles.get(folder)?;
        let not_given = give_named(&mut self.giver, directory.as_fd(), name, xattrs);
        self.context.attributes_fall_short(not_given, folder, name);
        Ok(())
    }

    fn finish(&mut self, task: &Arc<FileTask>) -> Result<(), RestoreError> {
        let tally = &self.context.tally;
        let result = match task.problem.get() {
            Some(problem) => Err((problem.clone(), !task.is_whole)),
            None if task.is_whole => Ok(()),
            None => self
                .file_of(task)
                .and_then(|file| self.give_attributes(task, &file))
                .map_err(|problem| (problem, false)),
        };
        match result {
            Ok(()) if task.attributes.kind == EntryKind::Symlink => {
                task.waiting.end();
                Tally::add(&tally.symlink_count, 1);
            }
            Ok(()) => {
                task.waiting.end();
                Tally::add(&tally.file_count, 1);
                Tally::add(&tally.bytes, task.size_bytes);
                self.context.run.meter.add(Counter::FilesDone, 1);
                if task.is_whole {
                    self.context.run.meter.add(Counter::BytesDone, task.size_bytes);
                }
            }
            Err((problem, half_written)) => {
                if half_written {
                    self.remove(task);
                }
                self.context.fail(&task.folder, &task.name, &problem)?;
            }
        }
        self.release(&task.folder)
    }

    /// Nothing half-written stays. What cannot be removed is reported as failed anyway.
    fn remove(&mut self, task: &Arc<FileTask>) {
        self.open.take_if(|(open, _)| Arc::ptr_eq(open, task));
        if let Ok(directory) = self.handles.get(&task.folder) {
            let _ = rustix::fs::unlinkat(&*directory, task.name.as_slice(), AtFlags::empty());
        }
    }

    pub(crate) fn give_folder(&mut self, folder: &Folder, attributes: &Attributes) -> Result<(), Problem> {
        let handle = self.handles.get(folder)?;
        match folder.xattrs.get() {
            Some(xattrs) => self.give(&*handle, attributes, xattrs, folder, b""),
            // It could not be listed, so nobody knows what it had.
            None => attributes
                .apply(handle.as_fd(), self.context.owners, || {})
                .map(|given| self.context.count_owner(given, folder)),
        }
    }

    /// One thing in a folder is done. If that was the last, the folder gets its attributes, and is done in its own folder.
    pub(crate) fn release(&mut self, folder: &Arc<Folder>) -> Result<(), RestoreError> {
        let mut folder = Arc::clone(folder);
        while folder.let_go() {
            if let Some(attributes) = &folder.attributes
                && let Err(problem) = self.give_folder(&folder, attributes)
            {
                self.context.fail(&folder, b"", &problem)?;
            }
            let Some(parent) = folder.parent() else { return Ok(()) };
            folder = Arc::clone(parent);
        }
        Ok(())
    }
}

fn give_named(giver: &mut Giver, directory: BorrowedFd<'_>, name: &[u8], xattrs: &[Xattr]) -> Option<NotGiven> {
    match CString::new(name) {
        Ok(name) => giver.give(xattr::Place::In(directory, &name), xattrs),
        Err(error) => Some(NotGiven { reason: error.to_string(), for_rights: false }),
    }
}

impl Context<'_> {
    fn attributes_fall_short(&self, not_given: Option<NotGiven>, folder: &Folder, name: &[u8]) {
        if let Some(NotGiven { reason, for_rights }) = not_given {
            self.falls_short(ShortfallKind::Attributes, folder, name, reason, for_rights);
        }
    }

    /// The entry `name` of a folder, or the folder itself without a name, is there and not all as it was.
    pub(crate) fn falls_short(
        &self,
        kind: ShortfallKind,
        folder: &Folder,
        name: &[u8],
        reason: String,
        for_rights: bool,
    ) {
        let path = path_of(folder, name);
        self.tally.falls_short(Shortfall { kind, path, reason }, for_rights);
    }

    pub(crate) fn count_owner(&self, given: OwnerGiven, folder: &Folder) {
        match given {
            OwnerGiven::Yes | OwnerGiven::No => {}
            OwnerGiven::Skipped => Tally::add(&self.tally.owners_skipped_count, 1),
            OwnerGiven::Foreign => {
                Tally::add(&self.tally.owners_skipped_count, 1);
                let reason = "owner, mode and times: the directory was there before and belongs to somebody else";
                self.falls_short(ShortfallKind::Attributes, folder, b"", reason.to_owned(), true);
            }
        }
    }

    /// Reports the entry `name` of a folder, or the folder itself without a name; stops the run where all others would fail
    /// in the same way.
    pub(crate) fn fail(&self, folder: &Folder, name: &[u8], problem: &Problem) -> Result<(), RestoreError> {
        self.stop_if_it_concerns_all(folder, name, problem)?;
        self.run.meter.add(Counter::Errors, 1);
        self.tally.fail(path_of(folder, name), problem);
        Ok(())
    }

    pub(crate) fn stop_if_it_concerns_all(
        &self,
        folder: &Folder,
        name: &[u8],
        problem: &Problem,
    ) -> Result<(), RestoreError> {
        match problem.concerning_all() {
            None => Ok(()),
            Some((operation, errno)) => {
                let path = self.target.join(path_of(folder, name));
                Err(RestoreError::Target { operation, path, source: errno.into() })
            }
        }
    }
}

fn path_of(folder: &Folder, name: &[u8]) -> String {
    match name {
        b"" if folder.is_root() => ".".to_owned(),
        b"" => folder.path(),
        name => folder.path_of(name),
    }
}

/// What is wrong with one content concerns the files that want it. What is wrong with the store stops everything.
fn entry_problem(error: ContentError) -> Result<Problem, RestoreError> {
    match &error {
        ContentError::Read { .. } if error.class() != Class::Damaged => Err(RestoreError::ReadContent(error)),
        ContentError::LookUp { .. } => Err(RestoreError::ReadContent(error)),
        ContentError::Unknown { .. }
        | ContentError::Read { .. }
        | ContentError::Damaged { .. }
        | ContentError::Unsupported { .. } => Ok(Problem::from(&error)),
    }
}

fn of_io(operation: &'static str) -> impl Fn(io::Error) -> Problem {
    move |error| match Errno::from_io_error(&error) {
        Some(errno) => Problem::target(operation)(errno),
        None => Problem::blocked(format!("{operation}: {error}")),
    }
}

fn set_length(file: &File, bytes: u64) -> Result<(), Problem> {
    rustix::fs::ftruncate(file, bytes).map_err(Problem::target("set the length"))
}

/// Writes everything but whole blocks of zeros.
fn write_around_holes(file: &File, offset: u64, bytes: &[u8]) -> Result<(), Problem> {
    runs_of_data(offset, bytes)
        .try_for_each(|(start, run)| file.write_all_at(run, offset + start as u64))
        .map_err(of_io("write"))
}

/// The parts of `bytes` that are no whole blocks of zeros, and where in `bytes` they begin. `offset` is where in the file
/// `bytes` begin: blocks are the file's.
fn runs_of_data(offset: u64, bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let to_block = (BLOCK_BYTES - (offset % BLOCK_BYTES as u64) as usize) % BLOCK_BYTES;
    let block_end = move |at: usize| match at < to_block {
        true => to_block.min(bytes.len()),
        false => (at + BLOCK_BYTES).min(bytes.len()),
    };
    let is_hole = move |start: usize, end: usize| end - start == BLOCK_BYTES && is_zero(&bytes[start..end]);
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < bytes.len() && is_hole(at, block_end(at)) {
            at = block_end(at);
        }
        let start = at;
        while at < bytes.len() && !is_hole(at, block_end(at)) {
            at = block_end(at);
        }
        (start < at).then(|| (start, &bytes[start..at]))
    })
}

/// Compares with a shifted self where it must look at all bytes, which the compiler turns into wide comparisons.
fn is_zero(block: &[u8]) -> bool {
    block.first() == Some(&0) && block.last() == Some(&0) && block[1..] == block[..block.len() - 1]
}

#[cfg(test)]
mod tests {
    use super::{BLOCK_BYTES, runs_of_data};

    #[track_caller]
    fn check(offset: u64, pattern: &[(u8, usize)], expected: &[(usize, usize)]) {
        let bytes: Vec<u8> = pattern.iter().flat_map(|(byte, count)| vec![*byte; *count]).collect();
        let runs: Vec<(usize, usize)> = runs_of_data(offset, &bytes).map(|(start, run)| (start, run.len())).collect();
        assert_eq!(runs, expected);
    }

    #[test]
    fn whole_blocks_of_zeros_are_left_out() {
        const B: usize = BLOCK_BYTES;
        check(0, &[], &[]);
        check(0, &[(0, 3 * B)], &[]);
        check(0, &[(1, B), (0, B), (1, 10)], &[(0, B), (2 * B, 10)]);
        check(0, &[(0, 10)], &[(0, 10)]);
        check(0, &[(0, B + 1)], &[(B, 1)]);
        check(10, &[(0, 2 * B)], &[(0, B - 10), (2 * B - 10, 10)]);
        check(B as u64, &[(0, B), (7, 1)], &[(B, 1)]);
        check(1, &[(0, 2)], &[(0, 2)]);
        check(0, &[(0, 1), (1, 1), (0, B - 2)], &[(0, B)]);
    }
}
