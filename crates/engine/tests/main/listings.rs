//! Directories with more entries than are kept in memory: read, restored, verified, searched and compared.
//!
//! A listing is stored as the bytes of a file, so that it may hold anything.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use engine::{BrowseError, Difference, Other, RestoreOptions, VerifyOptions, VerifyOutcome, Version};
use engine::{backup, diff, find, restore, verify};
use repository::{DataId, DirectorySide, Entry, EntryKind, Side, Snapshot, SnapshotId, Special, SpecialKind, Summary};
use repository_kopia::{CreateOptions, Password, Repository, write_directory};
use testkit::MemoryStore;

use crate::backup::{RUNTIME, client, clock, memory, open, options, run};

/// Kept in memory are at most so many entries of a directory.
const KEPT_MAX: usize = 8192;

/// A repository in which large files have many pieces.
pub fn store_of_small_pieces() -> MemoryStore {
    let store = memory();
    let options = CreateOptions { splitter: "FIXED-128K".to_owned(), ..CreateOptions::default() };
    let password = Password::new("secret");
    let creating = Repository::create(Arc::new(store.clone()), &password, &options, client(), clock());
    RUNTIME.block_on(creating).unwrap();
    store
}

/// Stores each of them as a file.
fn stored(store: &MemoryStore, files: &[Vec<u8>]) -> (Repository, Vec<DataId>, Snapshot) {
    let tree = tempfile::tempdir().unwrap();
    for (at, bytes) in files.iter().enumerate() {
        fs::write(tree.path().join(format!("{at:03}")), bytes).unwrap();
    }
    let repository = open(Arc::new(store.clone()), clock());
    let outcome = backup(&repository, tree.path(), &options(), &run()).unwrap();
    let repository = open(Arc::new(store.clone()), clock());
    let directory = RUNTIME.block_on(repository.directory(&outcome.root.data)).unwrap();
    let snapshots = RUNTIME.block_on(repository.snapshots()).unwrap().snapshots;
    (repository, directory.entries.into_iter().map(|entry| entry.data).collect(), snapshots.last().unwrap().clone())
}

fn listing_of(entries: &[Entry], side: &DirectorySide) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_directory(entries.iter().map(|entry| Ok(Cow::Borrowed(entry))), &summary_of(entries), side, &mut bytes)
        .unwrap();
    bytes
}

fn summary_of(entries: &[Entry]) -> Summary {
    let of_kind = |kind| entries.iter().filter(move |entry| entry.kind == kind);
    Summary {
        size_bytes: of_kind(EntryKind::File).map(|entry| entry.size_bytes).sum(),
        file_count: of_kind(EntryKind::File).count() as u64,
        symlink_count: 0,
        directory_count: 1 + of_kind(EntryKind::Directory).count() as u64,
        max_time: clock().now(),
        incomplete: None,
        failed_count: 0,
        ignored_error_count: 0,
        errors: Vec::new(),
    }
}

fn entry(name: &str, kind: EntryKind, data: &DataId, size_bytes: u64) -> Entry {
    let is_directory = kind == EntryKind::Directory;
    Entry {
        name: name.to_owned(),
        kind,
        mode: if is_directory { 0o755 } else { 0o644 },
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        mtime: "2026-11-20T12:00:00Z".parse().unwrap(),
        size_bytes,
        data: data.clone(),
        summary: is_directory.then(|| Box::new(summary_of(&[]))),
        side: None,
    }
}

fn with_raw_name(mut entry: Entry, raw: &[u8]) -> Entry {
    entry.side = Some(Box::new(Side { raw_name: Some(raw.to_vec()), ..Side::default() }));
    entry
}

fn root_of(data: &DataId, entries: &[Entry]) -> Entry {
    Entry { summary: Some(Box::new(summary_of(entries))), ..entry("", EntryKind::Directory, data, 0) }
}

/// The same repeatable disorder everywhere.
fn shuffle<T>(all: &mut [T]) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for at in (1..all.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        all.swap(at, (state % (at as u64 + 1)) as usize);
    }
}

fn in_kopias_order(entries: &mut [Entry]) {
    entries.sort_by(|a, b| {
        let key = |entry: &Entry| entry.kind != EntryKind::Directory;
        (key(a), a.name.as_bytes()).cmp(&(key(b), b.name.as_bytes()))
    });
}

