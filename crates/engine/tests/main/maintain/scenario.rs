//! What a cycle takes away, and what it leaves, as time passes.

use std::sync::Arc;

use engine::{Done, MaintainError, MaintainOptions, maintain, maintain_if_due};
use jiff::SignedDuration;
use repository_kopia::{Client, CycleKind, MaintenanceError, Password, Repository, Safety, Task};
use storage::{Class, Storage};
use testkit::FaultStore;

use super::world::{World, client, counts, done, run, state_in};

/// Source: Kopia format, "Maintenance decisions", scenario.
#[test]
fn garbage_survives_exactly_the_cycles_that_kopia_gives_it() {
    let world = World::new();
    let orphan = world.write_orphan(b"nobody needs this");
    let other = world.write_orphan(b"nor this");
    let stale_reader = world.open(client());
    let little_more_than = |hours| world.pass(SignedDuration::from_hours(hours) + SignedDuration::from_secs(10));

    assert_eq!(counts(&world.full()).0, 0);
    assert_eq!(world.state(&orphan), "live");

    little_more_than(25);
    assert_eq!(counts(&world.full()).0, 2);
    assert_eq!((world.state(&orphan), state_in(&stale_reader, &orphan)), ("marked", "live"));

    little_more_than(4);
    assert!(counts(&world.full()).2 >= 2);
    assert_eq!((world.state(&orphan), state_in(&stale_reader, &orphan)), ("marked", "live"));

    little_more_than(4);
    world.full();
    assert_eq!(world.state(&orphan), "marked");

    little_more_than(4);
    world.full();
    assert_eq!((world.state(&orphan), world.state(&other)), ("gone", "gone"));
    world.verify();

    // A day after they were written their packs go too.
    little_more_than(24);
    world.full();
    little_more_than(24);
    world.full();
    world.verify();
    assert_eq!(world.count("p"), 0, "{:?}", world.store.names());
}

#[test]
fn a_content_that_is_used_again_between_cycles_is_taken_back() {
    let world = World::new();
    let first = world.back_up(&[("a", "content that comes back"), ("b", "content that does not")]);
    world.hours(25);
    // This writer knows the index as it is before the marks, and ends after them.
    let writer = world.open(client());
    world.forget(&first);
    assert!(counts(&world.full()).0 > 0);
    let second = world.back_up_with(&writer, &[("a", "content that comes back")]);
    world.verify();
    world.hours(5);
    assert!(counts(&world.full()).1 > 0);
    for _ in 0..6 {
        world.hours(25);
        world.full();
        world.verify();
    }
    assert_eq!(world.snapshots(), [second].into());
}

#[test]
fn packs_of_a_session_that_is_still_writing_are_kept() {
    let world = World::new();
    world.back_up(&[("a", "a")]);
    let names = world.store.names();
    world.write_unfinished(b"being written");
    let new: Vec<String> = world.store.names().into_iter().filter(|name| !names.contains(name)).collect();
    assert_eq!(new.len(), 2, "a pack and its session's marker");
    let left = |world: &World| new.iter().filter(|name| world.store.names().contains(name)).count();
    for hours in [30, 2, 30, 30] {
        world.hours(hours);
        world.full();
        assert_eq!(left(&world), 2);
    }
    // Four days after its last sign of life the session is dead.
    for _ in 0..2 {
        world.hours(25);
        world.full();
    }
    assert_eq!(left(&world), 0);
    world.verify();
}

#[test]
fn another_client_than_the_owner_is_refused_until_it_takes_over() {
    let world = World::new();
    let other = Client { username: "other".to_owned(), ..client() };
    let repository = world.open(other);
    let options = |force| MaintainOptions { cycle: CycleKind::Full, force, safety: Safety::full() };
    let before = world.store.contents();
    let error = maintain(&repository, &options(false), &run()).unwrap_err();
    assert!(matches!(error, MaintainError::Cycle(MaintenanceError::NotOwner { .. })), "{error}");
    assert_eq!(error.class(), Class::Blocked);
    assert_eq!(world.store.contents(), before);
    let due = |repository: &repository_kopia::Repository| run().runtime.block_on(repository.due_maintenance()).unwrap();
    assert_eq!((due(&repository), due(world.repository())), (None, Some(CycleKind::Full)));
    maintain(&repository, &options(true), &run()).unwrap();
    assert_eq!(due(world.repository()), None);

    run().runtime.block_on(repository.set_maintenance_owner("other@space")).unwrap();
    maintain(&repository, &options(false), &run()).unwrap();
    let error = world.maintain_over(Arc::new(world.store.clone()), CycleKind::Quick, Safety::full()).unwrap_err();
    assert!(matches!(error, MaintainError::Cycle(MaintenanceError::NotOwner { .. })), "{error}");
}

