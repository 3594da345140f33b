//! Directories none of whose files has attributes, remembered on this machine.
//!
//! To ask every file costs as much as all else that an unchanged backup asks the kernel for. Attributes do not change
//! without their file's ctime, which nobody can set: so where names, inodes and ctimes in a directory are those at which
//! nothing was found, nothing is there now. Only the absence of attributes is remembered, for a directory as a whole, or
//! each part of one that is gone through in parts.
//!
//! The memory is a file of fixed size with a place for each directory, where another one may overwrite it. A place holds
//! the hash of all that was seen, so that what is torn, damaged or another directory's is as good as nothing.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use codec::digest::{Algorithm, Digest, KeyedHash};
use jiff::{SignedDuration, Timestamp};
use rustix::fs::Stat;
use rustix::thread::capabilities;

use crate::listing::Listed;

const FILE_NAME: &str = "bare-directories";
/// Any bytes may be its key.
const HASH: Algorithm = Algorithm::Blake3_256_128;
const PLACE_BYTES: u64 = 16;
/// For 256 Ki directories: a sparse file of 4 MiB.
const PLACE_COUNT: u64 = 256 << 10;
/// A file system's clock may tick as rarely as this: within a tick, a change leaves the time as it is.
const TICK: SignedDuration = SignedDuration::from_millis(100);
/// The same where times are whole seconds.
const COARSE_TICK: SignedDuration = SignedDuration::from_secs(3);

/// The memory for one source, shared by all threads that walk.
#[derive(Clone)]
pub(super) struct BareDirectories(Option<Arc<Memory>>);

struct Memory {
    file: File,
    hash: KeyedHash,
}

/// What a directory, or a part of it, looks like now.
pub(super) struct Look {
    offset: u64,
    hash: Digest,
    /// A change from now on would show in a ctime.
    is_settled: bool,
}

impl BareDirectories {
    /// The memory in `cache` for the source at `path`. Where there is none, nothing is known and nothing remembered.
    pub(super) fn open(cache: Option<&Path>, path: &Path) -> Self {
        let opened = cache.map(|cache| Memory::open(cache, path)).transpose();
        let memory = opened.unwrap_or_else(|error| {
            tracing::info!(%error, "no memory for directories without attributes");
            None
        });
        Self(memory.map(Arc::new))
    }

    /// How a part of the directory at `path`, relative to the source, looks. Nothing where it would be of no use.
    pub(super) fn look<'a>(
        &self,
        path: &str,
        part: u32,
        listed: impl Iterator<Item = &'a Listed>,
        now: Timestamp,
    ) -> Option<Look> {
        let memory = self.0.as_ref()?;
        let mut seen = [path.as_bytes(), b"\0", &part.to_le_bytes()].concat();
        let of_place = memory.hash.hash(&seen);
        let mut is_settled = true;
        for entry in listed.filter(|entry| entry.asks_by_name()) {
            let stat = &entry.stat;
            seen.push(0);
            seen.extend_from_slice(entry.raw.as_bytes_with_nul());
            seen.extend_from_slice(&stat.st_ino.to_le_bytes());
            seen.extend_from_slice(&stat.st_ctime.to_le_bytes());
            seen.extend_from_slice(&stat.st_ctime_nsec.to_le_bytes());
            is_settled &= has_settled(stat, now);
        }
        let hash = memory.hash.hash(&seen);
        let number = of_place.as_bytes().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
        Some(Look { offset: number % PLACE_COUNT * PLACE_BYTES, hash, is_settled })
    }

    /// True when nothing was found where everything looked like this.
    pub(super) fn knows(&self, look: &Look) -> bool {
        let mut known = [0; PLACE_BYTES as usize];
        let read = self.0.as_ref().map(|memory| memory.file.read_exact_at(&mut known, look.offset));
        matches!(read, Some(Ok(()))) && known == *look.hash.as_bytes()
    }

    /// Nothing was found.
    pub(super) fn remember(&self, look: &Look) {
        if let Some(memory) = self.0.as_ref().filter(|_| look.is_settled) {
            // What could not be written is not known.
            let _ = memory.file.write_all_at(look.hash.as_bytes(), look.offset);
        }
    }
}

impl Memory {
    fn open(cache: &Path, path: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(cache)?;
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(cache.join(FILE_NAME))?;
        file.set_len(PLACE_COUNT * PLACE_BYTES)?;
        // Who may do less sees fewer attributes.
        let effective = capabilities(None)?.effective.bits();
        let key = [effective.to_le_bytes().as_slice(), path.as_os_str().as_bytes()].concat();
        let hash = KeyedHash::new(HASH, &key).map_err(io::Error::other)?;
        Ok(Self { file, hash })
    }
}

fn has_settled(stat: &Stat, now: Timestamp) -> bool {
    let tick = if stat.st_ctime_nsec == 0 { COARSE_TICK } else { TICK };
    let nanoseconds = i32::try_from(stat.st_ctime_nsec).unwrap_or(0);
    Timestamp::new(stat.st_ctime, nanoseconds).is_ok_and(|changed| now.duration_since(changed) > tick)
}
