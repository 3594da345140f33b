//! A directory and everything below it as entries, in one stable order.
//!
//! Directories are opened relative to their parents and links are never followed, so what is renamed or replaced during the
//! walk cannot lead out of the source. An error belongs to its entry and does not stop the walk; only the root must be
//! readable.

use std::collections::{BTreeMap, HashSet};
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use codec::split;
use jiff::Timestamp;
use repository::{DataId, Entry, EntryKind, FailedEntry};
use repository_kopia::{CACHEDIR_TAG_SIGNATURE, Policy, Repository, Rules, Session, parse_dot_ignore};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, open, openat, readlinkat, statat};

use super::BackupError;
use super::chunk::FileJob;
use super::reuse::{Earlier, Parent};
use super::tree::{DirectoryNumber, Finished};
use crate::lane::{Sender, Stopped};
use crate::meter::Counter;
use crate::run::Run;

/// A dot-ignore file is read up to this size in bytes.
const DOT_IGNORE_BYTES_MAX: u64 = 1 << 20;
/// Name of the file that marks a cache directory.
const CACHEDIR_TAG: &str = "CACHEDIR.TAG";

/// What is backed up.
pub(super) struct Source {
    path: PathBuf,
    /// The root directory, or the directory of the single file.
    directory: Arc<OwnedFd>,
    draft: Entry,
    device: u64,
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
            Some(name) => name.to_string_lossy().into_owned(),
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
            directory: Arc::new(fd),
            draft: draft(name, kind, &stat),
            device: stat.st_dev,
            single_file,
            policy: Arc::new(policy),
            policies_below: policies_below.into_iter().map(|(path, policy)| (path, Arc::new(policy))).collect(),
            rules,
        })
    }

    pub(super) fn is_single_file(&self) -> bool {
        self.single_file.is_some()
    }

    /// How files are cut: as the root's policy says, or the repository.
    pub(super) fn splitter(&self, repository: &Repository) -> split::Algorithm {
        self.policy.splitter.unwrap_or_else(|| repository.splitter())
    }
}

fn raw_name(path: &Path) -> io::Result<CString> {
    use std::os::unix::ffi::OsStrExt as _;
    let name = path.file_name().unwrap_or_default();
    CString::new(name.as_bytes()).map_err(io::Error::other)
}

/// An entry as the file system describes it; its data comes later.
fn draft(name: String, kind: EntryKind, stat: &Stat) -> Entry {
    let mtime = Timestamp::new(stat.st_mtime, stat.st_mtime_nsec as i32).unwrap_or(Timestamp::UNIX_EPOCH);
    Entry {
        name,
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime,
        size_bytes: if kind == EntryKind::Directory { 0 } else { u64::try_from(stat.st_size).unwrap_or(0) },
        data: DataId::new(""),
        summary: None,
    }
}

/// The walk and what it feeds.
pub(super) struct Walk<'a> {
    pub(super) source: &'a Source,
    pub(super) session: &'a Session<'a>,
    pub(super) run: &'a Run,
    pub(super) to_chunk: Sender<FileJob>,
    pub(super) to_tree: Sender<Finished>,
    pub(super) next_directory: &'a AtomicU64,
}

/// A directory still to be listed.
struct Pending {
    /// Where it is opened; the root is open already.
    place: Place,
    /// Relative to the root, `""` for the root itself.
    path: String,
    parent: Option<DirectoryNumber>,
    draft: Entry,
    policy: Arc<Policy>,
    rules: Rules,
    earlier: Vec<Entry>,
    device: u64,
}

enum Place {
    Open(Arc<OwnedFd>),
    In { parent: Arc<OwnedFd>, name: CString },
}

/// One listed name.
struct Listed {
    raw: CString,
    name: String,
    stat: Stat,
    file_type: FileType,
}

/// A directory being walked.
struct Here<'a> {
    number: DirectoryNumber,
    fd: Arc<OwnedFd>,
    path: &'a str,
    policy: &'a Arc<Policy>,
    rules: Rules,
    earlier: Earlier,
}

