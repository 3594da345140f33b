//! Keeps immutable objects in local files.
//!
//! Guarantee: what is read is what was stored, or it is fetched again; each file begins with a hash over the store's
//! address, the object's name and its bytes. Assumption: an object for which the caller's rule holds never changes;
//! one that is deleted elsewhere may still be read here. Caveat: a range of a cached object reads and hashes the whole
//! file.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::fs::{DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::{Error, ErrorKind, Object, ObjectKey, ObjectLock, PutMode, Storage};

/// The largest object that is kept; larger ones pass through.
pub const CACHED_OBJECT_MAX_BYTES: u64 = 32 * 1024 * 1024;

/// The hash at the start of each file.
const HASH_BYTES: usize = blake3::OUT_LEN;
/// Files held open for ranges at the same time.
const VERIFIED_FILES_MAX: usize = 32;

/// Locks among which fetches are spread by name; many more than there are fetches, or strangers wait for one another.
const FETCH_LOCKS_COUNT: usize = 1024;

/// Says of an object's name whether its bytes never change.
pub type Immutable = Arc<dyn Fn(&ObjectKey) -> bool + Send + Sync>;

/// Keeps immutable objects in local files.
pub struct CacheStorage {
    inner: Arc<dyn Storage>,
    immutable: Immutable,
    files: Arc<Files>,
    /// One fetch per object at a time; objects share locks by the first byte of their file's name.
    fetches: Vec<tokio::sync::Mutex<()>>,
}

impl CacheStorage {
    /// Over `inner`, in `directory`, which is made when it is not there.
    ///
    /// Files stay within `capacity_bytes` together; the oldest go first. Several processes may share the directory:
    /// each then keeps to the capacity by what it knows.
    pub async fn open(
        inner: Arc<dyn Storage>,
        directory: &Path,
        capacity_bytes: u64,
        immutable: Immutable,
    ) -> Result<Self, Error> {
        let address = inner.address();
        let path = directory.to_owned();
        let unusable = |detail: String| Error {
            kind: ErrorKind::Misconfigured,
            operation: format!("open cache in {}", directory.display()),
            address: address.clone(),
            detail,
            retry_after_seconds: 0,
        };
        let opened = tokio::task::spawn_blocking(move || Files::open(path, capacity_bytes)).await;
        let files =
            opened.map_err(|ended| unusable(ended.to_string()))?.map_err(|error| unusable(error.to_string()))?;
        let fetches = (0..FETCH_LOCKS_COUNT).map(|_| tokio::sync::Mutex::new(())).collect();
        Ok(Self { inner, immutable, files: Arc::new(files), fetches })
    }

    /// The bytes of all files together.
    pub fn size_bytes(&self) -> u64 {
        self.files.index().size_bytes
    }

