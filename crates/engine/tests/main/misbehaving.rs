//! Stores that do not do what they should: replies cut short, lists from before, no room, half of all calls lost, clocks
//! that are hours off. What is there stays sound, an error names its object, and nothing claims a success that is none.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use engine::{RestoreOptions, backup, restore};
use futures::stream::BoxStream;
use jiff::{SignedDuration, Timestamp};
use repository::Clock;
use repository_kopia::{Password, Repository};
use storage::layer::retry::{RetryOptions, RetryStorage};
use storage::{Class, ErrorKind, Object, ObjectKey, PutMode, Storage};
use testkit::{Fault, FaultStore, MemoryStore, Moment};

use crate::backup::{
    RUNTIME, assert_restores, assert_verifies, back_up, client, clock, create, make_tree, memory, open, options, run,
};
use crate::golden::lines_of;

/// A repository with one snapshot, of a tree with one file.
fn with_first() -> MemoryStore {
    let before = tempfile::tempdir().unwrap();
    fs::write(before.path().join("first"), b"the first backup").unwrap();
    let store = memory();
    create(&store);
    back_up(&store, before.path());
    store
}

#[track_caller]
fn assert_first_restores(store: &MemoryStore) {
    let repository = open(Arc::new(store.clone()), clock());
    let listing = RUNTIME.block_on(repository.snapshots()).unwrap();
    let target = tempfile::tempdir().unwrap();
    let first = &listing.snapshots[0];
    assert!(restore(&repository, first, target.path(), &RestoreOptions::default(), &run()).unwrap().is_complete());
    assert_eq!(fs::read(target.path().join("first")).unwrap(), b"the first backup");
}

/// Opens and backs up; the error's whole chain and class if there is one.
fn try_back_up(store: Arc<dyn Storage>, tree: &Path) -> Result<(), (String, Class)> {
    let password = Password::new("secret");
    let opened = RUNTIME.block_on(Repository::open(store, &password, client(), clock()));
    let repository = opened.map_err(|error| (chain(&error), error.class()))?;
    match backup(&repository, tree, &options(), &run()) {
        Ok(outcome) => {
            assert!(outcome.is_complete(), "{outcome:?}");
            Ok(())
        }
        Err(error) => Err((chain(&error), error.class())),
    }
}

/// An error and its causes on one line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[test]
fn a_reply_cut_short_is_never_taken_for_the_object() {
    let tree = tempfile::tempdir().unwrap();
    make_tree(tree.path());
    let store = with_first();
    let counting = FaultStore::counting(store.fork());
    try_back_up(counting.clone(), tree.path()).unwrap();
    let mut failed_count = 0;
    for operation in 0..counting.operations_count() {
        let store = store.fork();
        match try_back_up(FaultStore::over(store.clone(), Fault::once(operation, Moment::Torn)), tree.path()) {
            Ok(()) => assert_restores(&store, tree.path()),
            Err((words, class)) => {
                failed_count += 1;
                assert!(class != Class::Bug, "operation {operation}: {words}");
            }
        }
        assert_verifies(&store);
        assert_first_restores(&store);
    }
    assert!(failed_count > 0);
}

#[test]
fn a_restore_from_replies_cut_short_never_counts_as_complete_with_other_bytes() {
    let tree = tempfile::tempdir().unwrap();
    make_tree(tree.path());
    let store = memory();
    create(&store);
    back_up(&store, tree.path());
    let restored = |store: Arc<dyn Storage>, target: &Path| {
        let password = Password::new("secret");
        let opened = RUNTIME.block_on(Repository::open(store, &password, client(), clock()));
        let repository = opened.map_err(|error| chain(&error))?;
        let listing = RUNTIME.block_on(repository.snapshots()).map_err(|error| chain(&error))?;
        let Some(snapshot) = listing.snapshots.last() else { return Err("no snapshot".to_owned()) };
        restore(&repository, snapshot, target, &RestoreOptions::default(), &run()).map_err(|error| chain(&error))
    };
    let counting = FaultStore::counting(store.fork());
    restored(counting.clone(), tempfile::tempdir().unwrap().path()).unwrap();
    for operation in 0..counting.operations_count() {
        let target = tempfile::tempdir().unwrap();
        let faulty = FaultStore::over(store.fork(), Fault::once(operation, Moment::Torn));
        match restored(faulty, target.path()) {
            Ok(outcome) if outcome.is_complete() => assert_eq!(lines_of(target.path()), lines_of(tree.path())),
            Ok(outcome) => assert!(outcome.failed_count > 0 && !outcome.failed[0].path.is_empty(), "{outcome:?}"),
            Err(words) => assert!(!words.is_empty()),
        }
    }
}

