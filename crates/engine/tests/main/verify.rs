//! Verifying whole and damaged repositories.

use std::fs::{self, File};
use std::sync::Arc;

use engine::{Finding, Severity, VerifyOptions, VerifyOutcome, backup, verify};

use crate::backup::{RUNTIME, clock, options, pseudo_random, run};
use crate::golden::{SUPPORTED, damaged, golden, open};
use crate::listings::{damage, store_of_small_pieces};

fn verified(path: &std::path::Path, read_percent: u8) -> VerifyOutcome {
    let opened = open(path);
    let options = VerifyOptions { read_percent, ..VerifyOptions::default() };
    verify(&opened.repository, &options, &opened.run).unwrap()
}

#[test]
fn whole_repositories_are_clean() {
    for name in SUPPORTED {
        for read_percent in [0, 100] {
            let outcome = verified(&golden(name), read_percent);
            assert!(outcome.is_clean(), "{name}: {:#?}", outcome.findings);
            assert!(outcome.snapshot_count > 0 && outcome.directory_count > 0 && outcome.file_count > 0, "{outcome:?}");
            assert_eq!(outcome.contents_read_count > 0, read_percent > 0);
            if read_percent == 100 {
                assert_eq!(outcome.contents_read_count, outcome.content_count, "{name}");
            }
        }
    }
}

#[test]
fn a_share_is_a_share_and_some_snapshots_are_some() {
    let opened = open(&golden("v3-zstd"));
    let snapshots: Vec<_> = opened
        .run
        .runtime
        .block_on(opened.repository.snapshots())
        .unwrap()
        .snapshots
        .into_iter()
        .map(|snapshot| snapshot.id)
        .collect();
    let verified = |read_percent, snapshots: &[repository::SnapshotId]| {
        let options = VerifyOptions { read_percent, snapshots: snapshots.to_vec(), identity: None };
        verify(&opened.repository, &options, &opened.run).unwrap()
    };
    let (all, half, one) = (verified(100, &[]), verified(50, &[]), verified(100, &snapshots[..1]));
    assert!(0 < half.contents_read_count && half.contents_read_count < all.contents_read_count, "{half:?}");
    assert!(0 < one.contents_read_count && one.contents_read_count < all.contents_read_count, "{one:?}");
    assert_eq!((one.snapshot_count, all.snapshot_count), (1, snapshots.len() as u64));
    assert!(one.is_clean() && half.is_clean());
}

fn line(finding: &Finding) -> String {
    let paths: Vec<&str> = finding.affected.iter().map(|affected| affected.path.as_str()).collect();
    assert_eq!(finding.affected_count, paths.len() as u64);
    assert_eq!(finding.severity, Severity::Damaged);
    format!("{finding} [{}]", paths.join(" "))
}

/// The store's address differs from machine to machine.
#[track_caller]
fn check(name: &str, read_percent: u8, expected: &[&str]) {
    let path = std::fs::canonicalize(damaged(name)).unwrap();
    let outcome = verified(&path, read_percent);
    let lines: Vec<String> =
        outcome.findings.iter().map(|finding| line(finding).replace(path.to_str().unwrap(), "…")).collect();
    assert_eq!(lines, expected, "{name}");
    assert_eq!(outcome.class(), (!expected.is_empty()).then_some(storage::Class::Damaged));
}

