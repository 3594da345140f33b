//! Repair, and then the real kopia on the same repository; and what the next backup heals.

use std::fs;
use std::path::{Path, PathBuf};

use crate::kopia::Kopia;
use crate::support::{Place, describe};

fn objects(place: &Place, repository: &str, prefix: &str) -> Vec<PathBuf> {
    let root = place.path(repository);
    let mut open = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name: String = path.strip_prefix(&root).unwrap().to_str().unwrap().replace('/', "");
            if path.is_dir() {
                open.push(path);
            } else if name.starts_with(prefix) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
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

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

fn kopia_on(place: &Place) -> Kopia<'_> {
    let kopia = Kopia::on(place);
    kopia.run(&["repository", "connect", "filesystem", &format!("--path={}", place.text("repo"))]);
    kopia
}

#[test]
fn the_next_backup_heals_what_was_lost_and_older_snapshots_with_it() {
    for damage in ["gone", "cut", "flipped"] {
        let place = Place::created();
        let source = place.plant("source");
        let first = place.run(&["backup", "source", "--as", "me@box:/data", "--json"]).expect(0).json();
        let pack = objects(&place, "repo", "p").remove(0);
        match damage {
            "gone" => fs::remove_file(&pack).unwrap(),
            "cut" => fs::write(&pack, &fs::read(&pack).unwrap()[..1000]).unwrap(),
            _ => flip(&pack, 5000),
        }
        place.run(&["repair", "--dry-run", "--read-percent", "100"]).expect(5);
        let text = place.run(&["repair", "--read-percent", "100"]).expect(5).stdout;
        assert!(text.contains("lost, to be stored again by the next backup"), "{text}");
        // Kopia heals what it would not have noticed, and older snapshots with it.
        let kopia = kopia_on(&place);
        kopia.run(&["snapshot", "create", &place.text("source"), "--override-source=me@box:/data", "--force-hash=100"]);
        kopia.run(&["content", "verify", "--full", "--download-percent=100"]);
        kopia.run(&["snapshot", "verify", "--verify-files-percent=100"]);
        place.run(&["verify", "--read-percent", "100"]).expect(0);
        let id = first["snapshot"].as_str().unwrap();
        place.run(&["restore", id, "out"]).expect(0);
        assert_eq!(describe(&place.path("out")), describe(&source), "{damage}");
        place.run(&["repair", "--read-percent", "100"]).expect(0);
    }
}

#[test]
fn our_next_backup_heals_too() {
    let place = Place::created();
    let source = place.plant("source");
    let first = place.run(&["backup", "source", "--as", "me@box:/data", "--json"]).expect(0).json();
    flip(&objects(&place, "repo", "p")[0], 5000);
    place.run(&["repair", "--read-percent", "100"]).expect(5);
    place.run(&["backup", "source", "--as", "me@box:/data"]).expect(0);
    place.run(&["verify", "--read-percent", "100"]).expect(0);
    place.run(&["restore", first["snapshot"].as_str().unwrap(), "out"]).expect(0);
    assert_eq!(describe(&place.path("out")), describe(&source));
}

#[test]
fn kopia_works_again_after_repair() {
    let place = Place::created();
    let source = place.plant("source");
    place.run(&["backup", "source", "--as", "me@box:/data"]).expect(0);
    for index in objects(&place, "repo", "xn") {
        flip(&index, 40);
    }
    fs::write(place.path("repo/kopia.maintenance.f"), "no schedule").unwrap();
    let format = place.path("repo/kopia.repository.f");
    let mut text = fs::read(&format).unwrap();
    let at = String::from_utf8_lossy(&text).find("encryptedBlockFormat").unwrap() + 300;
    // Still base64.
    text[at] = if text[at] == b'A' { b'B' } else { b'A' };
    fs::write(&format, text).unwrap();
    place.run(&["snapshots"]).expect(4);
    place.run(&["repair"]).expect(0);
    assert!(!objects(&place, "repo", "aside_").is_empty());
    place.run(&["repair"]).expect(0);
    let kopia = kopia_on(&place);
    kopia.run(&["content", "verify", "--full", "--download-percent=100"]);
    kopia.run(&["snapshot", "verify", "--verify-files-percent=100"]);
    kopia.run(&["snapshot", "create", &place.text("source"), "--override-source=me@box:/data"]);
    kopia.run(&["maintenance", "set", "--owner=me"]);
    kopia.run(&["maintenance", "run", "--full"]);
    place.run(&["restore", "latest", "out", "--source", "me@box:/data"]).expect(0);
    assert_eq!(describe(&place.path("out")), describe(&source));
}

/// Two clients stored the same files without knowing of each other: each content lies in two packs.
#[test]
fn another_copy_of_a_lost_content_is_found() {
    let place = Place::created();
    let source = place.plant("source");
    copy(&place.path("repo"), &place.path("twin"));
    place.run(&["backup", "source", "--as", "me@box:/data"]).expect(0);
    let own = objects(&place, "repo", "p");
    let twin = format!("file:{}", place.text("twin"));
    place.run(&["backup", "source", "--as", "you@box:/data", "--store", &twin]).expect(0);
    copy(&place.path("twin"), &place.path("repo"));
    let twins: Vec<PathBuf> = objects(&place, "repo", "p").into_iter().filter(|pack| !own.contains(pack)).collect();
    for packs in [own, twins] {
        copy(&place.path("repo"), &place.path("both"));
        let both = format!("file:{}", place.text("both"));
        for pack in &packs {
            fs::remove_file(place.path("both").join(pack.strip_prefix(place.path("repo")).unwrap())).unwrap();
        }
        place.run(&["repair", "--store", &both]).expect(0);
        place.run(&["verify", "--read-percent", "100", "--store", &both]).expect(0);
        place.run(&["restore", "latest", "out", "--source", "me@box:/data", "--store", &both]).expect(0);
        assert_eq!(describe(&place.path("out")), describe(&source));
        fs::remove_dir_all(place.path("both")).unwrap();
        fs::remove_dir_all(place.path("out")).unwrap();
    }
}
