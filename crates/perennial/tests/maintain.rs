//! The real kopia and this program take turns as the one who maintains a repository.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::kopia::{Kopia, Release};
use crate::support::{Place, Ran};

const OURS: &[&str] = &["--user", "perennial", "--host", "here"];

#[track_caller]
fn maintain(place: &Place, more: &[&str]) -> serde_json::Value {
    place.run(&[&["maintain", "--full", "--json", "--safety", "none"], OURS, more].concat()).expect(0).json()
}

fn files(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { files(&path) } else { 1 }).sum()
}

fn counts<'a>(maintained: &'a serde_json::Value, task: &str) -> &'a serde_json::Value {
    let tasks = maintained["tasks"].as_array().unwrap();
    &tasks.iter().find(|found| found["task"] == task).unwrap()["counts"]["data"]
}

#[test]
fn kopia_and_we_maintain_one_repository_by_turns() {
    by_turns(&[]);
}

#[test]
fn kopia_and_we_maintain_one_without_epochs_by_turns() {
    by_turns(&["--format-version", "1"]);
}

fn by_turns(choices: &[&str]) {
    let place = Place::new();
    place.run(&[&["repository", "create"], choices].concat()).expect(0);
    let source = place.plant("source");
    let source = source.to_str().unwrap();
    let kopia = Kopia { place: &place, release: Release::Newest };
    let repo = place.text("repo");
    kopia.run(&[
        "repository",
        "connect",
        "filesystem",
        "--path",
        &repo,
        "--override-username=kopia",
        "--override-hostname=there",
    ]);
    place.run(&["maintain", "owner", "perennial@here", "--quiet"]).expect(0);
    let packs = || {
        let entries = fs::read_dir(place.path("repo")).unwrap().map(|entry| entry.unwrap());
        let of_packs = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with('p'));
        of_packs.map(|entry| files(&entry.path())).sum::<usize>()
    };
    let mut ids = Vec::new();
    for round in 0..6 {
        fs::write(format!("{source}/round"), format!("{round}").repeat(100_000)).unwrap();
        if round % 2 == 0 {
            let backed_up = place.run(&[&["backup", source, "--json"], OURS].concat()).expect(0).json();
            ids.push(backed_up["snapshot"].as_str().unwrap().to_owned());
        } else {
            kopia.run(&["snapshot", "create", source, "--json"]);
        }
        if ids.len() > 1 {
            let old = ids.remove(0);
            place.run(&[&["forget", "--snapshot", &old, "--quiet"], OURS].concat()).expect(0);
        }
        if round % 2 == 0 {
            kopia.run(&["maintenance", "set", "--owner=me"]);
            kopia.run(&["maintenance", "run", "--full", "--safety=none"]);
            let refused = place.run(&[&["maintain", "--full"], OURS].concat()).expect(4);
            assert!(refused.stderr.contains("kopia@there") && refused.stderr.contains("--take-over"), "{refused:?}");
        } else {
            maintain(&place, &["--take-over"]);
        }
        kopia.run(&["snapshot", "verify", "--verify-files-percent=100"]);
        kopia.run(&["content", "verify", "--full", "--download-percent=100"]);
        place.run(&["verify", "--read-percent", "100"]).expect(0);
    }
    let info = kopia.run(&["maintenance", "info", "--json"]);
    let info: serde_json::Value = serde_json::from_str(&info).unwrap();
    assert_eq!(info["owner"], "perennial@here");
    for task in
        ["snapshot-gc", "full-rewrite-contents", "full-drop-deleted-content", "full-delete-blobs", "cleanup-logs"]
    {
        assert!(info["schedule"]["runs"][task].as_array().unwrap().iter().all(|run| run["success"] == true), "{task}");
    }

    assert!(packs() > 0);

    // All of our snapshots and all of kopia's go, and with them everything but the records.
    let all = place.run(&["snapshots", "--all", "--json"]).expect(0).json();
    for snapshot in all.as_array().unwrap() {
        place.run(&["forget", "--quiet", "--snapshot", snapshot["id"].as_str().unwrap()]).expect(0);
    }
    let marked = maintain(&place, &[]);
    assert!(counts(&marked, "snapshot-gc")["deletedContentCount"].as_u64().unwrap() > 0);
    // Marks count in whole seconds, and only those of seconds that are over are dropped.
    let is_empty = (0..200).any(|_| {
        maintain(&place, &[]);
        packs() == 0
    });
    assert!(is_empty);
    kopia.run(&["snapshot", "list"]);
    place.run(&["verify"]).expect(0);
}

#[test]
fn who_maintains_and_what_is_due_is_said() {
    let place = Place::created();
    let info = place.run(&["maintain", "info", "--json"]).expect(0).json();
    assert_eq!((&info["isOwner"], &info["full"]["next"]), (&true.into(), &serde_json::Value::Null));
    let text = place.run(&["maintain", "--full"]).expect(0).stdout;
    assert!(text.contains("garbage") && text.contains("next full run"), "{text}");
    let text = place.run(&["maintain", "info"]).expect(0).stdout;
    assert!(text.contains("(this client)") && text.contains("snapshot-gc"), "{text}");
    place.run(&["maintain", "owner", "somebody@else"]).expect(0);
    place.run(&["maintain"]).expect(4);
    place.run(&["maintain", "--force"]).expect(0);
    place.run(&["maintain", "--take-over"]).expect(0);
    place.run(&["maintain"]).expect(0);
}

#[test]
fn what_is_due_runs_after_a_backup_and_never_spoils_it() {
    let place = Place::created();
    place.plant("source");
    let run = |more: &[&str]| place.run(&[&["backup", "source", "--as", "us@here:/data"], more].concat());
    let cycle = |ran: Ran| ran.expect(0).json()["maintenance"]["cycle"].clone();
    assert_eq!(cycle(run(&["--json", "--no-maintain"])), Value::Null);
    assert_eq!(cycle(run(&["--json", "--user", "somebody", "--host", "else"])), Value::Null);
    let told = run(&[]).expect(0);
    assert!(told.stdout.contains("full maintenance, which was due, is done"), "{told:?}");
    assert_eq!(cycle(run(&["--json"])), Value::Null);
    let info = place.run(&["maintain", "info", "--json"]).expect(0).json();
    assert!(info["runs"].as_array().unwrap().iter().any(|run| run["task"] == "snapshot-gc"), "{info}");

    // Nobody knows when the last cycle was: kopia ends with 1 here, although its snapshot is good.
    let schedule = place.path("repo/kopia.maintenance.f");
    fs::write(&schedule, [7; 200]).unwrap();
    let quiet = run(&["--quiet"]).expect(0);
    assert!(quiet.stderr.starts_with("warning: maintenance was due") && quiet.stderr.contains("hint: "), "{quiet:?}");
    let said = run(&["--json"]).expect(0).json();
    assert!(said["maintenance"]["error"].as_str().unwrap().contains("kopia.maintenance is damaged"), "{said}");
    fs::remove_file(schedule).unwrap();
    let forgot = place.run(&["forget", "--json", "--dry-run"]).expect(0).json();
    assert_eq!(forgot["maintenance"], Value::Null);
    assert_eq!(cycle(place.run(&["forget", "--json"])), "full");
    place.run(&["verify", "--read-percent", "100"]).expect(0);
}
