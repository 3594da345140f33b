//! Every call to the store fails once, loses its reply, or is the last before the process ends: of backup, restore, forget,
//! maintenance and repair; and from each on the store is full. What is left is sound, nothing claims a success that is none, an error names the object, and the
//! next run ends what was begun.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use engine::{RepairOptions, RestoreOptions, backup, forget, repair, restore};
use repository_kopia::{CycleKind, Retention, Safety};
use storage::{ErrorKind, Storage};
use tempfile::TempDir;
use testkit::{Fault, FaultStore, Moment, describe};

use crate::backup::{RUNTIME, options};
use crate::maintain::world::{World, run};
use crate::misbehaving::chain;

fn faults(count: usize) -> impl Iterator<Item = Fault> {
    (0..count).flat_map(|operation| {
        [
            Fault::once(operation, Moment::Before),
            Fault::once(operation, Moment::After),
            Fault::onwards(operation, Moment::Before),
            Fault::onwards(operation, Moment::After),
            Fault::onwards(operation, Moment::Before).of_kind(ErrorKind::Full),
        ]
    })
}

/// Does `work` over a store that fails at each of its calls in turn, in a world and a directory of its own each time. It says
/// in words what failed. `left` must hold after every run, `done` after every one that claims to be complete.
pub fn check(
    world: &World,
    work: impl Fn(&World, Arc<dyn Storage>, &Path) -> Result<(), String>,
    left: impl Fn(&World),
    done: impl Fn(&World, &Path),
) {
    let (whole, place) = (world.fork(), TempDir::new().unwrap());
    let counting = FaultStore::counting(whole.store.clone());
    work(&whole, counting.clone(), place.path()).unwrap();
    done(&whole, place.path());
    let mut failed_count = 0;
    for fault in faults(counting.operations_count()) {
        let (cut, place) = (world.fork(), TempDir::new().unwrap());
        let failing = FaultStore::over(cut.store.clone(), fault);
        match work(&cut, failing.clone(), place.path()) {
            Ok(()) => done(&cut, place.path()),
            Err(words) => {
                failed_count += 1;
                let failed = failing.failed();
                let is_named = failed.iter().any(|operation| words.contains(operation));
                assert!(is_named, "{fault:?}: {words} says nothing of {failed:?}");
            }
        }
        left(&cut);
        cut.hours(25);
        work(&cut, Arc::new(cut.store.clone()), place.path()).map_err(|words| format!("{fault:?}: {words}")).unwrap();
        left(&cut);
        done(&cut, place.path());
    }
    assert!(failed_count > 0);
}

fn plant(tree: &Path) {
    fs::create_dir_all(tree.join("sub")).unwrap();
    fs::write(tree.join("new"), "new").unwrap();
    fs::write(tree.join("sub/kept"), "kept").unwrap();
    fs::write(tree.join("sub/large"), crate::backup::pseudo_random(1, 300_000)).unwrap();
}

/// Two snapshots, whose data lies in different packs.
fn with_two() -> World {
    let world = World::new();
    world.back_up(&[("first", "first"), ("sub/kept", "kept")]);
    world.hours(1);
    world.back_up(&[("second", "second"), ("sub/kept", "kept")]);
    world.hours(1);
    world
}

fn restore_newest(world: &World, store: Arc<dyn Storage>, target: &Path) -> Result<(), String> {
    let repository = world.over(store);
    let listing = RUNTIME.block_on(repository.snapshots()).map_err(|error| chain(&error))?;
    if let Some(damage) = listing.damage.first() {
        return Err(chain(damage));
    }
    let newest = listing.snapshots.last().ok_or("no snapshot")?;
    let outcome = restore(repository, newest, target, &RestoreOptions::default(), &run());
    let outcome = outcome.map_err(|error| chain(&error))?;
    match outcome.is_complete() {
        true => Ok(()),
        false => Err(format!("{:?}", outcome.failed)),
    }
}

