use api::exit::Class;
use api::id::RepositoryId;
use api::mover::{Outcome, RestoreTask, Selection, Task};

use crate::world::{World, failed, pinned};

#[test]
fn nothing_to_restore_is_never_a_success() {
    let world = World::new();
    failed(&world.restore("restored"), Class::Blocked, "RepositoryMissing: ");
    assert!(world.store.names().is_empty(), "a restore creates nothing");
    world.fill();
    world.backup();
    let mut task = world.restore_task("restored");
    task.identity.username = "another".to_owned();
    failed(&world.work(&Task::Restore(task)), Class::Blocked, "nothing to restore: there is no snapshot of another@");
    assert!(world.files("restored").is_empty());
}

#[test]
fn nothing_is_as_good_where_the_task_says_so_and_there_never_was_anything() {
    let world = World::new();
    let patient = || RestoreTask { may_be_nothing: true, delete_extra: true, ..world.restore_task("restored") };
    std::fs::write(patient().data.join("mine"), "mine").unwrap();
    let nothing = |task: RestoreTask| {
        let report = world.work(&Task::Restore(task));
        assert_eq!(report.outcome, Outcome::Nothing);
        assert_eq!(world.files("restored").len(), 1, "the volume stays as it is");
        report.available
    };
    assert_eq!(nothing(patient()), []);
    assert!(world.store.names().is_empty(), "a restore creates nothing");
    let expected = RestoreTask { expected_repository_id: Some(RepositoryId::new("00ff")), ..patient() };
    failed(&world.work(&Task::Restore(expected)), Class::Blocked, "RepositoryMissing: ");
    world.fill();
    world.backup();
    let identity = patient().identity.to_string();
    let mut another = patient();
    another.identity.username = "another".to_owned();
    another.claim = api::naming::ClaimKey::new("media", "another").unwrap();
    let available = nothing(another);
    let [known] = &available[..] else { panic!("{available:?}") };
    assert_eq!((known.identity.as_str(), known.snapshots), (identity.as_str(), 1));
    // There was something, and it is gone.
    let ids: Vec<_> = world.snapshots().into_iter().map(|snapshot| snapshot.id).collect();
    world.runtime.block_on(world.repository().forget(&ids)).unwrap();
    failed(&world.work(&Task::Restore(patient())), Class::Blocked, "nothing to restore: ");
}

#[test]
fn what_the_ledger_knows_is_said() {
    let world = World::new();
    world.fill();
    world.backup();
    let ids: Vec<_> = world.snapshots().into_iter().map(|snapshot| snapshot.id).collect();
    world.runtime.block_on(world.repository().forget(&ids)).unwrap();
    let report = world.restore("restored");
    failed(&report, Class::Blocked, "nothing to restore: ");
    let Outcome::Failed { reason, .. } = report.outcome else { unreachable!() };
    assert!(reason.contains(", but the ledger records "), "{reason}");
}

#[test]
fn every_way_to_choose() {
    let world = World::new();
    let mut taken = Vec::new();
    for at in 0..3 {
        world.fill();
        world.write("counter", &at.to_string());
        let time = world.store.now();
        taken.push((world.backup().snapshot.unwrap(), time));
        world.an_hour_later();
    }
    let [(first, _), (second, then), (third, _)] = <[_; 3]>::try_from(taken).unwrap();
    let check = |selection: Selection, snapshot: &api::id::SnapshotId| {
        let task = RestoreTask { selection, delete_extra: true, ..world.restore_task("restored") };
        let report = world.work(&Task::Restore(task));
        assert_eq!((report.outcome, report.snapshot.as_ref()), (Outcome::Complete, Some(snapshot)));
    };
    check(Selection::Latest, &third);
    check(Selection::Previous(2), &first);
    check(Selection::AsOf { time: then, previous: 0 }, &second);
    check(Selection::AsOf { time: then, previous: 1 }, &first);
    check(Selection::Id(second.clone()), &second);
    assert_eq!(world.files("restored").len(), 11);
}

#[test]
fn a_held_snapshot_is_restored_only_by_its_name() {
    let world = World::new();
    world.fill();
    world.backup();
    world.empty();
    world.an_hour_later();
    let held = world.backup().snapshot.unwrap();
    let task = RestoreTask { selection: Selection::Id(held.clone()), ..world.restore_task("restored") };
    let report = world.work(&Task::Restore(task));
    assert_eq!((report.outcome, report.snapshot), (Outcome::Complete, Some(held)));
    assert!(world.files("restored").is_empty());
}

#[test]
fn another_repository_than_the_pinned_one_is_not_restored() {
    let world = World::new();
    world.fill();
    let backup = world.backup();
    let wrong =
        RestoreTask { expected_repository_id: Some(RepositoryId::new("00ff")), ..world.restore_task("restored") };
    failed(&world.work(&Task::Restore(wrong)), Class::Blocked, "WrongRepository: ");
    assert!(world.files("restored").is_empty());
    let right = RestoreTask { expected_repository_id: pinned(&backup), ..world.restore_task("restored") };
    assert_eq!(world.work(&Task::Restore(right)).outcome, Outcome::Complete);
}

#[test]
fn a_damaged_record_may_have_been_the_newest() {
    let world = World::new();
    world.fill();
    let id = world.backup().snapshot.unwrap();
    world.write("more", "more");
    world.an_hour_later();
    world.backup();
    let newest_index = world.store.names().into_iter().rfind(|name| name.starts_with("xn")).unwrap();
    world.store.tamper(&newest_index, "not an index");
    failed(&world.restore("restored"), Class::Damaged, "not all snapshots of ");
    let named = RestoreTask { selection: Selection::Id(id), ..world.restore_task("restored") };
    // The name is enough, if its own part of the index is sound.
    let report = world.work(&Task::Restore(named));
    assert!(!matches!(report.outcome, Outcome::Nothing), "{report:?}");
}