#[test]
fn entries_come_some_at_a_time_as_they_were_written() {
    let data = DataId::new("00");
    let cases = [
        (0, 0),
        (1, 0),
        (3, 250),
        (KEPT_MAX - 1, 0),
        (KEPT_MAX, 0),
        (KEPT_MAX + 1, 0),
        (KEPT_MAX, 200),
        (KEPT_MAX + 1, 200),
        (30_000, 0),
        (20_000, 240),
    ];
    let written = cases.map(|(count, name_bytes)| {
        let name = |number: usize| format!("{number:06}{}", "é\"".repeat(name_bytes / 3));
        (0..count).map(|number| entry(&name(number), EntryKind::File, &data, number as u64)).collect::<Vec<_>>()
    });
    for store in [memory_with_default_pieces(), store_of_small_pieces()] {
        let listings: Vec<Vec<u8>> =
            written.iter().map(|entries| listing_of(entries, &DirectorySide::default())).collect();
        let (repository, ids, _) = stored(&store, &listings);
        for (entries, id) in written.iter().zip(&ids) {
            let listing = RUNTIME.block_on(repository.listing(id)).unwrap();
            assert_eq!((listing.entry_count, listing.is_kept()), (entries.len() as u64, entries.len() <= KEPT_MAX));
            assert!(listing.is_sorted && !listing.has_foreign_names);
            assert_eq!(listing.summary.as_ref().unwrap().file_count, entries.len() as u64);
            for mut some in [repository.entries(id), listing.entries(&repository), listing.entries(&repository)] {
                let mut come = Vec::new();
                while let Some(more) = RUNTIME.block_on(some.next()).unwrap() {
                    assert!(!more.is_empty());
                    come.extend(more.into_owned());
                }
                assert!(come == *entries, "{} entries of {}", come.len(), entries.len());
            }
            assert!(RUNTIME.block_on(repository.directory(id)).unwrap().entries == *entries);
            if let Some(last) = entries.last() {
                let found = RUNTIME.block_on(repository.entry_named(id, &last.name)).unwrap();
                assert_eq!(found.as_ref(), Some(last));
            }
            assert_eq!(RUNTIME.block_on(repository.entry_named(id, "none")).unwrap(), None);
        }
    }
}

fn memory_with_default_pieces() -> MemoryStore {
    let store = memory();
    crate::backup::create(&store);
    store
}

#[test]
fn it_is_known_how_entries_stand() {
    let data = DataId::new("00");
    let of = |kind, name: &str| entry(name, kind, &data, 0);
    let (directory, file) = (|name: &str| of(EntryKind::Directory, name), |name: &str| of(EntryKind::File, name));
    let foreign = || with_raw_name(file("a\u{fffd}"), b"a\xff");
    let cases = [
        (vec![directory("b"), directory("c"), file("a"), file("a")], true, false),
        (vec![directory("c"), directory("b")], false, false),
        (vec![file("a"), directory("b")], false, false),
        (vec![file("a"), foreign()], true, true),
        (vec![foreign(), file("a")], false, true),
        (vec![file("a"), with_raw_name(file("b"), b"0")], false, true),
    ];
    let listings: Vec<Vec<u8>> =
        cases.iter().map(|(entries, ..)| listing_of(entries, &DirectorySide::default())).collect();
    let (repository, ids, _) = stored(&memory_with_default_pieces(), &listings);
    for ((entries, is_sorted, has_foreign_names), id) in cases.into_iter().zip(&ids) {
        let listing = RUNTIME.block_on(repository.listing(id)).unwrap();
        assert_eq!((listing.is_sorted, listing.has_foreign_names), (is_sorted, has_foreign_names), "{entries:?}");
    }
}

/// What lies in a directory: by raw name the bytes of a file, or nothing.
fn held(directory: &Path) -> BTreeMap<Vec<u8>, Option<Vec<u8>>> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| (path.file_name().unwrap().as_bytes().to_vec(), path.is_file().then(|| fs::read(&path).unwrap())))
        .collect()
}

