//! Every variant of Kopia's format, made by either program: the other one writes to it, reads it and checks it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::kopia::Kopia;
use crate::support::{Place, describe};

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
    kopia.run(&["repository", "connect", "filesystem", &format!("--path={}", place.text("repo"))]);
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
    }
}