impl Walk<'_> {
    pub(super) fn run(&self, parents: &[Arc<Parent>]) -> Result<(), BackupError> {
        let roots: Vec<&Entry> = parents.iter().map(|parent| &parent.root).collect();
        if let Some(raw) = &self.source.single_file {
            return self.single_file(raw.clone(), &roots);
        }
        let mut pending = vec![Pending {
            place: Place::Open(self.source.directory.clone()),
            path: String::new(),
            parent: None,
            draft: self.source.draft.clone(),
            policy: self.source.policy.clone(),
            rules: self.source.rules.clone(),
            earlier: roots.into_iter().cloned().collect(),
            device: self.source.device,
        }];
        while let Some(next) = pending.pop() {
            let mut below = self.directory(next)?;
            below.reverse();
            pending.append(&mut below);
        }
        Ok(())
    }

    fn single_file(&self, raw: CString, roots: &[&Entry]) -> Result<(), BackupError> {
        let draft = self.source.draft.clone();
        let number = self.announce(None, draft.clone(), 1, &self.source.policy)?;
        let here = Here {
            number,
            fd: self.source.directory.clone(),
            path: "",
            policy: &self.source.policy,
            rules: self.source.rules.clone(),
            earlier: Earlier::of_files(roots),
        };
        self.file(&here, raw, draft)
    }

    fn announce(
        &self,
        parent: Option<DirectoryNumber>,
        draft: Entry,
        entry_count: usize,
        policy: &Policy,
    ) -> Result<DirectoryNumber, BackupError> {
        let number = self.next_directory.fetch_add(1, Ordering::Relaxed);
        let metadata_compression = policy.metadata_compression;
        self.tell(Finished::Directory { number, parent, draft, entry_count, metadata_compression })?;
        Ok(number)
    }

    fn tell(&self, message: Finished) -> Result<(), BackupError> {
        self.to_tree.send(message).map_err(|_| Stopped.into())
    }

    /// Walks one directory; gives the directories below it.
    fn directory(&self, pending: Pending) -> Result<Vec<Pending>, BackupError> {
        if self.run.cancel.is_cancelled() {
            return Err(BackupError::Interrupted);
        }
        let Pending { place, path, parent, draft, policy, rules, earlier, device } = pending;
        let policy = self.source.policies_below.get(&path).cloned().unwrap_or(policy);
        let (fd, listed) = match open_and_list(place) {
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
        let rules = dot_ignore_rules(&fd, &listed, &path, &policy, rules)?;
        let is_cache = policy.files.ignore_cache_dirs && is_cache_directory(&fd, &listed);
        let entries = if is_cache { Vec::new() } else { self.choose(listed, &path, &policy, &rules, device)? };
        let number = self.announce(parent, draft, entries.len(), &policy)?;
        let earlier_entries: Vec<&Entry> = earlier.iter().collect();
        let earlier = Earlier::read(self.session.repository(), &earlier_entries, self.run)?;
        let here = Here { number, fd, path: &path, policy: &policy, rules, earlier };
        let mut below = Vec::new();
        let mut names = HashSet::new();
        for entry in entries {
            if !names.insert(entry.name.clone()) {
                let error = "its name becomes that of another entry when written as UTF-8".to_owned();
                self.tell(Finished::Failed { directory: number, failed: here.failed(&entry.name, error) })?;
                continue;
            }
            below.extend(self.entry(&here, entry)?);
        }
        Ok(below)
    }

    /// Leaves out what rules exclude and what the format cannot hold.
    fn choose(
        &self,
        listed: Vec<Listed>,
        path: &str,
        policy: &Policy,
        rules: &Rules,
        device: u64,
    ) -> Result<Vec<Listed>, BackupError> {
        let mut chosen = Vec::with_capacity(listed.len());
        for entry in listed {
            let entry_path = join(path, &entry.name);
            let is_directory = entry.file_type == FileType::Directory;
            let too_large = policy.files.max_file_bytes.is_some_and(|limit| entry.stat.st_size as u64 > limit);
            let elsewhere = policy.files.one_file_system && entry.stat.st_dev != device;
            if rules.is_ignored(&format!("/{entry_path}"), is_directory) || too_large || elsewhere {
                continue;
            }
            let is_known = matches!(entry.file_type, FileType::Directory | FileType::RegularFile | FileType::Symlink);
            if !is_known {
                let error = format!("Kopia's format cannot hold a {}", kind_name(entry.file_type));
                self.tell(Finished::Limited { failed: FailedEntry { path: entry_path.clone(), error } })?;
                if policy.errors.ignore_unknown_types {
                    continue;
                }
            }
            if entry.raw.to_str().is_err() {
                let error = "Kopia's format cannot hold a name that is not UTF-8: some of it was replaced".to_owned();
                self.tell(Finished::Limited { failed: FailedEntry { path: entry_path, error } })?;
            }
            chosen.push(entry);
        }
        Ok(chosen)
    }

    fn entry(&self, here: &Here<'_>, listed: Listed) -> Result<Option<Pending>, BackupError> {
        let Listed { raw, name, stat, file_type } = listed;
        match file_type {
            FileType::Directory => {
                let path = join(here.path, &name);
                Ok(Some(Pending {
                    place: Place::In { parent: here.fd.clone(), name: raw },
                    path,
                    parent: Some(here.number),
                    earlier: here.earlier.named(&name).into_iter().cloned().collect(),
                    draft: draft(name, EntryKind::Directory, &stat),
                    policy: here.policy.clone(),
                    rules: here.rules.clone(),
                    device: stat.st_dev,
                }))
            }
            FileType::RegularFile => {
                self.file(here, raw, draft(name, EntryKind::File, &stat))?;
                Ok(None)
            }
            FileType::Symlink => {
                let message = match readlinkat(&*here.fd, raw.as_c_str(), Vec::new()) {
                    Ok(target) => {
                        let target = target.into_bytes();
                        let draft = draft(name, EntryKind::Symlink, &stat);
                        let size_bytes = target.len() as u64;
                        Finished::Symlink { directory: here.number, draft: Entry { size_bytes, ..draft }, target }
                    }
                    Err(error) => {
                        self.run.meter.add(Counter::Errors, 1);
                        Finished::Failed { directory: here.number, failed: here.failed(&name, error.to_string()) }
                    }
                };
                self.tell(message)?;
                Ok(None)
            }
            other => {
                let error = format!("Kopia's format cannot hold a {}", kind_name(other));
                self.tell(Finished::Failed { directory: here.number, failed: here.failed(&name, error) })?;
                Ok(None)
            }
        }
    }

    fn file(&self, here: &Here<'_>, raw: CString, draft: Entry) -> Result<(), BackupError> {
        self.run.meter.add(Counter::FilesFound, 1);
        self.run.meter.add(Counter::BytesFound, draft.size_bytes);
        if let Some(data) = here.earlier.unchanged(&draft, self.session, self.run)? {
            return self.tell(Finished::Unchanged { directory: here.number, entry: Entry { data, ..draft } });
        }
        let job = FileJob {
            directory: here.number,
            parent: here.fd.clone(),
            name: raw,
            path: join(here.path, &draft.name),
            compression: here.policy.compression.for_file(&draft.name, draft.size_bytes),
            parts_bytes: here.policy.parallel_upload_above_bytes,
            ignore_errors: here.policy.errors.ignore_file_errors,
            draft,
        };
        self.to_chunk.send(job).map_err(|_| Stopped.into())
    }
}

