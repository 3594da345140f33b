//! The demo, to its end: it judges itself, byte by byte, so what is left to see is that it says so.

use std::fs;

use crate::support::{Place, Ran};

fn demo(place: &Place, arguments: &[&str]) -> Ran {
    let directory = place.path("tmp");
    fs::create_dir_all(&directory).unwrap();
    Ran::of(&place.command().env("TMPDIR", &directory).arg("demo").args(arguments).output().unwrap())
}

fn left_behind(place: &Place) -> usize {
    fs::read_dir(place.path("tmp")).unwrap().count()
}

#[test]
fn the_story_is_told_to_its_end() {
    let place = Place::new();
    let told = demo(&place, &[]).expect(0);
    for line in [
        "demo/database          Fresh: the location is empty and was never used",
        "Pending, RepositoryUnreachable",
        "Pending, RepositoryMissing",
        "Pending, RepositoryAuth",
        "integrity_check says ok",
        "its backup is killed when",
        "its restore is killed when",
        "nothing wrong",
        "everything equal",
    ] {
        assert!(told.stdout.contains(line), "{line:?} is missing in\n{}", told.stdout);
    }
    assert_eq!(told.stderr, "");
    assert_eq!(left_behind(&place), 0);
}

#[test]
fn own_files_take_part_and_repositories_can_be_kept() {
    let place = Place::new();
    let own = place.plant("own");
    let before = crate::support::describe(&own);
    let told = demo(&place, &["--path", own.to_str().unwrap(), "--keep", "--json"]).expect(0).json();
    assert_eq!((&told["kind"], &told["equal"]), (&"demo".into(), &true.into()));
    let yours = &told["claims"][3];
    assert_eq!((&yours["claim"], &yours["files"]), (&"demo/yours".into(), &4.into()));
    assert_eq!(crate::support::describe(&own), before);

    let kept = &told["kept"][3];
    let store = format!("file:{}", kept["path"].as_str().unwrap());
    let mut command = place.command();
    command.env("PERENNIAL_STORE", store).env("PERENNIAL_PASSWORD", kept["password"].as_str().unwrap());
    let restored = place.text("restored");
    let source = kept["source"].as_str().unwrap();
    Ran::of(&command.args(["restore", "latest", &restored, "--source", source]).output().unwrap()).expect(0);
    assert_eq!(crate::support::describe(&place.path("restored")), before);
    assert_eq!(left_behind(&place), 1);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let place = Place::new();
    let refused = demo(&place, &["--path", "/dev/null"]).expect(2);
    assert!(refused.stderr.contains("/dev/null is no directory"), "{}", refused.stderr);
    assert_eq!(left_behind(&place), 0);
}
