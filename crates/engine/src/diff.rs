//! What two snapshots, or a snapshot and a directory of this machine, have and have not in common.
//!
//! Both trees are gone through side by side, depth first. Stored directories with equal data are equal to the last byte below,
//! so they are passed over without being read. Memory: the listings on the way down.

mod disk;
mod node;

use std::collections::BTreeMap;

use repository::{DataId, Entry, EntryKind, FailedEntry};
use repository_kopia::Repository;

pub use disk::OnDisk;
pub use node::{Aspect, Node, NodeKind};

use crate::browse::BrowseError;
use crate::listing::names;
use crate::restore::fetch::wait;
use crate::run::Run;
use disk::{Disk, Found};

/// What is different at one path.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Relative to the roots; `.` is the root.
    pub path: String,
    /// What the first has there.
    pub before: Option<Node>,
    /// What the second has there.
    pub after: Option<Node>,
    /// What changed, where both have something. What is inside directories is differences of its own.
    pub aspects: Vec<Aspect>,
}

/// What a tree is compared with.
#[derive(Clone, Copy, Debug)]
pub enum Other<'a> {
    /// An entry of a snapshot.
    Stored(&'a Entry),
    /// A directory or file of this machine.
    OnDisk(OnDisk<'a>),
}

/// What came of comparing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiffOutcome {
    /// What on this machine could not be read: whether it differs is not known.
    pub unreadable: Vec<FailedEntry>,
}

/// Tells of every difference between two trees, sorted by name within each directory.
///
/// Which names are one file is not compared.
///
/// # Errors
/// When something stored or the root on this machine cannot be read, `tell` fails, or the run is cancelled.
pub fn diff(
    repository: &Repository,
    before: &Entry,
    after: Other<'_>,
    run: &Run,
    tell: &mut dyn FnMut(Difference) -> std::io::Result<()>,
) -> Result<DiffOutcome, BrowseError> {
    let (disk, after) = match after {
        Other::Stored(entry) => (None, Item::stored(entry)),
        Other::OnDisk(place) => {
            let (disk, root) = Disk::open(repository, place, run)?;
            (Some(disk), root)
        }
    };
    let open = vec![Pair { path: String::new(), before: Some(Item::stored(before)), after: Some(after) }];
    let mut differ = Differ { repository, run, disk, tell, open, outcome: DiffOutcome::default() };
    while let Some(pair) = differ.open.pop() {
        if run.cancel.is_cancelled() {
            return Err(BrowseError::Interrupted);
        }
        differ.pair(pair)?;
    }
    Ok(differ.outcome)
}

struct Differ<'a> {
    repository: &'a Repository,
    run: &'a Run,
    disk: Option<Disk<'a>>,
    tell: &'a mut dyn FnMut(Difference) -> std::io::Result<()>,
    /// What is to be compared; the last is next.
    open: Vec<Pair>,
    outcome: DiffOutcome,
}

/// What both have under one path.
struct Pair {
    path: String,
    before: Option<Item>,
    after: Option<Item>,
}

/// Something in one of the trees.
struct Item {
    /// Attributes of a directory are those of its listing.
    node: Node,
    data: Data,
}

enum Data {
    Stored(DataId),
    Found(Found),
    /// A special entry has none.
    None,
}

/// What is in a directory, by raw name, with the name to show.
type Inside = BTreeMap<Vec<u8>, (String, Item)>;

impl Item {
    fn stored(entry: &Entry) -> Self {
        Self { node: Node::from(entry), data: Data::Stored(entry.data.clone()) }
    }
}

