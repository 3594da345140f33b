//! The few mounts that a driver makes.

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount};
use std::ffi::CString;
use std::io::Result;
use std::path::Path;

/// How often something is mounted there.
pub fn count(target: &Path) -> Result<usize> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    Ok(places.filter(|place| Path::new(place) == target).count())
}

/// Shows `source` at `target` as well.
pub fn bind(source: &Path, target: &Path, read_only: bool) -> Result<()> {
    mount_bind(source, target)?;
    if read_only {
        // A bind mount takes no other flag at first.
        mount_remount(target, MountFlags::BIND | MountFlags::RDONLY, c"")?;
    }
    Ok(())
}

/// A file system in memory that holds no more than `size_bytes`.
pub fn memory(target: &Path, size_bytes: i64) -> Result<()> {
    let options = CString::new(format!("size={size_bytes},mode=777"))?;
    Ok(mount("tmpfs", target, "tmpfs", MountFlags::empty(), options.as_c_str())?)
}

/// Lets such a file system hold more.
pub fn resize(target: &Path, size_bytes: i64) -> Result<()> {
    let options = CString::new(format!("size={size_bytes}"))?;
    Ok(mount_remount(target, MountFlags::empty(), options.as_c_str())?)
}

/// Unmounts as often as something is mounted there.
pub fn clear(target: &Path) -> Result<()> {
    for _ in 0..count(target)? {
        unmount(target, UnmountFlags::empty())?;
    }
    Ok(())
}
