//! What of a directory belongs into a backup: its names with what the system says of each, less what the rules exclude.
//!
//! Directories are opened relative to their parents and links are never followed, so what is renamed or replaced meanwhile
//! cannot lead out of the source.

pub(crate) mod folder;
pub(crate) mod names;

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read as _};
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use folder::Folder;
use jiff::Timestamp;
use names::Names;
use repository::{DeviceNumber, SpecialKind};
use repository_kopia::{CACHEDIR_TAG_SIGNATURE, IgnoreError, Policy, Rules, parse_dot_ignore};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, major, minor, openat, statat};
use rustix::io::Errno;

/// Times between these, in seconds since 1970, can be written so that every program reads them: the years 1 to 9999.
pub(crate) const MTIME_SECONDS: RangeInclusive<i64> = -62_135_596_800..=253_402_207_199;
/// A dot-ignore file is read up to this size in bytes.
const DOT_IGNORE_BYTES_MAX: u64 = 1 << 20;
/// Names that the system is asked about at a time.
const NAMES_AT_ONCE: usize = 1024;
/// Name of the file that marks a cache directory.
const CACHEDIR_TAG: &str = "CACHEDIR.TAG";

/// Where a directory is opened.
pub(crate) enum Location {
    Open(Arc<Folder>),
    In { parent: Arc<Folder>, name: CString },
}

/// One listed name.
pub(crate) struct Listed {
    pub(crate) raw: CString,
    /// As it is written.
    pub(crate) name: String,
    pub(crate) stat: Stat,
    pub(crate) file_type: FileType,
}

impl Listed {
    /// Its attributes are asked for by its name; those of a directory when it is open.
    pub(crate) fn asks_by_name(&self) -> bool {
        self.file_type != FileType::Directory
    }

    fn is_special(&self) -> bool {
        !matches!(self.file_type, FileType::Directory | FileType::RegularFile | FileType::Symlink)
    }

    /// Its bytes where they are not what is written.
    pub(crate) fn raw_name(&self) -> Option<Vec<u8>> {
        let raw = self.raw.as_bytes();
        (raw != self.name.as_bytes()).then(|| raw.to_vec())
    }
}

/// Names that the system was asked about, and what of them belongs into a backup.
#[derive(Default)]
pub(crate) struct Chosen {
    /// Files, directories and links.
    pub(crate) entries: Vec<Listed>,
    /// Everything else.
    pub(crate) specials: Vec<Listed>,
    /// Those of which the system says nothing, and why.
    pub(crate) failed: Vec<Unanswered>,
}

/// A name of which the system says nothing.
pub(crate) struct Unanswered {
    pub(crate) name: String,
    pub(crate) is_directory: bool,
    pub(crate) error: io::Error,
}

/// Rules of a directory that make no sense.
pub(crate) struct BadRules {
    /// The directory, from the root, which is `/`.
    pub(crate) path: String,
    pub(crate) source: IgnoreError,
}

/// A directory that is being worked in, and how it is opened later.
pub(crate) struct Opened {
    pub(crate) fd: Arc<OwnedFd>,
    pub(crate) folder: Arc<Folder>,
}

/// A directory that is gone through, some names at a time, in the order in which its listing is stored.
pub(crate) struct Reading {
    pub(crate) opened: Opened,
    names: Names,
    /// The first name that was not looked at.
    next: usize,
}

/// What is left out of a directory.
pub(crate) struct Exclusions {
    /// Those for what is below it, too.
    pub(crate) rules: Rules,
    /// The directory holds what can be made again, and nothing of it belongs into a backup.
    is_cache: bool,
}

