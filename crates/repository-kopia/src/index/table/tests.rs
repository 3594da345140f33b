use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use repository::{ContentId, PackId};
use tempfile::TempDir;

use super::build::Built;
use super::place::{UNFINISHED, create};
use super::record::VALUE_BYTES;
use super::rows::BLOCK_ROWS;
use super::{Builder, HEADER_BYTES, Header, Output, Places, SortedWriter, TableSet};
use crate::index::writer::write_v2;
use crate::index::{IndexEntry, IndexFile, Location, MergedIndex};

const HASH_BYTES: usize = 3;
const LARGE_BYTES: u64 = 1 << 30;

fn places(directory: Option<&Path>, memory_bytes: usize, bytes_max: u64) -> Places {
    Places::new("repository", directory, memory_bytes, bytes_max)
}

fn build(places: &Places, files: &[Vec<IndexEntry>], set: Option<&TableSet>, watermark: Option<u64>) -> Built {
    let mut builder = Builder::new(places.clone(), 1 + HASH_BYTES);
    for file in files.iter().filter(|file| !file.is_empty()) {
        builder.add(&IndexFile::parse(write_v2(file)).unwrap()).unwrap().unwrap();
    }
    builder.finish(set, watermark).unwrap()
}

fn merged(built: Built) -> MergedIndex {
    MergedIndex::new(built.table, built.path)
}

fn entry(id: &str, time: u64, pack: &str, deleted: bool) -> IndexEntry {
    IndexEntry {
        content: id.parse().unwrap(),
        location: Location {
            pack: PackId::new(pack),
            offset: 33,
            packed_bytes: 1000 + time as u32,
            original_bytes: 2000,
            compression: 0x1100,
            encryption_key: 0,
        },
        timestamp_seconds: time,
        deleted,
        format_version: 3,
    }
}

/// Files of entries; the same content often stands in several, often at the same time.
fn files() -> impl Strategy<Value = Vec<Vec<IndexEntry>>> {
    let one =
        (0..400_u32, 0..3_u32, 1..6_u64, 0..5_u32, any::<bool>()).prop_map(|(number, prefix, time, pack, deleted)| {
            let prefix = ["", "k", "m"][prefix as usize];
            entry(
                &format!("{prefix}{:06x}", number * 40_503 % 0xff_ffff),
                time,
                &format!("p{pack}-s{}", "x".repeat(pack as usize)),
                deleted,
            )
        });
    let file = prop::collection::vec(one, 0..300).prop_map(|entries| {
        let unique: BTreeMap<ContentId, IndexEntry> = entries.into_iter().map(|entry| (entry.content, entry)).collect();
        unique.into_values().collect()
    });
    prop::collection::vec(file, 0..8)
}

/// The rules of merging, one entry at a time.
fn oracle(files: &[Vec<IndexEntry>], watermark: Option<u64>) -> BTreeMap<ContentId, IndexEntry> {
    let mut all: BTreeMap<ContentId, IndexEntry> = BTreeMap::new();
    let rank = |entry: &IndexEntry| (entry.timestamp_seconds, !entry.deleted, entry.location.pack.clone());
    for entry in files.iter().flatten() {
        let best = all.entry(entry.content).or_insert_with(|| entry.clone());
        if rank(entry) > rank(best) {
            *best = entry.clone();
        }
    }
    all.retain(|_, entry| !entry.deleted || watermark.is_none_or(|watermark| entry.timestamp_seconds > watermark));
    all
}

