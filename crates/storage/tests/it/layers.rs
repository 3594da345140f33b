//! What each layer does beyond passing things on.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use storage::layer::cache::{CACHED_OBJECT_MAX_BYTES, CacheStorage};
use storage::layer::limit::LimitStorage;
use storage::layer::meter::{Meter, MeterSnapshot, MeterStorage};
use storage::layer::retry::{RetryOptions, RetryStorage};
use storage::{ErrorKind, ObjectKey, PutMode, Storage};
use tempfile::TempDir;
use testkit::{Fault, FaultStore, MemoryStore, Moment};
use tokio::time::Instant;

use crate::support::key;

fn retry(inner: Arc<dyn Storage>) -> RetryStorage {
    RetryStorage::over(inner, RetryOptions { attempts_count: 4, seed: 7, ..RetryOptions::default() })
}

async fn use_each_operation(store: &dyn Storage) {
    let name = key("xe5");
    store.put(&name, Bytes::from_static(b"body"), PutMode::IfAbsent).await.unwrap();
    store.put(&name, Bytes::from_static(b"body"), PutMode::Replace).await.unwrap();
    assert_eq!(store.get(&name).await.unwrap(), &b"body"[..]);
    assert_eq!(store.get_range(&name, 1, 2).await.unwrap(), &b"od"[..]);
    assert_eq!(store.stat(&name).await.unwrap().size_bytes, 4);
    let listed: Vec<_> = store.list("").try_collect().await.unwrap();
    assert_eq!(listed.len(), 1, "an object is listed once, however often the listing began");
    store.delete(&name).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn retry_hides_every_single_fault() {
    let faults = FaultStore::each_operation_of_async(MemoryStore::new(), |store| async move {
        use_each_operation(&*store).await;
    })
    .await;
    assert_eq!(faults.len(), 14);
    for fault in faults {
        use_each_operation(&retry(FaultStore::over(MemoryStore::new(), fault))).await;
        use_each_operation(&retry(FaultStore::over(MemoryStore::new(), fault.of_kind(ErrorKind::Other)))).await;
    }
}

#[tokio::test(start_paused = true)]
async fn retry_waits_as_long_as_the_store_asks_and_no_longer_than_bearable() {
    for (asked, waited) in [(30, 30), (100_000, 120)] {
        let fault = Fault::once(0, Moment::Before).asking_for(asked);
        let store = retry(FaultStore::over(MemoryStore::new(), fault));
        let start = Instant::now();
        store.put(&key("xe5"), Bytes::from_static(b"body"), PutMode::IfAbsent).await.unwrap();
        assert_eq!(start.elapsed().as_secs(), waited);
    }
}

#[tokio::test(start_paused = true)]
async fn retry_waits_longer_each_time_and_ends() {
    let away = FaultStore::over(MemoryStore::new(), Fault::onwards(0, Moment::Before));
    let store = retry(Arc::clone(&away) as Arc<dyn Storage>);
    let start = Instant::now();
    assert_eq!(store.get(&key("xe5")).await.unwrap_err().kind, ErrorKind::Unreachable);
    assert_eq!(away.operations_count(), 4);
    // Three waits, each between half and the whole of 0.5, 1 and 2 seconds.
    let waited = start.elapsed();
    assert!((Duration::from_millis(1750)..=Duration::from_millis(3510)).contains(&waited), "{waited:?}");
    assert_eq!(store.list("").try_collect::<Vec<_>>().await.unwrap_err().kind, ErrorKind::Unreachable);
    assert_eq!(away.operations_count(), 8);
    let mut listed = store.list("");
    assert!(listed.next().await.unwrap().is_err());
    assert!(listed.next().await.is_none(), "after its error a listing is over");
}

#[tokio::test(start_paused = true)]
async fn retry_leaves_final_errors_alone() {
    for kind in [
        ErrorKind::NotFound,
        ErrorKind::StoreMissing,
        ErrorKind::AlreadyExists,
        ErrorKind::Truncated,
        ErrorKind::AccessDenied,
        ErrorKind::Full,
        ErrorKind::Misconfigured,
        ErrorKind::Lies,
    ] {
        let inner = FaultStore::over(MemoryStore::new(), Fault::onwards(0, Moment::Before).of_kind(kind));
        let store = retry(Arc::clone(&inner) as Arc<dyn Storage>);
        let start = Instant::now();
        assert_eq!(store.stat(&key("xe5")).await.unwrap_err().kind, kind);
        assert_eq!((inner.operations_count(), start.elapsed()), (1, Duration::ZERO));
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_is_no_excuse_for_another_writers_bytes() {
    let memory = MemoryStore::with([("kopia.repository", "theirs")]);
    let inner = FaultStore::over(memory.clone(), Fault::once(0, Moment::Before));
    let put = retry(inner).put(&key("kopia.repository"), Bytes::from_static(b"ours"), PutMode::IfAbsent).await;
    assert_eq!(put.unwrap_err().kind, ErrorKind::AlreadyExists);
    assert_eq!(memory.contents()["kopia.repository"], &b"theirs"[..]);
}

#[tokio::test]
async fn limit_lets_no_more_through() {
    let watched = Arc::new(Watched { inner: MemoryStore::new(), ..Watched::default() });
    let store = LimitStorage::over(Arc::clone(&watched) as Arc<dyn Storage>, 3);
    let puts = (0..20).map(|number| {
        let store = &store;
        async move { store.put(&key(&format!("xe{number}")), Bytes::new(), PutMode::Replace).await.unwrap() }
    });
    futures::future::join_all(puts).await;
    assert_eq!(watched.most.load(std::sync::atomic::Ordering::SeqCst), 3);
    let one = LimitStorage::over(Arc::new(watched.inner.clone()), 1);
    let mut listed = one.list("");
    while let Some(object) = listed.next().await {
        one.get(&object.unwrap().key).await.unwrap();
    }
}

/// Counts how many puts are under way at once.
#[derive(Debug, Default)]
struct Watched {
    inner: MemoryStore,
    now: std::sync::atomic::AtomicUsize,
    most: std::sync::atomic::AtomicUsize,
}

#[async_trait::async_trait]
impl Storage for Watched {
    fn address(&self) -> String {
        self.inner.address()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode) -> Result<(), storage::Error> {
        use std::sync::atomic::Ordering::SeqCst;
        self.most.fetch_max(self.now.fetch_add(1, SeqCst) + 1, SeqCst);
        tokio::task::yield_now().await;
        self.now.fetch_sub(1, SeqCst);
        self.inner.put(key, body, mode).await
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes, storage::Error> {
        self.inner.get(key).await
    }

    async fn get_range(&self, key: &ObjectKey, offset: u64, length_bytes: u64) -> Result<Bytes, storage::Error> {
        self.inner.get_range(key, offset, length_bytes).await
    }

    async fn stat(&self, key: &ObjectKey) -> Result<storage::Object, storage::Error> {
        self.inner.stat(key).await
    }

    fn list<'a>(&'a self, prefix: &str) -> futures::stream::BoxStream<'a, Result<storage::Object, storage::Error>> {
        self.inner.list(prefix)
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), storage::Error> {
        self.inner.delete(key).await
    }
}

#[tokio::test]
async fn meter_counts_calls_pages_and_bytes() {
    let meter = Arc::new(Meter::default());
    let store = MeterStorage::over(Arc::new(MemoryStore::new()), Arc::clone(&meter));
    use_each_operation(&store).await;
    let expected = MeterSnapshot {
        put_count: 2,
        get_count: 1,
        get_range_count: 1,
        stat_count: 1,
        list_page_count: 1,
        delete_count: 1,
        failed_count: 0,
        up_bytes: 8,
        down_bytes: 6,
    };
    assert_eq!(meter.snapshot(), expected);
    store.get(&key("xe6")).await.unwrap_err();
    let since = meter.snapshot().since(&expected);
    assert_eq!((since.call_count(), since.get_count, since.failed_count, since.down_bytes), (1, 1, 1, 0));
    for (objects_count, pages_count) in [(1000, 1), (1001, 2), (2000, 2), (2001, 3)] {
        let names = (0..objects_count).map(|number| (format!("q{number}"), ""));
        let meter = Arc::new(Meter::default());
        let store = MeterStorage::over(Arc::new(MemoryStore::with(names)), Arc::clone(&meter));
        store.list("").try_collect::<Vec<_>>().await.unwrap();
        assert_eq!(meter.snapshot().list_page_count, pages_count, "{objects_count}");
    }
}

/// A cache over a metered store in memory.
struct Cached {
    memory: MemoryStore,
    meter: Arc<Meter>,
    directory: TempDir,
    capacity_bytes: u64,
}

impl Cached {
    fn with<B: Into<Bytes>>(capacity_bytes: u64, objects: impl IntoIterator<Item = (&'static str, B)>) -> Self {
        Self {
            memory: MemoryStore::with(objects),
            meter: Arc::default(),
            directory: tempfile::tempdir().unwrap(),
            capacity_bytes,
        }
    }

    async fn open(&self) -> CacheStorage {
        let metered = Arc::new(MeterStorage::over(Arc::new(self.memory.clone()), Arc::clone(&self.meter)));
        let immutable = Arc::new(|key: &ObjectKey| key.as_str().starts_with('q'));
        CacheStorage::open(metered, self.directory.path(), self.capacity_bytes, immutable).await.unwrap()
    }

    fn calls(&self) -> (u64, u64, u64) {
        let shown = self.meter.snapshot();
        (shown.get_count, shown.get_range_count, shown.stat_count)
    }

    fn files(&self) -> Vec<PathBuf> {
        std::fs::read_dir(self.directory.path()).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

#[tokio::test]
async fn cache_fetches_an_immutable_object_once() {
    let cached = Cached::with(1000, [("q1", "0123456789"), ("kopia.maintenance", "changes")]);
    let store = cached.open().await;
    assert_eq!(store.get_range(&key("q1"), 2, 3).await.unwrap(), &b"234"[..]);
    assert_eq!(store.get_range(&key("q1"), 5, 5).await.unwrap(), &b"56789"[..]);
    assert_eq!(store.get_range(&key("q1"), 5, 6).await.unwrap_err().kind, ErrorKind::Truncated);
    assert_eq!(store.get(&key("q1")).await.unwrap(), &b"0123456789"[..]);
    assert_eq!(cached.calls(), (1, 0, 1), "one whole fetch serves them all");
    store.get(&key("kopia.maintenance")).await.unwrap();
    store.get(&key("kopia.maintenance")).await.unwrap();
    assert_eq!(cached.calls(), (3, 0, 1), "what changes is not kept");
    let again = cached.open().await;
    again.get(&key("q1")).await.unwrap();
    assert_eq!(cached.calls(), (3, 0, 1), "files outlive the process");
}

#[tokio::test]
async fn cache_drops_damaged_files() {
    let cached = Cached::with(1000, [("q1", "0123456789"), ("q2", "abcdefghij")]);
    let store = cached.open().await;
    let damages: [fn(&mut Vec<u8>); 4] = [
        |file| *file.last_mut().unwrap() ^= 1,
        |file| file[0] ^= 1,
        |file| file.truncate(file.len() - 1),
        |file| file.truncate(5),
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        assert_eq!(store.get(&key("q1")).await.unwrap(), &b"0123456789"[..]);
        let [path] = &cached.files()[..] else { panic!("one file") };
        let mut file = std::fs::read(path).unwrap();
        damage(&mut file);
        std::fs::write(path, file).unwrap();
        assert_eq!(store.get_range(&key("q1"), 0, 10).await.unwrap(), &b"0123456789"[..]);
        assert_eq!(cached.calls().0, number as u64 + 2, "fetched again");
    }
    // A whole and unharmed file of another object is damage too.
    let [first] = &cached.files()[..] else { panic!("one file") };
    let file = std::fs::read(first).unwrap();
    store.get(&key("q2")).await.unwrap();
    for path in cached.files() {
        std::fs::write(path, &file).unwrap();
    }
    assert_eq!(store.get(&key("q2")).await.unwrap(), &b"abcdefghij"[..]);
}

#[tokio::test]
async fn cache_stays_within_its_size() {
    let file_bytes = 32 + 10;
    let cached = Cached::with(2 * file_bytes, [("q1", "0123456789"), ("q2", "0123456789"), ("q3", "0123456789")]);
    let store = cached.open().await;
    for name in ["q1", "q2", "q3"] {
        store.get(&key(name)).await.unwrap();
    }
    assert_eq!((store.size_bytes(), cached.files().len()), (2 * file_bytes, 2));
    store.get(&key("q2")).await.unwrap();
    store.get(&key("q3")).await.unwrap();
    assert_eq!(cached.calls().0, 3, "the oldest went, the others stayed");
    store.get(&key("q1")).await.unwrap();
    assert_eq!(cached.calls().0, 4);
    let smaller = Cached { capacity_bytes: file_bytes, ..cached };
    assert_eq!(smaller.open().await.size_bytes(), file_bytes, "a smaller capacity holds from the start");
    assert_eq!(smaller.files().len(), 1);
}

#[tokio::test]
async fn cache_passes_large_objects_through() {
    let large = Bytes::from(vec![7; CACHED_OBJECT_MAX_BYTES as usize + 1]);
    let cached = Cached::with(u64::MAX, [("q1", large)]);
    let store = cached.open().await;
    assert_eq!(store.get_range(&key("q1"), 1, 2).await.unwrap(), &[7, 7][..]);
    assert_eq!(cached.calls(), (0, 1, 1));
    assert_eq!(cached.files().len(), 0);
}
