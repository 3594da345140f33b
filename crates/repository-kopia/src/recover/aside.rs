//! Damaged objects are kept, under a name that neither program looks at.

use bytes::Bytes;
use storage::{Error, ErrorKind, ObjectKey, PutMode, Storage};

use crate::repository::Repository;

/// No object of the format begins with this letter, so no listing of either program meets it.
const PREFIX: &str = "aside_";
/// Digits of the hash of its bytes in the name: the same object damaged twice is kept twice.
const HASH_DIGITS: usize = 16;

/// The name under which `bytes` of `key` are kept.
pub(super) fn name(key: &ObjectKey, bytes: &[u8]) -> ObjectKey {
    let hash = hex::encode(codec::key::hmac_sha256(b"aside", bytes));
    ObjectKey::new(format!("{PREFIX}{}_{key}", &hash[..HASH_DIGITS]))
}

/// Copies an object aside, and reads the copy back.
pub(super) async fn copy(storage: &dyn Storage, key: &ObjectKey) -> Result<ObjectKey, Error> {
    let bytes = storage.get(key).await?;
    let aside = name(key, &bytes);
    storage.put(&aside, bytes.clone(), PutMode::Replace).await?;
    let kept = storage.get(&aside).await?;
    if kept == bytes { Ok(aside) } else { Err(lies(storage, &aside)) }
}

/// Copies an object aside, then removes it under its own name. One that is gone already is fine.
pub(super) async fn set(storage: &dyn Storage, key: &ObjectKey) -> Result<Option<ObjectKey>, Error> {
    match copy(storage, key).await {
        Ok(aside) => storage.delete(key).await.map(|()| Some(aside)),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Replaces a control object: the old bytes are kept aside first, the new ones are read back.
pub(super) async fn replace(repository: &Repository, key: &ObjectKey, bytes: &[u8]) -> Result<(), Error> {
    let storage = &**repository.storage();
    match copy(storage, key).await {
        Ok(_) => {}
        Err(error) if error.kind == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    repository.put_blob(key, Bytes::copy_from_slice(bytes), PutMode::Replace).await?;
    if storage.get(key).await? == bytes { Ok(()) } else { Err(lies(storage, key)) }
}

fn lies(storage: &dyn Storage, key: &ObjectKey) -> Error {
    Error {
        kind: ErrorKind::Lies,
        operation: format!("read {key} back"),
        address: storage.address(),
        detail: "it holds other bytes than were just written".to_owned(),
        retry_after_seconds: 0,
    }
}
