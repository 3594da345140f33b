//! Volumes that pods see as raw devices: a file and a loop device over it.
//!
//! The kubelet puts a loop device of its own over ours for as long as a pod has it, so ours is never idle then, and
//! detaching it early only means that it goes with the last user.

use std::io::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What all loop devices are made by.
const CONTROL: &str = "/dev/loop-control";

/// Has this machine loop devices?
pub fn exist() -> bool {
    Path::new(CONTROL).exists()
}

/// A file of that size, or one made longer, with a hole for what is not there yet.
pub fn make(file: &Path, size_bytes: i64) -> Result<()> {
    let opened = std::fs::OpenOptions::new().create(true).write(true).truncate(false).open(file)?;
    opened.set_len(u64::try_from(size_bytes).unwrap_or_default())
}

/// The device over a file; the one that is there, or a new one.
pub fn attach(file: &Path) -> Result<PathBuf> {
    let said = losetup(&["--find", "--show", "--nooverlap"], file)?;
    Ok(PathBuf::from(said.trim()))
}

/// Gives all devices over a file back.
pub fn detach(file: &Path) -> Result<()> {
    for device in losetup(&["--noheadings", "--output", "NAME", "--associated"], file)?.lines() {
        losetup(&["--detach"], Path::new(device.trim()))?;
    }
    Ok(())
}

fn losetup(arguments: &[&str], path: &Path) -> Result<String> {
    let output = Command::new("losetup").args(arguments).arg(path).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::other(format!("losetup {}: {}", path.display(), said.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
