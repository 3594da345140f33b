//! What two snapshots, or a snapshot and a directory of this machine, have and have not in common.
//!
//! Both trees are gone through side by side, depth first. Stored directories with equal data are equal to the last byte below,
//! so they are passed over without being read.
//!
//! Memory: of the directories on the way down, stored ones what [`crate::by_name`] says, and 600 bytes an entry of those on disk.

mod disk;
mod node;

use std::collections::{BTreeMap, btree_map};
use std::iter::Peekable;

use repository::{DataId, Entry, EntryKind, FailedEntry, Xattr};
use repository_kopia::{ReadError, Repository};

pub use disk::OnDisk;
pub use node::{Aspect, Node, NodeKind};

use crate::browse::BrowseError;
use crate::by_name::{ByName, Name};
use crate::listing::{join, names};
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
    let mut differ = Differ { repository, run, disk, tell, outcome: DiffOutcome::default() };
    let mut open = Vec::new();
    open.extend(differ.pair(String::new(), Some(Item::stored(before)), Some(after))?);
    while let Some(pair) = open.last_mut() {
        if run.cancel.is_cancelled() {
            return Err(BrowseError::Interrupted);
        }
        match differ.next(pair)? {
            Some(Named { name, before, after }) => {
                let path = join(&pair.path, &name);
                open.extend(differ.pair(path, before, after)?);
            }
            None => drop(open.pop()),
        }
    }
    Ok(differ.outcome)
}

struct Differ<'a> {
    repository: &'a Repository,
    run: &'a Run,
    disk: Option<Disk<'a>>,
    tell: &'a mut dyn FnMut(Difference) -> std::io::Result<()>,
    outcome: DiffOutcome,
}

/// Two directories that are being gone through.
struct Pair<'a> {
    path: String,
    before: Inside<'a>,
    after: Inside<'a>,
}

/// What both have under one name.
struct Named {
    name: String,
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

/// What is in a directory and has not been gone through: nothing in what is no directory.
#[derive(Default)]
struct Inside<'a> {
    stored: Option<(ByName<'a>, Option<Entry>)>,
    others: Option<Peekable<btree_map::IntoIter<Vec<u8>, Shown>>>,
}

/// Special entries, or what is on disk, by raw name.
type Others = BTreeMap<Vec<u8>, Shown>;

/// Something, and its name to show.
type Shown = (String, Item);

impl Inside<'_> {
    /// The next name, raw.
    fn name(&mut self) -> Option<&[u8]> {
        let entry = self.stored.as_ref().and_then(|(_, next)| next.as_ref()).map(Entry::raw_name);
        let other = self.others.as_mut().and_then(Peekable::peek).map(|(name, _)| name.as_slice());
        entry.into_iter().chain(other).min()
    }

    /// What has that name, which is the next or none. Should several have it, the last entry counts, and a special one more.
    async fn take(&mut self, name: &[u8]) -> Result<Option<Shown>, ReadError> {
        let mut found = None;
        if let Some((entries, next)) = &mut self.stored {
            while let Some(entry) = next.take_if(|entry| entry.raw_name() == name) {
                *next = entries.next().await?;
                found = Some((Item::stored(&entry), entry.name));
            }
        }
        let entry = found.map(|(item, name)| (name, item));
        let other = self.others.as_mut().and_then(|others| others.next_if(|(other, _)| other == name));
        Ok(other.map(|(_, item)| item).or(entry))
    }
}

impl Item {
    fn stored(entry: &Entry) -> Self {
        Self { node: Node::from(entry), data: Data::Stored(entry.data.clone()) }
    }
}

impl<'a> Differ<'a> {
    /// Compares what is at one path, and opens it if there is a directory.
    fn pair(
        &mut self,
        path: String,
        mut before: Option<Item>,
        mut after: Option<Item>,
    ) -> Result<Option<Pair<'a>>, BrowseError> {
        let (left, right) = if is_same_data(before.as_ref(), after.as_ref()) {
            (None, None)
        } else {
            (self.inside(&path, before.as_mut())?, self.inside(&path, after.as_mut())?)
        };
        let (Ok(left), Ok(right)) = (left.transpose(), right.transpose()) else { return Ok(None) };
        let aspects = match (&before, &after) {
            (Some(before), Some(after)) => self.aspects(&path, before, after)?,
            _ => Vec::new(),
        };
        if before.is_none() || after.is_none() || !aspects.is_empty() {
            let (before, after) = (before.map(|item| item.node), after.map(|item| item.node));
            let difference = Difference { path: shown(&path).to_owned(), before, after, aspects };
            (self.tell)(difference).map_err(BrowseError::Output)?;
        }
        let is_open = left.is_some() || right.is_some();
        let (before, after) = (left.unwrap_or_default(), right.unwrap_or_default());
        Ok(is_open.then_some(Pair { path, before, after }))
    }

    /// What comes next in two directories, by raw name.
    fn next(&self, pair: &mut Pair<'_>) -> Result<Option<Named>, BrowseError> {
        let Pair { path, before, after } = pair;
        let Some(raw) = before.name().into_iter().chain(after.name()).min().map(<[u8]>::to_vec) else {
            return Ok(None);
        };
        let taken = wait(self.run, async { Ok((before.take(&raw).await?, after.take(&raw).await?)) })?;
        let (before, after) = taken.map_err(BrowseError::read(shown(path)))?;
        let (before_name, before) = before.unzip();
        let (after_name, after) = after.unzip();
        Ok(before_name.or(after_name).map(|name| Named { name, before, after }))
    }

    /// What is in a directory, if it is one; the inner error says that it is on disk and was noted as not readable.
    fn inside(
        &mut self,
        path: &str,
        item: Option<&mut Item>,
    ) -> Result<Option<Result<Inside<'a>, Unreadable>>, BrowseError> {
        let Some(item) = item.filter(|item| item.node.kind == NodeKind::Directory) else { return Ok(None) };
        let read = match (&item.data, &mut self.disk) {
            (Data::Stored(data), _) => {
                let read = wait(self.run, stored(self.repository, data))?;
                Ok(read.map_err(BrowseError::read(shown(path)))?)
            }
            (Data::Found(found), Some(disk)) => {
                let listed = disk.inside(found)?;
                listed.map(|(xattrs, others)| {
                    (xattrs, Inside { stored: None, others: Some(others.into_iter().peekable()) })
                })
            }
            (Data::Found(_), None) | (Data::None, _) => Ok((Vec::new(), Inside::default())),
        };
        Ok(Some(match read {
            Ok((xattrs, inside)) => {
                item.node.xattrs = xattrs;
                Ok(inside)
            }
            Err(error) => Err(self.unreadable(path, &error)),
        }))
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

/// A stored directory's own attributes, and what is in it.
async fn stored<'a>(repository: &'a Repository, data: &DataId) -> Result<(Vec<Xattr>, Inside<'a>), ReadError> {
    let mut listing = repository.listing(data).await?;
    let side = std::mem::take(&mut listing.side);
    let mut entries = ByName::open(repository, data, listing, Name::Raw).await?;
    let next = entries.next().await?;
    let mut others = Others::new();
    for special in side.specials {
        let item = Item { node: Node::from(&special), data: Data::None };
        others.insert(special.name.clone(), (names::as_text(&special.name), item));
    }
    let inside = Inside { stored: Some((entries, next)), others: Some(others.into_iter().peekable()) };
    Ok((side.xattrs, inside))
}

/// A path, for people.
fn shown(path: &str) -> &str {
    if path.is_empty() { "." } else { path }
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
