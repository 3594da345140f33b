//! Everything that is known of a directory's content at one moment, and what differs between two such moments.
//!
//! Nothing is forgiven but what only root can give.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use rustix::io::Errno;

use crate::demo::error::{DemoError, io};

/// How much of a file is read at once, in bytes.
const READ_BYTES: usize = 1 << 20;
/// Linux allows no longer list of attributes and no longer value.
const XATTR_BYTES_MAX: usize = 64 << 10;
/// Permission, set-id and sticky bits.
const MODE_BITS: u32 = 0o7777;

/// The content of a directory: its entries by path, the directory itself as `.`.
#[derive(Clone, Debug, Default)]
pub struct Manifest {
    entries: BTreeMap<String, Item>,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Item {
    data: Data,
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: (i64, i64),
    /// Extended attributes by name.
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first name of the file, if it has several here.
    same_as: Option<String>,
}

/// What is in an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Data {
    File {
        size_bytes: u64,
        hash: [u8; 32],
    },
    Directory,
    Symlink {
        target: Vec<u8>,
    },
    /// A pipe, device or socket.
    Special {
        kind: &'static str,
        /// Of devices.
        number: u64,
    },
}

impl Data {
    fn kind(&self) -> &'static str {
        match self {
            Self::File { .. } => "a file",
            Self::Directory => "a directory",
            Self::Symlink { .. } => "a symbolic link",
            Self::Special { kind, .. } => kind,
        }
    }
}

impl Manifest {
    /// Reads all of it.
    pub fn of(root: &Path) -> Result<Self, DemoError> {
        let mut manifest = Self::default();
        let mut names: HashMap<(u64, u64), Vec<String>> = HashMap::new();
        let mut pending = vec![(root.to_owned(), ".".to_owned())];
        let mut buffer = vec![0; READ_BYTES];
        while let Some((path, name)) = pending.pop() {
            let look = |what: &str| io(format!("{what} {}", path.display()));
            let metadata = fs::symlink_metadata(&path).map_err(look("look at"))?;
            let data = data_of(&path, &metadata, &mut buffer).map_err(look("read"))?;
            if data == Data::Directory {
                for entry in fs::read_dir(&path).map_err(look("list"))? {
                    let raw = entry.map_err(look("list"))?.file_name();
                    let text = raw.to_str().map_or_else(|| raw.as_bytes().escape_ascii().to_string(), str::to_owned);
                    let below = if name == "." { text } else { format!("{name}/{text}") };
                    pending.push((path.join(&raw), below));
                }
            } else if metadata.nlink() > 1 {
                names.entry((metadata.dev(), metadata.ino())).or_default().push(name.clone());
            }
            let item = Item {
                data,
                mode: metadata.mode() & MODE_BITS,
                uid: metadata.uid(),
                gid: metadata.gid(),
                mtime: (metadata.mtime(), metadata.mtime_nsec()),
                xattrs: xattrs_of(&path).map_err(look("read the attributes of"))?,
                same_as: None,
            };
            manifest.entries.insert(name, item);
        }
        for names in names.into_values().filter(|names| names.len() > 1) {
            let first = names.iter().min().cloned();
            names.iter().for_each(|name| {
                manifest.entries.entry(name.clone()).and_modify(|item| item.same_as.clone_from(&first));
            });
        }
        Ok(manifest)
    }

    /// Regular files.
    pub fn file_count(&self) -> u64 {
        self.entries.values().filter(|item| matches!(item.data, Data::File { .. })).count() as u64
    }

    /// Bytes in them.
    pub fn bytes(&self) -> u64 {
        let size = |item: &Item| if let Data::File { size_bytes, .. } = item.data { size_bytes } else { 0 };
        self.entries.values().map(size).sum()
    }
}

fn data_of(path: &Path, metadata: &Metadata, buffer: &mut [u8]) -> io::Result<Data> {
    let kind = metadata.file_type();
    Ok(if kind.is_dir() {
        Data::Directory
    } else if kind.is_symlink() {
        Data::Symlink { target: fs::read_link(path)?.as_os_str().as_bytes().to_vec() }
    } else if kind.is_file() {
        let mut file = File::open(path)?;
        let (mut hasher, mut size_bytes) = (blake3::Hasher::new(), 0);
        loop {
            let length = file.read(buffer)?;
            if length == 0 {
                break;
            }
            hasher.update(&buffer[..length]);
            size_bytes += length as u64;
        }
        Data::File { size_bytes, hash: hasher.finalize().into() }
    } else if kind.is_fifo() {
        Data::Special { kind: "a named pipe", number: 0 }
    } else if kind.is_socket() {
        Data::Special { kind: "a socket", number: 0 }
    } else {
        Data::Special {
            kind: if kind.is_block_device() { "a block device" } else { "a device" },
            number: metadata.rdev(),
        }
    })
}

