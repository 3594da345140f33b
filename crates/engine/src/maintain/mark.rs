//! What do the snapshots need?
//!
//! Every tree of every snapshot is walked, each directory once. An answer that is not complete is none: a record, directory
//! or index object that cannot be read ends the collection, for what is behind it is unknown, not absent.

use futures::{StreamExt as _, stream};
use repository::{ContentId, DataId, Entry, EntryKind, Snapshot, SnapshotId};
use repository_kopia::{IndexView, ObjectId, ReadError, Repository};

use super::MaintainError;
use crate::bits::{Bits, Objects, Place};
use crate::meter::Counter;
use crate::restore::fetch::wait;
use crate::restore::walk::{LOOK_AHEAD, Walk};
use crate::run::Run;

/// The positions in `view` of every content that some snapshot needs.
pub(super) fn run(repository: &Repository, view: &IndexView, run: &Run) -> Result<Bits, MaintainError> {
    let listing = wait(run, repository.snapshots())?.map_err(MaintainError::List)?;
    if let Some(first) = listing.damage.first() {
        return Err(MaintainError::Damaged { count: listing.damage.len(), first: first.to_string() });
    }
    let length = view.index().len();
    let (needed, gone_through) = (Bits::new(length), Objects::new(length));
    let mut marker = Marker { repository, view, run, needed, gone_through };
    for snapshot in &listing.snapshots {
        marker.snapshot(snapshot)?;
    }
    Ok(marker.needed)
}

struct Marker<'a> {
    repository: &'a Repository,
    view: &'a IndexView,
    run: &'a Run,
    needed: Bits,
    /// Objects met before.
    gone_through: Objects,
}

impl Marker<'_> {
    fn snapshot(&mut self, snapshot: &Snapshot) -> Result<(), MaintainError> {
        let id = &snapshot.id;
        let root = snapshot.root.as_ref().ok_or_else(|| MaintainError::NoRoot { id: id.clone() })?;
        let mut walk = Walk::new(self.repository, self.run);
        self.entries(id, std::slice::from_ref(root), &mut walk)?;
        while let Some(((), listing)) = walk.next()? {
            let listing = listing.map_err(|source| MaintainError::Unreadable { id: id.clone(), source })?;
            let mut entries = listing.entries(self.repository);
            loop {
                let some = wait(self.run, entries.next())?;
                let some = some.map_err(|source| MaintainError::Unreadable { id: id.clone(), source })?;
                let Some(some) = some else { break };
                self.run.meter.add(Counter::FilesDone, some.len() as u64);
                self.entries(id, &some, &mut walk)?;
            }
        }
        Ok(())
    }

    fn entries(&mut self, id: &SnapshotId, entries: &[Entry], walk: &mut Walk<'_, ()>) -> Result<(), MaintainError> {
        let mut indirect: Vec<&DataId> = Vec::new();
        for entry in entries {
            let object = parse(id, &entry.data)?;
            if !self.is_first(id, &object)? {
                continue;
            }
            if object.indirection > 0 {
                indirect.push(&entry.data);
            }
            match entry.kind {
                EntryKind::Directory => walk.push(entry, ()),
                EntryKind::File | EntryKind::Symlink => {}
            }
        }
        for objects in indirect.chunks(LOOK_AHEAD) {
            let repository = self.repository;
            let read = stream::iter(objects).map(|object| repository.contents_of(object)).buffered(LOOK_AHEAD);
            let read: Vec<_> = wait(self.run, read.collect())?;
            for contents in read {
                let contents = contents.map_err(|source| MaintainError::Unreadable { id: id.clone(), source })?;
                for content in contents {
                    let at = self.position(id, &content)?;
                    self.needed.insert(at);
                }
            }
        }
        Ok(())
    }

    /// Marks the content that an object begins with. False when the object was gone through before.
    fn is_first(&mut self, id: &SnapshotId, object: &ObjectId) -> Result<bool, MaintainError> {
        let place = Place::of(object, self.view)?;
        let place = place.ok_or_else(|| MaintainError::Missing { id: id.clone(), content: object.content })?;
        self.needed.insert(place.at);
        Ok(self.gone_through.insert(place))
    }

    fn position(&self, id: &SnapshotId, content: &ContentId) -> Result<usize, MaintainError> {
        let found = self.view.index().position(content)?;
        found.ok_or_else(|| MaintainError::Missing { id: id.clone(), content: *content })
    }
}

fn parse(id: &SnapshotId, data: &DataId) -> Result<ObjectId, MaintainError> {
    data.as_str().parse().map_err(|error: repository_kopia::ObjectIdError| MaintainError::Unreadable {
        id: id.clone(),
        source: ReadError::Damaged { what: format!("object {data:?}"), detail: error.to_string() },
    })
}
