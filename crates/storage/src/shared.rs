//! A shared store is a store, so that layers stack on whatever is at hand.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::{Error, Object, ObjectKey, ObjectLock, PutMode, Storage};

#[async_trait]
impl<S: Storage + ?Sized> Storage for Arc<S> {
    fn address(&self) -> String {
        (**self).address()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode) -> Result<(), Error> {
        (**self).put(key, body, mode).await
    }

    async fn put_locked(&self, key: &ObjectKey, body: Bytes, mode: PutMode, lock: ObjectLock) -> Result<(), Error> {
        (**self).put_locked(key, body, mode, lock).await
    }

    async fn extend_lock(&self, key: &ObjectKey, lock: ObjectLock) -> Result<(), Error> {
        (**self).extend_lock(key, lock).await
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes, Error> {
        (**self).get(key).await
    }

    async fn get_range(&self, key: &ObjectKey, offset: u64, length_bytes: u64) -> Result<Bytes, Error> {
        (**self).get_range(key, offset, length_bytes).await
    }

    async fn stat(&self, key: &ObjectKey) -> Result<Object, Error> {
        (**self).stat(key).await
    }

    fn list<'a>(&'a self, prefix: &str) -> BoxStream<'a, Result<Object, Error>> {
        (**self).list(prefix)
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), Error> {
        (**self).delete(key).await
    }
}