fn xattrs_of(path: &Path) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut buffer = vec![0; XATTR_BYTES_MAX];
    let length = match rustix::fs::llistxattr(path, buffer.as_mut_slice()) {
        Err(Errno::OPNOTSUPP) => 0,
        listed => listed?,
    };
    let names: Vec<Vec<u8>> = buffer[..length].split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    let mut xattrs = BTreeMap::new();
    // Labels of the machine are not part of a backup.
    for name in names.into_iter().filter(|name| !name.is_empty() && !name.starts_with(b"security.selinux")) {
        let length = rustix::fs::lgetxattr(path, name.as_slice(), buffer.as_mut_slice())?;
        xattrs.insert(name, buffer[..length].to_vec());
    }
    Ok(xattrs)
}

/// Whether owners must be equal: only root can give them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owners {
    Compare,
    Skip,
}

/// What a comparison found.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// Entries that were compared.
    pub entry_count: u64,
    /// Everything that is not as it was, by path.
    pub differences: Vec<Difference>,
}

/// An entry that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub path: String,
    pub what: What,
}

/// In which way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Missing,
    Extra,
    Kind { was: &'static str, is: &'static str },
    Size { was: u64, is: u64 },
    Content,
    Target { was: String, is: String },
    Mode { was: u32, is: u32 },
    Time { was: (i64, i64), is: (i64, i64) },
    Owner { was: (u32, u32), is: (u32, u32) },
    Device { was: u64, is: u64 },
    Attributes,
    HardLink { was: Option<String>, is: Option<String> },
}

impl fmt::Display for Difference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?} ", self.path)?;
        match &self.what {
            What::Missing => out.write_str("is missing"),
            What::Extra => out.write_str("was not there before"),
            What::Kind { was, is } => write!(out, "was {was} and is {is}"),
            What::Size { was, is } => write!(out, "had {was} bytes and has {is}"),
            What::Content => out.write_str("has other bytes"),
            What::Target { was, is } => write!(out, "pointed to {was:?} and points to {is:?}"),
            What::Mode { was, is } => write!(out, "had mode {was:04o} and has {is:04o}"),
            What::Time { was, is } => {
                write!(out, "had time {}.{:09} and has {}.{:09}", was.0, was.1, is.0, is.1)
            }
            What::Device { was, is } => write!(out, "was device {was} and is {is}"),
            What::Attributes => out.write_str("has other extended attributes"),
            What::HardLink { was, is } => write!(out, "was one file with {was:?} and is one with {is:?}"),
            What::Owner { was, is } => write!(out, "belonged to {}:{} and belongs to {}:{}", was.0, was.1, is.0, is.1),
        }
    }
}

/// Holds what is there now against what was there.
pub fn compare(was: &Manifest, is: &Manifest, owners: Owners) -> Comparison {
    let mut comparison = Comparison::default();
    for (path, before) in &was.entries {
        // Devices are root's to make.
        if matches!(before.data, Data::Special { number: 1.., .. }) && owners == Owners::Skip {
            continue;
        }
        comparison.entry_count += 1;
        let mut add = |what| comparison.differences.push(Difference { path: path.clone(), what });
        match is.entries.get(path) {
            Some(after) => differences(before, after, owners, &mut add),
            None => add(What::Missing),
        }
    }
    for path in is.entries.keys().filter(|path| !was.entries.contains_key(*path)) {
        comparison.differences.push(Difference { path: path.clone(), what: What::Extra });
    }
    comparison
}

