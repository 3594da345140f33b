//! Making a repository: what it is made of, and the order of its first writes.
//!
//! Source: Kopia format, "Encrypted configuration" and "Error correction".

use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use codec::key::Kdf;
use codec::{cipher, digest, ecc, split};
use futures::StreamExt as _;
use jiff::SignedDuration;
use repository::Clock;
use storage::{LockMode, ObjectKey, PutMode, Storage};

use crate::blob_lock::{BlobLocks, PERIOD_MIN};
use crate::error::{BadOption, OpenError, Unsupported};
use crate::format_blob::{
    BLOBCFG_BLOB, BlobRetention, Configuration, EpochParameters, FORMAT_BLOB, FormatBlob, PACK_BYTES_DEFAULT, Password,
};
use crate::json::Base64Bytes;
use crate::open_options::OpenOptions;
use crate::repository::{Client, Repository};
use crate::supported::check_supported;

/// The version of a new repository: Kopia's own since 0.11.
pub const VERSION_DEFAULT: u32 = 3;
/// The versions there are.
pub const VERSIONS: [u32; 3] = [1, 2, 3];
/// The size at which a pack is closed may be so many bytes.
pub const PACK_BYTES: RangeInclusive<u64> = 10 << 20..=120 << 20;

/// What a new repository is made of. The default is what Kopia's own command makes.
#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// Content hash, by Kopia's name.
    pub hash: String,
    /// Content encryption, by Kopia's name.
    pub encryption: String,
    /// Splitter, by Kopia's name.
    pub splitter: String,
    /// Format version, 1 to 3.
    pub version: u32,
    /// How much parity may add, 0 to 100 percent; 0 for no error correction. Version 1 has none.
    pub ecc_overhead_percent: u32,
    /// Size at which a pack is closed, in bytes: see [`PACK_BYTES`].
    pub max_pack_bytes: u64,
    /// How the key comes from the password, by Kopia's name.
    pub key_derivation: String,
    /// New blobs are locked in this mode for so long, at least a day, by stores that can.
    pub retention: Option<(LockMode, SignedDuration)>,
}

impl Default for CreateOptions {
    fn default() -> Self {
        Self {
            hash: digest::Algorithm::Blake2b256_128.kopia_name().to_owned(),
            encryption: cipher::Algorithm::Aes256GcmHmacSha256.kopia_name().to_owned(),
            splitter: "DYNAMIC-4M-BUZHASH".to_owned(),
            version: VERSION_DEFAULT,
            ecc_overhead_percent: 0,
            max_pack_bytes: PACK_BYTES_DEFAULT,
            key_derivation: Kdf::Scrypt65536_8_1.kopia_name().to_owned(),
            retention: None,
        }
    }
}

impl CreateOptions {
    /// Name of the only error correction.
    pub const ECC: &'static str = ecc::KOPIA_NAME;

    /// Names of content hashes.
    pub fn hashes() -> Vec<&'static str> {
        digest::Algorithm::ALL.iter().map(digest::Algorithm::kopia_name).collect()
    }

    /// Names of ciphers.
    pub fn encryptions() -> Vec<&'static str> {
        cipher::Algorithm::ALL.iter().map(cipher::Algorithm::kopia_name).collect()
    }

    /// Names of splitters.
    pub fn splitters() -> Vec<&'static str> {
        split::Algorithm::kopia_names().collect()
    }

    /// Names of key derivations.
    pub fn key_derivations() -> Vec<&'static str> {
        Kdf::ALL.iter().map(Kdf::kopia_name).collect()
    }

    fn check(&self) -> Result<(), BadOption> {
        if self.ecc_overhead_percent > ecc::OVERHEAD_PERCENT_MAX {
            return Err(BadOption::EccOverhead);
        }
        if self.version == 1 && self.ecc_overhead_percent > 0 {
            return Err(BadOption::EccInVersion1);
        }
        if !PACK_BYTES.contains(&self.max_pack_bytes) {
            return Err(BadOption::PackSize);
        }
        if self.retention.is_some_and(|(_, period)| period < PERIOD_MIN) {
            return Err(BadOption::RetentionPeriod);
        }
        Ok(())
    }

    /// Version 1 has neither epochs nor a password that can be changed.
    fn configuration(&self) -> Result<Configuration, codec::Error> {
        let random = || cipher::random_bytes::<32>().map(|bytes| Base64Bytes(bytes.to_vec()));
        let is_old = self.version == 1;
        let corrects = self.ecc_overhead_percent > 0;
        Ok(Configuration {
            hash: self.hash.clone(),
            encryption: self.encryption.clone(),
            ecc: if corrects { ecc::KOPIA_NAME.to_owned() } else { String::new() },
            ecc_overhead_percent: self.ecc_overhead_percent,
            secret: random()?,
            master_key: random()?,
            version: self.version,
            max_pack_size: self.max_pack_bytes,
            index_version: if is_old { 1 } else { 2 },
            epoch_parameters: if is_old { EpochParameters::default() } else { EpochParameters::standard() },
            enable_password_change: !is_old,
            splitter: self.splitter.clone(),
            upgrade_lock: None,
            required_features: None,
        })
    }
}

impl Repository {
    /// Makes a new repository in an empty place, with Kopia's first policies, and opens it.
    ///
    /// The format blob is written last and only if there is none, so two creations at once cannot both succeed where the
    /// store can tell.
    ///
    /// # Errors
    /// When the place holds anything, the password cannot be used, an option is unknown or does not go with another, or
    /// the store fails or cannot lock blobs where it must.
    pub async fn create(
        storage: Arc<dyn Storage>,
        password: &Password,
        options: &CreateOptions,
        client: Client,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        if password.is_empty() || password.has_outer_white_space() {
            return Err(OpenError::BadPassword);
        }
        options.check()?;
        let kdf = Kdf::from_kopia_name(&options.key_derivation)
            .ok_or_else(|| Unsupported::new("key derivation", &options.key_derivation))?;
        let configuration = options.configuration().map_err(OpenError::DeriveKey)?;
        check_supported(&configuration)?;
        let failed = |operation| move |source| OpenError::Storage { operation, source };
        if let Some(found) = storage.list("").next().await {
            let found = found.map_err(failed("look for what is already there"))?.key.to_string();
            return Err(OpenError::NotEmpty { address: storage.address(), found });
        }
        let format = FormatBlob::create(configuration, kdf, password).map_err(OpenError::DeriveKey)?;
        let retention = BlobRetention::new(options.retention);
        let blobcfg = format.seal_blobcfg(&retention).map_err(OpenError::DeriveKey)?;
        let locks = BlobLocks::new(&retention)?;
        for (name, bytes) in [(BLOBCFG_BLOB, blobcfg), (FORMAT_BLOB, format.stored.clone())] {
            locks
                .put(&*storage, &ObjectKey::new(name), Bytes::from(bytes), PutMode::IfAbsent, clock.now())
                .await
                .map_err(failed("write kopia.blobcfg and kopia.repository"))?;
        }
        let options = OpenOptions::default();
        let created = Self::load(storage, format, &retention, client, clock, &options).await?;
        created.write_first_records().await.map_err(|error| OpenError::FirstRecords(Box::new(error)))?;
        Ok(created)
    }
}
