//! The place on tmpfs where everything lies while it is measured.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// Directories of ours begin with this; the rest is the number of the process that made it.
const PREFIX: &str = "perennial-bench-";

/// Source, repository, target and a cache that may hold everything once more.
const COPIES: u64 = 4;

/// For the measured program itself, and for what else runs.
const SPARE_BYTES: u64 = 1536 << 20;

/// A directory that is removed when the run is over, also when it fails.
pub struct Room {
    path: PathBuf,
}

impl Room {
    /// Makes the directory, provided that `data_bytes` fit as often as needed.
    pub fn reserve(parent: &Path, data_bytes: u64) -> Result<Self> {
        remove_left_over(parent)?;
        let needed = data_bytes * COPIES + SPARE_BYTES;
        let free = free_bytes(parent)?;
        if free < needed {
            let missing = (needed - free).div_ceil(1 << 20);
            bail!(
                "{} has {} MiB free and {} MiB are needed, {missing} MiB more: make room, or use --quick, --data small or --directory",
                parent.display(),
                free >> 20,
                needed >> 20
            );
        }
        let path = parent.join(format!("{PREFIX}{}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Self { path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// An empty directory in the room.
    pub fn fresh(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        if path.exists() {
            std::fs::remove_dir_all(&path).with_context(|| format!("remove {}", path.display()))?;
        }
        std::fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            eprintln!("bench: {} stays behind: {error}", self.path.display());
        }
    }
}

/// What a killed benchmark left holds memory until somebody removes it.
fn remove_left_over(parent: &Path) -> Result<()> {
    for entry in std::fs::read_dir(parent).with_context(|| format!("list {}", parent.display()))? {
        let entry = entry.with_context(|| format!("list {}", parent.display()))?;
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|id| id.parse::<u32>().ok());
        if process.is_some_and(|id| !Path::new("/proc").join(id.to_string()).exists()) {
            std::fs::remove_dir_all(entry.path()).with_context(|| format!("remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// Free room of the file system; tmpfs has no more than the machine has free memory.
fn free_bytes(directory: &Path) -> Result<u64> {
    let room = rustix::fs::statvfs(directory).with_context(|| format!("ask for room in {}", directory.display()))?;
    let memory = std::fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
    let memory_bytes = memory_line_kib(&memory, "MemAvailable:").map_or(u64::MAX, |kib| kib << 10);
    Ok((room.f_bavail * room.f_frsize).min(memory_bytes))
}

/// A number of `/proc/meminfo`.
pub fn memory_line_kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Sum of the lengths of all files below, as a bucket would count them.
pub fn size_of(directory: &Path) -> Result<u64> {
    let mut total_bytes = 0;
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).with_context(|| format!("list {}", directory.display()))? {
            let entry = entry.with_context(|| format!("list {}", directory.display()))?;
            let metadata = entry.metadata().with_context(|| format!("look at {}", entry.path().display()))?;
            if metadata.is_dir() {
                open.push(entry.path());
            } else {
                total_bytes += metadata.len();
            }
        }
    }
    Ok(total_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_room_is_said_and_room_is_given_back() -> Result<()> {
        let parent = tempfile::tempdir()?;
        let error = Room::reserve(parent.path(), 1 << 60).err().expect("an exbibyte does not fit").to_string();
        assert!(error.contains("MiB more"), "{error}");
        let room = Room::reserve(parent.path(), 0)?;
        std::fs::write(room.fresh("run")?.join("file"), "12345")?;
        assert_eq!(size_of(room.path())?, 5);
        drop(room);
        assert_eq!(size_of(parent.path())?, 0);
        Ok(())
    }

    #[test]
    fn memory_lines_are_read() {
        assert_eq!(memory_line_kib("MemTotal: 10 kB\nMemAvailable:  24 kB\n", "MemAvailable:"), Some(24));
    }
}
