//! Named objects in a bucket or a directory.
//!
//! Everything above speaks to [`Storage`] only. Each store and each layer passes one conformance suite.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use jiff::Timestamp;

mod address;
#[cfg(feature = "embedded-s3")]
pub mod embedded;
mod error;
mod filesystem;
pub mod layer;
pub mod probe;
mod s3;
mod shared;

pub use address::{Address, Credentials, S3Credentials};
pub use error::{Class, Error, ErrorKind};
pub use filesystem::{FilesystemStorage, Layout};
pub use s3::{Certificate, S3Address, S3Storage};

/// The name of one object, relative to the store's own prefix or directory.
///
/// ASCII as the formats use it; `/` is an ordinary character for the store and never a promise of a directory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(Arc<str>);

impl ObjectKey {
    /// Takes any non-empty name as it is.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &self.0)
    }
}

/// What a listing or a stat says of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its name.
    pub key: ObjectKey,
    /// Its length in bytes.
    pub size_bytes: u64,
    /// When the *store* says it was last written; formats rest safety decisions on it.
    pub modified: Timestamp,
}

/// What a put does when the name is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutMode {
    /// The new bytes replace the old ones, atomically.
    Replace,
    /// The put fails with [`ErrorKind::AlreadyExists`] and changes nothing.
    IfAbsent,
}

/// How firmly an object is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// Those with a special right can delete the object or shorten the lock.
    Governance,
    /// Nobody can.
    Compliance,
}

impl LockMode {
    /// The mode of S3's word for it, which is Kopia's too.
    pub fn from_s3_name(name: &str) -> Option<Self> {
        [Self::Governance, Self::Compliance].into_iter().find(|mode| mode.s3_name() == name)
    }

    /// S3's word for it.
    pub fn s3_name(self) -> &'static str {
        match self {
            Self::Governance => "GOVERNANCE",
            Self::Compliance => "COMPLIANCE",
        }
    }
}

/// Until when an object must not change or go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectLock {
    /// How firmly.
    pub mode: LockMode,
    /// Until when.
    pub until: Timestamp,
}

/// A place that keeps named objects.
///
/// The contract, checked by the conformance suite:
/// - a put is atomic (never seen half-written) and durable when it returns;
/// - a get, a stat and a list see every put and delete that returned before they began;
/// - a list is complete or ends in an error: it never ends early in silence;
/// - a range that reaches past the end is [`ErrorKind::Truncated`], not a short answer;
/// - deleting what is not there succeeds;
/// - an object that is not there is [`ErrorKind::NotFound`] and nothing else is; a missing bucket or directory is
///   [`ErrorKind::StoreMissing`].
#[async_trait]
pub trait Storage: Send + Sync + fmt::Debug {
    /// Where this is, for messages: `file:/srv/repo`, `s3://bucket/prefix`. Holds no secret.
    fn address(&self) -> String;

    /// Writes one object whole.
    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode) -> Result<(), Error>;

    /// Writes one object whole and locks this version of it. A store that knows no locks refuses: [`ErrorKind::CannotLock`].
    async fn put_locked(&self, key: &ObjectKey, body: Bytes, mode: PutMode, lock: ObjectLock) -> Result<(), Error> {
        let _ = (body, mode);
        let detail = format!("this kind of store cannot lock objects ({})", lock.mode.s3_name());
        let operation = format!("put {key}");
        Err(Error { kind: ErrorKind::CannotLock, operation, address: self.address(), detail, retry_after_seconds: 0 })
    }

    /// Makes the lock of an object's newest version last until `lock.until`; never shorter than it is. A store that knows no
    /// locks refuses: [`ErrorKind::CannotLock`].
    async fn extend_lock(&self, key: &ObjectKey, lock: ObjectLock) -> Result<(), Error> {
        let detail = format!("this kind of store cannot lock objects ({})", lock.mode.s3_name());
        let operation = format!("lock {key}");
        Err(Error { kind: ErrorKind::CannotLock, operation, address: self.address(), detail, retry_after_seconds: 0 })
    }

    /// Reads one object whole.
    async fn get(&self, key: &ObjectKey) -> Result<Bytes, Error>;

    /// Reads exactly `length_bytes` bytes from `offset`.
    async fn get_range(&self, key: &ObjectKey, offset: u64, length_bytes: u64) -> Result<Bytes, Error>;

    /// Looks one object up.
    async fn stat(&self, key: &ObjectKey) -> Result<Object, Error>;

    /// All objects whose name begins with `prefix`, in no promised order.
    fn list<'a>(&'a self, prefix: &str) -> BoxStream<'a, Result<Object, Error>>;

    /// Removes one object.
    async fn delete(&self, key: &ObjectKey) -> Result<(), Error>;
}
