//! `kopia.repository` and `kopia.blobcfg`: what a repository is made of, locked with its password.
//!
//! Source: Kopia format, "Format blob, config blob and keys".

use codec::cipher::{open_aes256_gcm, random_bytes, seal_aes256_gcm};
use codec::key::{Kdf, hkdf_sha256, hmac_sha256};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use storage::LockMode;

use crate::error::{OpenError, Unsupported};
use crate::json::{self, Base64Bytes, is_default};

/// Name of the format blob.
pub(crate) const FORMAT_BLOB: &str = "kopia.repository";
/// Name of the blob-retention configuration.
pub(crate) const BLOBCFG_BLOB: &str = "kopia.blobcfg";

/// Fewer bytes of salt than this are refused by the key derivation.
const UNIQUE_ID_BYTES_MIN: usize = 16;
/// Length of the random ids and secrets of a new repository, in bytes.
const SECRET_BYTES: usize = 32;
/// Pack size when the configuration names none, in bytes.
pub(crate) const PACK_BYTES_DEFAULT: u64 = 20_971_520;
/// Length of the checksum of a format blob's copy in a pack, in bytes.
const CHECKSUM_BYTES: usize = 32;
/// The only cipher of the format blob itself.
const BLOB_ENCRYPTION: &str = "AES256_GCM";

/// A repository's password. Never printed.
#[derive(Clone)]
pub struct Password(String);

impl Password {
    /// Takes a password as given.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Kopia trims white space of passwords given to it, but once stored some as they were: both forms are tried.
    pub(crate) fn forms(&self) -> impl Iterator<Item = &str> {
        let trimmed = self.0.trim();
        std::iter::once(trimmed).chain((trimmed != self.0).then_some(self.0.as_str()))
    }

    pub(crate) fn has_outer_white_space(&self) -> bool {
        self.0.trim() != self.0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.trim().is_empty()
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(…)")
    }
}

/// The clear part of `kopia.repository`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FormatBlobJson {
    #[serde(default)]
    tool: String,
    #[serde(default)]
    build_version: String,
    #[serde(default)]
    build_info: String,
    #[serde(rename = "uniqueID")]
    pub(crate) unique_id: Base64Bytes,
    #[serde(default)]
    pub(crate) key_algo: String,
    #[serde(default)]
    pub(crate) encryption: String,
    #[serde(default)]
    pub(crate) encrypted_block_format: Base64Bytes,
}

impl FormatBlobJson {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("the record has string keys");
        bytes.push(b'\n');
        bytes
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct EncryptedFormatJson {
    pub(crate) format: Configuration,
}

/// The locked part of `kopia.repository`, in Kopia's own spelling.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Configuration {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) hash: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) encryption: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) ecc: String,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) ecc_overhead_percent: u32,
    #[serde(default, skip_serializing_if = "Base64Bytes::is_empty")]
    pub(crate) secret: Base64Bytes,
    #[serde(default, skip_serializing_if = "Base64Bytes::is_empty")]
    pub(crate) master_key: Base64Bytes,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) version: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) max_pack_size: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) index_version: u32,
    #[serde(default)]
    pub(crate) epoch_parameters: EpochParameters,
    #[serde(default)]
    pub(crate) enable_password_change: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) splitter: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) upgrade_lock: Option<UpgradeLock>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) required_features: Option<Vec<RequiredFeature>>,
}

/// How index blobs are grouped into epochs. Durations in nanoseconds, as stored.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct EpochParameters {
    pub(crate) enabled: bool,
    pub(crate) epoch_refresh_frequency: i64,
    pub(crate) full_checkpoint_frequency: i64,
    pub(crate) cleanup_safety_margin: i64,
    pub(crate) min_epoch_duration: i64,
    pub(crate) epoch_advance_on_count_threshold: i64,
    pub(crate) epoch_advance_on_total_size_bytes_threshold: i64,
    pub(crate) delete_parallelism: i64,
}

impl EpochParameters {
    /// What Kopia writes into a new repository.
    pub(crate) fn standard() -> Self {
        const MINUTE: i64 = 60_000_000_000;
        Self {
            enabled: true,
            epoch_refresh_frequency: 20 * MINUTE,
            full_checkpoint_frequency: 7,
            cleanup_safety_margin: 240 * MINUTE,
            min_epoch_duration: 1_440 * MINUTE,
            epoch_advance_on_count_threshold: 20,
            epoch_advance_on_total_size_bytes_threshold: 10_485_760,
            delete_parallelism: 4,
        }
    }
}

