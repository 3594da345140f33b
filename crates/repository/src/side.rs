//! What a file system knows of its entries and a format may have no place for.

/// What an entry has beyond the fields of [`crate::Entry`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// The name's bytes where they are not UTF-8; then the entry's name only stands for it.
    pub raw_name: Option<Vec<u8>>,
    /// Extended attributes, access control lists and capabilities among them, by name.
    pub xattrs: Vec<Xattr>,
    /// Entries with the same one are names of one file.
    pub hard_link: Option<HardLink>,
    /// Names of members that a newer program wrote and this one does not know.
    pub unknown: Vec<String>,
}

impl Side {
    /// True when there is nothing to say.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// An extended attribute.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Xattr {
    /// Its name with the namespace, as in `user.comment`; any bytes but NUL.
    pub name: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

/// Which file a name with siblings is a name of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HardLink {
    /// The file's inode number when it was backed up.
    pub inode: u64,
    /// Which of the snapshot's file systems: 0 for the root's, others in the order in which they were met.
    pub file_system: u32,
}

/// Something in a directory that is no file, directory or symbolic link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Special {
    /// The name's bytes.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: SpecialKind,
    /// Permission, set-id and sticky bits, `0o0000`…`0o7777`.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Modification time.
    pub mtime: jiff::Timestamp,
    /// Extended attributes by name.
    pub xattrs: Vec<Xattr>,
    /// Set where it has several names.
    pub hard_link: Option<HardLink>,
}

/// What a special entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpecialKind {
    /// A named pipe.
    Fifo,
    /// A socket that a program once bound.
    Socket,
    /// A character device.
    CharacterDevice(DeviceNumber),
    /// A block device.
    BlockDevice(DeviceNumber),
}

/// Which device a device file stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceNumber {
    /// The driver.
    pub major: u32,
    /// Which of its devices.
    pub minor: u32,
}

/// What a directory has beyond its entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirectorySide {
    /// Its own extended attributes by name.
    pub xattrs: Vec<Xattr>,
    /// Its special entries by name.
    pub specials: Vec<Special>,
    /// Special entries of kinds that this program does not know: what a newer one wrote.
    pub unknown_specials: Vec<UnknownSpecial>,
    /// Names of members that it does not know either.
    pub unknown: Vec<String>,
}

/// A special entry that only a newer program can make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownSpecial {
    /// The name's bytes.
    pub name: Vec<u8>,
    /// What it is said to be.
    pub kind: String,
}
