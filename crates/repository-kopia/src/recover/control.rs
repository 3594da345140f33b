//! The control objects: without `kopia.repository` nothing opens.

use std::sync::Arc;

use codec::cipher::{open_aes256_gcm, seal_aes256_gcm};
use futures::{StreamExt as _, TryStreamExt as _};
use repository::Clock;
use storage::{ErrorKind, Object, ObjectKey, Storage};

use super::{aside, mend};
use crate::blob;
use crate::content::Crypto;
use crate::error::OpenError;
use crate::format_blob::{
    BLOBCFG_BLOB, BlobRetention, EpochParameters, FORMAT_BLOB, FormatBlob, Password, copy_in_pack,
};
use crate::index::legacy::POISON_BLOB;
use crate::repository::{Client, Repository};

/// Kopia's schedule of maintenance, and what it did.
const MAINTENANCE_BLOB: &str = "kopia.maintenance";
/// Purpose of its key, and what is authenticated with it.
const MAINTENANCE_PURPOSE: &str = "maintenance schedule";
const MAINTENANCE_DATA: &[u8] = b"maintenance";
/// A schedule on which everything is due and nothing was ever done: the safe direction, for what was done long enough ago
/// decides what may be removed.
const EMPTY_SCHEDULE: &[u8] =
    br#"{"nextFullMaintenance":"0001-01-01T00:00:00Z","nextQuickMaintenance":"0001-01-01T00:00:00Z","runs":null}"#;
/// A copy made when an upgrade began.
const BACKUP_PREFIX: &str = "kopia.repository.backup.";
/// Packs that are looked into for a copy of the format blob, the newest of each kind.
const PACKS_TRIED_MAX: usize = 16;
/// A copy lies in the first or the last so many bytes of a pack.
const COPY_BYTES_MAX: u64 = 65_536;
/// Index blobs that are tried with recovered keys.
const INDEX_BLOBS_TRIED_MAX: usize = 64;

/// What repairing may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RepairMode {
    /// Look and tell; write nothing.
    pub dry_run: bool,
    /// What cannot be had back may be given up, so that the rest can be used.
    pub accept_loss: bool,
}

/// A damaged control object, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlRepair {
    /// Its name.
    pub object: String,
    /// What was wrong with it.
    pub problem: String,
    /// What was done, or on a dry run would be.
    pub remedy: Remedy,
}

/// What becomes of a damaged control object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// It is again what it was; the text says from where.
    Recovered(String),
    /// A new one is in its place; the text says what that means.
    Replaced(String),
    /// It stays as it is unless the loss is accepted; the text says what would be lost.
    NeedsConsent(String),
}

/// What is to be written, in order, and what it means.
#[derive(Default)]
struct Plan {
    writes: Vec<(&'static str, Vec<u8>)>,
    repairs: Vec<ControlRepair>,
}

struct Found {
    bytes: Vec<u8>,
    from: String,
}

impl Repository {
    /// Opens a repository that may be damaged: control objects are recovered first, and index blobs of which none opens do not
    /// prevent it as long as the keys are proven right. On a dry run nothing is written and what was recovered is only used.
    ///
    /// # Errors
    /// As [`Repository::open`], for what cannot be recovered; its error is the one that opening gave.
    pub async fn open_for_repair(
        storage: Arc<dyn Storage>,
        password: &Password,
        client: Client,
        clock: Arc<dyn Clock>,
        mode: RepairMode,
    ) -> Result<(Self, Vec<ControlRepair>), OpenError> {
        let mut plan = Plan::default();
        let format = open_format(&*storage, password, &mut plan).await?;
        let retention = open_blobcfg(&*storage, &format, mode, &mut plan).await?;
        let repository = Self::load_damaged(storage, format, &retention, client, clock).await?;
        repository.plan_maintenance_blob(&mut plan).await?;
        // Only now are the keys known to belong to what lies here.
        for (name, bytes) in plan.writes.iter().filter(|_| !mode.dry_run) {
            let written = aside::replace(&repository, &ObjectKey::new(*name), bytes).await;
            written.map_err(failed("replace a damaged control object"))?;
        }
        Ok((repository, plan.repairs))
    }

