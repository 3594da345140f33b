//! Below the target directory: everything relative to open directories, and no link is ever followed.
//!
//! An old or hostile link in the target, symbolic or hard, must not lead a write elsewhere: directories are opened one
//! component at a time without following links, files are always made anew.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use repository::{SpecialKind, Xattr};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, StatxAttributes, StatxFlags, makedev};
use rustix::io::Errno;

use super::attributes::Attributes;
use super::tally::Problem;

/// Deeper trees are not restored; a path that any program can use ends long before.
pub(crate) const DEPTH_MAX: u32 = 2048;
/// Deeper directories are not removed: each level holds a descriptor.
const REMOVE_DEPTH_MAX: u32 = 256;
/// Directories each thread keeps open.
const HANDLES: usize = 32;
/// How often a name is cleared that someone else keeps taking.
const CLEAR_ATTEMPTS: u32 = 3;

/// Names of operations that may be impossible where the others are not.
pub(crate) const LINK: &str = "create the hard link";
pub(crate) const SPECIAL: &str = "create the special file";

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// One directory of the target while anything in it is still to be done.
#[derive(Debug)]
pub(crate) struct Folder {
    id: u64,
    name: Vec<u8>,
    parent: Option<Arc<Folder>>,
    depth: u32,
    /// It was there before: there may be something in it.
    pub(crate) existed: bool,
    /// What it gets when everything in it is done; nothing for the root, which gets its own last of all.
    pub(crate) attributes: Option<Attributes>,
    /// Those are known when it has been listed.
    pub(crate) xattrs: OnceLock<Vec<Xattr>>,
    /// Files and directories in it that are not done, and one while it is being listed.
    pending: AtomicUsize,
}

impl Folder {
    pub(crate) fn root(existed: bool) -> Arc<Self> {
        let (name, pending, xattrs) = (Vec::new(), AtomicUsize::new(1), OnceLock::new());
        Arc::new(Self { id: 0, name, parent: None, depth: 0, existed, attributes: None, xattrs, pending })
    }

    /// A directory in this one, which is not done before that is.
    pub(crate) fn child(self: &Arc<Self>, id: u64, name: &[u8], existed: bool, attributes: Attributes) -> Arc<Self> {
        self.hold();
        Arc::new(Self {
            id,
            name: name.to_vec(),
            parent: Some(Arc::clone(self)),
            depth: self.depth + 1,
            existed,
            attributes: Some(attributes),
            xattrs: OnceLock::new(),
            pending: AtomicUsize::new(1),
        })
    }

    /// One more thing in it is to be done.
    pub(crate) fn hold(&self) {
        self.pending.fetch_add(1, Ordering::Relaxed);
    }

    /// One thing in it is done. True when that was the last.
    pub(crate) fn let_go(&self) -> bool {
        self.pending.fetch_sub(1, Ordering::AcqRel) == 1
    }

    pub(crate) fn parent(&self) -> Option<&Arc<Self>> {
        self.parent.as_ref()
    }

    pub(crate) fn is_root(&self) -> bool {
        self.parent.is_none()
    }

    pub(crate) fn is_too_deep(&self) -> bool {
        self.depth >= DEPTH_MAX
    }

    /// Path of the directory relative to the root of the restore, for people; empty for the root.
    pub(crate) fn path(&self) -> String {
        let mut names = Vec::new();
        let mut folder = self;
        while let Some(parent) = &folder.parent {
            names.push(String::from_utf8_lossy(&folder.name));
            folder = parent;
        }
        names.reverse();
        names.join("/")
    }

    /// Path of an entry in it, relative to the root of the restore, for people.
    pub(crate) fn path_of(&self, name: &[u8]) -> String {
        let name = String::from_utf8_lossy(name);
        if self.is_root() { name.into_owned() } else { format!("{}/{name}", self.path()) }
    }
}

/// The directories one thread keeps open, those used last in front.
pub(crate) struct Handles {
    root: Arc<OwnedFd>,
    open: Vec<(u64, Arc<OwnedFd>)>,
}

impl Handles {
    pub(crate) fn new(root: &Arc<OwnedFd>) -> Self {
        Self { root: Arc::clone(root), open: Vec::with_capacity(HANDLES) }
    }

