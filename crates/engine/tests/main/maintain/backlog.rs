//! Index blobs that piled up come back to a handful.

use engine::Done;
use repository_kopia::{CycleKind, Task};

use super::world::{World, done};

/// A repository with `count` more index blobs, spread over as many days as `epochs`, with a marker a day.
pub fn with_backlog(count: usize, epochs: usize) -> World {
    let world = World::new();
    for epoch in 0..epochs {
        for number in 0..count / epochs {
            world.write_orphan(format!("{epoch} {number}").as_bytes());
        }
        if epoch + 1 < epochs {
            world.hours(25);
            world.store.tamper(&format!("xe{}", epoch + 1), "epoch-marker");
        }
    }
    world
}

fn active(world: &World) -> usize {
    world.repository().description().index_blob_count
}

#[test]
fn settled_epochs_are_merged_in_one_run_and_cleaned_up_later() {
    let world = with_backlog(200, 10);
    let contents = world.repository().description().content_count;
    let before = active(&world);
    assert!(before >= 200, "{before}");
    let outcome = world.maintain(CycleKind::Quick);
    assert!(matches!(done(&outcome, Task::CompactSingleEpoch), Done::Counted(_)));
    assert!(active(&world) < 60, "{}", active(&world));
    assert_eq!(world.repository().description().content_count, contents);
    world.hours(1);
    world.full();
    assert_eq!(world.count("xr"), 1);
    let left = world.count("xn");
    world.hours(25);
    world.write_orphan(b"the store's time goes on");
    world.full();
    assert!(world.count("xn") < left.min(70), "{} {left}", world.count("xn"));
    world.verify();
}

/// What a repository looks like that was never maintained: one epoch with everything.
#[test]
fn one_epoch_with_everything_is_merged_a_day_after_the_next_began() {
    let world = with_backlog(100, 1);
    world.hours(25);
    world.write_orphan(b"a day later");
    let contents = world.repository().description().content_count;
    assert!(active(&world) > 100);
    world.maintain(CycleKind::Quick);
    assert_eq!(world.count("xe"), 1);
    for _ in 0..2 {
        world.hours(12);
        world.write_orphan(world.store.now().to_string().as_bytes());
        world.maintain(CycleKind::Quick);
    }
    world.hours(2);
    world.maintain(CycleKind::Quick);
    world.maintain(CycleKind::Quick);
    assert_eq!(world.count("xs"), 1);
    assert!(active(&world) < 10, "{}", active(&world));
    assert_eq!(world.repository().description().content_count, contents + 2);
    world.verify();
}