/// Held by someone who upgrades the repository; nobody else may touch the storage meanwhile.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UpgradeLock {
    #[serde(rename = "ownerID", default)]
    pub(crate) owner_id: String,
    pub(crate) creation_time: Timestamp,
    #[serde(default)]
    pub(crate) advance_notice_duration: i64,
    #[serde(default)]
    pub(crate) io_drain_timeout: i64,
    #[serde(default)]
    pub(crate) status_poll_interval: i64,
    #[serde(default)]
    pub(crate) message: String,
    #[serde(default)]
    pub(crate) max_permitted_clock_drift: i64,
}

impl UpgradeLock {
    /// Locked iff the advance notice is shorter than the drain time, or its end minus the drain time has come.
    pub(crate) fn is_locked(&self, now: Timestamp) -> bool {
        let drain = self.io_drain_timeout.saturating_mul(2).saturating_add(self.max_permitted_clock_drift);
        let until_locked = SignedDuration::from_nanos(self.advance_notice_duration.saturating_sub(drain));
        self.advance_notice_duration < drain || now.duration_since(self.creation_time) >= until_locked
    }
}

/// Something a program must know to use the repository.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RequiredFeature {
    pub(crate) feature: String,
    #[serde(default)]
    pub(crate) if_not_understood: IfNotUnderstood,
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct IfNotUnderstood {
    pub(crate) warn: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) url: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) upgrade_to_version: String,
}

/// An unlocked format blob.
pub(crate) struct FormatBlob {
    /// Salt of every key, and the repository's identity.
    pub(crate) unique_id: Vec<u8>,
    /// The decrypted configuration.
    pub(crate) configuration: Configuration,
    /// The exact bytes in the store: repositories of version 1 copy them into every pack.
    pub(crate) stored: Vec<u8>,
    format_key: [u8; 32],
}

/// The key that locks the two configuration blobs, and the data it authenticates with them.
pub(crate) fn blob_keys(format_key: &[u8; 32], unique_id: &[u8]) -> ([u8; 32], [u8; 32]) {
    (derive(format_key, unique_id, b"AES"), derive(format_key, unique_id, b"CHECKSUM"))
}

fn derive(root: &[u8], unique_id: &[u8], purpose: &[u8]) -> [u8; 32] {
    let mut key = [0; 32];
    hkdf_sha256(root, unique_id, purpose, &mut key).expect("32 bytes are far below what HKDF can give");
    key
}

impl FormatBlob {
    /// Makes the configuration of a new repository and locks it.
    pub(crate) fn create(configuration: Configuration, kdf: Kdf, password: &Password) -> Result<Self, codec::Error> {
        let unique_id = random_bytes::<SECRET_BYTES>()?.to_vec();
        let format_key = kdf.derive(password.0.trim().as_bytes(), &unique_id)?;
        let (key, associated_data) = blob_keys(&format_key, &unique_id);
        let plain = json::to_vec(&EncryptedFormatJson { format: configuration.clone() });
        let record = FormatBlobJson {
            tool: "https://github.com/kopia/kopia".to_owned(),
            build_version: format!("perennial {}", env!("CARGO_PKG_VERSION")),
            build_info: "perennial".to_owned(),
            unique_id: Base64Bytes(unique_id.clone()),
            key_algo: kdf.kopia_name().to_owned(),
            encryption: BLOB_ENCRYPTION.to_owned(),
            encrypted_block_format: Base64Bytes(seal_aes256_gcm(&key, &associated_data, &plain)?),
        };
        Ok(Self { unique_id, configuration, stored: record.to_bytes(), format_key })
    }

    /// Unlocks the bytes of `kopia.repository`.
    pub(crate) fn open(stored: &[u8], password: &Password) -> Result<Self, OpenError> {
        let record: FormatBlobJson = serde_json::from_slice(stored).map_err(OpenError::ParseFormatBlob)?;
        if record.encryption != BLOB_ENCRYPTION {
            return Err(Unsupported::new("format blob encryption", &record.encryption).into());
        }
        let unique_id = record.unique_id.0;
        if unique_id.len() < UNIQUE_ID_BYTES_MIN {
            return Err(Unsupported::new("unique id shorter than 16 bytes", &hex::encode(unique_id)).into());
        }
        let kdf = Kdf::from_kopia_name(&record.key_algo)
            .ok_or_else(|| Unsupported::new("key derivation", &record.key_algo))?;
        for form in password.forms() {
            let format_key = kdf.derive(form.as_bytes(), &unique_id).map_err(OpenError::DeriveKey)?;
            let (key, associated_data) = blob_keys(&format_key, &unique_id);
            let Ok(plain) = open_aes256_gcm(&key, &associated_data, &record.encrypted_block_format.0) else {
                continue;
            };
            let decrypted: EncryptedFormatJson = serde_json::from_slice(&plain).map_err(OpenError::ParseFormatBlob)?;
            let configuration = decrypted.format;
            return Ok(Self { unique_id, configuration, stored: stored.to_vec(), format_key });
        }
        Err(OpenError::WrongPassword)
    }

