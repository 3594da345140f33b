use api::decide::Creation;
use api::exit::Class;
use api::id::RepositoryId;
use api::ledger::QUARANTINE_TAG;
use api::mover::{BackupTask, Outcome, Task};
use api::retain::Retain;
use engine::BackupOptions;

use crate::world::{World, claim, failed, identity, pinned};

#[test]
fn a_volume_goes_there_and_back() {
    let world = World::new();
    world.fill();
    let report = world.backup();
    assert_eq!(report.outcome, Outcome::Complete);
    assert_eq!((report.files, report.bytes), (10, 10 * 1024));
    assert_eq!(report.owners.iter().map(|owner| owner.files).sum::<u64>(), 10);
    assert!(report.new_bytes > 0 && report.storage_calls > 0 && report.peak_memory_bytes > 0);
    assert_eq!(
        report.stages_ms.keys().collect::<Vec<_>>(),
        ["backup", "check", "ledger", "maintenance", "open", "quarantine", "retention"]
    );
    assert!(world.store.names().contains(&claim().ledger_object()));

    let restored = world.restore("restored");
    assert_eq!(restored.outcome, Outcome::Complete);
    assert_eq!((restored.files, restored.bytes, restored.new_bytes), (10, 10 * 1024, 0));
    assert_eq!((&restored.snapshot, &restored.repository), (&report.snapshot, &report.repository));
    assert_eq!(world.files("restored"), world.files("data"));
}

#[test]
fn an_empty_volume_makes_nothing_at_all() {
    let world = World::new();
    std::fs::create_dir(world.data().join("lost+found")).unwrap();
    let report = world.backup();
    assert_eq!((report.outcome, report.storage_calls), (Outcome::Nothing, 0));
    assert!(world.store.names().is_empty());
}

#[test]
fn a_volume_that_is_not_mounted_is_no_empty_one() {
    let world = World::new();
    let task = BackupTask { data: world.directory().join("nowhere"), ..world.backup_task() };
    failed(&world.work(&Task::Backup(task)), Class::Blocked, "read ");
    assert!(world.store.names().is_empty());
}

/// zero-touch H16: `rm -rf` everything, three backups, rebuild → old data.
#[test]
fn three_backups_of_an_emptied_volume_change_nothing() {
    let world = World::new();
    world.fill();
    let task = BackupTask { retain: Retain { latest: Some(1), ..Retain::default() }, ..world.backup_task() };
    let task = Task::Backup(task);
    let good = world.work(&task);
    assert_eq!(good.outcome, Outcome::Complete);
    let before = world.files("data");
    let ledger = world.store.contents()[&claim().ledger_object()].clone();
    world.empty();
    for _ in 0..3 {
        world.an_hour_later();
        let report = world.work(&task);
        failed(&report, Class::Blocked, "snapshot ");
        let Outcome::Failed { reason, .. } = report.outcome else { unreachable!() };
        assert!(reason.ends_with("is quarantined: no files left of 10"), "{reason}");
    }
    let snapshots = world.snapshots();
    let held: Vec<bool> = snapshots.iter().map(|one| one.tags.contains_key(QUARANTINE_TAG)).collect();
    assert_eq!(held, [false, true], "one stands for all three");
    assert_eq!(snapshots[1].tags[QUARANTINE_TAG], "no files left of 10");
    assert!(!snapshots[1].pins.is_empty());
    assert_eq!(world.store.contents()[&claim().ledger_object()], ledger);
    let restored = world.restore("restored");
    assert_eq!((restored.outcome, &restored.snapshot), (Outcome::Complete, &good.snapshot));
    assert_eq!(world.files("restored"), before);

    // Good data again: retention counts good snapshots only, and the held one stays for a person.
    world.fill();
    world.an_hour_later();
    assert_eq!(world.work(&task).outcome, Outcome::Complete);
    let held: Vec<bool> = world.snapshots().iter().map(|one| one.tags.contains_key(QUARANTINE_TAG)).collect();
    // Kopia's own defaults for what was not said keep the older good one as well.
    assert_eq!(held, [false, true, false]);
}

#[test]
fn what_a_person_accepts_is_the_last_good_one_from_then_on() {
    let world = World::new();
    world.fill();
    assert_eq!(world.backup().outcome, Outcome::Complete);
    world.empty();
    world.write("left", "on purpose");
    world.an_hour_later();
    let collapsed = world.backup();
    assert!(collapsed.quarantined);
    let accepted = BackupTask { accepted: collapsed.snapshot.clone(), ..world.backup_task() };
    for _ in 0..2 {
        world.an_hour_later();
        let after = world.work(&Task::Backup(accepted.clone()));
        assert_eq!((after.outcome, after.quarantined, after.files), (Outcome::Complete, false, 1));
    }
    let marks = world.snapshots().iter().filter(|one| one.tags.contains_key(QUARANTINE_TAG)).count();
    let pins: usize = world.snapshots().iter().map(|one| one.pins.len()).sum();
    assert_eq!((marks, pins), (0, 0));
    world.restore("restored");
    assert_eq!(world.files("restored"), world.files("data"));
    // What was accepted stays so without the word, and it is no pardon for the next collapse.
    world.empty();
    world.an_hour_later();
    assert!(world.work(&Task::Backup(accepted)).quarantined);
}

