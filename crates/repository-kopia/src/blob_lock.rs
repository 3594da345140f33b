//! Object locks: where `kopia.blobcfg` asks for them, every blob that data hangs on is locked when it is written.
//!
//! Session markers, logs and the maintenance schedule are not: they must go when they are no longer needed. Source: Kopia
//! format, "Blob names" and "`kopia.blobcfg`".

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use storage::{LockMode, ObjectKey, ObjectLock, PutMode, Storage};

use crate::error::Unsupported;
use crate::format_blob::{BLOBCFG_BLOB, BlobRetention, FORMAT_BLOB};

/// Shorter locks are refused by Kopia.
pub const PERIOD_MIN: SignedDuration = SignedDuration::from_hours(24);

/// Names that begin with one of these are locked: index blobs, the two configuration blobs, packs.
pub(crate) const PREFIXES: [&str; 6] = ["n", "x", FORMAT_BLOB, BLOBCFG_BLOB, "p", "q"];

/// The lock that new blobs of a repository get, if any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlobLocks(Option<(LockMode, SignedDuration)>);

impl BlobLocks {
    /// # Errors
    /// When the mode is unknown here.
    pub(crate) fn new(retention: &BlobRetention) -> Result<Self, Unsupported> {
        let mode = match retention.retention_mode.as_str() {
            "" => return Ok(Self(None)),
            name => LockMode::from_s3_name(name).ok_or_else(|| Unsupported::new("object lock", name))?,
        };
        Ok(Self(Some((mode, SignedDuration::from_nanos(retention.retention_period)))))
    }

    /// What is locked, and for how long.
    pub(crate) fn period(self) -> Option<(LockMode, SignedDuration)> {
        self.0
    }

    fn of(self, name: &str, now: Timestamp) -> Option<ObjectLock> {
        let (mode, period) = self.0.filter(|_| PREFIXES.iter().any(|prefix| name.starts_with(prefix)))?;
        Some(ObjectLock { mode, until: now.checked_add(period).unwrap_or(Timestamp::MAX) })
    }

    /// Makes the lock of a blob last as long as if it were written now. Gives whether it is one that is locked.
    pub(crate) async fn extend(
        self,
        storage: &dyn Storage,
        key: &ObjectKey,
        now: Timestamp,
    ) -> Result<bool, storage::Error> {
        match self.of(key.as_str(), now) {
            Some(lock) => storage.extend_lock(key, lock).await.map(|()| true),
            None => Ok(false),
        }
    }

    /// Writes a blob, locked where it must be.
    pub(crate) async fn put(
        self,
        storage: &dyn Storage,
        key: &ObjectKey,
        body: Bytes,
        mode: PutMode,
        now: Timestamp,
    ) -> Result<(), storage::Error> {
        match self.of(key.as_str(), now) {
            Some(lock) => storage.put_locked(key, body, mode, lock).await,
            None => storage.put(key, body, mode).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::BlobLocks;
    use crate::format_blob::BlobRetention;

    #[test]
    fn what_data_hangs_on_is_locked_and_what_must_go_is_not() {
        let retention = BlobRetention { retention_mode: "COMPLIANCE".to_owned(), retention_period: 86_400_000_000_000 };
        let locks = BlobLocks::new(&retention).unwrap();
        let now = "2026-11-21T12:00:00Z".parse().unwrap();
        for name in ["p0123-s1", "q0123-s1", "n0123", "xn0_abc", "xe4", "xw1", "kopia.repository", "kopia.blobcfg"] {
            let lock = locks.of(name, now).unwrap();
            assert_eq!(lock.until.to_string(), "2026-11-22T12:00:00Z", "{name}");
            assert_eq!(BlobLocks::new(&BlobRetention::default()).unwrap().of(name, now), None);
        }
        for name in ["s0123-s1", "m0123", "l0123", "_log_1", "kopia.maintenance"] {
            assert_eq!(locks.of(name, now), None, "{name}");
        }
        let unknown = BlobRetention { retention_mode: "Locked".to_owned(), ..retention };
        assert!(BlobLocks::new(&unknown).is_err());
    }
}
