//! Objects as files in a directory.
//!
//! A put writes `<final path>.tmp.<16 hex>` in the same directory, syncs it, renames it over the final name and syncs
//! the directory, so that it is atomic and durable when it returns. Assumptions: rename is atomic, and a directory
//! that can be synced keeps its entries afterwards; file systems that know no syncing of directories (`EINVAL`,
//! `ENOTSUP`) are taken to do it by themselves. Caveat: a delete is visible at once but not synced; after a power cut
//! a deleted object may be back.

use std::collections::HashSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use jiff::Timestamp;
use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;
use tokio::sync::mpsc;

use crate::{Error, ErrorKind, Object, ObjectKey, PutMode, Storage};

mod layout;
mod walk;

pub use layout::Layout;
use layout::Paths;

/// Listed objects that wait for their reader.
const LISTED_IN_FLIGHT_COUNT: usize = 1024;

/// Directories remembered as safely entered in their parents; past this many the memory starts anew.
const DURABLE_DIRECTORIES_MAX_COUNT: usize = 16 * 1024;

/// A directory that holds one store.
#[derive(Clone)]
pub struct FilesystemStorage {
    inner: Arc<Inner>,
}

struct Inner {
    root: PathBuf,
    paths: Paths,
    /// Directories whose entry in their parent is known to be on disk.
    durable: Mutex<HashSet<PathBuf>>,
}

impl FilesystemStorage {
    /// Opens the directory `root`; one that is not there is [`ErrorKind::StoreMissing`].
    pub fn open(root: &Path, layout: Layout) -> Result<Self, Error> {
        let store = Self::over(root, layout)?;
        store.inner.root_exists().map_err(|fault| store.inner.error("open".to_owned(), fault))?;
        Ok(store)
    }

    /// Opens the directory `root` and makes it, and what is missing above it, first.
    pub fn create(root: &Path, layout: Layout) -> Result<Self, Error> {
        let store = Self::over(root, layout)?;
        store.inner.make_root().map_err(|fault| store.inner.error("create".to_owned(), fault))?;
        Ok(store)
    }

    fn over(root: &Path, layout: Layout) -> Result<Self, Error> {
        let inner = Inner { root: root.to_owned(), paths: Paths::new(layout), durable: Mutex::new(HashSet::new()) };
        if !root.is_absolute() {
            return Err(inner.error("open".to_owned(), Fault::refused("the path is not absolute")));
        }
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Runs file work on a thread that may block.
    async fn blocking<T: Send + 'static>(
        &self,
        operation: String,
        work: impl FnOnce(&Inner) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Error> {
        let inner = Arc::clone(&self.inner);
        match tokio::task::spawn_blocking(move || work(&inner)).await {
            Ok(result) => result.map_err(|fault| self.inner.error(operation, fault)),
            Err(ended) => Err(self.inner.error(operation, Fault::other(format!("the file thread ended: {ended}")))),
        }
    }
}

impl std::fmt::Debug for FilesystemStorage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("FilesystemStorage").field(&self.inner.root).finish()
    }
}

#[async_trait]
impl Storage for FilesystemStorage {
    fn address(&self) -> String {
        self.inner.address()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode) -> Result<(), Error> {
        let name = key.clone();
        self.blocking(format!("put {key}"), move |inner| inner.put(&name, &body, mode)).await
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes, Error> {
        let name = key.clone();
        self.blocking(format!("get {key}"), move |inner| inner.get(&name)).await
    }

    async fn get_range(&self, key: &ObjectKey, offset: u64, length_bytes: u64) -> Result<Bytes, Error> {
        let name = key.clone();
        self.blocking(format!("get range of {key}"), move |inner| inner.get_range(&name, offset, length_bytes)).await
    }

    async fn stat(&self, key: &ObjectKey) -> Result<Object, Error> {
        let name = key.clone();
        self.blocking(format!("stat {key}"), move |inner| inner.stat(name)).await
    }

    fn list<'a>(&'a self, prefix: &str) -> BoxStream<'a, Result<Object, Error>> {
        let (prefix, operation) = (prefix.to_owned(), format!("list {prefix}*"));
        // The thread starts at the first poll, not before: what it reads is what is there then.
        stream::once(async move {
            let (sender, receiver) = mpsc::channel(LISTED_IN_FLIGHT_COUNT);
            let inner = Arc::clone(&self.inner);
            let walker = tokio::task::spawn_blocking(move || inner.walk(&prefix, &sender));
            let start = (receiver, Some(walker), operation);
            stream::unfold(start, move |(mut receiver, mut walker, operation)| async move {
                if let Some(object) = receiver.recv().await {
                    return Some((Ok(object), (receiver, walker, operation)));
                }
                // The channel has ended: only the walker knows whether the listing is complete.
                let fault = match walker.take()?.await {
                    Ok(Ok(())) => return None,
                    Ok(Err(fault)) => fault,
                    Err(ended) => Fault::other(format!("the file thread ended: {ended}")),
                };
                Some((Err(self.inner.error(operation.clone(), fault)), (receiver, None, operation)))
            })
        })
        .flatten()
        .boxed()
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), Error> {
        let name = key.clone();
        self.blocking(format!("delete {key}"), move |inner| inner.delete(&name)).await
    }
}

