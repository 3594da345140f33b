//! An open repository: its keys, its index, and everything that can be read with them.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::Bytes;
use futures::StreamExt as _;
use jiff::SignedDuration;
use jiff::tz::TimeZone;
use repository::{Clock, ContentId, Identity};
use storage::{Class, ErrorKind, LockMode, ObjectKey, PutMode, Storage};

use crate::blob_lock::BlobLocks;
use crate::content::{ContentHasher, Crypto, Sealer, Unsealed};
use crate::epoch::View;
use crate::error::{ContentError, IndexError, OpenError, ReadError};
use crate::format_blob::{
    BLOBCFG_BLOB, BlobRetention, EpochParameters, FORMAT_BLOB, FormatBlob, PACK_BYTES_DEFAULT, Password,
};
use crate::index::{
    IndexEntry, IndexSets, IndexView, Loaded, Location, Places, Scratch, load, load_without, read_view,
};
use crate::maintenance::{MaintenanceParameters, Running, latest_parameters};
use crate::manifest::{self, MANIFEST_PREFIX, Manifest, ManifestRecord};
use crate::open_options::OpenOptions;
use crate::policy::{self, Policy, PolicyJson};
use crate::snapshot::{self, Listing};
use crate::supported::{check_supported, check_unlocked, index_sets};

/// Manifest contents read at the same time.
const READS_IN_FLIGHT: usize = 16;

/// Who writes: the name and machine that new snapshots and sessions carry unless told otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// User name.
    pub username: String,
    /// Host name.
    pub hostname: String,
}

/// What a repository is made of, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The repository's identity, hexadecimal.
    pub unique_id: String,
    /// Format version, 1 to 3.
    pub version: u32,
    /// Content hash.
    pub hash: String,
    /// Content encryption.
    pub encryption: String,
    /// Splitter.
    pub splitter: String,
    /// How much parity may add, in percent; 0 without error correction.
    pub ecc_overhead_percent: u32,
    /// How new blobs are locked, and for how long.
    pub retention: Option<(LockMode, SignedDuration)>,
    /// Size at which a pack is closed, in bytes.
    pub max_pack_bytes: u64,
    /// Index blobs in use.
    pub index_blob_count: usize,
    /// Contents known, deleted ones included.
    pub content_count: usize,
    /// New index blobs belong to this epoch; none in repositories without epochs.
    pub write_epoch: Option<u64>,
}

/// What one content of manifests holds.
type Records = Result<Vec<ManifestRecord>, ReadError>;

/// An open Kopia repository.
///
/// Reads see the index as it was at the last [`Repository::refresh`]. Nothing of the format blob is ever cached: each
/// open reads it from the store.
pub struct Repository {
    storage: Arc<dyn Storage>,
    format: FormatBlob,
    locks: BlobLocks,
    crypto: Arc<Crypto>,
    places: Places,
    client: Client,
    clock: Arc<dyn Clock>,
    loaded: RwLock<Arc<Loaded>>,
    running: Running,
    /// Who maintains it, as of the last look at all manifests.
    seen_parameters: Mutex<Option<MaintenanceParameters>>,
}

impl Repository {
    /// Opens the repository in `storage`.
    ///
    /// Index blobs that are damaged do not prevent it: see [`Repository::damage`].
    ///
    /// # Errors
    /// When there is none, the password is wrong, it uses something unknown here, it is being upgraded, none of its index
    /// blobs opens, or the store fails.
    pub async fn open(
        storage: Arc<dyn Storage>,
        password: &Password,
        client: Client,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        Self::open_with(storage, password, client, clock, &OpenOptions::default()).await
    }

