//! Repositories that are made here.

use std::sync::Arc;

use futures::TryStreamExt as _;
use repository::{Clock, Entry, EntryKind, Identity, Snapshot, SnapshotId, Stats};
use repository_kopia::{
    CreateOptions, OpenError, PACK_CONTENTS_MAX, PREFIX_DATA, Password, Repository, Reservation, Retention, WriteError,
    change_password,
};
use storage::{LockMode, ObjectKey, ObjectLock, Storage};
use testkit::{FaultStore, MemoryStore};

use super::client;

/// A clock that stands still: the memory store's time is set to the same.
pub(crate) struct StandingClock;

impl Clock for StandingClock {
    fn now(&self) -> jiff::Timestamp {
        "2026-11-21T12:00:00Z".parse().unwrap()
    }
}

pub(crate) fn memory() -> Arc<MemoryStore> {
    let store = MemoryStore::new();
    store.set_now(StandingClock.now());
    Arc::new(store)
}

pub(crate) async fn create(storage: Arc<dyn Storage>) -> Result<Repository, OpenError> {
    let options = CreateOptions::default();
    Repository::create(storage, &Password::new("secret"), &options, client(), Arc::new(StandingClock)).await
}

async fn open(storage: Arc<dyn Storage>) -> Result<Repository, OpenError> {
    Repository::open(storage, &Password::new("secret"), client(), Arc::new(StandingClock)).await
}

fn identity() -> Identity {
    "app@space:/data".parse().unwrap()
}

/// Writes one file's content and a snapshot whose root it is.
pub(crate) async fn write(repository: &Repository, bytes: &[u8]) -> Result<SnapshotId, WriteError> {
    let session = repository.begin().await?;
    let content = repository.content_id(PREFIX_DATA, bytes);
    let packer = session.packer();
    let mut packs = Vec::new();
    if let Reservation::New { replaces, ticket } = session.reserve(&content).unwrap() {
        repository.sealer().seal(content, &[bytes], None, &mut Vec::new(), |sealed, out| {
            packer.push(&sealed, out, replaces, Vec::new, &mut |pack| -> Result<(), WriteError> {
                packs.push(pack);
                Ok(())
            })
        })??;
        ticket.end();
    }
    packs.extend(packer.finish()?);
    for pack in packs {
        session.upload(pack).await?;
    }
    let root = Entry {
        name: "file".to_owned(),
        kind: EntryKind::File,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: StandingClock.now(),
        size_bytes: bytes.len() as u64,
        data: repository_kopia::ObjectId::direct(content).into(),
        summary: None,
        side: None,
    };
    let snapshot = Snapshot {
        id: SnapshotId::new(""),
        identity: identity(),
        description: String::new(),
        start: session.started(),
        end: StandingClock.now(),
        incomplete: None,
        root: Some(root),
        stats: Stats::default(),
        tags: Default::default(),
        pins: Vec::new(),
    };
    session.commit_snapshot(&snapshot, &[]).await
}

async fn names(store: &dyn Storage, prefix: &str) -> Vec<ObjectKey> {
    store.list(prefix).map_ok(|object| object.key).try_collect().await.unwrap()
}

#[tokio::test]
async fn a_new_repository_has_kopias_first_records_and_no_open_session() {
    let store = memory();
    let repository = create(store.clone()).await.unwrap();
    let (manifests, damage) = open(store.clone()).await.unwrap().manifests().await.unwrap();
    assert!(damage.is_empty());
    let mut types: Vec<&str> = manifests.iter().map(|manifest| manifest.labels["type"].as_str()).collect();
    types.sort();
    assert_eq!(types, ["maintenance", "policy"]);
    assert!(names(&*store, "s").await.is_empty());
    assert_eq!(repository.unique_id().len(), 64);
}

