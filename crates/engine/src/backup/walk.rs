//! A directory and everything below it as entries; those of one directory in one stable order, directories by several threads.
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
use repository::{DataId, DirectorySide, Entry, EntryKind, FailedEntry, HardLink, Side, Special, Xattr};
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
use crate::listing::{self, BadRules, Chosen, Listed, Location, MTIME_SECONDS, Opened, join, mtime, names};
use crate::meter::Counter;
use crate::run::Run;
use crate::shortfall::{Shortfall, ShortfallKind};
use crate::xattr::Place;

/// Unchanged files in one message to the tree: a message costs as much as several files.
const UNCHANGED_TOLD_AT_ONCE: usize = 32;

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
struct Here<'a> {
    number: DirectoryNumber,
    fd: Arc<OwnedFd>,
    folder: Arc<Folder>,
    path: &'a str,
    policy: &'a Arc<Policy>,
    rules: Rules,
    earlier: Earlier,
    /// Unchanged files that the tree has not been told of.
    unchanged: Vec<Entry>,
}

impl Walk<'_> {
    /// Where the walk begins. The threads that walk share it.
    pub(super) fn frontier(source: &Source, parents: &[Arc<Parent>]) -> Frontier<Pending> {
        Frontier::new(Pending {
            place: Location::Open(source.directory.clone()),
            path: String::new(),
            parent: None,
            draft: source.draft.clone(),
            policy: source.policy.clone(),
            rules: source.rules.clone(),
            earlier: parents.iter().map(|parent| parent.root.clone()).collect(),
            stat: source.stat,
        })
    }

    /// Walks until nothing is left, beside other threads that do the same.
    pub(super) fn run(mut self, frontier: &Frontier<Pending>) -> Result<(), BackupError> {
        frontier.work(|pending| match &self.source.single_file {
            Some(raw) => self.single_file(raw.clone(), &pending.earlier),
            None => self.directory(pending),
        })
    }

    fn single_file(&mut self, raw: CString, roots: &[Entry]) -> Result<Vec<Pending>, BackupError> {
        let failed = |source: io::Error| BackupError::Source { path: self.source.path.clone(), source };
        let folder = self.source.directory.clone();
        let fd = folder.open().map_err(failed)?;
        let (stat, draft) = (&self.source.stat, self.source.draft.clone());
        let raw_name = (raw.as_bytes() != draft.name.as_bytes()).then(|| raw.as_bytes().to_vec());
        let found = self.found(Place::In(fd.as_fd(), &raw), stat, "", &draft.name)?;
        let side = side(raw_name, found, self.side.hard_link(stat));
        let draft = Entry { side, ..draft };
        let number = self.announce(None, draft.clone(), DirectorySide::default(), 1, &self.source.policy)?;
        let mut here = Here {
            number,
            fd,
            folder,
            path: "",
            policy: &self.source.policy,
            rules: self.source.rules.clone(),
            earlier: Earlier::of_files(roots),
            unchanged: Vec::new(),
        };
        self.file(&mut here, raw, draft)?;
        self.tell_unchanged(&mut here)?;
        Ok(Vec::new())
    }

    fn announce(
        &self,
        parent: Option<DirectoryNumber>,
        draft: Entry,
        side: DirectorySide,
        entry_count: usize,
        policy: &Policy,
    ) -> Result<DirectoryNumber, BackupError> {
        let number = self.next_directory.fetch_add(1, Ordering::Relaxed);
        let metadata_compression = policy.metadata_compression;
        self.tell(Finished::Directory { number, parent, draft, side, entry_count, metadata_compression })?;
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

    /// Walks one directory; gives the directories below it.
    fn directory(&mut self, pending: Pending) -> Result<Vec<Pending>, BackupError> {
        if self.run.cancel.is_cancelled() {
            return Err(BackupError::Interrupted);
        }
        let Pending { place, path, parent, draft, policy, rules, earlier, stat } = pending;
        let policy = self.source.policies_below.get(&path).cloned().unwrap_or(policy);
        let (Opened { fd, folder }, listed) = match listing::open_and_list(place) {
            Ok(listed) => listed,
            Err(source) => {
                let Some(parent) = parent else {
                    return Err(BackupError::Source { path: self.source.path.clone(), source });
                };
                self.run.meter.add(Counter::Errors, 1);
                let failed = FailedEntry { path, error: source.to_string() };
                self.tell(if policy.errors.ignore_directory_errors {
                    Finished::Ignored { directory: parent, failed }
                } else {
                    Finished::Failed { directory: parent, failed }
                })?;
                return Ok(Vec::new());
            }
        };
        let Chosen { entries, specials, rules } = listing::choose(&fd, listed, &path, &policy, rules, stat.st_dev)
            .map_err(|BadRules { path, source }| BackupError::Ignore { path, source })?;
        let now = self.session.repository().clock().now();
        let look = self.bare.look(&path, entries.iter().chain(&specials), now);
        let is_bare = look.as_ref().is_some_and(|look| self.bare.knows(look));
        self.side.begin_directory(is_bare);
        let side = DirectorySide {
            xattrs: self.found(Place::Open(fd.as_fd()), &stat, &path, ".")?,
            specials: self.specials(&fd, &path, specials)?,
            ..DirectorySide::default()
        };
        let number = self.announce(parent, draft, side, entries.len(), &policy)?;
        let earlier = Earlier::read(self.session.repository(), &earlier, self.run)?;
        let (path, policy) = (path.as_str(), &policy);
        let mut here = Here { number, fd, folder, path, policy, rules, earlier, unchanged: Vec::new() };
        let mut below = Vec::new();
        for entry in entries {
            below.extend(self.entry(&mut here, entry)?);
        }
        self.tell_unchanged(&mut here)?;
        if let Some(look) = look.filter(|_| self.side.has_found_nothing() && !is_bare) {
            self.bare.remember(&look);
        }
        Ok(below)
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

    fn entry(&mut self, here: &mut Here<'_>, listed: Listed) -> Result<Option<Pending>, BackupError> {
        let raw_name = listed.raw_name();
        let Listed { raw, name, stat, file_type } = listed;
        if file_type == FileType::Directory {
            return Ok(Some(Pending {
                place: Location::In { parent: here.folder.clone(), name: raw.clone() },
                path: join(here.path, &name),
                parent: Some(here.number),
                earlier: here.earlier.named(raw.as_bytes()).cloned().collect(),
                draft: Entry { side: side(raw_name, Vec::new(), None), ..draft(name, EntryKind::Directory, &stat) },
                policy: here.policy.clone(),
                rules: here.rules.clone(),
                stat,
            }));
        }
        let kind = if file_type == FileType::Symlink { EntryKind::Symlink } else { EntryKind::File };
        let xattrs = self.found(Place::In(here.fd.as_fd(), &raw), &stat, here.path, &name)?;
        let draft = Entry { side: side(raw_name, xattrs, self.side.hard_link(&stat)), ..draft(name, kind, &stat) };
        match kind {
            EntryKind::Symlink => self.symlink(here, &raw, draft)?,
            EntryKind::File | EntryKind::Directory => self.file(here, raw, draft)?,
        }
        Ok(None)
    }

    fn symlink(&self, here: &Here<'_>, raw: &CStr, draft: Entry) -> Result<(), BackupError> {
        self.tell(match readlinkat(&*here.fd, raw, Vec::new()) {
            Ok(target) => {
                let target = target.into_bytes();
                let size_bytes = target.len() as u64;
                Finished::Symlink { directory: here.number, draft: Entry { size_bytes, ..draft }, target }
            }
            Err(error) => {
                self.run.meter.add(Counter::Errors, 1);
                Finished::Failed { directory: here.number, failed: here.failed(&draft.name, error.to_string()) }
            }
        })
    }

    fn tell_unchanged(&self, here: &mut Here<'_>) -> Result<(), BackupError> {
        match std::mem::take(&mut here.unchanged) {
            none if none.is_empty() => Ok(()),
            entries => self.tell(Finished::Unchanged { directory: here.number, entries }),
        }
    }

    fn file(&self, here: &mut Here<'_>, raw: CString, draft: Entry) -> Result<(), BackupError> {
        self.run.meter.add(Counter::FilesFound, 1);
        self.run.meter.add(Counter::BytesFound, draft.size_bytes);
        if let Some(data) = here.earlier.unchanged(&draft, self.session, self.run)? {
            here.unchanged.push(Entry { data, ..draft });
            if here.unchanged.len() == UNCHANGED_TOLD_AT_ONCE {
                self.tell_unchanged(here)?;
            }
            return Ok(());
        }
        let job = FileJob {
            directory: here.number,
            parent: here.folder.clone(),
            name: raw,
            path: join(here.path, &draft.name),
            compression: here.policy.compression.for_file(&draft.name, draft.size_bytes),
            parts_bytes: here.policy.parallel_upload_above_bytes,
            ignore_errors: here.policy.errors.ignore_file_errors,
            draft,
        };
        job.split(|job| self.to_chunk.send(job).map_err(|_| Stopped.into()))
    }
}

impl Here<'_> {
    fn failed(&self, name: &str, error: String) -> FailedEntry {
        FailedEntry { path: join(self.path, name), error }
    }
}

/// Nothing when there is nothing to say.
fn side(raw_name: Option<Vec<u8>>, xattrs: Vec<Xattr>, hard_link: Option<HardLink>) -> Option<Box<Side>> {
    let is_empty = raw_name.is_none() && xattrs.is_empty() && hard_link.is_none();
    (!is_empty).then(|| Box::new(Side { raw_name, xattrs, hard_link, unknown: Vec::new() }))
}