#[test]
fn a_backup_may_be_cut_anywhere() {
    let tree = TempDir::new().unwrap();
    plant(tree.path());
    let world = with_two();
    let before = world.snapshots();
    let work = |world: &World, store: Arc<dyn Storage>, _: &Path| {
        let outcome = backup(world.over(store), tree.path(), &options(), &run()).map_err(|error| chain(&error))?;
        assert!(outcome.is_complete(), "{outcome:?}");
        Ok(())
    };
    let left = |world: &World| {
        world.verify();
        assert!(world.snapshots().is_superset(&before));
    };
    let done = |world: &World, place: &Path| {
        let target = place.join("restored");
        restore_newest(world, Arc::new(world.store.clone()), &target).unwrap();
        assert_eq!(describe(&target).unwrap(), describe(tree.path()).unwrap());
    };
    check(&world, work, left, done);
}

#[test]
fn a_restore_may_be_cut_anywhere() {
    let tree = TempDir::new().unwrap();
    plant(tree.path());
    let world = with_two();
    backup(world.repository(), tree.path(), &options(), &run()).unwrap();
    let stored = world.store.contents();
    let left = |world: &World| assert!(world.store.contents() == stored);
    let done = |_: &World, target: &Path| assert_eq!(describe(target).unwrap(), describe(tree.path()).unwrap());
    check(&world, restore_newest, left, done);
}

#[test]
fn forgetting_may_be_cut_anywhere() {
    let world = with_two();
    let newest = world.back_up(&[("third", "third")]);
    let before = world.snapshots();
    let keep = Retention {
        keep_latest: Some(1),
        keep_hourly: Some(0),
        keep_daily: Some(0),
        keep_weekly: Some(0),
        keep_monthly: Some(0),
        keep_annual: Some(0),
    };
    let work = |world: &World, store: Arc<dyn Storage>, _: &Path| {
        forget(world.over(store), None, Some(keep), false, &run()).map(|_| ()).map_err(|error| chain(&error))
    };
    let left = |world: &World| {
        world.verify();
        let left = world.snapshots();
        assert!(left.contains(&newest) && left.is_subset(&before), "{left:?}");
    };
    check(&world, work, left, |world, _| assert_eq!(world.snapshots().len(), 1));
}

/// A cycle of maintenance in `world`.
pub fn check_cycle(world: &World, cycle: CycleKind, safety: Safety) {
    let before = world.snapshots();
    let work = |world: &World, store: Arc<dyn Storage>, _: &Path| {
        world.maintain_over(store, cycle, safety).map(|_| ()).map_err(|error| chain(&error))
    };
    let left = |world: &World| {
        assert_eq!(world.snapshots(), before);
        world.verify();
    };
    check(world, work, left, |_, _| ());
}

#[test]
fn a_repair_may_be_cut_anywhere() {
    let whole = with_two();
    let snapshots = whole.snapshots();
    let index: Vec<String> = whole.store.names().into_iter().filter(|name| name.starts_with("xn")).collect();
    let world = whole.fork();
    world.store.lose(&index[0]);
    world.store.tamper(&index[1], "no index");
    let damaged = world.store.contents();
    let options = RepairOptions { dry_run: false, accept_loss: false, include_dropped: false, read_percent: 0 };
    let work = |world: &World, store: Arc<dyn Storage>, _: &Path| {
        let outcome = repair(world.over(store), &options, &run()).map_err(|error| chain(&error))?;
        match outcome.after.is_clean() {
            true => Ok(()),
            false => Err(format!("{:?} {:?}", outcome.left, outcome.after.findings)),
        }
    };
    let left = |world: &World| {
        let objects = world.store.contents();
        for (name, bytes) in &damaged {
            assert!(objects.get(name) == Some(bytes) || objects.values().any(|kept| kept == bytes), "{name} is lost");
        }
    };
    let done = |world: &World, _: &Path| {
        world.verify();
        assert_eq!(world.snapshots(), snapshots);
    };
    check(&world, work, left, done);
}
