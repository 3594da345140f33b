//! What a store that fails once leaves behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use api::mover::{BackupTask, Outcome, Task};
use async_trait::async_trait;
use bytes::Bytes;
use engine::Cancel;
use futures::stream::BoxStream;
use storage::{Error, Object, ObjectKey, PutMode, Storage};
use testkit::{FaultStore, MemoryStore};

use crate::world::World;

/// Every operation of a second backup fails once: the first one's data, or the second's, can always be restored.
#[test]
fn a_backup_that_fails_anywhere_leaves_good_data() {
    let world = World::new();
    world.fill();
    assert_eq!(world.backup().outcome, Outcome::Complete);
    let first = world.files("data");
    world.write("more", "more");
    let second = world.files("data");
    world.an_hour_later();
    let before = world.store.fork();
    let task = Task::Backup(world.backup_task());
    let operations_of = |task: &Task| {
        let counted = FaultStore::counting(before.fork());
        assert_eq!(world.work_over(task, Arc::clone(&counted) as _).outcome, Outcome::Complete);
        counted
    };
    let counted = operations_of(&task);
    // Maintenance is due; what goes wrong in it does no harm to the backup.
    let without = operations_of(&Task::Backup(BackupTask { no_maintenance: true, ..world.backup_task() }));
    let backup_count = without.operations_count();
    assert!(backup_count + 10 < counted.operations_count());
    let mut completed_count = 0;
    for (at, fault) in counted.faults().into_iter().enumerate() {
        let store = before.fork();
        let report = world.work_over(&task, FaultStore::over(store.clone(), fault));
        let is_complete = report.outcome == Outcome::Complete;
        completed_count += usize::from(is_complete && fault.operation < backup_count);
        assert!(is_complete || fault.operation < backup_count, "{fault:?}: {report:?}");
        assert!(!matches!(report.outcome, Outcome::Nothing | Outcome::Interrupted), "{fault:?}: {report:?}");
        // What was only read is as it was.
        if store.contents() == before.contents() {
            assert_ne!(report.outcome, Outcome::Complete, "{fault:?}");
            continue;
        }
        let target = format!("restored-{at}");
        let restored = world.work_over(&Task::Restore(world.restore_task(&target)), Arc::new(store));
        assert_eq!(restored.outcome, Outcome::Complete, "{fault:?}");
        let files = world.files(&target);
        assert!(files == second || files == first && report.outcome != Outcome::Complete, "{fault:?}");
    }
    assert!(completed_count < without.faults().len() / 4, "faults are not swallowed: {completed_count}");
}

/// Every operation of a restore fails once: it is complete with all data, or it says that it is not.
#[test]
fn a_restore_that_fails_anywhere_says_so() {
    let world = World::new();
    world.fill();
    world.backup();
    let counted = FaultStore::counting(world.store.clone());
    let task = Task::Restore(world.restore_task("restored"));
    assert_eq!(world.work_over(&task, Arc::clone(&counted) as _).outcome, Outcome::Complete);
    for (at, fault) in counted.faults().into_iter().enumerate() {
        let target = format!("restored-{at}");
        let task = Task::Restore(world.restore_task(&target));
        let report = world.work_over(&task, FaultStore::over(world.store.clone(), fault));
        match report.outcome {
            Outcome::Complete => assert_eq!(world.files(&target), world.files("data"), "{fault:?}"),
            Outcome::Failed { .. } | Outcome::Partial => {}
            Outcome::Nothing | Outcome::Interrupted => panic!("{fault:?}: {report:?}"),
        }
    }
}

/// Asks the run to stop when it makes its so-manieth call.
#[derive(Debug)]
struct Stopping {
    inner: MemoryStore,
    cancel: Cancel,
    calls_left: AtomicUsize,
}

impl Stopping {
    fn count(&self) -> &MemoryStore {
        if self.calls_left.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.cancel.cancel();
        }
        &self.inner
    }
}

#[async_trait]
impl Storage for Stopping {
    fn address(&self) -> String {
        self.inner.address()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode) -> Result<(), Error> {
        self.count().put(key, body, mode).await
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes, Error> {
        self.count().get(key).await
    }

    async fn get_range(&self, key: &ObjectKey, offset: u64, length_bytes: u64) -> Result<Bytes, Error> {
        self.count().get_range(key, offset, length_bytes).await
    }

    async fn stat(&self, key: &ObjectKey) -> Result<Object, Error> {
        self.count().stat(key).await
    }

    fn list<'a>(&'a self, prefix: &str) -> BoxStream<'a, Result<Object, Error>> {
        self.count().list(prefix)
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), Error> {
        self.count().delete(key).await
    }
}

/// SIGTERM at any call: interrupted, or already done; and the next run goes on.
#[test]
fn a_backup_that_is_stopped_anywhere_says_so() {
    let world = World::new();
    world.fill();
    assert_eq!(world.backup().outcome, Outcome::Complete);
    world.write("more", "more");
    world.an_hour_later();
    let task = Task::Backup(world.backup_task());
    let counted = FaultStore::counting(world.store.fork());
    world.work_over(&task, Arc::clone(&counted) as _);
    let mut interrupted_count = 0;
    for at in (1..=counted.operations_count()).step_by(3) {
        let store = world.store.fork();
        let run = world.run();
        let stopping = Stopping { inner: store.clone(), cancel: run.cancel.clone(), calls_left: AtomicUsize::new(at) };
        let report = mover::run(&task, &world.environment(Arc::new(stopping)), &run);
        match report.outcome {
            Outcome::Interrupted => {
                interrupted_count += 1;
                let next = world.work_over(&task, Arc::new(store));
                assert_eq!(next.outcome, Outcome::Complete, "after a stop at call {at}");
            }
            Outcome::Complete => {}
            other => panic!("stopped at call {at}: {other:?}"),
        }
    }
    assert!(interrupted_count > 2, "{interrupted_count}");
}
