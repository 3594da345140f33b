//! One index file, versions 1 and 2, read in place.

use repository::{ContentId, PackId};

use super::{IndexEntry, Location};

/// Bytes that encryption adds to a content; version 1 tells lengths only with it.
const ENCRYPTION_OVERHEAD_BYTES: u32 = 28;
const DELETED_BIT: u32 = 0x8000_0000;

/// A table of contents, sorted by content id.
pub(crate) struct IndexFile {
    bytes: Vec<u8>,
    layout: Layout,
    /// Version 2 only: the pack table.
    packs: Vec<PackId>,
}

struct Layout {
    version: u8,
    key_bytes: usize,
    value_bytes: usize,
    entry_count: usize,
    entries_at: usize,
    /// Version 2 only, like all below.
    packs_at: usize,
    pack_count: usize,
    formats_at: usize,
    format_count: usize,
    base_timestamp: u64,
}

impl IndexFile {
    /// Takes the plaintext of an index blob. Bytes after the table are allowed.
    ///
    /// # Errors
    /// In words, when the table does not fit its bytes.
    pub(crate) fn parse(bytes: Vec<u8>) -> Result<Self, String> {
        let layout = match bytes.first() {
            Some(1) => Layout::parse_v1(&bytes)?,
            Some(2) => Layout::parse_v2(&bytes)?,
            Some(other) => return Err(format!("index version {other} is unknown")),
            None => return Err("it is empty".to_owned()),
        };
        let mut file = Self { bytes, layout, packs: Vec::new() };
        file.packs = (0..file.layout.pack_count).map(|at| file.pack_v2(at)).collect::<Result<_, _>>()?;
        Ok(file)
    }

    /// How many entries it holds.
    pub(crate) fn len(&self) -> usize {
        self.layout.entry_count
    }

    /// The binary id of entry `at`.
    pub(crate) fn key(&self, at: usize) -> &[u8] {
        let start = self.layout.entries_at + at * (self.layout.key_bytes + self.layout.value_bytes);
        &self.bytes[start..start + self.layout.key_bytes]
    }

    /// Entry `at`.
    ///
    /// # Errors
    /// In words, when it points outside the file's tables.
    pub(crate) fn entry(&self, at: usize) -> Result<IndexEntry, String> {
        let start = self.layout.entries_at + at * (self.layout.key_bytes + self.layout.value_bytes);
        let (key, rest) = self.bytes[start..].split_at(self.layout.key_bytes);
        let content = ContentId::from_key(key).map_err(|error| error.to_string())?;
        match self.layout.version {
            1 => self.entry_v1(content, &rest[..self.layout.value_bytes]),
            _ => self.entry_v2(content, &rest[..self.layout.value_bytes]),
        }
    }

    fn entry_v1(&self, content: ContentId, value: &[u8]) -> Result<IndexEntry, String> {
        let name = self.name(u32_at(value, 8) as usize, usize::from(value[7]))?;
        let offset_and_flag = u32_at(value, 12);
        let packed_bytes = u32_at(value, 16);
        let location = Location {
            pack: name,
            offset: offset_and_flag & !DELETED_BIT,
            packed_bytes,
            original_bytes: packed_bytes.saturating_sub(ENCRYPTION_OVERHEAD_BYTES),
            compression: 0,
            encryption_key: 0,
        };
        let timestamp_seconds = value[..6].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let deleted = offset_and_flag & DELETED_BIT != 0;
        Ok(IndexEntry { content, location, timestamp_seconds, deleted, format_version: value[6] })
    }

