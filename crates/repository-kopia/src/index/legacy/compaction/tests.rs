use std::sync::{Arc, Mutex};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use repository::{Clock, ContentId};
use storage::{Object, ObjectKey, PutMode, Storage};
use testkit::{FaultStore, MemoryStore};

use super::{LegacyCompaction, LegacySet, choose};
use crate::{Client, CreateOptions, PREFIX_DATA, Password, Repository, Reservation, WriteError, blob, index};

const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// The store's time and this machine's, moved by hand.
struct World {
    store: Arc<MemoryStore>,
    now: Arc<HandClock>,
}

struct HandClock(Mutex<Timestamp>);

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

fn client() -> Client {
    Client { username: "me".to_owned(), hostname: "box".to_owned() }
}

impl World {
    async fn new() -> Self {
        let now = Arc::new(HandClock(Mutex::new("2026-11-21T12:00:00Z".parse().unwrap())));
        let world = Self { store: Arc::new(MemoryStore::new()), now };
        world.wait(SignedDuration::ZERO);
        let options =
            CreateOptions { version: 1, key_derivation: "pbkdf2-sha256-600000".to_owned(), ..CreateOptions::default() };
        let (storage, password) = (world.store.clone(), Password::new("secret"));
        Repository::create(storage, &password, &options, client(), world.now.clone()).await.unwrap();
        world
    }

    fn wait(&self, time: SignedDuration) {
        let mut now = self.now.0.lock().unwrap();
        *now += time;
        self.store.set_now(*now);
    }

    async fn open_over(&self, storage: Arc<dyn Storage>) -> Result<Repository, crate::OpenError> {
        Repository::open(storage, &Password::new("secret"), client(), self.now.clone()).await
    }

    async fn open(&self) -> Repository {
        self.open_over(self.store.clone()).await.unwrap()
    }

    /// One content, in an index blob of its own.
    async fn write(&self, text: &str) -> ContentId {
        let repository = self.open().await;
        let session = repository.begin().await.unwrap();
        let content = repository.content_id(PREFIX_DATA, text.as_bytes());
        let packer = session.packer();
        if let Reservation::New { replaces, ticket } = session.reserve(&content).unwrap() {
            let sealed = repository.sealer().seal(content, &[text.as_bytes()], None, &mut Vec::new(), |sealed, out| {
                packer.push(&sealed, out, replaces, Vec::new, &mut |_| -> Result<(), WriteError> { Ok(()) })
            });
            sealed.unwrap().unwrap();
            ticket.end();
        }
        for pack in packer.finish().unwrap() {
            session.upload(pack).await.unwrap();
        }
        session.commit(Vec::new()).await.unwrap();
        content
    }

    async fn write_many(&self, contents: &mut Vec<ContentId>, count: usize) {
        for _ in 0..count {
            contents.push(self.write(&format!("content {}", contents.len())).await);
        }
    }

    async fn compact(&self) -> LegacyCompaction {
        self.open().await.compact_legacy_index(None, HOUR).await.unwrap()
    }

    fn count(&self, prefix: &str) -> usize {
        self.store.names().iter().filter(|name| name.starts_with(prefix)).count()
    }
}

async fn check_all_found(repository: &Repository, contents: &[ContentId], words: &str) {
    assert!(repository.damage().is_empty(), "{words}");
    for content in contents {
        assert!(repository.find(content).unwrap().is_some_and(|entry| !entry.deleted), "{words}: {content}");
        repository.content(content).await.unwrap();
    }
}

#[tokio::test]
async fn blobs_are_merged_and_go_an_hour_later_and_their_logs_after_another() {
    let world = World::new().await;
    let mut contents = Vec::new();
    world.write_many(&mut contents, 5).await;
    assert_eq!(world.compact().await, LegacyCompaction::default(), "too few");
    world.write_many(&mut contents, 5).await;
    let before = world.count("n");
    let first = world.compact().await;
    assert_eq!((first.merged_count, first.written_count, first.deleted_count), (before, 1, 0));
    assert_eq!((world.count("n"), world.count("m")), (before + 1, 1));
    assert_eq!(world.open().await.description().index_blob_count, 1);
    check_all_found(&world.open().await, &contents, "merged").await;

    world.wait(HOUR * 2);
    world.write_many(&mut contents, 8).await;
    let second = world.compact().await;
    assert_eq!((second.merged_count, second.deleted_count), (9, before));
    assert_eq!((world.count("m"), world.count("l")), (2, 1), "the first log is listed, and still there");
    check_all_found(&world.open().await, &contents, "deleted").await;

    world.wait(HOUR * 2);
    world.write_many(&mut contents, 8).await;
    world.compact().await;
    assert_eq!(world.count("m"), 2, "the first log is gone");
    check_all_found(&world.open().await, &contents, "cleaned up").await;
}

