//! Trees with everything that is hard to keep, and trees that change while they are read: backed up, restored, and compared
//! to the last attribute.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use codec::compress::Algorithm;
use engine::{BackupOptions, BackupOutcome, Counter, Meter, RestoreOptions, RestoreOutcome, Run, ShortfallKind};
use engine::{backup, restore};
use futures::stream::BoxStream;
use repository_kopia::{CompressionChoice, CreateOptions, Password, Repository};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, mknodat};
use storage::{Object, ObjectKey, PutMode, Storage};
use testkit::hostile::{ACCESS_LIST, plant};
use testkit::{MemoryStore, describe};

use crate::backup::{
    RUNTIME, assert_restores, assert_verifies, back_up, client, clock, create, memory, open, options, pseudo_random,
    run,
};

fn planted() -> tempfile::TempDir {
    let tree = tempfile::tempdir().unwrap();
    plant(tree.path()).unwrap();
    tree
}

fn stored(tree: &Path) -> MemoryStore {
    let store = memory();
    create(&store);
    let (outcome, _) = back_up(&store, tree);
    assert!(outcome.is_complete(), "{outcome:?}");
    assert_eq!(outcome.shortfalls.first, []);
    store
}

fn restore_from(
    store: Arc<dyn Storage>,
    target: &Path,
    options: &RestoreOptions,
    run: &Run,
) -> Result<RestoreOutcome, engine::RestoreError> {
    let repository = open(store, clock());
    let listing = RUNTIME.block_on(repository.snapshots()).unwrap();
    let newest = listing.snapshots.iter().rfind(|snapshot| snapshot.incomplete.is_none()).unwrap();
    restore(&repository, newest, target, options, run)
}

#[track_caller]
fn restore_whole(store: &MemoryStore, target: &Path, options: &RestoreOptions) -> RestoreOutcome {
    let outcome = restore_from(Arc::new(store.clone()), target, options, &run()).unwrap();
    assert!(outcome.is_complete() && outcome.shortfalls.first.is_empty(), "{outcome:?}");
    outcome
}

#[test]
fn everything_that_is_hard_to_keep_comes_back() {
    let tree = planted();
    let store = stored(tree.path());
    assert_verifies(&store);
    let target = tempfile::tempdir().unwrap();
    let options = RestoreOptions { verify: true, ..RestoreOptions::default() };
    let outcome = restore_whole(&store, target.path(), &options);
    assert_eq!(describe(target.path()).unwrap(), describe(tree.path()).unwrap());
    assert_eq!((outcome.special_count, outcome.linked_bytes), (9, 2 * (9_000_000 + 5 + 6)));
    let sparse = fs::metadata(target.path().join("sparse")).unwrap();
    assert!(sparse.blocks() * 512 < 1 << 20, "{} blocks", sparse.blocks());
    // Over what is there, with other things in the way, it becomes the same.
    let in_the_way = target.path().join("hard links/elsewhere/small");
    fs::remove_file(&in_the_way).unwrap();
    fs::create_dir(&in_the_way).unwrap();
    fs::write(target.path().join("specials/more"), "more").unwrap();
    rustix::fs::setxattr(target.path().join("names"), "system.posix_acl_default", ACCESS_LIST, XattrFlags::empty())
        .unwrap();
    let options = RestoreOptions { delete_extra: true, ..RestoreOptions::default() };
    restore_whole(&store, target.path(), &options);
    assert_eq!(describe(target.path()).unwrap(), describe(tree.path()).unwrap());
}

#[test]
fn an_unchanged_hostile_tree_is_not_read_again_and_gives_the_same_root() {
    let tree = planted();
    let store = memory();
    create(&store);
    let (first, _) = back_up(&store, tree.path());
    let (second, run) = back_up(&store, tree.path());
    assert_eq!((run.meter.get(Counter::BytesRead), run.meter.get(Counter::ContentsNew)), (0, 0));
    assert_eq!(second.root.data, first.root.data);
}

