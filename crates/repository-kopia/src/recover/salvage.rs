//! Entries that no index lists any more, found again in the packs.
//!
//! Every pack ends with an index of its own. What a lost or unreadable index blob listed can be read there, with three
//! exceptions that decide what is taken back:
//! - packs of sessions that have not ended are left alone: their index is still to come;
//! - what was marked deleted before the deletion watermark was dropped on purpose. An entry older than the watermark is taken
//!   back only if a snapshot needs it, if index blobs are known to be lost, or if somebody asks for it;
//! - an entry that the index has wins, unless its bytes are proven wrong: then another copy of the same content is looked for.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use futures::{StreamExt as _, TryStreamExt as _};
use jiff::SignedDuration;
use repository::{ContentId, PackId};
use storage::{ErrorKind, Object, ObjectKey};

use crate::blob::{self, session_of};
use crate::error::{ContentError, IndexError, WriteError};
use crate::index::{IndexEntry, IndexFile, newer};
use crate::pack::{Postamble, is_pack_name};
use crate::repository::Repository;

/// A postamble with the longest hash is shorter, in bytes.
const TAIL_BYTES: u64 = 8192;
/// Packs looked into at the same time.
const READS_IN_FLIGHT: usize = 16;
/// A session whose marker is older has ended, however it ended. Kopia's own limit.
const SESSION_EXPIRES_AFTER: SignedDuration = SignedDuration::from_hours(96);

/// What to look for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Search<'a> {
    /// Contents that a snapshot needs and no index lists.
    pub needed: Option<&'a BTreeSet<ContentId>>,
    /// Entries whose bytes are proven wrong or gone: other copies are looked for.
    pub gone: Option<&'a BTreeMap<ContentId, IndexEntry>>,
    /// Take back, too, what may have been dropped on purpose.
    pub include_dropped: bool,
}

/// An index blob that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadableIndex {
    /// Its name.
    pub blob: String,
    /// What is wrong with it.
    pub detail: String,
    /// Why it must stay where it is, if it must.
    pub stays: Option<String>,
}

/// A pack whose contents come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SalvagedPack {
    /// Which.
    pub pack: PackId,
    /// How many of its contents no index listed.
    pub content_count: u64,
}

/// What can be taken back.
#[derive(Debug, Default)]
pub struct Salvage {
    /// Index blobs that cannot be read.
    pub unreadable: Vec<UnreadableIndex>,
    /// Signs that index blobs are gone.
    pub signs: Vec<String>,
    /// Packs with contents that no index lists, sorted.
    pub packs: Vec<SalvagedPack>,
    /// Contents whose bytes were wrong where the index looked, and that lie whole in another pack.
    pub copies: Vec<ContentId>,
    /// Contents that no index lists and that are taken for dropped on purpose.
    pub dropped_count: u64,
    /// Packs that no index names and whose own index does not open: what they hold is unknown.
    pub blind_packs: Vec<PackId>,
    /// Packs of sessions that have not ended.
    pub unfinished_pack_count: u64,
    /// What must be published, sorted by content.
    pub(super) entries: Vec<IndexEntry>,
}

impl Salvage {
    /// How many entries are to be published.
    pub fn entry_count(&self) -> usize {
        self.entries.len()
    }
}

struct Packs {
    bytes: HashMap<PackId, u64>,
    /// Sessions that may be running.
    open_sessions: HashSet<String>,
    /// Sessions that were killed long ago. Their packs are garbage as long as nothing else is wrong.
    killed_sessions: HashSet<String>,
}

impl Packs {
    fn is_open(&self, name: &str) -> bool {
        session_of(name).is_some_and(|session| self.open_sessions.contains(session))
    }

    fn is_unfinished(&self, name: &str) -> bool {
        self.is_open(name) || session_of(name).is_some_and(|session| self.killed_sessions.contains(session))
    }

    fn holds(&self, entry: &IndexEntry) -> bool {
        self.bytes.get(&entry.location.pack).is_some_and(|bytes| entry.location.end() <= *bytes)
    }
}

/// What the packs say, as far as the index does not say it.
#[derive(Default)]
struct Gathered {
    unlisted: HashMap<ContentId, IndexEntry>,
    copies: HashMap<ContentId, Vec<IndexEntry>>,
    blind: BTreeSet<PackId>,
}