    fn entry_v2(&self, content: ContentId, value: &[u8]) -> Result<IndexEntry, String> {
        let extra = |at: usize| value.get(at).copied().unwrap_or(0);
        let pack_index = usize::from(u16_at(value, 14)) | usize::from(extra(17)) << 16;
        let format_index = usize::from(extra(16));
        let outside = || format!("the entry of content {content} points outside the tables");
        let pack = self.packs.get(pack_index).ok_or_else(outside)?;
        if format_index >= self.layout.format_count {
            return Err(outside());
        }
        let format_at = self.layout.formats_at + format_index * 6;
        let offset_and_flag = u32_at(value, 4);
        let location = Location {
            pack: pack.clone(),
            offset: offset_and_flag & !DELETED_BIT,
            packed_bytes: u24_at(value, 11) | u32::from(extra(18) & 0x0f) << 24,
            original_bytes: u24_at(value, 8) | u32::from(extra(18) >> 4) << 24,
            compression: u32_at(&self.bytes, format_at),
            encryption_key: self.bytes[format_at + 5],
        };
        Ok(IndexEntry {
            content,
            location,
            timestamp_seconds: self.layout.base_timestamp + u64::from(u32_at(value, 0)),
            deleted: offset_and_flag & DELETED_BIT != 0,
            format_version: self.bytes[format_at + 4],
        })
    }

    fn pack_v2(&self, at: usize) -> Result<PackId, String> {
        let pack_at = self.layout.packs_at + at * 5;
        self.name(u32_at(&self.bytes, pack_at + 1) as usize, usize::from(self.bytes[pack_at]))
    }

    fn name(&self, at: usize, length: usize) -> Result<PackId, String> {
        let bytes = at.checked_add(length).and_then(|end| self.bytes.get(at..end)).ok_or("a pack name is cut off")?;
        std::str::from_utf8(bytes).map(PackId::new).map_err(|_| "a pack name is no text".to_owned())
    }
}

impl Layout {
    fn parse_v1(bytes: &[u8]) -> Result<Self, String> {
        const HEADER_BYTES: usize = 8;
        /// Key length that marks a table built from nothing.
        const EMPTY: u8 = 255;
        if bytes.len() < HEADER_BYTES {
            return Err("its header is cut off".to_owned());
        }
        let entry_count = if bytes[1] == EMPTY { 0 } else { u32_at(bytes, 4) as usize };
        let value_bytes = usize::from(u16_at(bytes, 2));
        if entry_count > 0 && (bytes[1] <= 1 || value_bytes != 20) {
            return Err("its header makes no sense".to_owned());
        }
        let key_bytes = usize::from(bytes[1]);
        let fits = (key_bytes + value_bytes)
            .checked_mul(entry_count)
            .is_some_and(|entries| entries <= bytes.len() - HEADER_BYTES);
        if !fits {
            return Err("its entries are cut off".to_owned());
        }
        Ok(Self {
            version: 1,
            key_bytes,
            value_bytes,
            entry_count,
            entries_at: HEADER_BYTES,
            packs_at: 0,
            pack_count: 0,
            formats_at: 0,
            format_count: 0,
            base_timestamp: 0,
        })
    }

    fn parse_v2(bytes: &[u8]) -> Result<Self, String> {
        const HEADER_BYTES: usize = 17;
        if bytes.len() < HEADER_BYTES {
            return Err("its header is cut off".to_owned());
        }
        let key_bytes = usize::from(bytes[1]);
        let value_bytes = usize::from(u16_at(bytes, 2));
        if key_bytes <= 1 || !(16..=19).contains(&value_bytes) || key_bytes + value_bytes > 256 {
            return Err("its header makes no sense".to_owned());
        }
        let entry_count = u32_at(bytes, 4) as usize;
        let pack_count = u32_at(bytes, 8) as usize;
        let format_count = usize::from(bytes[12]);
        let packs_at = HEADER_BYTES + entry_count * (key_bytes + value_bytes);
        let formats_at = packs_at + pack_count * 5;
        if formats_at + format_count * 6 > bytes.len() {
            return Err("its tables are cut off".to_owned());
        }
        Ok(Self {
            version: 2,
            key_bytes,
            value_bytes,
            entry_count,
            entries_at: HEADER_BYTES,
            packs_at,
            pack_count,
            formats_at,
            format_count,
            base_timestamp: u64::from(u32_at(bytes, 13)),
        })
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn u24_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([0, bytes[at], bytes[at + 1], bytes[at + 2]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