fn check(index: &MergedIndex, expected: &BTreeMap<ContentId, IndexEntry>) {
    let all: Vec<IndexEntry> = index.iter().collect::<Result<_, _>>().unwrap();
    assert_eq!(all, expected.values().cloned().collect::<Vec<_>>());
    assert_eq!(index.len(), expected.len());
    for (at, (content, entry)) in expected.iter().enumerate() {
        assert_eq!(index.position(content).unwrap(), Some(at));
        assert_eq!(index.entry(at).unwrap(), *entry);
        assert_eq!(index.find(content).unwrap().as_ref(), Some(entry));
    }
    for number in 0..2_000_u32 {
        let content = ContentId::new(b'k', &number.to_be_bytes()[1..]).unwrap();
        assert_eq!(index.find(&content).unwrap().as_ref(), expected.get(&content));
    }
    for prefix in [0, b'g', b'k', b'm', b'z'] {
        let found: Vec<IndexEntry> = index.with_prefix(prefix).collect::<Result<_, _>>().unwrap();
        let wanted = expected.values().filter(|entry| entry.content.prefix() == prefix);
        assert_eq!(found, wanted.cloned().collect::<Vec<_>>());
    }
    let packs: Vec<PackId> = index.packs().collect::<Result<_, _>>().unwrap();
    let wanted: BTreeSet<PackId> = expected.values().map(|entry| entry.location.pack.clone()).collect();
    assert_eq!(packs.len(), wanted.len());
    assert_eq!(packs.into_iter().collect::<BTreeSet<_>>(), wanted);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn a_table_is_what_the_rules_of_merging_say(
        files in files(),
        watermark in prop::option::of(0..6_u64),
        memory_bytes in prop::sample::select(vec![0, 50, 1000, 20_000, 1 << 20]),
        is_kept in any::<bool>(),
    ) {
        let directory = TempDir::new().unwrap();
        let places = places(Some(directory.path()), memory_bytes, LARGE_BYTES);
        let set = places.set(["xn0_a", "xn0_b"].into_iter(), watermark);
        let expected = oracle(&files, watermark);
        let built = build(&places, &files, is_kept.then_some(&set), watermark);
        prop_assert_eq!(&built.problem, &None);
        let path = built.path.clone();
        check(&merged(built), &expected);
        if path.is_some() {
            let (table, path) = places.open(&set).unwrap();
            check(&MergedIndex::new(table, Some(path)), &expected);
        }
    }
}

/// Some hundred entries, in a table of a few blocks.
fn some() -> Vec<IndexEntry> {
    (0..300_u32).map(|number| entry(&format!("{number:06x}"), 5, &format!("p{}", number % 70), false)).collect()
}

struct Kept {
    directory: TempDir,
    places: Places,
    set: TableSet,
    path: PathBuf,
}

fn kept() -> Kept {
    let directory = TempDir::new().unwrap();
    let places = places(Some(directory.path()), 0, LARGE_BYTES);
    let set = places.set(["xn0_a"].into_iter(), None);
    let path = build(&places, &[some()], Some(&set), None).path.unwrap();
    Kept { directory, places, set, path }
}

fn names(directory: &TempDir) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_kept_table_stands_for_one_set_only() {
    let kept = kept();
    let Kept { places, set, path, directory } = &kept;
    let other_blobs = places.set(["xn0_a", "xn0_b"].into_iter(), None);
    let other_watermark = places.set(["xn0_a"].into_iter(), Some(7));
    assert!(places.open(&other_blobs).is_none() && places.open(&other_watermark).is_none());
    // Under the name of another set it is none.
    let built = build(places, &[some()], Some(&other_blobs), None);
    fs::copy(built.path.unwrap(), path).unwrap();
    assert!(places.open(set).is_none());
    assert!(!path.exists(), "it would be in the way");
    let elsewhere = Places::new("another repository", Some(directory.path()), 0, LARGE_BYTES);
    assert!(elsewhere.open(&elsewhere.set(["xn0_a", "xn0_b"].into_iter(), None)).is_none());
}

#[test]
fn a_table_that_is_cut_off_anywhere_is_none() {
    let kept = kept();
    let Kept { places, set, path, .. } = &kept;
    let whole = fs::read(path).unwrap();
    for length in (0..whole.len()).step_by(97).chain([whole.len() - 1]) {
        fs::write(path, &whole[..length]).unwrap();
        assert!(places.open(set).is_none(), "cut at {length}");
    }
    fs::write(path, [&whole[..], b"more"].concat()).unwrap();
    assert!(places.open(set).is_none());
}