    /// Opens a directory, from the nearest one above it that is open.
    pub(crate) fn get(&mut self, folder: &Folder) -> Result<Arc<OwnedFd>, Problem> {
        let mut closed = Vec::new();
        let mut above = folder;
        let mut handle = loop {
            if let Some(handle) = self.cached(above) {
                break handle;
            }
            closed.push(above);
            match &above.parent {
                Some(parent) => above = parent,
                None => break Arc::clone(&self.root),
            }
        };
        for folder in closed.into_iter().rev() {
            let opened = rustix::fs::openat(&*handle, folder.name.as_slice(), DIRECTORY, Mode::empty())
                .map_err(Problem::target("open the directory"))?;
            handle = Arc::new(opened);
            self.open.truncate(HANDLES - 1);
            self.open.insert(0, (folder.id, Arc::clone(&handle)));
        }
        Ok(handle)
    }

    fn cached(&mut self, folder: &Folder) -> Option<Arc<OwnedFd>> {
        if folder.is_root() {
            return Some(Arc::clone(&self.root));
        }
        let at = self.open.iter().position(|(id, _)| *id == folder.id)?;
        self.open[..=at].rotate_right(1);
        Some(Arc::clone(&self.open[0].1))
    }
}

/// What lies under a name, itself and not what it may point to.
pub(crate) fn look_up(directory: impl AsFd, name: &[u8]) -> Result<Option<Stat>, Errno> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes sure that a directory of this name is there and can be worked in. True if it was there before.
pub(crate) fn make_directory(directory: impl AsFd, name: &[u8]) -> Result<bool, Problem> {
    let directory = directory.as_fd();
    let failed = Problem::target("create the directory");
    for _ in 0..CLEAR_ATTEMPTS {
        match rustix::fs::mkdirat(directory, name, Mode::RWXU) {
            Ok(()) => return Ok(false),
            Err(Errno::EXIST) => {}
            Err(error) => return Err(failed(error)),
        }
        let Some(stat) = look_up(directory, name).map_err(&failed)? else { continue };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let mode = Mode::from_raw_mode(stat.st_mode);
            if !mode.contains(Mode::RWXU) {
                rustix::fs::chmodat(directory, name, mode.union(Mode::RWXU), AtFlags::empty())
                    .map_err(Problem::target("make the directory writable"))?;
            }
            return Ok(true);
        }
        remove(directory, name)?;
    }
    Err(failed(Errno::EXIST))
}

/// Makes a new file, in the place of whatever had its name.
pub(crate) fn create_file(directory: impl AsFd, name: &[u8], readable: bool) -> Result<File, Problem> {
    let access = if readable { OFlags::RDWR } else { OFlags::WRONLY };
    let flags = access | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    instead_of_what_is_there(&directory, name, "create the file", || {
        rustix::fs::openat(&directory, name, flags, mode).map(File::from)
    })
}

/// Opens a file that was made before.
pub(crate) fn open_file(directory: impl AsFd, name: &[u8], readable: bool) -> Result<File, Problem> {
    let access = if readable { OFlags::RDWR } else { OFlags::WRONLY };
    let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::empty()).map(File::from).map_err(Problem::target("open the file"))
}

/// Opens a file that was made before, to read it.
pub(crate) fn open_to_read(directory: impl AsFd, name: &[u8]) -> Result<File, Problem> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::empty()).map(File::from).map_err(Problem::target("open the file"))
}

/// Makes a symbolic link, in the place of whatever had its name.
pub(crate) fn create_link(directory: impl AsFd, name: &[u8], to: &[u8]) -> Result<(), Problem> {
    instead_of_what_is_there(&directory, name, "create the symbolic link", || {
        rustix::fs::symlinkat(to, &directory, name)
    })
}

/// Makes a device, named pipe or socket, in the place of whatever had its name.
pub(crate) fn create_special(directory: impl AsFd, name: &[u8], kind: SpecialKind) -> Result<(), Problem> {
    let (file_type, device) = match kind {
        SpecialKind::Fifo => (FileType::Fifo, 0),
        SpecialKind::Socket => (FileType::Socket, 0),
        SpecialKind::CharacterDevice(number) => (FileType::CharacterDevice, makedev(number.major, number.minor)),
        SpecialKind::BlockDevice(number) => (FileType::BlockDevice, makedev(number.major, number.minor)),
    };
    instead_of_what_is_there(&directory, name, SPECIAL, || {
        rustix::fs::mknodat(&directory, name, file_type, Mode::RUSR | Mode::WUSR, device)
    })
}

