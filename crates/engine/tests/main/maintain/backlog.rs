//! Index blobs that piled up come back to a handful.

use engine::Done;
use repository::ContentId;
use repository_kopia::{CycleKind, Task};

use super::world::{World, client, done, write_content};

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

/// As [`with_backlog`], made quickly: each blob is written where there are no others, and carried over.
fn with_large_backlog(count: usize, epochs: usize) -> (World, Vec<ContentId>) {
    let world = World::new();
    let desk = world.store.fork();
    let writer = world.open_over(&desk, client());
    let mut before = desk.contents();
    let mut contents = Vec::new();
    for epoch in 0..epochs {
        for _ in 0..count / epochs {
            contents.push(write_content(&writer, &contents.len().to_be_bytes(), true));
            for (name, body) in desk.contents().into_iter().filter(|(name, _)| !before.contains_key(name)) {
                desk.lose(&name);
                world.store.tamper(&name, body);
            }
        }
        if epoch + 1 < epochs {
            world.hours(25);
            for store in [&world.store, &desk] {
                store.set_now(world.store.now());
                store.tamper(&format!("xe{}", epoch + 1), "epoch-marker");
            }
            before = desk.contents();
        }
    }
    (world, contents)
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

#[test]
fn five_thousand_index_blobs_become_a_handful() {
    for epochs in [1, 50] {
        let (world, mut contents) = with_large_backlog(5_000, epochs);
        assert!(active(&world) >= 5_000, "{}", active(&world));
        for _ in 0..8 {
            world.hours(13);
            contents.push(world.write_orphan(world.store.now().to_string().as_bytes()));
            world.maintain(CycleKind::Quick);
        }
        world.full();
        assert!(active(&world) < 10, "{epochs} {}", active(&world));
        assert!(world.count("xn") < 10, "{epochs} {}", world.count("xn"));
        let repository = world.repository();
        assert!(contents.iter().all(|content| repository.find(content).unwrap().is_some()), "{epochs}");
        world.verify();
    }
}