#[test]
fn a_flipped_bit_is_found_before_it_is_believed() {
    let kept = kept();
    let Kept { places, set, path, .. } = &kept;
    let whole = fs::read(path).unwrap();
    let expected = oracle(&[some()], None);
    let mut found_when_read = 0;
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(path, &damaged).unwrap();
        let Some((table, path)) = places.open(set) else { continue };
        let index = MergedIndex::new(table, Some(path.clone()));
        let read: Result<Vec<IndexEntry>, _> = index.iter().collect();
        let packs: Result<Vec<PackId>, _> = index.packs().collect();
        match (read, packs) {
            (Ok(read), Ok(_)) => assert!(read.iter().eq(expected.values()), "bit flipped in byte {at}"),
            _ => {
                found_when_read += 1;
                assert!(!path.exists(), "it would be met again");
            }
        }
    }
    assert!(found_when_read > 300 * 31 / 2, "{found_when_read}");
}

/// `change` is made to the file's rows and resident part, and every checksum is made to fit it.
fn rewritten(path: &Path, change: impl FnOnce(&mut [u8], &mut [u8])) {
    let mut bytes = fs::read(path).unwrap();
    let header = Header::parse(bytes.first_chunk().unwrap()).unwrap();
    let resident_at = HEADER_BYTES + (header.entries_bytes().unwrap() + header.packs_bytes().unwrap()) as usize;
    let (rows, resident) = bytes[HEADER_BYTES..].split_at_mut(resident_at - HEADER_BYTES);
    change(rows, resident);
    let first_block = crc32fast::hash(&rows[..BLOCK_ROWS * (header.key_bytes + VALUE_BYTES)]);
    resident[..4].copy_from_slice(&first_block.to_le_bytes());
    let header = Header { resident_checksum: crc32fast::hash(resident), ..header }.to_bytes();
    bytes[..HEADER_BYTES].copy_from_slice(&header);
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_table_out_of_order_is_not_searched() {
    const ROW_BYTES: usize = 1 + HASH_BYTES + VALUE_BYTES;
    let Kept { places, set, path, directory: _kept } = &kept();
    rewritten(path, |rows, _| rows[ROW_BYTES..3 * ROW_BYTES].rotate_left(ROW_BYTES));
    let (table, path) = places.open(set).unwrap();
    let index = MergedIndex::new(table, Some(path.clone()));
    // Not even what a search would still meet.
    let error = index.find(&some()[0].content).unwrap_err();
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("out of order"), "{error}");
    assert!(!path.exists(), "it would be met again");

    let Kept { places, set, path, directory: _kept } = &kept();
    let fences_at = some().len().div_ceil(BLOCK_ROWS) * 4;
    rewritten(path, |_, resident| resident[fences_at..][..2 * (1 + HASH_BYTES)].rotate_left(1 + HASH_BYTES));
    assert!(places.open(set).is_none());

    let mut out = Output::memory(LARGE_BYTES);
    let mut writer = SortedWriter::new(&out, 2, 0, None);
    writer.push(&mut out, b"ab").unwrap();
    assert!(writer.push(&mut out, b"ab").is_err() && writer.push(&mut out, b"aa").is_err());
    writer.push(&mut out, b"ac").unwrap();
}

#[test]
fn look_ups_in_a_damaged_table_are_errors_and_not_absence() {
    let kept = kept();
    let Kept { places, set, path, .. } = &kept;
    let mut damaged = fs::read(path).unwrap();
    damaged[super::HEADER_BYTES + 10] ^= 1;
    fs::write(path, &damaged).unwrap();
    let (table, path) = places.open(set).unwrap();
    let index = MergedIndex::new(table, Some(path));
    let error = index.find(&"000001".parse().unwrap()).unwrap_err();
    assert!(error.to_string().starts_with("read the index table /"), "{error}");
    assert!(index.position(&"000001".parse().unwrap()).is_err());
    // Another block.
    assert!(index.find(&"000123".parse().unwrap()).unwrap().is_some());
}