impl Here<'_> {
    fn failed(&self, name: &str, error: String) -> FailedEntry {
        FailedEntry { path: join(self.path, name), error }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") }
}

fn kind_name(file_type: FileType) -> &'static str {
    match file_type {
        FileType::Fifo => "named pipe",
        FileType::Socket => "socket",
        FileType::CharacterDevice | FileType::BlockDevice => "device",
        _ => "file of unknown kind",
    }
}

fn open_and_list(place: Place) -> io::Result<(Arc<OwnedFd>, Vec<Listed>)> {
    let fd = match place {
        Place::Open(fd) => fd,
        Place::In { parent, name } => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            Arc::new(openat(&*parent, name.as_c_str(), flags, Mode::empty())?)
        }
    };
    let mut listed = Vec::new();
    for entry in Dir::read_from(&*fd)? {
        let entry = entry?;
        let raw = entry.file_name().to_owned();
        if matches!(raw.as_bytes(), b"." | b"..") {
            continue;
        }
        let stat = match statat(&*fd, raw.as_c_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // It was removed between the two calls: it is not part of the directory any more.
            Err(rustix::io::Errno::NOENT) => continue,
            Err(error) => return Err(error.into()),
        };
        let name = raw.to_string_lossy().into_owned();
        listed.push(Listed { raw, name, file_type: FileType::from_raw_mode(stat.st_mode), stat });
    }
    listed.sort_by(|a, b| a.raw.cmp(&b.raw));
    Ok((fd, listed))
}

/// The rules below a directory: those from above, then those of its own dot-ignore files.
fn dot_ignore_rules(
    fd: &OwnedFd,
    listed: &[Listed],
    path: &str,
    policy: &Policy,
    rules: Rules,
) -> Result<Rules, BackupError> {
    let mut rules = rules;
    for name in &policy.files.ignore_dot_files {
        if !listed.iter().any(|entry| entry.name == *name) {
            continue;
        }
        let Ok(text) = read_small(fd, name, DOT_IGNORE_BYTES_MAX) else { continue };
        let text = String::from_utf8_lossy(&text);
        let base = if path.is_empty() { String::new() } else { format!("/{path}") };
        rules = rules
            .child(&base, parse_dot_ignore(&text))
            .map_err(|source| BackupError::Ignore { path: format!("/{path}"), source })?;
    }
    Ok(rules)
}

fn is_cache_directory(fd: &OwnedFd, listed: &[Listed]) -> bool {
    let has_tag = listed.iter().any(|entry| entry.name == CACHEDIR_TAG && entry.file_type == FileType::RegularFile);
    has_tag
        && read_small(fd, CACHEDIR_TAG, CACHEDIR_TAG_SIGNATURE.len() as u64)
            .is_ok_and(|bytes| bytes == CACHEDIR_TAG_SIGNATURE)
}

fn read_small(directory: &OwnedFd, name: &str, bytes_max: u64) -> io::Result<Vec<u8>> {
    let fd = openat(directory, name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&fd)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    File::from(fd).take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}
