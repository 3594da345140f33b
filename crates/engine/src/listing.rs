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
use repository::{DeviceNumber, SpecialKind};
use repository_kopia::{CACHEDIR_TAG_SIGNATURE, IgnoreError, Policy, Rules, parse_dot_ignore};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, major, minor, openat, statat};

/// Times between these, in seconds since 1970, can be written so that every program reads them: the years 1 to 9999.
pub(crate) const MTIME_SECONDS: RangeInclusive<i64> = -62_135_596_800..=253_402_207_199;
/// A dot-ignore file is read up to this size in bytes.
const DOT_IGNORE_BYTES_MAX: u64 = 1 << 20;
/// Name of the file that marks a cache directory.
const CACHEDIR_TAG: &str = "CACHEDIR.TAG";

/// Where a directory is opened.
pub(crate) enum Location {
    Open(Arc<Folder>),
    In { parent: Arc<Folder>, name: CString },
}

/// A directory that is being worked in, and how it is opened later.
pub(crate) struct Opened {
    pub(crate) fd: Arc<OwnedFd>,
    pub(crate) folder: Arc<Folder>,
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

/// What of a directory belongs into a backup.
pub(crate) struct Chosen {
    /// Files, directories and links, by raw name.
    pub(crate) entries: Vec<Listed>,
    /// Everything else, by raw name.
    pub(crate) specials: Vec<Listed>,
    /// The rules below it.
    pub(crate) rules: Rules,
}

/// Rules of a directory that make no sense.
pub(crate) struct BadRules {
    /// The directory, from the root, which is `/`.
    pub(crate) path: String,
    pub(crate) source: IgnoreError,
}

/// Leaves out what `rules` and those in the directory itself exclude. `path` is the directory's, relative to the root.
pub(crate) fn choose(
    fd: &OwnedFd,
    listed: Vec<Listed>,
    path: &str,
    policy: &Policy,
    rules: Rules,
    device: u64,
) -> Result<Chosen, BadRules> {
    let rules = dot_ignore_rules(fd, &listed, path, policy, rules)?;
    let is_cache = policy.files.ignore_cache_dirs && is_cache_directory(fd, &listed);
    let mut entries = if is_cache { Vec::new() } else { not_excluded(listed, path, policy, &rules, device) };
    let specials = entries.extract_if(.., |entry| entry.is_special()).collect();
    tell_names_apart(&mut entries);
    Ok(Chosen { entries, specials, rules })
}

/// Opens a directory and lists it, by raw name.
pub(crate) fn open_and_list(place: Location) -> io::Result<(Opened, Vec<Listed>)> {
    let (fd, folder) = match place {
        Location::Open(folder) => (folder.open()?, folder),
        Location::In { parent, name } => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let fd = Arc::new(openat(&*parent.open()?, name.as_c_str(), flags, Mode::empty())?);
            let folder = Folder::child(&parent, name, &fd)?;
            (fd, folder)
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
        let name = names::as_text(raw.as_bytes());
        listed.push(Listed { raw, name, file_type: FileType::from_raw_mode(stat.st_mode), stat });
    }
    listed.sort_by(|a, b| a.raw.cmp(&b.raw));
    Ok((Opened { fd, folder }, listed))
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

fn not_excluded(listed: Vec<Listed>, path: &str, policy: &Policy, rules: &Rules, device: u64) -> Vec<Listed> {
    let is_chosen = |entry: &Listed| {
        let is_directory = entry.file_type == FileType::Directory;
        let too_large = policy.files.max_file_bytes.is_some_and(|limit| entry.stat.st_size as u64 > limit);
        let elsewhere = policy.files.one_file_system && entry.stat.st_dev != device;
        let ignored = || !rules.is_empty() && rules.is_ignored(&format!("/{}", join(path, &entry.name)), is_directory);
        !too_large && !elsewhere && !ignored()
    };
    listed.into_iter().filter(is_chosen).collect()
}

/// Names that are not UTF-8 are written so that no two are the same.
fn tell_names_apart(entries: &mut [Listed]) {
    let is_foreign = |entry: &&Listed| entry.raw_name().is_some();
    if !entries.iter().any(|entry| is_foreign(&entry)) {
        return;
    }
    let foreign = entries.iter().filter(is_foreign).map(|entry| entry.raw.as_bytes());
    let others = entries.iter().filter(|entry| !is_foreign(entry)).map(|entry| entry.name.as_str());
    let mut written = names::tell_apart(foreign, others).into_iter();
    for entry in entries.iter_mut() {
        if entry.raw_name().is_some() {
            entry.name = written.next().unwrap_or_default();
        }
    }
}

/// The rules below a directory: those from above, then those of its own dot-ignore files.
fn dot_ignore_rules(
    fd: &OwnedFd,
    listed: &[Listed],
    path: &str,
    policy: &Policy,
    rules: Rules,
) -> Result<Rules, BadRules> {
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
            .map_err(|source| BadRules { path: format!("/{path}"), source })?;
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
