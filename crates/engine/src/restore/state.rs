//! The note in the target that says which restore was begun there.
//!
//! While it lies there, a file with the size, time, mode and owner of the snapshot's is one that an earlier run of the same
//! restore finished, since times are set last. That holds as long as the machine has not crashed, when files may have their
//! times and not their bytes: so the note names the machine's boot, and after another one it does not count.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

/// Its name. An entry of this name at the root of a snapshot is an old note and not restored.
pub(crate) const STATE_FILE: &str = ".perennial-restore.json";
/// No note is longer, in bytes.
const STATE_BYTES_MAX: u64 = 64 << 10;
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The text of the note; nothing when this boot of the machine cannot be told from another.
pub(crate) fn text(repository: &str, snapshot: &str, path: &str) -> Option<String> {
    let boot = std::fs::read_to_string(BOOT_ID).ok()?;
    let [repository, snapshot, path, boot] = [repository, snapshot, path, boot.trim()].map(quoted);
    Some(format!("{{\"repository\":{repository},\"snapshot\":{snapshot},\"path\":{path},\"boot\":{boot}}}\n"))
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            _ if letter.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(letter))),
            _ => out.push(letter),
        }
    }
    out.push('"');
    out
}

/// Whether the note is there and says exactly this.
pub(crate) fn is_there(root: impl AsFd, text: &str) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::openat(root, STATE_FILE, flags, Mode::empty()) else { return false };
    let mut found = Vec::new();
    File::from(file).take(STATE_BYTES_MAX).read_to_end(&mut found).is_ok() && found == text.as_bytes()
}

/// Writes the note durably.
pub(crate) fn write(root: impl AsFd, text: &str) -> std::io::Result<()> {
    remove(&root)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(&root, STATE_FILE, flags, Mode::RUSR | Mode::WUSR)?);
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(rustix::fs::fsync(root)?)
}

/// Removes the note, if there is one.
pub(crate) fn remove(root: impl AsFd) -> std::io::Result<()> {
    match rustix::fs::unlinkat(root, STATE_FILE, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn strings_are_json() {
        assert_eq!(quoted("a\"b\\c\nd"), "\"a\\\"b\\\\c\\u000ad\"");
    }
}