impl Reading {
    /// Opens a directory and reads its names.
    pub(crate) fn open(place: Location) -> io::Result<Self> {
        let (fd, folder) = match place {
            Location::Open(folder) => (folder.open()?, folder),
            Location::In { parent, name } => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = Arc::new(openat(&*parent.open()?, name.as_c_str(), flags, Mode::empty())?);
                let folder = Folder::child(&parent, name, &fd)?;
                (fd, folder)
            }
        };
        let names = Names::read(&fd)?;
        Ok(Self { opened: Opened { fd, folder }, names, next: 0 })
    }

    /// What `rules`, those in the directory itself and the policy exclude. `path` is the directory's, relative to the root.
    pub(crate) fn exclusions(&self, path: &str, policy: &Policy, rules: Rules) -> Result<Exclusions, BadRules> {
        let rules = self.dot_ignore_rules(path, policy, rules)?;
        Ok(Exclusions { rules, is_cache: policy.files.ignore_cache_dirs && self.is_cache_directory() })
    }

    /// True when every name was looked at.
    pub(crate) fn is_finished(&self) -> bool {
        self.next == self.names.len()
    }

    /// Looks at the first names.
    ///
    /// # Errors
    /// When the system says nothing of any of them.
    pub(crate) fn first(
        &mut self,
        path: &str,
        policy: &Policy,
        exclusions: &Exclusions,
        device: u64,
    ) -> io::Result<Chosen> {
        let mut first = self.more(path, policy, exclusions, device);
        let is_without_answers = first.entries.is_empty() && first.specials.is_empty();
        match first.failed.pop_if(|_| is_without_answers) {
            Some(unanswered) => Err(unanswered.error),
            None => Ok(first),
        }
    }

    /// Looks at the next names. What is gone since they were read is not part of the directory any more.
    pub(crate) fn more(&mut self, path: &str, policy: &Policy, exclusions: &Exclusions, device: u64) -> Chosen {
        let mut chosen = Chosen::default();
        if exclusions.is_cache {
            self.next = self.names.len();
        }
        let end = self.names.len().min(self.next + NAMES_AT_ONCE);
        for name in self.names.range(self.next..end) {
            let stat = match statat(&*self.opened.fd, name.raw, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(errno) => {
                    let (name, is_directory) = (name.text.to_owned(), name.is_directory);
                    chosen.failed.push(Unanswered { name, is_directory, error: errno.into() });
                    continue;
                }
            };
            let file_type = FileType::from_raw_mode(stat.st_mode);
            let entry = Listed { raw: name.raw.to_owned(), name: name.text.to_owned(), stat, file_type };
            match is_excluded(&entry, path, policy, &exclusions.rules, device) {
                true => {}
                false if entry.is_special() => chosen.specials.push(entry),
                false => chosen.entries.push(entry),
            }
        }
        self.next = end;
        chosen
    }

    /// The rules below a directory: those from above, then those of its own dot-ignore files.
    fn dot_ignore_rules(&self, path: &str, policy: &Policy, rules: Rules) -> Result<Rules, BadRules> {
        let mut rules = rules;
        for name in policy.files.ignore_dot_files.iter().filter(|name| self.names.has(name)) {
            let Ok(text) = read_small(&self.opened.fd, name, DOT_IGNORE_BYTES_MAX) else { continue };
            let text = String::from_utf8_lossy(&text);
            let base = if path.is_empty() { String::new() } else { format!("/{path}") };
            rules = rules
                .child(&base, parse_dot_ignore(&text))
                .map_err(|source| BadRules { path: format!("/{path}"), source })?;
        }
        Ok(rules)
    }

    fn is_cache_directory(&self) -> bool {
        self.names.has(CACHEDIR_TAG)
            && statat(&*self.opened.fd, CACHEDIR_TAG, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
            && read_small(&self.opened.fd, CACHEDIR_TAG, CACHEDIR_TAG_SIGNATURE.len() as u64)
                .is_ok_and(|bytes| bytes == CACHEDIR_TAG_SIGNATURE)
    }
}

/// The modification time, or the nearest that can be written.
pub(crate) fn mtime(stat: &Stat) -> Timestamp {
    let nanoseconds = if MTIME_SECONDS.contains(&stat.st_mtime) { stat.st_mtime_nsec as i32 } else { 0 };
    let seconds = stat.st_mtime.clamp(*MTIME_SECONDS.start(), *MTIME_SECONDS.end());
    Timestamp::new(seconds, nanoseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Nothing for what is not known.
pub(crate) fn special_kind(entry: &Listed) -> Option<SpecialKind> {
    let device = DeviceNumber { major: major(entry.stat.st_rdev), minor: minor(entry.stat.st_rdev) };
    match entry.file_type {
        FileType::Fifo => Some(SpecialKind::Fifo),
        FileType::Socket => Some(SpecialKind::Socket),
        FileType::CharacterDevice => Some(SpecialKind::CharacterDevice(device)),
        FileType::BlockDevice => Some(SpecialKind::BlockDevice(device)),
        FileType::RegularFile | FileType::Directory | FileType::Symlink | FileType::Unknown => None,
    }
}

/// A path below another, which may be empty.
pub(crate) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") }
}

fn is_excluded(entry: &Listed, path: &str, policy: &Policy, rules: &Rules, device: u64) -> bool {
    let is_directory = entry.file_type == FileType::Directory;
    let too_large = policy.files.max_file_bytes.is_some_and(|limit| entry.stat.st_size as u64 > limit);
    let elsewhere = policy.files.one_file_system && entry.stat.st_dev != device;
    let ignored = || !rules.is_empty() && rules.is_ignored(&format!("/{}", join(path, &entry.name)), is_directory);
    too_large || elsewhere || ignored()
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
