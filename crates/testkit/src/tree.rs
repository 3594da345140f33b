//! What a directory holds, to the last attribute, as text to compare.
//!
//! Written for tests and on its own ways to the file system, so that it shares no mistake with what it judges: it reads by
//! raw names below open directories, whatever their length, and knows names as bytes.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, major, minor, openat, readlinkat, statat};
use rustix::io::Errno;

/// Linux allows no longer list of attributes and no longer value.
const XATTR_BYTES_MAX: usize = 64 << 10;
/// Bytes read at once.
const READ_BYTES: usize = 1 << 20;
/// What the machine says of files for itself is not compared.
const MACHINE_LABELS: [&[u8]; 3] = [b"security.selinux", b"security.ima", b"security.evm"];

/// One line an entry, the directory itself as `.`, sorted by path: path, kind, mode, owner, time in nanoseconds, then a
/// file's length and SHA-256, a link's target or a device's numbers; then extended attributes, and for files with several
/// names in the tree the first of these.
///
/// Bytes outside of printable ASCII are escaped in paths.
///
/// # Errors
/// When anything cannot be read.
pub fn describe(root: &Path) -> io::Result<String> {
    let directory = openat(CWD, root, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut description = Description::default();
    description.entry(&directory, c".", b".")?;
    description.inside(directory, b"")?;
    Ok(description.text())
}

#[derive(Default)]
struct Description {
    lines: BTreeMap<Vec<u8>, String>,
    /// Paths of each file with several names, by device and inode.
    names: BTreeMap<(u64, u64), Vec<Vec<u8>>>,
}

impl Description {
    /// Directories are kept on a list and not on the stack: trees can be deep.
    fn inside(&mut self, root: OwnedFd, path: &[u8]) -> io::Result<()> {
        let mut open = vec![(root, path.to_vec())];
        while let Some((directory, path)) = open.pop() {
            for entry in Dir::read_from(&directory)? {
                let name = entry?.file_name().to_owned();
                if matches!(name.as_bytes(), b"." | b"..") {
                    continue;
                }
                let separator: &[u8] = if path.is_empty() { b"" } else { b"/" };
                let below = [path.as_slice(), separator, name.as_bytes()].concat();
                if self.entry(&directory, &name, &below)? {
                    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    open.push((openat(&directory, &name, flags, Mode::empty())?, below));
                }
            }
        }
        Ok(())
    }

    /// True for a directory.
    fn entry(&mut self, directory: &OwnedFd, name: &CStr, path: &[u8]) -> io::Result<bool> {
        let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let file_type = FileType::from_raw_mode(stat.st_mode);
        let (kind, detail) = match file_type {
            FileType::RegularFile => ("file", digest(directory, name, &stat)?),
            FileType::Directory => ("directory", String::new()),
            FileType::Symlink => {
                let target = readlinkat(directory, name, Vec::new())?;
                ("link", format!("-> {}", target.as_bytes().escape_ascii()))
            }
            FileType::Fifo => ("fifo", String::new()),
            FileType::Socket => ("socket", String::new()),
            FileType::CharacterDevice | FileType::BlockDevice => {
                let kind = if file_type == FileType::BlockDevice { "block" } else { "char" };
                (kind, format!("{}:{}", major(stat.st_rdev), minor(stat.st_rdev)))
            }
            FileType::Unknown => ("unknown", String::new()),
        };
        if stat.st_nlink > 1 && file_type != FileType::Directory {
            self.names.entry((stat.st_dev, stat.st_ino)).or_default().push(path.to_vec());
        }
        let mtime = i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec);
        let mode = if file_type == FileType::Symlink { 0 } else { stat.st_mode & 0o7777 };
        let mut line = format!("{kind} {mode:o} {}:{} ({mtime}) {detail}", stat.st_uid, stat.st_gid);
        for (attribute, value) in xattrs(directory, name)? {
            let _ = write!(line, " {}={}", attribute.escape_ascii(), shortened(&value));
        }
        self.lines.insert(path.to_vec(), line);
        Ok(file_type == FileType::Directory)
    }

    fn text(mut self) -> String {
        for paths in self.names.values_mut().filter(|paths| paths.len() > 1) {
            paths.sort();
            for path in paths.iter() {
                if let Some(line) = self.lines.get_mut(path) {
                    let _ = write!(line, " same as {}", paths[0].escape_ascii());
                }
            }
        }
        self.lines.iter().fold(String::new(), |mut all, (path, line)| {
            let _ = writeln!(all, "{} {}", path.escape_ascii(), line.trim_end());
            all
        })
    }
}

fn digest(directory: &OwnedFd, name: &CStr, stat: &Stat) -> io::Result<String> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = File::from(openat(directory, name, flags, Mode::empty())?);
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            length => context.update(&buffer[..length]),
        }
    }
    Ok(format!("{} bytes {}", stat.st_size, in_hexadecimal(context.finish().as_ref())))
}

fn xattrs(directory: impl AsFd, name: &CStr) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut path = format!("/proc/self/fd/{}/", directory.as_fd().as_raw_fd()).into_bytes();
    path.extend_from_slice(name.to_bytes());
    let mut buffer = vec![0; XATTR_BYTES_MAX];
    let length = match rustix::fs::llistxattr(path.as_slice(), buffer.as_mut_slice()) {
        Err(Errno::OPNOTSUPP) => 0,
        listed => listed?,
    };
    let names: Vec<Vec<u8>> = buffer[..length].split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    let mut found = BTreeMap::new();
    for name in names.into_iter().filter(|name| !name.is_empty() && !MACHINE_LABELS.contains(&name.as_slice())) {
        let length = rustix::fs::lgetxattr(path.as_slice(), name.as_slice(), buffer.as_mut_slice())?;
        found.insert(name, buffer[..length].to_vec());
    }
    Ok(found)
}

/// Short values as they are, long ones by length and hash.
fn shortened(value: &[u8]) -> String {
    match value.len() {
        0..=64 => in_hexadecimal(value),
        length => format!("{length}:{}", in_hexadecimal(ring::digest::digest(&ring::digest::SHA256, value).as_ref())),
    }
}

fn in_hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
