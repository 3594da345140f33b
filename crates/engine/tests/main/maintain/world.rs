//! One repository in memory, a clock that is set, and everything done to it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use engine::{
    BackupOptions, Cancel, Done, Limits, MaintainError, MaintainOptions, MaintainOutcome, Meter, Run, VerifyOptions,
    backup, forget_ids, maintain, verify,
};
use futures::stream::{self, BoxStream, StreamExt as _};
use jiff::{SignedDuration, Timestamp};
use repository::{Clock, ContentId, SnapshotId};
use repository_kopia::{
    Client, CreateOptions, CycleKind, PREFIX_DATA, Password, Repository, Reservation, Safety, Task, TaskStats,
    WriteError,
};
use storage::{Error, Object, ObjectKey, ObjectLock, PutMode, Storage};
use tempfile::TempDir;
use testkit::MemoryStore;
use tokio::runtime::Runtime;

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap());

const START: &str = "2026-11-21T12:00:00Z";

/// A clock that is set, and goes on by a millisecond with each look.
#[derive(Clone)]
pub struct SetClock(pub Arc<AtomicI64>);

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.0.fetch_add(1, Ordering::SeqCst)).unwrap()
    }
}

/// A store and a clock that are exchanged under an open repository: opening one takes longer than a whole cycle.
#[derive(Debug)]
pub struct Switch(Mutex<(Arc<dyn Storage>, Arc<AtomicI64>)>);

impl Switch {
    fn store(&self) -> Arc<dyn Storage> {
        self.0.lock().unwrap().0.clone()
    }
}

impl Clock for Switch {
    fn now(&self) -> Timestamp {
        let clock = self.0.lock().unwrap().1.clone();
        SetClock(clock).now()
    }
}

#[async_trait]
impl Storage for Switch {
    fn address(&self) -> String {
        self.store().address()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode) -> Result<(), Error> {
        self.store().put(key, body, mode).await
    }

    async fn put_locked(&self, key: &ObjectKey, body: Bytes, mode: PutMode, lock: ObjectLock) -> Result<(), Error> {
        self.store().put_locked(key, body, mode, lock).await
    }

    async fn extend_lock(&self, key: &ObjectKey, lock: ObjectLock) -> Result<(), Error> {
        self.store().extend_lock(key, lock).await
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes, Error> {
        self.store().get(key).await
    }

    async fn get_range(&self, key: &ObjectKey, offset: u64, length_bytes: u64) -> Result<Bytes, Error> {
        self.store().get_range(key, offset, length_bytes).await
    }

    async fn stat(&self, key: &ObjectKey) -> Result<Object, Error> {
        self.store().stat(key).await
    }

    fn list<'a>(&'a self, prefix: &str) -> BoxStream<'a, Result<Object, Error>> {
        let (store, prefix) = (self.store(), prefix.to_owned());
        let listed = async move { stream::iter(store.list(&prefix).collect::<Vec<_>>().await) };
        stream::once(listed).flatten().boxed()
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), Error> {
        self.store().delete(key).await
    }
}

pub struct World {
    pub store: MemoryStore,
    pub clock: SetClock,
    switch: Arc<Switch>,
    shared: Arc<Repository>,
}

pub fn client() -> Client {
    Client { username: "app".to_owned(), hostname: "space".to_owned() }
}

pub fn run() -> Run {
    Run {
        runtime: RUNTIME.handle().clone(),
        limits: Limits::for_memory(96 << 20, NonZeroUsize::new(2).unwrap()),
        meter: Arc::new(Meter::new()),
        cancel: Cancel::new(),
    }
}

/// A tree: names and what is in them.
pub type Files<'a> = &'a [(&'a str, &'a str)];

impl World {
    pub fn new() -> Self {
        Self::with(&CreateOptions::default())
    }

    pub fn without_epochs() -> Self {
        Self::with(&CreateOptions { version: 1, ..CreateOptions::default() })
    }

    pub fn with(options: &CreateOptions) -> Self {
        let start: Timestamp = START.parse().unwrap();
        let store = MemoryStore::new();
        store.set_now(start);
        let clock = SetClock(Arc::new(AtomicI64::new(start.as_millisecond())));
        let switch = Arc::new(Switch(Mutex::new((Arc::new(store.clone()), clock.0.clone()))));
        let password = Password::new("secret");
        let creating = Repository::create(switch.clone(), &password, options, client(), switch.clone());
        let shared = Arc::new(RUNTIME.block_on(creating).unwrap());
        Self { store, clock, switch, shared }
    }

    /// A copy that goes its own way.
    pub fn fork(&self) -> Self {
        let clock = SetClock(Arc::new(AtomicI64::new(self.clock.0.load(Ordering::SeqCst))));
        Self { store: self.store.fork(), clock, switch: self.switch.clone(), shared: self.shared.clone() }
    }

    /// The owner's repository over another store, as if it had just been opened.
    pub fn over(&self, store: Arc<dyn Storage>) -> &Repository {
        *self.switch.0.lock().unwrap() = (Arc::new(self.store.clone()), self.clock.0.clone());
        RUNTIME.block_on(self.shared.refresh()).unwrap();
        self.switch.0.lock().unwrap().0 = store;
        &self.shared
    }

    /// The owner's repository, as if it had just been opened.
    pub fn repository(&self) -> &Repository {
        self.over(Arc::new(self.store.clone()))
    }

    pub fn pass(&self, span: SignedDuration) {
        let milliseconds = i64::try_from(span.as_millis()).unwrap();
        let now = self.clock.0.fetch_add(milliseconds, Ordering::SeqCst) + milliseconds;
        self.store.set_now(Timestamp::from_millisecond(now).unwrap());
    }

