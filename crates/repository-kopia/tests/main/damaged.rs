//! Repositories with one defect each: the right error, naming the object; and what is whole can still be read.

use std::sync::Arc;

use futures::TryStreamExt as _;
use repository::SystemClock;
use repository_kopia::{Password, Repository};
use storage::{Class, FilesystemStorage, Layout, ObjectKey, PutMode, Storage as _};

use super::{client, data, folders, open};

const PACK: &str = "p86a8434ebe97513854114bf8a26b8215-seb88d81eafb03cb6147";
const METADATA_PACK: &str = "qb06d1a264f994844437f0380feafd4ac-seb88d81eafb03cb6147";
const INDEX: &str = "xn0_5bc011ecc34b6c476323f230a066487c-seb88d81eafb03cb6147-c1";
const FLIPPED_CONTENT: &str = "c5456538141f8115a2e2588059dc3c3c";
const WHOLE_CONTENT: &str = "7d928c86cbca95d26511e5ee9192a6cc";

async fn opened(name: &str) -> repository_kopia::Repository {
    open(&data("golden-damaged").join(name), "correct horse").await.unwrap()
}

#[test]
fn every_damaged_repository_is_known() {
    let expected = [
        "ecc10-repairable",
        "flipped-byte-in-index",
        "flipped-byte-in-pack",
        "flipped-format-blob",
        "missing-index",
        "missing-metadata-pack",
        "missing-pack",
        "truncated-index",
        "truncated-pack",
    ];
    assert_eq!(folders("golden-damaged"), expected);
}

#[tokio::test]
async fn a_flipped_byte_in_a_pack_names_the_content_and_spares_the_others() {
    let repository = opened("flipped-byte-in-pack").await;
    let error = repository.content(&FLIPPED_CONTENT.parse().unwrap()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("content {FLIPPED_CONTENT} in pack {PACK} is damaged: it does not decrypt: its bytes changed")
    );
    assert_eq!(error.class(), Class::Damaged);
    assert_eq!(repository.content(&WHOLE_CONTENT.parse().unwrap()).await.unwrap(), b"hello\n");
}

#[tokio::test]
async fn a_missing_pack_is_found_by_looking() {
    let repository = opened("missing-pack").await;
    let survey = repository.survey().await.unwrap();
    let problems: Vec<String> =
        repository.index().index().iter().filter_map(|entry| survey.problem(&entry.unwrap())).collect();
    assert_eq!(problems, vec![format!("pack {PACK} is missing"); 6]);
    let error = repository.content(&WHOLE_CONTENT.parse().unwrap()).await.unwrap_err();
    assert!(error.to_string().contains(PACK), "{error}");
    assert_eq!(error.class(), Class::Damaged);
    assert_eq!(repository.snapshots().await.unwrap().snapshots.len(), 1);
}

#[tokio::test]
async fn a_truncated_pack_is_found_by_looking() {
    let repository = opened("truncated-pack").await;
    let survey = repository.survey().await.unwrap();
    let problems: Vec<String> =
        repository.index().index().iter().filter_map(|entry| survey.problem(&entry.unwrap())).collect();
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(problems[0].starts_with(&format!("pack {PACK} is cut off: 21022 bytes")), "{problems:?}");
    assert_eq!(repository.content(&WHOLE_CONTENT.parse().unwrap()).await.unwrap(), b"hello\n");
}

#[tokio::test]
async fn a_missing_metadata_pack_makes_the_listing_incomplete_not_empty() {
    let repository = opened("missing-metadata-pack").await;
    let listing = repository.snapshots().await.unwrap();
    assert!(listing.snapshots.is_empty());
    assert_eq!(listing.damage.len(), 1);
    assert_eq!(listing.damage[0].class(), Class::Damaged);
    let chain = format!("{}: {}", listing.damage[0], std::error::Error::source(&listing.damage[0]).unwrap());
    assert!(chain.contains(METADATA_PACK), "{chain}");
}

