//! A directory and everything below it as entries; those of one directory in the order of a stored listing, directories by
//! several threads.
//!
//! Of a directory the names are kept while it is gone through; what the system says of them is asked some names at a time.
//!
//! Directories are opened relative to their parents and links are never followed, so what is renamed or replaced during the
//! walk cannot lead out of the source. An error belongs to its entry and does not stop the walk; only the root must be
//! readable.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use codec::split;
use repository::{DataId, Entry, EntryKind, FailedEntry, HardLink, Side, Special, Xattr};
use repository_kopia::{Policy, Repository, Rules, Session};
use rustix::fs::{FileType, Mode, OFlags, Stat, open, readlinkat};

use super::BackupError;
use super::bare::BareDirectories;
use super::chunk::{FileJob, ReadJob};
use super::reuse::{Earlier, Parent};
use super::side::{FileSystems, Found, SideReader};
use super::tree::{DirectoryNumber, Finished};
use crate::lane::{Frontier, Sender, Stopped};
use crate::listing::folder::Folder;
use crate::listing::{
    self, BadRules, Chosen, Exclusions, Listed, Location, MTIME_SECONDS, Opened, Reading, Unanswered, join, mtime,
    names,
};
use crate::meter::Counter;
use crate::run::Run;
use crate::shortfall::{Shortfall, ShortfallKind};
use crate::xattr::Place;

/// Unchanged files in one message to the tree: a message costs as much as several files.
const UNCHANGED_TOLD_AT_ONCE: usize = 32;
/// Directories of one directory that wait at the same time, about. The others are found when these are done.
const BELOW_AT_ONCE: usize = 1024;

/// What is backed up.
pub(super) struct Source {
    path: PathBuf,
    /// The root directory, or the directory of the single file.
    directory: Arc<Folder>,
    draft: Entry,
    stat: Stat,
    /// Raw name of the single file in its directory.
    single_file: Option<CString>,
    policy: Arc<Policy>,
    /// Policies of directories below the root, by relative path.
    policies_below: BTreeMap<String, Arc<Policy>>,
    rules: Rules,
}

impl Source {
    pub(super) fn open(
        path: &Path,
        policy: Policy,
        policies_below: BTreeMap<String, Policy>,
    ) -> Result<Self, BackupError> {
        let failed = |source: io::Error| BackupError::Source { path: path.to_owned(), source };
        // A link as the source is followed once; its target gives the name.
        let resolved = path.canonicalize().map_err(failed)?;
        let name = match resolved.file_name() {
            Some(name) => names::as_text(name.as_bytes()),
            None => "/".to_owned(),
        };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let stat = rustix::fs::stat(&resolved).map_err(|error| failed(error.into()))?;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => EntryKind::Directory,
            FileType::RegularFile => EntryKind::File,
            _ => return Err(BackupError::SourceKind { path: path.to_owned() }),
        };
        let is_file = kind == EntryKind::File;
        let directory = if is_file { resolved.parent().unwrap_or(Path::new("/")) } else { &resolved };
        let fd = open(directory, flags | OFlags::DIRECTORY, Mode::empty()).map_err(|error| failed(error.into()))?;
        let single_file = is_file.then(|| raw_name(&resolved)).transpose().map_err(failed)?;
        let rules =
            Rules::root(&policy.files.ignore).map_err(|source| BackupError::Ignore { path: "/".to_owned(), source })?;
        Ok(Self {
            path: path.to_owned(),
            directory: Folder::root(fd),
            draft: draft(name, kind, &stat),
            stat,
            single_file,
            policy: Arc::new(policy),
            policies_below: policies_below.into_iter().map(|(path, policy)| (path, Arc::new(policy))).collect(),
            rules,
        })
    }

    pub(super) fn is_single_file(&self) -> bool {
        self.single_file.is_some()
    }

    /// The table in which all threads that walk number file systems.
    pub(super) fn file_systems(&self) -> FileSystems {
        FileSystems::new(self.stat.st_dev)
    }

    /// Whether any policy asks for compression.
    pub(super) fn compresses(&self) -> bool {
        std::iter::once(&self.policy).chain(self.policies_below.values()).any(|policy| policy.compression.is_on())
    }

    /// How files are cut: as the root's policy says, or the repository.
    pub(super) fn splitter(&self, repository: &Repository) -> split::Algorithm {
        self.policy.splitter.unwrap_or_else(|| repository.splitter())
    }
}