impl Inner {
    fn address(&self) -> String {
        format!("file:{}", self.root.display())
    }

    fn error(&self, operation: String, fault: Fault) -> Error {
        Error { kind: fault.kind, operation, address: self.address(), detail: fault.detail, retry_after_seconds: 0 }
    }

    fn root_exists(&self) -> Result<(), Fault> {
        match std::fs::metadata(&self.root) {
            Ok(found) if found.is_dir() => Ok(()),
            Ok(_) => Err(Fault::new(ErrorKind::StoreMissing, "is not a directory")),
            Err(error) if is_absent(&error) => Err(Fault::new(ErrorKind::StoreMissing, "the directory does not exist")),
            Err(error) => Err(Fault::of(&error)),
        }
    }

    /// "Not there" at a path: the object's absence when the root is there, else the store's.
    fn absent(&self) -> Fault {
        match self.root_exists() {
            Ok(()) => Fault::new(ErrorKind::NotFound, "no such object"),
            Err(fault) => fault,
        }
    }

    fn fault(&self, error: &io::Error) -> Fault {
        if is_absent(error) { self.absent() } else { Fault::of(error) }
    }

    fn path(&self, key: &ObjectKey) -> Result<PathBuf, Fault> {
        self.paths.path(&self.root, key.as_str())
    }

    fn make_root(&self) -> Result<(), Fault> {
        let mut missing = Vec::new();
        let mut directory = self.root.as_path();
        while !directory.exists() {
            missing.push(directory);
            match directory.parent() {
                Some(parent) => directory = parent,
                None => break,
            }
        }
        for directory in missing.into_iter().rev() {
            make_directory(directory).map_err(|error| Fault::of(&error))?;
            if let Some(parent) = directory.parent() {
                sync_directory(parent).map_err(|error| Fault::of(&error))?;
            }
        }
        self.root_exists()
    }

    fn put(&self, key: &ObjectKey, body: &[u8], mode: PutMode) -> Result<(), Fault> {
        self.paths.prepare_put(&self.root, |path, text| self.put_file(path, text, PutMode::IfAbsent))?;
        let path = self.path(key)?;
        self.put_file(&path, body, mode)
    }

    fn put_file(&self, path: &Path, body: &[u8], mode: PutMode) -> Result<(), Fault> {
        if mode == PutMode::IfAbsent && path.symlink_metadata().is_ok() {
            return Err(Fault::new(ErrorKind::AlreadyExists, "the name is taken"));
        }
        let temporary = temporary_path(path)?;
        let file = match create_new(&temporary) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.make_directories_of(path)?;
                create_new(&temporary)
            }
            other => other,
        };
        let written = file.map_err(|error| self.fault(&error)).and_then(|file| {
            let placed = write_synced(file, body)
                .and_then(|()| move_into_place(&temporary, path, mode))
                .map_err(|error| self.put_fault(&error));
            if placed.is_err() {
                // Whatever went wrong, nothing half-written stays behind; the first error is the one to report.
                let _ = std::fs::remove_file(&temporary);
            }
            placed
        });
        written?;
        self.sync_directories_of(path)
    }

    fn put_fault(&self, error: &io::Error) -> Fault {
        match error.kind() {
            io::ErrorKind::AlreadyExists => Fault::new(ErrorKind::AlreadyExists, "the name is taken"),
            io::ErrorKind::IsADirectory => Fault::refused("a directory has this name"),
            _ => self.fault(error),
        }
    }

    /// Makes the directories between the root and `path`, never the root itself.
    fn make_directories_of(&self, path: &Path) -> Result<(), Fault> {
        for directory in self.directories_of(path) {
            match make_directory(directory) {
                // Whoever had made it before: this one is new and not yet safe in its parent.
                Ok(()) => {
                    self.durable().remove(directory);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(self.fault(&error)),
            }
        }
        Ok(())
    }

    /// Makes the entry of `path` in its directory durable, and that of each directory up to the root.
    ///
    /// Another writer may have made a directory a moment ago and not have synced it yet, so that "it was there" says
    /// nothing; each is synced once per process.
    fn sync_directories_of(&self, path: &Path) -> Result<(), Fault> {
        let directory = path.parent().unwrap_or(&self.root);
        sync_directory(directory).map_err(|error| Fault::of(&error))?;
        for directory in self.directories_of(path) {
            if self.durable().contains(directory) {
                continue;
            }
            let parent = directory.parent().unwrap_or(&self.root);
            sync_directory(parent).map_err(|error| Fault::of(&error))?;
            let mut durable = self.durable();
            if durable.len() >= DURABLE_DIRECTORIES_MAX_COUNT {
                durable.clear();
            }
            durable.insert(directory.to_owned());
        }
        Ok(())
    }

    fn durable(&self) -> std::sync::MutexGuard<'_, HashSet<PathBuf>> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The directories below the root that lead to `path`, outermost first.
    fn directories_of<'p>(&self, path: &'p Path) -> Vec<&'p Path> {
        let mut directories: Vec<&Path> = path
            .ancestors()
            .skip(1)
            .take_while(|directory| *directory != self.root && directory.starts_with(&self.root))
            .collect();
        directories.reverse();
        directories
    }

    /// Opens a file for reading and tells its length.
    fn open(&self, key: &ObjectKey) -> Result<(File, u64), Fault> {
        let path = self.path(key)?;
        let file = File::open(&path).map_err(|error| self.fault(&error))?;
        let metadata = file.metadata().map_err(|error| self.fault(&error))?;
        if !metadata.is_file() {
            return Err(self.absent());
        }
        Ok((file, metadata.len()))
    }

    fn get(&self, key: &ObjectKey) -> Result<Bytes, Fault> {
        let (mut file, size_bytes) = self.open(key)?;
        let mut body = Vec::with_capacity(usize::try_from(size_bytes).map_err(|_| Fault::too_large())?);
        file.read_to_end(&mut body).map_err(|error| Fault::of(&error))?;
        Ok(body.into())
    }

    fn get_range(&self, key: &ObjectKey, offset: u64, length_bytes: u64) -> Result<Bytes, Fault> {
        let (file, size_bytes) = self.open(key)?;
        if offset.checked_add(length_bytes).is_none_or(|end| end > size_bytes) {
            return Err(Fault::truncated(offset, length_bytes, size_bytes));
        }
        let mut body = vec![0; usize::try_from(length_bytes).map_err(|_| Fault::too_large())?];
        match file.read_exact_at(&mut body, offset) {
            Ok(()) => Ok(body.into()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(Fault::truncated(offset, length_bytes, size_bytes))
            }
            Err(error) => Err(Fault::of(&error)),
        }
    }

    fn stat(&self, key: ObjectKey) -> Result<Object, Fault> {
        let path = self.path(&key)?;
        let metadata = std::fs::metadata(&path).map_err(|error| self.fault(&error))?;
        if !metadata.is_file() {
            return Err(self.absent());
        }
        object(key, &metadata)
    }

    fn delete(&self, key: &ObjectKey) -> Result<(), Fault> {
        let path = self.path(key)?;
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(()),
            Err(error) if is_absent(&error) => self.root_exists(),
            Err(_) if path.is_dir() => Ok(()),
            Err(error) => Err(Fault::of(&error)),
        }
    }
}