    fn name(&self, key: &ObjectKey) -> FileName {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.inner.address().as_bytes());
        hasher.update(&[0]);
        hasher.update(key.as_str().as_bytes());
        FileName(hasher.finalize())
    }

    async fn read(&self, name: FileName) -> Option<Bytes> {
        let files = Arc::clone(&self.files);
        tokio::task::spawn_blocking(move || files.read(name)).await.ok().flatten()
    }

    /// A range of a kept object; the object's length where the range does not lie in it.
    async fn read_range(&self, name: FileName, offset: u64, length_bytes: u64) -> Option<Result<Bytes, u64>> {
        let files = Arc::clone(&self.files);
        tokio::task::spawn_blocking(move || files.read_range(name, offset, length_bytes)).await.ok().flatten()
    }

    /// Keeps an object if it can; a cache that cannot write is only slow.
    async fn keep(&self, name: FileName, body: Bytes) {
        let files = Arc::clone(&self.files);
        let _ = tokio::task::spawn_blocking(move || files.keep(name, &body)).await;
    }

    async fn forget(&self, name: FileName) {
        let files = Arc::clone(&self.files);
        let _ = tokio::task::spawn_blocking(move || files.forget(name)).await;
    }

    async fn fetch_lock(&self, name: FileName) -> tokio::sync::MutexGuard<'_, ()> {
        let [first, second, ..] = name.0.as_bytes();
        self.fetches[usize::from(u16::from_le_bytes([*first, *second])) % FETCH_LOCKS_COUNT].lock().await
    }

    /// The whole object from its file, else from the store.
    async fn fetch(&self, key: &ObjectKey, name: FileName) -> Result<Bytes, Error> {
        let body = self.inner.get(key).await?;
        if body.len() as u64 <= CACHED_OBJECT_MAX_BYTES {
            self.keep(name, body.clone()).await;
        }
        Ok(body)
    }

    fn slice(&self, key: &ObjectKey, body: &Bytes, offset: u64, length_bytes: u64) -> Result<Bytes, Error> {
        let size_bytes = body.len() as u64;
        match offset.checked_add(length_bytes) {
            // Both fit into the body's length, which is a `usize`.
            Some(end) if end <= size_bytes => Ok(body.slice(offset as usize..end as usize)),
            Some(_) | None => Err(self.truncated(key, size_bytes, offset, length_bytes)),
        }
    }

    fn truncated(&self, key: &ObjectKey, size_bytes: u64, offset: u64, length_bytes: u64) -> Error {
        Error {
            kind: ErrorKind::Truncated,
            operation: format!("get range of {key}"),
            address: self.inner.address(),
            detail: format!("{length_bytes} bytes at {offset} wanted, the object has {size_bytes}"),
            retry_after_seconds: 0,
        }
    }
}

impl fmt::Debug for CacheStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheStorage")
            .field("inner", &self.inner)
            .field("directory", &self.files.directory)
            .finish_non_exhaustive()
    }
}

impl CacheStorage {
    /// Puts an object and keeps what may be kept.
    async fn put_through(
        &self,
        key: &ObjectKey,
        body: Bytes,
        put: impl Future<Output = Result<(), Error>>,
    ) -> Result<(), Error> {
        if !(self.immutable)(key) {
            return put.await;
        }
        let name = self.name(key);
        let _one_at_a_time = self.fetch_lock(name).await;
        // Whatever comes of the put, what is kept must not outlive it.
        self.forget(name).await;
        put.await?;
        if body.len() as u64 <= CACHED_OBJECT_MAX_BYTES {
            self.keep(name, body).await;
        }
        Ok(())
    }
}

#[async_trait]
impl Storage for CacheStorage {
    fn address(&self) -> String {
        self.inner.address()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode) -> Result<(), Error> {
        self.put_through(key, body.clone(), self.inner.put(key, body, mode)).await
    }

    async fn put_locked(&self, key: &ObjectKey, body: Bytes, mode: PutMode, lock: ObjectLock) -> Result<(), Error> {
        self.put_through(key, body.clone(), self.inner.put_locked(key, body, mode, lock)).await
    }

    async fn extend_lock(&self, key: &ObjectKey, lock: ObjectLock) -> Result<(), Error> {
        self.inner.extend_lock(key, lock).await
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes, Error> {
        if !(self.immutable)(key) {
            return self.inner.get(key).await;
        }
        let name = self.name(key);
        let _one_at_a_time = self.fetch_lock(name).await;
        match self.read(name).await {
            Some(body) => Ok(body),
            None => self.fetch(key, name).await,
        }
    }

    async fn get_range(&self, key: &ObjectKey, offset: u64, length_bytes: u64) -> Result<Bytes, Error> {
        if !(self.immutable)(key) {
            return self.inner.get_range(key, offset, length_bytes).await;
        }
        let name = self.name(key);
        let one_at_a_time = self.fetch_lock(name).await;
        if let Some(found) = self.read_range(name, offset, length_bytes).await {
            return found.map_err(|size_bytes| self.truncated(key, size_bytes, offset, length_bytes));
        }
        if self.inner.stat(key).await?.size_bytes > CACHED_OBJECT_MAX_BYTES {
            drop(one_at_a_time);
            return self.inner.get_range(key, offset, length_bytes).await;
        }
        let body = self.fetch(key, name).await?;
        self.slice(key, &body, offset, length_bytes)
    }

    async fn stat(&self, key: &ObjectKey) -> Result<Object, Error> {
        self.inner.stat(key).await
    }

    fn list<'a>(&'a self, prefix: &str) -> BoxStream<'a, Result<Object, Error>> {
        self.inner.list(prefix)
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), Error> {
        if !(self.immutable)(key) {
            return self.inner.delete(key).await;
        }
        let name = self.name(key);
        let _one_at_a_time = self.fetch_lock(name).await;
        self.forget(name).await;
        self.inner.delete(key).await
    }
}

