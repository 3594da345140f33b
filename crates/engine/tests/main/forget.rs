//! Forgetting, in a copy of a golden repository.

use std::fs;
use std::path::Path;

use engine::{ForgetError, forget, forget_ids};
use repository::SnapshotId;
use repository_kopia::Retention;
use storage::Class;
use tempfile::TempDir;

use crate::golden::{Opened, damaged, golden, open};

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn ids(opened: &Opened, is_pinned: bool) -> Vec<SnapshotId> {
    let chosen = opened.snapshots().into_iter().filter(|snapshot| snapshot.pins.is_empty() != is_pinned);
    chosen.map(|snapshot| snapshot.id).collect()
}

/// One a year: of the golden snapshots, all made on one day, only the newest stays, and what is pinned.
const KEEP_ONE: Retention = Retention {
    keep_latest: Some(0),
    keep_hourly: Some(0),
    keep_daily: Some(0),
    keep_weekly: Some(0),
    keep_monthly: Some(0),
    keep_annual: Some(1),
};

#[test]
fn retention_removes_what_it_does_not_keep_and_never_a_pinned_one() {
    let place = TempDir::new().unwrap();
    copy(&golden("v3-zstd"), place.path());
    let opened = open(place.path());
    let (pinned, free) = (ids(&opened, true), ids(&opened, false));
    assert!(!pinned.is_empty() && !free.is_empty());
    let own = forget(&opened.repository, None, None, true, &opened.run).unwrap();
    assert_eq!((own.removed.len(), own.kept.len()), (0, pinned.len() + free.len()));
    let dry = forget(&opened.repository, None, Some(KEEP_ONE), true, &opened.run).unwrap();
    assert!(dry.removed.iter().all(|id| free.contains(id)));
    assert_eq!(ids(&open(place.path()), false), free);

    let done = forget(&opened.repository, None, Some(KEEP_ONE), false, &opened.run).unwrap();
    assert_eq!(done, dry);
    let left = open(place.path());
    assert_eq!(ids(&left, true), pinned);
    assert_eq!(ids(&left, false).len() + done.removed.len(), free.len());
}

#[test]
fn named_snapshots_go_all_or_none() {
    let place = TempDir::new().unwrap();
    copy(&golden("v3-zstd"), place.path());
    let opened = open(place.path());
    let (pinned, free) = (ids(&opened, true), ids(&opened, false));
    let unknown = [free[0].clone(), SnapshotId::new("0123")];
    let error = forget_ids(&opened.repository, &unknown, false, &opened.run).unwrap_err();
    assert!(matches!(error, ForgetError::Unknown { .. }), "{error}");
    let error = forget_ids(&opened.repository, &[free[0].clone(), pinned[0].clone()], false, &opened.run).unwrap_err();
    assert!(matches!(error, ForgetError::Pinned { .. }), "{error}");
    assert_eq!(ids(&open(place.path()), false), free);
    forget_ids(&opened.repository, &free, false, &opened.run).unwrap();
    let left = open(place.path());
    assert_eq!((ids(&left, true), ids(&left, false)), (pinned, Vec::new()));
}

#[test]
fn nothing_is_forgotten_while_a_record_is_unreadable() {
    for name in ["flipped-byte-in-index", "missing-metadata-pack"] {
        let opened = open(&damaged(name));
        let error = forget(&opened.repository, None, Some(KEEP_ONE), false, &opened.run).unwrap_err();
        assert!(matches!(error, ForgetError::Damaged { .. }), "{error}");
        assert_eq!(error.class(), Class::Damaged);
    }
}
