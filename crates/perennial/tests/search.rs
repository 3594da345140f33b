//! Find, diff and download; the archive is unpacked by GNU tar and compared with the source.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{Place, describe, noise};

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Two snapshots of `me@box:/data`: one file changed, one gone, one new, one only touched in its mode.
fn two_snapshots(place: &Place) -> [String; 2] {
    let source = place.plant("source");
    let backup = || {
        let ran = place.run(&["backup", "source", "--as", "me@box:/data", "--json"]).expect(0);
        ran.json()["snapshot"].as_str().unwrap().to_owned()
    };
    let first = backup();
    fs::write(source.join("hello.txt"), "hello again\n").unwrap();
    fs::remove_file(source.join("photos/dangling")).unwrap();
    fs::write(source.join("photos/2025/new.jpg"), noise(1000)).unwrap();
    fs::set_permissions(source.join("nothing"), fs::Permissions::from_mode(0o600)).unwrap();
    [first, backup()]
}

#[test]
fn each_version_of_a_file_is_found_once() {
    let place = Place::created();
    let [first, second] = two_snapshots(&place);
    let find = |arguments: &[&str]| {
        let all = [&["find", "--source", "me@box:/data", "--json"], arguments].concat();
        let found = lines(&place.run(&all).expect(0).stdout);
        found.into_iter().map(|found| format!("{} {}", found["path"].as_str().unwrap(), found["snapshots"])).collect()
    };
    let found: Vec<String> = find(&["*.txt"]);
    assert_eq!(found, [format!("hello.txt [\"{first}\"]"), format!("hello.txt [\"{second}\"]")]);
    let found: Vec<String> = find(&["photos/**/*.jpg"]);
    assert_eq!(found, [format!("photos/2025/new.jpg [\"{second}\"]")]);
    let found: Vec<String> = find(&["--larger", "1MiB"]);
    assert_eq!(found, [format!("photos/large [\"{first}\",\"{second}\"]")]);
    let found: Vec<String> = find(&["--type", "symlink"]);
    assert_eq!(found, [format!("link [\"{first}\",\"{second}\"]"), format!("photos/dangling [\"{first}\"]")]);
    let found: Vec<String> = find(&["--newer", "2100-01-01"]);
    assert!(found.is_empty());
    let text = place.run(&["find", "a b*", "--all"]).expect(0).stdout;
    assert!(text.contains("photos/2025/a b\\u{1b}[2J  ") && text.contains("(2)"), "{text}");
    place.run(&["backup", "source", "--as", "you@box:/data"]).expect(0);
    let text = place.run(&["find", "photos", "--all"]).expect(0).stdout;
    let headings: Vec<&str> = text.lines().filter(|line| !line.starts_with(' ')).collect();
    assert_eq!(headings, ["me@box:/data", "you@box:/data"]);
    assert!(text.lines().nth(1).unwrap().starts_with("         -  "), "{text}");
    let none = place.run(&["find", "x"]).expect(0);
    assert!(none.stdout.is_empty() && none.stderr.contains("--all"), "{none:?}");
}

#[test]
fn what_differs_is_told_and_nothing_else() {
    let place = Place::created();
    let [first, second] = two_snapshots(&place);
    let told = lines(&place.run(&["diff", &first, &second, "--json"]).expect(0).stdout);
    let told: Vec<String> = told
        .iter()
        .map(|told| {
            format!("{} {} {}", told["change"].as_str().unwrap(), told["path"].as_str().unwrap(), told["aspects"])
        })
        .collect();
    assert_eq!(
        told,
        [
            "changed hello.txt [\"size\",\"time\",\"content\"]",
            "changed nothing [\"mode\"]",
            "changed photos [\"time\"]",
            "changed photos/2025 [\"time\"]",
            "added photos/2025/new.jpg []",
            "removed photos/dangling []",
        ]
    );
    let text = place.run(&["diff", &first, &second, "--exit-code"]).expect(3).stdout;
    assert!(text.contains("+ photos/2025/new.jpg\n") && text.contains("~ nothing  (0644 → 0600)"), "{text}");
    place.run(&["diff", &second, &second, "--exit-code"]).expect(0);
    let stat = place.run(&["diff", &first, &second, "--stat", "--json"]).expect(0).json();
    assert_eq!((&stat["added"], &stat["removed"], &stat["changed"]), (&1.into(), &1.into(), &4.into()));
    let below = place.run(&["diff", &format!("{first}:photos/2025"), &format!("{second}:photos/2025")]).expect(0);
    assert_eq!(below.stdout.lines().count(), 2, "{}", below.stdout);
}

