//! Trees with everything that is hard to keep.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, lchown, symlink};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, XattrFlags, linkat, makedev, mkdirat,
    mknodat, openat, utimensat,
};
use rustix::io::Errno;

/// An access control list as Linux stores it: owner, user 1 with all rights, group, mask, others.
pub const ACCESS_LIST: &[u8] = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x07\0\x01\0\0\0\x04\0\x04\0\xff\xff\xff\xff\x10\0\x07\0\xff\xff\xff\xff\x20\0\x04\0\xff\xff\xff\xff";
/// The capability to bind low ports.
pub const CAPABILITY: &[u8] = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
/// Two names that become the same where bytes that are not UTF-8 are replaced, and one that is the replacement.
pub const COLLIDING: [&[u8]; 3] = [b"caf\xe8", b"caf\xe9", "caf\u{fffd}".as_bytes()];
/// Levels of the deepest directory.
pub const LEVELS: usize = 200;

/// Makes a tree of all kinds of names, kinds, modes, owners, times, attributes and links in an empty directory.
///
/// # Errors
/// When the system refuses; it takes root, and a file system with extended attributes.
pub fn plant(root: &Path) -> io::Result<()> {
    names(root)?;
    deep(root)?;
    modes(root)?;
    attributes(root)?;
    specials(root)?;
    links(root)?;
    sparse(root)?;
    times(root)
}

fn names(root: &Path) -> io::Result<()> {
    let directory = root.join("names");
    fs::create_dir(&directory)?;
    let long = [b'l'; 255];
    let long_foreign = [[b'f'; 254].as_slice(), b"\xff"].concat();
    let odd: [&[u8]; 12] = [
        &long,
        &long_foreign,
        b" leading and trailing ",
        b"new\nline",
        b"\x01\x1b[31mred",
        b"...",
        b"-rf",
        b"back\\slash \"quoted\" <&>",
        "nfc \u{e9}".as_bytes(),
        "nfd e\u{301}".as_bytes(),
        "\u{2028}\u{1f600}".as_bytes(),
        b"\xff\xfe\xfd",
    ];
    for name in odd.into_iter().chain(COLLIDING) {
        fs::write(directory.join(OsStr::from_bytes(name)), name)?;
    }
    for name in COLLIDING {
        let below = directory.join(OsStr::from_bytes(&[b"directory ", name].concat()));
        fs::create_dir(&below)?;
        fs::write(below.join(OsStr::from_bytes(name)), [b"in ", name].concat())?;
        symlink(OsStr::from_bytes(name), directory.join(OsStr::from_bytes(&[b"link ", name].concat())))?;
    }
    Ok(())
}

/// Directories in each other until no path as a whole is short enough for one call.
fn deep(root: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut directory: OwnedFd = openat(CWD, root, flags, Mode::empty())?;
    for level in 0..LEVELS {
        let name = format!("level {level:03} of many..");
        mkdirat(&directory, name.as_str(), Mode::RWXU)?;
        directory = openat(&directory, name.as_str(), flags, Mode::empty())?;
    }
    let create = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = openat(&directory, "at the bottom", create, Mode::RUSR | Mode::WUSR)?;
    File::from(file).write_all(b"found\n")?;
    rustix::fs::symlinkat("../nowhere", &directory, "link at the bottom")?;
    mknodat(&directory, "pipe at the bottom", FileType::Fifo, Mode::RUSR, 0)?;
    let deepest = openat(&directory, "at the bottom", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(rustix::fs::fsetxattr(&deepest, "user.depth", b"200", XattrFlags::empty())?)
}

fn modes(root: &Path) -> io::Result<()> {
    let directory = root.join("modes");
    fs::create_dir(&directory)?;
    for mode in [0o0, 0o400, 0o644, 0o1644, 0o2755, 0o4755, 0o6777, 0o7777] {
        let file = directory.join(format!("file {mode:o}"));
        fs::write(&file, format!("{mode:o}"))?;
        lchown(&file, Some(1000), Some(2000))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(mode))?;
        let below = directory.join(format!("directory {mode:o}"));
        fs::create_dir(&below)?;
        fs::write(below.join("inside"), "x")?;
        lchown(&below, Some(3000), Some(u32::MAX - 1))?;
        fs::set_permissions(&below, fs::Permissions::from_mode(mode))?;
    }
    symlink("file 0", directory.join("link"))?;
    lchown(directory.join("link"), Some(4000), Some(5000))
}

