//! The last packs, the index, the snapshot.

use repository::{Snapshot, SnapshotId, Stats};
use repository_kopia::{Packer, Session};

use super::tree::Tree;
use super::{BackupError, BackupOptions, BackupOutcome, upload};
use crate::run::Run;

pub(super) fn run(
    session: &Session<'_>,
    packer: &Packer<'_>,
    options: &BackupOptions,
    parent: Option<SnapshotId>,
    tree: Tree,
    run: &Run,
) -> Result<BackupOutcome, BackupError> {
    for pack in packer.finish()? {
        upload::upload(pack, session, run)?;
    }
    if run.cancel.is_cancelled() {
        return Err(BackupError::Interrupted);
    }
    let stats = stats(&tree);
    let mut snapshot = Snapshot {
        id: SnapshotId::new(""),
        identity: options.identity.clone(),
        description: options.description.clone(),
        start: session.started(),
        end: session.repository().clock().now(),
        incomplete: None,
        root: Some(tree.root.clone()),
        stats,
        tags: options.tags.clone(),
        pins: Vec::new(),
    };
    snapshot.id = run.runtime.block_on(session.commit_snapshot(&snapshot, &tree.checkpoints))?;
    Ok(BackupOutcome {
        snapshot: snapshot.id,
        root: tree.root,
        stats,
        parent,
        unreadable_count: tree.counts.failed_count,
        unreadable: tree.counts.failed,
        shortfalls: tree.counts.shortfalls,
    })
}

fn stats(tree: &Tree) -> Stats {
    let summary = tree.root.summary.as_ref();
    Stats {
        total_bytes: summary.map_or(0, |summary| summary.size_bytes),
        file_count: tree.counts.read_count,
        cached_file_count: tree.counts.unchanged_count,
        directory_count: summary.map_or(0, |summary| summary.directory_count),
        ignored_error_count: tree.counts.ignored_error_count,
        error_count: tree.counts.failed_count,
        ..Stats::default()
    }
}
