//! Trees with what only this program keeps: stock kopia reads, checks, maintains and continues the repository, and what it
//! cannot say is there again with the next backup.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use serde_json::Value;

use crate::full::script;
use crate::kopia::Kopia;
use crate::support::{Place, Ran, describe};

fn planted(place: &Place) -> std::path::PathBuf {
    let source = place.path("source");
    fs::create_dir(&source).unwrap();
    testkit::hostile::plant(&source).unwrap();
    source
}

#[track_caller]
fn back_up(place: &Place) -> Value {
    let report = place.run(&["backup", "source", "--as", "me@box:/data", "--json"]).expect(0).json();
    assert_eq!((&report["complete"], &report["shortfallCount"]), (&true.into(), &0.into()), "{report}");
    report
}

#[track_caller]
fn assert_restores(place: &Place, name: &str) {
    let report = place.run(&["restore", "latest", name, "--source", "me@box:/data", "--json"]).expect(0).json();
    assert_eq!((&report["complete"], &report["shortfallCount"]), (&true.into(), &0.into()), "{report}");
    assert_eq!(describe(&place.path(name)), describe(&place.path("source")));
}

fn connected(place: &Place) -> Kopia<'_> {
    let kopia = Kopia::on(place);
    let repository = format!("--path={}", place.text("repo"));
    kopia.run(&["repository", "connect", "filesystem", &repository, "--no-persist-credentials"]);
    kopia
}

fn roots(kopia: &Kopia<'_>) -> Vec<Value> {
    serde_json::from_str(&kopia.run(&["snapshot", "list", "--all", "--json"])).unwrap()
}

/// Everything that kopia can restore: names, kinds and contents of files, directories and links.
fn files_in(root: &Path) -> usize {
    let mut open = vec![root.to_owned()];
    let mut count = 0;
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            count += usize::from(metadata.is_file());
            if metadata.is_dir() {
                open.push(path);
            }
        }
    }
    count
}

#[test]
fn kopia_passes_over_what_only_we_can_say() {
    let place = Place::created();
    let source = planted(&place);
    let first = back_up(&place);
    let kopia = connected(&place);
    let listed = roots(&kopia);
    let (snapshot, root) = (listed[0]["id"].as_str().unwrap(), listed[0]["rootEntry"]["obj"].as_str().unwrap());
    assert!(kopia.run(&["ls", "-l", root]).contains("hard links/"));
    assert!(kopia.run(&["show", root]).contains("\"perennial\":{"));
    kopia.run(&["snapshot", "verify", "--verify-files-percent=100"]);
    kopia.run(&["content", "verify", "--full", "--download-percent=100"]);
    // All files, under names of their own; the deep ones lie beyond the longest path that kopia can name.
    let names = format!("{root}/names");
    kopia.run(&["snapshot", "restore", &names, &place.text("names")]);
    assert_eq!(files_in(&place.path("names")), files_in(&source.join("names")));
    kopia.run(&["snapshot", "pin", snapshot, "--add=kept"]);
    assert_restores(&place, "pinned");

    // Kopia's own snapshot knows nothing of it; the next of ours does again, and both share all contents of files.
    kopia.run(&["snapshot", "create", &place.text("source"), "--override-source=me@box:/data"]);
    let again = back_up(&place);
    assert_eq!(again["rootId"], first["rootId"]);
    assert_eq!(again["bytesNew"], 0);
    assert_restores(&place, "after-kopia");

    // Kopia's garbage collection loses directories of its own snapshots whose names have become the same: see
    // docs/file-model.md. Those of ours have not.
    let its_own = roots(&kopia)[1]["id"].as_str().unwrap().to_owned();
    kopia.run(&["snapshot", "delete", &its_own, "--delete"]);
    kopia.run(&["maintenance", "set", "--owner=me"]);
    for safety in ["full", "none", "none"] {
        kopia.run(&["maintenance", "run", "--full", &format!("--safety={safety}")]);
    }
    kopia.run(&["content", "verify", "--full", "--download-percent=100"]);
    kopia.run(&["snapshot", "verify", "--verify-files-percent=100"]);
    place.run(&["verify", "--read-percent", "100"]).expect(0);
    assert_restores(&place, "after-maintenance");
}

