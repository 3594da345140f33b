//! Everything that is known of a directory's content at one moment, and what differs between two such moments.
//!
//! What Kopia's format cannot hold is a [`Limit`], named and counted, and no difference. Nothing else is forgiven.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use crate::demo::error::{DemoError, io};

/// How much of a file is read at once, in bytes.
const READ_BYTES: usize = 1 << 20;
/// Permission, set-id and sticky bits.
const MODE_BITS: u32 = 0o7777;

/// The content of a directory: its entries by path, the directory itself as `.`.
#[derive(Clone, Debug, Default)]
pub struct Manifest {
    entries: BTreeMap<String, Item>,
    /// Names that are no UTF-8; the key in `entries` is what a format that must write UTF-8 makes of them.
    foreign_name_count: u64,
    /// Files with a second name.
    hard_link_count: u64,
    /// Entries with extended attributes.
    attributed_count: u64,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Item {
    data: Data,
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: (i64, i64),
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
    },
}

impl Data {
    fn kind(&self) -> &'static str {
        match self {
            Self::File { .. } => "a file",
            Self::Directory => "a directory",
            Self::Symlink { .. } => "a symbolic link",
            Self::Special { kind } => kind,
        }
    }
}

impl Manifest {
    /// Reads all of it.
    pub fn of(root: &Path) -> Result<Self, DemoError> {
        let mut manifest = Self::default();
        let mut first_names = HashMap::new();
        let mut pending = vec![(root.to_owned(), ".".to_owned())];
        let mut buffer = vec![0; READ_BYTES];
        while let Some((path, name)) = pending.pop() {
            let look = |what: &str| io(format!("{what} {}", path.display()));
            let metadata = fs::symlink_metadata(&path).map_err(look("look at"))?;
            let data = data_of(&path, &metadata, &mut buffer).map_err(look("read"))?;
            if data == Data::Directory {
                for entry in fs::read_dir(&path).map_err(look("list"))? {
                    let raw = entry.map_err(look("list"))?.file_name();
                    let text = raw.to_string_lossy();
                    manifest.foreign_name_count += u64::from(raw.to_str().is_none());
                    let below = if name == "." { text.into_owned() } else { format!("{name}/{text}") };
                    pending.push((path.join(&raw), below));
                }
            } else if metadata.nlink() > 1 {
                let is_second = first_names.insert((metadata.dev(), metadata.ino()), ()).is_some();
                manifest.hard_link_count += u64::from(is_second);
            }
            manifest.attributed_count += u64::from(rustix::fs::llistxattr_query(&path).is_ok_and(|bytes| bytes > 0));
            let item = Item {
                data,
                mode: metadata.mode() & MODE_BITS,
                uid: metadata.uid(),
                gid: metadata.gid(),
                mtime: (metadata.mtime(), metadata.mtime_nsec()),
            };
            manifest.entries.insert(name, item);
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
        Data::Special { kind: "a named pipe" }
    } else if kind.is_socket() {
        Data::Special { kind: "a socket" }
    } else {
        Data::Special { kind: "a device" }
    })
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
    /// What the format cannot hold.
    pub limits: Vec<Limit>,
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
            What::Owner { was, is } => write!(out, "belonged to {}:{} and belongs to {}:{}", was.0, was.1, is.0, is.1),
        }
    }
}

/// Something of the source that Kopia's format has no place for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    pub count: u64,
    pub kind: LimitKind,
}

/// What kind of thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitKind {
    HardLinks,
    Special,
    Attributes,
    Names,
}

impl fmt::Display for Limit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            LimitKind::HardLinks => "hard links come back as files of their own with equal content",
            LimitKind::Special => "named pipes, sockets and devices are left out",
            LimitKind::Attributes => "extended attributes and ACLs are left out",
            LimitKind::Names => "names that are no UTF-8 come back with a replacement character",
        };
        write!(out, "{what} ({} here)", crate::output::count(self.count))
    }
}

/// Holds what is there now against what was there.
pub fn compare(was: &Manifest, is: &Manifest, owners: Owners) -> Comparison {
    let mut comparison = Comparison::default();
    let mut special_count = 0;
    for (path, before) in &was.entries {
        if let Data::Special { .. } = before.data {
            special_count += 1;
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
    comparison.limits = [
        (was.hard_link_count, LimitKind::HardLinks),
        (special_count, LimitKind::Special),
        (was.attributed_count, LimitKind::Attributes),
        (was.foreign_name_count, LimitKind::Names),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, kind)| Limit { count, kind })
    .collect();
    comparison
}

fn differences(was: &Item, is: &Item, owners: Owners, add: &mut dyn FnMut(What)) {
    match (&was.data, &is.data) {
        (Data::File { size_bytes: was, .. }, Data::File { size_bytes: is, .. }) if was != is => {
            add(What::Size { was: *was, is: *is });
        }
        (Data::File { hash: was, .. }, Data::File { hash: is, .. }) if was != is => add(What::Content),
        (Data::Symlink { target: was }, Data::Symlink { target: is }) if was != is => {
            // A target that is no UTF-8 is held as a name is.
            let (was, is) = (String::from_utf8_lossy(was).into_owned(), String::from_utf8_lossy(is).into_owned());
            if was != is {
                add(What::Target { was, is });
            }
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
    fn what_the_format_cannot_hold_is_named() {
        let one = tree();
        fs::hard_link(one.path().join("a"), one.path().join("a2")).unwrap();
        let was = Manifest::of(one.path()).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, one.path().join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .unwrap();
        settle(one.path());
        let with_pipe = Manifest::of(one.path()).unwrap();
        let found = compare(&with_pipe, &was, Owners::Compare);
        let kinds: Vec<LimitKind> =
            found.limits.iter().map(|limit| limit.kind).filter(|kind| *kind != LimitKind::Attributes).collect();
        assert_eq!(kinds, [LimitKind::HardLinks, LimitKind::Special]);
    }
}
