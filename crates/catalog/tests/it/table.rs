//! Each row of the decision table, from the store's bytes to the status of `/exists`.

use std::sync::Arc;

use api::decide::{Claim, Creation, Decision, HoldReason};
use api::exists::{Answer, Backend};
use catalog::{Catalog, Options};
use repository_kopia::Password;
use storage::{ErrorKind, Storage};
use testkit::{Fault, FaultStore, MemoryStore, Moment};

use crate::world::{World, claim, decided, pinned};

/// What `media/<pvc>` gets, in a word, and the status of the answer.
#[track_caller]
fn check(found: (Decision, u16), word: &str, status: u16) {
    let said = match &found.0 {
        Decision::Restore { .. } => "restore",
        Decision::Fresh { .. } => "fresh",
        Decision::Hold { reason, .. } => reason.as_str(),
    };
    assert_eq!((said, found.1), (word, status), "{}", found.0);
}

async fn ask(options: Options, pvc: &str, expectation: &Claim) -> (Decision, u16) {
    let catalog = Catalog::new(options);
    let (looked, decision) = catalog.decide(&claim(pvc), None, expectation).await;
    let answer = Answer::new(&claim(pvc), &looked.identity, Backend::KopiaS3, &looked.facts, &decision);
    (decision, answer.status())
}

async fn ask_over(world: &World, storage: Arc<dyn Storage>) -> (Decision, u16) {
    ask(world.options_over(storage), "photos", &Claim::default()).await
}

#[tokio::test]
async fn a_backup_is_restored() {
    let world = World::with_a_backup().await;
    check(ask(world.options(), "photos", &Claim::default()).await, "restore", 200);
    let id = world.repository().await.unique_id();
    check(ask(world.options(), "photos", &pinned(&id)).await, "restore", 200);
    check(ask(world.options(), "photos", &pinned("00ff")).await, "WrongRepository", 503);
    let early = Claim { restore_as_of: Some("2020-01-01T00:00:00Z".parse().unwrap()), ..Claim::default() };
    check(ask(world.options(), "photos", &early).await, "ExpectedBackupMissing", 503);
}

#[tokio::test]
async fn no_history_is_fresh_only_with_the_ledgers_word() {
    let world = World::new().await;
    check(ask(world.options(), "new", &Claim::default()).await, "Unknown", 503);
    let declared = Options { declared_new: true, ..world.options() };
    check(ask(declared, "new", &Claim::default()).await, "fresh", 200);
    let world = World::with_a_backup().await;
    check(ask(world.options(), "new", &Claim::default()).await, "fresh", 200);
    world.record("gone", "k1", 3).await;
    check(ask(world.options(), "gone", &Claim::default()).await, "ExpectedBackupMissing", 503);
}

#[tokio::test]
async fn a_ledger_record_that_was_altered_or_moved_is_no_word() {
    let world = World::with_a_backup().await;
    world.record("gone", "k1", 3).await;
    let sealed = world.store.contents()[&claim("gone").ledger_object()].clone();
    let altered = String::from_utf8(sealed.to_vec()).unwrap().replace("\"files\":3", "\"files\":4");
    for (name, body) in [("gone", altered.into_bytes()), ("moved", sealed.to_vec()), ("torn", b"{".to_vec())] {
        world.store.tamper(&claim(name).ledger_object(), body);
        check(ask(world.options(), name, &Claim::default()).await, "Unknown", 503);
    }
}

#[tokio::test]
async fn only_quarantined() {
    let world = World::with_a_backup().await;
    // Unmarked, but collapsed against the ledger's last good one, which is gone.
    let ids: Vec<_> = world.repository().await.snapshots().await.unwrap().snapshots;
    let ids: Vec<_> = ids.into_iter().map(|snapshot| snapshot.id).collect();
    world.back_up("photos", 0).await;
    check(ask(world.options(), "photos", &Claim::default()).await, "restore", 200);
    world.repository().await.forget(&ids).await.unwrap();
    check(ask(world.options(), "photos", &Claim::default()).await, "OnlyQuarantined", 503);
}

#[tokio::test]
async fn an_empty_location() {
    let world = World { store: MemoryStore::new() };
    check(ask(world.options(), "photos", &Claim::default()).await, "fresh", 200);
    check(ask(world.options(), "photos", &pinned("00ff")).await, "RepositoryMissing", 503);
    let never = Claim { creation: Creation::Never, ..Claim::default() };
    check(ask(world.options(), "photos", &never).await, "RepositoryMissing", 503);
    let expected = Claim { ledger_expected: true, ..Claim::default() };
    check(ask(world.options(), "photos", &expected).await, "RepositoryMissing", 503);
}

/// Everything is gone but the ledger: who has a record there expects something, and nobody starts empty.
#[tokio::test]
async fn a_repository_that_was_lost() {
    let world = World::with_a_backup().await;
    for name in world.store.names() {
        if !name.starts_with("_perennial/") {
            world.store.lose(&name);
        }
    }
    check(ask(world.options(), "photos", &Claim::default()).await, "RepositoryMissing", 503);
    check(ask(world.options(), "new", &Claim::default()).await, "Unknown", 503);
}