#[test]
fn of_entries_with_one_name_the_last_is_restored_and_what_is_too_much_goes() {
    let store = store_of_small_pieces();
    let bytes: Vec<Vec<u8>> = (0..4_u8).map(|number| vec![b'0' + number; usize::from(number)]).collect();
    let inner = listing_of(&[], &DirectorySide::default());
    let (_, data, _) = stored(&store, &[&bytes[..], &[inner]].concat());
    let file = |name: &str, number: usize| entry(name, EntryKind::File, &data[number], number as u64);
    let directory = |name: &str| entry(name, EntryKind::Directory, &data[4], 0);
    let mut entries: Vec<Entry> = (0..KEPT_MAX).map(|number| file(&format!("{number:05}"), number % 4)).collect();
    entries.extend((0..600).map(|number| directory(&format!("{:05}", number * 17))));
    entries.extend((0..600).map(|number| file(&format!("{:05}", number * 19), 3)));
    entries.push(with_raw_name(file("a\u{fffd}", 1), b"a\xfe"));
    entries.push(with_raw_name(file("a\u{fffd}", 2), b"a\xff"));
    let fifo = |name: &str| Special {
        name: name.as_bytes().to_vec(),
        kind: SpecialKind::Fifo,
        mode: 0o600,
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        mtime: "2026-11-20T12:00:00Z".parse().unwrap(),
        xattrs: Vec::new(),
        hard_link: None,
    };
    let side = DirectorySide { specials: vec![fifo("pipe")], ..DirectorySide::default() };
    let mut orders = [entries.clone(), entries.clone()];
    in_kopias_order(&mut orders[0]);
    shuffle(&mut orders[1]);
    let target = tempfile::tempdir().unwrap();
    for extra in ["extra", "99999", "0000"] {
        fs::write(target.path().join(extra), "extra").unwrap();
    }
    fs::create_dir(target.path().join("00001")).unwrap();
    for (entries, deleted_count) in orders.iter().zip([3, 0]) {
        let (repository, ids, mut snapshot) = stored(&store, &[listing_of(entries, &side)]);
        snapshot.root = Some(root_of(&ids[0], entries));
        let number_of = |entry: &Entry| data.iter().position(|data| *data == entry.data).unwrap();
        let bytes_of = |entry: &Entry| (entry.raw_name().to_vec(), bytes.get(number_of(entry)).cloned());
        let mut expected: BTreeMap<Vec<u8>, Option<Vec<u8>>> = entries.iter().map(bytes_of).collect();
        expected.insert(b"pipe".to_vec(), None);
        fs::create_dir(target.path().join("lost+found")).unwrap();
        let options = RestoreOptions { delete_extra: true, ..RestoreOptions::default() };
        let outcome = restore(&repository, &snapshot, target.path(), &options, &run()).unwrap();
        assert!(outcome.is_complete() && outcome.deleted_count == deleted_count, "{outcome:?}");
        let (directories, files) = (outcome.directory_count, outcome.file_count);
        assert_eq!(directories + files + outcome.special_count, expected.len() as u64);
        fs::remove_dir(target.path().join("lost+found")).unwrap();
        assert!(held(target.path()) == expected);
    }
}

/// Changes a byte of one content.
pub fn damage(store: &MemoryStore, repository: &Repository, piece: &repository_kopia::Piece) {
    let found = repository.index().index().find(&piece.content).unwrap().unwrap();
    let name = found.location.pack.to_string();
    let mut pack = store.contents()[&name].to_vec();
    pack[found.location.offset as usize + 100] ^= 1;
    store.tamper(&name, pack);
}

