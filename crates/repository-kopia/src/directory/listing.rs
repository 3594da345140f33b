//! Directories, some entries at a time: a directory of a million files takes no more memory than one of thousands.

use std::borrow::Cow;
use std::vec;

use repository::{DataId, Directory, DirectorySide, Entry, EntryKind, Summary};

use super::{Arriving, read};
use crate::error::ReadError;
use crate::object::Piece;
use crate::read::parse_object;
use crate::repository::Repository;

/// A listing up to this size is read at once, in bytes.
const SHORT_BYTES_MAX: usize = 1 << 20;
/// What is read of a longer one at a time, in bytes.
const PART_BYTES: usize = 256 << 10;
/// A listing with so many entries keeps them; those of a longer one are read again whenever they are asked for.
const KEPT_MAX: usize = 8192;

/// A directory that was read to its end: it is whole, and makes sense.
///
/// Memory: 8,192 entries at most, 300 bytes each.
#[derive(Clone, Debug)]
pub struct DirectoryListing {
    /// What it says it holds.
    pub summary: Option<Summary>,
    /// What it has beside its entries.
    pub side: DirectorySide,
    /// How many entries it has.
    pub entry_count: u64,
    /// Directories come first, and names ascend in both groups: Kopia's order.
    pub is_sorted: bool,
    /// Some names are not UTF-8.
    pub has_foreign_names: bool,
    data: DataId,
    /// Nothing if there are too many.
    kept: Option<Vec<Entry>>,
}

impl DirectoryListing {
    /// Its entries in the order in which they are stored, from the first one; as often as needed.
    pub fn entries<'a>(&'a self, repository: &'a Repository) -> Entries<'a> {
        match &self.kept {
            Some(kept) => Entries { repository, stage: Stage::Kept(Cow::Borrowed(kept)) },
            None => repository.entries(&self.data),
        }
    }

    /// The same, for once.
    pub fn into_entries(self, repository: &Repository) -> Entries<'_> {
        match self.kept {
            Some(kept) => Entries { repository, stage: Stage::Kept(Cow::Owned(kept)) },
            None => repository.entries(&self.data),
        }
    }

    /// Whether its entries are in memory already.
    pub fn is_kept(&self) -> bool {
        self.kept.is_some()
    }
}

/// How the entries stand that have come.
struct Order {
    is_sorted: bool,
    has_foreign_names: bool,
    /// Whether the last was no directory, and its name.
    last: (bool, String),
}

impl Order {
    fn new() -> Self {
        Self { is_sorted: true, has_foreign_names: false, last: (false, String::new()) }
    }

    fn take(&mut self, entry: &Entry) {
        let is_other = entry.kind != EntryKind::Directory;
        let is_next = (self.last.0, self.last.1.as_str()) <= (is_other, entry.name.as_str());
        self.last.0 = is_other;
        self.last.1.clone_from(&entry.name);
        let is_foreign = entry.raw_name() != entry.name.as_bytes();
        self.has_foreign_names |= is_foreign;
        // A name that needs no other one has none from any program: nothing is sure of such a listing.
        self.is_sorted &= is_next && !(is_foreign && std::str::from_utf8(entry.raw_name()).is_ok());
    }
}

/// Entries of a directory, in the stored order.
pub struct Entries<'a> {
    repository: &'a Repository,
    stage: Stage<'a>,
}

enum Stage<'a> {
    Kept(Cow<'a, [Entry]>),
    Asked(DataId),
    /// Boxed: it is larger than the others, and rare.
    Arriving(Box<Part>),
    /// Nothing where that was not read, or broke off.
    Ended(Option<Rest>),
}

/// A listing of which some has come.
struct Part {
    data: DataId,
    arriving: Arriving,
    pieces: vec::IntoIter<Piece>,
    /// There is one piece in all.
    is_only: bool,
    /// The piece that has come, and what of it was taken.
    bytes: Vec<u8>,
    taken: usize,
}

/// What stands in a listing beside its entries.
struct Rest {
    summary: Option<Summary>,
    side: DirectorySide,
}

