//! Repositories without epochs: the same garbage goes, by other steps.

use engine::Done;
use repository_kopia::{CycleKind, Safety, Task};

use super::world::{World, counts, done};
use crate::faults::check_cycle;

/// A repository in which every step of a cycle has something to do.
fn busy() -> World {
    let world = World::without_epochs();
    let gone = world.back_up(&[("a", "one"), ("sub/b", "two"), ("sub/c", "kept by the next")]);
    for number in 0..8 {
        world.back_up(&[("sub/c", "kept by the next"), ("d", number.to_string().as_str())]);
    }
    world.forget(&gone);
    world.hours(25);
    world.full();
    world.write_orphan(b"an orphan");
    world.hours(25);
    world.full();
    world.hours(25);
    for number in 0..9 {
        world.back_up(&[("again", number.to_string().as_str())]);
    }
    world.hours(3);
    world
}

#[test]
fn garbage_is_marked_then_dropped_then_its_pack_goes() {
    let world = World::without_epochs();
    world.back_up(&[("needed", "by a snapshot")]);
    let orphan = world.write_orphan(b"nobody needs this");
    let mut states = Vec::new();
    // The third run moves it out of its short pack, which makes the mark younger.
    for hours in [1, 25, 5, 25, 25, 25] {
        world.hours(hours);
        world.full();
        states.push(world.state(&orphan));
        world.verify();
    }
    assert_eq!(states, ["live", "marked", "marked", "marked", "gone", "gone"]);
    assert_eq!(world.count("p"), 1, "{:?}", world.store.names());
    assert_eq!(world.count("x"), 0, "no epochs come of it");
}

#[test]
fn index_blobs_become_few_and_their_logs_go_too() {
    let world = World::without_epochs();
    for number in 0..40 {
        world.write_orphan(format!("content {number}").as_bytes());
    }
    let contents = world.repository().description().content_count;
    assert!(world.count("n") > 40);
    assert!(matches!(done(&world.maintain(CycleKind::Quick), Task::IndexCompaction), Done::Counted(_)));
    assert_eq!(world.repository().description().index_blob_count, 1);
    // What was replaced goes an hour later, with the next merger; its log an hour after that.
    for _ in 0..3 {
        world.hours(2);
        for number in 0..9 {
            world.write_orphan(format!("{} {number}", world.store.now()).as_bytes());
        }
        world.maintain(CycleKind::Quick);
        world.verify();
    }
    assert_eq!(world.repository().description().content_count, contents + 27);
    assert!(world.count("n") < 25 && world.count("m") <= 2, "{:?}", world.store.names());
}

#[test]
fn short_packs_of_metadata_are_rewritten_in_quick_cycles_and_deleted_a_day_later() {
    let world = World::without_epochs();
    for number in 0..4 {
        world.back_up(&[("a", number.to_string().as_str())]);
    }
    let (data, metadata) = (world.count("p"), world.count("q"));
    world.hours(3);
    let first = world.maintain(CycleKind::Quick);
    assert!(matches!(done(&first, Task::QuickRewriteContents), Done::Counted(_)));
    assert_eq!(*done(&first, Task::QuickDeleteBlobs), Done::Waits);
    assert_eq!((world.count("p"), world.count("q")), (data, metadata + 1));
    world.hours(25);
    let second = world.maintain(CycleKind::Quick);
    assert_eq!(*done(&second, Task::QuickRewriteContents), Done::Waits);
    assert_eq!(counts(&second).3 as usize, metadata);
    assert_eq!((world.count("p"), world.count("q")), (data, 1));
    world.verify();
}

#[test]
fn a_cycle_may_be_cut_anywhere() {
    check_cycle(&busy(), CycleKind::Full, Safety::full());
    check_cycle(&busy(), CycleKind::Quick, Safety::full());
}

#[test]
fn a_cycle_without_waiting_may_be_cut_anywhere() {
    check_cycle(&busy(), CycleKind::Full, Safety::none());
}
