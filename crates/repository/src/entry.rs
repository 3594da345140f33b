//! Files, directories and links as a snapshot keeps them.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

use crate::side::{DirectorySide, HardLink, Side, Xattr};

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link; its target is its data.
    Symlink,
}

/// The format's own name for the data of an entry: a file's bytes, a link's target, a directory's listing.
///
/// Opaque above the format crate.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DataId(Arc<str>);

impl DataId {
    /// Takes the format's text as it is.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The format's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DataId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DataId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One file, directory or link inside a snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Base name; never contains `/`. Where the file system's is not UTF-8, one that stands for it, see
    /// [`Entry::raw_name`].
    pub name: String,
    /// What it is.
    pub kind: EntryKind,
    /// Permission, set-id and sticky bits, `0o0000`…`0o7777`.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Modification time.
    pub mtime: Timestamp,
    /// File: bytes of data. Symbolic link: bytes of its target. Directory: 0.
    pub size_bytes: u64,
    /// Its data.
    pub data: DataId,
    /// For directories, and for the root of a single-file snapshot.
    pub summary: Option<Box<Summary>>,
    /// What else is known of it; of a directory only its name, since it keeps its attributes itself.
    pub side: Option<Box<Side>>,
}

impl Entry {
    /// The bytes of its name on a file system.
    pub fn raw_name(&self) -> &[u8] {
        let raw = self.side.as_ref().and_then(|side| side.raw_name.as_deref());
        raw.unwrap_or(self.name.as_bytes())
    }

    /// Its extended attributes by name.
    pub fn xattrs(&self) -> &[Xattr] {
        self.side.as_ref().map_or(&[], |side| &side.xattrs)
    }

    /// Which file it is a name of, where that has several.
    pub fn hard_link(&self) -> Option<HardLink> {
        self.side.as_ref().and_then(|side| side.hard_link)
    }
}

/// What a directory holds, all levels together.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Bytes in regular files.
    pub size_bytes: u64,
    /// Regular files.
    pub file_count: u64,
    /// Symbolic links.
    pub symlink_count: u64,
    /// Directories, this one included.
    pub directory_count: u64,
    /// Newest modification time of anything inside.
    pub max_time: Timestamp,
    /// Why the listing is not complete, if it is not.
    pub incomplete: Option<String>,
    /// Entries that could not be read and are missing.
    pub failed_count: u64,
    /// Entries that could not be read and that the policy says to pass over.
    pub ignored_error_count: u64,
    /// The entries behind the two counts, sorted by path; not promised to be all of them.
    pub errors: Vec<FailedEntry>,
}

/// An entry that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedEntry {
    /// Path relative to the snapshot's root.
    pub path: String,
    /// What went wrong.
    pub error: String,
}

/// A directory's listing.
#[derive(Clone, Debug)]
pub struct Directory {
    /// Its entries in the stored order.
    pub entries: Vec<Entry>,
    /// What it says it holds.
    pub summary: Option<Summary>,
    /// What else it has.
    pub side: DirectorySide,
}