#[test]
fn damage_is_found_and_the_paths_it_concerns_are_named() {
    const ALL: &str = "empty.bin hello.txt link-dangling link-rel rand-40k.bin sub/x.bin";
    const DATA: &str = "p86a8434ebe97513854114bf8a26b8215-seb88d81eafb03cb6147";
    const METADATA: &str = "qb06d1a264f994844437f0380feafd4ac-seb88d81eafb03cb6147";
    const MANIFEST: &str = "m27da4f22df2ae1e94371dc385e170e7f";
    const LOST: &str = "are in no index: an index blob was lost, and what it listed with it []";
    let flipped = "content c5456538141f8115a2e2588059dc3c3c";
    check("flipped-byte-in-pack", 0, &[]);
    let detail = format!("{flipped} in pack {DATA} is damaged: it does not decrypt: its bytes changed [rand-40k.bin]");
    check("flipped-byte-in-pack", 100, &[&detail]);
    check("missing-pack", 0, &[&format!("pack {DATA} is missing [{ALL}]")]);
    let cut = format!("pack {DATA} is cut off: 21022 bytes, 41129 needed [link-dangling link-rel rand-40k.bin]");
    check("truncated-pack", 0, &[&cut]);
    let lost = [format!("6 contents of pack {DATA} {LOST}"), format!("3 contents of pack {METADATA} {LOST}")];
    check("missing-index", 0, &[&lost[0], &lost[1]]);
    let index = "index blob xn0_5bc011ecc34b6c476323f230a066487c-seb88d81eafb03cb6147-c1 is damaged: it does not decrypt: \
                 its bytes changed, or it belongs to another repository []";
    check("flipped-byte-in-index", 0, &[index, &lost[0], &lost[1]]);
    let record = format!(
        "read manifest content {MANIFEST}: read content {MANIFEST} from pack {METADATA} at 789, 475 bytes: \
         get range of {METADATA} at file:…: no such object []"
    );
    check("missing-metadata-pack", 0, &[&record, &format!("pack {METADATA} is missing []")]);
}

#[test]
fn what_many_have_is_gone_through_once_and_if_it_is_damaged_all_are_named() {
    let tree = tempfile::tempdir().unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    for directory in ["a/same", "b/same", "a", "b"].map(|path| tree.path().join(path)) {
        fs::create_dir_all(&directory).unwrap();
        if directory.ends_with("same") {
            for (name, length) in [("large", 300 << 10), ("small", 1000)] {
                fs::write(directory.join(name), pseudo_random(1, length)).unwrap();
                File::options().write(true).open(directory.join(name)).unwrap().set_modified(time).unwrap();
            }
        }
        File::open(&directory).unwrap().set_modified(time).unwrap();
    }
    let store = store_of_small_pieces();
    let open = || crate::backup::open(Arc::new(store.clone()), clock());
    for text in ["first", "second"] {
        fs::write(tree.path().join(text), text).unwrap();
        backup(&open(), tree.path(), &options(), &run()).unwrap();
    }
    let repository = open();
    let snapshots = RUNTIME.block_on(repository.snapshots()).unwrap().snapshots;
    let verified = |snapshots: &[repository::SnapshotId]| {
        let options = VerifyOptions { read_percent: 100, snapshots: snapshots.to_vec(), identity: None };
        verify(&open(), &options, &run()).unwrap()
    };
    let whole = verified(&[]);
    assert!(whole.is_clean(), "{:?}", whole.findings);
    // Two roots; `a`, which is `b`, and `same`.
    assert_eq!((whole.directory_count, whole.file_count), (4, 5));
    let one = verified(&[snapshots[0].id.clone()]);
    assert_eq!((one.directory_count, one.file_count, one.contents_read_count), (3, 3, 5));

    let of = |directory: &repository::Entry, name: &str| {
        RUNTIME.block_on(repository.entry_named(&directory.data, name)).unwrap().unwrap()
    };
    let large = of(&of(&of(snapshots[0].root.as_ref().unwrap(), "b"), "same"), "large");
    let pieces = RUNTIME.block_on(repository.pieces(&large.data)).unwrap();
    assert_eq!(pieces.len(), 3);
    damage(&store, &repository, &pieces[1]);
    let outcome = verified(&[]);
    assert_eq!((outcome.findings.len(), outcome.directory_count), (1, 4));
    let paths: Vec<&str> = outcome.findings[0].affected.iter().map(|affected| affected.path.as_str()).collect();
    assert_eq!(paths, ["a/same/large", "b/same/large", "a/same/large", "b/same/large"]);
    let affected: Vec<_> = outcome.findings[0].affected.iter().map(|affected| affected.snapshot.clone()).collect();
    assert_eq!(affected, [0, 0, 1, 1].map(|at| snapshots[at].id.clone()));
}
