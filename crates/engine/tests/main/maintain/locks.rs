//! Object locks of what is in use are made longer, and of nothing else.

use std::collections::BTreeSet;

use engine::Done;
use jiff::SignedDuration;
use repository_kopia::{CreateOptions, MaintenanceError, Task, TaskStats};
use storage::LockMode;

use super::world::{World, done, run};

const PERIOD: SignedDuration = SignedDuration::from_hours(48);

fn locking(period: SignedDuration) -> World {
    World::with(&CreateOptions { retention: Some((LockMode::Governance, period)), ..CreateOptions::default() })
}

fn ask_for_it(world: &World) -> Result<(), MaintenanceError> {
    run().runtime.block_on(world.repository().set_extend_object_locks(true))
}

#[test]
fn locks_of_what_is_in_use_are_made_longer() {
    let world = locking(PERIOD);
    ask_for_it(&world).unwrap();
    world.back_up(&[("a", "kept")]);
    let before = world.store.names();
    world.write_unfinished(b"nothing names this pack yet");
    let unnamed: Vec<String> =
        world.store.names().into_iter().filter(|name| name.starts_with('p') && !before.contains(name)).collect();
    world.store.tamper("perennial/ledger", "not of the repository");
    world.hours(30);
    let begun = world.store.now();
    let outcome = world.full();
    let Done::Counted(TaskStats::ExtendBlobRetention { to_extend_blob_count, extended_blob_count, retention_period }) =
        done(&outcome, Task::ExtendBlobRetentionTime)
    else {
        panic!("{outcome:?}");
    };
    assert_eq!((to_extend_blob_count, retention_period.as_str()), (extended_blob_count, "48h0m0s"));
    assert!(*extended_blob_count >= 6, "{extended_blob_count}");
    let repository = world.repository();
    let view = repository.index();
    let in_use: BTreeSet<String> = view.index().packs().map(|pack| pack.unwrap().to_string()).collect();
    let is_pack = |name: &str| name.starts_with(['p', 'q']);
    for name in before.iter().filter(|name| *name != "kopia.maintenance" && (!is_pack(name) || in_use.contains(*name)))
    {
        assert!(world.store.lock_of(name).unwrap().until >= begun + PERIOD, "{name}");
    }
    // What was moved elsewhere waits for its end.
    let old: Vec<&String> = before.iter().filter(|name| is_pack(name) && !in_use.contains(*name)).collect();
    assert!(!old.is_empty() && in_use.len() >= 2);
    for name in old {
        assert!(world.store.lock_of(name).unwrap().until < begun + PERIOD, "{name}");
    }
    for name in &unnamed {
        assert!(world.store.lock_of(name).unwrap().until < begun + PERIOD, "{name}");
    }
    assert_eq!(unnamed.len(), 1);
    assert_eq!(["kopia.maintenance", "perennial/ledger"].map(|name| world.store.lock_of(name)), [None, None]);
    world.verify();
}

#[test]
fn nobody_asked_and_nothing_is_made_longer() {
    let world = locking(PERIOD);
    world.back_up(&[("a", "kept")]);
    let locks = |world: &World| world.store.names().iter().map(|name| world.store.lock_of(name)).collect::<Vec<_>>();
    let before = locks(&world);
    world.hours(1);
    let outcome = world.full();
    assert!(outcome.tasks.iter().all(|found| found.task != Task::ExtendBlobRetentionTime));
    assert!(before.iter().all(|lock| locks(&world).contains(lock)));
}

#[test]
fn locks_that_would_end_between_two_cycles_are_refused() {
    let error = ask_for_it(&World::new()).unwrap_err();
    assert!(matches!(error, MaintenanceError::NothingLocked), "{error}");
    let error = ask_for_it(&locking(PERIOD - SignedDuration::from_secs(1))).unwrap_err();
    assert!(matches!(error, MaintenanceError::LocksTooShort { hours: 47, interval_hours: 24 }), "{error}");
}
