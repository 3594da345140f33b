//! What is particular to directories.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::TryStreamExt;
use storage::{ErrorKind, FilesystemStorage, Layout, PutMode, Storage};

use crate::support::{all, key, kinds};

const PACK: &str = "p0123456789abcdef0123456789abcdef-s0123456789abcdef0";
const PACK_PATH: &str = "p/012/3456789abcdef0123456789abcdef-s0123456789abcdef0.f";

async fn put(store: &FilesystemStorage, name: &str) {
    store.put(&key(name), Bytes::from_static(b"body"), PutMode::Replace).await.unwrap();
}

async fn names(store: &FilesystemStorage) -> Vec<String> {
    let mut names: Vec<String> = store.list("").map_ok(|object| object.key.to_string()).try_collect().await.unwrap();
    names.sort();
    names
}

#[tokio::test]
async fn a_new_directory_is_sharded_as_kopia_does() {
    let directory = tempfile::tempdir().unwrap();
    let store = FilesystemStorage::open(directory.path(), Layout::Kopia).unwrap();
    assert_eq!(names(&store).await, Vec::<String>::new());
    assert!(!directory.path().join(".shards").exists(), "reading writes nothing");
    put(&store, PACK).await;
    let shards = std::fs::read_to_string(directory.path().join(".shards")).unwrap();
    assert_eq!(shards, "{\"default\":[1,3],\"maxNonShardedLength\":20}\n");
    assert!(directory.path().join(PACK_PATH).is_file());
    put(&store, "kopia.repository").await;
    assert!(directory.path().join("kopia.repository.f").is_file());
}

#[tokio::test]
async fn an_old_directory_without_shards_has_three_and_three() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("kopia.repository.f"), "x").unwrap();
    let store = FilesystemStorage::open(directory.path(), Layout::Kopia).unwrap();
    put(&store, PACK).await;
    assert!(directory.path().join("p01/234/56789abcdef0123456789abcdef-s0123456789abcdef0.f").is_file());
    assert!(!directory.path().join(".shards").exists());
}

#[tokio::test]
async fn shards_that_do_not_parse_are_an_error() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(".shards"), "{").unwrap();
    let store = FilesystemStorage::open(directory.path(), Layout::Kopia).unwrap();
    assert_eq!(store.get(&key(PACK)).await.unwrap_err().kind, ErrorKind::Misconfigured);
}

#[tokio::test]
async fn nobody_else_may_read() {
    let directory = tempfile::tempdir().unwrap();
    let store = FilesystemStorage::create(&directory.path().join("new/repo"), Layout::Kopia).unwrap();
    put(&store, PACK).await;
    let mode = |path: PathBuf| path.metadata().unwrap().permissions().mode() & 0o777;
    let root = directory.path().join("new/repo");
    assert_eq!(mode(root.join(PACK_PATH)), 0o600);
    for path in [root.join("p/012"), root.join("p"), root.clone(), directory.path().join("new")] {
        assert_eq!(mode(path.clone()), 0o700, "{}", path.display());
    }
}

#[tokio::test]
async fn a_missing_root_is_a_missing_store() {
    for layout in [Layout::Kopia, Layout::Plain] {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("repo");
        assert_eq!(FilesystemStorage::open(&root, layout).unwrap_err().kind, ErrorKind::StoreMissing);
        let store = FilesystemStorage::create(&root, layout).unwrap();
        put(&store, PACK).await;
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(kinds(&store, PACK).await, all(ErrorKind::StoreMissing), "{layout:?}");
        assert!(!root.exists(), "nothing makes the root again");
        let fresh = FilesystemStorage::create(&root, layout).unwrap();
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(kinds(&fresh, "xe5").await, all(ErrorKind::StoreMissing), "{layout:?}");
    }
}

#[tokio::test]
async fn directories_that_went_away_are_made_again() {
    let directory = tempfile::tempdir().unwrap();
    let store = FilesystemStorage::open(directory.path(), Layout::Kopia).unwrap();
    put(&store, PACK).await;
    std::fs::remove_dir_all(directory.path().join("p")).unwrap();
    put(&store, PACK).await;
    assert_eq!(names(&store).await, [PACK]);
}

#[tokio::test]
async fn unfinished_and_foreign_files_are_not_listed() {
    let directory = tempfile::tempdir().unwrap();
    let store = FilesystemStorage::open(directory.path(), Layout::Kopia).unwrap();
    put(&store, PACK).await;
    let write = |path: String| std::fs::write(directory.path().join(path), "half").unwrap();
    write(format!("{PACK_PATH}.tmp.0123456789abcdef"));
    write("kopia.repository.f.tmp.0123456789abcdef".to_owned());
    write("README".to_owned());
    write("p/note.txt".to_owned());
    std::fs::create_dir(directory.path().join("lost+found")).unwrap();
    write("lost+found/x.f".to_owned());
    assert_eq!(names(&store).await, [PACK]);

    let directory = tempfile::tempdir().unwrap();
    let store = FilesystemStorage::open(directory.path(), Layout::Plain).unwrap();
    put(&store, "data/01/01ab").await;
    std::fs::write(directory.path().join("data/01/01ac.tmp.0123456789abcdef"), "half").unwrap();
    assert_eq!(names(&store).await, ["data/01/01ab"]);
}

#[tokio::test]
async fn a_put_that_fails_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = FilesystemStorage::open(directory.path(), Layout::Plain).unwrap();
    put(&store, "data/x").await;
    let onto_directory = store.put(&key("data"), Bytes::from_static(b"x"), PutMode::Replace).await;
    assert_eq!(onto_directory.unwrap_err().kind, ErrorKind::Misconfigured);
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["data"]);
    assert_eq!(store.get(&key("data")).await.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(store.stat(&key("data")).await.unwrap_err().kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn names_that_leave_the_root_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("repo");
    let plain = FilesystemStorage::create(&root, Layout::Plain).unwrap();
    for name in ["../x", "/etc/x", "a/../../x", "a//b", "a/", ".", "a\0b", "x.tmp.0123456789abcdef"] {
        assert_eq!(
            kinds(&plain, name).await.map(|kind| kind.unwrap_or(ErrorKind::Misconfigured)),
            [ErrorKind::Misconfigured; 7]
        );
        assert_eq!(plain.get(&key(name)).await.unwrap_err().kind, ErrorKind::Misconfigured, "{name:?}");
    }
    std::fs::write(root.join(".shards"), r#"{"default":[2],"maxNonShardedLength":0}"#).unwrap();
    let kopia = FilesystemStorage::open(&root, Layout::Kopia).unwrap();
    for name in ["..x", "a/b", "/x"] {
        assert_eq!(kopia.get(&key(name)).await.unwrap_err().kind, ErrorKind::Misconfigured, "{name:?}");
    }
    assert!(!directory.path().join("x").exists() && !directory.path().join("x.f").exists());
}

#[tokio::test]
async fn repositories_of_kopia_list_right() {
    for repository in ["default", "concurrent"] {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(repository);
        let store = FilesystemStorage::open(&data.join("repo"), Layout::Kopia).unwrap();
        let mut listed: Vec<_> = store.list("").try_collect().await.unwrap();
        listed.sort_by(|a, b| a.key.cmp(&b.key));
        let lines: String = listed.iter().map(|object| format!("{} {}\n", object.size_bytes, object.key)).collect();
        assert_eq!(lines, std::fs::read_to_string(data.join("blobs.txt")).unwrap(), "{repository}");
        for object in listed {
            assert_eq!(store.get(&object.key).await.unwrap().len() as u64, object.size_bytes, "{}", object.key);
        }
    }
}
