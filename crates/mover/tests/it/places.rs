//! Directories: a repository for each claim, and mount points that may be empty for a bad reason.

use std::sync::Arc;

use api::exit::Class;
use api::ledger::STORE_MARKER;
use api::mover::{BackupTask, Layout, Outcome, RestoreTask, Task};
use mover::Environment;
use storage::Address;

use crate::world::{World, claim, failed};

fn environment(world: &World, address: &str) -> Environment {
    let address = Address::Filesystem(world.directory().join(address));
    Environment {
        address,
        open_store: Arc::new(|address, layout, credentials| address.open(layout, credentials)),
        // Files carry the machine's time, and a clock too far from the store's does not write.
        clock: Arc::new(repository::SystemClock),
        ..world.environment(Arc::new(world.store.clone()))
    }
}

fn backup(world: &World, layout: Layout) -> Task {
    Task::Backup(BackupTask { layout, ..world.backup_task() })
}

#[test]
fn an_empty_mount_point_is_not_the_store() {
    for layout in [Layout::PerClaim, Layout::Shared] {
        let world = World::new();
        world.fill();
        let environment = environment(&world, "store");
        let task = backup(&world, layout);
        failed(&mover::run(&task, &environment, &world.run()), Class::Blocked, "open the store: ");
        let root = world.directory().join("store");
        std::fs::create_dir(&root).unwrap();
        failed(&mover::run(&task, &environment, &world.run()), Class::Blocked, "file:");
        assert_eq!(std::fs::read_dir(&root).unwrap().count(), 0);

        let declared = Environment { is_declared: true, ..environment.clone() };
        assert_eq!(mover::run(&task, &declared, &world.run()).outcome, Outcome::Complete);
        assert!(root.join(claim().ledger_object()).is_file());
        assert_eq!(mover::run(&task, &environment, &world.run()).outcome, Outcome::Complete);
    }
}

#[test]
fn a_marker_vouches_and_a_generated_address_is_the_same_place() {
    let world = World::new();
    world.fill();
    let root = world.directory().join("store");
    std::fs::create_dir_all(root.join("_perennial")).unwrap();
    std::fs::write(root.join(STORE_MARKER), "").unwrap();
    let task = backup(&world, Layout::PerClaim);
    let report = mover::run(&task, &environment(&world, "store"), &world.run());
    assert_eq!(report.outcome, Outcome::Complete);
    assert!(root.join("media/photos/kopia.repository.f").is_file());

    let task = Task::Restore(RestoreTask { layout: Layout::PerClaim, ..world.restore_task("restored") });
    let restored = mover::run(&task, &environment(&world, "store/media/photos"), &world.run());
    assert_eq!((restored.outcome, restored.snapshot), (Outcome::Complete, report.snapshot));
    assert_eq!(world.files("restored"), world.files("data"));
}

#[test]
fn a_repository_that_the_ledger_remembers_is_not_made_anew() {
    let world = World::new();
    world.fill();
    let environment = Environment { is_declared: true, ..environment(&world, "store") };
    let root = world.directory().join("store");
    std::fs::create_dir(&root).unwrap();
    for layout in [Layout::PerClaim, Layout::Shared] {
        let task = backup(&world, layout);
        assert_eq!(mover::run(&task, &environment, &world.run()).outcome, Outcome::Complete);
        for entry in std::fs::read_dir(&root).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true if entry.file_name() == "_perennial" => {}
                true => std::fs::remove_dir_all(entry.path()).unwrap(),
                false => std::fs::remove_file(entry.path()).unwrap(),
            }
        }
        failed(&mover::run(&task, &environment, &world.run()), Class::Blocked, "RepositoryMissing: ");
        std::fs::remove_dir_all(root.join("_perennial")).unwrap();
    }
}
