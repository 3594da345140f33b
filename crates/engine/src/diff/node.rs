//! What is compared of an entry.

use jiff::Timestamp;
use repository::{Entry, Special, SpecialKind, Xattr};

/// What something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A device, named pipe or socket.
    Special(SpecialKind),
}

/// Something in a tree, without its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: NodeKind,
    /// Permission, set-id and sticky bits, `0o0000`…`0o7777`.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Modification time.
    pub mtime: Timestamp,
    /// Of a file's data or a link's target; else 0.
    pub size_bytes: u64,
    /// Extended attributes by name; of a directory only where it was listed.
    pub xattrs: Vec<Xattr>,
}

/// A member that differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aspect {
    /// File, directory, link or another kind; of devices also which.
    Kind,
    /// Length in bytes.
    Size,
    /// Modification time.
    Time,
    /// Permission bits.
    Mode,
    /// User or group.
    Owner,
    /// Extended attributes, access control lists and capabilities among them.
    Attributes,
    /// Bytes.
    Content,
}

impl Node {
    /// What differs, the bytes of files apart. Links have no mode of their own.
    pub(super) fn aspects(&self, after: &Self) -> Vec<Aspect> {
        let is_link = self.kind == NodeKind::Symlink && after.kind == NodeKind::Symlink;
        let differs = [
            (Aspect::Kind, self.kind != after.kind),
            (Aspect::Size, self.size_bytes != after.size_bytes),
            (Aspect::Time, self.mtime != after.mtime),
            (Aspect::Mode, self.mode != after.mode && !is_link),
            (Aspect::Owner, (self.uid, self.gid) != (after.uid, after.gid)),
            (Aspect::Attributes, self.xattrs != after.xattrs),
        ];
        differs.into_iter().filter_map(|(aspect, differs)| differs.then_some(aspect)).collect()
    }
}

impl From<&Entry> for Node {
    fn from(entry: &Entry) -> Self {
        let Entry { mode, uid, gid, mtime, size_bytes, .. } = *entry;
        let kind = NodeKind::from(entry.kind);
        let size_bytes = if kind == NodeKind::Directory { 0 } else { size_bytes };
        Self { kind, mode, uid, gid, mtime, size_bytes, xattrs: entry.xattrs().to_vec() }
    }
}

impl From<&Special> for Node {
    fn from(special: &Special) -> Self {
        let Special { mode, uid, gid, mtime, .. } = *special;
        let (kind, xattrs) = (NodeKind::Special(special.kind), special.xattrs.clone());
        Self { kind, mode, uid, gid, mtime, size_bytes: 0, xattrs }
    }
}
