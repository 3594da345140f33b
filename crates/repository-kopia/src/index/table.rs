//! The merged index as a file.
//!
//! ```text
//! header    magic, version, lengths, counts, which index blobs it stands for, checksums
//! entries   sorted by content id, each its key and 27 bytes; see `record`
//! packs     names by number, of one length
//! resident  a checksum and the first key of every 64 entries, a checksum of every 64 packs, which packs are
//!           named by any entry, the filter: what is held in memory while the table is open, about two bytes an entry
//! ```
//! A table is written under another name, made durable, and put in place by renaming. It is a copy of what the store holds,
//! so one that is damaged or of another make is removed and built anew, and never trusted: every part has a checksum, and
//! entries are checked block by block when they are read. Integers are little-endian.

mod build;
mod cache;
mod filter;
mod packs;
mod place;
mod record;
mod rows;
mod sorted;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

pub(crate) use build::Builder;
pub(crate) use cache::{Places, TableSet};
pub(crate) use packs::{PackNames, PackTable};
pub(crate) use place::Scratch;
pub(crate) use record::Record;
pub(crate) use rows::{Body, Output};
pub(crate) use sorted::{KEY_BYTES_MAX, Sorted, SortedWriter};

use filter::Filter;
use record::VALUE_BYTES;
use rows::{BLOCK_ROWS, Rows};

const MAGIC: &[u8; 8] = b"prnindex";
/// Of this format. Another one is another program's, older or newer.
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 96;

/// Entries sorted by content id, and the packs that they name.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) entries: Sorted,
    pub(crate) packs: PackTable,
}

/// The numbers in a header.
struct Header {
    key_bytes: usize,
    count: usize,
    pack_row_bytes: usize,
    pack_count: usize,
    filter_bytes: usize,
    resident_checksum: u32,
    set: [u8; 32],
}

impl Header {
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&VERSION.to_le_bytes());
        for length in [self.key_bytes, VALUE_BYTES, self.pack_row_bytes] {
            out.extend_from_slice(&(length as u32).to_le_bytes());
        }
        for count in [self.count, self.pack_count, self.filter_bytes] {
            out.extend_from_slice(&(count as u64).to_le_bytes());
        }
        out.extend_from_slice(&self.resident_checksum.to_le_bytes());
        out.extend_from_slice(&self.set);
        out.resize(HEADER_BYTES - 4, 0);
        out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
        out
    }

    fn parse(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let u32_at = |at: usize| bytes[at..].first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
        let u64_at = |at: usize| bytes[at..].first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        let count_at = |at: usize| usize::try_from(u64_at(at)?).ok();
        let is_ours = bytes.starts_with(MAGIC)
            && u32_at(8)? == VERSION
            && u32_at(16)? as usize == VALUE_BYTES
            && u32_at(HEADER_BYTES - 4)? == crc32fast::hash(&bytes[..HEADER_BYTES - 4]);
        let header = Self {
            key_bytes: u32_at(12)? as usize,
            pack_row_bytes: u32_at(20)? as usize,
            count: count_at(24)?,
            pack_count: count_at(32)?,
            filter_bytes: count_at(40)?,
            resident_checksum: u32_at(48)?,
            set: *bytes[52..].first_chunk()?,
        };
        let makes_sense = (2..=KEY_BYTES_MAX).contains(&header.key_bytes) && (1..=256).contains(&header.pack_row_bytes);
        (is_ours && makes_sense).then_some(header)
    }

    fn entries_bytes(&self) -> Option<u64> {
        (self.count as u64).checked_mul((self.key_bytes + VALUE_BYTES) as u64)
    }

    fn packs_bytes(&self) -> Option<u64> {
        (self.pack_count as u64).checked_mul(self.pack_row_bytes as u64)
    }

    fn resident_bytes(&self) -> Option<u64> {
        let fences = self.count.div_ceil(BLOCK_ROWS).checked_mul(4 + self.key_bytes)?;
        let packs = self.pack_count.div_ceil(BLOCK_ROWS).checked_mul(4)?.checked_add(self.pack_count.div_ceil(8))?;
        Some(fences.checked_add(packs)?.checked_add(self.filter_bytes)? as u64)
    }
}

