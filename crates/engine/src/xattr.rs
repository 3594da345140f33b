//! Extended attributes relative to open directories.
//!
//! Before 6.13 Linux has no call for the attributes of a name in an open directory, and a plain path could be led elsewhere
//! by a link: so the directory is named by way of `/proc/self/fd`, and the name in it is not followed.

use std::ffi::CStr;
use std::io::Write as _;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// Linux allows no longer list of names, and no longer value.
pub(crate) const LINUX_BYTES_MAX: usize = 64 << 10;

/// What the machine says of its files for itself; on another machine, or on other bytes, it would be wrong.
const MACHINE_LABELS: [&[u8]; 4] = [b"security.selinux", b"security.ima", b"security.evm", b"security.apparmor"];
const MACHINE_LABELS_BEGIN: &[u8] = b"security.SMACK64";
/// Access control lists: they come into being by inheritance too.
pub(crate) const ACCESS_LISTS: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];

/// True for labels that belong to the machine and are not part of a backup.
pub(crate) fn is_of_machine(attribute: &[u8]) -> bool {
    MACHINE_LABELS.contains(&attribute) || attribute.starts_with(MACHINE_LABELS_BEGIN)
}

/// Whose attributes.
#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    /// Those of an open file or directory itself.
    Open(BorrowedFd<'a>),
    /// Those of what has this name in a directory, and not of what that may point to.
    In(BorrowedFd<'a>, &'a CStr),
}

/// Calls, with the buffer for paths.
#[derive(Default)]
pub(crate) struct Xattrs {
    path: Vec<u8>,
}

impl Xattrs {
    /// Puts the names into `list`, a NUL after each; gives their length in bytes.
    pub(crate) fn list(&mut self, place: Place<'_>, list: &mut [u8]) -> Result<usize, Errno> {
        match place {
            Place::Open(fd) => rustix::fs::flistxattr(fd, list),
            Place::In(directory, name) => rustix::fs::llistxattr(self.path(directory, name)?, list),
        }
    }

    /// Puts a value into `value`; gives its length in bytes.
    pub(crate) fn get(&mut self, place: Place<'_>, attribute: &[u8], value: &mut [u8]) -> Result<usize, Errno> {
        match place {
            Place::Open(fd) => rustix::fs::fgetxattr(fd, attribute, value),
            Place::In(directory, name) => rustix::fs::lgetxattr(self.path(directory, name)?, attribute, value),
        }
    }

    pub(crate) fn set(&mut self, place: Place<'_>, attribute: &[u8], value: &[u8]) -> Result<(), Errno> {
        match place {
            Place::Open(fd) => rustix::fs::fsetxattr(fd, attribute, value, XattrFlags::empty()),
            Place::In(directory, name) => {
                rustix::fs::lsetxattr(self.path(directory, name)?, attribute, value, XattrFlags::empty())
            }
        }
    }

    pub(crate) fn remove(&mut self, place: Place<'_>, attribute: &[u8]) -> Result<(), Errno> {
        match place {
            Place::Open(fd) => rustix::fs::fremovexattr(fd, attribute),
            Place::In(directory, name) => rustix::fs::lremovexattr(self.path(directory, name)?, attribute),
        }
    }

    fn path(&mut self, directory: BorrowedFd<'_>, name: &CStr) -> Result<&CStr, Errno> {
        self.path.clear();
        // A vector takes all that is written to it.
        let _ = write!(self.path, "/proc/self/fd/{}/", directory.as_raw_fd());
        self.path.extend_from_slice(name.to_bytes_with_nul());
        CStr::from_bytes_with_nul(&self.path).map_err(|_| Errno::INVAL)
    }
}

/// What the system says, in words.
pub(crate) fn words(errno: Errno) -> String {
    std::io::Error::from(errno).to_string()
}