    /// The configuration in other bytes of `kopia.repository`, if they are this repository's and locked with the same
    /// password.
    pub(crate) fn reread(&self, stored: &[u8]) -> Option<Configuration> {
        if stored == self.stored {
            return Some(self.configuration.clone());
        }
        let record: FormatBlobJson = serde_json::from_slice(stored).ok()?;
        if record.unique_id.0 != self.unique_id {
            return None;
        }
        let (key, associated_data) = blob_keys(&self.format_key, &self.unique_id);
        let plain = open_aes256_gcm(&key, &associated_data, &record.encrypted_block_format.0).ok()?;
        serde_json::from_slice(&plain).ok().map(|found: EncryptedFormatJson| found.format)
    }

    /// The same repository under another password. The key derivation stays.
    pub(crate) fn with_password(&self, password: &Password) -> Result<Self, OpenError> {
        let mut record: FormatBlobJson = serde_json::from_slice(&self.stored).map_err(OpenError::ParseFormatBlob)?;
        let kdf = Kdf::from_kopia_name(&record.key_algo)
            .ok_or_else(|| Unsupported::new("key derivation", &record.key_algo))?;
        let derived = kdf.derive(password.0.trim().as_bytes(), &self.unique_id);
        let format_key = derived.map_err(OpenError::DeriveKey)?;
        let (key, associated_data) = blob_keys(&format_key, &self.unique_id);
        // What stands in the configuration beside what is known here stays.
        let (old_key, old_associated_data) = blob_keys(&self.format_key, &self.unique_id);
        let sealed = &record.encrypted_block_format.0;
        let plain = open_aes256_gcm(&old_key, &old_associated_data, sealed).map_err(OpenError::DeriveKey)?;
        let sealed = seal_aes256_gcm(&key, &associated_data, &plain).map_err(OpenError::DeriveKey)?;
        record.encrypted_block_format = Base64Bytes(sealed);
        Self::open(&record.to_bytes(), password)
    }

    /// `kopia.blobcfg`.
    pub(crate) fn seal_blobcfg(&self, retention: &BlobRetention) -> Result<Vec<u8>, codec::Error> {
        let (key, associated_data) = blob_keys(&self.format_key, &self.unique_id);
        seal_aes256_gcm(&key, &associated_data, &json::to_vec(retention))
    }

    /// The same repository with another configuration, locked with the same key.
    pub(crate) fn with_configuration(&self, configuration: Configuration) -> Result<Self, OpenError> {
        let mut record: FormatBlobJson = serde_json::from_slice(&self.stored).map_err(OpenError::ParseFormatBlob)?;
        let (key, associated_data) = blob_keys(&self.format_key, &self.unique_id);
        let plain = json::to_vec(&EncryptedFormatJson { format: configuration.clone() });
        let sealed = seal_aes256_gcm(&key, &associated_data, &plain).map_err(OpenError::DeriveKey)?;
        record.encrypted_block_format = Base64Bytes(sealed);
        let mut stored = serde_json::to_vec_pretty(&record).map_err(OpenError::ParseFormatBlob)?;
        stored.push(b'\n');
        Ok(Self { unique_id: self.unique_id.clone(), configuration, stored, format_key: self.format_key })
    }

    /// The retention locks that `kopia.blobcfg` asks for.
    pub(crate) fn open_blobcfg(&self, stored: &[u8]) -> Result<BlobRetention, OpenError> {
        let (key, associated_data) = blob_keys(&self.format_key, &self.unique_id);
        let plain = open_aes256_gcm(&key, &associated_data, stored).map_err(OpenError::DamagedBlobcfg)?;
        serde_json::from_slice(&plain).map_err(OpenError::ParseBlobcfg)
    }

    /// Key material for everything derived by purpose: the master key, or in repositories that cannot change their
    /// password, the password's own key.
    fn root_key(&self) -> &[u8] {
        match self.configuration.enable_password_change {
            true => &self.configuration.master_key.0,
            false => &self.format_key,
        }
    }

    /// A key of 32 bytes for one purpose.
    pub(crate) fn derive_key(&self, purpose: &str) -> [u8; 32] {
        derive(self.root_key(), &self.unique_id, purpose.as_bytes())
    }

    /// What stands before the preamble of every pack: nothing, or in repositories whose keys hang on the password a
    /// checked copy of the format blob, so that a pack alone is enough to recover them.
    pub(crate) fn pack_prefix(&self) -> Vec<u8> {
        if self.configuration.enable_password_change {
            return Vec::new();
        }
        let checksum = hmac_sha256(b"kopia-repository", &self.stored);
        let length = ((self.stored.len() + checksum.len()) as u16).to_le_bytes();
        [length.as_slice(), &self.stored, &checksum, &length].concat()
    }
}

