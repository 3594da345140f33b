//! Sorted rows, found by the key that each begins with.

use std::io;

use super::filter::Filter;
use super::rows::{BLOCK_ROWS, Body, Cursor, Output, Rows, RowsWriter};

/// Longest key: a prefix letter and a hash of 32 bytes.
pub(crate) const KEY_BYTES_MAX: usize = 33;

/// Rows in the order of their keys, no key twice.
///
/// Memory: for each block of rows its first key and its checksum, and the filter: about two bytes a row.
#[derive(Clone, Debug)]
pub(crate) struct Sorted {
    pub(super) rows: Rows,
    pub(super) key_bytes: usize,
    /// The first key of each block.
    pub(super) fences: Vec<u8>,
    /// None where nothing is looked up.
    pub(super) filter: Option<Filter>,
}

impl Sorted {
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The position of a key's row, and the row itself as `use_row` makes of it.
    pub(crate) fn find<T>(&self, key: &[u8], use_row: impl FnOnce(usize, &[u8]) -> T) -> io::Result<Option<T>> {
        if key.len() != self.key_bytes || self.filter.as_ref().is_some_and(|filter| !filter.may_contain(key)) {
            return Ok(None);
        }
        let Some(block) = self.blocks_before(|fence| fence <= key).checked_sub(1) else { return Ok(None) };
        let mut scratch = Vec::new();
        let rows = self.block(block, &mut scratch)?;
        let row = |at: usize| &rows[at * self.rows.row_bytes..][..self.rows.row_bytes];
        let (mut low, mut high) = (0, rows.len() / self.rows.row_bytes);
        while low < high {
            let middle = low + (high - low) / 2;
            match row(middle)[..self.key_bytes].cmp(key) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Ok(Some(use_row(block * BLOCK_ROWS + middle, row(middle)))),
            }
        }
        Ok(None)
    }

    /// How many rows have a key less than `bound`, which may be shorter than keys are.
    pub(crate) fn count_below(&self, bound: &[u8]) -> io::Result<usize> {
        let Some(block) = self.blocks_before(|fence| fence < bound).checked_sub(1) else { return Ok(0) };
        let mut scratch = Vec::new();
        let rows = self.block(block, &mut scratch)?;
        let below = rows.chunks(self.rows.row_bytes).take_while(|row| row[..self.key_bytes] < *bound).count();
        Ok(block * BLOCK_ROWS + below)
    }

    /// The rows of a block; what comes from a file must be in order, or a search in it would miss what is there.
    fn block<'a>(&'a self, number: usize, scratch: &'a mut Vec<u8>) -> io::Result<&'a [u8]> {
        let rows = self.rows.block(number, scratch)?;
        if matches!(self.rows.body, Body::File(_)) {
            let keys = rows.chunks(self.rows.row_bytes).map(|row| &row[..self.key_bytes]);
            let fence = &self.fences[number * self.key_bytes..][..self.key_bytes];
            if !keys.clone().is_sorted_by(|a, b| a < b) || keys.clone().next() != Some(fence) {
                return Err(out_of_order());
            }
        }
        Ok(rows)
    }

    /// Whether the blocks stand in order, as far as their first keys tell.
    pub(super) fn has_sorted_blocks(&self) -> bool {
        self.fences.chunks(self.key_bytes.max(1)).is_sorted_by(|a, b| a < b)
    }

    fn blocks_before(&self, is_before: impl Fn(&[u8]) -> bool) -> usize {
        let (mut low, mut high) = (0, self.fences.len() / self.key_bytes.max(1));
        while low < high {
            let middle = low + (high - low) / 2;
            if is_before(&self.fences[middle * self.key_bytes..][..self.key_bytes]) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    pub(crate) fn row<'a>(&'a self, at: usize, scratch: &'a mut Vec<u8>) -> io::Result<&'a [u8]> {
        self.rows.row(at, scratch)
    }

    pub(crate) fn cursor(&self, first: usize, blocks_at_once: usize) -> Cursor {
        self.rows.cursor(first, blocks_at_once)
    }
}

fn out_of_order() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "its rows are out of order")
}

/// Writes sorted rows.
pub(crate) struct SortedWriter {
    rows: RowsWriter,
    key_bytes: usize,
    count: usize,
    last: Vec<u8>,
    fences: Vec<u8>,
    filter: Option<Filter>,
}

impl SortedWriter {
    /// With a filter for `filtered` keys at most, or with none.
    pub(crate) fn new(out: &Output, key_bytes: usize, value_bytes: usize, filtered: Option<usize>) -> Self {
        let rows = RowsWriter::new(out, key_bytes + value_bytes);
        Self { rows, key_bytes, count: 0, last: Vec::new(), fences: Vec::new(), filter: filtered.map(Filter::for_keys) }
    }

    /// Takes the next row.
    ///
    /// # Errors
    /// When its key is not greater than that of the one before, or it cannot be written.
    pub(crate) fn push(&mut self, out: &mut Output, row: &[u8]) -> io::Result<()> {
        let key = &row[..self.key_bytes];
        if self.count > 0 && key <= self.last.as_slice() {
            return Err(out_of_order());
        }
        self.last.clear();
        self.last.extend_from_slice(key);
        if self.count.is_multiple_of(BLOCK_ROWS) {
            self.fences.extend_from_slice(key);
        }
        if let Some(filter) = &mut self.filter {
            filter.insert(key);
        }
        self.count += 1;
        self.rows.push(out, row)
    }

    pub(crate) fn finish(self, body: Body) -> Sorted {
        let Self { rows, key_bytes, fences, filter, .. } = self;
        Sorted { rows: rows.finish(body), key_bytes, fences, filter }
    }
}
