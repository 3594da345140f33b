//! Every call to the store fails once, loses its reply, or is the last: what is left is sound, and the next run carries on.

use repository_kopia::{CycleKind, Safety};

use super::world::World;
use crate::faults::check_cycle;

/// A repository in which a full cycle has something to do at every step.
fn busy() -> World {
    let world = World::new();
    let gone = world.back_up(&[("a", "one"), ("sub/b", "two"), ("sub/c", "kept by the next")]);
    for number in 0..16 {
        world.back_up(&[("sub/c", "kept by the next"), ("d", number.to_string().as_str())]);
    }
    world.forget(&gone);
    world.hours(25);
    world.full();
    let orphan = world.write_orphan(b"an orphan");
    world.hours(25);
    world.full();
    world.hours(25);
    let writer = world.open(super::world::client());
    assert_eq!(world.state(&orphan), "marked");
    world.back_up_with(&writer, &[("again", "an orphan")]);
    world.hours(1);
    world
}

#[test]
fn a_full_cycle_may_be_cut_anywhere() {
    check_cycle(&busy(), CycleKind::Full, Safety::full());
}

#[test]
fn a_full_cycle_without_waiting_may_be_cut_anywhere() {
    check_cycle(&busy(), CycleKind::Full, Safety::none());
}

#[test]
fn a_quick_cycle_may_be_cut_anywhere() {
    let world = super::backlog::with_backlog(60, 3);
    check_cycle(&world, CycleKind::Quick, Safety::full());
}
