//! The entries of a directory by name, however they are stored.
//!
//! Kopia's order is directories first, and names ascending in both groups. A long listing that keeps it is read twice side by
//! side, once for each group; the entries of any other one are sorted in memory.
//!
//! Memory: 300 bytes an entry of a listing with up to 8,192 entries, or in another order; else 300 bytes for each name that is
//! not UTF-8, and a piece of the listing, 8 MiB at most, for each group.

use std::vec;

use repository::{DataId, Entry, EntryKind};
use repository_kopia::{DirectoryListing, Entries, ReadError, Repository};

/// Which name of an entry counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// As it is written.
    Text,
    /// Its bytes on a file system.
    Raw,
}

/// Entries by name; those of one name in the stored order.
pub(crate) struct ByName<'a> {
    name: Name,
    /// Of equal names that of the first source comes first.
    sources: Vec<Source<'a>>,
}

impl<'a> ByName<'a> {
    /// `listing` is what was read of `data`.
    pub(crate) async fn open(
        repository: &'a Repository,
        data: &DataId,
        listing: DirectoryListing,
        name: Name,
    ) -> Result<Self, ReadError> {
        let has_groups = listing.is_sorted && !listing.is_kept();
        let mut sorted = Vec::new();
        // Names that are not UTF-8 stand where their texts belong.
        if !has_groups || (name == Name::Raw && listing.has_foreign_names) {
            let mut entries = listing.into_entries(repository);
            while let Some(some) = entries.next().await? {
                sorted.extend(some.into_owned().into_iter().filter(|entry| !has_groups || is_foreign(entry)));
            }
        }
        sorted.sort_by(|a, b| name.of(a).cmp(name.of(b)));
        let mut sources = Vec::new();
        if has_groups {
            for directories in [true, false] {
                let filter = Filter { directories, foreign: name == Name::Text };
                sources.push(Source::begin(Vec::new(), Some((repository.entries(data), filter))).await?);
            }
        }
        sources.push(Source::begin(sorted, None).await?);
        Ok(Self { name, sources })
    }

    /// The next entry; nothing after the last, or after an error.
    pub(crate) async fn next(&mut self) -> Result<Option<Entry>, ReadError> {
        let name = self.name;
        let heads = self.sources.iter().enumerate();
        let least = heads.filter_map(|(at, source)| Some((name.of(source.next.as_ref()?), at))).min();
        let Some((_, at)) = least else { return Ok(None) };
        let next = self.sources[at].advance().await;
        if next.is_err() {
            self.sources.clear();
        }
        next
    }
}

impl Name {
    fn of(self, entry: &Entry) -> &[u8] {
        match self {
            Self::Text => entry.name.as_bytes(),
            Self::Raw => entry.raw_name(),
        }
    }
}

/// Entries whose names ascend.
struct Source<'a> {
    next: Option<Entry>,
    come: vec::IntoIter<Entry>,
    /// Where others come from, and which of those; nothing when all have come.
    more: Option<(Entries<'a>, Filter)>,
}

/// One group of entries.
#[derive(Clone, Copy)]
struct Filter {
    /// Those, or all others.
    directories: bool,
    /// Those too whose names are not UTF-8.
    foreign: bool,
}

impl Filter {
    fn has(self, entry: &Entry) -> bool {
        is_directory(entry) == self.directories && (self.foreign || !is_foreign(entry))
    }
}

fn is_directory(entry: &Entry) -> bool {
    entry.kind == EntryKind::Directory
}

fn is_foreign(entry: &Entry) -> bool {
    entry.raw_name() != entry.name.as_bytes()
}

impl<'a> Source<'a> {
    async fn begin(come: Vec<Entry>, more: Option<(Entries<'a>, Filter)>) -> Result<Self, ReadError> {
        let mut source = Self { next: None, come: come.into_iter(), more };
        source.advance().await?;
        Ok(source)
    }

    /// Gives out the next entry, and looks for the one after it.
    async fn advance(&mut self) -> Result<Option<Entry>, ReadError> {
        loop {
            if let Some(entry) = self.come.next() {
                return Ok(self.next.replace(entry));
            }
            let Some((entries, filter)) = &mut self.more else { return Ok(self.next.take()) };
            let Some(some) = entries.next().await? else {
                self.more = None;
                continue;
            };
            // Directories stand first: after something else there are none.
            let is_end = filter.directories && some.last().is_some_and(|last| !is_directory(last));
            let of_group: Vec<Entry> = some.into_owned().into_iter().filter(|entry| filter.has(entry)).collect();
            self.come = of_group.into_iter();
            if is_end {
                self.more = None;
            }
        }
    }
}
