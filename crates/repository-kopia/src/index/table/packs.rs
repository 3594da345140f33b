//! The names of packs, by number.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::sync::{Mutex, PoisonError};

use repository::PackId;

use super::rows::{Output, Rows, RowsWriter};

/// Names kept in memory: those of packs whose contents lie next to each other in time are asked for together.
const NAMES_KEPT: usize = 1024;

/// Names while a table is built: some 90 bytes a pack.
#[derive(Default)]
pub(crate) struct PackNames {
    text: Vec<u8>,
    ends: Vec<usize>,
    /// A name's number by its hash, or by the next number that is free.
    numbers: HashMap<u64, u32>,
    hasher: RandomState,
    longest_bytes: usize,
}

impl PackNames {
    /// The number of a pack, a new one if need be.
    pub(crate) fn number(&mut self, pack: &PackId) -> u32 {
        let name = pack.as_str().as_bytes();
        let mut hash = self.hasher.hash_one(name);
        while let Some(number) = self.numbers.get(&hash) {
            if self.name(*number) == name {
                return *number;
            }
            hash = hash.wrapping_add(1);
        }
        let number = self.ends.len() as u32;
        self.numbers.insert(hash, number);
        self.text.extend_from_slice(name);
        self.ends.push(self.text.len());
        self.longest_bytes = self.longest_bytes.max(name.len());
        number
    }

    pub(crate) fn name(&self, number: u32) -> &[u8] {
        let at = number as usize;
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[at]]
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Writes the names as rows: a byte that tells the length, the name, zeros.
    pub(crate) fn write(&self, out: &mut Output) -> io::Result<RowsWriter> {
        let row_bytes = 1 + self.longest_bytes;
        let mut rows = RowsWriter::new(out, row_bytes);
        let mut row = Vec::with_capacity(row_bytes);
        for number in 0..self.len() {
            let name = self.name(number as u32);
            row.clear();
            row.push(name.len() as u8);
            row.extend_from_slice(name);
            row.resize(row_bytes, 0);
            rows.push(out, &row)?;
        }
        Ok(rows)
    }
}

/// Names of a table. Memory: one bit a pack, and the names that were used last.
#[derive(Debug)]
pub(crate) struct PackTable {
    pub(super) rows: Rows,
    /// One bit a pack: some entry names it.
    pub(super) named: Vec<u8>,
    kept: Mutex<Vec<Option<(u32, PackId)>>>,
}

impl PackTable {
    pub(crate) fn new(rows: Rows, named: Vec<u8>) -> Self {
        Self { rows, named, kept: Mutex::new(vec![None; NAMES_KEPT]) }
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// True when any entry names this pack.
    pub(crate) fn is_named(&self, number: usize) -> bool {
        self.named.get(number / 8).is_some_and(|bits| bits >> (number % 8) & 1 == 1)
    }

    /// The name of a pack.
    pub(crate) fn name(&self, number: u32) -> io::Result<PackId> {
        let place = number as usize % NAMES_KEPT;
        if let Some((_, name)) = self.kept()[place].as_ref().filter(|(kept, _)| *kept == number) {
            return Ok(name.clone());
        }
        let name = self.read(number as usize)?;
        self.kept()[place] = Some((number, name.clone()));
        Ok(name)
    }

    fn read(&self, number: usize) -> io::Result<PackId> {
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, "a pack has no name");
        if number >= self.len() {
            return Err(wrong());
        }
        let mut scratch = Vec::new();
        name_of(self.rows.row(number, &mut scratch)?).ok_or_else(wrong)
    }

    /// The names of packs that are named by any entry, each with its number.
    pub(crate) fn named(&self) -> impl Iterator<Item = io::Result<(u32, PackId)>> + '_ {
        let mut cursor = self.rows.cursor(0, 16);
        (0..self.len()).filter_map(move |number| {
            let row = match cursor.next() {
                Ok(row) => row.and_then(name_of),
                Err(error) => return Some(Err(error)),
            };
            let wrong = || io::Error::new(io::ErrorKind::InvalidData, "a pack has no name");
            self.is_named(number).then(|| row.map(|name| (number as u32, name)).ok_or_else(wrong))
        })
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Vec<Option<(u32, PackId)>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name_of(row: &[u8]) -> Option<PackId> {
    let (length, name) = row.split_first()?;
    std::str::from_utf8(name.get(..usize::from(*length))?).ok().map(PackId::new)
}