#[test]
fn a_directory_that_cannot_be_used_is_told_and_done_without() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, b"").unwrap();
    let places = places(Some(&file.join("below")), 0, LARGE_BYTES);
    let set = places.set(["xn0_a"].into_iter(), None);
    let built = build(&places, &[some()], Some(&set), None);
    assert!(built.problem.clone().unwrap().contains("file/below"), "{:?}", built.problem);
    assert_eq!(built.path, None);
    check(&merged(built), &oracle(&[some()], None));
}

#[test]
fn where_there_is_no_room_at_all_it_is_an_error_that_says_so() {
    let directory = TempDir::new().unwrap();
    let places = places(Some(directory.path()), 0, 5000);
    let mut builder = Builder::new(places, 1 + HASH_BYTES);
    let added = builder.add(&IndexFile::parse(write_v2(&some())).unwrap());
    let error = added.and_then(|_| builder.finish(None, None)).err().unwrap();
    let text = std::error::Error::source(&error).unwrap().to_string();
    assert!(text.contains("grow past 5000 bytes"), "{error}: {text}");
    assert!(names(&directory).is_empty());
}

#[test]
fn a_table_without_room_is_put_elsewhere() {
    // Room for entries and names of packs, and not for a header before them.
    let directory = TempDir::new().unwrap();
    let bytes_max = 300 * 31 + 70 * 4 + 50;
    let places = places(Some(directory.path()), 0, bytes_max);
    let set = places.set(["xn0_a"].into_iter(), None);
    let built = build(&places, &[some()], Some(&set), None);
    assert!(built.problem.clone().unwrap().contains("grow past"), "{:?}", built.problem);
    assert_eq!(built.path, None);
    check(&merged(built), &oracle(&[some()], None));
    assert!(names(&directory).is_empty());
}

#[test]
fn two_processes_at_once_both_have_their_table() {
    let kept = kept();
    let Kept { places, set, path, directory } = &kept;
    let first = places.open(set).unwrap();
    let second = build(places, &[some()], Some(set), None);
    let expected = oracle(&[some()], None);
    check(&MergedIndex::new(first.0, None), &expected);
    check(&merged(second), &expected);
    let newer = places.set(["xn0_b"].into_iter(), None);
    let held = places.open(set).unwrap();
    let built = build(places, &[some()], Some(&newer), None);
    assert!(!path.exists(), "tables of older sets are removed");
    check(&MergedIndex::new(held.0, None), &expected);
    assert_eq!(names(directory), [built.path.unwrap().file_name().unwrap().to_str().unwrap()]);
}

#[test]
fn what_a_killed_process_left_is_removed_and_what_a_running_one_writes_is_not() {
    let kept = kept();
    let Kept { places, directory, .. } = &kept;
    let left = directory.path().join(format!("index-00{UNFINISHED}1"));
    create(&left).unwrap();
    let running = directory.path().join(format!("index-00{UNFINISHED}2"));
    let held = create(&running).unwrap();
    held.try_lock().unwrap();
    build(places, &[some()], Some(&places.set(["xn0_c"].into_iter(), None)), None);
    assert!(!left.exists());
    assert!(running.exists());
}

#[test]
fn tables_of_all_repositories_together_are_bounded() {
    let kept = kept();
    let directory = kept.directory.path();
    let one_bytes = fs::metadata(&kept.path).unwrap().len();
    let other = Places::new("another repository", Some(directory), 0, 2 * one_bytes);
    build(&other, &[some()], Some(&other.set(["xn0_a"].into_iter(), None)), None);
    assert_eq!(names(&kept.directory).len(), 2);
    let third = Places::new("a third repository", Some(directory), 0, 2 * one_bytes);
    build(&third, &[some()], Some(&third.set(["xn0_a"].into_iter(), None)), None);
    assert!(!kept.path.exists(), "the oldest goes");
    assert_eq!(names(&kept.directory).len(), 2);
}

#[test]
fn nobody_else_may_read_a_table() {
    use std::os::unix::fs::PermissionsExt as _;
    let kept = kept();
    let Kept { path, .. } = &kept;
    assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
}