fn differences(was: &Item, is: &Item, owners: Owners, add: &mut dyn FnMut(What)) {
    match (&was.data, &is.data) {
        (Data::File { size_bytes: was, .. }, Data::File { size_bytes: is, .. }) if was != is => {
            add(What::Size { was: *was, is: *is });
        }
        (Data::File { hash: was, .. }, Data::File { hash: is, .. }) if was != is => add(What::Content),
        (Data::Symlink { target: was }, Data::Symlink { target: is }) if was != is => {
            let text = |target: &[u8]| String::from_utf8_lossy(target).into_owned();
            add(What::Target { was: text(was), is: text(is) });
        }
        (Data::Special { kind: was_kind, number: was }, Data::Special { kind: is_kind, number: is })
            if was_kind == is_kind && was != is =>
        {
            add(What::Device { was: *was, is: *is });
        }
        (was, is) if was.kind() != is.kind() => return add(What::Kind { was: was.kind(), is: is.kind() }),
        _ => {}
    }
    // Links have no mode of their own on Linux.
    if was.mode != is.mode && !matches!(was.data, Data::Symlink { .. }) {
        add(What::Mode { was: was.mode, is: is.mode });
    }
    if was.mtime != is.mtime {
        add(What::Time { was: was.mtime, is: is.mtime });
    }
    if owners == Owners::Compare && (was.uid, was.gid) != (is.uid, is.gid) {
        add(What::Owner { was: (was.uid, was.gid), is: (is.uid, is.gid) });
    }
    let compared = |item: &Item| {
        let is_compared = |name: &&Vec<u8>| owners == Owners::Compare || name.starts_with(b"user.");
        item.xattrs
            .iter()
            .filter(|(name, _)| is_compared(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect::<Vec<_>>()
    };
    if compared(was) != compared(is) {
        add(What::Attributes);
    }
    if was.same_as != is.same_as {
        add(What::HardLink { was: was.same_as.clone(), is: is.same_as.clone() });
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    /// The same small tree each time, with the same times.
    fn tree() -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        let root = tree.path();
        fs::create_dir(root.join("d")).unwrap();
        for name in ["a", "b", "d/c"] {
            fs::write(root.join(name), name).unwrap();
        }
        symlink("a", root.join("link")).unwrap();
        settle(root);
        tree
    }

    fn settle(root: &Path) {
        let link = |path: &Path| path.file_name().is_some_and(|name| name == "link");
        for name in ["a", "b", "d/c", "link", "d", "."] {
            let path = root.join(name);
            let time = rustix::fs::Timespec { tv_sec: 1000, tv_nsec: 5 };
            let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
            let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
            if path.exists() || link(&path) {
                rustix::fs::utimensat(rustix::fs::CWD, &path, &times, flags).unwrap();
            }
        }
    }

    /// What `change` makes different, in the comparer's own words.
    #[track_caller]
    fn check(change: impl FnOnce(&Path), expected: &[&str]) {
        let (one, other) = (tree(), tree());
        change(other.path());
        let (was, is) = (Manifest::of(one.path()).unwrap(), Manifest::of(other.path()).unwrap());
        let found = compare(&was, &is, Owners::Compare);
        let said: Vec<String> = found.differences.iter().map(ToString::to_string).collect();
        assert_eq!(said, expected);
    }

    fn write(path: &Path, text: &str) {
        fs::write(path, text).unwrap();
        settle(path.parent().unwrap());
    }

    #[test]
    fn equal_trees_are_equal() {
        check(|_| {}, &[]);
    }

    #[test]
    fn every_kind_of_difference_is_seen() {
        check(|root| write(&root.join("a"), "x"), &["\"a\" has other bytes"]);
        check(|root| write(&root.join("a"), "longer"), &["\"a\" had 1 bytes and has 6"]);
        let remove = |root: &Path| {
            fs::remove_file(root.join("b")).unwrap();
            settle(root);
        };
        check(remove, &["\"b\" is missing"]);
        let add = |root: &Path| write(&root.join("b\nz"), "");
        check(add, &["\"b\\nz\" was not there before"]);
        let mode = |root: &Path| fs::set_permissions(root.join("a"), fs::Permissions::from_mode(0o4600)).unwrap();
        check(mode, &["\"a\" had mode 0644 and has 4600"]);
        let relink = |root: &Path| {
            fs::remove_file(root.join("link")).unwrap();
            symlink("b", root.join("link")).unwrap();
            settle(root);
        };
        check(relink, &["\"link\" pointed to \"a\" and points to \"b\""]);
        let kind = |root: &Path| {
            fs::remove_file(root.join("link")).unwrap();
            write(&root.join("link"), "a");
        };
        check(kind, &["\"link\" was a symbolic link and is a file"]);
        let time = |root: &Path| {
            let file = File::options().write(true).open(root.join("d/c")).unwrap();
            file.set_modified(UNIX_EPOCH + Duration::new(1000, 6)).unwrap();
        };
        check(time, &["\"d/c\" had time 1000.000000005 and has 1000.000000006"]);
    }

    #[test]
    fn owners_count_where_they_can_be_given() {
        let one = tree();
        let was = Manifest::of(one.path()).unwrap();
        let mut is = was.clone();
        is.entries.get_mut("a").unwrap().uid += 1;
        assert_eq!(compare(&was, &is, Owners::Compare).differences.len(), 1);
        assert_eq!(compare(&was, &is, Owners::Skip).differences, []);
    }

    #[test]
    fn links_special_files_and_attributes_count() {
        let link = |root: &Path| {
            fs::remove_file(root.join("b")).unwrap();
            fs::hard_link(root.join("a"), root.join("b")).unwrap();
            settle(root);
        };
        let said = "was one file with None and is one with Some(\"a\")";
        check(link, &[&format!("\"a\" {said}"), "\"b\" has other bytes", &format!("\"b\" {said}")]);
        let pipe = |root: &Path| {
            rustix::fs::mknodat(rustix::fs::CWD, root.join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
                .unwrap();
            settle(root);
        };
        check(pipe, &["\"pipe\" was not there before"]);
        let attribute = |root: &Path| {
            rustix::fs::setxattr(root.join("a"), "user.x", b"1", rustix::fs::XattrFlags::empty()).unwrap();
        };
        check(attribute, &["\"a\" has other extended attributes"]);
    }
}