#[tokio::test]
async fn half_initialised_is_unknown() {
    let world = World::new().await;
    world.store.lose("kopia.repository");
    check(ask(world.options(), "photos", &Claim::default()).await, "Unknown", 503);
    check(ask(world.options(), "photos", &pinned("00ff")).await, "RepositoryMissing", 503);
}

#[tokio::test]
async fn a_bucket_that_is_not_there() {
    let world = World { store: MemoryStore::new() };
    world.store.vanish();
    check(ask(world.options(), "photos", &Claim::default()).await, "RepositoryUnreachable", 503);
    check(ask(world.options(), "photos", &pinned("00ff")).await, "RepositoryMissing", 503);
}

#[tokio::test]
async fn a_wrong_password_is_no_empty_repository() {
    let world = World::with_a_backup().await;
    let options = Options { password: Password::new("another"), ..world.options() };
    check(ask(options, "photos", &Claim::default()).await, "RepositoryAuth", 503);
}

#[tokio::test]
async fn every_kind_of_error_has_its_row() {
    let world = World::with_a_backup().await;
    for (kind, word) in [
        (ErrorKind::Unreachable, "RepositoryUnreachable"),
        (ErrorKind::AccessDenied, "RepositoryAuth"),
        (ErrorKind::StoreMissing, "RepositoryUnreachable"),
        (ErrorKind::Misconfigured, "Unknown"),
        (ErrorKind::Truncated, "Unknown"),
        (ErrorKind::AlreadyExists, "Unknown"),
        (ErrorKind::Full, "Unknown"),
        (ErrorKind::Lies, "Unknown"),
        (ErrorKind::Other, "Unknown"),
    ] {
        let fault = Fault::onwards(0, Moment::Before).of_kind(kind);
        check(ask_over(&world, FaultStore::over(world.store.clone(), fault)).await, word, 503);
    }
}

#[tokio::test]
async fn damage_in_the_index_is_no_short_history() {
    let world = World::with_a_backup().await;
    let blobs: Vec<String> = world.store.names().into_iter().filter(|name| name.starts_with("xn")).collect();
    let last = blobs.last().unwrap();
    let whole = world.store.contents()[last].clone();
    for damaged in [whole.slice(..whole.len() / 2), whole.slice(..0), [b"x", &whole[..]].concat().into()] {
        world.store.tamper(last, damaged);
        check(ask(world.options(), "photos", &Claim::default()).await, "RepositoryUnreachable", 503);
        check(ask(world.options(), "new", &Claim::default()).await, "RepositoryUnreachable", 503);
    }
    for blob in &blobs {
        world.store.tamper(blob, "not an index");
    }
    check(ask(world.options(), "photos", &Claim::default()).await, "Unknown", 503);
}

#[tokio::test]
async fn a_lost_index_blob_is_caught_by_the_ledger() {
    let world = World::with_a_backup().await;
    for name in world.store.names().iter().filter(|name| name.starts_with("xn")) {
        world.store.lose(name);
    }
    check(ask(world.options(), "photos", &Claim::default()).await, "ExpectedBackupMissing", 503);
}

/// Every call fails once, also with only its reply lost: what has a backup is never fresh.
#[tokio::test]
async fn no_fault_makes_a_backup_disappear() {
    let world = World::with_a_backup().await;
    let counted = FaultStore::counting(world.store.clone());
    check(ask_over(&world, Arc::clone(&counted) as _).await, "restore", 200);
    for kind in [ErrorKind::Unreachable, ErrorKind::NotFound] {
        for fault in counted.faults() {
            let store = FaultStore::over(world.store.clone(), fault.of_kind(kind));
            let (decision, status) = ask_over(&world, store).await;
            match decision {
                Decision::Fresh { .. } => panic!("{fault:?} of kind {kind:?} is fresh"),
                Decision::Restore { .. } => assert_eq!(status, 200),
                Decision::Hold { .. } => assert_eq!(status, 503),
            }
        }
    }
}

/// The same for a place where there is truly nothing: a fault is never mistaken for it.
#[tokio::test]
async fn no_fault_proves_an_empty_place() {
    let world = World { store: MemoryStore::new() };
    let counted = FaultStore::counting(world.store.clone());
    check(ask_over(&world, Arc::clone(&counted) as _).await, "fresh", 200);
    for fault in counted.faults() {
        let (decision, _) = ask_over(&world, FaultStore::over(world.store.clone(), fault)).await;
        let is_held = matches!(decision, Decision::Hold { reason, .. }
            if matches!(reason, HoldReason::RepositoryUnreachable | HoldReason::Unknown));
        assert!(is_held, "{fault:?}: {decision}");
    }
}

#[tokio::test]
async fn an_identity_that_was_asked_for_is_the_one_that_counts() {
    let world = World::with_a_backup().await;
    let catalog = world.catalog();
    let mut other = claim("photos").shared_identity();
    other.username = "other".to_owned();
    let facts = catalog.facts(&claim("photos"), Some(&other)).await;
    let decision = api::decide::decide(&facts, &Claim::default());
    assert!(decision.to_string().starts_with("hold ExpectedBackupMissing: "), "{decision}");
    assert!(decided(&catalog, "photos", &Claim::default()).await.to_string().starts_with("restore "));
}