#[tokio::test]
async fn a_lost_index_blob_is_found_by_its_packs() {
    let repository = opened("missing-index").await;
    let listing = repository.snapshots().await.unwrap();
    assert!(listing.snapshots.is_empty() && listing.damage.is_empty(), "nothing else can tell");
    let survey = repository.survey().await.unwrap();
    let lost: Vec<(&str, usize)> =
        survey.lost_to_the_index.iter().map(|lost| (lost.pack.as_str(), lost.contents.len())).collect();
    assert_eq!(lost, [(PACK, 6), (METADATA_PACK, 3)]);
}

#[tokio::test]
async fn an_unreadable_index_blob_is_named_and_nothing_is_written_meanwhile() {
    for name in ["truncated-index", "flipped-byte-in-index"] {
        let repository = opened(name).await;
        let damage = repository.damage();
        assert_eq!(damage.len(), 1, "{name}");
        assert!(damage[0].starts_with(&format!("index blob {INDEX} is damaged: ")), "{name}: {damage:?}");
        assert!(!repository.snapshots().await.unwrap().damage.is_empty(), "{name}");
        let error = repository.begin().await.err().unwrap();
        assert!(error.to_string().contains(INDEX), "{name}: {error}");
    }
}

#[tokio::test]
async fn a_damaged_format_blob_and_a_wrong_password_are_one_case_with_both_hints() {
    let path = data("golden-damaged").join("flipped-format-blob");
    let error = open(&path, "correct horse").await.err().unwrap();
    assert_eq!(error.to_string(), "kopia.repository does not open with this password");
    assert!(error.hint().unwrap().contains("damaged"));
}

#[tokio::test]
async fn bytes_that_rotted_are_repaired_where_there_is_parity() {
    let repository = opened("ecc10-repairable").await;
    assert!(repository.damage().is_empty());
    for entry in repository.index().index().iter() {
        repository.content(&entry.unwrap().content).await.unwrap();
    }
    assert_eq!(repository.snapshots().await.unwrap().damage.len(), 0);
    assert!(repository.repaired_count() > 0);
}

/// The index blob of a pack is lost, and then the pack's end rots or is cut off: nobody can say any more what it held.
#[tokio::test]
async fn a_pack_that_no_index_names_and_that_cannot_say_what_it_holds_is_found() {
    let source = data("golden-damaged").join("missing-index");
    let store = FilesystemStorage::open(&source, Layout::Kopia).unwrap();
    let whole = store.get(&ObjectKey::new(PACK)).await.unwrap();
    let with_end = async |pack: Vec<u8>| {
        let copy = testkit::MemoryStore::new();
        let names: Vec<_> = store.list("").map_ok(|object| object.key).try_collect().await.unwrap();
        for key in names {
            copy.put(&key, store.get(&key).await.unwrap(), PutMode::Replace).await.unwrap();
        }
        copy.tamper(PACK, pack);
        let password = Password::new("correct horse");
        let repository = Repository::open(Arc::new(copy), &password, client(), Arc::new(SystemClock)).await.unwrap();
        let survey = repository.survey().await.unwrap();
        let unreadable: Vec<_> = survey.unreadable.into_iter().map(|found| (found.is_damaged, found.detail)).collect();
        assert_eq!(survey.lost_to_the_index.len() + unreadable.len(), 2);
        unreadable
    };
    assert_eq!(with_end(whole.to_vec()).await, []);
    let mut rotten = whole.to_vec();
    // Inside the local index, before its pointer.
    let at = rotten.len() - 60;
    rotten[at] ^= 1;
    assert_eq!(with_end(rotten).await, [(true, "its local index does not decrypt".to_owned())]);
    let cut = whole[..whole.len() - 30].to_vec();
    assert_eq!(with_end(cut).await, [(false, "it does not end in a local index".to_owned())]);
}