    /// Opens the repository in `storage`, with a say in where its index is kept on this machine.
    ///
    /// # Errors
    /// Those of [`Repository::open`]. A place that cannot be used is none: see [`Repository::index_problem`].
    pub async fn open_with(
        storage: Arc<dyn Storage>,
        password: &Password,
        client: Client,
        clock: Arc<dyn Clock>,
        options: &OpenOptions,
    ) -> Result<Self, OpenError> {
        let failed = |operation| move |source| OpenError::Storage { operation, source };
        let stored = match storage.get(&ObjectKey::new(FORMAT_BLOB)).await {
            Ok(stored) => stored,
            Err(error) if error.kind == ErrorKind::NotFound => {
                let first = storage.list("").next().await.transpose().map_err(failed("look for any object"))?;
                return Err(OpenError::NotInitialized { address: storage.address(), empty: first.is_none() });
            }
            Err(error) => return Err(failed("read kopia.repository")(error)),
        };
        let format = FormatBlob::open(&stored, password)?;
        check_supported(&format.configuration)?;
        check_unlocked(&format.configuration, &*clock)?;
        let retention = match storage.get(&ObjectKey::new(BLOBCFG_BLOB)).await {
            Ok(stored) => format.open_blobcfg(&stored)?,
            Err(error) if error.kind == ErrorKind::NotFound => BlobRetention::default(),
            Err(error) => return Err(failed("read kopia.blobcfg")(error)),
        };
        Self::load(storage, format, &retention, client, clock, options).await
    }

    pub(crate) async fn load(
        storage: Arc<dyn Storage>,
        format: FormatBlob,
        retention: &BlobRetention,
        client: Client,
        clock: Arc<dyn Clock>,
        options: &OpenOptions,
    ) -> Result<Self, OpenError> {
        let opened = Self::load_all(storage, format, retention, client, clock, options).await?;
        match opened.count_if_no_index_blob_opens() {
            Some(count) => Err(OpenError::ForeignIndex { count }),
            None => Ok(opened),
        }
    }

    /// Loads even where no index blob opens, if a pack proves that the keys are right.
    pub(crate) async fn load_damaged(
        storage: Arc<dyn Storage>,
        format: FormatBlob,
        retention: &BlobRetention,
        client: Client,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        check_supported(&format.configuration)?;
        check_unlocked(&format.configuration, &*clock)?;
        let opened = Self::load_all(storage, format, retention, client, clock, &OpenOptions::default()).await?;
        if let Some(count) = opened.count_if_no_index_blob_opens()
            && !opened.any_pack_opens().await?
        {
            return Err(OpenError::ForeignIndex { count });
        }
        Ok(opened)
    }

    async fn load_all(
        storage: Arc<dyn Storage>,
        format: FormatBlob,
        retention: &BlobRetention,
        client: Client,
        clock: Arc<dyn Clock>,
        options: &OpenOptions,
    ) -> Result<Self, OpenError> {
        let crypto = Arc::new(Crypto::new(&format.configuration)?);
        let locks = BlobLocks::new(retention)?;
        let places = options.places(&hex::encode(&format.unique_id));
        let loaded = load(&*storage, &crypto, index_sets(&format.configuration), &places, None).await?;
        Ok(Self {
            storage,
            format,
            locks,
            crypto,
            places,
            client,
            clock,
            loaded: RwLock::new(Arc::new(loaded)),
            running: Running::default(),
            seen_parameters: Mutex::default(),
        })
    }

    fn count_if_no_index_blob_opens(&self) -> Option<usize> {
        let loaded = self.loaded();
        (loaded.blob_count > 0 && loaded.opened_count == 0).then_some(loaded.blob_count)
    }

    /// Reads the index anew. Contents and snapshots that others have written since become visible.
    ///
    /// # Errors
    /// When the store fails. What was loaded before stays.
    pub async fn refresh(&self) -> Result<(), IndexError> {
        let before = self.loaded();
        let loaded = load(&*self.storage, &self.crypto, self.index_sets(), &self.places, Some(&before)).await?;
        let loaded = Arc::new(loaded);
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        *self.seen_parameters.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }

    /// The index as it would be if some of its blobs were not there.
    pub(crate) async fn load_without(&self, without: &HashSet<ObjectKey>) -> Result<Loaded, IndexError> {
        load_without(&*self.storage, &self.crypto, self.index_sets(), &self.places, None, without).await
    }

