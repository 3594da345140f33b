//! Files on this machine for tables and for what is sorted on the way to them.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use codec::cipher::random_bytes;

use super::rows::{Body, Output};
use crate::error::IndexError;

/// In the names of files that are not finished.
pub(super) const UNFINISHED: &str = ".unfinished-";

/// What may be held in memory where there is no place for files, in bytes.
const MEMORY_BYTES_MAX: u64 = 128 << 20;

/// Where files may be made, the best place first, and what went wrong in those that were given up.
///
/// Files made here have no name: nothing is left of them when the process ends, however it ends. Where none can be made at
/// all, as in a container without a writable directory, what would be in them is held in memory as far as that is bearable.
#[derive(Debug)]
pub(crate) struct Scratch {
    directories: Vec<PathBuf>,
    open: Option<(Arc<File>, u64)>,
    bytes_max: u64,
    /// Left of [`MEMORY_BYTES_MAX`].
    memory_bytes: u64,
    problems: Vec<String>,
}

impl Scratch {
    /// In `directory` if there is one, else in the system's temporary directory. No file grows past `bytes_max`.
    pub(crate) fn new(directory: Option<&Path>, bytes_max: u64) -> Self {
        let mut directories: Vec<PathBuf> = directory.map(Path::to_owned).into_iter().collect();
        directories.push(std::env::temp_dir());
        let memory_bytes = MEMORY_BYTES_MAX.min(bytes_max);
        Self { directories, open: None, bytes_max, memory_bytes, problems: Vec::new() }
    }

    /// What is written next goes into a file of its own.
    pub(crate) fn begin_file(&mut self) {
        self.open = None;
    }

    /// Has `write` write something, as often as it takes to find a place for it.
    pub(crate) fn write<T>(
        &mut self,
        mut write: impl FnMut(&mut Output) -> io::Result<T>,
    ) -> Result<(T, Body), IndexError> {
        loop {
            let Some(place) = self.directories.first().cloned() else { return self.write_to_memory(write) };
            let attempt = self.output(&place).and_then(|mut out| {
                let written = write(&mut out).and_then(|written| Ok((written, out.position(), out.finish()?)));
                written.map_err(of_file("write a file in", &place))
            });
            match attempt {
                Ok((written, end, body)) => {
                    if let Some((_, at)) = &mut self.open {
                        *at = end;
                    }
                    return Ok((written, body));
                }
                Err(error) => self.give_up(&error),
            }
        }
    }

    fn write_to_memory<T>(
        &mut self,
        mut write: impl FnMut(&mut Output) -> io::Result<T>,
    ) -> Result<(T, Body), IndexError> {
        let mut out = Output::memory(self.memory_bytes);
        match write(&mut out).and_then(|written| Ok((written, out.position(), out.finish()?))) {
            Ok((written, bytes, body)) => {
                self.memory_bytes -= bytes;
                Ok((written, body))
            }
            Err(error) => {
                self.problems.push(format!("hold it in memory: {error}"));
                let operation = "find a place for files on this machine".to_owned();
                Err(IndexError::Table { operation, source: io::Error::other(self.problems.join("; ")) })
            }
        }
    }

    /// The first directory is of no use.
    pub(super) fn give_up(&mut self, error: &IndexError) {
        let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        self.problems.push(format!("{error}: {source}"));
        self.open = None;
        self.directories.remove(0);
    }

    /// Where things went wrong although they went on elsewhere.
    pub(crate) fn problem(&self) -> Option<String> {
        (!self.problems.is_empty()).then(|| self.problems.join("; "))
    }

    fn output(&mut self, place: &Path) -> Result<Output, IndexError> {
        let (file, at) = match &self.open {
            Some((file, at)) => (file.clone(), *at),
            None => (Arc::new(unnamed(place).map_err(of_file("make a file in", place))?), 0),
        };
        self.open = Some((file.clone(), at));
        Ok(Output::file(file, at, self.bytes_max))
    }
}

/// An error of an operation on a file.
pub(super) fn of_file(operation: &'static str, path: &Path) -> impl Fn(io::Error) -> IndexError {
    move |source| IndexError::Table { operation: format!("{operation} {}", path.display()), source }
}

/// A new file that only this user may read.
pub(super) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// A name that nobody else has.
pub(super) fn unfinished_name(stem: &str) -> io::Result<String> {
    let random = random_bytes::<8>().map_err(io::Error::other)?;
    Ok(format!("{stem}{UNFINISHED}{}", hex::encode(random)))
}

fn unnamed(directory: &Path) -> io::Result<File> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let path = directory.join(unfinished_name("perennial")?);
    let file = create(&path)?;
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(file),
    }
}
