//! First contact.

use bytes::Bytes;
use storage::probe::probe;
use storage::{ErrorKind, FilesystemStorage, Layout};
use testkit::{Fault, FaultStore, MemoryStore, Moment};

#[tokio::test]
async fn an_honest_store_passes_and_is_left_as_it_was() {
    let store = MemoryStore::with([("kopia.repository", "x")]);
    probe(&store).await.unwrap();
    assert_eq!(store.names(), ["kopia.repository"]);
}

#[tokio::test]
async fn a_directory_passes() {
    let directory = tempfile::tempdir().unwrap();
    probe(&FilesystemStorage::open(directory.path(), Layout::Kopia).unwrap()).await.unwrap();
}

#[tokio::test]
async fn whatever_fails_nothing_stays_behind() {
    let store = MemoryStore::new();
    let faults = FaultStore::each_operation_of_async(store.clone(), |store| async move {
        probe(&*store).await.unwrap();
    })
    .await;
    assert!(faults.len() > 20, "{}", faults.len());
    for fault in faults {
        let error = probe(&*FaultStore::over(store.clone(), fault)).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unreachable, "{fault:?}");
        assert_eq!(store.names(), Vec::<String>::new(), "{fault:?}");
    }
}

#[tokio::test]
async fn a_store_that_loses_writes_lies() {
    let store = FaultStore::over(MemoryStore::new(), Fault::once(1, Moment::Before).of_kind(ErrorKind::NotFound));
    let error = probe(&*store).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Lies);
    assert_eq!(error.detail, "an object that was written is not found");
}

#[tokio::test]
async fn a_store_that_changes_bytes_lies() {
    let store = Changing(MemoryStore::new());
    let error = probe(&store).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Lies);
    assert_eq!(error.detail, "an object that was written reads back differently");
    assert_eq!(store.0.names(), Vec::<String>::new());
}

/// Gives back one byte less than it was given.
#[derive(Debug)]
struct Changing(MemoryStore);

#[async_trait::async_trait]
impl storage::Storage for Changing {
    fn address(&self) -> String {
        self.0.address()
    }

    async fn put(&self, key: &storage::ObjectKey, body: Bytes, mode: storage::PutMode) -> Result<(), storage::Error> {
        self.0.put(key, body.slice(1..), mode).await
    }

    async fn get(&self, key: &storage::ObjectKey) -> Result<Bytes, storage::Error> {
        self.0.get(key).await
    }

    async fn get_range(
        &self,
        key: &storage::ObjectKey,
        offset: u64,
        length_bytes: u64,
    ) -> Result<Bytes, storage::Error> {
        self.0.get_range(key, offset, length_bytes).await
    }

    async fn stat(&self, key: &storage::ObjectKey) -> Result<storage::Object, storage::Error> {
        self.0.stat(key).await
    }

    fn list<'a>(&'a self, prefix: &str) -> futures::stream::BoxStream<'a, Result<storage::Object, storage::Error>> {
        self.0.list(prefix)
    }

    async fn delete(&self, key: &storage::ObjectKey) -> Result<(), storage::Error> {
        self.0.delete(key).await
    }
}