impl Repository {
    /// Looks for what can be taken back. Changes nothing.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn salvage(&self, search: Search<'_>) -> Result<Salvage, WriteError> {
        let mut packs = self.list_packs_and_sessions().await?;
        let loaded = self.loaded();
        let listed: HashSet<PackId> = loaded.index.packs().collect::<Result<_, _>>()?;
        let unreadable = self.unreadable(&packs);
        let mut signs = loaded.view.signs_of_loss(&|blob| packs.is_unfinished(blob));
        if loaded.blob_count == 0 && !packs.bytes.is_empty() {
            signs.push("there are packs and no index blob".to_owned());
        }
        let is_loss_known = !unreadable.is_empty() || !signs.is_empty();
        if is_loss_known {
            packs.killed_sessions.clear();
        }
        let has_wishes =
            search.needed.is_some_and(|needed| !needed.is_empty()) || search.gone.is_some_and(|gone| !gone.is_empty());
        let mut salvage = Salvage { unreadable, signs, ..Salvage::default() };
        let mut wanted = Vec::new();
        for (pack, bytes) in &packs.bytes {
            if packs.is_unfinished(pack.as_str()) {
                salvage.unfinished_pack_count += u64::from(!listed.contains(pack));
            } else if is_loss_known || has_wishes || !listed.contains(pack) {
                wanted.push((pack.clone(), *bytes));
            }
        }
        let mut gathered = self.gather(wanted, &packs, search).await?;
        if is_loss_known {
            self.gather_inactive(&packs, &mut gathered).await?;
        }
        gathered.blind.retain(|pack| !listed.contains(pack));
        let mut entries = self.carried_over(&salvage.unreadable).await?;
        self.choose(gathered.unlisted, search, is_loss_known, &mut entries, &mut salvage).await?;
        self.choose_copies(gathered.copies, search, &mut entries, &mut salvage).await?;
        salvage.blind_packs = gathered.blind.into_iter().collect();
        for unreadable in salvage.unreadable.iter_mut().filter(|unreadable| unreadable.stays.is_none()) {
            unreadable.stays = reason_to_stay(&unreadable.blob, &salvage.blind_packs);
        }
        salvage.entries = entries.into_values().collect();
        Ok(salvage)
    }

    async fn list_packs_and_sessions(&self) -> Result<Packs, WriteError> {
        let failed = |source| WriteError::Storage { operation: "list packs and sessions".to_owned(), source };
        let mut packs = Packs { bytes: HashMap::new(), open_sessions: HashSet::new(), killed_sessions: HashSet::new() };
        // Sessions first: one that ends meanwhile counts as open, and its packs are left alone.
        let markers: Vec<Object> = self.storage().list("s").try_collect().await.map_err(failed)?;
        let now = self.clock().now();
        for marker in markers {
            let is_young = now.duration_since(marker.modified) < SESSION_EXPIRES_AFTER;
            let sessions = if is_young { &mut packs.open_sessions } else { &mut packs.killed_sessions };
            sessions.extend(session_of(marker.key.as_str()).map(str::to_owned));
        }
        for prefix in ["p", "q"] {
            let mut listing = self.storage().list(prefix);
            while let Some(object) = listing.try_next().await.map_err(failed)? {
                if !is_pack_name(object.key.as_str()) {
                    continue;
                }
                packs.bytes.insert(PackId::new(object.key.as_str()), object.size_bytes);
            }
        }
        Ok(packs)
    }

    fn unreadable(&self, packs: &Packs) -> Vec<UnreadableIndex> {
        let loaded = self.loaded();
        let damaged = loaded.damage.iter().filter_map(|error| match error {
            IndexError::Damaged { blob, detail } | IndexError::DamagedLog { blob, detail } => {
                Some((blob.clone(), detail.clone()))
            }
            IndexError::Storage { .. } | IndexError::Vanishing { .. } | IndexError::Table { .. } => None,
        });
        let mut unreadable: Vec<UnreadableIndex> = damaged
            .map(|(blob, detail)| {
                let stays = packs.is_open(&blob).then(|| "the session that wrote it has not ended".to_owned());
                UnreadableIndex { blob, detail, stays }
            })
            .collect();
        unreadable.sort_by(|a, b| a.blob.cmp(&b.blob));
        unreadable
    }

    /// Entries that are read now and would not be once the unreadable blobs are out of the way: a set of which one blob is
    /// missing does not count, and neither do its others then.
    async fn carried_over(
        &self,
        unreadable: &[UnreadableIndex],
    ) -> Result<BTreeMap<ContentId, IndexEntry>, WriteError> {
        let mut carried = BTreeMap::new();
        if unreadable.is_empty() {
            return Ok(carried);
        }
        let without: HashSet<ObjectKey> = unreadable.iter().map(|blob| ObjectKey::new(blob.blob.as_str())).collect();
        let after = self.load_without(&without).await?;
        let loaded = self.loaded();
        for entry in loaded.index.iter() {
            let entry = entry?;
            if after.index.find(&entry.content)?.as_ref() != Some(&entry) {
                carried.insert(entry.content, entry);
            }
        }
        Ok(carried)
    }

    async fn gather(
        &self,
        wanted: Vec<(PackId, u64)>,
        packs: &Packs,
        search: Search<'_>,
    ) -> Result<Gathered, WriteError> {
        let loaded = self.loaded();
        let mut gathered = Gathered::default();
        let mut reads = futures::stream::iter(wanted)
            .map(|(pack, bytes)| async move { (self.own_index_of_pack(&pack, bytes).await, pack) })
            .buffer_unordered(READS_IN_FLIGHT);
        while let Some((own, pack)) = reads.next().await {
            let Some(entries) = own? else {
                gathered.blind.insert(pack);
                continue;
            };
            for entry in entries {
                match loaded.index.find(&entry.content)? {
                    None if entry.deleted || packs.holds(&entry) => note(&mut gathered.unlisted, entry),
                    Some(known) if is_copy(&known, &entry, packs, search) => {
                        gathered.copies.entry(entry.content).or_default().push(entry);
                    }
                    None | Some(_) => {}
                }
            }
        }
        Ok(gathered)
    }

    /// Whether the own index of any pack opens: then the keys belong to this place.
    pub(crate) async fn any_pack_opens(&self) -> Result<bool, IndexError> {
        let failed = |source| IndexError::Storage { operation: "list packs".to_owned(), source };
        for prefix in ["q", "p"] {
            let mut listing = self.storage().list(prefix);
            while let Some(object) = listing.try_next().await.map_err(failed)? {
                let pack = PackId::new(object.key.as_str());
                if self.own_index_of_pack(&pack, object.size_bytes).await.is_ok_and(|own| own.is_some()) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// What a pack says of itself; nothing when its end is no index.
    async fn own_index_of_pack(&self, pack: &PackId, bytes: u64) -> Result<Option<Vec<IndexEntry>>, WriteError> {
        let key = ObjectKey::new(pack.as_str());
        let read = async |offset, length| match self.storage().get_range(&key, offset, length).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::Truncated) => Ok(None),
            Err(source) => Err(WriteError::Storage { operation: format!("read the end of pack {pack}"), source }),
        };
        let tail_bytes = bytes.min(TAIL_BYTES);
        let Some(tail) = read(bytes - tail_bytes, tail_bytes).await? else { return Ok(None) };
        let Some(postamble) = Postamble::find(&tail) else { return Ok(None) };
        if postamble.offset.checked_add(postamble.length_bytes).is_none_or(|end| end > bytes) {
            return Ok(None);
        }
        let Some(sealed) = read(postamble.offset, postamble.length_bytes).await? else { return Ok(None) };
        Ok(postamble.open_index(self.crypto(), &mut Vec::from(sealed)).ok())
    }

    /// Index blobs that are in the store and do not count: of sets that are not complete, or beyond the current epoch.
    async fn gather_inactive(&self, packs: &Packs, gathered: &mut Gathered) -> Result<(), WriteError> {
        let loaded = self.loaded();
        for key in loaded.view.inactive() {
            let sealed = match self.storage().get(&key).await {
                Ok(sealed) => sealed,
                Err(error) if error.kind == ErrorKind::NotFound => continue,
                Err(source) => {
                    return Err(WriteError::Storage { operation: format!("read index blob {key}"), source });
                }
            };
            let file = blob::open(self.crypto(), key.as_str(), Vec::from(sealed)).and_then(IndexFile::parse);
            let Ok(file) = file else { continue };
            for entry in (0..file.len()).filter_map(|at| file.entry(at).ok()) {
                let is_unlisted = loaded.index.find(&entry.content)?.is_none();
                if is_unlisted && (entry.deleted || packs.holds(&entry)) {
                    note(&mut gathered.unlisted, entry);
                }
            }
        }
        Ok(())
    }

    async fn choose(
        &self,
        unlisted: HashMap<ContentId, IndexEntry>,
        search: Search<'_>,
        is_loss_known: bool,
        entries: &mut BTreeMap<ContentId, IndexEntry>,
        salvage: &mut Salvage,
    ) -> Result<(), WriteError> {
        let dropped_until = self.loaded().view.deletion_watermark_seconds;
        let mut counts: BTreeMap<PackId, u64> = BTreeMap::new();
        for (content, mut entry) in unlisted {
            if let Some(dropped) = dropped_until.filter(|dropped| entry.timestamp_seconds <= *dropped) {
                // What was dropped because it was damaged must not come back.
                let is_needed =
                    search.needed.is_some_and(|needed| needed.contains(&content)) && self.opens(&entry).await?;
                if entry.deleted || !(is_needed || is_loss_known || search.include_dropped) {
                    salvage.dropped_count += 1;
                    continue;
                }
                // Newer than any deletion that the watermark hides.
                entry.timestamp_seconds = dropped + 1;
            }
            if !entry.deleted {
                *counts.entry(entry.location.pack.clone()).or_default() += 1;
            }
            entries.insert(content, entry);
        }
        salvage.packs = counts.into_iter().map(|(pack, content_count)| SalvagedPack { pack, content_count }).collect();
        Ok(())
    }

    /// Of the copies of a content the first that opens.
    async fn choose_copies(
        &self,
        copies: HashMap<ContentId, Vec<IndexEntry>>,
        search: Search<'_>,
        entries: &mut BTreeMap<ContentId, IndexEntry>,
        salvage: &mut Salvage,
    ) -> Result<(), WriteError> {
        for (content, candidates) in copies {
            let Some(gone) = search.gone.and_then(|gone| gone.get(&content)) else { continue };
            for mut candidate in candidates {
                if !self.opens(&candidate).await? {
                    continue;
                }
                candidate.timestamp_seconds = gone.timestamp_seconds + 1;
                candidate.deleted = false;
                entries.insert(content, candidate);
                salvage.copies.push(content);
                break;
            }
        }
        salvage.copies.sort();
        Ok(())
    }

    /// Whether a content is where an entry says; unknown is an error.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn opens(&self, entry: &IndexEntry) -> Result<bool, WriteError> {
        let location = &entry.location;
        let (offset, length_bytes) = (u64::from(location.offset), u64::from(location.packed_bytes));
        match self.storage().get_range(&ObjectKey::new(location.pack.as_str()), offset, length_bytes).await {
            Ok(sealed) => match self.unseal(&entry.content, location, &mut Vec::from(sealed)) {
                Ok(_) => Ok(true),
                Err(ContentError::Damaged { .. }) => Ok(false),
                // Something newer than this program is no proof of damage.
                Err(
                    ContentError::Unsupported { .. }
                    | ContentError::Unknown { .. }
                    | ContentError::Read { .. }
                    | ContentError::LookUp { .. },
                ) => Ok(true),
            },
            Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::Truncated) => Ok(false),
            Err(source) => {
                let operation = format!("read content {} from pack {}", entry.content, location.pack);
                Err(WriteError::Storage { operation, source })
            }
        }
    }
}

fn note(unlisted: &mut HashMap<ContentId, IndexEntry>, entry: IndexEntry) {
    match unlisted.remove(&entry.content) {
        Some(known) => unlisted.insert(entry.content, newer(known, entry)),
        None => unlisted.insert(entry.content, entry),
    };
}

fn is_copy(known: &IndexEntry, entry: &IndexEntry, packs: &Packs, search: Search<'_>) -> bool {
    let is_gone = search.gone.is_some_and(|gone| gone.contains_key(&entry.content));
    is_gone && !entry.deleted && entry.location != known.location && packs.holds(entry)
}

/// An unreadable index blob may have listed a pack that says nothing of itself.
fn reason_to_stay(blob: &str, blind: &[PackId]) -> Option<String> {
    // A compaction may list any pack; a flush lists those of its session.
    let is_flush = !blob.starts_with("xs") && !blob.starts_with("xr") && session_of(blob).is_some();
    let session = session_of(blob);
    let suspect = blind.iter().find(|pack| !is_flush || session_of(pack.as_str()) == session)?;
    Some(format!(
        "it may be the only one that lists what pack {suspect} holds, and that pack's own index does not open"
    ))
}
