use repository::PackId;

use super::table::{Builder, Places};
use super::writer::write_v2;
use super::{IndexEntry, IndexFile, Location, MergedIndex, write};

const P: &str = "p0123456789abcdef0123456789abcdef-s00112233445566771f4";
const Q: &str = "qfedcba9876543210fedcba9876543210-s00112233445566771f4";

/// Source: Kopia format, "Index files" vectors.
const V2: &str = "02110011000000040000000203000000000000112233445566778899aabbccddeeff6553f1000000002000000b00002700000000ffeeddccbbaa998877665544332211006553f105000000470111700004d20000016b00112233445566778899aabbccddeeff6553f101000000200001f40000d20001026d00112233445566778899aabbccddeeff6553f163800000f200012c00014800010036000000b536000000eb0000000003000000110003000000110103007030313233343536373839616263646566303132333435363738396162636465662d73303031313232333334343535363637373166347166656463626139383736353433323130666564636261393837363534333231302d7330303131323233333434353536363737316634";
const V1: &str = "01110014000000040000112233445566778899aabbccddeeff00006553f10001360000009c000000200000002700ffeeddccbbaa9988776655443322110000006553f10501360000009c00000047000004d26b00112233445566778899aabbccddeeff00006553f1010136000000d200000020000000d26d00112233445566778899aabbccddeeff00006553f1630136000000d2800000f2000001487030313233343536373839616263646566303132333435363738396162636465662d73303031313232333334343535363637373166347166656463626139383736353433323130666564636261393837363534333231302d7330303131323233333434353536363737316634";
const V2_ONE: &str = "02110010000000010000000101000000000000112233445566778899aabbccddeeff6553f1000000002000000b0000270000360000003d0000000003007030313233343536373839616263646566303132333435363738396162636465662d7330303131323233333434353536363737316634";

#[rustfmt::skip]
fn vector() -> Vec<IndexEntry> {
    vec![
        entry("00112233445566778899aabbccddeeff", 1_700_000_000, P, [32, 39, 11], 0, false),
        entry("ffeeddccbbaa99887766554433221100", 1_700_000_005, P, [71, 1234, 70_000], 0x1100, false),
        entry("k00112233445566778899aabbccddeeff", 1_700_000_001, Q, [32, 210, 500], 0x1101, false),
        entry("m00112233445566778899aabbccddeeff", 1_700_000_099, Q, [242, 328, 300], 0, true),
    ]
}

fn entry(id: &str, time: u64, pack: &str, lengths: [u32; 3], compression: u32, deleted: bool) -> IndexEntry {
    let [offset, packed_bytes, original_bytes] = lengths;
    IndexEntry {
        content: id.parse().unwrap(),
        location: Location {
            pack: PackId::new(pack),
            offset,
            packed_bytes,
            original_bytes,
            compression,
            encryption_key: 0,
        },
        timestamp_seconds: time,
        deleted,
        format_version: 3,
    }
}

fn read(bytes: &[u8]) -> Vec<IndexEntry> {
    let file = IndexFile::parse(bytes.to_vec()).unwrap();
    (0..file.len()).map(|at| file.entry(at).unwrap()).collect()
}

#[test]
fn version_2_is_written_and_read_as_kopia_does() {
    assert_eq!(hex::encode(write_v2(&vector())), V2);
    assert_eq!(hex::encode(write_v2(&vector()[..1])), V2_ONE);
    assert_eq!(read(&hex::decode(V2).unwrap()), vector());
}

#[test]
fn version_1_is_written_and_read_as_kopia_does() {
    let mut expected = vector();
    for entry in &mut expected {
        entry.format_version = 1;
        entry.location.compression = 0;
        entry.location.original_bytes = entry.location.packed_bytes - 28;
    }
    assert_eq!(read(&hex::decode(V1).unwrap()), expected);
    for version in [0, 1] {
        assert_eq!(hex::encode(write(version, &expected)), V1);
    }
}

