//! What an earlier snapshot already holds need not be read again.
//!
//! A file is unchanged if an earlier snapshot has an entry of the same name in the same directory with equal time, mode,
//! owner, kind and size; then its data is taken over without opening the file. But only if every content of that data is in
//! the index and its pack in the store: a backup must not rest on what is gone.

use std::cell::Cell;
use std::sync::Arc;

use repository::{DataId, Entry, EntryKind, Identity, SnapshotId};
use repository_kopia::{ObjectId, Repository, Session};
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
#[derive(Default)]
pub(super) struct Earlier {
    directories: Vec<EarlierDirectory>,
}

/// One earlier listing, by name.
struct EarlierDirectory {
    entries: Vec<Entry>,
    /// Where the next name is expected: the walk asks in the order in which the entries lie.
    next: Cell<usize>,
}

impl EarlierDirectory {
    fn new(mut entries: Vec<Entry>) -> Self {
        // They come as two sorted runs, directories and others, which a stable sort only merges.
        entries.sort_by(|a, b| a.raw_name().cmp(b.raw_name()));
        Self { entries, next: Cell::new(0) }
    }

    fn named(&self, name: &[u8]) -> Option<&Entry> {
        let expected = self.next.get();
        let at = match self.entries.get(expected) {
            Some(entry) if entry.raw_name() == name => expected,
            _ => self.entries.binary_search_by(|entry| entry.raw_name().cmp(name)).ok()?,
        };
        self.next.set(at + 1);
        self.entries.get(at)
    }
}

impl Earlier {
    /// Reads the listings behind `entries`, each once. One that is damaged counts as absent: its files are read anew.
    pub(super) fn read(repository: &Repository, entries: &[Entry], run: &Run) -> Result<Self, BackupError> {
        let mut seen: Vec<&DataId> = Vec::new();
        let mut directories = Vec::new();
        for entry in entries.iter().filter(|entry| entry.kind == EntryKind::Directory) {
            if seen.contains(&&entry.data) {
                continue;
            }
            seen.push(&entry.data);
            match run.runtime.block_on(repository.directory(&entry.data)) {
                Ok(directory) => directories.push(EarlierDirectory::new(directory.entries)),
                Err(error) if error.class() == Class::Damaged => {
                    tracing::warn!(%error, "a directory of an earlier snapshot is damaged: its files are read again");
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Self { directories })
    }

    /// For a snapshot of a single file: the root entries themselves.
    pub(super) fn of_files(entries: &[Entry]) -> Self {
        let files = entries.iter().filter(|entry| entry.kind == EntryKind::File);
        Self { directories: files.map(|entry| EarlierDirectory::new(vec![entry.clone()])).collect() }
    }

    /// The earlier entries of that name.
    pub(super) fn named<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a Entry> {
        self.directories.iter().filter_map(move |directory| directory.named(name))
    }

    /// The earlier data of a file that looks the same and whose contents are all there.
    pub(super) fn unchanged(
        &self,
        draft: &Entry,
        session: &Session<'_>,
        run: &Run,
    ) -> Result<Option<DataId>, BackupError> {
        for earlier in self.named(draft.raw_name()) {
            if looks_the_same(earlier, draft) && is_all_there(&earlier.data, session, run)? {
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