/// The copy of a format blob in the first or last bytes of a pack, if there is a sound one.
pub(crate) fn copy_in_pack(chunk: &[u8]) -> Option<&[u8]> {
    let sound = |length: usize, copy: &'_ [u8]| -> bool {
        let Some((stored, checksum)) = copy.split_at_checked(length - CHECKSUM_BYTES) else { return false };
        hmac_sha256(b"kopia-repository", stored) == *checksum
    };
    let length = |bytes: &[u8]| {
        let bytes: [u8; 2] = bytes.try_into().ok()?;
        Some(usize::from(u16::from_le_bytes(bytes))).filter(|length| *length > CHECKSUM_BYTES)
    };
    let first = chunk.get(..2).and_then(length).and_then(|length| Some((length, chunk.get(2..2 + length)?)));
    let end = chunk.len().checked_sub(2)?;
    let last = chunk.get(end..).and_then(length);
    let last = last.and_then(|length| Some((length, chunk.get(end.checked_sub(length)?..end)?)));
    let (length, copy) = [first, last].into_iter().flatten().find(|(length, copy)| sound(*length, copy))?;
    Some(&copy[..length - CHECKSUM_BYTES])
}

/// Object-lock settings for new blobs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct BlobRetention {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) retention_mode: String,
    /// Nanoseconds.
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) retention_period: i64,
}

impl BlobRetention {
    pub(crate) fn new(retention: Option<(LockMode, SignedDuration)>) -> Self {
        let Some((mode, period)) = retention else { return Self::default() };
        let retention_period = i64::try_from(period.as_nanos()).unwrap_or(i64::MAX);
        Self { retention_mode: mode.s3_name().to_owned(), retention_period }
    }
}

#[cfg(test)]
mod tests {
    use super::{FormatBlob, Password, blob_keys};
    use codec::cipher::open_aes256_gcm;

    /// Source: Kopia format, "Format blob" vector.
    const VECTOR: &str = include_str!("../tests/vectors/kopia.repository.json");

    #[test]
    fn the_vector_opens_and_its_blobcfg_too() {
        let blob = FormatBlob::open(VECTOR.as_bytes(), &Password::new(" correct horse\n")).unwrap();
        assert_eq!(blob.configuration.hash, "BLAKE2B-256-128");
        assert_eq!(blob.configuration.epoch_parameters.cleanup_safety_margin, 14_400_000_000_000);
        assert_eq!(
            hex::encode(blob.derive_key("maintenance schedule")),
            "52605b74e5a4fdac57ce41a87b43fa8687ef93b03d8e493f66f2d3099dd33a99"
        );
        let (key, associated_data) = blob_keys(&blob.format_key, &blob.unique_id);
        let stored = hex::decode("a0a1a2a3a4a5a6a7a8a9aaab4bbbc109faeda269de920cb1050bb8422cfa").unwrap();
        assert_eq!(open_aes256_gcm(&key, &associated_data, &stored).unwrap(), b"{}");
        assert_eq!(blob.open_blobcfg(&stored).unwrap(), super::BlobRetention::default());
        let locked = hex::decode("a0a1a2a3a4a5a6a7a8a9aaab4be4945b60fe6cbc6efd0ff1dad0479447c43b5ae49863a1fa394dfcf510c1696ed2806b939a09fc175e5cb0a2d5ce41b1462729ceaa3009bce118ea5eef0f05aac55381137ea33fbc4050e1134725").unwrap();
        assert_eq!(blob.open_blobcfg(&locked).unwrap().retention_period, 86_400_000_000_000);
    }

    /// Source: Kopia format, "Format blob" vector of the copy in packs.
    #[test]
    fn a_copy_in_a_pack_is_found() {
        let wrapped =
            hex::decode("2a00616164736461736461735d248ba07bde060f500ae9b489ff46358544ada66b4737a879ec5f0c9cc257ef2a00")
                .unwrap();
        let found = |bytes: &[u8]| super::copy_in_pack(bytes).map(<[u8]>::to_vec);
        assert_eq!(found(&wrapped).unwrap(), b"aadsdasdas");
        assert_eq!(found(&[&[1, 2, 3], wrapped.as_slice()].concat()).unwrap(), b"aadsdasdas");
        assert_eq!(found(&[wrapped.as_slice(), &[1, 2, 3]].concat()).unwrap(), b"aadsdasdas");
        let mut damaged = wrapped.clone();
        damaged[20] ^= 1;
        assert_eq!(found(&damaged), None);
        (0..6).for_each(|length| assert_eq!(found(&wrapped[..length]), None));
    }

    #[test]
    fn a_wrong_password_is_told_apart() {
        let error = FormatBlob::open(VECTOR.as_bytes(), &Password::new("wrong horse")).err().unwrap();
        assert!(matches!(error, crate::OpenError::WrongPassword));
    }
}
