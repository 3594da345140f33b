//! One open repository for everyone, and nobody told "nothing" from memory.

use std::sync::Arc;
use std::time::Duration;

use api::decide::{Claim, Decision};
use api::mover::Layout;
use api::naming::LEDGER_PREFIX;
use async_trait::async_trait;
use bytes::Bytes;
use catalog::{Catalog, Options};
use futures::future::{FutureExt as _, join_all};
use futures::stream::{BoxStream, StreamExt as _};
use storage::{Error, Object, ObjectKey, PutMode, Storage};
use testkit::{Fault, FaultStore, MemoryStore, Moment};
use tokio::sync::{Semaphore, watch};

use crate::world::{World, claim, decided, pinned};

fn metric(catalog: &Arc<Catalog>, name: &str) -> u64 {
    let text = catalog::routes::metrics_text(catalog);
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("{name} in {text}")).parse().unwrap()
}

/// A store that lets looks through when it is told to: each begins with a list of the ledger.
#[derive(Debug)]
struct Gate {
    store: Arc<dyn Storage>,
    open: Semaphore,
    /// Looks that have come to it.
    come: watch::Sender<u64>,
}

impl Gate {
    async fn pass(&self) {
        self.come.send_modify(|come| *come += 1);
        self.open.acquire().await.unwrap().forget();
    }

    async fn has_come(&self, looks: u64) {
        self.come.subscribe().wait_for(|come| *come == looks).await.unwrap();
    }
}

#[async_trait]
impl Storage for Gate {
    fn address(&self) -> String {
        self.store.address()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode) -> Result<(), Error> {
        self.store.put(key, body, mode).await
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes, Error> {
        self.store.get(key).await
    }

    async fn get_range(&self, key: &ObjectKey, offset: u64, length_bytes: u64) -> Result<Bytes, Error> {
        self.store.get_range(key, offset, length_bytes).await
    }

    async fn stat(&self, key: &ObjectKey) -> Result<Object, Error> {
        self.store.stat(key).await
    }

    fn list<'a>(&'a self, prefix: &str) -> BoxStream<'a, Result<Object, Error>> {
        let (is_ledger, listed) = (prefix == LEDGER_PREFIX, self.store.list(prefix));
        let gated = async move {
            if is_ledger {
                self.pass().await;
            }
            listed
        };
        gated.flatten_stream().boxed()
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), Error> {
        self.store.delete(key).await
    }
}

#[tokio::test]
async fn one_open_repository_for_a_hundred_askers() {
    let world = World::with_a_backup().await;
    let counted = FaultStore::counting(world.store.clone());
    let alone = Catalog::new(world.options_over(Arc::clone(&counted) as _));
    decided(&alone, "photos", &Claim::default()).await;
    let for_one_count = counted.operations_count();

    let counted = FaultStore::counting(world.store.clone());
    let (open, come) = (Semaphore::new(0), watch::Sender::new(0));
    let gate = Arc::new(Gate { store: Arc::clone(&counted) as _, open, come });
    let catalog = Catalog::new(world.options_over(Arc::clone(&gate) as _));
    let mut askers = Vec::new();
    // A look is under way whenever more of them ask; half of these have no backup, and are told so by a look that began after.
    for (looks, askers_count) in [(1, 1), (2, 50), (3, 49)] {
        for _ in 0..askers_count {
            let (catalog, at) = (Arc::clone(&catalog), askers.len());
            let pvc = if at % 2 == 0 { "photos".to_owned() } else { format!("new{at}") };
            askers.push(tokio::spawn(async move { decided(&catalog, &pvc, &Claim::default()).await }));
        }
        // On one thread, all that are ready have their turn while this one yields again and again.
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        if looks > 1 {
            gate.open.add_permits(1);
        }
        gate.has_come(looks).await;
    }
    gate.open.add_permits(100);
    for (at, decision) in join_all(askers).await.into_iter().enumerate() {
        match (at % 2, decision.unwrap()) {
            (0, Decision::Restore { .. }) | (1, Decision::Fresh { .. }) => {}
            (_, other) => panic!("{at}: {other}"),
        }
    }
    assert_eq!(metric(&catalog, "perennial_catalog_opens_total"), 1);
    assert_eq!(metric(&catalog, "perennial_catalog_refreshes_total"), 2);
    // Fifty have a ledger record to read.
    let most_count = for_one_count * 3 + 50;
    assert!(counted.operations_count() <= most_count, "{} calls", counted.operations_count());
}

#[tokio::test]
async fn a_no_is_looked_up_again_and_a_yes_is_not() {
    let world = World::with_a_backup().await;
    let catalog = world.catalog();
    let ask = async |pvc| decided(&catalog, pvc, &Claim::default()).await;
    assert!(matches!(ask("new").await, Decision::Fresh { .. }));
    world.back_up("new", 1).await;
    assert!(matches!(ask("new").await, Decision::Restore { .. }), "no backup is hidden by a cache");
    let refreshes_count = metric(&catalog, "perennial_catalog_refreshes_total");
    for _ in 0..10 {
        assert!(matches!(ask("photos").await, Decision::Restore { .. }));
    }
    assert_eq!(metric(&catalog, "perennial_catalog_refreshes_total"), refreshes_count);
    assert_eq!(metric(&catalog, "perennial_catalog_opens_total"), 1);
}

