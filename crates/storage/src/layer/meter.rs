//! Counts calls and bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};

use crate::{Error, Object, ObjectKey, ObjectLock, PutMode, Storage};

/// Objects in one page of a listing, as S3 servers send them.
const PAGE_COUNT: u64 = 1000;

/// What has gone through a [`MeterStorage`]; shared, and read at any time.
#[derive(Debug, Default)]
pub struct Meter {
    put_count: AtomicU64,
    get_count: AtomicU64,
    get_range_count: AtomicU64,
    stat_count: AtomicU64,
    list_page_count: AtomicU64,
    delete_count: AtomicU64,
    failed_count: AtomicU64,
    up_bytes: AtomicU64,
    down_bytes: AtomicU64,
}

/// What a [`Meter`] showed at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MeterSnapshot {
    /// Puts, failed ones too.
    pub put_count: u64,
    /// Whole reads, failed ones too.
    pub get_count: u64,
    /// Reads of ranges, failed ones too.
    pub get_range_count: u64,
    /// Stats, failed ones too.
    pub stat_count: u64,
    /// Pages of listings: one, and one more for each further thousand objects.
    pub list_page_count: u64,
    /// Deletes, failed ones too.
    pub delete_count: u64,
    /// How many of all these failed; a missing object counts as a failure.
    pub failed_count: u64,
    /// Bytes of objects handed to the store.
    pub up_bytes: u64,
    /// Bytes of objects that came back.
    pub down_bytes: u64,
}

impl Meter {
    /// What it shows now.
    pub fn snapshot(&self) -> MeterSnapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        MeterSnapshot {
            put_count: read(&self.put_count),
            get_count: read(&self.get_count),
            get_range_count: read(&self.get_range_count),
            stat_count: read(&self.stat_count),
            list_page_count: read(&self.list_page_count),
            delete_count: read(&self.delete_count),
            failed_count: read(&self.failed_count),
            up_bytes: read(&self.up_bytes),
            down_bytes: read(&self.down_bytes),
        }
    }

    /// Counts one finished call and passes its result on.
    fn done<T>(&self, counter: &AtomicU64, result: Result<T, Error>) -> Result<T, Error> {
        add(counter, 1);
        if result.is_err() {
            add(&self.failed_count, 1);
        }
        result
    }
}

impl MeterSnapshot {
    /// All calls together.
    pub fn call_count(&self) -> u64 {
        self.put_count
            + self.get_count
            + self.get_range_count
            + self.stat_count
            + self.list_page_count
            + self.delete_count
    }

    /// What was counted since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            put_count: self.put_count - earlier.put_count,
            get_count: self.get_count - earlier.get_count,
            get_range_count: self.get_range_count - earlier.get_range_count,
            stat_count: self.stat_count - earlier.stat_count,
            list_page_count: self.list_page_count - earlier.list_page_count,
            delete_count: self.delete_count - earlier.delete_count,
            failed_count: self.failed_count - earlier.failed_count,
            up_bytes: self.up_bytes - earlier.up_bytes,
            down_bytes: self.down_bytes - earlier.down_bytes,
        }
    }
}

fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

/// Counts what goes through it.
#[derive(Debug)]
pub struct MeterStorage {
    inner: Arc<dyn Storage>,
    meter: Arc<Meter>,
}

impl MeterStorage {
    /// Over `inner`, counting into `meter`.
    pub fn over(inner: Arc<dyn Storage>, meter: Arc<Meter>) -> Self {
        Self { inner, meter }
    }
}

#[async_trait]
impl Storage for MeterStorage {
    fn address(&self) -> String {
        self.inner.address()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode) -> Result<(), Error> {
        add(&self.meter.up_bytes, body.len() as u64);
        self.meter.done(&self.meter.put_count, self.inner.put(key, body, mode).await)
    }

    async fn put_locked(&self, key: &ObjectKey, body: Bytes, mode: PutMode, lock: ObjectLock) -> Result<(), Error> {
        add(&self.meter.up_bytes, body.len() as u64);
        self.meter.done(&self.meter.put_count, self.inner.put_locked(key, body, mode, lock).await)
    }

    async fn extend_lock(&self, key: &ObjectKey, lock: ObjectLock) -> Result<(), Error> {
        self.meter.done(&self.meter.put_count, self.inner.extend_lock(key, lock).await)
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes, Error> {
        let body = self.meter.done(&self.meter.get_count, self.inner.get(key).await)?;
        add(&self.meter.down_bytes, body.len() as u64);
        Ok(body)
    }

    async fn get_range(&self, key: &ObjectKey, offset: u64, length_bytes: u64) -> Result<Bytes, Error> {
        let read = self.inner.get_range(key, offset, length_bytes).await;
        let body = self.meter.done(&self.meter.get_range_count, read)?;
        add(&self.meter.down_bytes, body.len() as u64);
        Ok(body)
    }

    async fn stat(&self, key: &ObjectKey) -> Result<Object, Error> {
        self.meter.done(&self.meter.stat_count, self.inner.stat(key).await)
    }

    fn list<'a>(&'a self, prefix: &str) -> BoxStream<'a, Result<Object, Error>> {
        add(&self.meter.list_page_count, 1);
        let mut listed_count = 0;
        self.inner
            .list(prefix)
            .inspect(move |object| match object {
                Ok(_) => {
                    if listed_count > 0 && listed_count % PAGE_COUNT == 0 {
                        add(&self.meter.list_page_count, 1);
                    }
                    listed_count += 1;
                }
                Err(_) => add(&self.meter.failed_count, 1),
            })
            .boxed()
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), Error> {
        self.meter.done(&self.meter.delete_count, self.inner.delete(key).await)
    }
}
