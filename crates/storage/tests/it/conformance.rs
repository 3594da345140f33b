//! The suite over each store and each layer.

use std::sync::Arc;
use std::time::Duration;

use storage::layer::cache::CacheStorage;
use storage::layer::limit::LimitStorage;
use storage::layer::meter::{Meter, MeterStorage};
use storage::layer::retry::{RetryOptions, RetryStorage};
use storage::{FilesystemStorage, Layout};
use testkit::{MemoryStore, conformance, conformance_with_slashes};

use crate::support::Server;

fn memory() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new())
}

#[tokio::test]
async fn memory_conforms() {
    conformance_with_slashes(&MemoryStore::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kopia_directory_conforms() {
    let directory = tempfile::tempdir().unwrap();
    conformance(&FilesystemStorage::open(directory.path(), Layout::Kopia).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_directory_conforms() {
    let directory = tempfile::tempdir().unwrap();
    conformance_with_slashes(&FilesystemStorage::open(directory.path(), Layout::Plain).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_s3_conforms() {
    let server = Server::start().await;
    conformance_with_slashes(&server.store("backups", "")).await;
    conformance_with_slashes(&server.store("backups", "media/photos/")).await;
}

#[tokio::test]
async fn limit_conforms() {
    conformance_with_slashes(&LimitStorage::over(memory(), 2)).await;
}

#[tokio::test]
async fn meter_conforms() {
    conformance_with_slashes(&MeterStorage::over(memory(), Arc::new(Meter::default()))).await;
}

#[tokio::test]
async fn retry_conforms() {
    let options = RetryOptions { first_delay: Duration::ZERO, ..RetryOptions::default() };
    conformance_with_slashes(&RetryStorage::over(memory(), options)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cache_conforms() {
    let directory = tempfile::tempdir().unwrap();
    let immutable = Arc::new(|key: &storage::ObjectKey| key.as_str().starts_with(['p', 'q', 'x', 'd']));
    let cache = CacheStorage::open(memory(), directory.path(), 100_000, immutable).await.unwrap();
    conformance_with_slashes(&cache).await;
    assert_eq!(cache.size_bytes(), 0, "what is deleted is not kept");
}