/// A disk image with little in it: kopia reads all of it, this program only what is there, and both store the same.
#[test]
fn holes_are_not_read_and_are_holes_again() {
    let place = Place::created();
    fs::create_dir(place.path("source")).unwrap();
    let image = fs::File::create(place.path("source/image")).unwrap();
    image.set_len(300 << 20).unwrap();
    for (offset, text) in [(5, "at the beginning"), (100_000_000, "in the middle"), ((300 << 20) - 3, "end")] {
        std::os::unix::fs::FileExt::write_all_at(&image, text.as_bytes(), offset).unwrap();
    }
    let kopia = connected(&place);
    kopia.run(&["snapshot", "create", &place.text("source"), "--override-source=me@box:/data"]);
    let restored = |name: &str| {
        assert_restores(&place, name);
        let allocated = std::os::unix::fs::MetadataExt::blocks(&fs::metadata(place.path(name).join("image")).unwrap());
        assert!(allocated * 512 < 1 << 20, "{allocated} blocks");
    };
    restored("of-kopia");
    let options = ["backup", "source", "--as", "me@box:/data", "--read-all", "--json"];
    let report = place.run(&options).expect(0).json();
    assert_eq!(report["bytesNew"], 0, "{report}");
    assert!(report["bytesRead"].as_u64().unwrap() < 1 << 20, "{report}");
    restored("of-ours");
}

#[test]
fn what_kopia_rewrites_is_whole_again_with_the_next_backup() {
    let place = Place::created();
    planted(&place);
    fs::write(place.path("source/unwanted"), "unwanted").unwrap();
    back_up(&place);
    let kopia = connected(&place);
    kopia.run(&["snapshot", "fix", "remove-files", "--filename=unwanted", "--commit"]);
    let root = roots(&kopia)[0]["rootEntry"]["obj"].as_str().unwrap().to_owned();
    assert!(
        !kopia.run(&["show", &root]).contains("perennial"),
        "kopia now keeps it: ADR 5 and the format say otherwise"
    );
    place.run(&["verify", "--read-percent", "100"]).expect(0);
    place.run(&["restore", "latest", "fixed", "--source", "me@box:/data"]).expect(0);
    assert_eq!(files_in(&place.path("fixed")), files_in(&place.path("source")) - 1);
    let report = back_up(&place);
    assert_eq!(report["bytesNew"], 0);
    assert_restores(&place, "again");
}

/// Two directories and a file on each level: whatever is done first, something waits on all of them.
#[test]
fn a_tree_may_be_deeper_than_files_may_be_open() {
    const LEVELS: usize = 300;
    let place = Place::created();
    let mut below = place.path("source");
    fs::create_dir(&below).unwrap();
    for level in 0..LEVELS {
        for name in ["a", "z"] {
            fs::create_dir(below.join(name)).unwrap();
            fs::write(below.join(name).join("file"), format!("{level} {name}")).unwrap();
        }
        below.push(if level % 2 == 0 { "a" } else { "z" });
    }
    let limited = |arguments: &[&str]| {
        let mut command = std::process::Command::new("sh");
        command
            .args(["-c", "ulimit -n 200; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_perennial")])
            .args(arguments)
            .env("HOME", place.directory.path())
            .env("PERENNIAL_STORE", format!("file:{}", place.text("repo")))
            .env("PERENNIAL_PASSWORD", crate::support::PASSWORD)
            .current_dir(place.directory.path());
        Ran::of(&command.output().unwrap()).expect(0)
    };
    limited(&["backup", "source", "--as", "me@box:/data"]);
    limited(&["diff", "latest", "./source", "--read-all"]);
    limited(&["restore", "latest", "out"]);
    assert_eq!(describe(&place.path("out")), describe(&place.path("source")));
    limited(&["restore", "latest", "out", "--delete"]);
}