#[test]
fn an_attribute_that_changed_is_stored_without_reading_the_file() {
    let tree = planted();
    let store = stored(tree.path());
    let file = tree.path().join("attributes/listed");
    let before = fs::metadata(&file).unwrap();
    rustix::fs::setxattr(&file, "user.new", b"1", XattrFlags::empty()).unwrap();
    rustix::fs::removexattr(&file, "system.posix_acl_access").unwrap();
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(before.mode())).unwrap();
    let (_, run) = back_up(&store, tree.path());
    assert_eq!(run.meter.get(Counter::BytesRead), 0);
    assert_restores(&store, tree.path());
}

#[test]
fn a_name_never_takes_over_the_data_of_another_that_is_written_alike() {
    let tree = tempfile::tempdir().unwrap();
    let name = |last: u8| {
        use std::os::unix::ffi::OsStrExt as _;
        tree.path().join(std::ffi::OsStr::from_bytes(&[b'a', last]))
    };
    fs::write(name(0xf1), "one").unwrap();
    fs::write(name(0xf2), "two").unwrap();
    let store = stored(tree.path());
    // Same length, time, owner and mode under a name that now is written as the other was.
    fs::rename(name(0xf2), name(0xf3)).unwrap();
    fs::remove_file(name(0xf1)).unwrap();
    back_up(&store, tree.path());
    assert_restores(&store, tree.path());
}

#[test]
fn one_of_several_names_is_restored_as_a_file() {
    let tree = planted();
    let store = stored(tree.path());
    let target = tempfile::tempdir().unwrap();
    let of = |path: &str| RestoreOptions { path: Some(path.to_owned()), ..RestoreOptions::default() };
    restore_whole(&store, &target.path().join("single"), &of("hard links/elsewhere/large"));
    let single = fs::metadata(target.path().join("single")).unwrap();
    assert_eq!((single.nlink(), single.len()), (1, 9_000_000));
    restore_whole(&store, &target.path().join("some"), &of("hard links/elsewhere"));
    let inode = |path: &str| fs::symlink_metadata(target.path().join(path)).unwrap().ino();
    for name in ["large", "small", "empty", "symbolic", "pipe"] {
        assert_eq!(inode(&format!("some/{name}")), inode(&format!("some/deeper/another {name}")), "{name}");
    }
    assert_eq!(fs::metadata(target.path().join("some/large")).unwrap().nlink(), 2);
}

/// What happens at a call to the store, once.
type Hook = Box<dyn FnOnce() + Send>;

/// The calls to packs of file data, or of listings.
#[derive(Clone, Copy, PartialEq)]
enum Calls {
    DataRead,
    DataWritten,
    ListingRead,
}

/// A store that does something else at the first such call after so many files were found.
struct Hooked {
    store: MemoryStore,
    calls: Calls,
    meter: Arc<Meter>,
    files_found: u64,
    hook: Mutex<Option<Hook>>,
}

impl Hooked {
    fn new(
        store: &MemoryStore,
        calls: Calls,
        run: &Run,
        files_found: u64,
        hook: impl FnOnce() + Send + 'static,
    ) -> Arc<Self> {
        let hook = Mutex::new(Some(Box::new(hook) as Hook));
        Arc::new(Self { store: store.clone(), calls, meter: run.meter.clone(), files_found, hook })
    }

    fn call(&self, key: &ObjectKey, is_write: bool) {
        let called = match (key.as_str().as_bytes().first(), is_write) {
            (Some(b'p'), true) => Calls::DataWritten,
            (Some(b'p'), false) => Calls::DataRead,
            (Some(b'q'), false) => Calls::ListingRead,
            _ => return,
        };
        if called == self.calls
            && self.meter.get(Counter::FilesFound) >= self.files_found
            && let Some(hook) = self.hook.lock().unwrap().take()
        {
            hook();
        }
    }

    #[track_caller]
    fn assert_called(&self) {
        assert!(self.hook.lock().unwrap().is_none(), "the moment never came");
    }
}

impl fmt::Debug for Hooked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hooked")
    }
}