impl Differ<'_> {
    fn pair(&mut self, pair: Pair) -> Result<(), BrowseError> {
        let Pair { path, mut before, mut after } = pair;
        let (left, right) = if is_same_data(before.as_ref(), after.as_ref()) {
            (None, None)
        } else {
            (self.inside(&path, before.as_mut())?, self.inside(&path, after.as_mut())?)
        };
        let (Ok(left), Ok(right)) = (left.transpose(), right.transpose()) else { return Ok(()) };
        let aspects = match (&before, &after) {
            (Some(before), Some(after)) => self.aspects(&path, before, after)?,
            _ => Vec::new(),
        };
        if before.is_none() || after.is_none() || !aspects.is_empty() {
            let (before, after) = (before.map(|item| item.node), after.map(|item| item.node));
            let shown = if path.is_empty() { ".".to_owned() } else { path.clone() };
            let difference = Difference { path: shown, before, after, aspects };
            (self.tell)(difference).map_err(BrowseError::Output)?;
        }
        let mut names: BTreeMap<Vec<u8>, (String, Option<Item>, Option<Item>)> = BTreeMap::new();
        for (raw, (name, item)) in left.unwrap_or_default() {
            names.insert(raw, (name, Some(item), None));
        }
        for (raw, (name, item)) in right.unwrap_or_default() {
            names.entry(raw).or_insert((name, None, None)).2 = Some(item);
        }
        let below = |name: String| if path.is_empty() { name } else { format!("{path}/{name}") };
        let pairs = names.into_values().rev();
        self.open.extend(pairs.map(|(name, before, after)| Pair { path: below(name), before, after }));
        Ok(())
    }

    /// What is in a directory, if it is one; the inner error says that it is on disk and was noted as not readable.
    fn inside(
        &mut self,
        path: &str,
        item: Option<&mut Item>,
    ) -> Result<Option<Result<Inside, Unreadable>>, BrowseError> {
        let Some(item) = item.filter(|item| item.node.kind == NodeKind::Directory) else { return Ok(None) };
        let read = match (&item.data, &mut self.disk) {
            (Data::Stored(data), _) => Ok(self.stored(path, data)?),
            (Data::Found(found), Some(disk)) => disk.inside(found)?,
            (Data::Found(_), None) | (Data::None, _) => Ok(Listing::default()),
        };
        Ok(Some(match read {
            Ok(Listing { xattrs, inside }) => {
                item.node.xattrs = xattrs;
                Ok(inside)
            }
            Err(error) => Err(self.unreadable(path, &error)),
        }))
    }

    fn stored(&self, path: &str, data: &DataId) -> Result<Listing, BrowseError> {
        let path = if path.is_empty() { "." } else { path };
        let listing = wait(self.run, self.repository.directory(data))?.map_err(BrowseError::read(path))?;
        let mut inside = Inside::new();
        for entry in &listing.entries {
            inside.insert(entry.raw_name().to_vec(), (entry.name.clone(), Item::stored(entry)));
        }
        for special in &listing.side.specials {
            let item = Item { node: Node::from(special), data: Data::None };
            inside.insert(special.name.clone(), (names::as_text(&special.name), item));
        }
        Ok(Listing { xattrs: listing.side.xattrs, inside })
    }

    fn aspects(&mut self, path: &str, before: &Item, after: &Item) -> Result<Vec<Aspect>, BrowseError> {
        let mut aspects = before.node.aspects(&after.node);
        let has_bytes = matches!(before.node.kind, NodeKind::File | NodeKind::Symlink);
        if has_bytes && before.node.kind == after.node.kind && self.differs(path, before, after)? {
            aspects.push(Aspect::Content);
        }
        Ok(aspects)
    }

    fn differs(&mut self, path: &str, before: &Item, after: &Item) -> Result<bool, BrowseError> {
        let (data, found) = match (&before.data, &after.data) {
            (Data::Stored(before), Data::Stored(after)) => return Ok(before != after),
            (Data::Stored(data), Data::Found(found)) => (data, found),
            _ => return Ok(false),
        };
        let Some(disk) = &mut self.disk else { return Ok(false) };
        match disk.differs(path, &before.node, data, &after.node, found)? {
            Ok(differs) => Ok(differs),
            Err(error) => {
                self.unreadable(path, &error);
                Ok(false)
            }
        }
    }

    fn unreadable(&mut self, path: &str, error: &std::io::Error) -> Unreadable {
        self.outcome.unreadable.push(FailedEntry { path: path.to_owned(), error: error.to_string() });
        Unreadable
    }
}

/// It was noted.
struct Unreadable;

/// A directory's own attributes, and what is in it.
#[derive(Default)]
struct Listing {
    xattrs: Vec<repository::Xattr>,
    inside: Inside,
}

fn is_same_data(before: Option<&Item>, after: Option<&Item>) -> bool {
    match (before, after) {
        (Some(Item { data: Data::Stored(before), .. }), Some(Item { data: Data::Stored(after), .. })) => {
            before == after
        }
        _ => false,
    }
}

impl From<EntryKind> for NodeKind {
    fn from(kind: EntryKind) -> Self {
        match kind {
            EntryKind::File => Self::File,
            EntryKind::Directory => Self::Directory,
            EntryKind::Symlink => Self::Symlink,
        }
    }
}