    pub(crate) fn loaded(&self) -> Arc<Loaded> {
        self.loaded.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Index blobs that could not be read. What they listed is unknown: contents may seem missing that are not.
    pub fn damage(&self) -> Vec<String> {
        self.loaded().damage.iter().map(ToString::to_string).collect()
    }

    /// How many damaged places error correction has repaired in what was read so far; in the store they stay damaged.
    pub fn repaired_count(&self) -> u64 {
        self.crypto.repaired_count()
    }

    /// Why the index is not kept on this machine where it was to be kept; everything else works as if it were.
    pub fn index_problem(&self) -> Option<String> {
        self.loaded().problem.clone()
    }

    /// The repository's identity, hexadecimal. A repository made anew in the same place has another.
    pub fn unique_id(&self) -> String {
        hex::encode(&self.format.unique_id)
    }

    /// What it is made of.
    pub fn description(&self) -> Description {
        let configuration = &self.format.configuration;
        let loaded = self.loaded();
        Description {
            unique_id: self.unique_id(),
            version: configuration.version,
            hash: configuration.hash.clone(),
            encryption: configuration.encryption.clone(),
            splitter: self.splitter_name().to_owned(),
            ecc_overhead_percent: if configuration.ecc.is_empty() { 0 } else { configuration.ecc_overhead_percent },
            retention: self.locks.period(),
            max_pack_bytes: self.max_pack_bytes(),
            index_blob_count: loaded.blob_count,
            content_count: loaded.index.len(),
            write_epoch: configuration.epoch_parameters.enabled.then_some(loaded.view.write_epoch),
        }
    }

    /// Format version that new index entries carry.
    pub(crate) fn format_version(&self) -> u8 {
        self.format.configuration.version as u8
    }

    /// Version of the index files to write, 1 or 2.
    pub(crate) fn index_version(&self) -> u32 {
        self.format.configuration.index_version.max(1)
    }

    pub(crate) fn index_sets(&self) -> IndexSets {
        index_sets(&self.format.configuration)
    }

    /// True where an index cannot name a content's compressor (version 1), so that pieces of files are compressed instead.
    pub fn compresses_objects(&self) -> bool {
        self.index_version() < 2
    }

    /// The store it lies in.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// Who writes.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Where "now" comes from.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    pub(crate) fn crypto(&self) -> &Crypto {
        &self.crypto
    }

    /// Where files may be made that nobody needs later.
    pub(crate) fn scratch(&self) -> Scratch {
        self.places.scratch()
    }

    pub(crate) fn format(&self) -> &FormatBlob {
        &self.format
    }

    /// Writes a blob of this repository, locked where `kopia.blobcfg` asks for it. Every write goes through here.
    pub(crate) async fn put_blob(&self, key: &ObjectKey, body: Bytes, mode: PutMode) -> Result<(), storage::Error> {
        self.locks.put(&*self.storage, key, body, mode, self.clock.now()).await
    }

    /// How blobs of this repository are locked.
    pub(crate) fn locks(&self) -> BlobLocks {
        self.locks
    }

    /// A key of 32 bytes for one purpose, derived from the repository's secrets. The same for every client.
    pub fn derive_key(&self, purpose: &str) -> [u8; 32] {
        self.format.derive_key(purpose)
    }

    /// Size at which a pack is closed, in bytes.
    pub fn max_pack_bytes(&self) -> u64 {
        match self.format.configuration.max_pack_size {
            0 => PACK_BYTES_DEFAULT,
            bytes => bytes,
        }
    }

    fn splitter_name(&self) -> &str {
        match self.format.configuration.splitter.as_str() {
            "" => "FIXED",
            name => name,
        }
    }

    /// How files are cut into contents unless a policy says otherwise.
    pub fn splitter(&self) -> codec::split::Algorithm {
        codec::split::Algorithm::from_kopia_name(self.splitter_name()).expect("unknown splitters were refused at open")
    }

    /// The id of a content with this prefix (0 for file data) and these bytes.
    pub fn content_id(&self, prefix: u8, bytes: &[u8]) -> ContentId {
        self.crypto.content_id(prefix, bytes)
    }

    /// The ids of several contents with the same prefix, faster than one by one. Replaces what `ids` held.
    pub fn content_ids(&self, prefix: u8, contents: &[&[u8]], ids: &mut Vec<ContentId>) {
        self.crypto.content_ids(prefix, contents, ids);
    }

