//! What an earlier snapshot already holds need not be read again.
//!
//! A file is unchanged if an earlier snapshot has an entry of the same name in the same directory with equal time, mode,
//! owner, kind and size; then its data is taken over without opening the file. But only if every content of that data is in
//! the index and its pack in the store: a backup must not rest on what is gone.

use std::cmp::Ordering;
use std::sync::Arc;
use std::vec;

use repository::{DataId, Entry, EntryKind, Identity, SnapshotId};
use repository_kopia::{Entries, ObjectId, Repository, Session, stored_order};
use storage::Class;

use super::BackupError;
use crate::run::Run;

/// An earlier snapshot of the same identity.
pub(super) struct Parent {
    pub(super) snapshot: SnapshotId,
    pub(super) root: Entry,
}

/// The latest complete snapshot of `identity`, and the incomplete ones that began after it; newest first.
pub(super) fn parents(
    repository: &Repository,
    identity: &Identity,
    run: &Run,
) -> Result<Vec<Arc<Parent>>, BackupError> {
    let listing = run.runtime.block_on(repository.snapshots())?;
    if let Some(error) = listing.damage.into_iter().next() {
        return Err(error.into());
    }
    let mut parents = Vec::new();
    for snapshot in listing.snapshots.into_iter().rev().filter(|snapshot| snapshot.identity == *identity) {
        let is_complete = snapshot.incomplete.is_none();
        if let Some(root) = snapshot.root {
            parents.push(Arc::new(Parent { snapshot: snapshot.id, root }));
        }
        if is_complete {
            break;
        }
    }
    Ok(parents)
}

/// The entries that earlier snapshots have in one directory, by the bytes of their names: a name that only stands for another
/// may have stood for yet another one then.
pub(super) struct Earlier<'a> {
    directories: Vec<EarlierDirectory<'a>>,
}

/// One earlier listing, as far as it was gone through: the walk asks in the order in which its entries are stored. In one that
/// somebody stored in another order some are not found, and are read anew.
struct EarlierDirectory<'a> {
    /// Nothing when all of them have come.
    more: Option<Entries<'a>>,
    come: vec::IntoIter<Entry>,
    next: Option<Entry>,
}

impl EarlierDirectory<'_> {
    fn named(&mut self, draft: &Entry, run: &Run) -> Result<Option<&Entry>, BackupError> {
        loop {
            if self.next.is_none() {
                self.next = self.advance(run)?;
            }
            match self.next.as_ref().map(|next| stored_order(next, draft)) {
                Some(Ordering::Less) => self.next = None,
                Some(Ordering::Equal) => break,
                Some(Ordering::Greater) | None => return Ok(None),
            }
        }
        Ok(self.next.as_ref().filter(|next| next.raw_name() == draft.raw_name()))
    }

    /// A listing that is damaged has no more entries.
    fn advance(&mut self, run: &Run) -> Result<Option<Entry>, BackupError> {
        loop {
            if let Some(entry) = self.come.next() {
                return Ok(Some(entry));
            }
            let Some(more) = &mut self.more else { return Ok(None) };
            match run.runtime.block_on(more.next()) {
                Ok(Some(entries)) => self.come = entries.into_owned().into_iter(),
                Ok(None) => self.more = None,
                Err(error) if error.class() == Class::Damaged => {
                    tracing::warn!(%error, "a directory of an earlier snapshot is damaged: its files are read again");
                    self.more = None;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl<'a> Earlier<'a> {
    /// The listings behind `entries`, each once; they are read as they are asked for.
    pub(super) fn of_directories(repository: &'a Repository, entries: &[Entry]) -> Self {
        let mut seen: Vec<&DataId> = Vec::new();
        for entry in entries.iter().filter(|entry| entry.kind == EntryKind::Directory) {
            if !seen.contains(&&entry.data) {
                seen.push(&entry.data);
            }
        }
        let directory =
            |data| EarlierDirectory { more: Some(repository.entries(data)), come: Vec::new().into_iter(), next: None };
        Self { directories: seen.into_iter().map(directory).collect() }
    }

    /// For a snapshot of a single file: the root entries themselves.
    pub(super) fn of_files(entries: &[Entry]) -> Self {
        let files = entries.iter().filter(|entry| entry.kind == EntryKind::File);
        let file =
            |file: &Entry| EarlierDirectory { more: None, come: Vec::new().into_iter(), next: Some(file.clone()) };
        Self { directories: files.map(file).collect() }
    }

    /// The earlier entries of the same name and kind. They are asked for in [`stored_order`].
    pub(super) fn named(&mut self, draft: &Entry, run: &Run) -> Result<Vec<Entry>, BackupError> {
        let mut found = Vec::new();
        for directory in &mut self.directories {
            found.extend(directory.named(draft, run)?.cloned());
        }
        Ok(found)
    }

    /// The earlier data of a file that looks the same and whose contents are all there. They are asked for in
    /// [`stored_order`].
    pub(super) fn unchanged(
        &mut self,
        draft: &Entry,
        session: &Session<'_>,
        run: &Run,
    ) -> Result<Option<DataId>, BackupError> {
        for directory in &mut self.directories {
            if let Some(earlier) = directory.named(draft, run)?
                && looks_the_same(earlier, draft)
                && is_all_there(&earlier.data, session, run)?
            {
                return Ok(Some(earlier.data.clone()));
            }
        }
        Ok(None)
    }
}

fn looks_the_same(earlier: &Entry, draft: &Entry) -> bool {
    earlier.kind == draft.kind
        && earlier.mtime == draft.mtime
        && earlier.mode == draft.mode
        && earlier.uid == draft.uid
        && earlier.gid == draft.gid
        && earlier.size_bytes == draft.size_bytes
}

fn is_all_there(data: &DataId, session: &Session<'_>, run: &Run) -> Result<bool, BackupError> {
    let Ok(object) = data.as_str().parse::<ObjectId>() else { return Ok(false) };
    if object.indirection == 0 {
        return Ok(session.has(&object.content)?);
    }
    if !session.has(&object.content)? {
        return Ok(false);
    }
    match run.runtime.block_on(session.repository().pieces(data)) {
        Ok(pieces) => {
            for piece in &pieces {
                if !session.has(&piece.content)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        Err(error) if error.class() == Class::Damaged => Ok(false),
        Err(error) => Err(error.into()),
    }
}
