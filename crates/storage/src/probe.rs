//! First contact with a store: does it keep what the contract promises?

use bytes::Bytes;
use futures::StreamExt;

use crate::{Error, ErrorKind, ObjectKey, PutMode, Storage};

/// What every probe's name begins with; the rest is random.
pub const PROBE_PREFIX: &str = "perennial-probe-";

/// Length of the probe's body in bytes: more than one block of anything, and quick.
const BODY_BYTES: usize = 4099;

/// Writes, reads, lists, replaces and deletes one small object of its own.
///
/// A broken promise is [`ErrorKind::Lies`] and says which; other errors are those of the operations. The object is
/// removed in either case, as far as the store lets it.
pub async fn probe(store: &dyn Storage) -> Result<(), Error> {
    let mut random = [0; 16];
    rustix::rand::getrandom(&mut random[..], rustix::rand::GetRandomFlags::empty()).map_err(|error| Error {
        kind: ErrorKind::Other,
        operation: "probe".to_owned(),
        address: store.address(),
        detail: format!("no random bytes: {error}"),
        retry_after_seconds: 0,
    })?;
    let (name, seed) = random.split_at(8);
    let probe = Probe { store, key: ObjectKey::new(format!("{PROBE_PREFIX}{}", hex::encode(name))) };
    let result = probe.run(&body(seed, 0), &body(seed, 1)).await;
    if result.is_err() {
        // The first error is the one to report.
        let _ = store.delete(&probe.key).await;
    }
    result
}

/// Bytes that no earlier probe has written.
fn body(seed: &[u8], version: u8) -> Bytes {
    let mut body = vec![0; BODY_BYTES];
    blake3::Hasher::new().update(seed).update(&[version]).finalize_xof().fill(&mut body);
    body.into()
}

struct Probe<'s> {
    store: &'s dyn Storage,
    key: ObjectKey,
}

impl Probe<'_> {
    async fn run(&self, first: &Bytes, second: &Bytes) -> Result<(), Error> {
        let (store, key) = (self.store, &self.key);
        store.put(key, first.clone(), PutMode::IfAbsent).await?;
        self.holds(self.seen(store.get(key).await)? == *first, "an object that was written reads back differently")?;
        let range = self.seen(store.get_range(key, 1000, 2000).await)?;
        self.holds(range == first.slice(1000..3000), "a range of an object has other bytes than the object")?;
        match store.get_range(key, first.len() as u64 - 1, 2).await {
            Err(error) if error.kind == ErrorKind::Truncated => {}
            Err(error) => return Err(error),
            Ok(_) => return Err(self.lie("a range past the end of an object is answered")),
        }
        let object = self.seen(store.stat(key).await)?;
        self.holds(object.size_bytes == first.len() as u64, "an object that was written has another size")?;
        self.holds(self.is_listed().await?, "an object that was written is not listed")?;
        match store.put(key, second.clone(), PutMode::IfAbsent).await {
            Err(error) if error.kind == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(()) => return Err(self.lie("a put that must not replace an object replaced it")),
        }
        self.holds(self.seen(store.get(key).await)? == *first, "a put that was refused changed the object")?;
        store.put(key, second.clone(), PutMode::Replace).await?;
        self.holds(self.seen(store.get(key).await)? == *second, "an object that was replaced reads back as before")?;
        store.delete(key).await?;
        match store.get(key).await {
            Err(error) if error.kind == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(_) => return Err(self.lie("an object that was deleted can still be read")),
        }
        self.holds(!self.is_listed().await?, "an object that was deleted is still listed")?;
        store.delete(key).await
    }

    async fn is_listed(&self) -> Result<bool, Error> {
        let mut listed = self.store.list(self.key.as_str());
        let mut found = false;
        while let Some(object) = listed.next().await {
            found |= object?.key == self.key;
        }
        Ok(found)
    }

    /// Of an object that was just written, "not found" is a lie.
    fn seen<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        match result {
            Err(error) if error.kind == ErrorKind::NotFound => Err(self.lie("an object that was written is not found")),
            other => other,
        }
    }

    fn holds(&self, promise: bool, broken: &str) -> Result<(), Error> {
        if promise { Ok(()) } else { Err(self.lie(broken)) }
    }

    fn lie(&self, detail: &str) -> Error {
        Error {
            kind: ErrorKind::Lies,
            operation: format!("probe with {}", self.key),
            address: self.store.address(),
            detail: detail.to_owned(),
            retry_after_seconds: 0,
        }
    }
}