#[tokio::test]
async fn creation_refuses_what_is_not_empty_and_bad_passwords() {
    let store = memory();
    create(store.clone()).await.unwrap();
    assert!(matches!(create(store.clone()).await, Err(OpenError::NotEmpty { .. })));
    let options = CreateOptions::default();
    for password in ["", " x", "x\n"] {
        let made =
            Repository::create(memory(), &Password::new(password), &options, client(), Arc::new(StandingClock)).await;
        assert!(matches!(made, Err(OpenError::BadPassword)), "{password:?}");
    }
}

#[tokio::test]
async fn an_empty_place_and_a_foreign_one_are_told_apart() {
    let empty = open(memory()).await.err().unwrap();
    assert!(matches!(empty, OpenError::NotInitialized { empty: true, .. }));
    let store = memory();
    store.put(&ObjectKey::new("something"), "else".into(), storage::PutMode::Replace).await.unwrap();
    let foreign = open(store).await.err().unwrap();
    assert!(matches!(foreign, OpenError::NotInitialized { empty: false, .. }));
}

#[tokio::test]
async fn what_is_written_can_be_read_and_is_stored_once() {
    let store = memory();
    create(store.clone()).await.unwrap();
    let first = write(&open(store.clone()).await.unwrap(), b"some bytes").await.unwrap();
    let packs = names(&*store, "p").await.len();
    let second = write(&open(store.clone()).await.unwrap(), b"some bytes").await.unwrap();
    assert_eq!(names(&*store, "p").await.len(), packs);
    let repository = open(store).await.unwrap();
    let listing = repository.snapshots().await.unwrap();
    let mut ids: Vec<&SnapshotId> = listing.snapshots.iter().map(|snapshot| &snapshot.id).collect();
    ids.sort();
    let mut expected = [&first, &second];
    expected.sort();
    assert_eq!(ids, expected);
    let data = &listing.snapshots[0].root.as_ref().unwrap().data;
    assert_eq!(repository.object(data).await.unwrap(), b"some bytes");
}

#[tokio::test]
async fn a_pack_of_tiny_contents_is_full_before_it_is_long() {
    let repository = create(memory()).await.unwrap();
    let session = repository.begin().await.unwrap();
    let packer = session.packer();
    let mut full = Vec::new();
    for number in 0..=PACK_CONTENTS_MAX {
        let bytes = number.to_le_bytes();
        let content = repository.content_id(PREFIX_DATA, &bytes);
        let sealing = repository.sealer().seal(content, &[&bytes], None, &mut Vec::new(), |sealed, out| {
            packer.push(&sealed, out, None, Vec::new, &mut |pack| -> Result<(), WriteError> {
                full.push((number, pack.size_bytes()));
                Ok(())
            })
        });
        sealing.unwrap().unwrap();
    }
    let [(at, bytes)] = full[..] else { panic!("{full:?}") };
    assert_eq!(at, PACK_CONTENTS_MAX);
    assert!(bytes < repository.max_pack_bytes() / 2, "{bytes}");
}

#[tokio::test]
async fn contents_of_a_lost_pack_are_written_again() {
    let store = memory();
    create(store.clone()).await.unwrap();
    write(&open(store.clone()).await.unwrap(), b"some bytes").await.unwrap();
    for pack in names(&*store, "p").await {
        store.delete(&pack).await.unwrap();
    }
    write(&open(store.clone()).await.unwrap(), b"some bytes").await.unwrap();
    let repository = open(store).await.unwrap();
    let content = repository.content_id(PREFIX_DATA, b"some bytes");
    assert_eq!(repository.content(&content).await.unwrap(), b"some bytes");
}