fn told(place: &Place, arguments: &[&str], code: i32) -> Vec<String> {
    let all = [&["diff", "latest"], arguments, &["--source", "me@box:/data", "--json"]].concat();
    let told = lines(&place.run(&all).expect(code).stdout);
    let line = |told: &Value| {
        format!("{} {} {}", told["change"].as_str().unwrap(), told["path"].as_str().unwrap(), told["aspects"])
    };
    told.iter().map(line).collect()
}

#[test]
fn a_directory_is_compared_to_the_last_attribute() {
    let place = Place::created();
    let source = place.path("source");
    fs::create_dir(&source).unwrap();
    testkit::hostile::plant(&source).unwrap();
    place.run(&["backup", "source", "--as", "me@box:/data"]).expect(0);
    assert!(told(&place, &["./source", "--read-all", "--exit-code"], 0).is_empty());
    let small = source.join("hard links/small");
    let mtime = fs::metadata(&small).unwrap().modified().unwrap();
    fs::write(&small, b"SMALL").unwrap();
    fs::File::options().write(true).open(&small).unwrap().set_modified(mtime).unwrap();
    let link = source.join("attributes/link");
    rustix::fs::lsetxattr(link, "trusted.more", b"1", rustix::fs::XattrFlags::empty()).unwrap();
    rustix::fs::lremovexattr(source.join("attributes/below"), "user.of a directory").unwrap();
    fs::remove_file(source.join("specials/pipe")).unwrap();
    fs::create_dir(source.join("specials/pipe")).unwrap();
    fs::remove_file(source.join("specials/socket")).unwrap();
    let mut changes = vec![
        "changed attributes/below [\"attributes\"]",
        "changed attributes/link [\"attributes\"]",
        "changed specials [\"time\"]",
        "changed specials/pipe [\"kind\",\"time\",\"mode\",\"attributes\"]",
        "removed specials/socket []",
    ];
    assert_eq!(told(&place, &["./source", "--exit-code"], 3), changes);
    // Of one length and time with what is stored, and other bytes under all of its names.
    let unseen = [
        "changed hard links/elsewhere/deeper/another small [\"content\"]",
        "changed hard links/elsewhere/small [\"content\"]",
        "changed hard links/small [\"content\"]",
    ];
    changes.splice(2..2, unseen);
    assert_eq!(told(&place, &["./source", "--read-all"], 0), changes);
}

#[test]
fn a_directory_is_compared_as_a_backup_would_take_it() {
    let place = Place::created();
    let source = place.plant("source");
    fs::write(source.join(".kopiaignore"), "left-out\n").unwrap();
    place.run(&["backup", "source", "--as", "me@box:/data"]).expect(0);
    fs::write(source.join("left-out"), "x").unwrap();
    let large = fs::read(source.join("photos/large")).unwrap();
    // Written again as it was: only the time is another. Then with one bit changed at its end.
    fs::write(source.join("photos/large"), &large).unwrap();
    assert_eq!(told(&place, &["./source"], 0), ["changed . [\"time\"]", "changed photos/large [\"time\"]"]);
    let mut changed = large;
    *changed.last_mut().unwrap() ^= 1;
    fs::write(source.join("photos/large"), &changed).unwrap();
    let below = ["diff", "latest:photos", &place.text("source/photos"), "--source", "me@box:/data"];
    let text = place.run(&below).expect(0).stdout;
    assert!(text.starts_with("~ large  (") && text.ends_with(", content)\n"), "{text}");
    let one = ["diff", "latest:photos/large", &place.text("source/photos/large"), "--source", "me@box:/data", "--stat"];
    assert!(place.run(&one).expect(0).stdout.starts_with("0 added, 0 removed, 1 changed"));
    place.run(&["diff", "latest", "./nowhere", "--source", "me@box:/data"]).expect(4);
    place.run(&["diff", "latest", "latest", "--source", "me@box:/data", "--read-all"]).expect(2);
}

/// Unpacks as the owner of everything, with every attribute.
#[track_caller]
fn unpack(archive: &[u8], to: &Path) {
    fs::create_dir(to).unwrap();
    let mut tar = Command::new("tar");
    tar.args(["--xattrs", "--xattrs-include=*", "--acls", "-xpf", "-", "-C"]).arg(to);
    let mut tar = tar.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    tar.stdin.take().unwrap().write_all(archive).unwrap();
    let ended = tar.wait_with_output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
}

#[track_caller]
fn download(place: &Place, reference: &str, code: i32) -> (Vec<u8>, String) {
    let ran = place.command().args(["download", reference, "--source", "me@box:/data"]).output().unwrap();
    assert_eq!(ran.status.code(), Some(code), "{}", String::from_utf8_lossy(&ran.stderr));
    (ran.stdout, String::from_utf8(ran.stderr).unwrap())
}

