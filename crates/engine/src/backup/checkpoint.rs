//! Snapshots of what is finished so far, made while a long backup goes on.
//!
//! Garbage collection takes what nothing refers to once it is a day old, so a backup that may last longer must refer to its
//! data before it ends. Should it be killed, the next one takes the checkpoint's files over.

use jiff::{SignedDuration, Timestamp};
use repository::{Entry, Snapshot, SnapshotId, Stats};
use repository_kopia::{Checkpoint, Packer, Session};

use super::{BackupError, BackupOptions};
use crate::run::Run;

/// Why such a snapshot is incomplete, in Kopia's word.
pub(super) const REASON: &str = "checkpoint";
/// Kopia makes checkpoints as often, and allows no longer interval.
const INTERVAL: SignedDuration = SignedDuration::from_mins(45);

pub(super) struct Checkpoints<'a> {
    pub(super) session: &'a Session<'a>,
    pub(super) packer: &'a Packer<'a>,
    pub(super) options: &'a BackupOptions,
    pub(super) run: &'a Run,
    pub(super) last: Timestamp,
    pub(super) made: Vec<Checkpoint>,
}

impl Checkpoints<'_> {
    pub(super) fn is_due(&self) -> bool {
        self.session.repository().clock().now().duration_since(self.last) >= INTERVAL
    }

    pub(super) fn make(&mut self, root: Entry) -> Result<(), BackupError> {
        let now = self.session.repository().clock().now();
        let snapshot = Snapshot {
            id: SnapshotId::new(""),
            identity: self.options.identity.clone(),
            description: self.options.description.clone(),
            start: self.session.started(),
            end: now,
            incomplete: Some(REASON.to_owned()),
            root: Some(root),
            stats: Stats::default(),
            tags: self.options.tags.clone(),
            pins: Vec::new(),
        };
        self.made.push(self.run.runtime.block_on(self.session.checkpoint(self.packer, &snapshot))?);
        self.last = now;
        Ok(())
    }
}