#[tokio::test]
async fn a_checkpoint_notices_contents_that_were_marked_meanwhile() {
    let store = memory();
    create(store.clone()).await.unwrap();
    write(&open(store.clone()).await.unwrap(), b"some bytes").await.unwrap();
    let writer = open(store.clone()).await.unwrap();
    let session = writer.begin().await.unwrap();
    let content = writer.content_id(PREFIX_DATA, b"some bytes");
    assert!(session.has(&content).unwrap());

    let other = open(store.clone()).await.unwrap();
    let marking = other.begin_moving().unwrap();
    marking.mark_deleted(&other.find(&content).unwrap().unwrap());
    marking.finish().await.unwrap();
    assert!(session.has(&content).unwrap());
    let unfinished =
        Snapshot { incomplete: Some("checkpoint".to_owned()), ..writer.snapshots().await.unwrap().snapshots.remove(0) };
    session.checkpoint(&session.packer(), &unfinished).await.unwrap();
    assert!(!session.has(&content).unwrap());
    assert!(matches!(session.reserve(&content).unwrap(), Reservation::New { replaces: Some(_), .. }));
}

#[tokio::test]
async fn a_repository_replaced_under_an_open_one_is_not_written_to() {
    let store = memory();
    create(store.clone()).await.unwrap();
    let old = open(store.clone()).await.unwrap();
    for name in names(&*store, "").await {
        store.delete(&name).await.unwrap();
    }
    create(store.clone()).await.unwrap();
    let error = write(&old, b"some bytes").await.unwrap_err();
    assert!(matches!(error, WriteError::Replaced { .. }), "{error}");
    let new = open(store).await.unwrap();
    assert!(new.damage().is_empty());
    assert!(new.snapshots().await.unwrap().snapshots.is_empty());
}

#[tokio::test]
async fn keys_of_another_repository_are_noticed() {
    let store = memory();
    create(store.clone()).await.unwrap();
    let other = memory();
    create(other.clone()).await.unwrap();
    for name in ["kopia.repository", "kopia.blobcfg"] {
        let key = ObjectKey::new(name);
        let foreign = other.get(&key).await.unwrap();
        store.put(&key, foreign, storage::PutMode::Replace).await.unwrap();
    }
    let error = open(store).await.err().unwrap();
    assert!(matches!(error, OpenError::ForeignIndex { count: 1 }), "{error}");
}

#[tokio::test]
async fn retention_set_on_a_path_keeps_the_other_members_and_is_idempotent() {
    let store = memory();
    let repository = create(store.clone()).await.unwrap();
    let retention = Retention { keep_hourly: Some(24), keep_daily: Some(7), ..Retention::default() };
    repository.set_retention(&identity(), &retention).await.unwrap();
    repository.refresh().await.unwrap();
    let policy = repository.policy(&identity()).await.unwrap();
    assert_eq!((policy.retention.keep_hourly, policy.retention.keep_daily), (Some(24), Some(7)));
    let objects = names(&*store, "").await.len();
    repository.set_retention(&identity(), &retention).await.unwrap();
    assert_eq!(names(&*store, "").await.len(), objects);
}

#[tokio::test]
async fn forgotten_snapshots_are_gone_and_the_others_stay() {
    let store = memory();
    create(store.clone()).await.unwrap();
    let first = write(&open(store.clone()).await.unwrap(), b"one").await.unwrap();
    let second = write(&open(store.clone()).await.unwrap(), b"two").await.unwrap();
    open(store.clone()).await.unwrap().forget(&[first]).await.unwrap();
    let left = open(store).await.unwrap().snapshots().await.unwrap().snapshots;
    assert_eq!(left.iter().map(|snapshot| &snapshot.id).collect::<Vec<_>>(), [&second]);
}

