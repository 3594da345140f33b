//! Which contents are to be read, where some snapshots were chosen.

use repository::{Entry, EntryKind, Snapshot};
use repository_kopia::{IndexView, Repository};

use super::VerifyError;
use super::read::is_in_share;
use super::tree::{direct_piece, place_of};
use crate::bits::{Bits, Objects};
use crate::restore::fetch::wait;
use crate::restore::walk::Walk;
use crate::run::Run;

/// Where in the index the contents of files and links in the trees of `snapshots` stand that are in the share to be read. What
/// cannot be read is left to [`super::tree`].
pub(super) fn contents_of(
    repository: &Repository,
    view: &IndexView,
    snapshots: &[&Snapshot],
    percent: u8,
    run: &Run,
) -> Result<Bits, VerifyError> {
    let length = view.index().len();
    let mut share = Share { repository, view, percent, run, wanted: Bits::new(length), seen: Objects::new(length) };
    for snapshot in snapshots {
        let Some(root) = &snapshot.root else { continue };
        let mut walk = Walk::new(repository, run);
        share.entry(root, &mut walk)?;
        while let Some(((), listing)) = walk.next()? {
            let Ok(listing) = listing else { continue };
            let mut entries = listing.entries(repository);
            while let Ok(Some(some)) = wait(run, entries.next())? {
                some.iter().try_for_each(|entry| share.entry(entry, &mut walk))?;
            }
        }
    }
    Ok(share.wanted)
}

struct Share<'a> {
    repository: &'a Repository,
    view: &'a IndexView,
    percent: u8,
    run: &'a Run,
    wanted: Bits,
    /// Directories met before.
    seen: Objects,
}

impl Share<'_> {
    fn entry(&mut self, entry: &Entry, walk: &mut Walk<'_, ()>) -> Result<(), VerifyError> {
        match entry.kind {
            EntryKind::Directory => {
                let place = place_of(&entry.data, self.view)?;
                if place.is_some_and(|place| self.seen.insert(place)) {
                    walk.push(entry, ());
                }
            }
            EntryKind::File | EntryKind::Symlink => {
                let pieces = match direct_piece(&entry.data) {
                    Some(piece) => vec![piece],
                    None => wait(self.run, self.repository.pieces(&entry.data))?.unwrap_or_default(),
                };
                for piece in pieces.iter().filter(|piece| is_in_share(&piece.content, self.percent)) {
                    if let Some(at) = self.view.index().position(&piece.content)? {
                        self.wanted.insert(at);
                    }
                }
            }
        }
        Ok(())
    }
}
