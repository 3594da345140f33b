//! Repositories that kopia wrote: every snapshot restores to the last attribute before and after our cycles.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use engine::{MaintainOptions, RestoreOptions, Selection, VerifyOptions, maintain, restore, select, verify};
use jiff::{SignedDuration, Timestamp};
use repository_kopia::{CycleKind, Password, Repository, Safety};
use tempfile::TempDir;

use super::world::{SetClock, client, run};
use crate::golden::{expected_trees, golden, lines_of, memory_of};

#[track_caller]
fn check_restores(repository: &Repository, name: &str, when: &str) {
    let run = run();
    let snapshots = run.runtime.block_on(repository.snapshots()).unwrap().snapshots;
    let expected = expected_trees(name);
    assert!(!expected.is_empty());
    for (id, tree) in expected {
        let snapshot = select(&snapshots, None, &Selection::Id(id)).unwrap();
        let target = TempDir::new().unwrap();
        assert!(restore(repository, snapshot, target.path(), &RestoreOptions::default(), &run).unwrap().is_complete());
        assert_eq!(lines_of(target.path()), tree, "{name} {} {when}", snapshot.id);
    }
}

/// Gives how many index blobs there were at first, and at last.
#[track_caller]
fn check(name: &str) -> (usize, usize) {
    let store = memory_of(&golden(name));
    let mut now: Timestamp = "2026-12-01T00:00:00Z".parse().unwrap();
    let clock = Arc::new(AtomicI64::new(0));
    let set = |time: Timestamp| {
        clock.store(time.as_millisecond(), std::sync::atomic::Ordering::SeqCst);
        store.set_now(time);
    };
    set(now);
    let (password, set_clock) = (Password::new("correct horse"), Arc::new(SetClock(clock.clone())));
    let opening = Repository::open(Arc::new(store.clone()), &password, client(), set_clock);
    let repository = run().runtime.block_on(opening).unwrap();
    let before = repository.description().index_blob_count;
    check_restores(&repository, name, "before");
    for (hours, safety) in
        [(1, true), (25, true), (5, true), (25, true), (25, true), (1, false), (1, false), (1, false)]
    {
        now += SignedDuration::from_hours(hours);
        set(now);
        let safety = if safety { Safety::full() } else { Safety::none() };
        for cycle in [CycleKind::Full, CycleKind::Quick] {
            maintain(&repository, &MaintainOptions { cycle, force: true, safety }, &run()).unwrap();
        }
        run().runtime.block_on(repository.refresh()).unwrap();
        let found = verify(&repository, &VerifyOptions::default(), &run()).unwrap();
        assert!(found.is_clean(), "{name} {:?}", found.findings);
    }
    let found = verify(&repository, &VerifyOptions { read_percent: 100, ..VerifyOptions::default() }, &run()).unwrap();
    assert!(found.is_clean(), "{name} {:?}", found.findings);
    check_restores(&repository, name, "after");
    (before, repository.description().index_blob_count)
}

/// Epochs in every state: with their own blobs, merged one by one, merged to a range, and contents marked and dropped.
#[test]
fn what_has_epochs_is_the_same_after_maintenance() {
    let (before, after) = check("epochs");
    assert!(after < before, "{before} {after}");
}

#[test]
fn what_has_none_is_the_same_after_maintenance() {
    check("format1");
}

#[test]
fn every_other_variant_is_the_same_after_maintenance() {
    for name in ["format1-upgraded", "format2", "ecc10", "concurrent", "incomplete"] {
        check(name);
    }
}