/// Every storage call of a write fails once, or loses its reply: what was there stays readable, what is visible is whole.
#[tokio::test]
async fn a_fault_at_any_call_leaves_a_sound_repository() {
    let store = memory();
    create(store.clone()).await.unwrap();
    write(&open(store.clone()).await.unwrap(), b"before").await.unwrap();
    let counting = FaultStore::counting(store.fork());
    write(&open(counting.clone()).await.unwrap(), b"after").await.unwrap();
    for fault in counting.faults() {
        let store = Arc::new(store.fork());
        let words = format!("{fault:?}");
        let faulty = FaultStore::over(store.clone(), fault);
        let outcome = match open(faulty).await {
            Ok(repository) => write(&repository, b"after").await.ok(),
            Err(_) => None,
        };
        let repository = open(store).await.unwrap();
        let listing = repository.snapshots().await.unwrap();
        assert!(listing.damage.is_empty(), "{words}");
        assert!((1..=2).contains(&listing.snapshots.len()), "{words}");
        if let Some(id) = outcome {
            assert!(listing.snapshots.iter().any(|snapshot| snapshot.id == id), "{words}: success without a snapshot");
        }
        for snapshot in &listing.snapshots {
            let bytes = repository.object(&snapshot.root.as_ref().unwrap().data).await.unwrap();
            assert!(bytes == b"before" || bytes == b"after", "{words}");
        }
        assert!(repository.survey().await.unwrap().lost_to_the_index.is_empty(), "{words}");
    }
}

/// Every hash with every cipher, in every version, with and without error correction.
#[tokio::test]
async fn every_choice_makes_a_repository_that_reads_back() {
    let mut made = 0;
    for hash in CreateOptions::hashes() {
        for encryption in CreateOptions::encryptions() {
            let (version, ecc_overhead_percent) = [(1, 0), (2, 0), (3, 3), (3, 0), (2, 20)][made % 5];
            let options = CreateOptions {
                hash: hash.to_owned(),
                encryption: encryption.to_owned(),
                version,
                ecc_overhead_percent,
                key_derivation: "pbkdf2-sha256-600000".to_owned(),
                ..CreateOptions::default()
            };
            let store = memory();
            let (password, clock) = (Password::new("secret"), Arc::new(StandingClock));
            Repository::create(store.clone(), &password, &options, client(), clock).await.unwrap();
            let bytes = vec![made as u8; 100_000 * made];
            write(&open(store.clone()).await.unwrap(), &bytes).await.unwrap();
            let repository = open(store.clone()).await.unwrap();
            let description = repository.description();
            assert_eq!((description.hash.as_str(), description.encryption.as_str()), (hash, encryption));
            assert_eq!((description.version, description.ecc_overhead_percent), (version, ecc_overhead_percent));
            assert_eq!(description.write_epoch, (version > 1).then_some(0));
            assert_eq!(names(&*store, "n").await.is_empty(), version > 1);
            let root = repository.snapshots().await.unwrap().snapshots.pop().unwrap().root.unwrap();
            assert!(repository.object(&root.data).await.unwrap() == bytes, "{hash} {encryption}");
            assert!(repository.survey().await.unwrap().lost_to_the_index.is_empty());
            made += 1;
        }
    }
    assert_eq!(made, 22);
}

#[tokio::test]
async fn what_data_hangs_on_is_written_locked_and_a_store_that_cannot_is_refused() {
    let day = jiff::SignedDuration::from_hours(24);
    let retention = Some((LockMode::Governance, day));
    let options = CreateOptions { retention, ..CreateOptions::default() };
    let store = memory();
    let (password, clock) = (Password::new("secret"), Arc::new(StandingClock));
    Repository::create(store.clone(), &password, &options, client(), clock.clone()).await.unwrap();
    let repository = open(store.clone()).await.unwrap();
    assert_eq!(repository.description().retention, retention);
    write(&repository, b"some bytes").await.unwrap();
    let expected = Some(ObjectLock { mode: LockMode::Governance, until: StandingClock.now() + day });
    let all = store.names();
    assert!(all.iter().any(|name| name.starts_with('p')) && all.iter().any(|name| name.starts_with("xn")));
    for name in all {
        assert_eq!(store.lock_of(&name), expected, "{name}");
    }
    let directory = tempfile::tempdir().unwrap();
    let cannot = Arc::new(storage::FilesystemStorage::create(directory.path(), storage::Layout::Kopia).unwrap());
    let error = Repository::create(cannot, &password, &options, client(), clock).await.err().unwrap();
    assert!(
        matches!(&error, OpenError::Storage { source, .. } if source.kind == storage::ErrorKind::CannotLock),
        "{error:?}"
    );
}