    pub fn hours(&self, hours: i64) {
        self.pass(SignedDuration::from_hours(hours));
    }

    /// Another client.
    pub fn open(&self, client: Client) -> Repository {
        self.open_over(&self.store, client)
    }

    /// Another client of another store, with this one's clock.
    pub fn open_over(&self, store: &MemoryStore, client: Client) -> Repository {
        let (store, clock) = (Arc::new(store.clone()), Arc::new(self.clock.clone()));
        RUNTIME.block_on(Repository::open(store, &Password::new("secret"), client, clock)).unwrap()
    }

    /// Backs a tree up with a repository that was opened before.
    pub fn back_up_with(&self, repository: &Repository, files: Files<'_>) -> SnapshotId {
        let tree = TempDir::new().unwrap();
        for (name, text) in files {
            let path = tree.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let options = BackupOptions {
            identity: "app@space:/data".parse().unwrap(),
            description: String::new(),
            tags: BTreeMap::new(),
            compression: None,
            read_all: true,
            cache_directory: None,
        };
        backup(repository, tree.path(), &options, &run()).unwrap().snapshot
    }

    pub fn back_up(&self, files: Files<'_>) -> SnapshotId {
        self.back_up_with(self.repository(), files)
    }

    pub fn forget(&self, snapshot: &SnapshotId) {
        forget_ids(self.repository(), std::slice::from_ref(snapshot), false, &run()).unwrap();
    }

    pub fn maintain_over(
        &self,
        store: Arc<dyn Storage>,
        cycle: CycleKind,
        safety: Safety,
    ) -> Result<MaintainOutcome, MaintainError> {
        let options = MaintainOptions { cycle, force: false, safety };
        maintain(self.over(store), &options, &run())
    }

    pub fn maintain(&self, cycle: CycleKind) -> MaintainOutcome {
        self.maintain_over(Arc::new(self.store.clone()), cycle, Safety::full()).unwrap()
    }

    pub fn full(&self) -> MaintainOutcome {
        self.maintain(CycleKind::Full)
    }

    /// A content that nothing refers to, in a pack of its own.
    pub fn write_orphan(&self, bytes: &[u8]) -> ContentId {
        self.write(bytes, true)
    }

    /// A content in a pack of a session that goes on.
    pub fn write_unfinished(&self, bytes: &[u8]) {
        self.write(bytes, false);
    }

    fn write(&self, bytes: &[u8], finish: bool) -> ContentId {
        write_content(self.repository(), bytes, finish)
    }

    /// `live`, `marked` or `gone`; what is not gone must be readable.
    pub fn state(&self, content: &ContentId) -> &'static str {
        state_in(self.repository(), content)
    }

    /// Everything verifies, every byte of it.
    #[track_caller]
    pub fn verify(&self) {
        let options = VerifyOptions { read_percent: 100, ..VerifyOptions::default() };
        let outcome = verify(self.repository(), &options, &run()).unwrap();
        assert!(outcome.is_clean(), "{:?}", outcome.findings);
    }

    pub fn snapshots(&self) -> BTreeSet<SnapshotId> {
        let listing = RUNTIME.block_on(self.repository().snapshots()).unwrap();
        assert!(listing.damage.is_empty());
        listing.snapshots.into_iter().map(|snapshot| snapshot.id).collect()
    }

    pub fn count(&self, prefix: &str) -> usize {
        self.store.names().iter().filter(|name| name.starts_with(prefix)).count()
    }
}

/// A content in a pack of its own.
pub fn write_content(repository: &Repository, bytes: &[u8], finish: bool) -> ContentId {
    let writing = async {
        let session = repository.begin().await?;
        let content = repository.content_id(PREFIX_DATA, bytes);
        let packer = session.packer();
        if let Reservation::New { replaces, ticket } = session.reserve(&content)? {
            repository.sealer().seal(content, &[bytes], None, &mut Vec::new(), |sealed, out| {
                packer.push(&sealed, out, replaces, Vec::new, &mut |_| Ok::<(), WriteError>(()))
            })??;
            ticket.end();
        }
        for pack in packer.finish()? {
            session.upload(pack).await?;
        }
        if finish {
            session.finish().await?;
        }
        Ok::<_, WriteError>(content)
    };
    RUNTIME.block_on(writing).unwrap()
}

pub fn state_in(repository: &Repository, content: &ContentId) -> &'static str {
    match repository.find(content).unwrap() {
        None => "gone",
        Some(entry) => {
            RUNTIME.block_on(repository.content(content)).unwrap();
            if entry.deleted { "marked" } else { "live" }
        }
    }
}

pub fn done(outcome: &MaintainOutcome, task: Task) -> &Done {
    &outcome.tasks.iter().find(|found| found.task == task).unwrap().done
}

/// Marked, taken back, moved, deleted packs.
pub fn counts(outcome: &MaintainOutcome) -> (u64, u64, u64, u64) {
    let mut counts = (0, 0, 0, 0);
    for task in &outcome.tasks {
        match &task.done {
            Done::Counted(TaskStats::SnapshotGc { deleted_content_count, recovered_content_count, .. }) => {
                counts.0 = *deleted_content_count;
                counts.1 = *recovered_content_count;
            }
            Done::Counted(TaskStats::RewriteContents { rewritten_content_count, .. }) => {
                counts.2 = *rewritten_content_count;
            }
            Done::Counted(TaskStats::DeleteUnreferencedPacks { deleted_pack_count, .. }) => {
                counts.3 = *deleted_pack_count
            }
            _ => {}
        }
    }
    counts
}
