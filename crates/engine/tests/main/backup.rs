//! Backups over a store in memory: what is stored, what is reused, what is left behind when something fails.

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use engine::{BackupError, BackupOptions, BackupOutcome, Cancel, Counter, Limits, Meter, RestoreOptions, Run};
use engine::{VerifyOptions, backup, restore, verify};
use jiff::{SignedDuration, Timestamp};
use repository::{Clock, Identity};
use repository_kopia::{Client, CreateOptions, Password, Repository};
use storage::{ObjectKey, Storage};
use testkit::{FaultStore, MemoryStore, describe};
use tokio::runtime::Runtime;

pub static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap());

const START: &str = "2026-11-21T12:00:00Z";

/// A clock that goes on by a millisecond with each look at any of them, so that no two snapshots begin at once.
struct SteppingClock {
    /// When there is a session in this store, each look is a minute later.
    races_in: Option<MemoryStore>,
}

pub fn clock() -> Arc<dyn Clock> {
    Arc::new(SteppingClock { races_in: None })
}

impl Clock for SteppingClock {
    fn now(&self) -> Timestamp {
        static LOOKS: AtomicI64 = AtomicI64::new(0);
        static RACED_LOOKS: AtomicI64 = AtomicI64::new(0);
        let is_session = |name: &String| name.starts_with('s');
        let races = self.races_in.as_ref().is_some_and(|store| store.names().iter().any(is_session));
        let raced_minutes = if races { RACED_LOOKS.fetch_add(1, Ordering::Relaxed) } else { 0 };
        let milliseconds = LOOKS.fetch_add(1, Ordering::Relaxed);
        START.parse::<Timestamp>().unwrap()
            + SignedDuration::from_millis(milliseconds)
            + SignedDuration::from_mins(raced_minutes)
    }
}

pub fn memory() -> MemoryStore {
    let store = MemoryStore::new();
    store.set_now(START.parse().unwrap());
    store
}

pub fn client() -> Client {
    Client { username: "app".to_owned(), hostname: "space".to_owned() }
}

pub fn create(store: &MemoryStore) {
    let (password, options) = (Password::new("secret"), CreateOptions::default());
    let creating = Repository::create(Arc::new(store.clone()), &password, &options, client(), clock());
    RUNTIME.block_on(creating).unwrap();
}

pub fn open(store: Arc<dyn Storage>, clock: Arc<dyn Clock>) -> Repository {
    RUNTIME.block_on(Repository::open(store, &Password::new("secret"), client(), clock)).unwrap()
}

pub fn run() -> Run {
    Run {
        runtime: RUNTIME.handle().clone(),
        limits: Limits::for_memory(96 << 20, NonZeroUsize::new(2).unwrap()),
        meter: Arc::new(Meter::new()),
        cancel: Cancel::new(),
    }
}

pub fn options() -> BackupOptions {
    BackupOptions {
        identity: "app@space:/data".parse::<Identity>().unwrap(),
        description: String::new(),
        tags: BTreeMap::new(),
        compression: None,
        read_all: false,
        cache_directory: None,
    }
}

pub fn back_up(store: &MemoryStore, tree: &Path) -> (BackupOutcome, Run) {
    let run = run();
    let repository = open(Arc::new(store.clone()), clock());
    (backup(&repository, tree, &options(), &run).unwrap(), run)
}

/// Some files of all sizes that matter: empty, small, at the edges of a batch, and cut into several pieces.
pub fn make_tree(root: &Path) {
    fs::create_dir_all(root.join("sub/deeper")).unwrap();
    fs::write(root.join("empty"), b"").unwrap();
    fs::write(root.join("hello"), b"hello\n").unwrap();
    fs::write(root.join("sub/batch"), pseudo_random(1, 1 << 20)).unwrap();
    fs::write(root.join("sub/under"), pseudo_random(2, (1 << 20) - 1)).unwrap();
    fs::write(root.join("sub/deeper/large"), pseudo_random(3, 11_000_000)).unwrap();
    fs::write(root.join("sub/deeper/zeros"), vec![0; 5 << 20]).unwrap();
    for number in 0..40 {
        fs::write(root.join(format!("sub/file {number}")), pseudo_random(100 + number, 3000)).unwrap();
    }
    symlink("hello", root.join("link")).unwrap();
    symlink("nowhere/at all", root.join("sub/dangling")).unwrap();
    fs::set_permissions(root.join("hello"), fs::Permissions::from_mode(0o4751)).unwrap();
}