#[test]
fn a_long_listing_with_a_damaged_second_piece_is_damaged_for_all_readers() {
    let store = store_of_small_pieces();
    let (_, data, _) = stored(&store, &[b"x".to_vec()]);
    let entries: Vec<Entry> =
        (0..KEPT_MAX * 2).map(|number| entry(&format!("{number:05}"), EntryKind::File, &data[0], 1)).collect();
    let (repository, ids, mut snapshot) = stored(&store, &[listing_of(&entries, &DirectorySide::default())]);
    snapshot.root = Some(root_of(&ids[0], &entries));
    snapshot.id = SnapshotId::new("");
    let session = RUNTIME.block_on(repository.begin()).unwrap();
    snapshot.id = RUNTIME.block_on(session.commit_snapshot(&snapshot, &[])).unwrap();
    let verified = |repository: &Repository| -> VerifyOutcome {
        let options = VerifyOptions { snapshots: vec![snapshot.id.clone()], ..VerifyOptions::default() };
        verify(repository, &options, &run()).unwrap()
    };
    let repository = open(Arc::new(store.clone()), clock());
    let whole = verified(&repository);
    assert!(whole.is_clean(), "{:?}", whole.findings);
    assert_eq!((whole.directory_count, whole.file_count), (1, entries.len() as u64));

    let pieces = RUNTIME.block_on(repository.pieces(&ids[0])).unwrap();
    assert!(pieces.len() > 2);
    damage(&store, &repository, &pieces[1]);
    let repository = open(Arc::new(store.clone()), clock());
    let outcome = verified(&repository);
    let of_root = |finding: &&engine::Finding| finding.affected.iter().any(|affected| affected.path == ".");
    let finding = outcome.findings.iter().find(of_root).expect("the root is affected");
    assert!(finding.to_string().contains("damaged"), "{finding}");
    assert_eq!((outcome.directory_count, outcome.file_count), (1, 0));

    let target = tempfile::tempdir().unwrap();
    let outcome = restore(&repository, &snapshot, target.path(), &RestoreOptions::default(), &run()).unwrap();
    assert_eq!((outcome.failed_count, outcome.file_count), (1, 0), "{outcome:?}");
    let searched = find(&repository, &[&snapshot], &|_, _| true, &run(), &mut |_| Ok(())).unwrap();
    assert_eq!((searched.version_count, searched.unreadable.len()), (1, 1));
    let (_, others, _) = stored(&store, &[listing_of(&[], &DirectorySide::default())]);
    let other = root_of(&others[0], &[]);
    let root = snapshot.root.as_ref().unwrap();
    let compared = diff(&repository, root, Other::Stored(&other), &run(), &mut |_| Ok(()));
    assert!(matches!(compared, Err(BrowseError::Read { .. })), "{compared:?}");
}

/// Directories with files, directories, names that are both, names that are not UTF-8, and names that occur again: in Kopia's
/// order and in none, short and long.
fn versions(data: &[DataId]) -> Vec<Vec<Entry>> {
    let file = |name: &str, number: usize| entry(name, EntryKind::File, &data[number % 3], number as u64 % 3);
    let directory = |name: &str| entry(name, EntryKind::Directory, &data[3], 0);
    let plain = |first: usize, count: usize, each: usize| -> Vec<Entry> {
        let mut entries: Vec<Entry> =
            (0..count).map(|number| file(&format!("f{number:05}"), first + number / each)).collect();
        entries.extend((0..count / 50).map(|number| directory(&format!("d{:05}", number * 2 + first))));
        entries.extend((0..count / 100).map(|number| directory(&format!("f{:05}", number * 101))));
        in_kopias_order(&mut entries);
        entries
    };
    let mut foreign = plain(1, KEPT_MAX + 50, 40);
    for (number, last) in [0x80, 0xe9, 0xfe, 0xff].into_iter().enumerate() {
        foreign.push(with_raw_name(file("f0001\u{fffd}", number), &[b"f0001".as_slice(), &[last]].concat()));
        foreign.push(with_raw_name(file("\u{fffd}", number), &[last]));
    }
    let mut again = plain(0, KEPT_MAX + 20, 30);
    let repeated: Vec<Entry> = again.iter().step_by(97).map(|entry| file(&entry.name, 2)).collect();
    again.extend(repeated);
    let mut all = Vec::new();
    for mut entries in [plain(0, KEPT_MAX + 100, 30), plain(0, KEPT_MAX + 90, 31), plain(0, 60, 7), foreign, again] {
        in_kopias_order(&mut entries);
        all.push(entries.clone());
        shuffle(&mut entries);
        all.push(entries);
    }
    all.push(Vec::new());
    all
}

struct Shelf {
    repository: Repository,
    snapshot: Snapshot,
    versions: Vec<Vec<Entry>>,
    roots: Vec<Entry>,
}