impl<'a> Entries<'a> {
    /// The next of them, some at a time; nothing after the last.
    ///
    /// # Errors
    /// When the listing cannot be read or makes no sense; what came before may be of such a one. There is no more then.
    pub async fn next(&mut self) -> Result<Option<Cow<'a, [Entry]>>, ReadError> {
        loop {
            match std::mem::replace(&mut self.stage, Stage::Ended(None)) {
                Stage::Kept(kept) => return Ok(Some(kept).filter(|kept| !kept.is_empty())),
                Stage::Asked(data) => {
                    let object = parse_object(&data)?;
                    let pieces = self.repository.pieces(&data).await?;
                    let mut part = Part {
                        arriving: Arriving::new(object),
                        bytes: Vec::new(),
                        taken: 0,
                        is_only: pieces.len() == 1,
                        pieces: pieces.into_iter(),
                        data,
                    };
                    part.next_piece(self.repository).await?;
                    if part.is_only && part.bytes.len() <= SHORT_BYTES_MAX {
                        return Ok(self.ends(read(&object, &part.bytes)?));
                    }
                    self.stage = Stage::Arriving(Box::new(part));
                }
                Stage::Arriving(mut part) => {
                    if part.taken == part.bytes.len() && !part.next_piece(self.repository).await? {
                        return Ok(self.ends(part.arriving.finish()?));
                    }
                    part.push()?;
                    let entries = part.arriving.take_entries();
                    self.stage = Stage::Arriving(part);
                    if !entries.is_empty() {
                        return Ok(Some(Cow::Owned(entries)));
                    }
                }
                ended @ Stage::Ended(_) => {
                    self.stage = ended;
                    return Ok(None);
                }
            }
        }
    }

    /// The last entries, and what is beside all of them.
    fn ends(&mut self, last: Directory) -> Option<Cow<'a, [Entry]>> {
        let Directory { entries, summary, side } = last;
        self.stage = Stage::Ended(Some(Rest { summary, side }));
        (!entries.is_empty()).then_some(Cow::Owned(entries))
    }
}

impl Part {
    /// False at the end.
    async fn next_piece(&mut self, repository: &Repository) -> Result<bool, ReadError> {
        let Some(piece) = self.pieces.next() else { return Ok(false) };
        // Not both at once.
        self.bytes = Vec::new();
        (self.bytes, self.taken) = (repository.piece(&self.data, &piece).await?, 0);
        Ok(true)
    }

    fn push(&mut self) -> Result<(), ReadError> {
        let end = self.bytes.len().min(self.taken + PART_BYTES);
        self.arriving.push(&self.bytes[self.taken..end])?;
        self.taken = end;
        Ok(())
    }
}

impl Repository {
    /// A directory's entries, as they come. Whether the listing is whole shows at its end: see [`Repository::listing`].
    pub fn entries(&self, data: &DataId) -> Entries<'_> {
        Entries { repository: self, stage: Stage::Asked(data.clone()) }
    }

    /// Reads a directory to its end, and what is beside its entries.
    ///
    /// # Errors
    /// When it cannot be read or makes no sense.
    pub async fn listing(&self, data: &DataId) -> Result<DirectoryListing, ReadError> {
        let mut entries = self.entries(data);
        let (mut kept, mut entry_count, mut order) = (Some(Vec::new()), 0, Order::new());
        while let Some(some) = entries.next().await? {
            entry_count += some.len();
            some.iter().for_each(|entry| order.take(entry));
            kept = kept.filter(|_| entry_count <= KEPT_MAX);
            if let Some(kept) = &mut kept {
                kept.extend(some.into_owned());
            }
        }
        let Stage::Ended(Some(Rest { summary, side })) = entries.stage else {
            unreachable!("after its last entry a listing has ended")
        };
        let (entry_count, Order { is_sorted, has_foreign_names, .. }) = (entry_count as u64, order);
        Ok(DirectoryListing { summary, side, entry_count, is_sorted, has_foreign_names, data: data.clone(), kept })
    }

    /// The entry of a directory that has this name: the last, should there be several.
    ///
    /// # Errors
    /// When the directory cannot be read or makes no sense.
    pub async fn entry_named(&self, data: &DataId, name: &str) -> Result<Option<Entry>, ReadError> {
        let (mut found, mut entries) = (None, self.entries(data));
        while let Some(some) = entries.next().await? {
            found = some.iter().rfind(|entry| entry.name == name).cloned().or(found);
        }
        Ok(found)
    }

    /// Reads a directory with all its entries, however many there are.
    ///
    /// # Errors
    /// When it cannot be read or makes no sense.
    pub async fn directory(&self, data: &DataId) -> Result<Directory, ReadError> {
        let DirectoryListing { summary, side, kept, .. } = self.listing(data).await?;
        let entries = match kept {
            Some(kept) => kept,
            None => {
                let (mut all, mut entries) = (Vec::new(), self.entries(data));
                while let Some(some) = entries.next().await? {
                    all.extend(some.into_owned());
                }
                all
            }
        };
        Ok(Directory { entries, summary, side })
    }
}