#[async_trait]
impl Storage for Hooked {
    fn address(&self) -> String {
        self.store.address()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode) -> Result<(), storage::Error> {
        self.call(key, true);
        self.store.put(key, body, mode).await
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes, storage::Error> {
        self.call(key, false);
        self.store.get(key).await
    }

    async fn get_range(&self, key: &ObjectKey, offset: u64, length_bytes: u64) -> Result<Bytes, storage::Error> {
        self.call(key, false);
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
fn a_restore_that_was_stopped_makes_all_links_and_attributes_in_the_end() {
    let tree = planted();
    let store = stored(tree.path());
    let target = tempfile::tempdir().unwrap();
    let stopped = run();
    let cancel = stopped.cancel.clone();
    let hooked = Hooked::new(&store, Calls::DataRead, &stopped, 0, move || cancel.cancel());
    restore_from(hooked.clone(), target.path(), &RestoreOptions::default(), &stopped).unwrap_err();
    hooked.assert_called();
    restore_whole(&store, target.path(), &RestoreOptions::default());
    assert_eq!(describe(target.path()).unwrap(), describe(tree.path()).unwrap());
    // Had it been stopped at the very end, all would be there already.
    let note = target.path().join(".perennial-restore.json");
    let repository = open(Arc::new(store.clone()), clock()).unique_id();
    let snapshot =
        RUNTIME.block_on(open(Arc::new(store.clone()), clock()).snapshots()).unwrap().snapshots.pop().unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let text = format!(
        "{{\"repository\":\"{repository}\",\"snapshot\":\"{}\",\"path\":\"\",\"boot\":\"{}\"}}\n",
        snapshot.id,
        boot.trim()
    );
    fs::write(note, text).unwrap();
    let outcome = restore_whole(&store, target.path(), &RestoreOptions::default());
    assert_eq!((outcome.bytes, outcome.resumed_file_count > 50), (0, true), "{outcome:?}");
    assert_eq!(describe(target.path()).unwrap(), describe(tree.path()).unwrap());
}

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// With one thread that walks: directories are listed one after the other.
fn alone() -> Run {
    let mut run = run();
    run.limits.threads = 1;
    run
}

/// Backs up a tree in which every file looks changed since the parent snapshot. When the directory `second` has been listed,
/// and none of its files opened, `change` happens in it.
#[track_caller]
fn back_up_changing(change: impl FnOnce(&Path) + Send + 'static) -> (MemoryStore, BackupOutcome, tempfile::TempDir) {
    let tree = tempfile::tempdir().unwrap();
    let write_all = |text: &str| {
        for directory in ["first", "second"] {
            fs::create_dir_all(tree.path().join(directory)).unwrap();
            NAMES.iter().for_each(|name| fs::write(tree.path().join(directory).join(name), text).unwrap());
        }
    };
    write_all("old");
    let store = stored(tree.path());
    write_all("newer");
    let second = tree.path().join("second");
    let run = alone();
    let hooked = Hooked::new(&store, Calls::ListingRead, &run, NAMES.len() as u64, move || change(&second));
    let outcome = backup(&open(hooked.clone(), clock()), tree.path(), &options(), &run).unwrap();
    hooked.assert_called();
    assert_verifies(&store);
    (store, outcome, tree)
}

#[test]
fn files_that_turn_into_something_else_before_they_are_read_cost_themselves_only() {
    let (store, outcome, tree) = back_up_changing(|second| {
        NAMES[..5].iter().for_each(|name| fs::remove_file(second.join(name)).unwrap());
        fs::create_dir(second.join("b")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", second.join("c")).unwrap();
        mknodat(CWD, second.join("d"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        mknodat(CWD, second.join("e"), FileType::CharacterDevice, Mode::RUSR, rustix::fs::makedev(1, 5)).unwrap();
    });
    let mut paths: Vec<&str> = outcome.unreadable.iter().map(|failed| failed.path.as_str()).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["second/a", "second/b", "second/c", "second/d", "second/e"]);
    let target = tempfile::tempdir().unwrap();
    restore_whole(&store, target.path(), &RestoreOptions::default());
    for name in NAMES {
        assert_eq!(fs::read_to_string(target.path().join("first").join(name)).unwrap(), "newer");
        assert_eq!(target.path().join("second").join(name).exists(), name == "f");
    }
    drop(tree);
}

#[test]
fn files_that_change_before_they_are_read_are_stored_as_they_were_read() {
    let (store, outcome, tree) = back_up_changing(|second| {
        fs::write(second.join("a"), "").unwrap();
        fs::write(second.join("b"), pseudo_random(1, 3000)).unwrap();
        fs::write(second.join("c"), pseudo_random(2, 9_000_000)).unwrap();
        fs::write(second.join("d"), "other").unwrap();
    });
    assert!(outcome.is_complete(), "{outcome:?}");
    let target = tempfile::tempdir().unwrap();
    restore_whole(&store, target.path(), &RestoreOptions::default());
    for name in NAMES {
        let read = |root: &Path| fs::read(root.join("second").join(name)).unwrap();
        assert!(read(target.path()) == read(tree.path()), "{name}");
    }
    // They are not taken for unchanged later.
    let (_, run) = back_up(&store, tree.path());
    assert_eq!(run.meter.get(Counter::BytesRead), 9_000_000 + 3000 + 5);
    assert_restores(&store, tree.path());
}

#[test]
fn two_files_are_not_made_one_because_a_number_was_used_again() {
    let tree = tempfile::tempdir().unwrap();
    for directory in ["first", "second"] {
        fs::create_dir(tree.path().join(directory)).unwrap();
    }
    fs::write(tree.path().join("first/file"), "before").unwrap();
    fs::hard_link(tree.path().join("first/file"), tree.path().join("second/file")).unwrap();
    let store = stored(tree.path());
    fs::write(tree.path().join("first/file"), "second").unwrap();
    let (run, file) = (alone(), tree.path().join("second/file"));
    // The name was listed as one of two of a file; when it is opened it is another file.
    let hooked = Hooked::new(&store, Calls::ListingRead, &run, 1, move || {
        fs::remove_file(&file).unwrap();
        fs::write(&file, "a third").unwrap();
    });
    backup(&open(hooked.clone(), clock()), tree.path(), &options(), &run).unwrap();
    hooked.assert_called();
    let target = tempfile::tempdir().unwrap();
    let outcome = restore_from(Arc::new(store), target.path(), &RestoreOptions::default(), &self::run()).unwrap();
    assert!(outcome.is_complete(), "{outcome:?}");
    let read = |name: &str| fs::read_to_string(target.path().join(name)).unwrap();
    assert_eq!((read("first/file"), read("second/file")), ("second".to_owned(), "a third".to_owned()));
    assert_eq!(outcome.shortfalls.count(), 0, "{outcome:?}");
}

/// A name that is new is stored anew, one that is unchanged is not: their data may be told by different ids.
#[test]
fn names_of_one_file_are_linked_however_their_bytes_were_stored() {
    let tree = tempfile::tempdir().unwrap();
    let (old, new) = (tree.path().join("old"), tree.path().join("new"));
    fs::write(&old, vec![b'a'; 300_000]).unwrap();
    fs::hard_link(&old, tree.path().join("other")).unwrap();
    let store = memory();
    create_in_version_1(&store);
    let back_up_with = |algorithm| {
        let compression = Some(CompressionChoice::always(Some(algorithm)));
        let options = BackupOptions { compression, ..options() };
        backup(&open(Arc::new(store.clone()), clock()), tree.path(), &options, &run()).unwrap()
    };
    back_up_with(Algorithm::Gzip);
    fs::rename(tree.path().join("other"), &new).unwrap();
    back_up_with(Algorithm::ZstdFastest);
    let target = tempfile::tempdir().unwrap();
    let outcome = restore_from(Arc::new(store), target.path(), &RestoreOptions::default(), &run()).unwrap();
    assert_eq!((outcome.is_complete(), outcome.shortfalls.count()), (true, 0), "{outcome:?}");
    assert_eq!(describe(target.path()).unwrap(), describe(tree.path()).unwrap());
}

fn create_in_version_1(store: &MemoryStore) {
    let (password, options) = (Password::new("secret"), CreateOptions { version: 1, ..CreateOptions::default() });
    let creating = Repository::create(Arc::new(store.clone()), &password, &options, client(), clock());
    RUNTIME.block_on(creating).unwrap();
}

/// Longer than what is read ahead of the first pack that is uploaded.
const LONG_BYTES: usize = 96 << 20;

#[track_caller]
fn back_up_changing_while_read(change: impl FnOnce(&Path) + Send + 'static) -> u64 {
    let tree = tempfile::tempdir().unwrap();
    let file = tree.path().join("long");
    fs::write(&file, pseudo_random(9, LONG_BYTES)).unwrap();
    let store = memory();
    create(&store);
    let (run, changed) = (run(), file.clone());
    let hooked = Hooked::new(&store, Calls::DataWritten, &run, 0, move || change(&changed));
    let outcome = backup(&open(hooked.clone(), clock()), tree.path(), &options(), &run).unwrap();
    hooked.assert_called();
    assert!(outcome.is_complete(), "{outcome:?}");
    assert_verifies(&store);
    let target = tempfile::tempdir().unwrap();
    restore_whole(&store, target.path(), &RestoreOptions::default());
    let restored = fs::metadata(target.path().join("long")).unwrap().len();
    assert_eq!(Some(restored), outcome.root.summary.map(|summary| summary.size_bytes));
    back_up(&store, tree.path());
    assert_restores(&store, tree.path());
    restored
}

#[test]
fn a_file_that_shrinks_or_grows_while_it_is_read_is_stored_as_far_as_it_was_read() {
    let shrunk =
        back_up_changing_while_read(|file| fs::File::options().write(true).open(file).unwrap().set_len(100).unwrap());
    assert!(shrunk < LONG_BYTES as u64, "{shrunk}");
    let grown = back_up_changing_while_read(|file| {
        fs::File::options().write(true).open(file).unwrap().set_len(LONG_BYTES as u64 + 5_000_000).unwrap();
    });
    assert_eq!(grown, LONG_BYTES as u64 + 5_000_000);
    let vanished = back_up_changing_while_read(|file| fs::rename(file, file.with_extension("gone")).unwrap());
    assert_eq!(vanished, LONG_BYTES as u64);
}

#[test]
fn files_that_state_no_length_are_read_to_their_end() {
    let store = memory();
    create(&store);
    let (outcome, _) = back_up(&store, Path::new("/proc/self/status"));
    assert!(outcome.is_complete() && outcome.root.size_bytes > 100, "{outcome:?}");
    assert_verifies(&store);
}

#[test]
fn a_hundred_thousand_entries_in_one_directory_are_kept() {
    let tree = tempfile::tempdir().unwrap();
    for number in 0..100_000 {
        fs::write(tree.path().join(format!("{number}")), if number % 1000 == 0 { "x" } else { "" }).unwrap();
    }
    let store = stored(tree.path());
    let (_, run) = back_up(&store, tree.path());
    assert_eq!((run.meter.get(Counter::BytesRead), run.meter.get(Counter::ContentsNew)), (0, 0));
    assert_restores(&store, tree.path());
}

#[test]
fn thousands_of_directories_and_files_in_one_directory_are_compared_with_what_was_there_before() {
    let tree = tempfile::tempdir().unwrap();
    let at = |name: &str| tree.path().join(name);
    // Not UTF-8, and where it stands among the others depends on what is written for it.
    let odd = |number: usize| {
        use std::os::unix::ffi::OsStrExt as _;
        tree.path().join(std::ffi::OsStr::from_bytes(&[format!("{number}").as_bytes(), b"\xff\xe9"].concat()))
    };
    for number in 0..2_500 {
        fs::create_dir(at(&format!("{number} directory"))).unwrap();
        fs::write(at(&format!("{number} directory/file")), format!("{number}")).unwrap();
        fs::write(at(&format!("{number}.file")), format!("a file {number}")).unwrap();
        if number % 100 == 0 {
            fs::write(odd(number), format!("odd {number}")).unwrap();
            mknodat(CWD, at(&format!("{number} pipe")), FileType::Fifo, Mode::RUSR, 0).unwrap();
        }
    }
    let store = stored(tree.path());
    let root = |outcome: &BackupOutcome| outcome.root.data.clone();
    let (first, run) = back_up(&store, tree.path());
    assert_eq!((run.meter.get(Counter::BytesRead), run.meter.get(Counter::ContentsNew)), (0, 0));

    fs::write(at("!"), "new, and before all others").unwrap();
    fs::create_dir(at("~")).unwrap();
    fs::remove_file(at("1200.file")).unwrap();
    fs::create_dir(at("1200.file")).unwrap();
    fs::remove_dir_all(at("1300 directory")).unwrap();
    fs::write(at("1300 directory"), "a file now").unwrap();
    fs::remove_file(at("1400 pipe")).unwrap();
    fs::write(at("1400 pipe"), "no pipe any more").unwrap();
    fs::rename(odd(1500), odd(1501)).unwrap();
    fs::remove_file(odd(1600)).unwrap();
    let (changed, run) = back_up(&store, tree.path());
    let written = ["new, and before all others", "a file now", "no pipe any more", "odd 1500"];
    assert_eq!(run.meter.get(Counter::BytesRead), written.iter().map(|text| text.len() as u64).sum::<u64>());
    assert_restores(&store, tree.path());
    assert_ne!(root(&changed), root(&first));
    // Read anew in every part, it is the same.
    let again = BackupOptions { read_all: true, ..options() };
    let repository = open(Arc::new(store), clock());
    assert_eq!(root(&backup(&repository, tree.path(), &again, &self::run()).unwrap()), root(&changed));
}

#[test]
fn what_exceeds_the_bound_of_attributes_is_named() {
    let Ok(tree) = tempfile::tempdir_in("/dev/shm") else { return };
    let set = |path: &Path, name: &str, length: usize| {
        rustix::fs::setxattr(path, name, &vec![1; length], XattrFlags::empty()).unwrap();
    };
    fs::create_dir(tree.path().join("sub")).unwrap();
    let file = tree.path().join("sub/file");
    fs::write(&file, "x").unwrap();
    set(&file, "user.a", 60_000);
    set(&file, "user.b", 10_000);
    set(&file, "user.c", 100);
    let store = memory();
    create(&store);
    let (outcome, _) = back_up(&store, tree.path());
    assert!(outcome.is_complete(), "{outcome:?}");
    let named: Vec<(ShortfallKind, &str)> =
        outcome.shortfalls.first.iter().map(|one| (one.kind, one.path.as_str())).collect();
    assert_eq!(named, [(ShortfallKind::Attributes, "sub/file")]);
    assert!(outcome.shortfalls.first[0].reason.starts_with("user.b: 10000 bytes"), "{outcome:?}");
    rustix::fs::removexattr(&file, "user.b").unwrap();
    // Where the target takes less than the source had, that is named too, and the data is there.
    let target = tempfile::tempdir().unwrap();
    let outcome = restore_from(Arc::new(store.clone()), target.path(), &RestoreOptions::default(), &run()).unwrap();
    assert!(outcome.is_complete());
    assert_eq!(fs::read_to_string(target.path().join("sub/file")).unwrap(), "x");
    let target_takes_it = outcome.shortfalls.count() == 0;
    assert_eq!(describe(target.path()).unwrap() == describe(tree.path()).unwrap(), target_takes_it);
    let target = tempfile::tempdir_in("/dev/shm").unwrap();
    restore_whole(&store, target.path(), &RestoreOptions::default());
    assert_eq!(describe(target.path()).unwrap(), describe(tree.path()).unwrap());
}
