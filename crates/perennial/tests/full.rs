//! No room: at the repository at any moment of a backup, and at the target of a restore.
//!
//! The small file systems are mounted in a namespace of the test's own, which needs no rights.

use std::fs;
use std::process::Command;

use crate::support::{PASSWORD, Place, Ran, describe};

/// Runs a shell script that may mount, with the program as `$P` and the place as working directory.
pub fn script(place: &Place, text: &str) -> Ran {
    let mut command = Command::new("unshare");
    command
        .args(["--map-root-user", "--mount", "sh", "-eu", "-c", text])
        .env("P", env!("CARGO_BIN_EXE_perennial"))
        .env("HOME", place.directory.path())
        .env("PERENNIAL_STORE", format!("file:{}", place.text("repo")))
        .env("PERENNIAL_PASSWORD", PASSWORD)
        .current_dir(place.directory.path());
    Ran::of(&command.output().unwrap())
}

#[test]
fn a_repository_without_room_keeps_what_it_has_and_says_so() {
    let place = Place::new();
    let source = place.plant("source");
    fs::create_dir_all(place.path("first")).unwrap();
    fs::write(place.path("first/file"), "the first backup").unwrap();
    fs::create_dir(place.path("repo")).unwrap();
    let ran = script(
        &place,
        r#"
        mount -t tmpfs -o size=64m none repo
        $P repository create -q
        $P backup first --as me@box:/first -q
        for free in 0 4 16 300 2000 6000 8000; do
            used=$(df --output=used -k repo | tail -1)
            mount -o remount,size=$((used + free))k repo
            code=0
            $P backup source --as me@box:/data -q || code=$?
            echo "free $free: backup $code"
            mount -o remount,size=64m repo
            $P verify -q --read-percent 100
            $P snapshots --source me@box:/data
        done
        $P restore latest back --source me@box:/first -q
        $P backup source --as me@box:/data -q
        $P verify -q --read-percent 100
        $P restore latest out --source me@box:/data -q
        "#,
    );
    let ran = ran.expect(0);
    let fills = [0, 4, 16, 300, 2000, 6000, 8000];
    let expected: String = fills.map(|free| format!("free {free}: backup 4\nno snapshots\n")).concat();
    assert_eq!(ran.stdout, expected, "{}", ran.stderr);
    let errors: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), fills.len(), "{}", ran.stderr);
    assert!(errors.iter().all(|error| error.contains("No space left")), "{errors:?}");
    assert_eq!(ran.stderr.matches("hint: make room in the store").count(), fills.len(), "{}", ran.stderr);
    assert_eq!(describe(&place.path("out")), describe(&source));
    assert_eq!(fs::read_to_string(place.path("back/file")).unwrap(), "the first backup");
}

#[test]
fn a_target_without_room_is_no_success() {
    let place = Place::created();
    let source = place.plant("source");
    place.run(&["backup", "source"]).expect(0);
    fs::create_dir(place.path("target")).unwrap();
    let ran = script(
        &place,
        r#"
        mount -t tmpfs -o size=8k none target
        code=0
        $P restore latest target -q || code=$?
        echo "asked first: $code"
        for size in 8k 64k 200k 1m 2m 3m 4m 5m 6m; do
            mount -o remount,size=$size target
            code=0
            $P restore latest target -q --ignore-room || code=$?
            echo "$size: $code"
        done
        mount -o remount,size=64m target
        $P restore latest target -q --verify
        cp -a target whole
        "#,
    );
    let ran = ran.expect(0);
    let sizes = ["8k", "64k", "200k", "1m", "2m", "3m", "4m", "5m", "6m"];
    let expected = sizes.map(|size| format!("{size}: 4\n")).concat();
    assert_eq!(ran.stdout, format!("asked first: 4\n{expected}"), "{}", ran.stderr);
    assert!(ran.stderr.contains("has room for"), "{}", ran.stderr);
    let full: Vec<&str> = ran.stderr.lines().filter(|line| line.contains("No space left")).collect();
    assert!(full.len() >= sizes.len() && full.iter().all(|line| line.contains("target")), "{}", ran.stderr);
    assert_eq!(describe(&place.path("whole")), describe(&source));
}
