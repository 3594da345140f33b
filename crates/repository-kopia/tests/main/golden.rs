//! Repositories that the real kopia wrote: each opens and holds what kopia says it holds.

use std::collections::BTreeMap;

use repository_kopia::Repository;
use ring::digest::{SHA256, digest};
use serde::Deserialize;

use super::{data, folders, open};

const GOLDEN: [&str; 13] = [
    "all-compressors",
    "blake3-chacha-rabinkarp-s2",
    "concurrent",
    "default",
    "ecc10",
    "ecc2",
    "epochs",
    "format1",
    "format1-upgraded",
    "format2",
    "incomplete",
    "sha3-224-fixed-pgzip",
    "v3-zstd",
];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Expected {
    password: String,
    #[serde(rename = "uniqueID")]
    unique_id: String,
    write_epoch: Option<u64>,
    active_indexes: Vec<String>,
    snapshots: Vec<ExpectedSnapshot>,
    contents: Vec<ExpectedContent>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExpectedSnapshot {
    id: String,
    manifest: serde_json::Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExpectedContent {
    id: String,
    pack: String,
    offset: u32,
    packed_length: u32,
    original_length: u32,
    compression: String,
    timestamp: u64,
    deleted: bool,
    sha256: Option<String>,
}

fn expected(name: &str) -> Expected {
    let text = std::fs::read(data("golden").join(name).join("expected.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

#[test]
fn every_golden_repository_is_listed() {
    assert_eq!(folders("golden"), GOLDEN);
}

#[tokio::test]
async fn golden_repositories_hold_what_kopia_says() {
    for name in GOLDEN {
        let expected = expected(name);
        let opened = open(&data("golden").join(name).join("repo"), &expected.password).await;
        check(name, &opened.unwrap_or_else(|error| panic!("{name} does not open: {error}")), &expected).await;
    }
}

async fn check(name: &str, repository: &Repository, expected: &Expected) {
    let description = repository.description();
    assert_eq!(description.unique_id, expected.unique_id, "{name}");
    assert_eq!(description.write_epoch, expected.write_epoch, "{name}");
    assert_eq!(description.index_blob_count, expected.active_indexes.len(), "{name}");
    assert!(repository.damage().is_empty(), "{name}");
    check_snapshots(name, repository, expected).await;
    check_contents(name, repository, expected).await;
    assert!(repository.survey().await.unwrap().lost_to_the_index.is_empty(), "{name}");
}

async fn check_snapshots(name: &str, repository: &Repository, expected: &Expected) {
    let listing = repository.snapshots().await.unwrap();
    assert!(listing.damage.is_empty(), "{name}: {:?}", listing.damage);
    let found: BTreeMap<&str, _> = listing.snapshots.iter().map(|snapshot| (snapshot.id.as_str(), snapshot)).collect();
    assert_eq!(found.len(), expected.snapshots.len(), "{name}");
    for ExpectedSnapshot { id, manifest } in &expected.snapshots {
        let snapshot = found[id.as_str()];
        let root = snapshot.root.as_ref().unwrap();
        let text = |pointer: &str| manifest.pointer(pointer).and_then(|value| value.as_str()).unwrap_or("");
        assert_eq!(snapshot.identity.user, text("/source/userName"), "{name}");
        assert_eq!(snapshot.identity.host, text("/source/host"), "{name}");
        assert_eq!(snapshot.identity.path, text("/source/path"), "{name}");
        assert_eq!(snapshot.start, text("/startTime").parse().unwrap(), "{name}");
        assert_eq!(snapshot.description, text("/description"), "{name}");
        assert_eq!(snapshot.incomplete.as_deref().unwrap_or(""), text("/incomplete"), "{name}");
        assert_eq!(root.data.as_str(), text("/rootEntry/obj"), "{name}");
        let directory = repository.directory(&root.data).await.unwrap();
        assert_eq!(directory.summary, root.summary.as_deref().cloned(), "{name}");
    }
}

async fn check_contents(name: &str, repository: &Repository, expected: &Expected) {
    let view = repository.index();
    assert_eq!(view.index().len(), expected.contents.len(), "{name}");
    for wanted in &expected.contents {
        let id = wanted.id.parse().unwrap();
        let entry = view.index().find(&id).unwrap().unwrap_or_else(|| panic!("{name}: content {id} is not found"));
        let location = &entry.location;
        assert_eq!(location.pack.as_str(), wanted.pack, "{name} {id}");
        assert_eq!(
            (location.offset, location.packed_bytes, location.original_bytes),
            (wanted.offset, wanted.packed_length, wanted.original_length),
            "{name} {id}"
        );
        assert_eq!(format!("{:08x}", location.compression), wanted.compression, "{name} {id}");
        assert_eq!((entry.timestamp_seconds, entry.deleted), (wanted.timestamp, wanted.deleted), "{name} {id}");
        let Some(sha256) = &wanted.sha256 else { continue };
        let bytes = repository.content(&id).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(hex::encode(digest(&SHA256, &bytes)), *sha256, "{name} {id}");
    }
}