fn shelf() -> Shelf {
    let store = store_of_small_pieces();
    let files = [b"".to_vec(), b"1".to_vec(), b"22".to_vec(), listing_of(&[], &DirectorySide::default())];
    let (_, data, _) = stored(&store, &files);
    let versions = versions(&data);
    let listings: Vec<Vec<u8>> =
        versions.iter().map(|entries| listing_of(entries, &DirectorySide::default())).collect();
    let (repository, ids, snapshot) = stored(&store, &listings);
    let roots = ids.iter().zip(&versions).map(|(id, entries)| root_of(id, entries)).collect();
    Shelf { repository, snapshot, versions, roots }
}

#[test]
fn long_listings_are_searched_as_if_all_were_in_memory() {
    let Shelf { repository, snapshot, versions, roots } = shelf();
    let of = |at: &usize| Snapshot { root: Some(roots[*at].clone()), ..snapshot.clone() };
    for chosen in [vec![0, 2, 4], vec![1, 2], vec![0, 3], vec![6, 0], vec![7, 6, 10], vec![8, 9, 5], vec![8]] {
        let snapshots: Vec<Snapshot> = chosen.iter().map(of).collect();
        let mut told: Vec<Version> = Vec::new();
        let outcome =
            find(&repository, &snapshots.iter().collect::<Vec<_>>(), &|path, _| path != ".", &run(), &mut |version| {
                told.push(version);
                Ok(())
            });
        assert!(outcome.unwrap().unreadable.is_empty());

        // Listings in the order of their data, entries in the stored order.
        let mut order: Vec<usize> = (0..chosen.len()).collect();
        order.sort_by_key(|at| &roots[chosen[*at]].data);
        let mut names: BTreeMap<&str, Vec<(&Entry, Vec<usize>)>> = BTreeMap::new();
        for at in order {
            for entry in &versions[chosen[at]] {
                let of_name = names.entry(&entry.name).or_default();
                match of_name.iter_mut().find(|(known, _)| *known == entry) {
                    Some((_, snapshots)) => snapshots.push(at),
                    None => of_name.push((entry, vec![at])),
                }
            }
        }
        let mut expected = Vec::new();
        for (name, mut of_name) in names {
            of_name.iter_mut().for_each(|(_, snapshots)| snapshots.sort());
            of_name.sort_by_key(|(_, snapshots)| snapshots[0]);
            expected.extend(of_name.into_iter().map(|(entry, snapshots)| Version {
                path: name.to_owned(),
                entry: entry.clone(),
                snapshots,
            }));
        }
        assert!(told == expected, "{chosen:?}: {} told, {} expected", told.len(), expected.len());
    }
}

#[test]
fn long_listings_are_compared_as_if_all_were_in_memory() {
    let Shelf { repository, versions, roots, .. } = shelf();
    let pairs =
        [(0, 0), (0, 2), (0, 3), (1, 2), (4, 0), (6, 0), (6, 7), (7, 3), (8, 9), (8, 0), (9, 5), (6, 10), (10, 0)];
    for (before, after) in pairs {
        let mut told: Vec<Difference> = Vec::new();
        let outcome = diff(&repository, &roots[before], Other::Stored(&roots[after]), &run(), &mut |difference| {
            told.push(difference);
            Ok(())
        });
        assert!(outcome.unwrap().unreadable.is_empty());

        type ByRawName<'a> = BTreeMap<&'a [u8], &'a Entry>;
        let last_of_each =
            |at: usize| -> ByRawName<'_> { versions[at].iter().map(|entry| (entry.raw_name(), entry)).collect() };
        let (left, right) = (last_of_each(before), last_of_each(after));
        let mut raw: Vec<&[u8]> = left.keys().chain(right.keys()).copied().collect();
        raw.sort();
        raw.dedup();
        let key = |entry: &&Entry| (entry.kind, entry.size_bytes);
        let expected: Vec<_> = raw
            .into_iter()
            .map(|raw| (left.get(raw).copied(), right.get(raw).copied()))
            .filter(|(before, after)| before.as_ref().map(key) != after.as_ref().map(key))
            .map(|(before, after)| {
                let path = before.or(after).unwrap().name.clone();
                (path, before.is_some(), after.is_some())
            })
            .collect();
        let told: Vec<_> =
            told.into_iter().map(|told| (told.path, told.before.is_some(), told.after.is_some())).collect();
        assert!(told == expected, "{before} {after}: {} told, {} expected", told.len(), expected.len());
    }
}
