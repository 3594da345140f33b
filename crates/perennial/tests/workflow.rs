//! From nothing to a restored tree, and everything one does in between.

use crate::support::{Place, describe, noise};
use std::fs;

#[test]
fn what_was_backed_up_comes_back() {
    let place = Place::created();
    let source = place.plant("source");
    let first = place
        .run(&["backup", "source", "--json", "--tag", "reason:test", "--description", "the first"])
        .expect(0)
        .json();
    assert_eq!((&first["kind"], &first["complete"], &first["files"]), (&"backup".into(), &true.into(), &4.into()));
    assert_eq!((&first["filesRead"], &first["filesUnchanged"]), (&4.into(), &0.into()));
    assert_eq!(first["bytes"], 9_070_006);
    assert!(first["storage"]["puts"].as_u64().unwrap() > 2);

    let snapshots = place.run(&["snapshots", "--json"]).expect(0).json();
    let snapshot = &snapshots[0];
    assert_eq!(snapshot["id"], first["snapshot"]);
    assert_eq!(snapshot["identity"]["path"], source.to_str().unwrap());
    assert_eq!((&snapshot["tags"]["reason"], &snapshot["description"]), (&"test".into(), &"the first".into()));
    assert_eq!(
        (&snapshot["files"], &snapshot["directories"], &snapshot["incomplete"]),
        (&4.into(), &4.into(), &().into())
    );

    let before = describe(&source);
    fs::remove_file(source.join("nothing")).unwrap();
    fs::write(source.join("hello.txt"), "good bye").unwrap();
    let second = place.run(&["backup", "source", "--json"]).expect(0).json();
    assert_eq!((&second["filesRead"], &second["filesUnchanged"]), (&1.into(), &2.into()));
    assert_eq!(second["parent"], first["snapshot"]);

    place.run(&["restore", "latest", "now"]).expect(0);
    assert_eq!(describe(&place.path("now")), describe(&source));
    let id = first["snapshot"].as_str().unwrap();
    place.run(&["restore", &id[..8], "then", "--verify"]).expect(0);
    assert_eq!(describe(&place.path("then")), before);
    place.run(&["restore", "latest:photos/2025", "part", "--previous", "1"]).expect(0);
    assert_eq!(describe(&place.path("part")), describe(&source.join("photos/2025")));
    place.run(&["verify", "--read-percent", "100"]).expect(0);
}

#[test]
fn a_restore_in_place_removes_what_is_too_much_only_when_asked() {
    let place = Place::created();
    let source = place.plant("source");
    let before = describe(&source);
    place.run(&["backup", "source"]).expect(0);
    fs::write(source.join("extra"), "x").unwrap();
    fs::remove_file(source.join("photos/large")).unwrap();
    place.run(&["restore", "latest", "source"]).expect(0);
    assert!(source.join("extra").exists() && source.join("photos/large").exists());
    let outcome = place.run(&["restore", "latest", "source", "--delete", "--json"]).expect(0).json();
    assert_eq!(outcome["deleted"], 1);
    place.run(&["restore", "latest", "source", "--delete"]).expect(0);
    assert_eq!(describe(&source), before);
}

#[test]
fn what_is_in_a_snapshot_can_be_looked_at() {
    let place = Place::created();
    place.plant("source");
    place.run(&["backup", "source"]).expect(0);
    let lines = place.run(&["ls", "latest"]).expect(0).stdout;
    let modes: Vec<&str> = lines.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(modes, ["drwxr-xr-x", "-rwsr-x---", "lrwxrwxrwx", "-rw-r--r--"]);
    assert!(lines.lines().nth(2).unwrap().ends_with(" link -> hello.txt"), "{lines}");
    let deep = place.run(&["ls", "-r", "latest:/photos/"]).expect(0).stdout;
    assert!(deep.contains(" photos/2025/a b\\u{1b}[2J\n"), "{deep}");
    let entries = place.run(&["ls", "-r", "latest", "--json"]).expect(0).json();
    let paths: Vec<&str> = entries.as_array().unwrap().iter().filter_map(|entry| entry["path"].as_str()).collect();
    let expected = [
        "photos",
        "hello.txt",
        "link",
        "nothing",
        "photos/2025",
        "photos/dangling",
        "photos/large",
        "photos/2025/empty",
        "photos/2025/a b\u{1b}[2J",
    ];
    assert_eq!(paths, expected);
    assert_eq!((&entries[1]["mode"], &entries[2]["target"]), (&"4750".into(), &"hello.txt".into()));
    let file = place.run(&["ls", "latest:photos/large", "--json"]).expect(0).json();
    assert_eq!((&file[0]["path"], &file[0]["size"]), (&"photos/large".into(), &9_000_000.into()));
    assert_eq!(place.run(&["ls", "latest:photos/2025/empty", "--json"]).expect(0).json(), serde_json::json!([]));
    let large = place.command().args(["cat", "latest:photos/large"]).output().unwrap();
    assert!(large.status.success() && large.stdout == noise(9_000_000));
}

