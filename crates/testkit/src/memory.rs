//! A store in memory, stricter than any S3 server.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use jiff::Timestamp;
use storage::{Error, ErrorKind, Object, ObjectKey, ObjectLock, PutMode, Storage};

/// The time of a new store: 2026-01-01T00:00:00Z, in seconds since the epoch.
const FIRST_SECOND: i64 = 1_767_225_600;

/// A store in memory. Clones share their objects; [`fork`](Self::fork) copies them.
#[derive(Clone)]
pub struct MemoryStore {
    state: Arc<Mutex<State>>,
}

#[derive(Clone)]
struct State {
    /// Absent when the whole store is gone.
    objects: Option<BTreeMap<ObjectKey, Stored>>,
    now: Timestamp,
    immutable: Option<fn(&ObjectKey) -> bool>,
}

#[derive(Clone)]
struct Stored {
    body: Bytes,
    modified: Timestamp,
    lock: Option<ObjectLock>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store whose clock stands at the start of 2026.
    pub fn new() -> Self {
        let now = Timestamp::from_second(FIRST_SECOND).expect("2026 is in range");
        Self { state: Arc::new(Mutex::new(State { objects: Some(BTreeMap::new()), now, immutable: None })) }
    }

    /// A store that holds `contents`, all written at the first moment.
    pub fn with<N: Into<Arc<str>>, B: Into<Bytes>>(contents: impl IntoIterator<Item = (N, B)>) -> Self {
        let store = Self::new();
        {
            let mut state = store.state();
            let modified = state.now;
            state.objects = Some(
                contents
                    .into_iter()
                    .map(|(name, body)| (ObjectKey::new(name), Stored { body: body.into(), modified, lock: None }))
                    .collect(),
            );
        }
        store
    }

    /// A store with the same objects, times and rules that goes its own way from here.
    pub fn fork(&self) -> Self {
        Self { state: Arc::new(Mutex::new(self.state().clone())) }
    }

    /// Every object by name.
    pub fn contents(&self) -> BTreeMap<String, Bytes> {
        let state = self.state();
        let objects = state.objects.iter().flatten();
        objects.map(|(key, stored)| (key.as_str().to_owned(), stored.body.clone())).collect()
    }

    /// The names of all objects, sorted.
    pub fn names(&self) -> Vec<String> {
        self.contents().into_keys().collect()
    }

    /// The lock that an object was put with.
    pub fn lock_of(&self, name: &str) -> Option<ObjectLock> {
        self.state().objects.as_ref()?.get(&ObjectKey::new(name))?.lock
    }

    /// Sets the store's clock: later puts carry this time.
    pub fn set_now(&self, now: Timestamp) {
        self.state().now = now;
    }

    /// The time on the store's clock.
    pub fn now(&self) -> Timestamp {
        self.state().now
    }

    /// Changes the time of one object, as if it had been written then; an object that is not there stays so.
    pub fn set_modified(&self, name: &str, modified: Timestamp) {
        if let Some(stored) = self.state().objects.as_mut().and_then(|objects| objects.get_mut(&ObjectKey::new(name))) {
            stored.modified = modified;
        }
    }

    /// Puts bytes in place behind every rule's back, as damage does.
    pub fn tamper(&self, name: &str, body: impl Into<Bytes>) {
        let mut state = self.state();
        let modified = state.now;
        state
            .objects
            .get_or_insert_default()
            .insert(ObjectKey::new(name), Stored { body: body.into(), modified, lock: None });
    }

    /// Removes one object behind every rule's back.
    pub fn lose(&self, name: &str) {
        if let Some(objects) = self.state().objects.as_mut() {
            objects.remove(&ObjectKey::new(name));
        }
    }

    /// Removes all objects; the store itself stays.
    pub fn wipe(&self) {
        self.state().objects = Some(BTreeMap::new());
    }

    /// Takes the whole store away: everything is [`ErrorKind::StoreMissing`] from now on.
    pub fn vanish(&self) {
        self.state().objects = None;
    }

