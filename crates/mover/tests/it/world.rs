//! A volume, a store and a mover.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::decide::Creation;
use api::exit::Class;
use api::id::RepositoryId;
use api::ledger::Thresholds;
use api::mover::{BackupTask, Layout, Outcome, Report, RestoreTask, Selection, Task};
use api::naming::{ClaimKey, Identity};
use api::retain::Retain;
use engine::{Cancel, Limits, Meter, Run};
use jiff::{Timestamp, ToSpan as _};
use mover::Environment;
use repository::{Clock, Snapshot};
use repository_kopia::{Client, OpenOptions, Password, Repository};
use storage::layer::meter::MeterStorage;
use storage::{Address, Credentials, Storage};
use tempfile::TempDir;
use testkit::MemoryStore;

pub const PASSWORD: &str = "correct horse";

/// The store's clock is the machine's too.
struct StoreClock(MemoryStore);

impl Clock for StoreClock {
    fn now(&self) -> Timestamp {
        self.0.now()
    }
}

pub struct World {
    pub store: MemoryStore,
    pub runtime: tokio::runtime::Runtime,
    directory: TempDir,
}

impl World {
    pub fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let world = Self { store: MemoryStore::new(), runtime, directory: TempDir::new().unwrap() };
        std::fs::create_dir(world.data()).unwrap();
        world
    }

    /// The volume.
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn write(&self, name: &str, body: &str) {
        let path = self.data().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, body).unwrap();
    }

    /// Ten files of a kilobyte each, in two directories.
    pub fn fill(&self) {
        for at in 0..10 {
            self.write(&format!("{}/file{at}", ["a", "b"][at % 2]), &at.to_string().repeat(1024));
        }
    }

    /// `rm -rf` of everything in the volume, and then an app that makes its directory again.
    pub fn empty(&self) {
        std::fs::remove_dir_all(self.data()).unwrap();
        std::fs::create_dir_all(self.data().join("a")).unwrap();
    }

    pub fn an_hour_later(&self) {
        self.store.set_now(self.store.now() + 1.hour());
    }

    pub fn environment(&self, storage: Arc<dyn Storage>) -> Environment {
        let calls = Arc::<storage::layer::meter::Meter>::default();
        let metered: Arc<dyn Storage> = Arc::new(MeterStorage::over(storage, Arc::clone(&calls)));
        Environment {
            address: Address::parse("s3://bucket").unwrap(),
            credentials: Credentials::default(),
            password: Password::new(PASSWORD),
            is_declared: false,
            open_store: Arc::new(move |_, _, _| Ok(Arc::clone(&metered))),
            calls,
            clock: Arc::new(StoreClock(self.store.clone())),
            thresholds: Thresholds::default(),
            index: OpenOptions::default(),
            cache_directory: None,
        }
    }

    pub fn run(&self) -> Run {
        Run {
            runtime: self.runtime.handle().clone(),
            limits: Limits::for_memory(96 << 20, NonZeroUsize::new(2).unwrap()),
            meter: Arc::new(Meter::new()),
            cancel: Cancel::new(),
        }
    }

    pub fn work(&self, task: &Task) -> Report {
        self.work_over(task, Arc::new(self.store.clone()))
    }

    pub fn work_over(&self, task: &Task, storage: Arc<dyn Storage>) -> Report {
        mover::run(task, &self.environment(storage), &self.run())
    }

    pub fn backup(&self) -> Report {
        self.work(&Task::Backup(self.backup_task()))
    }

    pub fn backup_task(&self) -> BackupTask {
        BackupTask {
            claim: claim(),
            identity: identity(),
            data: self.data(),
            layout: Layout::Shared,
            ledger: true,
            cluster: Some("home".to_owned()),
            compression: None,
            parallelism: None,
            retain: Retain::default(),
            expected_repository_id: None,
            creation: Creation::IfEmpty,
            no_maintenance: false,
            accepted: None,
            disregarded: None,
        }
    }

    pub fn restore_task(&self, target: &str) -> RestoreTask {
        let data = self.directory.path().join(target);
        std::fs::create_dir_all(&data).unwrap();
        RestoreTask {
            claim: claim(),
            identity: identity(),
            data,
            layout: Layout::Shared,
            ledger: true,
            cluster: None,
            parallelism: Some(1),
            expected_repository_id: None,
            selection: Selection::Latest,
            may_be_nothing: false,
            delete_extra: false,
        }
    }

    pub fn restore(&self, target: &str) -> Report {
        self.work(&Task::Restore(self.restore_task(target)))
    }

    pub fn repository(&self) -> Repository {
        let client = Client { username: "u".to_owned(), hostname: "h".to_owned() };
        let clock = Arc::new(StoreClock(self.store.clone()));
        let password = Password::new(PASSWORD);
        let opening = Repository::open(Arc::new(self.store.clone()), &password, client, clock);
        self.runtime.block_on(opening).unwrap()
    }

    pub fn snapshots(&self) -> Vec<Snapshot> {
        let listing = self.runtime.block_on(self.repository().snapshots()).unwrap();
        assert!(listing.damage.is_empty(), "{:?}", listing.damage);
        listing.snapshots
    }

    /// Every file below a directory of this world, with what is in it.
    pub fn files(&self, directory: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        let root = self.directory.path().join(directory);
        let mut files = BTreeMap::new();
        let mut pending = vec![root.clone()];
        while let Some(path) = pending.pop() {
            for entry in std::fs::read_dir(path).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_dir() {
                    pending.push(entry.path());
                } else {
                    let name = entry.path().strip_prefix(&root).unwrap().to_owned();
                    files.insert(name, std::fs::read(entry.path()).unwrap());
                }
            }
        }
        files
    }
}

pub fn claim() -> ClaimKey {
    ClaimKey::new("media", "photos").unwrap()
}

pub fn identity() -> Identity {
    claim().shared_identity()
}

pub fn pinned(report: &Report) -> Option<RepositoryId> {
    Some(report.repository.clone().unwrap())
}

/// The report is a failure of this class whose reason begins like this.
#[track_caller]
pub fn failed(report: &Report, class: Class, begins: &str) {
    let Outcome::Failed { class: found, reason, .. } = &report.outcome else { panic!("{report:?}") };
    assert_eq!(*found, class, "{reason}");
    assert!(reason.starts_with(begins), "{reason}");
}