fn raw_name(path: &Path) -> io::Result<CString> {
    let name = path.file_name().unwrap_or_default();
    CString::new(name.as_bytes()).map_err(io::Error::other)
}

/// An entry as the file system describes it; its data and its side record come later.
fn draft(name: String, kind: EntryKind, stat: &Stat) -> Entry {
    Entry {
        name,
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: mtime(stat),
        size_bytes: if kind == EntryKind::Directory { 0 } else { u64::try_from(stat.st_size).unwrap_or(0) },
        data: DataId::new(""),
        summary: None,
        side: None,
    }
}

/// The walk and what it feeds.
pub(super) struct Walk<'a> {
    pub(super) source: &'a Source,
    pub(super) session: &'a Session<'a>,
    pub(super) run: &'a Run,
    pub(super) to_chunk: Sender<ReadJob>,
    pub(super) to_tree: Sender<Finished>,
    pub(super) next_directory: &'a AtomicU64,
    pub(super) side: SideReader,
    pub(super) bare: BareDirectories,
}

/// Something still to be walked.
pub(super) enum Step<'a> {
    Directory(Box<Pending>),
    /// The rest of a directory with many others in it.
    Rest(Box<Here<'a>>),
}

/// A directory still to be listed.
pub(super) struct Pending {
    /// Where it is opened; the root is open already.
    place: Location,
    /// Relative to the root, `""` for the root itself.
    path: String,
    parent: Option<DirectoryNumber>,
    draft: Entry,
    policy: Arc<Policy>,
    rules: Rules,
    earlier: Vec<Entry>,
    stat: Stat,
}

/// A directory being walked.
pub(super) struct Here<'a> {
    inside: Inside<'a>,
    reading: Reading,
    exclusions: Exclusions,
    device: u64,
    /// How many parts of it were walked.
    part_count: u32,
    /// What was left for its attributes when the walk went elsewhere.
    side_bytes_left: usize,
}

/// What entries of a directory have in common.
struct Inside<'a> {
    number: DirectoryNumber,
    folder: Arc<Folder>,
    path: String,
    policy: Arc<Policy>,
    earlier: Earlier<'a>,
    /// Unchanged files that the tree has not been told of.
    unchanged: Vec<Entry>,
}