#[tokio::test]
async fn what_repair_puts_in_place_of_a_damaged_blob_is_locked_too() {
    let retention = Some((LockMode::Compliance, jiff::SignedDuration::from_hours(24)));
    let store = memory();
    let (password, clock) = (Password::new("secret"), Arc::new(StandingClock));
    let options = CreateOptions { retention, ..CreateOptions::default() };
    Repository::create(store.clone(), &password, &options, client(), clock.clone()).await.unwrap();
    let whole = store.contents();
    let lock = store.lock_of("kopia.blobcfg");
    for name in ["kopia.blobcfg", "kopia.repository"] {
        let mut damaged = whole[name].to_vec();
        let at = damaged.len() - 30;
        damaged[at] = if damaged[at] == b'A' { b'B' } else { b'A' };
        store.tamper(name, damaged);
        assert_eq!(store.lock_of(name), None);
        let opening =
            Repository::open_for_repair(store.clone(), &password, client(), clock.clone(), Default::default());
        let (_, repairs) = opening.await.unwrap();
        assert_eq!(repairs.len(), 1, "{name}");
        assert_eq!((store.contents()[name].clone(), store.lock_of(name)), (whole[name].clone(), lock), "{name}");
    }
}

async fn opens_with(store: &Arc<MemoryStore>, password: &str) -> Result<Repository, OpenError> {
    Repository::open(store.clone(), &Password::new(password), client(), Arc::new(StandingClock)).await
}

/// Each storage call of a change fails once, or loses its reply, or the program is gone from there on.
async fn check_password_change(retention: Option<(LockMode, jiff::SignedDuration)>) {
    let options =
        CreateOptions { retention, key_derivation: "pbkdf2-sha256-600000".to_owned(), ..CreateOptions::default() };
    let store = memory();
    let (old, new) = (Password::new("secret"), Password::new("another"));
    Repository::create(store.clone(), &old, &options, client(), Arc::new(StandingClock)).await.unwrap();
    let change = async |store: Arc<dyn Storage>| change_password(&store, &old, &new, &StandingClock).await;
    let counting = FaultStore::counting(store.fork());
    change(counting.clone()).await.unwrap();
    for fault in counting.faults() {
        let words = format!("{fault:?}");
        let store = Arc::new(store.fork());
        let outcome = change(FaultStore::over(store.clone(), fault)).await;
        let opened = [opens_with(&store, "secret").await, opens_with(&store, "another").await];
        match &opened {
            [Err(OpenError::WrongPassword), Ok(_)] => {}
            [Ok(_), Err(OpenError::WrongPassword)] => assert!(outcome.is_err(), "{words}"),
            // Only with locks there is a moment at which neither opens, and its hint says what to do.
            [Err(error), Err(OpenError::WrongPassword)] => {
                assert!(retention.is_some() && outcome.is_err(), "{words}: {error}");
                assert!(error.hint().unwrap().contains("perennial repository password"), "{words}: {error}");
            }
            _ => panic!("{words}"),
        }
        change(store.clone()).await.unwrap();
        let repository = opens_with(&store, "another").await.unwrap();
        assert_eq!(repository.description().retention, retention, "{words}");
        assert!(repository.manifests().await.unwrap().1.is_empty());
        assert!(store.names().contains(&"kopia.blobcfg".to_owned()), "{words}");
    }
}

#[tokio::test]
async fn a_password_is_changed_whole_or_can_be_changed_again() {
    check_password_change(None).await;
}

#[tokio::test]
async fn a_password_is_changed_under_object_locks_too() {
    check_password_change(Some((LockMode::Compliance, jiff::SignedDuration::from_hours(48)))).await;
}

