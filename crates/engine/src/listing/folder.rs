//! Directories that stay open while there is room for them, and are opened again where there is not.
//!
//! A process may have only so many files open, and each level of a tree may have something that waits for its turn.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{Mode, OFlags, fstat, openat};
use rustix::process::{Resource, getrlimit};

/// Of the files that this process may have open, directories of a walk keep one in so many.
const SHARE: u64 = 4;
/// More open directories save nothing.
const KEPT_MAX: u64 = 4096;

/// A directory that can be worked in at any time.
pub(crate) struct Folder {
    /// Nothing where too many are open already.
    kept: Option<Arc<OwnedFd>>,
    /// Where it is opened again, which must give the directory of that device and inode number; nothing for the root.
    above: Option<(Arc<Folder>, CString)>,
    identity: (u64, u64),
    free: Arc<AtomicUsize>,
}

impl Folder {
    /// The first directory of a walk.
    pub(crate) fn root(fd: OwnedFd) -> Arc<Self> {
        let allowed = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let free = usize::try_from((allowed / SHARE).min(KEPT_MAX)).unwrap_or(0);
        let free = Arc::new(AtomicUsize::new(free));
        Arc::new(Self { kept: Some(Arc::new(fd)), above: None, identity: (0, 0), free })
    }

    /// An open directory that has this name in `parent`.
    pub(crate) fn child(parent: &Arc<Self>, name: CString, fd: &Arc<OwnedFd>) -> io::Result<Arc<Self>> {
        let has_room = |free: usize| free.checked_sub(1);
        let is_kept = parent.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, has_room).is_ok();
        let identity = if is_kept { (0, 0) } else { identity(fd)? };
        let (above, free) = (Some((Arc::clone(parent), name)), Arc::clone(&parent.free));
        Ok(Arc::new(Self { kept: is_kept.then(|| Arc::clone(fd)), above, identity, free }))
    }

    /// Opens it, if it is not open.
    pub(crate) fn open(&self) -> io::Result<Arc<OwnedFd>> {
        let mut closed = Vec::new();
        let mut folder = self;
        let mut fd = loop {
            match (&folder.kept, &folder.above) {
                (Some(fd), _) => break Arc::clone(fd),
                (None, Some((above, name))) => {
                    closed.push(name);
                    folder = above;
                }
                (None, None) => return Err(io::Error::other("the root of a walk is always open")),
            }
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for name in closed.into_iter().rev() {
            fd = Arc::new(openat(&*fd, name.as_c_str(), flags, Mode::empty())?);
        }
        if self.kept.is_none() && identity(&fd)? != self.identity {
            return Err(io::Error::other("its directory was replaced by another since it was listed"));
        }
        Ok(fd)
    }
}

impl Drop for Folder {
    /// One after the other and not in each other: the way up may be longer than the stack.
    fn drop(&mut self) {
        if self.above.is_some() && self.kept.is_some() {
            self.free.fetch_add(1, Ordering::Relaxed);
        }
        let mut above = self.above.take();
        while let Some((folder, _)) = above {
            above = Arc::into_inner(folder).and_then(|mut folder| {
                if folder.above.is_some() && folder.kept.is_some() {
                    folder.free.fetch_add(1, Ordering::Relaxed);
                }
                folder.above.take()
            });
        }
    }
}

fn identity(fd: &OwnedFd) -> io::Result<(u64, u64)> {
    let stat = fstat(fd)?;
    Ok((stat.st_dev, stat.st_ino))
}
