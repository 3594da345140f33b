//! Directories, with a repository for each claim: what is empty for a good reason and what is not.

use std::path::Path;
use std::sync::Arc;

use api::decide::{Claim, Location};
use api::ledger::STORE_MARKER;
use api::mover::Layout;
use api::naming::Identity;
use catalog::{Catalog, Options};
use repository::SystemClock;
use repository_kopia::Password;
use storage::{Address, Credentials, FilesystemStorage};
use tempfile::TempDir;

use crate::world::{self, PASSWORD, claim, decided};

fn options(root: &Path, layout: Layout) -> Options {
    let open = Arc::new(|address: &Address, layout| address.open(layout, &Credentials::default()));
    let address = Address::Filesystem(root.to_owned());
    Options::new(address, layout, Password::new(PASSWORD), open, Arc::new(SystemClock))
}

#[track_caller]
fn check(decision: &api::decide::Decision, begins: &str) {
    assert!(decision.to_string().starts_with(begins), "{decision}");
}

#[tokio::test]
async fn an_empty_mount_point_is_unknown() {
    for layout in [Layout::PerClaim, Layout::Shared] {
        let parent = TempDir::new().unwrap();
        let root = parent.path().join("store");
        let ask = async |options| decided(&Catalog::new(options), "photos", &Claim::default()).await;
        check(&ask(options(&root, layout)).await, "hold RepositoryUnreachable: open the store: ");
        std::fs::create_dir(&root).unwrap();
        check(&ask(options(&root, layout)).await, "hold Unknown: file:");
        check(&ask(Options { is_declared: true, ..options(&root, layout) }).await, "fresh: ");
        std::fs::create_dir_all(root.join(STORE_MARKER).parent().unwrap()).unwrap();
        std::fs::write(root.join(STORE_MARKER), "").unwrap();
        check(&ask(options(&root, layout)).await, "fresh: ");
        std::fs::create_dir_all(root.join("media/photos")).unwrap();
        check(&ask(options(&root, layout)).await, "fresh: ");
    }
}

#[tokio::test]
async fn a_directory_with_a_ledger_and_no_repository_was_one() {
    let root = TempDir::new().unwrap();
    let record = root.path().join(claim("other").ledger_object());
    std::fs::create_dir_all(record.parent().unwrap()).unwrap();
    std::fs::write(record, "{}").unwrap();
    let ask = async |layout, pvc| decided(&Catalog::new(options(root.path(), layout)), pvc, &Claim::default()).await;
    check(&ask(Layout::Shared, "photos").await, "hold Unknown: objects are there");
    // Where each claim has its own, others' records show that this is the store, and this claim never had one.
    check(&ask(Layout::PerClaim, "photos").await, "fresh: ");
    check(&ask(Layout::PerClaim, "other").await, "hold Unknown: the location is empty and the ledger cannot be read");
}

async fn repository(root: &Path, pvc: &str, identity: &Identity) -> String {
    let directory = root.join("media").join(pvc);
    let storage = Arc::new(FilesystemStorage::create(&directory, storage::Layout::Kopia).unwrap());
    let repository = world::create(storage, Arc::new(SystemClock)).await;
    world::back_up(repository, identity, 3).await
}

#[tokio::test]
async fn every_claim_has_its_own_and_few_stay_open() {
    let root = TempDir::new().unwrap();
    let catalog = Catalog::new(Options { open_count_max: 1, ..options(root.path(), Layout::PerClaim) });
    for pvc in ["a", "b", "c"] {
        let snapshot = repository(root.path(), pvc, &claim(pvc).shared_identity()).await;
        check(&decided(&catalog, pvc, &Claim::default()).await, &format!("restore {snapshot} "));
    }
    let text = catalog::routes::metrics_text(&catalog);
    assert!(text.contains("\nperennial_catalog_opens_total 3\n"), "{text}");
    assert!(text.contains("\nperennial_catalog_open_repositories 1\n"), "{text}");
    assert!(catalog.ready().await.is_ok());
}

#[tokio::test]
async fn another_history_in_the_claims_own_repository_is_not_nothing() {
    let root = TempDir::new().unwrap();
    repository(root.path(), "photos", &claim("photos").shared_identity()).await;
    let catalog = Catalog::new(options(root.path(), Layout::PerClaim));
    let named = catalog.default_identity(&claim("photos"));
    assert_eq!(named.to_string(), "photos-backup@media:/data");
    let facts = catalog.facts(&claim("photos"), Some(&named)).await;
    let Location::Unknown { detail } = facts.location else { panic!("{facts:?}") };
    assert_eq!(detail, "the claim's own repository holds other histories, 1, photos@media:/data among them");
}
