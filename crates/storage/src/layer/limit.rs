//! A bounded number of operations at the same time.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{Error, Object, ObjectKey, ObjectLock, PutMode, Storage};

/// Lets at most a given number of operations through at a time; the others wait in order.
///
/// A listing counts only while it waits for its next object, so that work between two objects cannot block itself.
#[derive(Debug)]
pub struct LimitStorage {
    inner: Arc<dyn Storage>,
    permits: Semaphore,
}

impl LimitStorage {
    /// Over `inner`, with at least one operation at a time.
    pub fn over(inner: Arc<dyn Storage>, operations_max_count: usize) -> Self {
        Self { inner, permits: Semaphore::new(operations_max_count.clamp(1, Semaphore::MAX_PERMITS)) }
    }

    async fn permit(&self) -> SemaphorePermit<'_> {
        self.permits.acquire().await.expect("the semaphore is never closed")
    }
}

#[async_trait]
impl Storage for LimitStorage {
    fn address(&self) -> String {
        self.inner.address()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode) -> Result<(), Error> {
        let _permit = self.permit().await;
        self.inner.put(key, body, mode).await
    }

    async fn put_locked(&self, key: &ObjectKey, body: Bytes, mode: PutMode, lock: ObjectLock) -> Result<(), Error> {
        let _permit = self.permit().await;
        self.inner.put_locked(key, body, mode, lock).await
    }

    async fn extend_lock(&self, key: &ObjectKey, lock: ObjectLock) -> Result<(), Error> {
        let _permit = self.permit().await;
        self.inner.extend_lock(key, lock).await
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes, Error> {
        let _permit = self.permit().await;
        self.inner.get(key).await
    }

    async fn get_range(&self, key: &ObjectKey, offset: u64, length_bytes: u64) -> Result<Bytes, Error> {
        let _permit = self.permit().await;
        self.inner.get_range(key, offset, length_bytes).await
    }

    async fn stat(&self, key: &ObjectKey) -> Result<Object, Error> {
        let _permit = self.permit().await;
        self.inner.stat(key).await
    }

    fn list<'a>(&'a self, prefix: &str) -> BoxStream<'a, Result<Object, Error>> {
        stream::unfold(self.inner.list(prefix), move |mut listed| async move {
            let _permit = self.permit().await;
            listed.next().await.map(|object| (object, listed))
        })
        .boxed()
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), Error> {
        let _permit = self.permit().await;
        self.inner.delete(key).await
    }
}
