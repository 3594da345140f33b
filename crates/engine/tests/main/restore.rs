//! Restores, compared entry by entry and attribute by attribute.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use engine::{Cancel, OwnerMode, RestoreError, RestoreOptions, RestoreOutcome, Selection, restore, select};
use futures::stream::BoxStream;
use storage::{Class, FilesystemStorage, Layout, Object, ObjectKey, PutMode, Storage};
use tempfile::TempDir;

use crate::golden::{Opened, SUPPORTED, damaged, expected_trees, golden, lines_of, open, open_store};

fn restore_latest(opened: &Opened, target: &Path, options: &RestoreOptions) -> Result<RestoreOutcome, RestoreError> {
    let snapshots = opened.snapshots();
    let snapshot = select(&snapshots, None, &Selection::Latest).unwrap();
    restore(&opened.repository, snapshot, target, options, &opened.run)
}

#[track_caller]
fn check_golden(name: &str) {
    let opened = open(&golden(name));
    let snapshots = opened.snapshots();
    let expected = expected_trees(name);
    assert!(!expected.is_empty());
    for (id, tree) in expected {
        let snapshot = select(&snapshots, None, &Selection::Id(id)).unwrap();
        for verify in [false, true] {
            let target = TempDir::new().unwrap();
            let options = RestoreOptions { verify, ..RestoreOptions::default() };
            let outcome = restore(&opened.repository, snapshot, target.path(), &options, &opened.run).unwrap();
            assert!(outcome.is_complete(), "{outcome:?}");
            assert_eq!(outcome.class(), None);
            assert_eq!(lines_of(target.path()), tree, "{name} {}", snapshot.id);
            let summary = snapshot.root.as_ref().unwrap().summary.as_ref().unwrap();
            assert_eq!(outcome.file_count, summary.file_count);
            assert_eq!(outcome.bytes, summary.size_bytes);
            assert_eq!(outcome.directory_count, summary.directory_count - 1);
            assert_eq!(outcome.symlink_count, summary.symlink_count);
        }
    }
}

#[test]
fn golden_repositories_restore_to_the_last_attribute() {
    SUPPORTED.into_iter().for_each(check_golden);
}

#[test]
fn nothing_outside_the_target_is_touched_and_what_is_in_the_way_goes() {
    let opened = open(&golden("v3-zstd"));
    let (_, tree) = expected_trees("v3-zstd").pop().unwrap();
    let outside = TempDir::new().unwrap();
    let kept = outside.path().join("kept");
    fs::write(&kept, "kept").unwrap();
    let target = TempDir::new().unwrap();
    let paths: Vec<(&str, &str)> =
        tree.lines().filter_map(|line| line.split_once(": ")).filter(|(path, _)| *path != ".").collect();
    // In the place of every directory at the top a link to a directory elsewhere, of every file one to a file elsewhere,
    // symbolic and hard by turns.
    let mut hard = false;
    for (path, line) in paths.iter().filter(|(path, _)| !path.contains('/')) {
        let place = target.path().join(path);
        hard = !hard;
        match line.as_bytes()[0] {
            b'd' => symlink(outside.path(), place).unwrap(),
            b's' => {
                fs::create_dir(&place).unwrap();
                fs::write(place.join("something"), "old").unwrap();
            }
            _ if hard => fs::hard_link(&kept, place).unwrap(),
            _ => symlink(&kept, place).unwrap(),
        }
    }
    let outcome = restore_latest(&opened, target.path(), &RestoreOptions::default()).unwrap();
    assert!(outcome.is_complete(), "{outcome:?}");
    assert_eq!(lines_of(target.path()), tree);
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(&kept).unwrap(), "kept");
    assert_eq!(fs::metadata(&kept).unwrap().nlink(), 1);
}

#[test]
fn a_fifo_in_the_way_does_not_block() {
    let opened = open(&golden("default"));
    let target = TempDir::new().unwrap();
    let place = target.path().join("hello.txt");
    let made = std::process::Command::new("mkfifo").arg(&place).status().unwrap();
    assert!(made.success() && fs::symlink_metadata(&place).unwrap().file_type().is_fifo());
    let outcome = restore_latest(&opened, target.path(), &RestoreOptions::default()).unwrap();
    assert!(outcome.is_complete(), "{outcome:?}");
    assert!(fs::symlink_metadata(&place).unwrap().is_file());
}