#[test]
fn a_volume_that_started_empty_on_purpose_is_not_held_against_what_was_dismissed() {
    for ledger in [true, false] {
        let world = World::new();
        world.fill();
        let task = BackupTask { ledger, ..world.backup_task() };
        assert_eq!(world.work(&Task::Backup(task.clone())).outcome, Outcome::Complete);
        let dismissed = world.snapshots()[0].start;
        world.empty();
        world.write("new", "life");
        world.an_hour_later();
        let anew = Task::Backup(BackupTask { disregarded: Some(dismissed), ..task });
        assert_eq!(world.work(&anew).outcome, Outcome::Complete);
        world.empty();
        world.an_hour_later();
        assert!(world.work(&anew).quarantined, "its own snapshots count");
    }
}

/// The run was killed after its snapshot and before the mark.
#[test]
fn a_collapsed_snapshot_without_its_mark_is_not_restored() {
    let world = World::new();
    world.fill();
    let good = world.backup();
    world.empty();
    world.an_hour_later();
    let options = BackupOptions {
        identity: identity().to_string().parse().unwrap(),
        description: String::new(),
        tags: Default::default(),
        compression: None,
        read_all: false,
        cache_directory: None,
    };
    engine::backup(&world.repository(), &world.data(), &options, &world.run()).unwrap();
    assert_eq!(world.snapshots().len(), 2);
    assert_eq!(world.restore("restored").snapshot, good.snapshot);
    assert_eq!(world.files("restored").len(), 10);
    // The next good run gives it the mark, before the ledger moves past it.
    world.fill();
    world.an_hour_later();
    assert_eq!(world.backup().outcome, Outcome::Complete);
    let held: Vec<bool> = world.snapshots().iter().map(|one| one.tags.contains_key(QUARANTINE_TAG)).collect();
    assert_eq!(held, [false, true, false]);
}

#[test]
fn without_a_ledger_the_history_guards() {
    let world = World::new();
    world.fill();
    let task = Task::Backup(BackupTask { ledger: false, ..world.backup_task() });
    assert_eq!(world.work(&task).outcome, Outcome::Complete);
    assert!(!world.store.names().contains(&claim().ledger_object()));
    world.empty();
    world.an_hour_later();
    failed(&world.work(&task), Class::Blocked, "snapshot ");
}

#[test]
fn retention_is_the_tasks() {
    let world = World::new();
    let zero = Retain {
        hourly: Some(0),
        daily: Some(0),
        weekly: Some(0),
        monthly: Some(0),
        yearly: Some(0),
        latest: Some(2),
        ..Retain::default()
    };
    let task = Task::Backup(BackupTask { retain: zero, ..world.backup_task() });
    for at in 0..4 {
        world.fill();
        world.write("counter", &at.to_string());
        assert_eq!(world.work(&task).outcome, Outcome::Complete);
        world.an_hour_later();
    }
    assert_eq!(world.snapshots().len(), 2);
}

#[test]
fn another_repository_than_the_pinned_one_is_left_alone() {
    let world = World::new();
    world.fill();
    let first = world.backup();
    let before = world.store.names();
    let other = Some(RepositoryId::new("00ff"));
    let task = BackupTask { expected_repository_id: other.clone(), ..world.backup_task() };
    failed(&world.work(&Task::Backup(task)), Class::Blocked, "WrongRepository: ");
    assert_eq!(world.store.names(), before);
    let task = BackupTask { expected_repository_id: pinned(&first), ..world.backup_task() };
    assert_eq!(world.work(&Task::Backup(task)).outcome, Outcome::Complete);
}

#[test]
fn nothing_is_created_where_something_is_expected() {
    let world = World::new();
    world.fill();
    let never = BackupTask { creation: Creation::Never, ..world.backup_task() };
    let pinned = BackupTask { expected_repository_id: Some(RepositoryId::new("00ff")), ..world.backup_task() };
    for task in [never, pinned] {
        failed(&world.work(&Task::Backup(task)), Class::Blocked, "RepositoryMissing: ");
        assert!(world.store.names().is_empty());
    }
    // What was lost but for its ledger is not made anew: the place is not empty.
    world.store.tamper(&claim().ledger_object(), "{}");
    failed(&world.backup(), Class::Blocked, "open the repository: no Kopia repository");
    assert_eq!(world.store.names(), [claim().ledger_object()]);
}

#[test]
fn unknown_compression_is_refused_before_anything_is_done() {
    let world = World::new();
    world.fill();
    let task = BackupTask { compression: Some("zstd-slowest".to_owned()), ..world.backup_task() };
    failed(&world.work(&Task::Backup(task)), Class::Blocked, "compression \"zstd-slowest\"");
    assert!(world.store.names().is_empty());
    let task = BackupTask { compression: Some("zstd-fastest".to_owned()), ..world.backup_task() };
    assert_eq!(world.work(&Task::Backup(task)).outcome, Outcome::Complete);
}

#[test]
fn asked_to_stop_before_it_began() {
    let world = World::new();
    world.fill();
    let run = world.run();
    run.cancel.cancel();
    let environment = world.environment(std::sync::Arc::new(world.store.clone()));
    let backup = mover::run(&Task::Backup(world.backup_task()), &environment, &run);
    let restore = mover::run(&Task::Restore(world.restore_task("restored")), &environment, &run);
    assert_eq!((backup.outcome, restore.outcome), (Outcome::Interrupted, Outcome::Interrupted));
    assert!(world.store.names().is_empty());
}