#[test]
fn what_version_1_cannot_say_is_written_in_version_2() {
    let change = |change: fn(&mut IndexEntry)| {
        let mut entries = vec![entry("00112233445566778899aabbccddeeff", 1_700_000_000, P, [32, 39, 11], 0, false)];
        change(&mut entries[0]);
        let written = write(1, &entries);
        assert_eq!(read(&written), entries);
        written[0]
    };
    assert_eq!(change(|_| {}), 1);
    assert_eq!(change(|entry| entry.location.compression = 0x1100), 2);
    assert_eq!(change(|entry| entry.location.encryption_key = 1), 2);
    assert_eq!(change(|entry| entry.location.original_bytes = 12), 2);
}

#[test]
fn an_index_cut_anywhere_is_an_error_or_whole() {
    let whole = hex::decode(V2).unwrap();
    for length in 0..whole.len() {
        if let Ok(file) = IndexFile::parse(whole[..length].to_vec()) {
            assert!((0..file.len()).any(|at| file.entry(at).is_err()), "cut at {length}");
        }
    }
}

fn merge(files: &[IndexFile], watermark: Option<u64>) -> MergedIndex {
    let key_bytes = files[0].key(0).len();
    let mut builder = Builder::new(Places::new("test", None, 4 << 20, 1 << 30), key_bytes);
    files.iter().for_each(|file| builder.add(file).unwrap().unwrap());
    MergedIndex::new(builder.finish(None, watermark).unwrap().table, None)
}

/// Merges single entries `(time, deleted, pack)` of one content and names the winner's pack.
#[track_caller]
fn check_merge(entries: &[(u64, bool, &str)], watermark: Option<u64>, winner: Option<&str>) {
    let files: Vec<IndexFile> = entries
        .iter()
        .map(|(time, deleted, pack)| {
            IndexFile::parse(write_v2(&[entry("aabbcc", *time, pack, [0, 1, 1], 0, *deleted)]))
        })
        .collect::<Result<_, _>>()
        .unwrap();
    let merged = merge(&files, watermark);
    let found = merged.find(&"aabbcc".parse().unwrap()).unwrap().map(|entry| entry.location.pack);
    assert_eq!(found.as_ref().map(PackId::as_str), winner);
}

#[test]
fn merging_follows_the_rules() {
    check_merge(&[(1, false, "pa"), (3, false, "pb"), (2, false, "pc")], None, Some("pb"));
    check_merge(&[(4, true, "pz"), (4, false, "pa")], None, Some("pa"));
    check_merge(&[(4, false, "pa"), (4, false, "pb")], None, Some("pb"));
    check_merge(&[(4, true, "pa"), (3, false, "pb")], Some(4), None);
    check_merge(&[(4, true, "pa"), (3, false, "pb")], Some(3), Some("pa"));
    check_merge(&[(4, false, "pa")], Some(9), Some("pa"));
}

#[test]
fn a_prefix_is_found_as_a_range() {
    let merged = merge(&[IndexFile::parse(write_v2(&vector())).unwrap()], None);
    assert_eq!(merged.iter().collect::<Result<Vec<_>, _>>().unwrap(), vector());
    assert_eq!(merged.with_prefix(b'k').collect::<Result<Vec<_>, _>>().unwrap(), vector()[2..3]);
    assert_eq!(merged.with_prefix(b'x').count(), 0);
    assert_eq!(merged.with_prefix(0).count(), 2);
}

#[test]
fn a_position_is_the_number_of_an_entry() {
    let merged = merge(&[IndexFile::parse(write_v2(&vector())).unwrap()], None);
    for (at, entry) in vector().into_iter().enumerate() {
        assert_eq!(merged.position(&entry.content).unwrap(), Some(at));
        assert_eq!(merged.entry(at).unwrap(), entry);
    }
    let others = ["00", "00112233445566778899aabbccddee00", "z00112233445566778899aabbccddeeff"];
    assert!(others.iter().all(|other| merged.position(&other.parse().unwrap()).unwrap().is_none()));
}