    async fn plan_maintenance_blob(&self, plan: &mut Plan) -> Result<(), OpenError> {
        let key = ObjectKey::new(MAINTENANCE_BLOB);
        let stored = match self.storage().get(&key).await {
            Ok(stored) => stored,
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(failed("read kopia.maintenance")(source)),
        };
        let secret = self.derive_key(MAINTENANCE_PURPOSE);
        let opens = |bytes: &[u8]| {
            open_aes256_gcm(&secret, MAINTENANCE_DATA, bytes)
                .is_ok_and(|plain| serde_json::from_slice::<serde_json::Value>(&plain).is_ok())
        };
        if opens(&stored) {
            return Ok(());
        }
        let sealed = seal_aes256_gcm(&secret, MAINTENANCE_DATA, EMPTY_SCHEDULE).map_err(OpenError::DeriveKey)?;
        plan.writes.push((MAINTENANCE_BLOB, sealed));
        plan.repairs.push(ControlRepair {
            object: MAINTENANCE_BLOB.to_owned(),
            problem: "it does not decrypt".to_owned(),
            remedy: Remedy::Replaced(
                "an empty schedule: maintenance is due at once, and counts its waiting times from now".to_owned(),
            ),
        });
        Ok(())
    }
}

fn failed(operation: &'static str) -> impl Fn(storage::Error) -> OpenError {
    move |source| OpenError::Storage { operation, source }
}

async fn open_format(storage: &dyn Storage, password: &Password, plan: &mut Plan) -> Result<FormatBlob, OpenError> {
    let stored = match storage.get(&ObjectKey::new(FORMAT_BLOB)).await {
        Ok(stored) => Some(stored),
        Err(error) if error.kind == ErrorKind::NotFound => None,
        Err(source) => return Err(failed("read kopia.repository")(source)),
    };
    let problem = match &stored {
        Some(stored) => match FormatBlob::open(stored, password) {
            Ok(format) => return Ok(format),
            Err(error @ (OpenError::WrongPassword | OpenError::ParseFormatBlob(_) | OpenError::Unsupported(_))) => {
                error
            }
            Err(error) => return Err(error),
        },
        None => {
            let first = storage.list("").next().await.transpose().map_err(failed("look for any object"))?;
            OpenError::NotInitialized { address: storage.address(), empty: first.is_none() }
        }
    };
    let Some(found) = recover_format(storage, stored.as_deref(), password).await? else { return Err(problem) };
    let format = FormatBlob::open(&found.bytes, password)?;
    plan.writes.push((FORMAT_BLOB, found.bytes));
    plan.repairs.push(ControlRepair {
        object: FORMAT_BLOB.to_owned(),
        problem: if stored.is_some() { "it does not open".to_owned() } else { "it is gone".to_owned() },
        remedy: Remedy::Recovered(found.from),
    });
    Ok(format)
}

/// Tries the exact bytes first, then copies, then what takes long.
async fn recover_format(
    storage: &dyn Storage,
    stored: Option<&[u8]>,
    password: &Password,
) -> Result<Option<Found>, OpenError> {
    if let Some(bytes) = stored.and_then(|stored| mend::locked_part(stored, password)) {
        return Ok(Some(Found { bytes, from: "one changed character was undone".to_owned() }));
    }
    if let Some(found) = copy_of_format(storage, password).await? {
        return Ok(Some(found));
    }
    let mended = stored.and_then(|stored| mend::clear_part(stored, password));
    Ok(mended.map(|bytes| Found { bytes, from: "one changed bit was undone".to_owned() }))
}

async fn list(storage: &dyn Storage, prefix: &str) -> Result<Vec<Object>, OpenError> {
    storage.list(prefix).try_collect().await.map_err(failed("look for copies of kopia.repository"))
}

/// A copy that this password opens, of the kind of repository that the place holds, whose keys open what is there.
async fn copy_of_format(storage: &dyn Storage, password: &Password) -> Result<Option<Found>, OpenError> {
    let epochs = list(storage, "x").await?;
    let mut blobs = list(storage, "n").await?;
    let has_epochs = !epochs.is_empty() || blobs.iter().any(|blob| blob.key.as_str() == POISON_BLOB);
    blobs.retain(|blob| blob.key.as_str() != POISON_BLOB);
    blobs.extend(epochs);
    let mut older = None;
    for found in copies(storage).await? {
        let Ok(format) = FormatBlob::open(&found.bytes, password) else { continue };
        if !opens_an_index_blob(storage, &blobs, &format).await? {
            continue;
        }
        if format.configuration.epoch_parameters.enabled == has_epochs {
            return Ok(Some(found));
        }
        older = older.or(Some((found, format)));
    }
    let Some((found, format)) = older.filter(|_| has_epochs) else { return Ok(None) };
    // From before the upgrade: the same secrets, and the parameters that an upgrade sets.
    let mut configuration = format.configuration.clone();
    configuration.version = 3;
    configuration.index_version = 2;
    configuration.epoch_parameters = EpochParameters::standard();
    configuration.upgrade_lock = None;
    let upgraded = format.with_configuration(configuration)?;
    let from = format!("{}, from before the upgrade, with the parameters that an upgrade sets", found.from);
    Ok(Some(Found { bytes: upgraded.stored, from }))
}

/// Copies of the format blob: in packs, newest first, then those that upgrades made.
async fn copies(storage: &dyn Storage) -> Result<Vec<Found>, OpenError> {
    let mut found: Vec<Found> = Vec::new();
    for prefix in ["q", "p"] {
        let mut packs = list(storage, prefix).await?;
        packs.sort_by(|a, b| (b.modified, &b.key).cmp(&(a.modified, &a.key)));
        for pack in packs.iter().take(PACKS_TRIED_MAX) {
            let length = pack.size_bytes.min(COPY_BYTES_MAX);
            for offset in [0, pack.size_bytes - length] {
                let chunk = match storage.get_range(&pack.key, offset, length).await {
                    Ok(chunk) => chunk,
                    Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::Truncated) => continue,
                    Err(source) => return Err(failed("read a pack")(source)),
                };
                let copy = copy_in_pack(&chunk).map(<[u8]>::to_vec);
                if let Some(bytes) = copy.filter(|bytes| found.iter().all(|known| known.bytes != *bytes)) {
                    found.push(Found { bytes, from: format!("the copy in pack {}", pack.key) });
                }
            }
        }
    }
    for backup in list(storage, BACKUP_PREFIX).await? {
        let bytes = storage.get(&backup.key).await.map_err(failed("read a copy of kopia.repository"))?;
        found.push(Found { bytes: bytes.to_vec(), from: format!("the copy {}", backup.key) });
    }
    Ok(found)
}

