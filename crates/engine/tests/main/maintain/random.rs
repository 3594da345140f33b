//! Random histories of backups, forgetting, stale writers and cycles: nothing that a snapshot needs ever goes, and all the
//! rest does in the end.

use repository::SnapshotId;

use super::world::{World, client};

/// Random numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

fn history(seed: u64) {
    let mut dice = Dice(seed);
    let world = World::new();
    let stale = world.open(client());
    let mut snapshots: Vec<SnapshotId> = Vec::new();
    let texts: Vec<String> = (0..8).map(|number| format!("content number {number}")).collect();
    for _ in 0..24 {
        match dice.roll(6) {
            0 | 1 => {
                let pick = |dice: &mut Dice| texts[dice.roll(8) as usize].as_str();
                let files = [("a", pick(&mut dice)), ("b/c", pick(&mut dice)), ("b/d", pick(&mut dice))];
                if dice.roll(3) == 0 {
                    // A writer that looked at the repository a moment before the next cycle, and ends after it.
                    run_refresh(&stale);
                    world.full();
                    snapshots.push(world.back_up_with(&stale, &files));
                } else {
                    snapshots.push(world.back_up(&files));
                }
            }
            2 if !snapshots.is_empty() => {
                let at = dice.roll(snapshots.len() as u64) as usize;
                world.forget(&snapshots.swap_remove(at));
            }
            _ => {
                world.hours([1, 3, 5, 25][dice.roll(4) as usize]);
                world.full();
            }
        }
        assert_eq!(world.snapshots(), snapshots.iter().cloned().collect(), "seed {seed}");
        world.verify();
    }
    for snapshot in &snapshots {
        world.forget(snapshot);
    }
    for _ in 0..8 {
        world.hours(25);
        world.full();
    }
    world.verify();
    assert_eq!(world.count("p"), 0, "seed {seed}: {:?}", world.store.names());
}

fn run_refresh(repository: &repository_kopia::Repository) {
    super::world::run().runtime.block_on(repository.refresh()).unwrap();
}

#[test]
fn random_histories_lose_nothing_and_leave_nothing() {
    (1..=12).for_each(history);
}
