//! The ledger, read: which claims have a record, and what one claim's record says.
//!
//! The seal's key is derived from the repository's secrets. Where there is no repository, a record cannot be checked; it
//! is then read all the same, since all it can do there is to hold a claim back.

use std::collections::BTreeSet;

use api::ledger::{LedgerEntry, SEALED_BYTES_MAX, STORE_MARKER, open};
use api::naming::{ClaimKey, LEDGER_PREFIX};
use futures::TryStreamExt as _;
use serde::Deserialize;
use storage::{Address, ErrorKind, ObjectKey, Storage};

/// Claims with a record. Complete, or an error.
pub(crate) async fn claims(store: &dyn Storage) -> Result<BTreeSet<ClaimKey>, storage::Error> {
    store
        .list(LEDGER_PREFIX)
        .try_filter_map(|object| async move { Ok(ClaimKey::of_ledger_object(object.key.as_str())) })
        .try_collect()
        .await
}

/// Whether anything at the root of a directory shows that it is the store.
pub(crate) async fn is_marked(store: &dyn Storage) -> Result<bool, storage::Error> {
    match store.stat(&ObjectKey::new(STORE_MARKER)).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether an empty place of this kind needs a witness: a directory may be a mount point without its file system.
pub(crate) fn needs_marker(address: &Address) -> bool {
    match address {
        Address::Filesystem(_) => true,
        Address::S3(_) => false,
    }
}

/// The record of a claim that was listed, checked with `key` if there is one. Errors are in words.
pub(crate) async fn read(store: &dyn Storage, claim: &ClaimKey, key: Option<&[u8; 32]>) -> Result<LedgerEntry, String> {
    let name = claim.ledger_object();
    let sealed = store.get(&ObjectKey::new(name.as_str())).await.map_err(|error| error.to_string())?;
    let entry = match key {
        Some(key) => open(&sealed, key).map_err(|error| format!("{name}: {error}"))?,
        None => unchecked(&sealed).ok_or_else(|| format!("{name}: it is no record"))?,
    };
    if entry.claim == *claim { Ok(entry) } else { Err(format!("{name}: it is the record of {}", entry.claim)) }
}

fn unchecked(sealed: &[u8]) -> Option<LedgerEntry> {
    #[derive(Deserialize)]
    struct Envelope {
        entry: LedgerEntry,
    }
    if sealed.len() > SEALED_BYTES_MAX {
        return None;
    }
    serde_json::from_slice(sealed).ok().map(|Envelope { entry }| entry)
}
