//! A store that fails one chosen operation, or all from one on.

use std::convert::identity;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use storage::{Error, ErrorKind, Object, ObjectKey, ObjectLock, PutMode, Storage};

/// When, around an operation, it goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The store never sees the operation.
    Before,
    /// The store has done it; only the reply is lost. A listing breaks off at its end instead of ending.
    After,
    /// The store has done it, and answers a read with half of its bytes. No error is given.
    Torn,
}

/// How much goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// This one operation only.
    Once,
    /// Every later operation too, before the store sees it: what a killed process or a lost network leaves behind.
    Onwards,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which operation, counted from 0.
    pub operation: usize,
    /// Before or after the store did it.
    pub moment: Moment,
    /// One operation or all from there on.
    pub reach: Reach,
    /// The error it gives.
    pub kind: ErrorKind,
    /// How long it asks to be left alone, or 0.
    pub retry_after_seconds: u32,
}

impl Fault {
    /// One operation fails as if the network had been away for a moment.
    pub fn once(operation: usize, moment: Moment) -> Self {
        Self { operation, moment, reach: Reach::Once, kind: ErrorKind::Unreachable, retry_after_seconds: 0 }
    }

    /// Nothing reaches the store from this operation on.
    pub fn onwards(operation: usize, moment: Moment) -> Self {
        Self { operation, moment, reach: Reach::Onwards, kind: ErrorKind::Unreachable, retry_after_seconds: 0 }
    }

    /// The same fault with another error.
    pub fn of_kind(self, kind: ErrorKind) -> Self {
        Self { kind, ..self }
    }

    /// The same fault of a store that asks for a wait.
    pub fn asking_for(self, seconds: u32) -> Self {
        Self { retry_after_seconds: seconds, ..self }
    }
}

/// Counts the operations on a store and fails as its [`Fault`] says.
#[derive(Debug)]
pub struct FaultStore {
    inner: Arc<dyn Storage>,
    fault: Option<Fault>,
    operations_count: AtomicUsize,
    failed: Mutex<Vec<String>>,
}

impl FaultStore {
    /// Fails as `fault` says.
    pub fn over(inner: impl Storage + 'static, fault: Fault) -> Arc<Self> {
        Arc::new(Self {
            inner: Arc::new(inner),
            fault: Some(fault),
            operations_count: AtomicUsize::new(0),
            failed: Mutex::default(),
        })
    }

    /// Fails never and counts.
    pub fn counting(inner: impl Storage + 'static) -> Arc<Self> {
        Arc::new(Self {
            inner: Arc::new(inner),
            fault: None,
            operations_count: AtomicUsize::new(0),
            failed: Mutex::default(),
        })
    }

    /// The operations seen so far.
    pub fn operations_count(&self) -> usize {
        self.operations_count.load(Ordering::SeqCst)
    }

    /// The operations that failed, as errors name them.
    pub fn failed(&self) -> Vec<String> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Every single fault for as many operations as were seen so far: each before it happens and each with its reply
    /// lost.
    pub fn faults(&self) -> Vec<Fault> {
        (0..self.operations_count())
            .flat_map(|operation| [Fault::once(operation, Moment::Before), Fault::once(operation, Moment::After)])
            .collect()
    }

    /// Runs `work` once over `inner` without failing and gives every single fault for the operations it made.
    pub fn each_operation_of(inner: impl Storage + 'static, work: impl FnOnce(Arc<dyn Storage>)) -> Vec<Fault> {
        let store = Self::counting(inner);
        work(Arc::clone(&store) as Arc<dyn Storage>);
        store.faults()
    }

    /// As [`each_operation_of`](Self::each_operation_of) for work that is async.
    pub async fn each_operation_of_async<W: Future<Output = ()>>(
        inner: impl Storage + 'static,
        work: impl FnOnce(Arc<dyn Storage>) -> W,
    ) -> Vec<Fault> {
        let store = Self::counting(inner);
        work(Arc::clone(&store) as Arc<dyn Storage>).await;
        store.faults()
    }

    /// Counts one operation and says what is to go wrong with it.
    fn next(&self) -> Option<(Moment, ErrorKind)> {
        let operation = self.operations_count.fetch_add(1, Ordering::SeqCst);
        let fault = self.fault?;
        match fault.reach {
            _ if operation == fault.operation => Some((fault.moment, fault.kind)),
            Reach::Onwards if operation > fault.operation => Some((Moment::Before, fault.kind)),
            Reach::Onwards | Reach::Once => None,
        }
    }

    fn error(&self, operation: &str, kind: ErrorKind) -> Error {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).push(operation.to_owned());
        Error {
            kind,
            operation: operation.to_owned(),
            address: self.address(),
            detail: "an ordered fault".to_owned(),
            retry_after_seconds: self.fault.map_or(0, |fault| fault.retry_after_seconds),
        }
    }

    async fn run<T>(
        &self,
        operation: String,
        tear: fn(T) -> T,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        match self.next() {
            None => work.await,
            Some((Moment::Before, kind)) => Err(self.error(&operation, kind)),
            Some((Moment::After, kind)) => {
                // A refusal is lost on its way back just as a success is.
                let _ = work.await;
                Err(self.error(&operation, kind))
            }
            Some((Moment::Torn, _)) => work.await.map(tear),
        }
    }
}

fn half(body: Bytes) -> Bytes {
    body.slice(..body.len() / 2)
}

#[async_trait]
impl Storage for FaultStore {
    fn address(&self) -> String {
        self.inner.address()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode) -> Result<(), Error> {
        self.run(format!("put {key}"), identity, self.inner.put(key, body, mode)).await
    }

    async fn put_locked(&self, key: &ObjectKey, body: Bytes, mode: PutMode, lock: ObjectLock) -> Result<(), Error> {
        self.run(format!("put {key}"), identity, self.inner.put_locked(key, body, mode, lock)).await
    }

    async fn extend_lock(&self, key: &ObjectKey, lock: ObjectLock) -> Result<(), Error> {
        self.run(format!("lock {key}"), identity, self.inner.extend_lock(key, lock)).await
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes, Error> {
        self.run(format!("get {key}"), half, self.inner.get(key)).await
    }

    async fn get_range(&self, key: &ObjectKey, offset: u64, length_bytes: u64) -> Result<Bytes, Error> {
        self.run(format!("get range of {key}"), half, self.inner.get_range(key, offset, length_bytes)).await
    }

    async fn stat(&self, key: &ObjectKey) -> Result<Object, Error> {
        self.run(format!("stat {key}"), identity, self.inner.stat(key)).await
    }

    fn list<'a>(&'a self, prefix: &str) -> BoxStream<'a, Result<Object, Error>> {
        let operation = format!("list {prefix}*");
        match self.next() {
            None | Some((Moment::Torn, _)) => self.inner.list(prefix),
            Some((Moment::Before, kind)) => stream::iter([Err(self.error(&operation, kind))]).boxed(),
            Some((Moment::After, kind)) => {
                self.inner.list(prefix).chain(stream::iter([Err(self.error(&operation, kind))])).boxed()
            }
        }
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), Error> {
        self.run(format!("delete {key}"), identity, self.inner.delete(key)).await
    }
}
