//! Exit codes, and words that help.

use crate::support::{Place, Ran};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;

#[track_caller]
fn check(ran: Ran, code: i32, error: &str, hint: &str) {
    let ran = ran.expect(code);
    let lines: Vec<&str> = ran.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{}", ran.stderr);
    assert!(lines[0].starts_with("error: ") && lines[0].contains(error), "{}", lines[0]);
    assert!(lines[1].starts_with("hint: ") && lines[1].contains(hint), "{}", lines[1]);
    assert_eq!(ran.stdout, "");
}

#[test]
fn a_wrong_or_missing_password_is_said() {
    let place = Place::created();
    let run = |password: &str| {
        Ran::of(&place.command().env("PERENNIAL_PASSWORD", password).arg("snapshots").output().unwrap())
    };
    check(run("wrong"), 4, "does not open with this password", "check the password");
    check(run(""), 2, "no password is given", "--password-file");
    check(
        place.run(&["snapshots", "--password-file", "nowhere"]),
        2,
        "read the password file nowhere",
        "check the path",
    );
    fs::write(place.path("password"), format!("{}\n", crate::support::PASSWORD)).unwrap();
    let mut of_file = place.command();
    Ran::of(
        &of_file
            .env("PERENNIAL_PASSWORD", "wrong")
            .args(["snapshots", "--password-file", "password"])
            .output()
            .unwrap(),
    )
    .expect(0);
    let mut of_kopia = place.command();
    let of_kopia = of_kopia.env_remove("PERENNIAL_PASSWORD").env("KOPIA_PASSWORD", crate::support::PASSWORD);
    Ran::of(&of_kopia.arg("snapshots").output().unwrap()).expect(0);
}

#[test]
fn places_that_are_no_repository_are_told_apart() {
    let place = Place::new();
    let at = |address: &str| place.run(&["snapshots", "--store", address]);
    check(at("file:/nowhere/at/all"), 4, "the directory does not exist", "mounted");
    fs::create_dir(place.path("empty")).unwrap();
    check(at("./empty"), 4, "there is no kopia.repository", "perennial repository create");
    check(at("ftp://host/repo"), 4, "begins with none of", "address");
    check(at("s3://bucket/prefix"), 4, "no access key", "check the store's address");
    let nothing = Ran::of(&place.command().env_remove("PERENNIAL_STORE").arg("snapshots").output().unwrap());
    check(nothing, 2, "no repository is named", "PERENNIAL_STORE");
}

#[test]
fn nothing_is_created_over_something() {
    let place = Place::created();
    check(place.run(&["repository", "create"]), 4, "is not empty: it holds kopia.", "choose an empty place");
    fs::create_dir(place.path("photos")).unwrap();
    fs::write(place.path("photos/p-1.f"), "x").unwrap();
    check(place.run(&["repository", "create", "--store", "./photos"]), 4, "it holds p-1", "choose an empty place");
    assert_eq!(fs::read_dir(place.path("photos")).unwrap().count(), 1);
    let unknown = place.run(&["repository", "create", "--store", "./new", "--block-hash", "MD5"]).expect(2);
    assert!(unknown.stderr.contains("'MD5'") && unknown.stderr.contains("BLAKE2B-256-128"), "{}", unknown.stderr);
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    let place = Place::created();
    place.plant("source");
    place.run(&["backup", "source"]).expect(0);
    for wrong in [
        vec!["frobnicate"],
        vec!["backup"],
        vec!["backup", "source", "--as", "nobody"],
        vec!["backup", "source", "--tag", "colourless"],
        vec!["backup", "source", "--tag", "a:b", "--tag", "a:c"],
        vec!["backup", "source", "--compression", "zip"],
        vec!["verify", "--read-percent", "101"],
        vec!["snapshots", "--memory", "12 parsecs"],
        vec!["snapshots", "--all", "--source", "a@b:/c"],
        vec!["restore", "12345678", "out", "--previous", "1"],
        vec!["restore", "latest", "out", "--as-of", "yesterday"],
        vec!["cat", "latest:photos"],
    ] {
        let ran = place.run(&wrong).expect(2);
        assert!(ran.stderr.starts_with("error: "), "{wrong:?}: {}", ran.stderr);
    }
    check(place.run(&["backup", "missing"]), 4, "missing: No such file", "check the path");
    check(place.run(&["ls", "12345678"]), 4, "no snapshot 12345678", "perennial");
    check(place.run(&["ls", "latest:photos/x"]), 4, "there is no /photos/x", "perennial ls");
    check(place.run(&["cat", "latest:hello.txt/x"]), 4, "hello.txt is a file, not a directory", "name it");
    check(place.run(&["restore", "latest", "out", "--as-of", "2001-01-01"]), 4, "had begun at", "later time");
}

