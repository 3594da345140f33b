//! Does a directory hold what it says, and what the directory above says of it?

use std::fmt;

use repository::{Entry, EntryKind, Summary};
use repository_kopia::DirectoryListing;

/// What a directory holds, as far as it is told in two places.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) bytes: u64,
    pub(super) file_count: u64,
    pub(super) directory_count: u64,
}

impl Counts {
    /// Nothing for a directory that does not say what it holds.
    pub(super) fn with(self, entry: &Entry) -> Option<Self> {
        let more = match (entry.kind, &entry.summary) {
            (EntryKind::File, _) => Self { bytes: entry.size_bytes, file_count: 1, directory_count: 0 },
            (EntryKind::Symlink, _) => Self::default(),
            (EntryKind::Directory, Some(inside)) => Self::from(&**inside),
            (EntryKind::Directory, None) => return None,
        };
        Some(Self {
            bytes: self.bytes.saturating_add(more.bytes),
            file_count: self.file_count.saturating_add(more.file_count),
            directory_count: self.directory_count.saturating_add(more.directory_count),
        })
    }
}

impl From<&Summary> for Counts {
    fn from(summary: &Summary) -> Self {
        let Summary { size_bytes: bytes, file_count, directory_count, .. } = *summary;
        Self { bytes, file_count, directory_count }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes in {} files and {} directories", self.bytes, self.file_count, self.directory_count)
    }
}

/// A listing whose summary, or whose parent's copy of it, is not what its entries add up to.
pub(super) fn sums_problem(listing: &DirectoryListing, stated: Option<Counts>, sums: Counts) -> Option<String> {
    let summary = listing.summary.as_ref()?;
    // Of checkpoints and cut-off backups.
    if summary.incomplete.is_some() {
        return None;
    }
    let own = Counts::from(summary);
    if own != sums {
        return Some(format!("its summary says {own}, its entries add up to {sums}"));
    }
    let stated = stated.filter(|stated| *stated != sums)?;
    Some(format!("the directory above says that it holds {stated}, it holds {sums}"))
}