#[test]
fn a_full_store_is_said_with_the_object_and_keeps_what_it_has() {
    let tree = tempfile::tempdir().unwrap();
    make_tree(tree.path());
    let store = with_first();
    let counting = FaultStore::counting(store.fork());
    try_back_up(counting.clone(), tree.path()).unwrap();
    for operation in 0..counting.operations_count() {
        let store = store.fork();
        let fault = Fault::onwards(operation, Moment::Before).of_kind(ErrorKind::Full);
        let (words, class) = try_back_up(FaultStore::over(store.clone(), fault), tree.path()).unwrap_err();
        assert_eq!(class, Class::Blocked, "operation {operation}: {words}");
        assert!(words.contains("memory:"), "{words}");
        assert_verifies(&store);
        try_back_up(Arc::new(store.clone()), tree.path()).unwrap();
        assert_restores(&store, tree.path());
    }
}

/// Lists what there was at its making; all else is as it is.
#[derive(Debug)]
struct StaleLists {
    now: MemoryStore,
    then: MemoryStore,
}

#[async_trait]
impl Storage for StaleLists {
    fn address(&self) -> String {
        self.now.address()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode) -> Result<(), storage::Error> {
        self.now.put(key, body, mode).await
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes, storage::Error> {
        self.now.get(key).await
    }

    async fn get_range(&self, key: &ObjectKey, offset: u64, length_bytes: u64) -> Result<Bytes, storage::Error> {
        self.now.get_range(key, offset, length_bytes).await
    }

    async fn stat(&self, key: &ObjectKey) -> Result<Object, storage::Error> {
        self.now.stat(key).await
    }

    fn list<'a>(&'a self, prefix: &str) -> BoxStream<'a, Result<Object, storage::Error>> {
        self.then.list(prefix)
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), storage::Error> {
        self.now.delete(key).await
    }
}

#[test]
fn lists_from_before_cost_space_and_no_data() {
    let tree = tempfile::tempdir().unwrap();
    make_tree(tree.path());
    let created = memory();
    create(&created);
    let store = created.fork();
    let first = tempfile::tempdir().unwrap();
    fs::write(first.path().join("first"), b"the first backup").unwrap();
    for then in [created, store.fork()] {
        back_up(&store, first.path());
        try_back_up(Arc::new(StaleLists { now: store.clone(), then }), tree.path()).unwrap();
        assert_verifies(&store);
        assert_restores(&store, tree.path());
        assert_first_restores(&store);
    }
}

#[test]
fn a_store_that_loses_every_third_call_is_asked_again() {
    /// As many faults one after the other as there are layers.
    fn faulty(store: MemoryStore, operations_count: usize) -> Arc<dyn Storage> {
        let mut faulty: Arc<dyn Storage> = Arc::new(store);
        for operation in (0..operations_count).step_by(3) {
            let moment = if operation % 2 == 0 { Moment::Before } else { Moment::After };
            faulty = FaultStore::over(faulty, Fault::once(operation, moment));
        }
        let quick = Duration::from_micros(10);
        let options = RetryOptions { attempts_count: 20, first_delay: quick, longest_delay: quick, seed: 1 };
        Arc::new(RetryStorage::over(faulty, options))
    }
    let tree = tempfile::tempdir().unwrap();
    make_tree(tree.path());
    let store = with_first();
    try_back_up(faulty(store.clone(), 90), tree.path()).unwrap();
    assert_verifies(&store);
    assert_restores(&store, tree.path());
}

/// A clock that is off by so much.
struct Off {
    by: SignedDuration,
    right: Arc<dyn Clock>,
}

impl Clock for Off {
    fn now(&self) -> Timestamp {
        self.right.now() + self.by
    }
}

#[test]
fn a_clock_that_is_hours_off_writes_nothing_that_counts() {
    let tree = tempfile::tempdir().unwrap();
    make_tree(tree.path());
    for hours in [-5, 5] {
        let store = with_first();
        let off = Arc::new(Off { by: SignedDuration::from_hours(hours), right: clock() });
        let repository = open(Arc::new(store.clone()), off);
        let error = backup(&repository, tree.path(), &options(), &run()).unwrap_err();
        assert_eq!(error.class(), Class::Blocked, "{}", chain(&error));
        assert!(error.hint().is_some() && chain(&error).contains("clock"), "{}", chain(&error));
        assert_verifies(&store);
        assert_first_restores(&store);
        let listing = RUNTIME.block_on(open(Arc::new(store), clock()).snapshots()).unwrap();
        assert_eq!(listing.snapshots.len(), 1);
    }
}