#[test]
fn programs_get_errors_as_json_too() {
    let place = Place::new();
    let error = place.run(&["snapshots", "--store", "file:/nowhere", "--json"]).expect(4).json();
    assert_eq!((&error["kind"], &error["exitCode"]), (&"error".into(), &4.into()));
    assert!(error["message"].as_str().unwrap().contains("/nowhere") && error["hint"].is_string());
}

#[test]
fn damage_is_never_silent() {
    let place = Place::created();
    place.plant("source");
    place.run(&["backup", "source"]).expect(0);
    let mut packs = files_below(&place.path("repo")).into_iter().filter(|path| {
        let name = path.strip_prefix(place.path("repo")).unwrap().to_str().unwrap();
        name.starts_with('p')
    });
    let pack = packs.next().unwrap();
    fs::remove_file(&pack).unwrap();
    let verified = place.run(&["verify"]).expect(5);
    assert!(verified.stdout.contains("damaged: ") && verified.stdout.contains("is missing"), "{}", verified.stdout);
    let findings = place.run(&["verify", "--json"]).expect(5).json();
    assert_eq!((&findings["sound"], &findings["findings"][0]["severity"]), (&false.into(), &"damaged".into()));
    place.run(&["restore", "latest", "out"]).expect(5);
}

fn files_below(root: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { open.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    files
}

/// Root reads everything, so root runs the program as nobody.
#[test]
fn a_file_that_cannot_be_read_is_named_and_the_rest_is_kept() {
    const NOBODY: u32 = 65_534;
    let place = Place::new();
    let program = place.path("program");
    fs::copy(env!("CARGO_BIN_EXE_perennial"), &program).unwrap();
    for open in ["", "repo", "source"] {
        fs::create_dir_all(place.path(open)).unwrap();
        fs::set_permissions(place.path(open), fs::Permissions::from_mode(0o777)).unwrap();
    }
    fs::write(place.path("source/open"), "open").unwrap();
    fs::write(place.path("source/closed"), "closed").unwrap();
    fs::set_permissions(place.path("source/closed"), fs::Permissions::from_mode(0o000)).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(&program);
        let store = format!("file:{}", place.text("repo"));
        command.env_clear().env("PERENNIAL_STORE", store).env("PERENNIAL_PASSWORD", "secret").args(arguments);
        if rustix::process::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        Ran::of(&command.current_dir(place.directory.path()).output().unwrap())
    };
    run(&["repository", "create"]).expect(0);
    let text = run(&["backup", "source"]).expect(3).stdout;
    assert!(text.contains("missing from the snapshot: 1 entry\n  closed: "), "{text}");
    let outcome = run(&["backup", "source", "--json"]).expect(3).json();
    assert_eq!((&outcome["complete"], &outcome["unreadableCount"]), (&false.into(), &1.into()));
    assert_eq!(outcome["unreadable"][0]["path"], "closed");
    assert_eq!(run(&["cat", "latest:open"]).expect(0).stdout, "open");
}
