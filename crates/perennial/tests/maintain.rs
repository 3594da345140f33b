//! The real kopia and this program take turns as the one who maintains a repository.

use std::fs;
use std::path::Path;

use crate::kopia::{Kopia, Release};
use crate::support::Place;

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
    let place = Place::created();
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
    let packs = || files(&place.path("repo/p"));
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

    // All of our snapshots and all of kopia's go, and with them everything but the records.
    let all = place.run(&["snapshots", "--all", "--json"]).expect(0).json();
    for snapshot in all.as_array().unwrap() {
        place.run(&["forget", "--quiet", "--snapshot", snapshot["id"].as_str().unwrap()]).expect(0);
    }
    let marked = maintain(&place, &[]);
    assert!(counts(&marked, "snapshot-gc")["deletedContentCount"].as_u64().unwrap() > 0);
    maintain(&place, &[]);
    maintain(&place, &[]);
    assert_eq!(packs(), 0);
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