fn attributes(root: &Path) -> io::Result<()> {
    let directory = root.join("attributes");
    fs::create_dir(&directory)?;
    let set = |name: &str, attribute: &[u8], value: &[u8]| -> Result<(), Errno> {
        rustix::fs::lsetxattr(directory.join(name), attribute, value, XattrFlags::empty())
    };
    for name in ["many", "listed", "capable", "full", "empty value"] {
        fs::write(directory.join(name), name)?;
    }
    fs::create_dir(directory.join("below"))?;
    fs::write(directory.join("below/inherits nothing"), "x")?;
    symlink("many", directory.join("link"))?;
    for number in 0..20 {
        set("many", format!("user.number {number}").as_bytes(), &[number; 3])?;
    }
    set("many", b"user.not utf-8 \xff", b"\0\xff\0")?;
    set("many", b"trusted.ours", b"only root sees this")?;
    set("listed", b"system.posix_acl_access", ACCESS_LIST)?;
    set("below", b"system.posix_acl_access", ACCESS_LIST)?;
    set("below", b"system.posix_acl_default", ACCESS_LIST)?;
    set("below", b"user.of a directory", b"1")?;
    fs::set_permissions(directory.join("capable"), fs::Permissions::from_mode(0o755))?;
    set("capable", b"security.capability", CAPABILITY)?;
    set("empty value", b"user.nothing", b"")?;
    set("link", b"trusted.of a link", b"1")?;
    rustix::fs::lsetxattr(root, "user.of the root", b"root", XattrFlags::empty())?;
    // As much as the file system takes: Linux allows 64 KiB, and ext4 a block.
    for length in [65_536, 32_768, 4000, 3000, 1000] {
        match set("full", b"user.full", &vec![b'x'; length]) {
            Err(Errno::NOSPC | Errno::TOOBIG) => {}
            set => return Ok(set?),
        }
    }
    Err(io::Error::other("no attribute of any length can be set"))
}

fn specials(root: &Path) -> io::Result<()> {
    let directory = root.join("specials");
    fs::create_dir(&directory)?;
    let make = |name: &[u8], kind, mode: u32, device| {
        let path = directory.join(OsStr::from_bytes(name));
        mknodat(CWD, path, kind, Mode::from_raw_mode(mode), device)
    };
    make(b"pipe", FileType::Fifo, 0o640, 0)?;
    make(b"pipe \xff", FileType::Fifo, 0o600, 0)?;
    make(b"socket", FileType::Socket, 0o700, 0)?;
    make(b"null", FileType::CharacterDevice, 0o666, makedev(1, 3))?;
    make(b"disk", FileType::BlockDevice, 0o660, makedev(259, 1_048_575))?;
    lchown(directory.join("disk"), Some(0), Some(6))?;
    rustix::fs::lsetxattr(directory.join("pipe"), "system.posix_acl_access", ACCESS_LIST, XattrFlags::empty())?;
    Ok(rustix::fs::lsetxattr(directory.join("null"), "trusted.of a device", b"1", XattrFlags::empty())?)
}

fn links(root: &Path) -> io::Result<()> {
    let directory = root.join("hard links");
    fs::create_dir_all(directory.join("elsewhere/deeper"))?;
    let link = |from: &str, to: &str| linkat(CWD, directory.join(from), CWD, directory.join(to), AtFlags::empty());
    fs::write(directory.join("large"), vec![7; 9_000_000])?;
    fs::write(directory.join("small"), "small")?;
    fs::write(directory.join("a closed one"), "closed")?;
    fs::write(directory.join("empty"), "")?;
    fs::set_permissions(directory.join("a closed one"), fs::Permissions::from_mode(0o0))?;
    symlink("small", directory.join("symbolic"))?;
    mknodat(CWD, directory.join("pipe"), FileType::Fifo, Mode::RUSR, 0)?;
    rustix::fs::setxattr(directory.join("small"), "user.shared", b"1", XattrFlags::empty())?;
    for name in ["large", "small", "a closed one", "empty", "symbolic", "pipe"] {
        link(name, &format!("elsewhere/{name}"))?;
        link(name, &format!("elsewhere/deeper/another {name}"))?;
    }
    Ok(())
}

fn sparse(root: &Path) -> io::Result<()> {
    let file = File::create(root.join("sparse"))?;
    file.set_len(40 << 20)?;
    std::os::unix::fs::FileExt::write_all_at(&file, b"in the middle", 20 << 20)
}

fn times(root: &Path) -> io::Result<()> {
    let directory = root.join("times");
    fs::create_dir(&directory)?;
    let times =
        [(0, 0), (-1, 999_999_999), (-2_000_000_000, 1), (1, 1), (2_147_483_648, 7), (15_032_385_535, 123_456_789)];
    for (seconds, nanoseconds) in times {
        let name = format!("{seconds}.{nanoseconds}");
        fs::write(directory.join(&name), "x")?;
        fs::create_dir(directory.join(format!("directory {name}")))?;
        symlink(&name, directory.join(format!("link {name}")))?;
        for path in [name.clone(), format!("directory {name}"), format!("link {name}")] {
            let times = Timestamps {
                last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
                last_modification: Timespec { tv_sec: seconds, tv_nsec: nanoseconds },
            };
            utimensat(CWD, directory.join(path), &times, AtFlags::SYMLINK_NOFOLLOW)?;
        }
    }
    Ok(())
}