/// Neither attributes nor names shared between file systems: what is there is whole, and what is missing is named.
#[test]
fn a_target_that_can_hold_less_gets_the_data_and_the_rest_is_named() {
    let place = Place::created();
    let source = place.path("source");
    fs::create_dir_all(source.join("elsewhere")).unwrap();
    fs::write(source.join("file"), crate::support::noise(100_000)).unwrap();
    symlink("file", source.join("link")).unwrap();
    for name in ["file", "link"] {
        fs::hard_link(source.join(name), source.join("elsewhere").join(name)).unwrap();
    }
    for name in ["", "file"] {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(source.join(name), "user.ours", b"1", flags).unwrap();
    }
    back_up(&place);
    fs::create_dir(place.path("out")).unwrap();
    let ran = script(
        &place,
        r#"
        mount -t ramfs none out
        mkdir out/elsewhere
        mount -t ramfs none out/elsewhere
        code=0
        $P restore latest out --source me@box:/data --json || code=$?
        echo "code $code" >&2
        cmp out/file source/file
        cmp out/elsewhere/file source/file
        test "$(readlink out/elsewhere/link)" = file
        test "$(stat -c %y out/elsewhere/file)" = "$(stat -c %y source/file)"
        "#,
    );
    let ran = ran.expect(0);
    assert_eq!(ran.stderr.trim(), "code 3");
    assert_eq!(ran.json()["shortfallKinds"], serde_json::json!({"attributes": 3, "hardLink": 2}), "{ran:?}");
}

/// `nobody`, on most systems.
const NOBODY: u32 = 65534;

#[test]
fn who_may_not_give_it_back_gets_the_data_and_hears_what_is_missing() {
    let place = Place::created();
    let source = place.path("source");
    fs::create_dir(&source).unwrap();
    let file = source.join("file");
    fs::write(&file, "data").unwrap();
    fs::hard_link(&file, source.join("link")).unwrap();
    let set = |name: &str, value: &[u8]| {
        rustix::fs::setxattr(&file, name, value, rustix::fs::XattrFlags::empty()).unwrap();
    };
    set("user.ours", b"1");
    set("trusted.roots", b"1");
    set("security.capability", testkit::hostile::CAPABILITY);
    let device = rustix::fs::makedev(1, 3);
    let (kind, mode) = (rustix::fs::FileType::CharacterDevice, rustix::fs::Mode::RUSR);
    rustix::fs::mknodat(rustix::fs::CWD, source.join("null"), kind, mode, device).unwrap();
    back_up(&place);
    for path in ["", "repo"] {
        fs::set_permissions(place.path(path), fs::Permissions::from_mode(0o777)).unwrap();
    }
    let opened = std::process::Command::new("chmod").arg("-R").arg("a+rwX").arg(place.path("repo")).status().unwrap();
    assert!(opened.success());
    let program = place.path("perennial");
    fs::copy(env!("CARGO_BIN_EXE_perennial"), &program).unwrap();
    let mut command = std::process::Command::new(&program);
    command
        .env_clear()
        .env("HOME", place.text("home"))
        .env("PERENNIAL_STORE", format!("file:{}", place.text("repo")))
        .env("PERENNIAL_PASSWORD", crate::support::PASSWORD)
        .current_dir(place.directory.path())
        .args(["restore", "latest", "out", "--source", "me@box:/data", "--json"])
        .uid(NOBODY)
        .gid(NOBODY);
    let report = Ran::of(&command.output().unwrap()).expect(0).json();
    assert_eq!(report["shortfallKinds"], serde_json::json!({"attributes": 1, "special": 1}), "{report}");
    assert_eq!(fs::read_to_string(place.path("out/link")).unwrap(), "data");
    assert!(!place.path("out/null").exists());
    let described = describe(&place.path("out"));
    assert!(described.contains("user.ours=31 same as file"), "{described}");
}