#[test]
fn extras_stay_unless_they_are_to_go() {
    let opened = open(&golden("default"));
    let target = TempDir::new().unwrap();
    let tree = expected_trees("default").pop().unwrap().1;
    let outside = TempDir::new().unwrap();
    fs::write(outside.path().join("kept"), "kept").unwrap();
    let extra = target.path().join("extra/deep");
    fs::create_dir_all(&extra).unwrap();
    symlink(outside.path(), extra.join("away")).unwrap();
    fs::write(target.path().join("extra/file"), "x").unwrap();
    fs::create_dir(target.path().join("lost+found")).unwrap();
    let keep = restore_latest(&opened, target.path(), &RestoreOptions::default()).unwrap();
    assert_eq!(keep.deleted_count, 0);
    assert!(target.path().join("extra/file").exists());

    let options = RestoreOptions { delete_extra: true, ..RestoreOptions::default() };
    let outcome = restore_latest(&opened, target.path(), &options).unwrap();
    assert!(outcome.is_complete(), "{outcome:?}");
    assert_eq!(outcome.deleted_count, 4);
    assert!(outside.path().join("kept").exists());
    fs::remove_dir(target.path().join("lost+found")).unwrap();
    let root_line = |text: &str| text.lines().filter(|line| !line.starts_with(".:")).collect::<Vec<_>>().join("\n");
    assert_eq!(root_line(&lines_of(target.path())), root_line(&tree));
}

#[test]
fn one_file_or_directory_can_be_had_alone() {
    let opened = open(&golden("default"));
    let tree = expected_trees("default").pop().unwrap().1;
    let hello = tree.lines().find(|line| line.starts_with("hello.txt: ")).unwrap();
    let of = |path: &str| RestoreOptions { path: Some(path.to_owned()), ..RestoreOptions::default() };

    let target = TempDir::new().unwrap();
    let outcome = restore_latest(&opened, target.path(), &of("/hello.txt")).unwrap();
    assert_eq!((outcome.file_count, outcome.directory_count), (1, 0));
    assert!(lines_of(target.path()).contains(hello));

    let renamed = target.path().join("new/name");
    restore_latest(&opened, &renamed, &of("hello.txt")).unwrap();
    assert_eq!(fs::read(&renamed).unwrap(), fs::read(target.path().join("hello.txt")).unwrap());

    let missing = restore_latest(&opened, target.path(), &of("hello.txt/x")).unwrap_err();
    assert!(matches!(missing, RestoreError::NotInSnapshot { .. }), "{missing}");
    assert_eq!(missing.class(), Class::Blocked);
}

#[test]
fn owners_may_be_left_alone() {
    let opened = open(&golden("v3-zstd"));
    let target = TempDir::new().unwrap();
    let options = RestoreOptions { owners: OwnerMode::Skip, ..RestoreOptions::default() };
    let outcome = restore_latest(&opened, target.path(), &options).unwrap();
    assert!(outcome.is_complete(), "{outcome:?}");
    let own = fs::metadata(target.path()).unwrap().uid();
    for entry in fs::read_dir(target.path()).unwrap() {
        let found = entry.unwrap().metadata().unwrap();
        assert_eq!(found.uid(), own);
        assert!(!found.is_file() || found.permissions().mode() & 0o6000 == 0);
    }
}

/// Asks the run to stop at the n-th read of a data pack.
#[derive(Debug)]
struct CancelAt {
    store: FilesystemStorage,
    reads_left: AtomicU32,
    cancel: Cancel,
}

#[async_trait]
impl Storage for CancelAt {
    fn address(&self) -> String {
        self.store.address()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode) -> Result<(), storage::Error> {
        self.store.put(key, body, mode).await
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes, storage::Error> {
        self.store.get(key).await
    }

    async fn get_range(&self, key: &ObjectKey, offset: u64, length_bytes: u64) -> Result<Bytes, storage::Error> {
        if key.as_str().starts_with('p') && self.reads_left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.cancel.cancel();
        }
        self.store.get_range(key, offset, length_bytes).await
    }