    /// Names for which `immutable` holds are never put over with other bytes: that is [`ErrorKind::AlreadyExists`].
    pub fn refuse_overwriting(&self, immutable: fn(&ObjectKey) -> bool) {
        self.state().immutable = Some(immutable);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn error(&self, operation: String, kind: ErrorKind, detail: &str) -> Error {
        Error { kind, operation, address: self.address(), detail: detail.to_owned(), retry_after_seconds: 0 }
    }

    fn store(&self, key: &ObjectKey, body: Bytes, mode: PutMode, lock: Option<ObjectLock>) -> Result<(), Error> {
        self.work(format!("put {key}"), |objects, rules| {
            if key.as_str().is_empty() {
                return Err((ErrorKind::Misconfigured, "the name is empty"));
            }
            if let Some(taken) = objects.get(key) {
                if mode == PutMode::IfAbsent {
                    return Err((ErrorKind::AlreadyExists, "the name is taken"));
                }
                if taken.body != body && rules.immutable.is_some_and(|immutable| immutable(key)) {
                    return Err((ErrorKind::AlreadyExists, "an immutable object is put over with other bytes"));
                }
            }
            objects.insert(key.clone(), Stored { body, modified: rules.now, lock });
            Ok(())
        })
    }

    /// Runs `work` on the objects, or says that the store is gone.
    fn work<T>(
        &self,
        operation: String,
        work: impl FnOnce(&mut BTreeMap<ObjectKey, Stored>, &Rules) -> Result<T, (ErrorKind, &'static str)>,
    ) -> Result<T, Error> {
        let mut state = self.state();
        let rules = Rules { now: state.now, immutable: state.immutable };
        match state.objects.as_mut() {
            Some(objects) => work(objects, &rules),
            None => Err((ErrorKind::StoreMissing, "the store is gone")),
        }
        .map_err(|(kind, detail)| self.error(operation, kind, detail))
    }
}

struct Rules {
    now: Timestamp,
    immutable: Option<fn(&ObjectKey) -> bool>,
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryStore")
    }
}

#[async_trait]
impl Storage for MemoryStore {
    fn address(&self) -> String {
        "memory:".to_owned()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode) -> Result<(), Error> {
        self.store(key, body, mode, None)
    }

    async fn put_locked(&self, key: &ObjectKey, body: Bytes, mode: PutMode, lock: ObjectLock) -> Result<(), Error> {
        self.store(key, body, mode, Some(lock))
    }

    async fn extend_lock(&self, key: &ObjectKey, lock: ObjectLock) -> Result<(), Error> {
        self.work(format!("lock {key}"), |objects, _| {
            let stored = objects.get_mut(key).ok_or((ErrorKind::NotFound, "no such object"))?;
            if stored.lock.is_some_and(|before| before.until > lock.until) {
                return Err((ErrorKind::AccessDenied, "the lock would become shorter"));
            }
            stored.lock = Some(lock);
            Ok(())
        })
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes, Error> {
        self.work(format!("get {key}"), |objects, _| find(objects, key).map(|stored| stored.body.clone()))
    }

    async fn get_range(&self, key: &ObjectKey, offset: u64, length_bytes: u64) -> Result<Bytes, Error> {
        self.work(format!("get range of {key}"), |objects, _| {
            let body = &find(objects, key)?.body;
            let too_short = (ErrorKind::Truncated, "the object is shorter than the range");
            let start = usize::try_from(offset).map_err(|_| too_short)?;
            let end = offset.checked_add(length_bytes).and_then(|end| usize::try_from(end).ok()).ok_or(too_short)?;
            if end > body.len() { Err(too_short) } else { Ok(body.slice(start..end)) }
        })
    }

    async fn stat(&self, key: &ObjectKey) -> Result<Object, Error> {
        self.work(format!("stat {key}"), |objects, _| find(objects, key).map(|stored| stored.object(key)))
    }

    fn list<'a>(&'a self, prefix: &str) -> BoxStream<'a, Result<Object, Error>> {
        let prefix = prefix.to_owned();
        stream::once(async move {
            let listed = self.work("list".to_owned(), |objects, _| {
                let listed = objects.iter().filter(|(key, _)| key.as_str().starts_with(&prefix));
                Ok(listed.map(|(key, stored)| Ok(stored.object(key))).collect())
            });
            stream::iter(listed.unwrap_or_else(|error| vec![Err(error)]))
        })
        .flatten()
        .boxed()
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), Error> {
        self.work(format!("delete {key}"), |objects, _| {
            objects.remove(key);
            Ok(())
        })
    }
}

impl Stored {
    fn object(&self, key: &ObjectKey) -> Object {
        Object { key: key.clone(), size_bytes: self.body.len() as u64, modified: self.modified }
    }
}

fn find<'o>(
    objects: &'o BTreeMap<ObjectKey, Stored>,
    key: &ObjectKey,
) -> Result<&'o Stored, (ErrorKind, &'static str)> {
    objects.get(key).ok_or((ErrorKind::NotFound, "no such object"))
}