#[test]
fn tar_unpacks_what_was_backed_up() {
    let place = Place::created();
    let source = place.plant("source");
    let long = "a name with ünïcode, spaces and more than a hundred bytes ".repeat(4);
    fs::create_dir_all(source.join(long.trim())).unwrap();
    fs::write(source.join(long.trim()).join("in\nside"), noise(3_000_000)).unwrap();
    std::os::unix::fs::symlink(format!("../{long}"), source.join("long link")).unwrap();
    place.run(&["backup", "source", "--as", "me@box:/data"]).expect(0);
    unpack(&download(&place, "latest", 0).0, &place.path("out"));
    assert_eq!(describe(&place.path("out")), describe(&source));
    let ran = place.run(&["download", "latest:photos", "-o", "photos.tar", "--source", "me@box:/data"]).expect(0);
    assert!(ran.stdout.contains("in photos.tar"), "{}", ran.stdout);
    unpack(&fs::read(place.path("photos.tar")).unwrap(), &place.path("photos"));
    assert_eq!(describe(&place.path("photos")), describe(&source.join("photos")));
    unpack(&download(&place, "latest:hello.txt", 0).0, &place.path("one"));
    assert_eq!(fs::read(place.path("one/hello.txt")).unwrap(), fs::read(source.join("hello.txt")).unwrap());
}

/// The path of what lies deepest is longer than any that tar can create, so that it is only listed.
#[test]
fn tar_unpacks_everything_that_is_hard_to_keep() {
    let place = Place::created();
    let source = place.path("source");
    fs::create_dir(&source).unwrap();
    testkit::hostile::plant(&source).unwrap();
    let set = |name: &str, value: &[u8]| {
        rustix::fs::setxattr(source.join("attributes/many"), name, value, rustix::fs::XattrFlags::empty()).unwrap();
    };
    set("user.a=b%3D", b"an equals sign");
    set("user.lines", b"1\n2\0\n");
    place.run(&["backup", "source", "--as", "me@box:/data"]).expect(0);
    let (whole, said) = download(&place, "latest", 3);
    assert!(said.contains("specials/socket: a socket, which no archive can hold"), "{said}");
    fs::write(place.path("whole.tar"), &whole).unwrap();
    let listed = Command::new("tar").arg("-tvf").arg(place.path("whole.tar")).output().unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let mut deepest: Vec<&str> =
        listed.lines().filter(|line| line.contains("at the bottom")).map(|line| &line[..1]).collect();
    deepest.sort_unstable();
    assert_eq!(deepest, ["-", "l", "p"], "{listed}");
    let view = place.run(&["download", "latest:specials", "-o", "specials.tar", "--source", "me@box:/data", "--json"]);
    assert_eq!(view.expect(3).json()["shortfallKinds"], serde_json::json!({"special": 1}));

    fs::remove_dir_all(source.join("level 000 of many..")).unwrap();
    fs::remove_file(source.join("specials/socket")).unwrap();
    place.run(&["backup", "source", "--as", "me@box:/data"]).expect(0);
    unpack(&download(&place, "latest", 0).0, &place.path("out"));
    assert_eq!(describe(&place.path("out")), describe(&source));
    for directory in ["names", "specials", "attributes"] {
        unpack(&download(&place, &format!("latest:{directory}"), 0).0, &place.path(directory));
        assert_eq!(describe(&place.path(directory)), describe(&source.join(directory)));
    }
}

#[test]
fn an_archive_that_broke_off_does_not_look_complete() {
    let place = Place::created();
    place.plant("source");
    place.run(&["backup", "source", "--as", "me@box:/data"]).expect(0);
    let packs = walk(&place.path("repo/p"));
    fs::remove_file(&packs[0]).unwrap();
    let broken = place.command().args(["download", "latest", "--source", "me@box:/data"]).output().unwrap();
    assert_eq!(broken.status.code(), Some(5));
    let end = [0; 1024];
    assert!(!broken.stdout.ends_with(&end));
    place.run(&["download", "latest", "--source", "me@box:/data", "-o", "all.tar"]).expect(5);
    let left: Vec<_> = fs::read_dir(place.directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(
        left.iter().all(|name| !name.to_string_lossy().ends_with("tar") && !name.to_string_lossy().ends_with(".part")),
        "{left:?}"
    );
    let mut reader = place.command();
    let mut gone =
        reader.args(["download", "latest", "--source", "me@box:/data"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 16];
    gone.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    drop(gone.stdout.take());
    assert_ne!(gone.wait().unwrap().code(), Some(0));
    place.run(&["download", "latest", "--json"]).expect(2);
}

fn walk(root: &Path) -> Vec<std::path::PathBuf> {
    let mut open = vec![root.to_owned()];
    let mut files = Vec::new();
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { open.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    files
}
