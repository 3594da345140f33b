//! The same tree from both programs is the same bytes: neither stores again what the other stored.

use std::fs;

use serde_json::Value;

use crate::kopia::Kopia;
use crate::support::{Place, describe};

fn kopia_on(place: &Place) -> Kopia<'_> {
    let kopia = Kopia::on(place);
    kopia.run(&["repository", "connect", "filesystem", &format!("--path={}", place.text("repo"))]);
    kopia
}

/// Names of all packs of file data.
fn data_packs(place: &Place) -> usize {
    let mut open = vec![place.path("repo/p")];
    let mut count = 0;
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { open.push(path) } else { count += 1 }
        }
    }
    count
}

fn roots(kopia: &Kopia<'_>) -> Vec<String> {
    let listed: Value = serde_json::from_str(&kopia.run(&["snapshot", "list", "--all", "--json"])).unwrap();
    let root = |snapshot: &Value| snapshot["rootEntry"]["obj"].as_str().unwrap().to_owned();
    listed.as_array().unwrap().iter().map(root).collect()
}

#[test]
fn kopia_after_us_and_we_after_kopia_store_nothing_new() {
    let place = Place::created();
    place.plant("source");
    let source = place.text("source");
    place.run(&["backup", "source", "--as", "me@box:/data"]).expect(0);
    let kopia = kopia_on(&place);
    let packs = data_packs(&place);
    kopia.run(&["snapshot", "create", &source, "--override-source=me@box:/data"]);
    kopia.run(&["snapshot", "create", &source, "--override-source=other@box:/data"]);
    assert_eq!(data_packs(&place), packs);
    let ours = place.run(&["backup", "source", "--as", "third@box:/data", "--json"]).expect(0).json();
    assert_eq!(ours["bytesNew"], 0);
    assert_eq!(data_packs(&place), packs);
    let roots = roots(&kopia);
    assert_eq!(roots, vec![roots[0].clone(); 4]);
}

#[test]
fn kopia_maintains_what_we_wrote_and_it_still_restores() {
    let place = Place::created();
    let source = place.plant("source");
    place.run(&["backup", "source", "--as", "me@box:/data"]).expect(0);
    fs::write(source.join("hello.txt"), "changed\n").unwrap();
    place.run(&["backup", "source", "--as", "me@box:/data"]).expect(0);
    place.run(&["forget", "--source", "me@box:/data", "--keep-latest", "1"]).expect(0);
    let kopia = kopia_on(&place);
    kopia.run(&["maintenance", "set", "--owner=me"]);
    kopia.run(&["maintenance", "run", "--full"]);
    kopia.run(&["maintenance", "run", "--full", "--safety=none"]);
    kopia.run(&["maintenance", "run", "--full", "--safety=none"]);
    kopia.run(&["content", "verify", "--full", "--download-percent=100"]);
    kopia.run(&["snapshot", "verify", "--verify-files-percent=100"]);
    place.run(&["verify", "--read-percent", "100"]).expect(0);
    place.run(&["restore", "latest", "out", "--source", "me@box:/data"]).expect(0);
    assert_eq!(describe(&place.path("out")), describe(&source));
    fs::write(source.join("hello.txt"), "again\n").unwrap();
    place.run(&["backup", "source", "--as", "me@box:/data"]).expect(0);
    kopia.run(&["snapshot", "verify", "--verify-files-percent=100"]);
}

#[test]
fn every_compressor_in_use_is_kopias() {
    let place = Place::created();
    let source = place.plant("source");
    for compression in ["zstd-fastest", "s2-default", "gzip", "zstd"] {
        let identity = format!("{compression}@box:/data");
        place.run(&["backup", "source", "--as", &identity, "--compression", compression]).expect(0);
    }
    let kopia = kopia_on(&place);
    kopia.run(&["content", "verify", "--full", "--download-percent=100"]);
    kopia.run(&["snapshot", "verify", "--verify-files-percent=100"]);
    assert_eq!(roots(&kopia).len(), 4);
    place.run(&["restore", "latest", "out", "--source", "zstd@box:/data"]).expect(0);
    assert_eq!(describe(&place.path("out")), describe(&source));
}
