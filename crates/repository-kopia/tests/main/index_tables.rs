//! The merged index on this machine: what is kept of it, and what it costs to have it.

use std::path::Path;
use std::sync::Arc;

use repository_kopia::{OpenOptions, Password, Repository};
use storage::layer::meter::{Meter, MeterSnapshot, MeterStorage};
use testkit::MemoryStore;

use super::client;
use super::writing::{StandingClock, create, memory, write};

/// Never in memory, always in `directory`.
async fn open(store: &Arc<MemoryStore>, directory: &Path) -> (Repository, MeterSnapshot) {
    let meter = Arc::new(Meter::default());
    let storage = Arc::new(MeterStorage::over(store.clone(), meter.clone()));
    let options =
        OpenOptions { cache_directory: Some(directory.to_owned()), index_memory_bytes: 0, ..OpenOptions::default() };
    let clock = Arc::new(StandingClock);
    let repository = Repository::open_with(storage, &Password::new("secret"), client(), clock, &options).await.unwrap();
    (repository, meter.snapshot())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_index_is_not_read_again() {
    let store = memory();
    let first = create(store.clone()).await.unwrap();
    for number in 0..5 {
        write(&first, format!("content {number}").as_bytes()).await.unwrap();
    }
    let directory = tempfile::tempdir().unwrap();
    let (repository, calls) = open(&store, directory.path()).await;
    let blob_count = repository.description().index_blob_count as u64;
    assert_eq!(blob_count, 6);
    // Besides the index blobs: kopia.repository and kopia.blobcfg.
    assert_eq!((calls.get_count, calls.list_page_count), (2 + blob_count, 1));
    assert_eq!(repository.index_problem(), None);
    let (again, calls) = open(&store, directory.path()).await;
    assert_eq!((calls.get_count, calls.list_page_count), (2, 1));
    assert_eq!(again.snapshots().await.unwrap().snapshots.len(), 5);
    assert_eq!(again.description().content_count, repository.description().content_count);

    write(&again, b"more").await.unwrap();
    again.refresh().await.unwrap();
    assert_eq!(again.snapshots().await.unwrap().snapshots.len(), 6);
    let (_, calls) = open(&store, directory.path()).await;
    assert_eq!(calls.get_count, 2, "the refreshed table is the kept one");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_that_finds_nothing_new_reads_nothing() {
    let store = memory();
    write(&create(store.clone()).await.unwrap(), b"content").await.unwrap();
    let meter = Arc::new(Meter::default());
    let storage = Arc::new(MeterStorage::over(store, meter.clone()));
    let clock = Arc::new(StandingClock);
    let repository = Repository::open(storage, &Password::new("secret"), client(), clock).await.unwrap();
    let before = meter.snapshot();
    repository.refresh().await.unwrap();
    let calls = meter.snapshot().since(&before);
    assert_eq!((calls.list_page_count, calls.call_count()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_with_damage_is_not_kept() {
    let store = memory();
    let first = create(store.clone()).await.unwrap();
    write(&first, b"content").await.unwrap();
    let blob = store.names().into_iter().rfind(|name| name.starts_with("xn")).unwrap();
    let whole = store.contents()[&blob].clone();
    store.tamper(&blob, vec![7; whole.len()]);
    let directory = tempfile::tempdir().unwrap();
    let (repository, _) = open(&store, directory.path()).await;
    assert_eq!(repository.damage().len(), 1);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    store.tamper(&blob, whole);
    let (repository, _) = open(&store, directory.path()).await;
    assert_eq!(repository.damage().len(), 0);
    assert_eq!(repository.snapshots().await.unwrap().snapshots.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_directory_that_cannot_be_used_is_told() {
    let store = memory();
    write(&create(store.clone()).await.unwrap(), b"content").await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let (repository, _) = open(&store, &file.join("below")).await;
    assert!(repository.index_problem().unwrap().contains("file/below"));
    assert_eq!(repository.snapshots().await.unwrap().snapshots.len(), 1);
}
