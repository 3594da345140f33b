//! Writing index files, byte for byte as Kopia does.

use std::collections::HashMap;

use codec::cipher::OVERHEAD_BYTES;
use repository::PackId;

use super::IndexEntry;

/// Above this a length needs the widest entries.
const LENGTH_LIMIT_NARROW_BYTES: u32 = 1 << 24;
/// More packs than this need wider entries.
const PACKS_NARROW_MAX: usize = 1 << 16;
const DELETED_BIT: u32 = 0x8000_0000;
const HEADER_BYTES: usize = 17;
const HEADER_V1_BYTES: usize = 8;
const VALUE_V1_BYTES: usize = 20;
/// Version 1 has 48 bits for a timestamp.
const TIMESTAMP_LIMIT_V1_SECONDS: u64 = 1 << 48;

/// The index file of `entries` in this version, 0 meaning 1; in version 2 where version 1 cannot say all of it, which every
/// program that knows version 2 reads beside it.
///
/// `entries` must be sorted by content id, not empty, and of one hash length.
pub(crate) fn write(version: u32, entries: &[IndexEntry]) -> Vec<u8> {
    if version < 2 && entries.iter().all(fits_v1) { write_v1(entries) } else { write_v2(entries) }
}

/// Version 1 tells neither compressors nor keys, and lengths only as what encryption makes of them.
fn fits_v1(entry: &IndexEntry) -> bool {
    let location = &entry.location;
    location.compression == 0
        && location.encryption_key == 0
        && location.original_bytes.checked_add(OVERHEAD_BYTES as u32) == Some(location.packed_bytes)
        && entry.timestamp_seconds < TIMESTAMP_LIMIT_V1_SECONDS
}

fn write_v1(entries: &[IndexEntry]) -> Vec<u8> {
    let key_bytes = entries.first().map_or(0, |entry| entry.content.key_length());
    let names_at = HEADER_V1_BYTES + entries.len() * (key_bytes + VALUE_V1_BYTES);
    let mut out = Vec::with_capacity(names_at + 64);
    let mut names = Vec::new();
    let mut name_at: HashMap<&PackId, usize> = HashMap::new();
    out.extend_from_slice(&[1, key_bytes as u8]);
    out.extend_from_slice(&(VALUE_V1_BYTES as u16).to_be_bytes());
    out.extend_from_slice(&(entries.len() as u32).to_be_bytes());
    for IndexEntry { content, location, timestamp_seconds, deleted, format_version } in entries {
        let name = location.pack.as_str();
        let at = *name_at.entry(&location.pack).or_insert_with(|| {
            let at = names_at + names.len();
            names.extend_from_slice(name.as_bytes());
            at
        });
        content.write_key(&mut out);
        out.extend_from_slice(&timestamp_seconds.to_be_bytes()[2..]);
        out.extend_from_slice(&[*format_version, name.len() as u8]);
        out.extend_from_slice(&(at as u32).to_be_bytes());
        out.extend_from_slice(&(location.offset | if *deleted { DELETED_BIT } else { 0 }).to_be_bytes());
        out.extend_from_slice(&location.packed_bytes.to_be_bytes());
    }
    out.extend_from_slice(&names);
    out
}

/// The index file of `entries` in version 2, as [`write`].
pub(crate) fn write_v2(entries: &[IndexEntry]) -> Vec<u8> {
    let tables = Tables::collect(entries);
    let key_bytes = entries.first().map_or(0, |entry| entry.content.key_length());
    let value_bytes = tables.value_bytes();
    let entries_bytes = entries.len() * (key_bytes + value_bytes);

    let mut out = Vec::with_capacity(HEADER_BYTES + entries_bytes + tables.packs.len() * 64);
    out.extend_from_slice(&[2, key_bytes as u8]);
    out.extend_from_slice(&(value_bytes as u16).to_be_bytes());
    out.extend_from_slice(&(entries.len() as u32).to_be_bytes());
    out.extend_from_slice(&(tables.packs.len() as u32).to_be_bytes());
    out.push(tables.formats.len() as u8);
    out.extend_from_slice(&0u32.to_be_bytes());
    for entry in entries {
        entry.content.write_key(&mut out);
        tables.write_value(entry, value_bytes, &mut out);
    }
    let names_at = HEADER_BYTES + entries_bytes + tables.packs.len() * 5 + tables.formats.len() * 6;
    tables.write(names_at, &mut out);
    out
}

/// Packs and formats in the order of their first use.
struct Tables {
    packs: Vec<PackId>,
    pack_index: HashMap<PackId, usize>,
    formats: Vec<Format>,
    longest_bytes: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Format {
    compression: u32,
    format_version: u8,
    encryption_key: u8,
}

impl Format {
    fn of(entry: &IndexEntry) -> Self {
        Self {
            compression: entry.location.compression,
            format_version: entry.format_version,
            encryption_key: entry.location.encryption_key,
        }
    }
}

impl Tables {
    fn collect(entries: &[IndexEntry]) -> Self {
        let mut tables = Self { packs: Vec::new(), pack_index: HashMap::new(), formats: Vec::new(), longest_bytes: 0 };
        for entry in entries {
            let location = &entry.location;
            tables.longest_bytes = tables.longest_bytes.max(location.original_bytes).max(location.packed_bytes);
            if !tables.pack_index.contains_key(&location.pack) {
                tables.pack_index.insert(location.pack.clone(), tables.packs.len());
                tables.packs.push(location.pack.clone());
            }
            let format = Format::of(entry);
            if !tables.formats.contains(&format) {
                tables.formats.push(format);
            }
        }
        tables
    }

    fn value_bytes(&self) -> usize {
        if self.longest_bytes >= LENGTH_LIMIT_NARROW_BYTES {
            19
        } else if self.packs.len() > PACKS_NARROW_MAX {
            18
        } else if self.formats.len() > 1 {
            17
        } else {
            16
        }
    }

    fn write_value(&self, entry: &IndexEntry, value_bytes: usize, out: &mut Vec<u8>) {
        let location = &entry.location;
        let pack = self.pack_index.get(&location.pack).copied().unwrap_or_default();
        let format = self.formats.iter().position(|known| *known == Format::of(entry)).unwrap_or_default();
        let deleted = if entry.deleted { DELETED_BIT } else { 0 };
        let mut value = [0; 19];
        value[..4].copy_from_slice(&(entry.timestamp_seconds as u32).to_be_bytes());
        value[4..8].copy_from_slice(&(location.offset | deleted).to_be_bytes());
        value[8..11].copy_from_slice(&location.original_bytes.to_be_bytes()[1..]);
        value[11..14].copy_from_slice(&location.packed_bytes.to_be_bytes()[1..]);
        value[14..16].copy_from_slice(&(pack as u16).to_be_bytes());
        value[16] = format as u8;
        value[17] = (pack >> 16) as u8;
        value[18] = ((location.original_bytes >> 24) << 4 | location.packed_bytes >> 24) as u8;
        out.extend_from_slice(&value[..value_bytes]);
    }

    fn write(&self, names_at: usize, out: &mut Vec<u8>) {
        let mut name_at = names_at;
        for pack in &self.packs {
            out.push(pack.as_str().len() as u8);
            out.extend_from_slice(&(name_at as u32).to_be_bytes());
            name_at += pack.as_str().len();
        }
        for format in &self.formats {
            out.extend_from_slice(&format.compression.to_be_bytes());
            out.extend_from_slice(&[format.format_version, format.encryption_key]);
        }
        self.packs.iter().for_each(|pack| out.extend_from_slice(pack.as_str().as_bytes()));
    }
}
