use api::exit::Class;
use api::mover::{BackupTask, Layout, Outcome, Task};
use mover::{Ledger, Place};
use std::sync::Arc;

use crate::world::{World, claim, failed, pinned};

fn ledger(world: &World) -> Ledger {
    let environment = world.environment(Arc::new(world.store.clone()));
    let place = Place::new(&environment.address, Layout::Shared, &claim()).unwrap();
    Ledger::open(&environment, &place, &world.repository()).unwrap()
}

#[test]
fn the_record_is_the_last_good_snapshot() {
    let world = World::new();
    world.fill();
    let report = world.backup();
    let entry = world.runtime.block_on(ledger(&world).read(&claim())).unwrap().unwrap();
    let snapshot = &world.snapshots()[0];
    assert_eq!(
        (Some(&entry.snapshot_id), Some(&entry.repository_id)),
        (report.snapshot.as_ref(), report.repository.as_ref())
    );
    assert_eq!((entry.time, entry.files, entry.bytes), (snapshot.start, 10, 10 * 1024));
    assert_eq!((entry.claim, entry.cluster.as_deref()), (claim(), Some("home")));
}

#[test]
fn all_records_are_listed_and_none_is_dropped() {
    let world = World::new();
    world.fill();
    world.backup();
    let sealed = world.store.contents()[&claim().ledger_object()].clone();
    world.store.tamper("_perennial/ledger/media/moved.json", sealed);
    world.store.tamper("_perennial/ledger/media/torn.json", "{");
    world.store.tamper("_perennial/ledger/README", "not a record");
    let all = world.runtime.block_on(ledger(&world).read_all()).unwrap();
    let said: Vec<String> = all
        .into_iter()
        .map(|(claim, read)| match read {
            Ok(entry) => format!("{claim}: {}", entry.unwrap().files),
            Err(error) => format!("{claim}: {error}"),
        })
        .collect();
    assert_eq!(
        said,
        [
            "media/moved: ledger record _perennial/ledger/media/moved.json is that of media/photos",
            "media/photos: 10",
            "media/torn: ledger record _perennial/ledger/media/torn.json",
        ]
    );
}

#[test]
fn an_altered_record_stops_a_backup_that_has_no_other_witness() {
    let world = World::new();
    world.fill();
    let first = world.backup();
    let name = claim().ledger_object();
    let sealed = String::from_utf8(world.store.contents()[&name].to_vec()).unwrap();
    let altered = sealed.replace("\"files\":10", "\"files\":11");
    assert_ne!(altered, sealed);
    world.store.tamper(&name, altered.clone());
    world.an_hour_later();
    failed(&world.backup(), Class::Damaged, "look into the ledger: ");
    assert_eq!(world.snapshots().len(), 1);
    assert_eq!(world.store.contents()[&name], altered, "evidence is not written over");
    // Data must not be withheld for it.
    assert_eq!(world.restore("restored").outcome, Outcome::Complete);

    let task = BackupTask { expected_repository_id: pinned(&first), ..world.backup_task() };
    assert_eq!(world.work(&Task::Backup(task)).outcome, Outcome::Complete);
    assert!(world.runtime.block_on(ledger(&world).read(&claim())).unwrap().is_some());
}
