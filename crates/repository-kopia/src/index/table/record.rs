//! One entry of a table: the key, then 27 bytes.
//!
//! Number of the pack, offset, packed length, original length, Unix seconds, compressor: four bytes each, big-endian. Then a
//! byte each for encryption key, format version, and whether it is deleted.

use repository::{ContentId, PackId};

use crate::index::{IndexEntry, Location};

/// Length of an entry after its key, in bytes.
pub(crate) const VALUE_BYTES: usize = 27;

/// Appends an entry whose pack has this number.
pub(crate) fn write(entry: &IndexEntry, pack: u32, out: &mut Vec<u8>) {
    let location = &entry.location;
    // Index files of version 1 have six bytes for it; none of that is in use before 2106.
    let timestamp = u32::try_from(entry.timestamp_seconds).unwrap_or(u32::MAX);
    entry.content.write_key(out);
    for number in
        [pack, location.offset, location.packed_bytes, location.original_bytes, timestamp, location.compression]
    {
        out.extend_from_slice(&number.to_be_bytes());
    }
    out.extend_from_slice(&[location.encryption_key, entry.format_version, u8::from(entry.deleted)]);
}

/// An entry where it lies.
#[derive(Clone, Copy)]
pub(crate) struct Record<'a> {
    key: &'a [u8],
    value: &'a [u8],
}

impl<'a> Record<'a> {
    pub(crate) fn new(row: &'a [u8]) -> Self {
        let (key, value) = row.split_at(row.len() - VALUE_BYTES);
        Self { key, value }
    }

    fn number(&self, at: usize) -> u32 {
        self.value[at..].first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
    }

    pub(crate) fn pack(&self) -> u32 {
        self.number(0)
    }

    /// Where the sealed content ends in its pack, in bytes.
    pub(crate) fn end(&self) -> u64 {
        u64::from(self.number(4)) + u64::from(self.number(8))
    }

    pub(crate) fn timestamp_seconds(&self) -> u32 {
        self.number(16)
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.value[26] != 0
    }

    /// The whole entry; none if its key is no content id, which no writer makes.
    pub(crate) fn entry(&self, pack: PackId) -> Option<IndexEntry> {
        Some(IndexEntry {
            content: ContentId::from_key(self.key).ok()?,
            location: Location {
                pack,
                offset: self.number(4),
                packed_bytes: self.number(8),
                original_bytes: self.number(12),
                compression: self.number(20),
                encryption_key: self.value[24],
            },
            timestamp_seconds: u64::from(self.timestamp_seconds()),
            deleted: self.is_deleted(),
            format_version: self.value[25],
        })
    }
}