#[test]
fn what_is_due_runs_for_the_owner_and_asking_costs_one_read() {
    let world = World::new();
    let counted = FaultStore::counting(world.store.clone());
    let due = |client: Client, is_look_free: bool| {
        let store: Arc<dyn Storage> = counted.clone();
        let (password, clock) = (Password::new("secret"), Arc::new(world.clock.clone()));
        let repository = run().runtime.block_on(Repository::open(store, &password, client, clock)).unwrap();
        world.back_up_with(&repository, &[("a", world.store.now().to_string().as_str())]);
        let before = counted.operations_count();
        let done = maintain_if_due(&repository, &run()).unwrap().map(|outcome| outcome.cycle);
        let calls = counted.operations_count() - before;
        assert!(done.is_some() || calls == usize::from(!is_look_free), "{calls}");
        done
    };
    let owner = |hours| {
        world.hours(hours);
        due(client(), false)
    };
    let other = Client { username: "other".to_owned(), ..client() };
    assert_eq!(due(other.clone(), true), None);
    assert_eq!(owner(0), Some(CycleKind::Full));
    assert_eq!(owner(0), None);
    assert_eq!(owner(2), Some(CycleKind::Quick));
    assert_eq!(due(other, true), None);
    assert_eq!(owner(23), Some(CycleKind::Full));
    world.verify();
    world.store.tamper("kopia.maintenance", vec![7; 200]);
    let error = maintain_if_due(world.repository(), &run()).unwrap_err();
    assert_eq!(error.class(), Class::Damaged);
}

#[test]
fn a_clock_that_is_wrong_stops_it() {
    let world = World::new();
    world.store.set_now(world.store.now() + SignedDuration::from_mins(6));
    let error = world.maintain_over(Arc::new(world.store.clone()), CycleKind::Full, Safety::full()).unwrap_err();
    assert!(matches!(error, MaintainError::Cycle(MaintenanceError::ClockSkew { .. })), "{error}");
}

#[test]
fn a_schedule_that_does_not_open_is_not_an_empty_one() {
    let world = World::new();
    world.full();
    world.store.tamper("kopia.maintenance", vec![7; 200]);
    let error = world.maintain_over(Arc::new(world.store.clone()), CycleKind::Full, Safety::full()).unwrap_err();
    assert_eq!(error.class(), Class::Damaged);
}

#[test]
fn nothing_is_marked_while_a_directory_is_unreadable() {
    let world = World::new();
    let gone = world.back_up(&[("a", "a")]);
    world.back_up(&[("sub/b", "b")]);
    world.forget(&gone);
    world.hours(30);
    let repository = world.repository();
    let sub = run().runtime.block_on(async {
        let snapshots = repository.snapshots().await.unwrap().snapshots;
        let root = snapshots[0].root.clone().unwrap();
        let listing = repository.directory(&root.data).await.unwrap();
        let content = listing.entries[0].data.as_str().parse().unwrap();
        repository.find(&content).unwrap().unwrap().location.pack
    });
    let bytes = world.store.contents()[sub.as_str()].clone();
    world.store.lose(sub.as_str());
    let before = world.count("x");
    let error = world.maintain_over(Arc::new(world.store.clone()), CycleKind::Full, Safety::full()).unwrap_err();
    assert_eq!(error.class(), Class::Damaged);
    assert_eq!(world.count("x"), before);
    // It was one pack with the records in it; once it is back, all is well.
    world.store.tamper(sub.as_str(), bytes);
    world.full();
    world.verify();
}

#[test]
fn many_manifests_become_one_and_none_is_lost() {
    let world = World::new();
    let all: Vec<_> = (0..20).map(|number| world.back_up(&[("a", number.to_string().as_str())])).collect();
    world.forget(&all[0]);
    let kept: std::collections::BTreeSet<_> = all[1..].iter().cloned().collect();
    assert!(world.full().manifests_merged_count >= 20);
    assert_eq!(world.snapshots(), kept);
    assert_eq!(world.full().manifests_merged_count, 0);
    let owner = run().runtime.block_on(world.repository().maintenance_parameters()).unwrap().owner;
    assert_eq!(owner, "app@space");
    world.verify();
}

#[test]
fn rewriting_and_deleting_take_turns() {
    let world = World::new();
    for number in 0..4 {
        world.back_up(&[("a", number.to_string().as_str())]);
    }
    world.hours(3);
    let first = world.full();
    assert!(counts(&first).2 > 0);
    assert_eq!(*done(&first, Task::FullDeleteBlobs), Done::Waits);
    let packs = world.count("p") + world.count("q");
    world.hours(25);
    let second = world.full();
    assert_eq!(*done(&second, Task::FullRewriteContents), Done::Waits);
    assert!(counts(&second).3 > 0);
    assert!(world.count("p") + world.count("q") < packs);
    world.verify();
    world.hours(25);
    assert_ne!(*done(&world.full(), Task::FullRewriteContents), Done::Waits);
    world.verify();
}
