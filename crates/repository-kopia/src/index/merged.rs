//! All active index blobs as one table.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashMap};

use repository::{ContentId, PackId};

use super::{IndexEntry, IndexFile, Location};
use crate::error::IndexError;

/// Length of a record after its key, in bytes.
const VALUE_BYTES: usize = 27;

/// The effective entry of every content, over all index blobs.
///
/// Of several entries for one content the one with the greatest timestamp counts; at equal timestamps one that is not
/// deleted; then the one in the pack of the greater name. A deleted entry not newer than the deletion watermark does not
/// exist at all.
///
/// Records lie sorted in one allocation: 44 bytes a content for hashes of 16 bytes.
pub struct MergedIndex {
    records: Vec<u8>,
    key_bytes: usize,
    packs: Vec<PackId>,
}

impl MergedIndex {
    /// Merges `files`; deleted entries with a timestamp up to `watermark_seconds` are dropped.
    ///
    /// # Errors
    /// In words, when an entry makes no sense or the hashes differ in length.
    pub(crate) fn merge(files: &[IndexFile], watermark_seconds: Option<u64>) -> Result<Self, String> {
        let files: Vec<&IndexFile> = files.iter().filter(|file| file.len() > 0).collect();
        let key_bytes = files.first().map_or(0, |file| file.key(0).len());
        if files.iter().any(|file| file.key(0).len() != key_bytes) {
            return Err("its content ids are not as long as those of other index blobs".to_owned());
        }
        let mut merged = Self { records: Vec::new(), key_bytes, packs: Vec::new() };
        let mut pack_index = HashMap::new();
        let mut heads: BinaryHeap<Reverse<(&[u8], usize, usize)>> =
            files.iter().enumerate().map(|(file, index)| Reverse((index.key(0), file, 0))).collect();
        let mut best: Option<IndexEntry> = None;
        while let Some(Reverse((_, file, at))) = heads.pop() {
            if at + 1 < files[file].len() {
                heads.push(Reverse((files[file].key(at + 1), file, at + 1)));
            }
            let entry = files[file].entry(at)?;
            best = Some(match best.take() {
                Some(best) if best.content == entry.content => newer(best, entry),
                Some(best) => {
                    merged.keep(&best, watermark_seconds, &mut pack_index);
                    entry
                }
                None => entry,
            });
        }
        if let Some(best) = best {
            merged.keep(&best, watermark_seconds, &mut pack_index);
        }
        merged.records.shrink_to_fit();
        Ok(merged)
    }

    fn keep(&mut self, entry: &IndexEntry, watermark: Option<u64>, pack_index: &mut HashMap<PackId, u32>) {
        if entry.deleted && watermark.is_some_and(|watermark| entry.timestamp_seconds <= watermark) {
            return;
        }
        let location = &entry.location;
        let pack = *pack_index.entry(location.pack.clone()).or_insert_with(|| {
            self.packs.push(location.pack.clone());
            self.packs.len() as u32 - 1
        });
        entry.content.write_key(&mut self.records);
        for number in
            [pack, location.offset, location.packed_bytes, location.original_bytes, entry.timestamp_seconds as u32]
        {
            self.records.extend_from_slice(&number.to_be_bytes());
        }
        self.records.extend_from_slice(&location.compression.to_be_bytes());
        self.records.extend_from_slice(&[location.encryption_key, entry.format_version, u8::from(entry.deleted)]);
    }

    /// How many contents it knows, deleted ones included.
    pub fn len(&self) -> usize {
        self.records.len() / (self.key_bytes + VALUE_BYTES)
    }

    /// True when it knows none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Every pack that any entry names.
    pub fn packs(&self) -> &[PackId] {
        &self.packs
    }

    /// What is known of a content; of a deleted one too.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn find(&self, content: &ContentId) -> Result<Option<IndexEntry>, IndexError> {
        self.position(content)?.map(|at| self.entry(at)).transpose()
    }

    /// Which entry is that of a content: below [`MergedIndex::len`], the same as long as this table lives.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn position(&self, content: &ContentId) -> Result<Option<usize>, IndexError> {
        if content.key_length() != self.key_bytes {
            return Ok(None);
        }
        let mut key = Vec::with_capacity(self.key_bytes);
        content.write_key(&mut key);
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.key(middle).cmp(&key) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return Ok(Some(middle)),
            }
        }
        Ok(None)
    }

    /// All entries, sorted by content id. The number of an entry is its position.
    pub fn iter(&self) -> impl Iterator<Item = Result<IndexEntry, IndexError>> + '_ {
        (0..self.len()).map(|at| self.entry(at))
    }

    /// All entries whose content has this prefix letter.
    pub fn with_prefix(&self, prefix: u8) -> impl Iterator<Item = Result<IndexEntry, IndexError>> + '_ {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.key(middle)[0] < prefix { low = middle + 1 } else { high = middle }
        }
        (low..self.len())
            .map(|at| self.entry(at))
            .take_while(move |entry| entry.as_ref().map_or(true, |entry| entry.content.prefix() == prefix))
    }

    fn key(&self, at: usize) -> &[u8] {
        let start = at * (self.key_bytes + VALUE_BYTES);
        &self.records[start..start + self.key_bytes]
    }

    /// The entry at a position.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn entry(&self, at: usize) -> Result<IndexEntry, IndexError> {
        let start = at * (self.key_bytes + VALUE_BYTES);
        let (key, value) = self.records[start..start + self.key_bytes + VALUE_BYTES].split_at(self.key_bytes);
        let number = |at: usize| u32::from_be_bytes([value[at], value[at + 1], value[at + 2], value[at + 3]]);
        Ok(IndexEntry {
            content: ContentId::from_key(key).expect("only keys of valid ids were written"),
            location: Location {
                pack: self.packs[number(0) as usize].clone(),
                offset: number(4),
                packed_bytes: number(8),
                original_bytes: number(12),
                compression: number(20),
                encryption_key: value[24],
            },
            timestamp_seconds: u64::from(number(16)),
            deleted: value[26] != 0,
            format_version: value[25],
        })
    }
}

/// The entry that counts of two for one content.
fn newer(a: IndexEntry, b: IndexEntry) -> IndexEntry {
    if a.rank() >= b.rank() { a } else { b }
}
