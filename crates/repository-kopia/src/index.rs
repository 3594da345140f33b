//! Where every content lies.
//!
//! An index *file* is a table; an index *blob* is an encrypted index file. Many of them together, merged under the rules of
//! [`MergedIndex`], say which pack holds a content. Source: Kopia format, "Index files and index blobs".

mod active;
mod file;
pub(crate) mod legacy;
mod load;
mod merged;
mod table;
mod writer;

#[cfg(test)]
mod tests;

pub(crate) use active::{IndexSets, read_view};
pub(crate) use file::IndexFile;
pub use legacy::LegacyCompaction;
pub use load::IndexView;
pub(crate) use load::{Loaded, load, load_without, parse_blob};
pub use merged::MergedIndex;
pub(crate) use merged::newer;
#[cfg(feature = "fuzzing")]
pub(crate) use table::Builder;
pub(crate) use table::{Body, KEY_BYTES_MAX, Output, Places, Scratch, Sorted, SortedWriter};
pub(crate) use writer::write;

use repository::{ContentId, PackId};

/// What an index says of one content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// Which content.
    pub content: ContentId,
    /// Where it lies, and what it is there.
    pub location: Location,
    /// When this entry was made, in Unix seconds. The greatest one of a content counts.
    pub timestamp_seconds: u64,
    /// The content is on its way out: still readable, to be written again when needed.
    pub deleted: bool,
    /// Version of the repository that wrote it.
    pub format_version: u8,
}

impl IndexEntry {
    /// Of two entries for one content the one with the greater rank counts.
    pub(crate) fn rank(&self) -> (u64, bool, &PackId) {
        (self.timestamp_seconds, !self.deleted, &self.location.pack)
    }
}

/// Where a sealed content lies, and what must be done to it to have the content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The pack.
    pub pack: PackId,
    /// Where in the pack, in bytes.
    pub offset: u32,
    /// Length there, in bytes.
    pub packed_bytes: u32,
    /// Length of the content itself, in bytes.
    pub original_bytes: u32,
    /// Header id of its compressor, 0 for none.
    pub compression: u32,
    /// Which key; only 0 exists.
    pub encryption_key: u8,
}

impl Location {
    /// Where the sealed content ends in its pack, in bytes.
    pub fn end(&self) -> u64 {
        u64::from(self.offset) + u64::from(self.packed_bytes)
    }
}