impl<'a> Walk<'a> {
    /// Where the walk begins. The threads that walk share it.
    pub(super) fn frontier(source: &Source, parents: &[Arc<Parent>]) -> Frontier<Step<'a>> {
        Frontier::new(Step::Directory(Box::new(Pending {
            place: Location::Open(source.directory.clone()),
            path: String::new(),
            parent: None,
            draft: source.draft.clone(),
            policy: source.policy.clone(),
            rules: source.rules.clone(),
            earlier: parents.iter().map(|parent| parent.root.clone()).collect(),
            stat: source.stat,
        })))
    }

    /// Walks until nothing is left, beside other threads that do the same.
    pub(super) fn run(mut self, frontier: &Frontier<Step<'a>>) -> Result<(), BackupError> {
        frontier.work(|step| {
            if self.run.cancel.is_cancelled() {
                return Err(BackupError::Interrupted);
            }
            match (step, &self.source.single_file) {
                (Step::Directory(pending), Some(raw)) => self.single_file(raw.clone(), &pending.earlier),
                (Step::Directory(pending), None) => self.directory(*pending),
                (Step::Rest(here), _) => self.rest(here),
            }
        })
    }

    fn single_file(&mut self, raw: CString, roots: &[Entry]) -> Result<Vec<Step<'a>>, BackupError> {
        let failed = |source: io::Error| BackupError::Source { path: self.source.path.clone(), source };
        let folder = self.source.directory.clone();
        let fd = folder.open().map_err(failed)?;
        let (stat, draft) = (&self.source.stat, self.source.draft.clone());
        let raw_name = (raw.as_bytes() != draft.name.as_bytes()).then(|| raw.as_bytes().to_vec());
        let found = self.found(Place::In(fd.as_fd(), &raw), stat, "", &draft.name)?;
        let side = side(raw_name, found, self.side.hard_link(stat));
        let draft = Entry { side, ..draft };
        let number = self.announce(None, draft.clone(), Vec::new(), &self.source.policy)?;
        self.tell(Finished::Listed { directory: number, entry_count: 1, specials: Vec::new(), is_last: true })?;
        let mut inside = Inside {
            number,
            folder,
            path: String::new(),
            policy: self.source.policy.clone(),
            earlier: Earlier::of_files(roots),
            unchanged: Vec::new(),
        };
        self.file(&mut inside, raw, draft)?;
        self.tell_unchanged(&mut inside)?;
        Ok(Vec::new())
    }

    fn announce(
        &self,
        parent: Option<DirectoryNumber>,
        draft: Entry,
        xattrs: Vec<Xattr>,
        policy: &Policy,
    ) -> Result<DirectoryNumber, BackupError> {
        let number = self.next_directory.fetch_add(1, Ordering::Relaxed);
        let metadata_compression = policy.metadata_compression;
        self.tell(Finished::Directory { number, parent, draft, xattrs, metadata_compression })?;
        Ok(number)
    }

    fn tell(&self, message: Finished) -> Result<(), BackupError> {
        self.to_tree.send(message).map_err(|_| Stopped.into())
    }

    /// Something of the entry `name` in the directory `path` is not kept.
    fn falls_short(&self, kind: ShortfallKind, path: &str, name: &str, reason: String) -> Result<(), BackupError> {
        let path = if name == "." && !path.is_empty() { path.to_owned() } else { join(path, name) };
        self.tell(Finished::Short(Shortfall { kind, path, reason }))
    }

    /// What an entry has beside its fields; what of that cannot be kept is told.
    fn found(&mut self, place: Place<'_>, stat: &Stat, path: &str, name: &str) -> Result<Vec<Xattr>, BackupError> {
        if !MTIME_SECONDS.contains(&stat.st_mtime) {
            let reason = format!("{} seconds since 1970 is written as {}", stat.st_mtime, mtime(stat));
            self.falls_short(ShortfallKind::Time, path, name, reason)?;
        }
        let Found { xattrs, missing } = self.side.xattrs(place, stat.st_dev);
        if let Some(reason) = missing {
            self.falls_short(ShortfallKind::Attributes, path, name, reason)?;
        }
        Ok(xattrs)
    }

    /// Begins to walk a directory; gives what is to be walked next.
    fn directory(&mut self, pending: Pending) -> Result<Vec<Step<'a>>, BackupError> {
        let Pending { place, path, parent, draft, policy, rules, earlier, stat } = pending;
        let policy = self.source.policies_below.get(&path).cloned().unwrap_or(policy);
        let device = stat.st_dev;
        let mut reading = match Reading::open(place) {
            Ok(reading) => reading,
            Err(error) => return self.unreadable(parent, path, &policy, error),
        };
        let exclusions = reading
            .exclusions(&path, &policy, rules)
            .map_err(|BadRules { path, source }| BackupError::Ignore { path, source })?;
        let first = match reading.first(&path, &policy, &exclusions, device) {
            Ok(first) => first,
            Err(error) => return self.unreadable(parent, path, &policy, error),
        };
        self.side.begin_directory();
        let xattrs = self.found(Place::Open(reading.opened.fd.as_fd()), &stat, &path, ".")?;
        let number = self.announce(parent, draft, xattrs, &policy)?;
        let earlier = Earlier::of_directories(self.session.repository(), &earlier);
        let folder = reading.opened.folder.clone();
        let inside = Inside { number, folder, path, policy, earlier, unchanged: Vec::new() };
        let mut here = Box::new(Here { inside, reading, exclusions, device, part_count: 0, side_bytes_left: 0 });
        let mut below = Vec::new();
        self.part(&mut here, first, &mut below)?;
        self.parts(here, below)
    }

    fn rest(&mut self, here: Box<Here<'a>>) -> Result<Vec<Step<'a>>, BackupError> {
        self.side.go_on(here.side_bytes_left);
        self.parts(here, Vec::new())
    }

    /// Walks on while there are not too many directories below.
    fn parts(&mut self, mut here: Box<Here<'a>>, mut below: Vec<Step<'a>>) -> Result<Vec<Step<'a>>, BackupError> {
        while !here.reading.is_finished() {
            if below.len() >= BELOW_AT_ONCE {
                here.side_bytes_left = self.side.directory_bytes_left();
                below.push(Step::Rest(here));
                break;
            }
            if self.run.cancel.is_cancelled() {
                return Err(BackupError::Interrupted);
            }
            let Here { inside, reading, exclusions, device, .. } = &mut *here;
            let chosen = reading.more(&inside.path, &inside.policy, exclusions, *device);
            self.part(&mut here, chosen, &mut below)?;
        }
        Ok(below)
    }

    /// The directory itself cannot be listed.
    fn unreadable(
        &self,
        parent: Option<DirectoryNumber>,
        path: String,
        policy: &Policy,
        source: io::Error,
    ) -> Result<Vec<Step<'a>>, BackupError> {
        let Some(parent) = parent else {
            return Err(BackupError::Source { path: self.source.path.clone(), source });
        };
        let failed = FailedEntry { path, error: source.to_string() };
        self.failed(parent, failed, policy.errors.ignore_directory_errors)?;
        Ok(Vec::new())
    }

    fn failed(&self, directory: DirectoryNumber, failed: FailedEntry, is_ignored: bool) -> Result<(), BackupError> {
        self.run.meter.add(Counter::Errors, 1);
        self.tell(match is_ignored {
            true => Finished::Ignored { directory, failed },
            false => Finished::Failed { directory, failed },
        })
    }

    /// Walks some names of a directory.
    fn part(&mut self, here: &mut Here<'a>, chosen: Chosen, below: &mut Vec<Step<'a>>) -> Result<(), BackupError> {
        let Chosen { entries, specials, failed } = chosen;
        let Here { inside, reading, exclusions, part_count, .. } = here;
        let now = self.session.repository().clock().now();
        let look = self.bare.look(&inside.path, *part_count, entries.iter().chain(&specials), now);
        *part_count += 1;
        let is_bare = look.as_ref().is_some_and(|look| self.bare.knows(look));
        self.side.begin_names(is_bare);
        let fd = &reading.opened.fd;
        let specials = self.specials(fd, &inside.path, specials)?;
        let (entry_count, is_last) = (entries.len() + failed.len(), reading.is_finished());
        self.tell(Finished::Listed { directory: inside.number, entry_count, specials, is_last })?;
        for Unanswered { name, is_directory, error } in failed {
            let failed = FailedEntry { path: join(&inside.path, &name), error: error.to_string() };
            let errors = &inside.policy.errors;
            let is_ignored = if is_directory { errors.ignore_directory_errors } else { errors.ignore_file_errors };
            self.failed(inside.number, failed, is_ignored)?;
        }
        for entry in entries {
            let pending = self.entry(inside, &reading.opened, &exclusions.rules, entry)?;
            below.extend(pending.map(|pending| Step::Directory(Box::new(pending))));
        }
        self.tell_unchanged(inside)?;
        if let Some(look) = look.filter(|_| self.side.has_found_nothing() && !is_bare) {
            self.bare.remember(&look);
        }
        Ok(())
    }

    fn specials(&mut self, fd: &OwnedFd, path: &str, listed: Vec<Listed>) -> Result<Vec<Special>, BackupError> {
        let mut specials = Vec::with_capacity(listed.len());
        for entry in listed {
            let Some(kind) = listing::special_kind(&entry) else {
                let reason = "a kind of entry that is not known, and not stored".to_owned();
                self.falls_short(ShortfallKind::Special, path, &entry.name, reason)?;
                continue;
            };
            specials.push(Special {
                kind,
                mode: entry.stat.st_mode & 0o7777,
                uid: entry.stat.st_uid,
                gid: entry.stat.st_gid,
                mtime: mtime(&entry.stat),
                xattrs: self.found(Place::In(fd.as_fd(), &entry.raw), &entry.stat, path, &entry.name)?,
                hard_link: self.side.hard_link(&entry.stat),
                name: entry.raw.into_bytes(),
            });
        }
        Ok(specials)
    }

    fn entry(
        &mut self,
        inside: &mut Inside<'_>,
        opened: &Opened,
        rules: &Rules,
        listed: Listed,
    ) -> Result<Option<Pending>, BackupError> {
        let raw_name = listed.raw_name();
        let Listed { raw, name, stat, file_type } = listed;
        if file_type == FileType::Directory {
            let path = join(&inside.path, &name);
            let draft = Entry { side: side(raw_name, Vec::new(), None), ..draft(name, EntryKind::Directory, &stat) };
            return Ok(Some(Pending {
                place: Location::In { parent: inside.folder.clone(), name: raw },
                path,
                parent: Some(inside.number),
                earlier: inside.earlier.named(&draft, self.run)?,
                draft,
                policy: inside.policy.clone(),
                rules: rules.clone(),
                stat,
            }));
        }
        let kind = if file_type == FileType::Symlink { EntryKind::Symlink } else { EntryKind::File };
        let xattrs = self.found(Place::In(opened.fd.as_fd(), &raw), &stat, &inside.path, &name)?;
        let draft = Entry { side: side(raw_name, xattrs, self.side.hard_link(&stat)), ..draft(name, kind, &stat) };
        match kind {
            EntryKind::Symlink => self.symlink(inside, opened, &raw, draft)?,
            EntryKind::File | EntryKind::Directory => self.file(inside, raw, draft)?,
        }
        Ok(None)
    }

    fn symlink(&self, inside: &Inside<'_>, opened: &Opened, raw: &CStr, draft: Entry) -> Result<(), BackupError> {
        match readlinkat(&*opened.fd, raw, Vec::new()) {
            Ok(target) => {
                let target = target.into_bytes();
                let size_bytes = target.len() as u64;
                self.tell(Finished::Symlink { directory: inside.number, draft: Entry { size_bytes, ..draft }, target })
            }
            Err(error) => {
                let failed = FailedEntry { path: join(&inside.path, &draft.name), error: error.to_string() };
                self.failed(inside.number, failed, false)
            }
        }
    }

    fn tell_unchanged(&self, inside: &mut Inside<'_>) -> Result<(), BackupError> {
        match std::mem::take(&mut inside.unchanged) {
            none if none.is_empty() => Ok(()),
            entries => self.tell(Finished::Unchanged { directory: inside.number, entries }),
        }
    }

    fn file(&self, inside: &mut Inside<'_>, raw: CString, draft: Entry) -> Result<(), BackupError> {
        self.run.meter.add(Counter::FilesFound, 1);
        self.run.meter.add(Counter::BytesFound, draft.size_bytes);
        if let Some(data) = inside.earlier.unchanged(&draft, self.session, self.run)? {
            inside.unchanged.push(Entry { data, ..draft });
            if inside.unchanged.len() == UNCHANGED_TOLD_AT_ONCE {
                self.tell_unchanged(inside)?;
            }
            return Ok(());
        }
        let job = FileJob {
            directory: inside.number,
            parent: inside.folder.clone(),
            name: raw,
            path: join(&inside.path, &draft.name),
            compression: inside.policy.compression.for_file(&draft.name, draft.size_bytes),
            parts_bytes: inside.policy.parallel_upload_above_bytes,
            ignore_errors: inside.policy.errors.ignore_file_errors,
            draft,
        };
        job.split(|job| self.to_chunk.send(job).map_err(|_| Stopped.into()))
    }
}

/// Nothing when there is nothing to say.
fn side(raw_name: Option<Vec<u8>>, xattrs: Vec<Xattr>, hard_link: Option<HardLink>) -> Option<Box<Side>> {
    let is_empty = raw_name.is_none() && xattrs.is_empty() && hard_link.is_none();
    (!is_empty).then(|| Box::new(Side { raw_name, xattrs, hard_link, unknown: Vec::new() }))
}
