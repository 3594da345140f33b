//! Out of a snapshot and into a directory.
//!
//! ```text
//! plan ──▶ fetch ──▶ unseal ──▶ write ──▶ attributes                              ──▶ links
//! │        ranges    decrypt,   at its    owner, extended ones, mode, times; of a     other names of
//! │        of packs  check hash offset    directory when everything in it is done     what is written
//! └─ makes directories, special files and large files, removes what is too much
//! ```
//! Guarantees: nothing outside the target is written, whatever links lie in it; a file has its modification time only when
//! all of it is written; what is damaged in the repository costs the files concerned and no others, and none of them is
//! left half-written. A restore that was stopped goes on where it was, see [`state`].
//!
//! Memory: the ranges under way (`limits.chunks` and `limits.threads` times 8 MiB), for each thread one content in the clear, two windows of
//! the plan (see [`ranges`]), directories that wait and those read ahead (see [`walk`]), and of the directory that is being
//! restored the names (see [`names`]).

mod attributes;
mod error;
pub(crate) mod fetch;
mod links;
mod names;
mod plan;
pub(crate) mod ranges;
mod room;
mod state;
mod tally;
mod target;
pub(crate) mod unseal;
pub(crate) mod walk;
mod write;
mod xattrs;

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use repository::{Entry, EntryKind, FailedEntry, Snapshot};
use repository_kopia::Repository;
use rustix::fs::{CWD, Mode, OFlags};
use storage::Class;

pub use attributes::OwnerMode;
pub use error::RestoreError;
pub(crate) use links::Linked;
pub(crate) use tally::chain;

use crate::lane::{self, Receiver};
use crate::meter::Counter;
use crate::run::Run;
use crate::shortfall::Shortfalls;
use attributes::{Attributes, Owners};
use fetch::{Beside, Budget, Fetched, Fetcher, wait};
use plan::Job;
use ranges::Wanted;
use tally::Tally;
use target::Folder;
use write::{Place, Writer};

/// What to restore, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoreOptions {
    /// One file, link or directory inside the snapshot, by its path relative to the root; everything if not given.
    ///
    /// A directory's content goes into the target. A file goes into the target if that is a directory, else it becomes the
    /// target.
    pub path: Option<String>,
    /// Remove what is in the target and not in the snapshot. Mount points and `lost+found` at the target's root stay.
    pub delete_extra: bool,
    /// Whose the files become.
    pub owners: OwnerMode,
    /// Write every piece to disk, read it back and compare.
    pub verify: bool,
    /// Begin even if the target seems too small: holes are counted as if they were data.
    pub ignore_room: bool,
}

/// What a restore has done. It is complete only if nothing failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoreOutcome {
    /// Regular files that are now as in the snapshot.
    pub file_count: u64,
    /// Directories, the target itself not counted.
    pub directory_count: u64,
    /// Symbolic links.
    pub symlink_count: u64,
    /// Bytes of the files that were written.
    pub bytes: u64,
    /// Files that an earlier run of this restore had finished; they are in `file_count`, their bytes not in `bytes`.
    pub resumed_file_count: u64,
    /// Bytes of those files.
    pub resumed_bytes: u64,
    /// Entries removed because the snapshot lacks them, with everything in them.
    pub deleted_count: u64,
    /// Entries that are the restoring user's, because only root can give them their owner.
    pub owners_skipped_count: u64,
    /// Devices, named pipes and sockets.
    pub special_count: u64,
    /// Bytes of files that are other names of restored ones; the files are in `file_count`, the bytes not in `bytes`.
    pub linked_bytes: u64,
    /// What of the restored entries is not as in the snapshot, and entries that cannot be made here.
    pub shortfalls: Shortfalls,
    /// How many of those are due to who restores: root would have done it.
    pub rightless_count: u64,
    /// Entries that are not as in the snapshot, by path: the first hundred.
    pub failed: Vec<FailedEntry>,
    /// All of them.
    pub failed_count: u64,
    /// Objects of the repository that are damaged or missing, in words: the first hundred.
    pub damaged: Vec<String>,
}

impl RestoreOutcome {
    /// True when everything is as in the snapshot.
    pub fn is_complete(&self) -> bool {
        self.failed_count == 0
    }

