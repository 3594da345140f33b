//! Directories without attributes are remembered, and a change is noticed nevertheless.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use engine::{BackupOptions, BackupOutcome, backup};
use jiff::Timestamp;
use repository::Clock;
use repository_kopia::{CreateOptions, Password, Repository};
use rustix::fs::XattrFlags;
use testkit::MemoryStore;

use crate::backup::{RUNTIME, assert_restores, client, open, options, run};

/// After every ctime of this run.
const LATER: &str = "2100-01-01T00:00:00Z";

struct Fixed(Timestamp);

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        self.0
    }
}

fn created(now: &str) -> MemoryStore {
    let (store, now) = (MemoryStore::new(), now.parse().unwrap());
    store.set_now(now);
    let (password, options) = (Password::new("secret"), CreateOptions::default());
    let creating = Repository::create(Arc::new(store.clone()), &password, &options, client(), Arc::new(Fixed(now)));
    RUNTIME.block_on(creating).unwrap();
    store
}

fn back_up(store: &MemoryStore, tree: &Path, cache: &Path, now: &str) -> BackupOutcome {
    let now = now.parse().unwrap();
    store.set_now(now);
    let repository = open(Arc::new(store.clone()), Arc::new(Fixed(now)));
    backup(&repository, tree, &BackupOptions { cache_directory: Some(cache.to_owned()), ..options() }, &run()).unwrap()
}

fn remembered_count(cache: &Path) -> usize {
    let memory = fs::read(cache.join("bare-directories")).unwrap();
    memory.chunks(16).filter(|place| place.iter().any(|byte| *byte != 0)).count()
}

fn planted() -> tempfile::TempDir {
    let tree = tempfile::tempdir_in("/dev/shm").unwrap();
    fs::create_dir_all(tree.path().join("bare/deeper")).unwrap();
    fs::create_dir(tree.path().join("rich")).unwrap();
    for path in ["bare/a", "bare/b", "bare/deeper/c", "rich/d", "rich/e"] {
        fs::write(tree.path().join(path), path).unwrap();
    }
    std::os::unix::fs::symlink("a", tree.path().join("bare/link")).unwrap();
    rustix::fs::setxattr(tree.path().join("rich/e"), "user.e", b"1", XattrFlags::empty()).unwrap();
    tree
}

#[test]
fn attributes_in_a_directory_that_had_none_are_noticed() {
    let (tree, cache) = (planted(), tempfile::tempdir().unwrap());
    let store = created(LATER);
    let first = back_up(&store, tree.path(), cache.path(), LATER);
    // The root, `bare` and `bare/deeper`.
    assert_eq!(remembered_count(cache.path()), 3);
    let second = back_up(&store, tree.path(), cache.path(), "2100-01-01T01:00:00Z");
    assert_eq!(second.root.data, first.root.data);

    rustix::fs::setxattr(tree.path().join("bare/b"), "user.b", b"2", XattrFlags::empty()).unwrap();
    rustix::fs::removexattr(tree.path().join("rich/e"), "user.e").unwrap();
    back_up(&store, tree.path(), cache.path(), "2100-01-01T02:00:00Z");
    assert_restores(&store, tree.path());
    // `bare` keeps its place, with what is no longer true and never matches; `rich` is bare now.
    assert_eq!(remembered_count(cache.path()), 4);
}

#[test]
fn a_damaged_memory_is_as_good_as_none() {
    let (tree, cache) = (planted(), tempfile::tempdir().unwrap());
    let store = created(LATER);
    let memory = cache.path().join("bare-directories");
    fs::write(&memory, vec![0xa5; 5 << 20]).unwrap();
    back_up(&store, tree.path(), cache.path(), LATER);
    assert_restores(&store, tree.path());
    fs::remove_file(&memory).unwrap();
    fs::create_dir(&memory).unwrap();
    back_up(&store, tree.path(), cache.path(), "2100-01-01T01:00:00Z");
    assert_restores(&store, tree.path());
}

#[test]
fn what_changed_a_moment_ago_is_not_remembered() {
    let (tree, cache) = (planted(), tempfile::tempdir().unwrap());
    let before_the_change = "2000-01-01T00:00:00Z";
    let store = created(before_the_change);
    back_up(&store, tree.path(), cache.path(), before_the_change);
    // The root, where no file is.
    assert_eq!(remembered_count(cache.path()), 1);
}
