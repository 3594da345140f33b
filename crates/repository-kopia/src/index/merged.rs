//! All active index blobs as one table.

use std::fs;
use std::io;
use std::path::PathBuf;

use repository::{ContentId, PackId};

use super::IndexEntry;
use super::table::{KEY_BYTES_MAX, Record, Table};
use crate::error::IndexError;

/// Blocks of entries read at a time when all are gone through: about 100 KiB.
const BLOCKS_AT_ONCE: usize = 32;

/// The effective entry of every content, over all index blobs.
///
/// Of several entries for one content the one with the greatest timestamp counts; at equal timestamps one that is not
/// deleted; then the one in the pack of the greater name. A deleted entry not newer than the deletion watermark does not
/// exist at all.
///
/// Entries lie sorted in a file, or in memory if they are few; see [`super::table`].
#[derive(Debug)]
pub struct MergedIndex {
    table: Table,
    /// Where the table is kept for the next time.
    path: Option<PathBuf>,
}

impl MergedIndex {
    pub(crate) fn new(table: Table, path: Option<PathBuf>) -> Self {
        Self { table, path }
    }

    /// How many contents it knows, deleted ones included.
    pub fn len(&self) -> usize {
        self.table.entries.len()
    }

    /// True when it knows none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every pack that any entry names.
    pub fn packs(&self) -> impl Iterator<Item = Result<PackId, IndexError>> + '_ {
        self.numbered_packs().map(|pack| pack.map(|(_, name)| name))
    }

    /// Every pack that any entry names, with its number in this table.
    pub(crate) fn numbered_packs(&self) -> impl Iterator<Item = Result<(u32, PackId), IndexError>> + '_ {
        self.table.packs.named().map(|pack| pack.map_err(|error| self.failed(error)))
    }

    /// Numbers of packs are below this.
    pub(crate) fn pack_number_limit(&self) -> usize {
        self.table.packs.len()
    }

    /// What is known of a content; of a deleted one too.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn find(&self, content: &ContentId) -> Result<Option<IndexEntry>, IndexError> {
        self.find_with(content, |_, record| self.entry_of(record))?.transpose()
    }

    /// Which entry is that of a content: below [`MergedIndex::len`], the same as long as this table lives.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn position(&self, content: &ContentId) -> Result<Option<usize>, IndexError> {
        self.find_with(content, |position, _| position)
    }

    /// What `use_record` makes of a content's position and entry.
    pub(crate) fn find_with<T>(
        &self,
        content: &ContentId,
        use_record: impl FnOnce(usize, Record<'_>) -> T,
    ) -> Result<Option<T>, IndexError> {
        let mut key = [0; KEY_BYTES_MAX];
        let key = content.key_in(&mut key);
        let found = self.table.entries.find(key, |position, row| use_record(position, Record::new(row)));
        found.map_err(|error| self.failed(error))
    }

    /// All entries, sorted by content id. The number of an entry is its position.
    pub fn iter(&self) -> impl Iterator<Item = Result<IndexEntry, IndexError>> + '_ {
        self.starting_at(0)
    }

    /// All entries whose content has this prefix letter.
    pub fn with_prefix(&self, prefix: u8) -> impl Iterator<Item = Result<IndexEntry, IndexError>> + '_ {
        let first = self.table.entries.count_below(&[prefix]).map_err(|error| self.failed(error));
        let (first, failed) = match first {
            Ok(first) => (first, None),
            Err(error) => (self.len(), Some(Err(error))),
        };
        let has_prefix = move |entry: &Result<IndexEntry, IndexError>| {
            entry.as_ref().map_or(true, |entry| entry.content.prefix() == prefix)
        };
        failed.into_iter().chain(self.starting_at(first)).take_while(has_prefix)
    }

    fn starting_at(&self, first: usize) -> impl Iterator<Item = Result<IndexEntry, IndexError>> + '_ {
        let mut cursor = self.table.entries.cursor(first, BLOCKS_AT_ONCE);
        let mut is_broken = false;
        std::iter::from_fn(move || {
            let next = match cursor.next() {
                _ if is_broken => None,
                Ok(row) => row.map(|row| self.entry_of(Record::new(row))),
                Err(error) => Some(Err(self.failed(error))),
            };
            is_broken |= matches!(next, Some(Err(_)));
            next
        })
    }

    /// The entry at a position.
    ///
    /// # Errors
    /// When the table cannot be read, or has no such position.
    pub fn entry(&self, at: usize) -> Result<IndexEntry, IndexError> {
        if at >= self.len() {
            return Err(self.failed(io::Error::new(io::ErrorKind::InvalidInput, format!("there is no entry {at}"))));
        }
        let mut scratch = Vec::new();
        let row = self.table.entries.row(at, &mut scratch).map_err(|error| self.failed(error))?;
        self.entry_of(Record::new(row))
    }

    fn entry_of(&self, record: Record<'_>) -> Result<IndexEntry, IndexError> {
        let pack = self.table.packs.name(record.pack()).map_err(|error| self.failed(error))?;
        let wrong = || self.failed(io::Error::new(io::ErrorKind::InvalidData, "an entry has no content id"));
        record.entry(pack).ok_or_else(wrong)
    }

    /// A table that cannot be read is not to be met again.
    fn failed(&self, source: io::Error) -> IndexError {
        let Some(path) = &self.path else {
            return IndexError::Table { operation: "read the index from a temporary file".to_owned(), source };
        };
        if source.kind() != io::ErrorKind::InvalidInput {
            let _ = fs::remove_file(path);
        }
        IndexError::Table { operation: format!("read the index table {}", path.display()), source }
    }
}

/// The entry that counts of two for one content.
pub(crate) fn newer(a: IndexEntry, b: IndexEntry) -> IndexEntry {
    if a.rank() >= b.rank() { a } else { b }
}
