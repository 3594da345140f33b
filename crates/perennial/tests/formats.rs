//! Every variant of Kopia's format, made by either program: the other one writes to it, reads it and checks it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::SignedDuration;
use repository::SystemClock;
use repository_kopia::{Client, CreateOptions, Password, Repository};
use storage::{FilesystemStorage, Layout};

use crate::kopia::Kopia;
use crate::support::{Place, describe, noise};

/// Repositories that the real kopia wrote.
fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../repository-kopia/tests/golden").join(name).join("repo")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn connect(place: &Place) -> Kopia<'_> {
    let kopia = Kopia::on(place);
    // Kopia lists anew only twice a minute; without waiting times, maintenance removes what it remembers.
    let path = format!("--path={}", place.text("repo"));
    kopia.run(&["repository", "connect", "filesystem", &path, "--max-list-cache-duration=0s"]);
    kopia
}

/// Kopia reads every byte and every file of every snapshot.
fn verify_with(kopia: &Kopia<'_>) {
    kopia.run(&["content", "verify", "--full", "--download-percent=100"]);
    kopia.run(&["snapshot", "verify", "--verify-files-percent=100"]);
}

/// Both write and both read everything.
fn share(place: &Place) {
    let source = place.plant("source");
    fs::write(source.join("words"), "so compressible ".repeat(40_000)).unwrap();
    place.run(&["backup", "source", "--as", "us@box:/data", "--compression", "zstd"]).expect(0);
    let kopia = connect(place);
    verify_with(&kopia);
    kopia.run(&["snapshot", "restore", "us@box:/data", &place.text("theirs")]);
    for file in ["hello.txt", "words", "photos/large", "photos/2025/a b\u{1b}[2J"] {
        let restored = fs::read(place.path("theirs").join(file)).unwrap();
        assert!(restored == fs::read(source.join(file)).unwrap(), "{file}");
    }
    fs::write(source.join("more"), "of the same ".repeat(4_000)).unwrap();
    kopia.run(&["snapshot", "create", &place.text("source"), "--override-source=us@box:/data"]);
    place.run(&["restore", "latest", "ours", "--source", "us@box:/data"]).expect(0);
    assert_eq!(describe(&place.path("ours")), describe(&source));
    place.run(&["verify", "--read-percent", "100"]).expect(0);
    let again = place.run(&["backup", "source", "--as", "us@box:/data", "--json"]).expect(0).json();
    assert_eq!((&again["filesRead"], &again["bytesNew"]), (&0.into(), &0.into()), "{again}");
    verify_with(&kopia);
}

#[test]
fn old_versions_and_error_correction_are_shared_with_kopia() {
    for name in ["format1", "format1-upgraded", "format2", "ecc2", "ecc10"] {
        let place = Place { password: "correct horse".to_owned(), ..Place::new() };
        copy(&golden(name), &place.path("repo"));
        share(&place);
        for _ in 0..3 {
            place.run(&["maintain", "--full", "--force", "--safety", "none", "--quiet"]).expect(0);
            place.run(&["maintain", "--force", "--safety", "none", "--quiet"]).expect(0);
        }
        place.run(&["verify", "--read-percent", "100"]).expect(0);
        verify_with(&connect(&place));
    }
}

/// A repository of ours with these choices, written to once; kopia reads and checks all of it.
fn check_choices(choices: &[&str], source: &Path) {
    let place = Place::new();
    place.run(&[["repository", "create"].as_slice(), choices].concat()).expect(0);
    place.run(&["backup", source.to_str().unwrap(), "--as", "us@box:/data", "--compression", "zstd"]).expect(0);
    let kopia = connect(&place);
    verify_with(&kopia);
    kopia.run(&["snapshot", "restore", "us@box:/data", &place.text("theirs")]);
    for file in ["hello.txt", "words", "noise"] {
        let restored = fs::read(place.path("theirs").join(file)).unwrap();
        assert!(restored == fs::read(source.join(file)).unwrap(), "{choices:?} {file}");
    }
    place.run(&["verify", "--read-percent", "100"]).expect(0);
}

/// Small, and yet cut into pieces by the finer splitters.
fn plant_small(place: &Place) -> PathBuf {
    let source = place.path("small");
    fs::create_dir_all(source.join("empty")).unwrap();
    fs::write(source.join("hello.txt"), "hello\n").unwrap();
    fs::write(source.join("words"), "so compressible ".repeat(10_000)).unwrap();
    fs::write(source.join("noise"), noise(700_000)).unwrap();
    source
}