/// A file's name: the hash of the store's address and the object's name.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct FileName(blake3::Hash);

impl FileName {
    fn parse(name: &str) -> Option<Self> {
        blake3::Hash::from_hex(name).ok().map(Self)
    }

    /// What a file begins with, so that neither a changed byte nor another object's file passes.
    fn seal(&self, body: &[u8]) -> blake3::Hash {
        blake3::Hasher::new_keyed(self.0.as_bytes()).update(body).finalize()
    }

    /// Whether a file's bytes, seal and body, are those of this name.
    fn fits(&self, file: &[u8]) -> bool {
        // Compared in constant time, by the hash's own type.
        file.split_first_chunk::<HASH_BYTES>().is_some_and(|(seal, body)| self.seal(body) == *seal)
    }
}

/// The cache's directory.
struct Files {
    directory: PathBuf,
    capacity_bytes: u64,
    index: Mutex<Index>,
    verified: Mutex<VecDeque<Verified>>,
}

/// A file whose seal was found good. It is held open, so that its bytes stay these whatever happens to its name.
struct Verified {
    name: FileName,
    file: Arc<File>,
    body_bytes: u64,
}

/// What is in the directory, as far as this process knows.
#[derive(Default)]
struct Index {
    /// Each file's length and when it came, counted up.
    files: HashMap<FileName, (u64, u64)>,
    /// Oldest first; an entry counts only while `files` has it with the same number.
    order: VecDeque<(FileName, u64)>,
    next: u64,
    size_bytes: u64,
}

