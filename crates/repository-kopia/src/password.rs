//! Another password: the two configuration blobs are locked anew; no other byte changes.
//!
//! Two objects cannot be replaced at once, so a kill may come between them. Without object locks `kopia.blobcfg` says
//! nothing that its absence would not say: it goes first and comes back last, and at every moment the repository opens, with
//! one password or the other. With object locks it comes before the format blob, as in Kopia; cut off in between, the
//! repository does not open until the change is run again with the same two passwords, which finishes it.
//!
//! Source: Kopia format, "Other keys".

use std::sync::Arc;

use bytes::Bytes;
use repository::Clock;
use storage::{ErrorKind, ObjectKey, PutMode, Storage};

use crate::blob_lock::BlobLocks;
use crate::error::OpenError;
use crate::format_blob::{BLOBCFG_BLOB, BlobRetention, FORMAT_BLOB, FormatBlob, Password};
use crate::supported::{check_supported, check_unlocked};

/// Replaces the password of the repository in `storage`. A change that was cut off is finished.
///
/// # Errors
/// When the old password does not open it, the new one cannot be used, its keys hang on the old one for ever (version 1), or
/// the store fails.
pub async fn change_password(
    storage: &Arc<dyn Storage>,
    old: &Password,
    new: &Password,
    clock: &dyn Clock,
) -> Result<(), OpenError> {
    if new.is_empty() || new.has_outer_white_space() {
        return Err(OpenError::BadPassword);
    }
    let failed = |operation| move |source| OpenError::Storage { operation, source };
    let stored = get(storage, FORMAT_BLOB).await?;
    let stored = stored.ok_or_else(|| OpenError::NotInitialized { address: storage.address(), empty: false })?;
    let before = match FormatBlob::open(&stored, old) {
        // The change may have got as far as this already.
        Err(OpenError::WrongPassword) => FormatBlob::open(&stored, new)?,
        other => other?,
    };
    check_supported(&before.configuration)?;
    check_unlocked(&before.configuration, clock)?;
    if !before.configuration.enable_password_change {
        return Err(OpenError::PasswordFixed);
    }
    let after = before.with_password(new)?;
    let blobcfg = get(storage, BLOBCFG_BLOB).await?;
    let retention = match &blobcfg {
        None => BlobRetention::default(),
        Some(sealed) => before.open_blobcfg(sealed).or_else(|_| after.open_blobcfg(sealed))?,
    };
    let locks = BlobLocks::new(&retention)?;
    let sealed = after.seal_blobcfg(&retention).map_err(OpenError::DeriveKey)?;
    let put = async |name: &str, bytes: Vec<u8>| {
        locks
            .put(&**storage, &ObjectKey::new(name), Bytes::from(bytes), PutMode::Replace, clock.now())
            .await
            .map_err(failed("write kopia.blobcfg and kopia.repository"))
    };
    if locks.period().is_some() {
        put(BLOBCFG_BLOB, sealed).await?;
        put(FORMAT_BLOB, after.stored.clone()).await?;
    } else {
        let key = ObjectKey::new(BLOBCFG_BLOB);
        storage.delete(&key).await.map_err(failed("take kopia.blobcfg away until the format blob is replaced"))?;
        put(FORMAT_BLOB, after.stored.clone()).await?;
        put(BLOBCFG_BLOB, sealed).await?;
    }
    Ok(())
}

async fn get(storage: &Arc<dyn Storage>, name: &str) -> Result<Option<Bytes>, OpenError> {
    match storage.get(&ObjectKey::new(name)).await {
        Ok(stored) => Ok(Some(stored)),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(OpenError::Storage { operation: "read kopia.repository and kopia.blobcfg", source }),
    }
}
