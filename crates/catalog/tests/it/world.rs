//! A shared repository in memory, what is backed up to it, and a catalog over it.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use api::decide::{Claim, Decision, decide};
use api::id::{RepositoryId, SnapshotId};
use api::ledger::{FORMAT_VERSION, LedgerEntry, seal};
use api::mover::Layout;
use api::naming::{ClaimKey, Identity};
use bytes::Bytes;
use catalog::{Catalog, Options};
use engine::{BackupOptions, Cancel, Limits, Meter, Run};
use jiff::{Timestamp, ToSpan as _};
use repository::Clock;
use repository_kopia::{Client, CreateOptions, Password, Repository};
use storage::{Address, ObjectKey, PutMode, Storage};
use tempfile::TempDir;
use testkit::MemoryStore;

pub const PASSWORD: &str = "correct horse";

/// The store's clock is the machine's too.
pub struct StoreClock(pub MemoryStore);

impl Clock for StoreClock {
    fn now(&self) -> Timestamp {
        self.0.now()
    }
}

pub struct World {
    pub store: MemoryStore,
}

impl World {
    /// A new repository without anything in it.
    pub async fn new() -> Self {
        let world = Self { store: MemoryStore::new() };
        create(Arc::new(world.store.clone()), world.clock()).await;
        world
    }

    /// With one backup of `media/photos`, of ten files, in ledger and all.
    pub async fn with_a_backup() -> Self {
        let world = Self::new().await;
        let id = world.back_up("photos", 10).await;
        world.record("photos", &id, 10).await;
        world
    }

    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(StoreClock(self.store.clone()))
    }

    pub async fn repository(&self) -> Repository {
        open(Arc::new(self.store.clone()), self.clock()).await
    }

    /// Backs so many files up for a claim of namespace `media`, an hour after what was before.
    pub async fn back_up(&self, pvc: &str, files: usize) -> String {
        self.store.set_now(self.store.now() + 1.hour());
        back_up(self.repository().await, &claim(pvc).shared_identity(), files).await
    }

    /// Writes the ledger's record of a backup.
    pub async fn record(&self, pvc: &str, snapshot: &str, files: u64) {
        let repository = self.repository().await;
        record(&self.store, &repository, &claim(pvc), snapshot, self.store.now(), files).await;
    }

    pub fn options_over(&self, storage: Arc<dyn Storage>) -> Options {
        let open = Arc::new(move |_: &Address, _| Ok(Arc::clone(&storage)));
        let address = Address::parse("s3://bucket").unwrap();
        Options::new(address, Layout::Shared, Password::new(PASSWORD), open, self.clock())
    }

    pub fn options(&self) -> Options {
        self.options_over(Arc::new(self.store.clone()))
    }

    pub fn catalog(&self) -> Arc<Catalog> {
        Catalog::new(self.options())
    }
}

pub async fn create(storage: Arc<dyn Storage>, clock: Arc<dyn Clock>) -> Repository {
    let password = Password::new(PASSWORD);
    Repository::create(storage, &password, &CreateOptions::default(), client(), clock).await.unwrap()
}

pub async fn open(storage: Arc<dyn Storage>, clock: Arc<dyn Clock>) -> Repository {
    Repository::open(storage, &Password::new(PASSWORD), client(), clock).await.unwrap()
}

fn client() -> Client {
    Client { username: "u".to_owned(), hostname: "h".to_owned() }
}

pub async fn back_up(repository: Repository, identity: &Identity, files: usize) -> String {
    let options = BackupOptions {
        identity: identity.to_string().parse().unwrap(),
        description: String::new(),
        tags: Default::default(),
        compression: None,
        read_all: false,
        cache_directory: None,
    };
    let run = Run {
        runtime: tokio::runtime::Handle::current(),
        limits: Limits::for_memory(96 << 20, NonZeroUsize::new(1).unwrap()),
        meter: Arc::new(Meter::new()),
        cancel: Cancel::new(),
    };
    tokio::task::spawn_blocking(move || {
        let data = TempDir::new().unwrap();
        fill(data.path(), files);
        engine::backup(&repository, data.path(), &options, &run).unwrap().snapshot.to_string()
    })
    .await
    .unwrap()
}

fn fill(directory: &Path, files: usize) {
    for at in 0..files {
        std::fs::write(directory.join(format!("file{at}")), "x".repeat(1024)).unwrap();
    }
    // Something must be there to be backed up.
    std::fs::create_dir_all(directory.join("empty")).unwrap();
}

pub async fn record(
    store: &dyn Storage,
    repository: &Repository,
    claim: &ClaimKey,
    snapshot: &str,
    time: Timestamp,
    files: u64,
) {
    let entry = LedgerEntry {
        format_version: FORMAT_VERSION,
        repository_id: RepositoryId::new(repository.unique_id()),
        claim: claim.clone(),
        snapshot_id: SnapshotId::new(snapshot),
        time,
        files,
        bytes: files * 1024,
        cluster: None,
    };
    let sealed = seal(&entry, &repository.derive_key("perennial ledger"));
    let key = ObjectKey::new(claim.ledger_object());
    store.put(&key, Bytes::from(sealed), PutMode::Replace).await.unwrap();
}

pub fn claim(pvc: &str) -> ClaimKey {
    ClaimKey::new("media", pvc).unwrap()
}

pub fn pinned(id: &str) -> Claim {
    Claim { pinned_repository_id: Some(RepositoryId::new(id)), ..Claim::default() }
}

/// What a claim of namespace `media` gets.
pub async fn decided(catalog: &Catalog, pvc: &str, expectation: &Claim) -> Decision {
    decide(&catalog.facts(&claim(pvc), None).await, expectation)
}