impl Files {
    fn open(directory: PathBuf, capacity_bytes: u64) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        let mut found: Vec<(SystemTime, FileName, u64)> = Vec::new();
        for entry in std::fs::read_dir(&directory)? {
            let entry = entry?;
            let file_name = entry.file_name();
            let Some(name) = file_name.to_str() else { continue };
            if let Some(known) = FileName::parse(name) {
                let metadata = entry.metadata()?;
                found.push((metadata.modified()?, known, metadata.len()));
            } else if is_unfinished(name) {
                // Of a process that ended, or of one at work: its file then comes a second time.
                let _ = std::fs::remove_file(entry.path());
            }
        }
        found.sort_by_key(|(modified, _, _)| *modified);
        let files = Self { directory, capacity_bytes, index: Mutex::default(), verified: Mutex::default() };
        for (_, name, size_bytes) in found {
            let evicted = files.index().add(name, size_bytes, capacity_bytes);
            files.remove(&evicted);
        }
        Ok(files)
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, name: FileName) -> PathBuf {
        self.directory.join(name.0.to_hex().as_str())
    }

    fn read(&self, name: FileName) -> Option<Bytes> {
        let file = Bytes::from(std::fs::read(self.path(name)).ok()?);
        if name.fits(&file) {
            return Some(file.slice(HASH_BYTES..));
        }
        self.forget(name);
        None
    }

    /// Reads a range; the seal of the whole file is checked once, when it is first read in this process.
    fn read_range(&self, name: FileName, offset: u64, length_bytes: u64) -> Option<Result<Bytes, u64>> {
        let (file, body_bytes) = match self.find_verified(name) {
            Some(found) => found,
            None => self.verify(name)?,
        };
        if offset.checked_add(length_bytes).is_none_or(|end| end > body_bytes) {
            return Some(Err(body_bytes));
        }
        let mut bytes = vec![0; length_bytes as usize];
        file.read_exact_at(&mut bytes, HASH_BYTES as u64 + offset).ok()?;
        Some(Ok(Bytes::from(bytes)))
    }

    fn verified(&self) -> MutexGuard<'_, VecDeque<Verified>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find_verified(&self, name: FileName) -> Option<(Arc<File>, u64)> {
        let verified = self.verified();
        verified.iter().find(|known| known.name == name).map(|known| (Arc::clone(&known.file), known.body_bytes))
    }

    fn verify(&self, name: FileName) -> Option<(Arc<File>, u64)> {
        let mut file = File::open(self.path(name)).ok()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).ok()?;
        if !name.fits(&bytes) {
            self.forget(name);
            return None;
        }
        let (file, body_bytes) = (Arc::new(file), (bytes.len() - HASH_BYTES) as u64);
        let mut verified = self.verified();
        if verified.len() == VERIFIED_FILES_MAX {
            verified.pop_front();
        }
        verified.push_back(Verified { name, file: Arc::clone(&file), body_bytes });
        Some((file, body_bytes))
    }

    fn keep(&self, name: FileName, body: &[u8]) -> io::Result<()> {
        let size_bytes = (HASH_BYTES + body.len()) as u64;
        if size_bytes > self.capacity_bytes {
            return Ok(());
        }
        let mut random = [0; 8];
        rustix::rand::getrandom(&mut random[..], rustix::rand::GetRandomFlags::empty())?;
        let path = self.path(name);
        let unfinished = path.with_extension(format!("tmp-{}", hex::encode(random)));
        let written =
            write_new(&unfinished, name.seal(body).as_bytes(), body).and_then(|()| std::fs::rename(&unfinished, &path));
        if written.is_err() {
            let _ = std::fs::remove_file(&unfinished);
            return written;
        }
        let evicted = self.index().add(name, size_bytes, self.capacity_bytes);
        self.remove(&evicted);
        Ok(())
    }

    fn forget(&self, name: FileName) {
        self.index().take(name);
        self.verified().retain(|known| known.name != name);
        self.remove(&[name]);
    }

    fn remove(&self, names: &[FileName]) {
        for name in names {
            // Another process may have been first.
            let _ = std::fs::remove_file(self.path(*name));
        }
    }
}

fn write_new(path: &Path, seal: &[u8], body: &[u8]) -> io::Result<()> {
    use std::io::Write;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(seal)?;
    file.write_all(body)
}

fn is_unfinished(name: &str) -> bool {
    name.split_once(".tmp-").is_some_and(|(start, _)| FileName::parse(start).is_some())
}

impl Index {
    /// Adds a file as the newest and takes out what has to go for it.
    fn add(&mut self, name: FileName, size_bytes: u64, capacity_bytes: u64) -> Vec<FileName> {
        self.take(name);
        self.files.insert(name, (size_bytes, self.next));
        self.order.push_back((name, self.next));
        self.next += 1;
        self.size_bytes += size_bytes;
        let mut evicted = Vec::new();
        while self.size_bytes > capacity_bytes {
            let Some((oldest, number)) = self.order.pop_front() else { break };
            if self.files.get(&oldest).is_some_and(|(_, current)| *current == number) {
                self.take(oldest);
                evicted.push(oldest);
            }
        }
        evicted
    }

    fn take(&mut self, name: FileName) {
        if let Some((size_bytes, number)) = self.files.remove(&name) {
            self.size_bytes -= size_bytes;
            // Mostly the oldest or the newest; else a look through names only.
            self.order.retain(|entry| *entry != (name, number));
        }
    }
}