/// Whether the keys belong to this place: one index blob opens, or there is none.
async fn opens_an_index_blob(storage: &dyn Storage, blobs: &[Object], format: &FormatBlob) -> Result<bool, OpenError> {
    let crypto = Crypto::new(&format.configuration)?;
    let is_blob =
        |object: &&Object| ["xn", "xs", "xr", "n"].iter().any(|prefix| object.key.as_str().starts_with(prefix));
    let mut is_empty = true;
    for blob in blobs.iter().filter(is_blob).take(INDEX_BLOBS_TRIED_MAX) {
        is_empty = false;
        let sealed = storage.get(&blob.key).await.map_err(failed("read an index blob"))?;
        if blob::open(&crypto, blob.key.as_str(), Vec::from(sealed)).is_ok() {
            return Ok(true);
        }
    }
    Ok(is_empty)
}

async fn open_blobcfg(
    storage: &dyn Storage,
    format: &FormatBlob,
    mode: RepairMode,
    plan: &mut Plan,
) -> Result<BlobRetention, OpenError> {
    let stored = match storage.get(&ObjectKey::new(BLOBCFG_BLOB)).await {
        Ok(stored) => stored,
        Err(error) if error.kind == ErrorKind::NotFound => return Ok(BlobRetention::default()),
        Err(source) => return Err(failed("read kopia.blobcfg")(source)),
    };
    if let Ok(retention) = format.open_blobcfg(&stored) {
        return Ok(retention);
    }
    let mended = mend::sealed(&stored, |bytes| format.open_blobcfg(bytes).is_ok());
    let (bytes, remedy) = match mended {
        Some(bytes) => (bytes, Remedy::Recovered("one changed byte was undone".to_owned())),
        None => {
            let meaning =
                "one without object locks: if there were any, new objects are not locked until they are set again";
            let remedy = match mode.accept_loss {
                true => Remedy::Replaced(meaning.to_owned()),
                false => Remedy::NeedsConsent(format!("it would be replaced by {meaning}")),
            };
            (format.seal_blobcfg(&BlobRetention::default()).map_err(OpenError::DeriveKey)?, remedy)
        }
    };
    let retention = format.open_blobcfg(&bytes)?;
    if !matches!(remedy, Remedy::NeedsConsent(_)) {
        plan.writes.push((BLOBCFG_BLOB, bytes));
    }
    plan.repairs.push(ControlRepair {
        object: BLOBCFG_BLOB.to_owned(),
        problem: "it does not decrypt".to_owned(),
        remedy,
    });
    Ok(retention)
}