    /// What to do about what failed, if anything did.
    pub fn class(&self) -> Option<Class> {
        match (self.failed_count, self.damaged.is_empty()) {
            (0, _) => None,
            (_, false) => Some(Class::Damaged),
            (_, true) => Some(Class::Blocked),
        }
    }
}

/// What all steps of one restore share.
struct Context<'a> {
    repository: &'a Repository,
    run: &'a Run,
    target: PathBuf,
    root: Arc<OwnedFd>,
    owners: Owners,
    verify: bool,
    delete_extra: bool,
    /// An earlier run of the same restore was here.
    resumes: bool,
    tally: Tally,
}

/// Writes a snapshot, or one entry of it, into `target`, which is made if it is not there.
///
/// Existing entries of the same name are replaced; others stay, unless [`RestoreOptions::delete_extra`]. Entries that cannot
/// be restored do not stop the others: they are in the outcome.
///
/// # Errors
/// When the store cannot be reached, the target cannot be written to or is too small, or the run is cancelled.
pub fn restore(
    repository: &Repository,
    snapshot: &Snapshot,
    target: &Path,
    options: &RestoreOptions,
    run: &Run,
) -> Result<RestoreOutcome, RestoreError> {
    let entry = find_entry(repository, snapshot, options, run)?;
    let inside = entry.summary.as_ref();
    run.meter.add(Counter::FilesFound, inside.map_or(1, |summary| summary.file_count));
    run.meter.add(Counter::BytesFound, inside.map_or(entry.size_bytes, |summary| summary.size_bytes));
    let (directory, job) = match entry.kind {
        EntryKind::Directory => (target.to_owned(), Job::Tree(entry)),
        EntryKind::File | EntryKind::Symlink => place_of_single(target, entry),
    };
    let (root, existed) = open_root(&directory)?;
    let mut context = Context {
        repository,
        run,
        target: directory,
        root: Arc::new(root),
        owners: Owners::from(options.owners),
        verify: options.verify,
        delete_extra: options.delete_extra,
        resumes: false,
        tally: Tally::default(),
    };
    match &job {
        Job::Tree(entry) => {
            let path = options.path.as_deref().unwrap_or_default();
            let note = state::text(&repository.unique_id(), snapshot.id.as_str(), &normal_path(path));
            context.resumes = note.as_ref().is_some_and(|note| state::is_there(&*context.root, note));
            check_room(&context, options, entry, true)?;
            context.restore_tree(&job, entry, existed, note.as_deref())?;
        }
        Job::Single(entry) => {
            check_room(&context, options, entry, false)?;
            context.run_steps(&job, Folder::root(true))?;
            context.sync()?;
        }
    }
    Ok(context.outcome())
}

fn check_room(
    context: &Context<'_>,
    options: &RestoreOptions,
    entry: &Entry,
    is_tree: bool,
) -> Result<(), RestoreError> {
    if options.ignore_room { Ok(()) } else { room::check(context, entry, is_tree) }
}

