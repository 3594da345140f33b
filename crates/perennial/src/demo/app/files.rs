//! Ten thousand small files, with every oddity that a file system allows and Kopia's format can hold; and, so that one
//! sees what it cannot hold, a named pipe and, where the system lets us, a device.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown, lchown, symlink};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, makedev, mknodat, utimensat};

use super::{App, Edit, noise};
use crate::demo::error::{DemoError, io};
use crate::output;

const DIRECTORY_COUNT: u64 = 100;
const FILES_PER_DIRECTORY: u64 = 100;
/// The longest a file may be, in bytes.
const FILE_BYTES_MAX: u64 = 4096;
/// Bytes of the longest name that Linux allows.
const NAME_BYTES_MAX: usize = 255;
/// In the year 1937, with nanoseconds.
const LONG_AGO: (i64, i64) = (-1_020_304_050, 123_456_789);
/// In the year 2100.
const LATER: (i64, i64) = (4_102_444_800, 987_654_321);

/// The app that keeps them.
pub struct Files {
    pub is_root: bool,
}

impl App for Files {
    fn name(&self) -> &'static str {
        "files"
    }

    fn fill(&mut self, volume: &Path) -> Result<(), DemoError> {
        let failed = |_: &Path| io("make small files");
        for directory in 0..DIRECTORY_COUNT {
            let path = volume.join(format!("project {directory:02}"));
            fs::create_dir(&path).map_err(failed(&path))?;
            for number in 0..FILES_PER_DIRECTORY {
                let seed = directory * FILES_PER_DIRECTORY + number;
                fs::write(path.join(format!("{number:02}.txt")), text(seed, 0)).map_err(failed(&path))?;
            }
        }
        self.odd(&volume.join("odd")).map_err(io("make odd files"))
    }

    fn edit(&mut self, volume: &Path) -> Result<Edit, DemoError> {
        let mut changed_bytes = 0;
        let failed = || io("edit small files");
        for directory in 0..DIRECTORY_COUNT {
            let path = volume.join(format!("project {directory:02}"));
            let body = text(directory * FILES_PER_DIRECTORY, 1);
            changed_bytes += body.len() as u64;
            fs::write(path.join("00.txt"), body).map_err(failed())?;
            if directory % 4 == 0 {
                fs::remove_file(path.join("99.txt")).map_err(failed())?;
            }
        }
        fs::rename(volume.join("project 07"), volume.join("project seven")).map_err(failed())?;
        let what = format!(
            "{} files rewritten (1 %), {} deleted, a directory with {} renamed",
            output::count(DIRECTORY_COUNT),
            output::count(DIRECTORY_COUNT / 4),
            output::count(FILES_PER_DIRECTORY)
        );
        Ok(Edit { what, changed_bytes: Some(changed_bytes) })
    }
}

/// Lines that compress as text does.
fn text(seed: u64, edition: u64) -> String {
    let mut random = [0; 8];
    noise(&format!("{seed} {edition}")).fill(&mut random);
    let length = u64::from_le_bytes(random) % FILE_BYTES_MAX;
    let mut text = String::new();
    let mut line = 0_u64;
    while (text.len() as u64) < length {
        let word = hex::encode(blake3::hash(format!("{seed} {edition} {line}").as_bytes()).as_bytes());
        text.push_str(&format!("{seed} said in line {line}: {}\n", &word[..24]));
        line += 1;
    }
    text
}

impl Files {
    fn odd(&self, root: &Path) -> std::io::Result<()> {
        fs::create_dir(root)?;
        let names = [
            "two  spaces ".to_owned(),
            "a new\nline and a\ttab".to_owned(),
            "Grüße 世界 🦀 e\u{301}".to_owned(),
            "*?[x]$(echo)`'\"\\".to_owned(),
            "-rf".to_owned(),
            "...".to_owned(),
            "l".repeat(NAME_BYTES_MAX),
        ];
        for name in &names {
            fs::write(root.join(name), name)?;
        }
        self.modes(root)?;
        fs::write(root.join("empty"), "")?;
        fs::create_dir(root.join("empty directory"))?;
        symlink("../project 01/01.txt", root.join("link"))?;
        symlink("/nowhere/at/all", root.join("dangling link"))?;
        symlink(".", root.join("link to itself"))?;
        fs::hard_link(root.join("-rf"), root.join("hard link"))?;
        // Both may be forbidden where this runs; then there is nothing to show.
        let _ = mknodat(CWD, root.join("pipe"), FileType::Fifo, Mode::from(0o640), 0);
        let _ = mknodat(CWD, root.join("null"), FileType::CharacterDevice, Mode::from(0o666), makedev(1, 3));
        self.owners(root)?;
        for (name, time) in [("-rf", LONG_AGO), ("...", LATER), ("link", LONG_AGO), ("empty directory", LONG_AGO)] {
            let time = Timespec { tv_sec: time.0, tv_nsec: time.1 };
            let times = Timestamps { last_access: time, last_modification: time };
            utimensat(CWD, root.join(name), &times, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    }

    /// Without root, what its owner may not read cannot be backed up: then 0400 stands for 0000.
    fn modes(&self, root: &Path) -> std::io::Result<()> {
        let closed = if self.is_root { 0o0000 } else { 0o0400 };
        for (name, mode) in
            [("closed", closed), ("setuid", 0o4755), ("setgid", 0o2711), ("sticky", 0o1644), ("read only", 0o444)]
        {
            fs::write(root.join(name), name)?;
            fs::set_permissions(root.join(name), Permissions::from_mode(mode))?;
        }
        let closed = if self.is_root { 0o0000 } else { 0o0500 };
        for (name, mode) in [("sticky directory", 0o1777), ("setgid directory", 0o2775), ("closed directory", closed)] {
            fs::create_dir(root.join(name))?;
            fs::write(root.join(name).join("inside"), name)?;
            fs::set_permissions(root.join(name), Permissions::from_mode(mode))?;
        }
        Ok(())
    }

    /// Only root gives files away. Inside a user namespace not all numbers can be had.
    fn owners(&self, root: &Path) -> std::io::Result<()> {
        if !self.is_root {
            return Ok(());
        }
        let _ = chown(root.join("read only"), Some(1000), Some(100));
        let _ = chown(root.join("empty directory"), Some(65_534), Some(12_345));
        let _ = lchown(root.join("dangling link"), Some(999), Some(998));
        Ok(())
    }
}
