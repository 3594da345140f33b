//! Tables that outlive the process.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use codec::digest::{Algorithm, KeyedHash};

use super::place::{UNFINISHED, create, of_file, unfinished_name};
use super::rows::Output;
use super::{HEADER_BYTES, Scratch, Table};
use crate::error::IndexError;

/// In the names of tables.
const STEM: &str = "index-";
/// Domain of the hashes in those names.
const HASH_KEY: &[u8] = b"perennial: index tables";

/// What a table stands for: which index blobs of which repository, and which deleted entries were left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TableSet(pub(super) [u8; 32]);

fn hash(bytes: &[u8]) -> [u8; 32] {
    let keyed = KeyedHash::new(Algorithm::HmacSha256, HASH_KEY).expect("any key fits this hash");
    keyed.hash(bytes).as_bytes().try_into().expect("this hash has 32 bytes")
}

/// Where the tables of one repository are kept, if anywhere, and how large they may become.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    directory: Option<PathBuf>,
    repository: String,
    /// Part of the names of this repository's tables.
    stem: String,
    /// A table up to this size is held in memory and never written, in bytes.
    pub(crate) memory_bytes: usize,
    /// No file grows past this, in bytes.
    pub(crate) bytes_max: u64,
}

impl Places {
    pub(crate) fn new(repository: &str, directory: Option<&Path>, memory_bytes: usize, bytes_max: u64) -> Self {
        let stem = format!("{STEM}{}-", hex::encode(&hash(repository.as_bytes())[..8]));
        let (directory, repository) = (directory.map(Path::to_owned), repository.to_owned());
        Self { directory, repository, stem, memory_bytes, bytes_max }
    }

    /// The set of these index blobs, in any order; deleted entries up to `watermark_seconds` do not count.
    pub(crate) fn set<'a>(&self, blobs: impl Iterator<Item = &'a str>, watermark_seconds: Option<u64>) -> TableSet {
        let mut names: Vec<&str> = blobs.collect();
        names.sort_unstable();
        TableSet(hash(format!("{}\n{watermark_seconds:?}\n{}", self.repository, names.join("\n")).as_bytes()))
    }

    /// Where to put what is only needed for a while.
    pub(crate) fn scratch(&self) -> Scratch {
        Scratch::new(self.directory.as_deref(), self.bytes_max)
    }

    fn path(&self, set: &TableSet) -> Option<PathBuf> {
        let name = format!("{}{}", self.stem, hex::encode(&set.0[..16]));
        self.directory.as_ref().map(|directory| directory.join(name))
    }

    /// The table of `set`, if there is a sound one.
    pub(crate) fn open(&self, set: &TableSet) -> Option<(Table, PathBuf)> {
        let path = self.path(set)?;
        match File::open(&path).and_then(|file| Table::open(file, set)) {
            Ok(Some(table)) => Some((table, path)),
            Ok(None) => {
                // It would be in the way of a sound one.
                let _ = fs::remove_file(&path);
                None
            }
            // Building it anew tells what is wrong with the place, if anything is.
            Err(_) => None,
        }
    }

    /// Has `write` make the table of `set` and puts it in place. None if there is no place for it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn keep(
        &self,
        set: &TableSet,
        write: &mut dyn FnMut(Output) -> io::Result<Table>,
    ) -> Result<Option<(Table, PathBuf)>, IndexError> {
        let (Some(directory), Some(path)) = (&self.directory, self.path(set)) else { return Ok(None) };
        let failed = |operation| of_file(operation, directory);
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed("make the directory"))?;
        self.remove_unfinished(directory);
        let name = unfinished_name(&self.stem).map_err(failed("make a file in"))?;
        let unfinished = directory.join(name);
        let file = Arc::new(create(&unfinished).map_err(failed("make a file in"))?);
        // So that nobody takes it for one that was left behind. Where there are no locks, nobody removes any.
        let _ = file.try_lock();
        let written = write(Output::file(file.clone(), HEADER_BYTES as u64, self.bytes_max));
        let durable = written.and_then(|table| {
            table.write_rest(set, &file)?;
            file.sync_all()?;
            fs::rename(&unfinished, &path)?;
            Ok(table)
        });
        if durable.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        let table = durable.map_err(failed("write an index table in"))?;
        // Its name may be lost with the power, and nothing else.
        let _ = File::open(directory).and_then(|directory| directory.sync_all());
        self.remove_others(directory, &path);
        Ok(Some((table, path)))
    }

    /// Removes this repository's other tables, and the oldest of other repositories if all together have become too large.
    /// Whoever has one open keeps it.
    fn remove_others(&self, directory: &Path, kept: &Path) {
        let mut others = Vec::new();
        let mut bytes = fs::metadata(kept).map_or(0, |file| file.len());
        for path in files(directory, |name| name.starts_with(STEM) && !name.contains(UNFINISHED)) {
            let is_ours =
                path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(&self.stem));
            let Ok(metadata) = fs::metadata(&path) else { continue };
            match metadata.modified() {
                Ok(modified) if !is_ours => {
                    bytes = bytes.saturating_add(metadata.len());
                    others.push((modified, metadata.len(), path));
                }
                _ if path == kept => {}
                _ => drop(fs::remove_file(path)),
            }
        }
        others.sort();
        for (_, size_bytes, path) in others {
            if bytes <= self.bytes_max {
                break;
            }
            let _ = fs::remove_file(path);
            bytes -= size_bytes;
        }
    }

    /// Removes what processes that were killed have left.
    fn remove_unfinished(&self, directory: &Path) {
        for path in files(directory, |name| name.contains(UNFINISHED)) {
            let is_left = File::open(&path).is_ok_and(|file| file.try_lock().is_ok());
            if is_left {
                let _ = fs::remove_file(path);
            }
        }
    }
}

fn files(directory: &Path, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().filter_map(io::Result::ok);
    entries.filter(|entry| entry.file_name().to_str().is_some_and(&wanted)).map(|entry| entry.path()).collect()
}