pub fn pseudo_random(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

pub fn assert_restores(store: &MemoryStore, tree: &Path) {
    let run = run();
    let repository = open(Arc::new(store.clone()), clock());
    let listing = RUNTIME.block_on(repository.snapshots()).unwrap();
    let newest = listing.snapshots.iter().rfind(|snapshot| snapshot.incomplete.is_none()).unwrap();
    let target = tempfile::tempdir().unwrap();
    let outcome = restore(&repository, newest, target.path(), &RestoreOptions::default(), &run).unwrap();
    assert!(outcome.is_complete(), "{outcome:?}");
    assert_eq!(describe(target.path()).unwrap(), describe(tree).unwrap());
}

pub fn assert_verifies(store: &MemoryStore) {
    let repository = open(Arc::new(store.clone()), clock());
    let options = VerifyOptions { read_percent: 100, ..VerifyOptions::default() };
    let outcome = verify(&repository, &options, &run()).unwrap();
    assert!(outcome.is_clean(), "{:?}", outcome.findings);
}

#[test]
fn what_was_backed_up_comes_back_byte_for_byte() {
    let tree = tempfile::tempdir().unwrap();
    make_tree(tree.path());
    let store = memory();
    create(&store);
    let (outcome, _) = back_up(&store, tree.path());
    assert!(outcome.is_complete() && outcome.shortfalls.count() == 0, "{outcome:?}");
    let summary = outcome.root.summary.unwrap();
    assert_eq!((summary.file_count, summary.symlink_count, summary.directory_count), (46, 2, 3));
    assert_verifies(&store);
    assert_restores(&store, tree.path());
}

#[test]
fn unchanged_files_are_not_opened_and_nothing_new_is_stored() {
    let tree = tempfile::tempdir().unwrap();
    make_tree(tree.path());
    let store = memory();
    create(&store);
    back_up(&store, tree.path());
    let (outcome, run) = back_up(&store, tree.path());
    assert_eq!(run.meter.get(Counter::BytesRead), 0);
    assert_eq!(run.meter.get(Counter::ContentsNew), 0);
    assert_eq!(outcome.stats.cached_file_count, 46);
    fs::write(tree.path().join("hello"), b"changed\n").unwrap();
    let (outcome, run) = back_up(&store, tree.path());
    assert_eq!((outcome.stats.file_count, run.meter.get(Counter::BytesRead)), (1, 8));
    assert_restores(&store, tree.path());
}

#[test]
fn one_file_can_be_backed_up_alone() {
    let tree = tempfile::tempdir().unwrap();
    make_tree(tree.path());
    let store = memory();
    create(&store);
    let file = tree.path().join("sub/deeper/large");
    let (outcome, _) = back_up(&store, &file);
    assert_eq!(outcome.root.size_bytes, 11_000_000);
    let (_, run) = back_up(&store, &file);
    assert_eq!(run.meter.get(Counter::BytesRead), 0);
    assert_verifies(&store);
}

/// A file that opens and cannot be read: reading this one fails, also for root.
const UNREADABLE: &str = "/proc/self/mem";

#[test]
fn an_unreadable_file_is_named_and_the_rest_is_stored() {
    let store = memory();
    create(&store);
    let (outcome, _) = back_up(&store, Path::new(UNREADABLE));
    assert_eq!(outcome.unreadable_count, 1, "{outcome:?}");
    assert_eq!(outcome.unreadable[0].path, "mem");
    assert_eq!(outcome.root.summary.unwrap().failed_count, 1);
}

#[test]
fn a_parent_whose_pack_is_gone_is_not_built_upon() {
    let tree = tempfile::tempdir().unwrap();
    make_tree(tree.path());
    let store = memory();
    create(&store);
    back_up(&store, tree.path());
    for pack in store.names().into_iter().filter(|name| name.starts_with('p')) {
        store.lose(&pack);
    }
    let (outcome, run) = back_up(&store, tree.path());
    assert_eq!(outcome.stats.cached_file_count, 0);
    assert!(run.meter.get(Counter::BytesNew) > 13_000_000);
    assert_verifies(&store);
    assert_restores(&store, tree.path());
}

#[test]
fn a_truncated_pack_is_replaced_too() {
    let tree = tempfile::tempdir().unwrap();
    make_tree(tree.path());
    let store = memory();
    create(&store);
    back_up(&store, tree.path());
    for pack in store.names().into_iter().filter(|name| name.starts_with('p')) {
        let whole = RUNTIME.block_on(store.get(&ObjectKey::new(pack.as_str()))).unwrap();
        store.tamper(&pack, Bytes::copy_from_slice(&whole[..whole.len() / 2]));
    }
    back_up(&store, tree.path());
    assert_verifies(&store);
    assert_restores(&store, tree.path());
}

#[test]
fn a_cancelled_backup_leaves_no_snapshot_and_the_next_one_completes() {
    let tree = tempfile::tempdir().unwrap();
    make_tree(tree.path());
    let store = memory();
    create(&store);
    let cancelled = run();
    cancelled.cancel.cancel();
    let repository = open(Arc::new(store.clone()), clock());
    let error = backup(&repository, tree.path(), &options(), &cancelled).unwrap_err();
    assert!(matches!(error, BackupError::Interrupted), "{error}");
    assert!(RUNTIME.block_on(repository.snapshots()).unwrap().snapshots.is_empty());
    back_up(&store, tree.path());
    assert_restores(&store, tree.path());
}

#[test]
fn checkpoints_hold_what_is_finished_and_go_when_the_backup_ends() {
    let tree = tempfile::tempdir().unwrap();
    make_tree(tree.path());
    let store = memory();
    create(&store);
    for number in 0..5 {
        fs::write(tree.path().join(format!("more {number}")), pseudo_random(1000 + number, 12_000_000)).unwrap();
    }
    let racing = |store: &MemoryStore| Arc::new(SteppingClock { races_in: Some(store.clone()) });
    let counted = store.fork();
    let counting = FaultStore::counting(counted.clone());
    let repository = open(counting.clone(), racing(&counted));
    backup(&repository, tree.path(), &options(), &run()).unwrap();
    let left = RUNTIME.block_on(open(Arc::new(counted), clock()).snapshots()).unwrap().snapshots;
    assert_eq!(left.iter().map(|snapshot| &snapshot.incomplete).collect::<Vec<_>>(), [&None]);

    let mut seen_checkpoint = false;
    for fault in counting.faults().into_iter().rev().take(12) {
        let store = store.fork();
        let repository = open(FaultStore::over(store.clone(), fault), racing(&store));
        if backup(&repository, tree.path(), &options(), &run()).is_ok() {
            continue;
        }
        let listing = RUNTIME.block_on(open(Arc::new(store.clone()), clock()).snapshots()).unwrap();
        seen_checkpoint |=
            listing.snapshots.iter().any(|snapshot| snapshot.incomplete.as_deref() == Some("checkpoint"));
        assert_verifies(&store);
        back_up(&store, tree.path());
        assert_restores(&store, tree.path());
    }
    assert!(seen_checkpoint);
}

#[test]
fn a_fault_at_any_storage_call_leaves_a_sound_repository() {
    let tree = tempfile::tempdir().unwrap();
    make_tree(tree.path());
    let before = tempfile::tempdir().unwrap();
    fs::write(before.path().join("first"), b"the first backup").unwrap();
    let store = memory();
    create(&store);
    back_up(&store, before.path());
    let counting = FaultStore::counting(store.fork());
    backup(&open(counting.clone(), clock()), tree.path(), &options(), &run()).unwrap();
    for fault in counting.faults() {
        let store = store.fork();
        let words = format!("{fault:?}");
        let faulty = FaultStore::over(store.clone(), fault);
        let password = Password::new("secret");
        let opening = Repository::open(faulty, &password, client(), clock());
        let outcome = RUNTIME.block_on(opening).ok().map(|opened| backup(&opened, tree.path(), &options(), &run()));
        let repository = open(Arc::new(store.clone()), clock());
        let listing = RUNTIME.block_on(repository.snapshots()).unwrap();
        assert!(listing.damage.is_empty(), "{words}");
        let first = &listing.snapshots[0];
        let target = tempfile::tempdir().unwrap();
        restore(&repository, first, target.path(), &RestoreOptions::default(), &run()).unwrap();
        assert_eq!(fs::read(target.path().join("first")).unwrap(), b"the first backup", "{words}");
        if matches!(outcome, Some(Ok(_))) {
            assert_restores(&store, tree.path());
        }
        assert_verifies(&store);
    }
}