fn object(key: ObjectKey, metadata: &std::fs::Metadata) -> Result<Object, Fault> {
    let modified = metadata.modified().map_err(|error| Fault::of(&error))?;
    let modified = Timestamp::try_from(modified)
        .map_err(|error| Fault::other(format!("the modification time of {key} is out of range: {error}")))?;
    Ok(Object { key, size_bytes: metadata.len(), modified })
}

fn temporary_path(path: &Path) -> Result<PathBuf, Fault> {
    let mut random = [0; 8];
    rustix::rand::getrandom(&mut random[..], rustix::rand::GetRandomFlags::empty())
        .map_err(|error| Fault::other(format!("no random bytes: {error}")))?;
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp.");
    name.push(hex::encode(random));
    Ok(name.into())
}

fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn write_synced(mut file: File, body: &[u8]) -> io::Result<()> {
    file.write_all(body)?;
    file.sync_all()
}

fn move_into_place(temporary: &Path, path: &Path, mode: PutMode) -> io::Result<()> {
    match mode {
        PutMode::Replace => std::fs::rename(temporary, path),
        PutMode::IfAbsent => match rustix::fs::renameat_with(CWD, temporary, CWD, path, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(()),
            // NFS and older file systems know no such rename; a hard link refuses a taken name just as well.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                std::fs::hard_link(temporary, path)?;
                std::fs::remove_file(temporary)
            }
            Err(error) => Err(error.into()),
        },
    }
}

fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    match rustix::fs::fsync(File::open(path)?) {
        Ok(()) | Err(Errno::INVAL | Errno::NOTSUP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// What went wrong, before it is known where.
struct Fault {
    kind: ErrorKind,
    detail: String,
}

impl Fault {
    fn new(kind: ErrorKind, detail: &str) -> Self {
        Self { kind, detail: detail.to_owned() }
    }

    fn other(detail: String) -> Self {
        Self { kind: ErrorKind::Other, detail }
    }

    fn refused(detail: &str) -> Self {
        Self::new(ErrorKind::Misconfigured, detail)
    }

    fn too_large() -> Self {
        Self::refused("too large for this machine's memory")
    }

    fn truncated(offset: u64, length_bytes: u64, size_bytes: u64) -> Self {
        Self {
            kind: ErrorKind::Truncated,
            detail: format!("{length_bytes} bytes at {offset} wanted, the object has {size_bytes}"),
        }
    }

    /// Of a file operation whose "not there" has been looked at already.
    fn of(error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::Full,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::AccessDenied,
            io::ErrorKind::InvalidFilename => ErrorKind::Misconfigured,
            _ => ErrorKind::Other,
        };
        Self { kind, detail: error.to_string() }
    }
}