/// Each splitter once, and with them by turns each hash, cipher, version, key derivation, and some error correction.
#[test]
fn every_choice_for_a_new_repository_is_kopias() {
    let planted = Place::new();
    let source = plant_small(&planted);
    let splitters = CreateOptions::splitters();
    let (hashes, encryptions) = (CreateOptions::hashes(), CreateOptions::encryptions());
    let derivations = CreateOptions::key_derivations();
    let rows = splitters.iter().enumerate().map(|(row, splitter)| {
        let (version, percent) = [("1", "0"), ("2", "2"), ("3", "10"), ("3", "0"), ("2", "1"), ("3", "100")][row % 6];
        [
            ("--object-splitter", *splitter),
            ("--block-hash", hashes[row % hashes.len()]),
            ("--encryption", encryptions[row / hashes.len() % encryptions.len()]),
            ("--format-version", version),
            ("--ecc-overhead-percent", percent),
            ("--format-block-key-derivation-algorithm", derivations[row % 2]),
            ("--max-pack-size-mb", ["20", "10", "120"][row % 3]),
        ]
    });
    for row in rows {
        let choices: Vec<&str> = row.iter().flat_map(|(option, value)| [*option, *value]).collect();
        check_choices(&choices, &source);
    }
}

#[test]
fn new_repositories_of_every_kind_are_shared_with_kopia() {
    for choices in [["--format-version", "1"], ["--ecc-overhead-percent", "5"]] {
        let place = Place::new();
        place.run(&[["repository", "create"].as_slice(), &choices].concat()).expect(0);
        share(&place);
    }
    let place = Place::new();
    place.run(&["repository", "create", "--format-version", "1"]).expect(0);
    let shards = fs::read_to_string(place.path("repo/.shards")).unwrap();
    assert_eq!(shards, "{\"default\":[3,3],\"maxNonShardedLength\":20}\n");
}

#[test]
fn choices_that_the_format_does_not_have_are_refused_with_a_hint() {
    for (choices, words) in [
        (
            ["--format-version", "1", "--ecc-overhead-percent", "2"].as_slice(),
            "format version 1 has no error correction",
        ),
        (&["--retention-mode", "COMPLIANCE", "--retention-period", "1h"], "a day at least"),
        (&["--retention-mode", "COMPLIANCE", "--retention-period", "24h"], "cannot lock objects"),
        (&["--block-hash", "MD5"], "BLAKE2B-256-128"),
        (&["--retention-mode", "COMPLIANCE"], "--retention-period"),
    ] {
        let place = Place::new();
        let ran = place.run(&[["repository", "create"].as_slice(), choices].concat());
        assert_ne!(ran.code, Some(0), "{choices:?}");
        assert!(ran.stderr.contains(words), "{choices:?}: {}", ran.stderr);
        assert!(!place.path("repo/kopia.repository.f").exists(), "{choices:?}");
    }
}

/// Many index blobs without epochs: we merge them, kopia reads the result and merges it again, and so on.
#[test]
fn an_index_without_epochs_is_merged_by_either_and_read_by_both() {
    let place = Place::new();
    place.run(&["repository", "create", "--format-version", "1"]).expect(0);
    let source = plant_small(&place);
    let back_up_often = |word: &str| {
        for number in 0..8 {
            fs::write(source.join("changing"), format!("{word} {number}")).unwrap();
            place.run(&["backup", "small", "--as", "us@box:/data"]).expect(0);
        }
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let compact = |settle| {
        let storage = FilesystemStorage::open(&place.path("repo"), Layout::Kopia).unwrap();
        let client = Client { username: "us".to_owned(), hostname: "box".to_owned() };
        let (password, clock) = (Password::new(place.password.as_str()), Arc::new(SystemClock));
        let opening = Repository::open(Arc::new(storage), &password, client, clock);
        let repository = runtime.block_on(opening).unwrap();
        runtime.block_on(repository.compact_legacy_index(None, settle)).unwrap()
    };
    back_up_often("first");
    let kopia = connect(&place);
    let done = compact(SignedDuration::from_hours(1));
    assert!(done.merged_count >= 8 && done.written_count == 1 && done.deleted_count == 0, "{done:?}");
    verify_with(&kopia);
    back_up_often("second");
    // With no other client about, what was replaced goes at once.
    let done = compact(SignedDuration::ZERO);
    assert!(done.merged_count >= 8 && done.deleted_count >= 16, "{done:?}");
    verify_with(&kopia);
    back_up_often("third");
    kopia.run(&["maintenance", "set", "--owner=me"]);
    kopia.run(&["maintenance", "run", "--full", "--safety=none"]);
    verify_with(&kopia);
    place.run(&["verify", "--read-percent", "100"]).expect(0);
    back_up_often("fourth");
    compact(SignedDuration::ZERO);
    verify_with(&kopia);
    place.run(&["restore", "latest", "out"]).expect(0);
    assert_eq!(describe(&place.path("out")), describe(&source));
}