#[test]
fn latest_needs_to_know_whose() {
    let place = Place::created();
    place.plant("source");
    for identity in ["pvc@media:/data", "other@media:/data"] {
        place.run(&["backup", "source/photos/2025", "--as", identity, "--user", "me", "--host", "here"]).expect(0);
    }
    let refused = place.run(&["ls", "latest"]).expect(2);
    assert!(refused.stderr.contains("other@media:/data, pvc@media:/data"), "{}", refused.stderr);
    place.run(&["ls", "latest", "--source", "pvc@media:/data"]).expect(0);
    let own = place.run(&["snapshots"]).expect(0);
    assert_eq!((own.stdout.as_str(), own.stderr.lines().count()), ("no snapshots\n", 1));
    assert_eq!(place.run(&["snapshots", "--all"]).expect(0).stdout.lines().count(), 3);
    assert_eq!(place.run(&["snapshots", "--source", "pvc@media:/data"]).expect(0).stdout.lines().count(), 2);
}

#[test]
fn what_is_forgotten_is_listed_no_longer() {
    let place = Place::created();
    place.plant("source");
    let ids: Vec<String> = (0..4)
        .map(|_| place.run(&["backup", "source", "--json"]).expect(0).json()["snapshot"].as_str().unwrap().to_owned())
        .collect();
    let dry = place.run(&["forget", "--keep-latest", "2", "--dry-run", "--json"]).expect(0).json();
    assert_eq!(dry["removed"].as_array().unwrap().len(), 2);
    let listed = || place.run(&["snapshots", "--json"]).expect(0).json().as_array().unwrap().len();
    assert_eq!(listed(), 4);
    place.run(&["forget", "--keep-latest", "2"]).expect(0);
    assert_eq!(listed(), 2);
    place.run(&["forget", "--snapshot", &ids[3][..10]]).expect(0);
    let left = place.run(&["snapshots", "--json"]).expect(0).json();
    assert_eq!(left[0]["id"], ids[2].as_str());
    place.run(&["forget", "--snapshot", "12345678"]).expect(4);
    place.run(&["forget", "--snapshot", &ids[2], "--keep-latest", "1"]).expect(2);
}

#[test]
fn the_repository_says_what_it_is() {
    let place = Place::new();
    let create = ["repository", "create", "--json", "--splitter", "DYNAMIC-1M-BUZHASH", "--hash", "BLAKE3-256"];
    let created = place.run(&create).expect(0).json();
    assert_eq!((&created["kind"], &created["splitter"]), (&"repository".into(), &"DYNAMIC-1M-BUZHASH".into()));
    let status = place.run(&["repository", "status", "--json"]).expect(0).json();
    assert_eq!((&status["uniqueId"], &status["hash"]), (&created["uniqueId"], &"BLAKE3-256".into()));
    assert_eq!(status["snapshots"], 0);
    // Nothing that was only tried out is left.
    let left = fs::read_dir(place.path("repo")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(!left.into_iter().any(|name| name.contains("probe")));
}

#[test]
fn quiet_means_no_words_and_a_closed_pipe_no_complaint() {
    let place = Place::created();
    place.plant("source");
    let quiet = place.run(&["backup", "source", "-q"]).expect(0);
    assert_eq!((quiet.stdout.as_str(), quiet.stderr.as_str()), ("", ""));
    let mut child = place
        .command()
        .args(["cat", "latest:photos/large"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn shells_get_their_scripts() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = place.run(&["completions", shell]).expect(0).stdout;
        assert!(script.contains("snapshots") && script.contains("read-percent"), "{shell}");
    }
}

#[test]
fn a_password_is_changed_and_kopia_knows_the_new_one_only() {
    let place = Place::created();
    let source = place.plant("source");
    place.run(&["backup", "source", "--as", "me@box:/data"]).expect(0);
    fs::write(place.path("new"), "another password\n").unwrap();
    place.run(&["repository", "password", "--new-password-file", "new"]).expect(0);
    assert_ne!(place.run(&["snapshots", "--all"]).code, Some(0));
    let place = Place { password: "another password".to_owned(), ..place };
    place.run(&["restore", "latest", "out"]).expect(0);
    assert_eq!(describe(&place.path("out")), describe(&source));
    let kopia = crate::kopia::Kopia::on(&place);
    kopia.run(&["repository", "connect", "filesystem", &format!("--path={}", place.text("repo"))]);
    kopia.run(&["content", "verify", "--full", "--download-percent=100"]);
    fs::write(place.path("bad"), " blank\n").unwrap();
    let refused = place.run(&["repository", "password", "--new-password-file", "bad"]);
    assert!(refused.stderr.contains("white space"), "{}", refused.stderr);
}