#[tokio::test]
async fn a_password_that_cannot_be_changed_stays() {
    let store = memory();
    create(store.clone()).await.unwrap();
    let shared: Arc<dyn Storage> = store.clone();
    let change = async |old: &str, new: &str| {
        change_password(&shared, &Password::new(old), &Password::new(new), &StandingClock).await
    };
    for new in ["", " x", "x\n"] {
        assert!(matches!(change("secret", new).await, Err(OpenError::BadPassword)), "{new:?}");
    }
    let before = store.contents();
    assert!(matches!(change("wrong", "another").await, Err(OpenError::WrongPassword)));
    assert_eq!(store.contents(), before);
    let old = memory();
    let options = CreateOptions { version: 1, ..CreateOptions::default() };
    let (password, clock) = (Password::new("secret"), Arc::new(StandingClock));
    Repository::create(old.clone(), &password, &options, client(), clock).await.unwrap();
    let before = old.contents();
    let shared: Arc<dyn Storage> = old.clone();
    let refused = change_password(&shared, &password, &Password::new("another"), &StandingClock).await;
    assert!(matches!(refused, Err(OpenError::PasswordFixed)));
    assert_eq!(old.contents(), before);
}

/// Stands still until it is moved on.
#[derive(Default)]
struct MinuteClock(std::sync::atomic::AtomicI64);

impl Clock for MinuteClock {
    fn now(&self) -> jiff::Timestamp {
        let minutes = self.0.load(std::sync::atomic::Ordering::SeqCst);
        StandingClock.now() + jiff::SignedDuration::from_mins(minutes)
    }
}

/// A long run looks at the format blob before it uploads more, not only when it publishes.
#[tokio::test]
async fn a_long_run_notices_after_a_quarter_of_an_hour_that_the_repository_was_replaced() {
    let store = memory();
    create(store.clone()).await.unwrap();
    let clock = Arc::new(MinuteClock::default());
    let old = Repository::open(store.clone(), &Password::new("secret"), client(), clock.clone()).await.unwrap();
    let session = old.begin().await.unwrap();
    let upload = async |bytes: &[u8]| -> Result<(), WriteError> {
        let content = old.content_id(PREFIX_DATA, bytes);
        let packer = session.packer();
        if let Reservation::New { replaces, ticket } = session.reserve(&content)? {
            old.sealer().seal(content, &[bytes], None, &mut Vec::new(), |sealed, out| {
                packer.push(&sealed, out, replaces, Vec::new, &mut |_| -> Result<(), WriteError> { Ok(()) })
            })??;
            ticket.end();
        }
        for pack in packer.finish()? {
            session.upload(pack).await?;
        }
        Ok(())
    };
    upload(b"first").await.unwrap();
    for name in names(&*store, "").await {
        store.delete(&name).await.unwrap();
    }
    create(store.clone()).await.unwrap();
    clock.0.store(14, std::sync::atomic::Ordering::SeqCst);
    upload(b"second").await.unwrap();
    assert_eq!(names(&*store, "p").await.len(), 1, "not yet");
    clock.0.store(15, std::sync::atomic::Ordering::SeqCst);
    let error = upload(b"third").await.unwrap_err();
    assert!(matches!(error, WriteError::Replaced { .. }), "{error}");
    assert_eq!(names(&*store, "p").await.len(), 1);
}

#[tokio::test]
async fn a_clock_that_is_wrong_stops_writing_and_leaves_nothing_behind() {
    let store = memory();
    create(store.clone()).await.unwrap();
    let repository = open(store.clone()).await.unwrap();
    let before = store.names();
    store.set_now(store.now() + jiff::SignedDuration::from_mins(6));
    let error = write(&repository, b"new").await.unwrap_err();
    assert!(matches!(error, WriteError::ClockSkew { skew_seconds: 360 }), "{error}");
    assert_eq!(store.names(), before);
}