    /// The id of a content with this prefix whose bytes come in parts.
    pub fn content_hasher(&self, prefix: u8) -> ContentHasher {
        ContentHasher::new(&self.crypto, prefix)
    }

    /// How many contents are best hashed side by side: by [`Repository::content_ids`] or [`ContentHasher::update_many`].
    pub fn hash_lanes(&self) -> usize {
        self.crypto.hash_lanes()
    }

    /// What the index knows of a content.
    ///
    /// # Errors
    /// When the index cannot be searched.
    pub fn find(&self, content: &ContentId) -> Result<Option<IndexEntry>, IndexError> {
        self.loaded().index.find(content)
    }

    /// A view of the index that stays as it is while others refresh.
    pub fn index(&self) -> IndexView {
        IndexView(self.loaded())
    }

    /// A worker that compresses and encrypts contents.
    pub fn sealer(&self) -> Sealer<'_> {
        Sealer::new(&self.crypto)
    }

    /// Turns the bytes found at `location` into the content, and checks that they are it. `sealed` is left in pieces.
    ///
    /// # Errors
    /// When they are not.
    pub fn unseal<'a>(
        &self,
        content: &ContentId,
        location: &Location,
        sealed: &'a mut [u8],
    ) -> Result<Unsealed<'a>, ContentError> {
        self.crypto.unseal(content, location, sealed)
    }

    /// Reads one content.
    ///
    /// # Errors
    /// When the index does not know it, its pack cannot be read, or its bytes are wrong.
    pub async fn content(&self, content: &ContentId) -> Result<Vec<u8>, ContentError> {
        let found = self.find(content).map_err(|source| ContentError::LookUp { content: *content, source })?;
        let entry = found.ok_or(ContentError::Unknown { content: *content })?;
        let Location { pack, offset, packed_bytes, .. } = &entry.location;
        let (offset, length_bytes) = (u64::from(*offset), u64::from(*packed_bytes));
        let sealed =
            self.storage.get_range(&ObjectKey::new(pack.as_str()), offset, length_bytes).await.map_err(|source| {
                ContentError::Read { content: *content, pack: pack.clone(), offset, length_bytes, source }
            })?;
        self.unseal(content, &entry.location, &mut Vec::from(sealed)).map(|content| content.bytes.into_owned())
    }

    /// Every manifest, and what could not be read of them.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn manifests(&self) -> Result<(Vec<Manifest>, Vec<ReadError>), ReadError> {
        let mut records = Vec::new();
        let mut damage = Vec::new();
        for (_, result) in self.read_records().await? {
            match result {
                Ok(more) => records.extend(more),
                Err(error) if error.class() == Class::Damaged => damage.push(error),
                Err(error) => return Err(error),
            }
        }
        let manifests = manifest::merge(records);
        let parameters = if damage.is_empty() { latest_parameters(&manifests).ok() } else { None };
        *self.seen_parameters.lock().unwrap_or_else(PoisonError::into_inner) = parameters;
        Ok((manifests, damage))
    }

    /// Who maintains it, as of the last look at all manifests, if there was one since the last refresh.
    pub(crate) fn seen_parameters(&self) -> Option<MaintenanceParameters> {
        self.seen_parameters.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The contents of manifests that cannot be read, and why not.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn unreadable_records(&self) -> Result<Vec<(IndexEntry, ReadError)>, ReadError> {
        let mut unreadable = Vec::new();
        for (entry, result) in self.read_records().await? {
            match result {
                Err(error) if error.class() == Class::Damaged => unreadable.push((entry, error)),
                Err(error) => return Err(error),
                Ok(_) => {}
            }
        }
        unreadable.sort_by_key(|(entry, _)| entry.content);
        Ok(unreadable)
    }

    async fn read_records(&self) -> Result<Vec<(IndexEntry, Records)>, ReadError> {
        let loaded = self.loaded();
        let mut entries = Vec::new();
        for entry in loaded.index.with_prefix(MANIFEST_PREFIX) {
            entries.extend(Some(entry?).filter(|entry| !entry.deleted));
        }
        let read = futures::stream::iter(entries)
            .map(|entry| async move {
                let content = entry.content;
                let what = || format!("read manifest content {content}");
                let bytes = self.content(&content).await.map_err(|source| ReadError::Content { what: what(), source });
                let records = bytes.and_then(|bytes| manifest::read_content(&content.to_string(), &bytes));
                (entry, records)
            })
            .buffer_unordered(READS_IN_FLIGHT);
        Ok(read.collect().await)
    }

    /// Every snapshot, ascending by start.
    ///
    /// # Errors
    /// When the store fails. Damage is in the [`Listing`].
    pub async fn snapshots(&self) -> Result<Listing, ReadError> {
        let (manifests, mut damage) = self.manifests().await?;
        damage.extend(
            self.damage().into_iter().map(|detail| ReadError::Damaged { what: "the index".to_owned(), detail }),
        );
        let wanted = BTreeMap::from([("type".to_owned(), snapshot::TYPE.to_owned())]);
        let mut snapshots = Vec::new();
        for found in manifest::with_labels(&manifests, &wanted) {
            match snapshot::read(found) {
                Ok(read) => snapshots.push(read),
                Err(error) => damage.push(error),
            }
        }
        snapshots.sort_by(|a, b| (a.start, a.end, &a.id).cmp(&(b.start, b.end, &b.id)));
        Ok(Listing { snapshots, damage })
    }

    /// The policy that holds for backups of `identity`.
    ///
    /// # Errors
    /// When the store fails, or a policy cannot be read or names something unknown here.
    pub async fn policy(&self, identity: &Identity) -> Result<Policy, ReadError> {
        Ok(self.policies(identity).await?.0)
    }

    /// The policy that holds for backups of `identity`, and those of directories below it by relative path, each of which
    /// holds for itself alone: Kopia does not merge them with anything.
    ///
    /// # Errors
    /// When the store fails, or a policy cannot be read or names something unknown here.
    pub async fn policies(&self, identity: &Identity) -> Result<(Policy, BTreeMap<String, Policy>), ReadError> {
        let (mut manifests, damage) = self.manifests().await?;
        if let Some(error) = damage.into_iter().next() {
            return Err(error);
        }
        manifests.sort_by_key(|found| found.modified);
        let mut documents: Vec<PolicyJson> = Vec::new();
        for labels in policy::labels_of_identity_chain(identity) {
            for found in manifest::with_labels(&manifests, &labels) {
                documents.push(policy_of(found)?);
            }
        }
        let resolve = |path: &str, document: &PolicyJson| {
            let what = || format!("policy of {identity}{path}");
            Policy::resolve(document).map_err(|error| ReadError::Damaged { what: what(), detail: error.to_string() })
        };
        let root = resolve("", &policy::effective(&documents))?;
        let mut below = BTreeMap::new();
        let mut labels = snapshot::identity_labels(identity);
        labels.insert("type".to_owned(), "policy".to_owned());
        labels.remove("path");
        let prefix = format!("{}/", identity.path.trim_end_matches('/'));
        for found in manifest::with_labels(&manifests, &labels) {
            let path = found.labels.get("path").and_then(|path| path.strip_prefix(&prefix));
            if let Some(path) = path.filter(|path| !path.is_empty()) {
                below.insert(path.to_owned(), resolve(path, &policy_of(found)?)?);
            }
        }
        Ok((root, below))
    }

    /// The zone in which retention counts weeks: the machine's.
    pub fn retention_zone(&self) -> TimeZone {
        TimeZone::system()
    }

    pub(crate) fn epoch_parameters(&self) -> &EpochParameters {
        &self.format.configuration.epoch_parameters
    }

    pub(crate) fn running(&self) -> &Running {
        &self.running
    }

    /// The epochs as the store has them now.
    pub(crate) async fn read_view(&self) -> Result<View, IndexError> {
        read_view(&*self.storage).await
    }
}

pub(crate) fn policy_of(found: &Manifest) -> Result<PolicyJson, ReadError> {
    serde_json::from_str(found.data.get())
        .map_err(|error| ReadError::Damaged { what: format!("policy {}", found.id), detail: error.to_string() })
}