#[tokio::test]
async fn a_yes_grows_old() {
    let world = World::with_a_backup().await;
    let options = Options { refresh_every: Duration::ZERO, retry_after: Duration::ZERO, ..world.options() };
    let catalog = Catalog::new(options);
    let expectation = pinned(&world.repository().await.unique_id());
    assert!(matches!(decided(&catalog, "photos", &expectation).await, Decision::Restore { .. }));
    let ids = world.repository().await.snapshots().await.unwrap().snapshots;
    let ids: Vec<_> = ids.into_iter().map(|snapshot| snapshot.id).collect();
    world.repository().await.forget(&ids).await.unwrap();
    let decision = decided(&catalog, "photos", &expectation).await.to_string();
    assert!(decision.starts_with("hold ExpectedBackupMissing: "), "{decision}");
}

/// What is open in memory is gone in the store: nobody is told that there is no history.
#[tokio::test]
async fn a_location_that_is_wiped_under_an_open_repository() {
    let world = World::with_a_backup().await;
    let catalog = Catalog::new(Options { retry_after: Duration::ZERO, ..world.options() });
    assert!(matches!(decided(&catalog, "new", &Claim::default()).await, Decision::Fresh { .. }));
    let expectation = pinned(&world.repository().await.unique_id());
    let ledger: Vec<_> =
        world.store.contents().into_iter().filter(|(name, _)| name.starts_with("_perennial/")).collect();
    world.store.wipe();
    for (name, body) in ledger {
        world.store.tamper(&name, body);
    }
    let decision = decided(&catalog, "new", &Claim::default()).await.to_string();
    assert!(decision.starts_with("hold Unknown: the repository at "), "{decision}");
    let decision = decided(&catalog, "new", &Claim::default()).await.to_string();
    assert!(decision.starts_with("hold Unknown: objects are there"), "{decision}");
    world.store.wipe();
    let decision = decided(&catalog, "new", &expectation).await.to_string();
    assert!(decision.starts_with("hold RepositoryMissing: "), "{decision}");
}

#[tokio::test]
async fn a_failure_answers_for_a_moment_only() {
    let world = World::with_a_backup().await;
    let store = FaultStore::over(world.store.clone(), Fault::once(0, Moment::Before));
    let catalog = Catalog::new(world.options_over(Arc::clone(&store) as _));
    // The ledger was not listed: with a backup that is no matter.
    assert!(matches!(decided(&catalog, "photos", &Claim::default()).await, Decision::Restore { .. }));

    let store = FaultStore::over(world.store.clone(), Fault::once(2, Moment::Before));
    let options = Options { retry_after: Duration::from_secs(3600), ..world.options_over(Arc::clone(&store) as _) };
    let catalog = Catalog::new(options);
    for _ in 0..3 {
        let decision = decided(&catalog, "photos", &Claim::default()).await.to_string();
        assert!(decision.starts_with("hold RepositoryUnreachable: "), "{decision}");
    }
    assert_eq!(metric(&catalog, "perennial_catalog_opens_total"), 1);
    let store = FaultStore::over(world.store.clone(), Fault::once(2, Moment::Before));
    let options = Options { retry_after: Duration::ZERO, ..world.options_over(store) };
    let catalog = Catalog::new(options);
    assert!(matches!(decided(&catalog, "photos", &Claim::default()).await, Decision::Hold { .. }));
    assert!(matches!(decided(&catalog, "photos", &Claim::default()).await, Decision::Restore { .. }));
}

/// A store that never answers.
#[derive(Debug)]
struct Silent;

#[async_trait]
impl Storage for Silent {
    fn address(&self) -> String {
        "silent:".to_owned()
    }

    async fn put(&self, _: &ObjectKey, _: Bytes, _: PutMode) -> Result<(), Error> {
        std::future::pending().await
    }

    async fn get(&self, _: &ObjectKey) -> Result<Bytes, Error> {
        std::future::pending().await
    }

    async fn get_range(&self, _: &ObjectKey, _: u64, _: u64) -> Result<Bytes, Error> {
        std::future::pending().await
    }

    async fn stat(&self, _: &ObjectKey) -> Result<Object, Error> {
        std::future::pending().await
    }

    fn list<'a>(&'a self, _: &str) -> BoxStream<'a, Result<Object, Error>> {
        futures::stream::pending().boxed()
    }

    async fn delete(&self, _: &ObjectKey) -> Result<(), Error> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_store_that_never_answers_is_unreachable_in_time() {
    let world = World { store: MemoryStore::new() };
    let short = Duration::from_millis(20);
    let options =
        Options { deadline: short, ready_within: short, look_limit: 4 * short, ..world.options_over(Arc::new(Silent)) };
    let catalog = Catalog::new(options);
    let decision = decided(&catalog, "photos", &Claim::default()).await.to_string();
    assert!(decision.starts_with("hold RepositoryUnreachable: no answer within "), "{decision}");
    assert!(catalog.ready().await.is_err());
    assert!(catalog.snapshots(&claim("photos"), None).await.is_err());
}

#[tokio::test]
async fn who_gives_up_takes_nothing_from_the_others() {
    let world = World::with_a_backup().await;
    let catalog = world.catalog();
    let gives_up = tokio::spawn({
        let catalog = Arc::clone(&catalog);
        async move { catalog.facts(&claim("photos"), None).await }
    });
    tokio::task::yield_now().await;
    gives_up.abort();
    assert!(matches!(decided(&catalog, "photos", &Claim::default()).await, Decision::Restore { .. }));
    assert_eq!(metric(&catalog, "perennial_catalog_opens_total"), 1);
    assert_eq!(catalog.options().layout, Layout::Shared);
}
