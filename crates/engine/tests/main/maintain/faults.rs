//! Every call to the store fails once, loses its reply, or is the last: what is left is sound, and the next run carries on.

use std::sync::Arc;

use repository_kopia::{CycleKind, Safety};
use storage::Storage;
use testkit::{Fault, FaultStore, Moment};

use super::world::World;

fn faults(count: usize) -> impl Iterator<Item = Fault> {
    (0..count).flat_map(|operation| {
        [
            Fault::once(operation, Moment::Before),
            Fault::once(operation, Moment::After),
            Fault::onwards(operation, Moment::Before),
            Fault::onwards(operation, Moment::After),
        ]
    })
}

pub fn check(world: &World, cycle: CycleKind, safety: Safety) {
    let whole = world.fork();
    let counting = FaultStore::counting(whole.store.clone());
    whole.maintain_over(counting.clone(), cycle, safety).unwrap();
    whole.verify();
    let snapshots = world.snapshots();
    for fault in faults(counting.operations_count()) {
        let cut = world.fork();
        let failing: Arc<dyn Storage> = FaultStore::over(cut.store.clone(), fault);
        let _ = cut.maintain_over(failing, cycle, safety);
        assert_eq!(cut.snapshots(), snapshots, "{fault:?}");
        cut.verify();
        cut.hours(25);
        let again = cut.maintain_over(Arc::new(cut.store.clone()), cycle, safety);
        assert!(again.is_ok(), "{fault:?}: {again:?}");
        assert_eq!(cut.snapshots(), snapshots, "{fault:?}");
        cut.verify();
    }
}

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
    check(&busy(), CycleKind::Full, Safety::full());
}

#[test]
fn a_full_cycle_without_waiting_may_be_cut_anywhere() {
    check(&busy(), CycleKind::Full, Safety::none());
}

#[test]
fn a_quick_cycle_may_be_cut_anywhere() {
    let world = super::backlog::with_backlog(60, 3);
    check(&world, CycleKind::Quick, Safety::full());
}
