//! Tries again what may pass by itself.
//!
//! Only errors of [`Class::Retry`] are tried again. A put, a get, a stat and a delete may run twice without harm. A put
//! `IfAbsent` whose reply was lost finds its own object on the next attempt: that is success only if the bytes are the
//! same. A listing that breaks off starts anew and leaves out what it has already given.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};

use crate::{Class, Error, ErrorKind, Object, ObjectKey, ObjectLock, PutMode, Storage};

/// A store that asks for a longer wait is asked again after this.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(120);

/// How often and how fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryOptions {
    /// Attempts in all, the first one included; at least one.
    pub attempts_count: u32,
    /// The wait after the first attempt; each later one is twice as long.
    pub first_delay: Duration,
    /// The longest wait.
    pub longest_delay: Duration,
    /// Where the jitter begins: each wait is between one half and the whole of its length.
    pub seed: u64,
}

impl Default for RetryOptions {
    /// Six attempts over some fifteen seconds.
    fn default() -> Self {
        Self {
            attempts_count: 6,
            first_delay: Duration::from_millis(500),
            longest_delay: Duration::from_secs(30),
            seed: 0,
        }
    }
}

/// Tries again what may pass by itself.
#[derive(Debug)]
pub struct RetryStorage {
    inner: Arc<dyn Storage>,
    options: RetryOptions,
    jitter: AtomicU64,
}

impl RetryStorage {
    /// Over `inner`.
    pub fn over(inner: Arc<dyn Storage>, options: RetryOptions) -> Self {
        Self { inner, options, jitter: AtomicU64::new(options.seed) }
    }

    /// Waits before the next attempt, or gives the error back when it is final.
    async fn pause(&self, failed_count: u32, error: Error) -> Result<(), Error> {
        if error.class() != Class::Retry || failed_count >= self.options.attempts_count {
            return Err(error);
        }
        // A store that is busy knows best for how long; but nobody waits for hours unseen.
        let asked = Duration::from_secs(error.retry_after_seconds.into()).min(RETRY_AFTER_MAX);
        tokio::time::sleep(self.delay(failed_count).max(asked)).await;
        Ok(())
    }

    fn delay(&self, failed_count: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(failed_count.saturating_sub(1));
        let whole = self.options.first_delay.saturating_mul(doubled).min(self.options.longest_delay);
        // The upper half of a splitmix64 step, as a share of the second half of the wait.
        let share = self.next_random() >> 32;
        let nanoseconds = u64::try_from(whole.as_nanos() / 2).unwrap_or(u64::MAX);
        let part = (u128::from(nanoseconds) * u128::from(share)) >> 32;
        whole / 2 + Duration::from_nanos(u64::try_from(part).unwrap_or(nanoseconds))
    }

    fn next_random(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut mixed = self.jitter.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A put. After a lost reply the name may be taken by this very put.
    async fn put_again<F: Future<Output = Result<(), Error>>>(
        &self,
        key: &ObjectKey,
        body: &Bytes,
        attempt: impl Fn() -> F,
    ) -> Result<(), Error> {
        let mut failed_count = 0;
        loop {
            let error = match attempt().await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if error.kind == ErrorKind::AlreadyExists && failed_count > 0 {
                let found = self.get(key).await?;
                return if found == *body { Ok(()) } else { Err(error) };
            }
            failed_count += 1;
            self.pause(failed_count, error).await?;
        }
    }

    async fn again<T, F: Future<Output = Result<T, Error>>>(&self, attempt: impl Fn() -> F) -> Result<T, Error> {
        let mut failed_count = 0;
        loop {
            match attempt().await {
                Ok(value) => return Ok(value),
                Err(error) => {
                    failed_count += 1;
                    self.pause(failed_count, error).await?;
                }
            }
        }
    }
}

#[async_trait]
impl Storage for RetryStorage {
    fn address(&self) -> String {
        self.inner.address()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode) -> Result<(), Error> {
        self.put_again(key, &body, || self.inner.put(key, body.clone(), mode)).await
    }

    async fn put_locked(&self, key: &ObjectKey, body: Bytes, mode: PutMode, lock: ObjectLock) -> Result<(), Error> {
        self.put_again(key, &body, || self.inner.put_locked(key, body.clone(), mode, lock)).await
    }

    async fn extend_lock(&self, key: &ObjectKey, lock: ObjectLock) -> Result<(), Error> {
        self.again(|| self.inner.extend_lock(key, lock)).await
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes, Error> {
        self.again(|| self.inner.get(key)).await
    }

    async fn get_range(&self, key: &ObjectKey, offset: u64, length_bytes: u64) -> Result<Bytes, Error> {
        self.again(|| self.inner.get_range(key, offset, length_bytes)).await
    }

    async fn stat(&self, key: &ObjectKey) -> Result<Object, Error> {
        self.again(|| self.inner.stat(key)).await
    }

    fn list<'a>(&'a self, prefix: &str) -> BoxStream<'a, Result<Object, Error>> {
        let listing = Listing {
            prefix: prefix.to_owned(),
            listed: self.inner.list(prefix),
            given: HashSet::new(),
            failed_count: 0,
            over: false,
        };
        stream::unfold(listing, move |mut listing| async move {
            if listing.over {
                return None;
            }
            loop {
                match listing.listed.next().await? {
                    // The same name twice in one listing is passed on only once, which no reader minds.
                    Ok(object) if !listing.given.insert(name_hash(&object.key)) => {}
                    Ok(object) => return Some((Ok(object), listing)),
                    Err(error) => {
                        listing.failed_count += 1;
                        if let Err(error) = self.pause(listing.failed_count, error).await {
                            listing.over = true;
                            return Some((Err(error), listing));
                        }
                        listing.listed = self.inner.list(&listing.prefix);
                    }
                }
            }
        })
        .boxed()
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), Error> {
        self.again(|| self.inner.delete(key)).await
    }
}

/// A listing under way.
struct Listing<'a> {
    prefix: String,
    listed: BoxStream<'a, Result<Object, Error>>,
    /// The names already given, by hash: sixteen bytes each, whatever their length.
    given: HashSet<[u8; 16]>,
    failed_count: u32,
    over: bool,
}

/// Half of a BLAKE3 hash: two names never share it.
fn name_hash(key: &ObjectKey) -> [u8; 16] {
    let mut hash = [0; 16];
    hash.copy_from_slice(&blake3::hash(key.as_str().as_bytes()).as_bytes()[..16]);
    hash
}
