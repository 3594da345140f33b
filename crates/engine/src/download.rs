//! A part of a snapshot as a tar stream.
//!
//! Each directory comes before what is in it. What an archive header cannot hold stands in pax records: names that are long
//! or no ASCII, times to the nanosecond, sizes from 8 GiB. The archive's end is written only after everything in it: a stream
//! that broke off has none, and tar says so.
//!
//! Memory: the listings on the way down, small files read ahead and pieces of a large one: 32 MiB at most.

mod tar;

use std::io::{self, Write};

use futures::{StreamExt as _, stream};
use repository::{Directory, Entry, EntryKind};
use repository_kopia::{ReadError, Repository};
use storage::Class;

use crate::meter::Counter;
use crate::restore::fetch::{FetchError, wait};
use crate::restore::walk::{LOOK_AHEAD, Walk};
use crate::run::Run;
use tar::Header;

/// Files up to this length are read ahead, [`LOOK_AHEAD`] at a time, in bytes.
const SMALL_BYTES_MAX: u64 = 1 << 20;
/// Pieces of a large file read at the same time: 8 MiB each at most with the default splitter.
const PIECES_IN_FLIGHT: usize = 2;

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DownloadOutcome {
    /// Entries, directories among them.
    pub entry_count: u64,
    /// Bytes in files.
    pub file_bytes: u64,
}

/// The stream broke off. It has no end mark.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// An entry could not be read.
    #[error("read {path}")]
    Read {
        /// Relative to what was asked for.
        path: String,
        /// Why not.
        #[source]
        source: ReadError,
    },
    /// A file does not hold as many bytes as its entry says.
    #[error("{path} holds {found_bytes} bytes, and its entry says {stated_bytes}")]
    Length {
        /// Relative to what was asked for.
        path: String,
        /// What is there.
        found_bytes: u64,
        /// What should be.
        stated_bytes: u64,
    },
    /// The stream could not be written.
    #[error("write the archive")]
    Write(#[source] io::Error),
    /// Asked to stop.
    #[error("stopped on request")]
    Interrupted,
}

impl DownloadError {
    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Read { source, .. } => source.class(),
            Self::Length { .. } => Class::Damaged,
            Self::Write(_) => Class::Blocked,
            Self::Interrupted => Class::Retry,
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Read { source, .. } => source.hint(),
            Self::Length { .. } => Some("run `perennial verify` to learn what is affected"),
            Self::Write(_) => Some("check where the archive goes, and that there is room"),
            Self::Interrupted => None,
        }
    }
}

impl From<FetchError> for DownloadError {
    fn from(_: FetchError) -> Self {
        Self::Interrupted
    }
}

/// Writes `root` and everything below it. A directory's entries have paths relative to it; a file is the one entry of its
/// archive.
///
/// # Errors
/// When anything cannot be read or written, or the run is cancelled; the archive is without its end then.
pub fn download(
    repository: &Repository,
    root: &Entry,
    run: &Run,
    out: &mut dyn Write,
) -> Result<DownloadOutcome, DownloadError> {
    let mut archive = Archive { repository, run, out, outcome: DownloadOutcome::default() };
    match root.kind {
        EntryKind::Directory => archive.tree(root)?,
        EntryKind::File | EntryKind::Symlink => archive.files("", std::slice::from_ref(&root))?,
    }
    archive.out.write_all(&tar::END).and_then(|()| archive.out.flush()).map_err(DownloadError::Write)?;
    Ok(archive.outcome)
}

struct Archive<'a> {
    repository: &'a Repository,
    run: &'a Run,
    out: &'a mut dyn Write,
    outcome: DownloadOutcome,
}

