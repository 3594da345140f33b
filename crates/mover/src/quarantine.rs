//! Snapshots that the content guard holds back.
//!
//! A held snapshot carries the tag [`QUARANTINE_TAG`] with the reason, and a pin, so that no program's retention removes
//! it. The mark is written after the snapshot, in a second record, and a run may be killed between the two. So readers
//! judge unmarked snapshots too: one that is newer than the ledger's last good snapshot and collapsed against it counts
//! as held.

use api::ledger::{Figures, GuardVerdict, LedgerEntry, QUARANTINE_TAG, Thresholds, guard};
use repository::{EntryKind, Snapshot, SnapshotId};
use repository_kopia::{Repository, WriteError};

/// What the pin says.
const PIN: &str = "perennial-quarantine";

/// How much a snapshot holds.
pub fn figures(snapshot: &Snapshot) -> Figures {
    match &snapshot.root {
        None => Figures { files: 0, bytes: 0 },
        Some(root) => match (&root.summary, root.kind) {
            (Some(summary), _) => Figures { files: summary.file_count, bytes: summary.size_bytes },
            (None, EntryKind::File) => Figures { files: 1, bytes: root.size_bytes },
            (None, EntryKind::Directory | EntryKind::Symlink) => Figures { files: 0, bytes: 0 },
        },
    }
}

/// Whether the snapshot is held back, by its mark or against the last good one.
pub fn is_quarantined(snapshot: &Snapshot, last_good: Option<&LedgerEntry>, thresholds: &Thresholds) -> bool {
    snapshot.tags.contains_key(QUARANTINE_TAG)
        || last_good.is_some_and(|good| {
            let previous = Figures { files: good.files, bytes: good.bytes };
            let is_newer = snapshot.start > good.time && snapshot.id.as_str() != good.snapshot_id.as_str();
            // What was never finished is small by nature, and is restored by nobody.
            is_newer
                && snapshot.incomplete.is_none()
                && matches!(guard(&previous, &figures(snapshot), thresholds), GuardVerdict::Quarantine { .. })
        })
}

/// Marks a snapshot as held, and gives the id under which it stands from now on.
///
/// If one with the same data is held already, it stands for both: an emptied volume that is backed up every hour must
/// not fill the history with snapshots of nothing.
pub(crate) async fn hold(
    repository: &Repository,
    snapshot: &Snapshot,
    history: &[&Snapshot],
    why: &str,
) -> Result<SnapshotId, WriteError> {
    let data = |snapshot: &Snapshot| snapshot.root.as_ref().map(|root| root.data.clone());
    let same = history.iter().find(|other| {
        other.id != snapshot.id && other.tags.contains_key(QUARANTINE_TAG) && data(other) == data(snapshot)
    });
    if let Some(same) = same {
        repository.forget(std::slice::from_ref(&snapshot.id)).await?;
        return Ok(same.id.clone());
    }
    let mut held = snapshot.clone();
    held.tags.insert(QUARANTINE_TAG.to_owned(), why.to_owned());
    held.pins.push(PIN.to_owned());
    let id = repository.begin().await?.commit_snapshot(&held, &[]).await?;
    repository.forget(std::slice::from_ref(&snapshot.id)).await?;
    Ok(id)
}

/// Takes the mark from a snapshot that a person accepts, and gives it as it stands from now on.
pub(crate) async fn release(repository: &Repository, snapshot: &Snapshot) -> Result<Snapshot, WriteError> {
    let mut accepted = snapshot.clone();
    accepted.tags.remove(QUARANTINE_TAG);
    accepted.pins.retain(|pin| pin != PIN);
    accepted.id = repository.begin().await?.commit_snapshot(&accepted, &[]).await?;
    repository.forget(std::slice::from_ref(&snapshot.id)).await?;
    Ok(accepted)
}