    async fn stat(&self, key: &ObjectKey) -> Result<Object, storage::Error> {
        self.store.stat(key).await
    }

    fn list<'a>(&'a self, prefix: &str) -> BoxStream<'a, Result<Object, storage::Error>> {
        self.store.list(prefix)
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), storage::Error> {
        self.store.delete(key).await
    }
}

#[test]
fn a_stopped_restore_goes_on_where_it_was() {
    let target = TempDir::new().unwrap();
    let note = target.path().join(".perennial-restore.json");
    let path = fs::canonicalize(golden("v3-zstd")).unwrap();
    let store = FilesystemStorage::open(&path, Layout::Kopia).unwrap();
    let cancel = Cancel::new();
    let stopping = CancelAt { store, reads_left: AtomicU32::new(3), cancel: cancel.clone() };
    let mut opened = open_store(Arc::new(stopping), 1);
    opened.run.cancel = cancel;
    let error = restore_latest(&opened, target.path(), &RestoreOptions::default()).unwrap_err();
    assert!(matches!(error, RestoreError::Interrupted), "{error:?}");
    assert!(note.exists());

    let opened = open(&golden("v3-zstd"));
    let outcome = restore_latest(&opened, target.path(), &RestoreOptions::default()).unwrap();
    assert!(outcome.is_complete(), "{outcome:?}");
    assert!(outcome.resumed_file_count > 0 && outcome.bytes > 0, "{outcome:?}");
    assert!(!note.exists());
    assert_eq!(lines_of(target.path()), expected_trees("v3-zstd").pop().unwrap().1);

    // Without the note nothing counts as finished, and another restore's note does not count.
    fs::write(&note, "{\"repository\":\"another\"}\n").unwrap();
    let outcome = restore_latest(&opened, target.path(), &RestoreOptions::default()).unwrap();
    assert_eq!(outcome.resumed_file_count, 0);
    assert_eq!(lines_of(target.path()), expected_trees("v3-zstd").pop().unwrap().1);
}

#[track_caller]
fn check_damaged(name: &str, failed: &[&str], object: &str) {
    let opened = open(&damaged(name));
    let target = TempDir::new().unwrap();
    let outcome = restore_latest(&opened, target.path(), &RestoreOptions::default()).unwrap();
    let paths: Vec<&str> = outcome.failed.iter().map(|failed| failed.path.as_str()).collect();
    assert_eq!(paths, failed, "{outcome:?}");
    assert_eq!(outcome.failed_count, failed.len() as u64);
    assert_eq!(outcome.class(), Some(Class::Damaged));
    assert!(outcome.failed.iter().all(|failed| failed.error.contains(object)), "{outcome:?}");
    assert!(outcome.damaged.iter().all(|damaged| damaged.contains(object)) && !outcome.damaged.is_empty());
    let tree = expected_trees("default").pop().unwrap().1;
    let whole = |line: &&str| !failed.contains(&line.split_once(": ").unwrap().0);
    let expected: Vec<&str> = tree.lines().filter(whole).collect();
    assert_eq!(lines_of(target.path()).lines().collect::<Vec<_>>(), expected);
}

const DAMAGED_PACK: &str = "p86a8434ebe97513854114bf8a26b8215-seb88d81eafb03cb6147";

#[test]
fn what_is_whole_in_a_damaged_repository_restores() {
    check_damaged("flipped-byte-in-pack", &["rand-40k.bin"], DAMAGED_PACK);
    check_damaged("truncated-pack", &["link-dangling", "link-rel", "rand-40k.bin"], DAMAGED_PACK);
}

#[test]
fn an_empty_file_needs_no_pack() {
    let opened = open(&damaged("missing-pack"));
    let target = TempDir::new().unwrap();
    let outcome = restore_latest(&opened, target.path(), &RestoreOptions::default()).unwrap();
    assert_eq!((outcome.file_count, outcome.bytes), (1, 0), "{outcome:?}");
    assert_eq!(outcome.class(), Some(Class::Damaged));
    assert!(outcome.failed.iter().all(|failed| failed.error.contains(DAMAGED_PACK)), "{outcome:?}");
    assert!(target.path().join("empty.bin").exists());
}