impl Archive<'_> {
    fn tree(&mut self, root: &Entry) -> Result<(), DownloadError> {
        let mut walk = Walk::new(self.repository, self.run);
        walk.push(root, (String::new(), root.clone()));
        while let Some(((path, directory), listing)) = walk.next()? {
            let Directory { entries, .. } =
                listing.map_err(|source| DownloadError::Read { path: path.clone(), source })?;
            let name = if path.is_empty() { "./".to_owned() } else { format!("{path}/") };
            self.header(&name, &directory, b"")?;
            let (directories, files): (Vec<&Entry>, Vec<&Entry>) =
                entries.iter().partition(|entry| entry.kind == EntryKind::Directory);
            for entry in directories.into_iter().rev() {
                walk.push(entry, (below(&path, &entry.name), entry.clone()));
            }
            self.files(&path, &files)?;
        }
        Ok(())
    }

    /// Files and links of one directory.
    fn files(&mut self, directory: &str, entries: &[&Entry]) -> Result<(), DownloadError> {
        for group in entries.chunks(LOOK_AHEAD) {
            let repository = self.repository;
            let is_small = |entry: &Entry| entry.kind == EntryKind::Symlink || entry.size_bytes <= SMALL_BYTES_MAX;
            let read = stream::iter(group)
                .map(async |entry| match is_small(entry) {
                    true => Some(repository.object(&entry.data).await),
                    false => None,
                })
                .buffered(LOOK_AHEAD);
            let read: Vec<_> = wait(self.run, read.collect())?;
            for (entry, bytes) in group.iter().zip(read) {
                let path = below(directory, &entry.name);
                match bytes {
                    Some(bytes) => {
                        let bytes = bytes.map_err(|source| DownloadError::Read { path: path.clone(), source })?;
                        self.small(&path, entry, &bytes)?;
                    }
                    None => self.large(&path, entry)?,
                }
                self.run.meter.add(Counter::FilesDone, 1);
            }
        }
        Ok(())
    }

    fn small(&mut self, path: &str, entry: &Entry, bytes: &[u8]) -> Result<(), DownloadError> {
        if entry.kind == EntryKind::Symlink {
            return self.header(path, entry, bytes);
        }
        check_length(path, entry, bytes.len() as u64)?;
        self.header(path, entry, b"")?;
        self.data(bytes)?;
        self.padding(entry)
    }

    fn large(&mut self, path: &str, entry: &Entry) -> Result<(), DownloadError> {
        let failed = |source| DownloadError::Read { path: path.to_owned(), source };
        let pieces = wait(self.run, self.repository.pieces(&entry.data))?.map_err(failed)?;
        self.header(path, entry, b"")?;
        let (repository, data) = (self.repository, &entry.data);
        let mut read =
            Box::pin(stream::iter(&pieces).map(|piece| repository.piece(data, piece)).buffered(PIECES_IN_FLIGHT));
        let mut found_bytes = 0;
        while let Some(piece) = wait(self.run, read.next())? {
            let piece = piece.map_err(failed)?;
            found_bytes += piece.len() as u64;
            if found_bytes > entry.size_bytes {
                break;
            }
            self.data(&piece)?;
        }
        check_length(path, entry, found_bytes)?;
        self.padding(entry)
    }

    fn header(&mut self, path: &str, entry: &Entry, target: &[u8]) -> Result<(), DownloadError> {
        self.outcome.entry_count += 1;
        let header = Header { path: path.as_bytes(), target, entry };
        self.out.write_all(&header.blocks()).map_err(DownloadError::Write)
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), DownloadError> {
        self.outcome.file_bytes += bytes.len() as u64;
        self.run.meter.add(Counter::BytesDone, bytes.len() as u64);
        self.out.write_all(bytes).map_err(DownloadError::Write)
    }

    fn padding(&mut self, entry: &Entry) -> Result<(), DownloadError> {
        self.out.write_all(tar::padding(entry.size_bytes)).map_err(DownloadError::Write)
    }
}

fn check_length(path: &str, entry: &Entry, found_bytes: u64) -> Result<(), DownloadError> {
    let stated_bytes = entry.size_bytes;
    match found_bytes == stated_bytes {
        true => Ok(()),
        false => Err(DownloadError::Length { path: path.to_owned(), found_bytes, stated_bytes }),
    }
}

fn below(directory: &str, name: &str) -> String {
    if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") }
}