impl Context<'_> {
    fn restore_tree(&self, job: &Job, entry: &Entry, existed: bool, note: Option<&str>) -> Result<(), RestoreError> {
        if let Some(note) = note.filter(|_| !self.resumes) {
            state::write(&*self.root, note).map_err(self.failed("write a note of this restore in"))?;
        }
        let root = Folder::root(existed);
        self.run_steps(job, Arc::clone(&root))?;
        self.sync()?;
        state::remove(&*self.root).map_err(self.failed("remove the note of this restore from"))?;
        if let Err(problem) = Writer::new(self).give_folder(&root, &Attributes::from(entry)) {
            self.fail(&root, b"", &problem)?;
        }
        rustix::fs::fsync(&*self.root).map_err(|errno| self.failed("sync")(errno.into()))
    }

    fn sync(&self) -> Result<(), RestoreError> {
        rustix::fs::syncfs(&*self.root).map_err(|errno| self.failed("sync")(errno.into()))
    }

    fn failed(&self, operation: &'static str) -> impl Fn(std::io::Error) -> RestoreError {
        let path = self.target.clone();
        move |source| RestoreError::Target { operation, path: path.clone(), source }
    }

    fn run_steps(&self, job: &Job, root: Arc<Folder>) -> Result<(), RestoreError> {
        let (fetcher, fetched, budget) = Fetcher::new(self.repository.storage(), self.run, Beside::Nothing);
        let links = lane::scope(|lanes| {
            for _ in 0..self.run.limits.threads.max(1) {
                let (fetched, budget) = (fetched.clone(), Arc::clone(&budget));
                lanes.spawn("unseal and write", move || self.unseal_and_write(&fetched, &budget));
            }
            drop(fetched);
            plan::run(self, job, root, fetcher)
        })?;
        links.finish(self)
    }

    fn unseal_and_write(
        &self,
        fetched: &Receiver<Fetched<Vec<Wanted<Place>>>>,
        budget: &Budget,
    ) -> Result<(), RestoreError> {
        let _closes = budget.closer();
        let mut writer = Writer::new(self);
        fetched.iter().try_for_each(|fetched| {
            unseal::each(self.repository, self.run, fetched, |wanted, content| writer.take(wanted, content))
        })
    }

    fn outcome(&self) -> RestoreOutcome {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let failures = self.tally.failures();
        RestoreOutcome {
            file_count: count(&self.tally.file_count),
            directory_count: count(&self.tally.directory_count),
            symlink_count: count(&self.tally.symlink_count),
            bytes: count(&self.tally.bytes),
            resumed_file_count: count(&self.tally.resumed_file_count),
            resumed_bytes: count(&self.tally.resumed_bytes),
            deleted_count: count(&self.tally.deleted_count),
            owners_skipped_count: count(&self.tally.owners_skipped_count),
            special_count: count(&self.tally.special_count),
            linked_bytes: count(&self.tally.linked_bytes),
            rightless_count: count(&self.tally.rightless_count),
            shortfalls: self.tally.shortfalls(),
            failed: failures.named,
            failed_count: failures.count,
            damaged: failures.damaged,
        }
    }
}

/// `a//b/` and `/a/b` mean `a/b`.
fn normal_path(path: &str) -> String {
    path.split('/').filter(|part| !part.is_empty() && *part != ".").collect::<Vec<_>>().join("/")
}

fn find_entry(
    repository: &Repository,
    snapshot: &Snapshot,
    options: &RestoreOptions,
    run: &Run,
) -> Result<Entry, RestoreError> {
    let mut entry = snapshot.root.clone().ok_or_else(|| RestoreError::NoRoot { snapshot: snapshot.id.clone() })?;
    let path = normal_path(options.path.as_deref().unwrap_or_default());
    let mut above = String::new();
    for name in path.split('/').filter(|name| !name.is_empty()) {
        let missing = || RestoreError::NotInSnapshot { snapshot: snapshot.id.clone(), path: path.clone() };
        if entry.kind != EntryKind::Directory {
            return Err(missing());
        }
        let found = wait(run, repository.entry_named(&entry.data, name))?;
        let found = found.map_err(|source| RestoreError::ReadDirectory { path: above.clone(), source })?;
        entry = found.ok_or_else(missing)?;
        above = if above.is_empty() { name.to_owned() } else { format!("{above}/{name}") };
    }
    Ok(entry)
}

/// The directory that a single file goes into, and the entry under the name it gets there.
fn place_of_single(target: &Path, entry: Entry) -> (PathBuf, Job) {
    if target.is_dir() {
        // The root of a snapshot of one file may be named by a whole path.
        let name = entry.raw_name().rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_vec();
        return (target.to_owned(), Job::Single(named(entry, name)));
    }
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = target.file_name().unwrap_or_default().as_bytes().to_vec();
    (parent.to_owned(), Job::Single(named(entry, name)))
}

fn named(mut entry: Entry, raw_name: Vec<u8>) -> Entry {
    entry.name = String::from_utf8_lossy(&raw_name).into_owned();
    entry.side.get_or_insert_default().raw_name = Some(raw_name);
    entry
}

/// Opens the target, and makes it and what is missing above it. True if it was there before.
fn open_root(target: &Path) -> Result<(OwnedFd, bool), RestoreError> {
    let failed = |operation| move |source| RestoreError::Target { operation, path: target.to_owned(), source };
    let existed = target.is_dir();
    std::fs::create_dir_all(target).map_err(failed("create"))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(CWD, target, flags, Mode::empty());
    Ok((opened.map_err(|errno| failed("open")(errno.into()))?, existed))
}
