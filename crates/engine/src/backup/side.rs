//! What entries have beyond Kopia's own fields: extended attributes, and which of them are names of one file.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use repository::{HardLink, Xattr};
use rustix::fs::{AtFlags, Stat, statat};
use rustix::io::Errno;

use crate::xattr::{LINUX_BYTES_MAX, Place, Xattrs, is_of_machine, words};

/// Bytes of attributes' values stored for one entry, as many as Linux allows a single attribute.
const ENTRY_BYTES_MAX: usize = LINUX_BYTES_MAX;
/// Bytes of attributes' values stored for all entries of one directory: who reads it may hold thousands of them at once.
const DIRECTORY_BYTES_MAX: usize = 16 << 20;
/// Enough for nearly every list of names.
const LIST_BYTES: usize = 1 << 10;

/// The attributes of one entry.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// By name.
    pub(crate) xattrs: Vec<Xattr>,
    /// What of them cannot be stored, in words.
    pub(crate) missing: Option<String>,
}

/// File systems numbered as they are met, the root's first. All threads of a walk share one: a number is the same everywhere
/// in a snapshot.
#[derive(Clone)]
pub(crate) struct FileSystems(Arc<Mutex<Vec<u64>>>);

impl FileSystems {
    pub(crate) fn new(root_device: u64) -> Self {
        Self(Arc::new(Mutex::new(vec![root_device])))
    }

    fn number(&self, device: u64) -> u32 {
        let mut devices = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = devices.iter().position(|known| *known == device);
        let number = known.unwrap_or_else(|| {
            devices.push(device);
            devices.len() - 1
        });
        u32::try_from(number).unwrap_or(u32::MAX)
    }
}

/// Reads what there is, in buffers that are used again.
pub(crate) struct SideReader {
    calls: Xattrs,
    list: Vec<u8>,
    value: Vec<u8>,
    file_systems: FileSystems,
    /// Device numbers of file systems that have no attributes.
    without: Vec<u64>,
    directory_bytes_left: usize,
    /// The names that follow have no attributes, as is known.
    are_bare: bool,
    /// All of them that were asked have no attributes.
    has_found_nothing: bool,
}

impl SideReader {
    pub(crate) fn new(file_systems: FileSystems) -> Self {
        Self {
            calls: Xattrs::default(),
            list: vec![0; LIST_BYTES],
            value: Vec::new(),
            file_systems,
            without: Vec::new(),
            directory_bytes_left: DIRECTORY_BYTES_MAX,
            are_bare: false,
            has_found_nothing: true,
        }
    }

    /// What follows belongs to another directory.
    pub(crate) fn begin_directory(&mut self) {
        self.directory_bytes_left = DIRECTORY_BYTES_MAX;
        self.begin_names(false);
    }

    /// What follows belongs to a directory again for which so much may still be stored.
    pub(super) fn go_on(&mut self, directory_bytes_left: usize) {
        self.directory_bytes_left = directory_bytes_left;
    }

    /// Bytes of attributes' values that may still be stored for the directory.
    pub(super) fn directory_bytes_left(&self) -> usize {
        self.directory_bytes_left
    }

    /// Other names in the directory follow. If they are bare, they need not be asked.
    pub(super) fn begin_names(&mut self, are_bare: bool) {
        self.are_bare = are_bare;
        self.has_found_nothing = true;
    }

    /// None of these names has attributes.
    pub(super) fn has_found_nothing(&self) -> bool {
        self.has_found_nothing
    }

    /// Which file it is a name of, if that has others.
    pub(crate) fn hard_link(&self, stat: &Stat) -> Option<HardLink> {
        let has_others = stat.st_nlink > 1;
        has_others.then(|| HardLink { inode: stat.st_ino, file_system: self.file_systems.number(stat.st_dev) })
    }

    /// The attributes of an entry on the file system of that device number.
    pub(crate) fn xattrs(&mut self, place: Place<'_>, device: u64) -> Found {
        let by_name = matches!(place, Place::In(..));
        if by_name && self.are_bare {
            return Found::default();
        }
        let found = self.ask(place, device);
        if by_name {
            self.has_found_nothing &= found.as_ref().is_some_and(|found| *found == Found::default());
        }
        found.unwrap_or_default()
    }

    /// Nothing where the file system has no attributes, as it is mounted now.
    fn ask(&mut self, place: Place<'_>, device: u64) -> Option<Found> {
        if self.without.contains(&device) {
            return None;
        }
        match self.read(place) {
            Ok(found) => Some(found),
            Err(Errno::OPNOTSUPP) => {
                self.without.push(device);
                None
            }
            Err(Errno::NOENT) if is_gone(place) => Some(Found::default()),
            Err(errno) => {
                Some(Found { xattrs: Vec::new(), missing: Some(format!("list attributes: {}", words(errno))) })
            }
        }
    }

    fn read(&mut self, place: Place<'_>) -> Result<Found, Errno> {
        let length = match self.calls.list(place, &mut self.list) {
            Err(Errno::RANGE) => {
                self.list.resize(LINUX_BYTES_MAX, 0);
                self.calls.list(place, &mut self.list)?
            }
            listed => listed?,
        };
        let mut found = Found::default();
        if length == 0 {
            return Ok(found);
        }
        self.value.resize(LINUX_BYTES_MAX, 0);
        let mut names: Vec<&[u8]> = self.list[..length].split(|byte| *byte == 0).collect();
        names.retain(|name| !name.is_empty() && !is_of_machine(name));
        names.sort_unstable();
        let mut entry_bytes_left = ENTRY_BYTES_MAX;
        for name in names {
            match self.calls.get(place, name, &mut self.value) {
                Ok(length) if length > entry_bytes_left => {
                    found.misses(name, &format!("{length} bytes more than the {ENTRY_BYTES_MAX} kept of an entry"));
                }
                Ok(length) if length > self.directory_bytes_left => {
                    found.misses(
                        name,
                        &format!("{length} bytes more than the {DIRECTORY_BYTES_MAX} kept in a directory"),
                    );
                }
                Ok(length) => {
                    entry_bytes_left -= length;
                    self.directory_bytes_left -= length;
                    found.xattrs.push(Xattr { name: name.to_vec(), value: self.value[..length].to_vec() });
                }
                // It was removed since it was listed.
                Err(Errno::NODATA) => {}
                Err(errno) => found.misses(name, &words(errno)),
            }
        }
        Ok(found)
    }
}

/// Not there since it was listed, which will be told of the entry; else it is `/proc` that is missing.
fn is_gone(place: Place<'_>) -> bool {
    match place {
        Place::Open(_) => false,
        Place::In(directory, name) => {
            statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).is_err_and(|errno| errno == Errno::NOENT)
        }
    }
}

impl Found {
    fn misses(&mut self, attribute: &[u8], why: &str) {
        let missing = self.missing.get_or_insert_default();
        let separator = if missing.is_empty() { "" } else { "; " };
        let _ = write!(missing, "{separator}{}: {why}", String::from_utf8_lossy(attribute));
    }
}