impl Table {
    /// Writes what is behind entries and packs, then the header before them.
    fn write_rest(&self, set: &TableSet, file: &File) -> io::Result<()> {
        let mut resident = Vec::new();
        let checksums = |rows: &Rows, out: &mut Vec<u8>| {
            rows.checksums.iter().for_each(|checksum| out.extend_from_slice(&checksum.to_le_bytes()));
        };
        checksums(&self.entries.rows, &mut resident);
        resident.extend_from_slice(&self.entries.fences);
        checksums(&self.packs.rows, &mut resident);
        resident.extend_from_slice(&self.packs.named);
        let filter = self.entries.filter.as_ref();
        filter.into_iter().for_each(|filter| resident.extend(filter.to_bytes()));
        let header = Header {
            key_bytes: self.entries.key_bytes,
            count: self.entries.len(),
            pack_row_bytes: self.packs.rows.row_bytes,
            pack_count: self.packs.rows.len(),
            filter_bytes: filter.map_or(0, Filter::size_bytes),
            resident_checksum: crc32fast::hash(&resident),
            set: set.0,
        };
        let end = self.packs.rows.at + header.packs_bytes().unwrap_or_default();
        file.write_all_at(&resident, end)?;
        file.write_all_at(&header.to_bytes(), 0)
    }

    /// Opens a table; none if the file is not one, not whole, or stands for another set.
    fn open(file: File, set: &TableSet) -> io::Result<Option<Self>> {
        let file_bytes = file.metadata()?.len();
        if file_bytes < HEADER_BYTES as u64 {
            return Ok(None);
        }
        let mut header = [0; HEADER_BYTES];
        file.read_exact_at(&mut header, 0)?;
        let Some(header) = Header::parse(&header).filter(|header| header.set == set.0) else { return Ok(None) };
        let sections = (header.entries_bytes(), header.packs_bytes(), header.resident_bytes());
        let (Some(entries_bytes), Some(packs_bytes), Some(resident_bytes)) = sections else { return Ok(None) };
        let packs_at = (HEADER_BYTES as u64).saturating_add(entries_bytes);
        let resident_at = packs_at.saturating_add(packs_bytes);
        if resident_at.saturating_add(resident_bytes) != file_bytes {
            return Ok(None);
        }
        let mut resident = vec![0; resident_bytes as usize];
        file.read_exact_at(&mut resident, resident_at)?;
        if crc32fast::hash(&resident) != header.resident_checksum {
            return Ok(None);
        }
        Ok(Self::from_parts(&header, Body::File(Arc::new(file)), packs_at, &resident))
    }

    fn from_parts(header: &Header, body: Body, packs_at: u64, mut resident: &[u8]) -> Option<Self> {
        let mut take = |bytes: usize| {
            let (taken, rest) = resident.split_at_checked(bytes)?;
            resident = rest;
            Some(taken)
        };
        let checksums =
            |bytes: &[u8]| Arc::new(bytes.as_chunks().0.iter().map(|sum| u32::from_le_bytes(*sum)).collect());
        let blocks = header.count.div_ceil(BLOCK_ROWS);
        let rows = Rows {
            body: body.clone(),
            at: HEADER_BYTES as u64,
            count: header.count,
            row_bytes: header.key_bytes + VALUE_BYTES,
            checksums: checksums(take(blocks * 4)?),
        };
        let fences = take(blocks * header.key_bytes)?.to_vec();
        let packs = Rows {
            body,
            at: packs_at,
            count: header.pack_count,
            row_bytes: header.pack_row_bytes,
            checksums: checksums(take(header.pack_count.div_ceil(BLOCK_ROWS) * 4)?),
        };
        let named = take(header.pack_count.div_ceil(8))?.to_vec();
        let filter = Some(Filter::from_bytes(take(header.filter_bytes)?)?);
        let entries = Sorted { rows, key_bytes: header.key_bytes, fences, filter };
        entries.has_sorted_blocks().then(|| Self { entries, packs: PackTable::new(packs, named) })
    }
}

#[cfg(test)]
mod tests;