/// Gives a file another name, in the place of whatever had that. Nothing is done if it has the name already.
pub(crate) fn create_hard_link(
    from: impl AsFd,
    old_name: &[u8],
    directory: impl AsFd,
    name: &[u8],
) -> Result<(), Problem> {
    let failed = Problem::target(LINK);
    let found = look_up(&from, old_name).map_err(&failed)?;
    let there = look_up(&directory, name).map_err(&failed)?;
    if let (Some(old), Some(there)) = (found, there)
        && (old.st_dev, old.st_ino) == (there.st_dev, there.st_ino)
    {
        return Ok(());
    }
    instead_of_what_is_there(&directory, name, LINK, || {
        rustix::fs::linkat(&from, old_name, &directory, name, AtFlags::empty())
    })
}

fn instead_of_what_is_there<T>(
    directory: impl AsFd,
    name: &[u8],
    operation: &'static str,
    create: impl Fn() -> Result<T, Errno>,
) -> Result<T, Problem> {
    for _ in 0..CLEAR_ATTEMPTS {
        match create() {
            Err(Errno::EXIST) => remove(directory.as_fd(), name)?,
            other => return other.map_err(Problem::target(operation)),
        };
    }
    Err(Problem::target(operation)(Errno::EXIST))
}

/// Removes whatever has this name, with everything in it; what is not there is no error. Mount points stay. Returns how
/// many entries went.
pub(crate) fn remove(directory: BorrowedFd<'_>, name: &[u8]) -> Result<u64, Problem> {
    remove_below(directory, name, 0)
}

fn remove_below(directory: BorrowedFd<'_>, name: &[u8], depth: u32) -> Result<u64, Problem> {
    let failed = Problem::target("remove what is there");
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) => return Ok(1),
        Err(Errno::NOENT) => return Ok(0),
        // POSIX says "not permitted" of a directory where Linux says that it is one.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(failed(error)),
    }
    if depth >= REMOVE_DEPTH_MAX {
        return Err(Problem::blocked("remove what is there: its directories are too deep"));
    }
    if is_mount_point(directory, name).map_err(&failed)? {
        return Err(Problem::blocked("remove what is there: it is a mount point, or has one below it"));
    }
    let inner = rustix::fs::openat(directory, name, DIRECTORY, Mode::empty()).map_err(&failed)?;
    let mut count = 1;
    for child in names_in(inner.as_fd()).map_err(&failed)? {
        count += remove_below(inner.as_fd(), &child, depth + 1)?;
    }
    rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR).map_err(&failed)?;
    Ok(count)
}

/// Bytes that would be free if whatever has this name were removed. Mount points are not looked into.
pub(crate) fn allocated_bytes(directory: BorrowedFd<'_>, name: &[u8], depth: u32) -> u64 {
    let Ok(stat) = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else { return 0 };
    let own = allocated(&stat);
    let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    if !is_directory || depth >= REMOVE_DEPTH_MAX || is_mount_point(directory, name).unwrap_or(true) {
        return own;
    }
    let Ok(inner) = rustix::fs::openat(directory, name, DIRECTORY, Mode::empty()) else { return own };
    let names = names_in(inner.as_fd()).unwrap_or_default();
    names.iter().fold(own, |sum, child| sum + allocated_bytes(inner.as_fd(), child, depth + 1))
}

/// Bytes a file takes on its file system, unless its other names keep them.
pub(crate) fn allocated(stat: &Stat) -> u64 {
    /// The unit of `st_blocks`, whatever the file system's own.
    const BLOCK_BYTES: u64 = 512;
    let shared = stat.st_nlink > 1 && FileType::from_raw_mode(stat.st_mode) != FileType::Directory;
    if shared { 0 } else { u64::try_from(stat.st_blocks).unwrap_or(0) * BLOCK_BYTES }
}

/// The kernel tells since 5.8; before, a bind mount of the same file system is not noticed.
fn is_mount_point(directory: BorrowedFd<'_>, name: &[u8]) -> Result<bool, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    if let Ok(found) = rustix::fs::statx(directory, name, flags, StatxFlags::BASIC_STATS)
        && found.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT)
    {
        return Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT));
    }
    let outer = rustix::fs::fstat(directory)?;
    let inner = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(outer.st_dev != inner.st_dev)
}

fn names_in(directory: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, Errno> {
    extra_names(directory, |_| false)
}

/// The names in a directory that are not known.
pub(crate) fn extra_names(directory: BorrowedFd<'_>, is_known: impl Fn(&[u8]) -> bool) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." && !is_known(name) {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}