#[tokio::test]
async fn deleted_contents_are_left_out_from_a_moment_on() {
    let world = World::new().await;
    let content = world.write("to be deleted").await;
    let other = world.write("to stay").await;
    let repository = world.open().await;
    let mut entry = repository.find(&content).unwrap().unwrap();
    entry.timestamp_seconds += 10;
    entry.deleted = true;
    let (key, bytes) = blob::seal(repository.crypto(), "n", None, &index::write(1, &[entry.clone()])).unwrap();
    world.store.put(&key, Bytes::from(bytes), PutMode::Replace).await.unwrap();
    let at = |seconds: i64| Timestamp::from_second(entry.timestamp_seconds as i64 + seconds).unwrap();
    for (moment, dropped) in [(at(0), 0), (at(1), 1)] {
        world.wait(HOUR * 2);
        let done = world.open().await.compact_legacy_index(Some(moment), HOUR).await.unwrap();
        assert_eq!(done.dropped_count, dropped);
        let left = world.open().await.find(&content).unwrap();
        assert_eq!(left.map(|entry| entry.deleted), (dropped == 0).then_some(true));
        check_all_found(&world.open().await, &[other], "the other").await;
    }
}

/// Every storage call of a compaction that also deletes fails once, loses its reply, or is the last one.
#[tokio::test]
async fn a_fault_at_any_call_hides_no_content() {
    let world = World::new().await;
    let mut contents = Vec::new();
    world.write_many(&mut contents, 9).await;
    world.compact().await;
    world.wait(HOUR * 2);
    world.write_many(&mut contents, 8).await;
    let repository = world.open().await;
    let content = contents.pop().unwrap();
    let mut entry = repository.find(&content).unwrap().unwrap();
    entry.timestamp_seconds += 10;
    entry.deleted = true;
    let moment = Timestamp::from_second(entry.timestamp_seconds as i64 + 1).unwrap();
    let (key, bytes) = blob::seal(repository.crypto(), "n", None, &index::write(1, &[entry])).unwrap();
    world.store.put(&key, Bytes::from(bytes), PutMode::Replace).await.unwrap();
    let counting = FaultStore::counting(world.store.fork());
    world.open_over(counting.clone()).await.unwrap().compact_legacy_index(Some(moment), HOUR).await.unwrap();
    for fault in counting.faults() {
        let store = Arc::new(world.store.fork());
        let words = format!("{fault:?}");
        if let Ok(repository) = world.open_over(FaultStore::over(store.clone(), fault)).await {
            let _ = repository.compact_legacy_index(Some(moment), HOUR).await;
        }
        let repository = world.open_over(store).await.unwrap();
        check_all_found(&repository, &contents, &words).await;
        let deleted = repository.find(&content).unwrap();
        assert!(deleted.is_none_or(|entry| entry.deleted), "{words}: what was deleted is back");
    }
}

#[test]
fn small_blobs_are_merged_and_very_small_ones_first() {
    const PACK: u64 = 20 << 20;
    #[track_caller]
    fn check(sizes: &[(usize, u64)], all: bool, chosen: usize) {
        let object = |size: u64| Object { key: ObjectKey::new("n"), size_bytes: size, modified: Timestamp::UNIX_EPOCH };
        let blobs = sizes.iter().flat_map(|(count, size)| std::iter::repeat_n(*size, *count)).map(object).collect();
        let set = LegacySet { blobs, logs: Vec::new(), damage: Vec::new() };
        assert_eq!(choose(&set, PACK, all).len(), chosen);
    }
    check(&[(7, 100)], false, 0);
    check(&[(7, 100)], true, 7);
    check(&[(8, 100)], false, 8);
    check(&[(8, 100), (3, PACK + 1)], false, 8);
    check(&[(8, 100), (3, PACK + 1)], true, 11);
    check(&[(8, 100), (6, PACK / 2)], false, 8);
    check(&[(8, 100), (7, PACK / 2)], false, 15);
    check(&[(4, 100), (5, PACK / 2)], false, 9);
}
