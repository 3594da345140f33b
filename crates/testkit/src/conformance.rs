//! The suite that every store and every layer passes: one check per sentence of the contract of [`Storage`].

#![expect(clippy::panic, reason = "the end of a test")]

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use storage::{Error, ErrorKind, Object, ObjectKey, PutMode, Storage};

/// More objects than one page of an S3 listing holds.
const MANY_COUNT: usize = 1003;

/// Operations at a time where many are made.
const IN_FLIGHT_COUNT: usize = 16;

/// Names as Kopia uses them, short ones and long ones, with neighbours of the same beginning.
const FLAT_NAMES: [&str; 12] = [
    "kopia.repository",
    "kopia.blobcfg",
    "kopia.maintenance",
    "p0123456789abcdef0123456789abcdef-s0123456789abcdef0",
    "q0123456789abcdef0123456789abcdef-s0123456789abcdef0",
    "xe5",
    "xw1700000000",
    "xn0_fedcba9876543210fedcba9876543210-s0123456789abcdef0-c1",
    "xn01_fedcba9876543210fedcba9876543210-s0123456789abcdef0-c1",
    "xr0_2_fedcba9876543210fedcba9876543210-0123456789abcdef0123456789abcdef-c1",
    "_log_20260101000000_abcd_1767225600_1767225601_1_fedcba9876543210fedcba9876543210",
    "n00000000000000000000000000000000-repository_unreadable_by_this_kopia_version_upgrade_required",
];

/// Names as restic uses them.
const SLASHED_NAMES: [&str; 4] = [
    "config",
    "data/01/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "data/02/0223456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "snapshots/fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210",
];

/// Checks the whole contract with names that hold no slash. The store must be empty and is left empty.
///
/// Panics at the first broken sentence.
pub async fn conformance(store: &dyn Storage) {
    let suite = Suite { store };
    suite.starts_empty().await;
    suite.keeps_names(&FLAT_NAMES).await;
    suite.keeps_bodies().await;
    suite.reads_ranges().await;
    suite.replaces().await;
    suite.refuses_taken_names().await;
    suite.one_of_many_is_first().await;
    suite.says_not_found().await;
    suite.deletes_twice().await;
    suite.lists_by_prefix().await;
    suite.refuses_no_name().await;
    suite.lists_many().await;
    suite.starts_empty().await;
}

/// As [`conformance`], and with names that hold slashes.
pub async fn conformance_with_slashes(store: &dyn Storage) {
    conformance(store).await;
    let suite = Suite { store };
    suite.keeps_names(&SLASHED_NAMES).await;
    suite.lists_by_prefix_across_slashes().await;
    suite.starts_empty().await;
}

struct Suite<'s> {
    store: &'s dyn Storage,
}

/// The value, or the end of the test with the store's words.
#[track_caller]
fn good<T>(result: Result<T, Error>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error} ({:?})", error.kind),
    }
}

#[track_caller]
fn fails<T: std::fmt::Debug>(result: Result<T, Error>, kind: ErrorKind) {
    match result {
        Ok(value) => panic!("{kind:?} expected, got {value:?}"),
        Err(error) => assert_eq!(error.kind, kind, "{error}"),
    }
}

/// Bytes in which no part looks like another.
fn body(length: usize) -> Bytes {
    (0_u32..).flat_map(|word| word.wrapping_mul(0x9e37_79b9).to_be_bytes()).take(length).collect::<Vec<u8>>().into()
}

impl Suite<'_> {
    async fn put(&self, name: &str, body: &[u8]) {
        good(self.store.put(&ObjectKey::new(name), Bytes::copy_from_slice(body), PutMode::Replace).await);
    }

    async fn delete(&self, name: &str) {
        good(self.store.delete(&ObjectKey::new(name)).await);
    }

    async fn get(&self, name: &str) -> Result<Bytes, Error> {
        self.store.get(&ObjectKey::new(name)).await
    }

    async fn objects(&self, prefix: &str) -> Vec<Object> {
        let mut objects: Vec<Object> = good(self.store.list(prefix).try_collect().await);
        objects.sort_by(|a, b| a.key.cmp(&b.key));
        objects
    }

    async fn names(&self, prefix: &str) -> Vec<String> {
        self.objects(prefix).await.into_iter().map(|object| object.key.to_string()).collect()
    }

    async fn starts_empty(&self) {
        assert_eq!(self.names("").await, Vec::<String>::new(), "nothing is listed where nothing is");
    }

    /// Put, get, stat and list agree on each name.
    async fn keeps_names(&self, names: &[&str]) {
        for name in names {
            self.put(name, name.as_bytes()).await;
        }
        for name in names {
            assert_eq!(good(self.get(name).await), name.as_bytes(), "{name} reads back");
            let object = good(self.store.stat(&ObjectKey::new(*name)).await);
            assert_eq!((object.key.as_str(), object.size_bytes), (*name, name.len() as u64));
        }
        let listed = self.objects("").await;
        let sizes: BTreeMap<&str, u64> = listed.iter().map(|object| (object.key.as_str(), object.size_bytes)).collect();
        assert_eq!(listed.len(), names.len(), "each object is listed once: {listed:?}");
        assert_eq!(sizes, names.iter().map(|name| (*name, name.len() as u64)).collect());
        for object in listed {
            // Servers cut parts of a second off in one of the two.
            let stat = good(self.store.stat(&object.key).await);
            let apart = stat.modified.as_millisecond().abs_diff(object.modified.as_millisecond());
            assert!(apart < 1000, "{object:?} has the same time in a stat: {stat:?}");
        }
        for name in names {
            self.delete(name).await;
        }
        self.starts_empty().await;
    }

    async fn keeps_bodies(&self) {
        let every_byte: Bytes = (0..=255_u8).cycle().take(1024).collect::<Vec<u8>>().into();
        for content in [Bytes::new(), Bytes::from_static(b"\0"), every_byte, body(5 * 1024 * 1024 + 1)] {
            self.put("body", &content).await;
            assert_eq!(good(self.store.stat(&ObjectKey::new("body")).await).size_bytes, content.len() as u64);
            assert!(good(self.get("body").await) == content, "{} bytes read back", content.len());
        }
        self.delete("body").await;
    }

    async fn reads_ranges(&self) {
        let content = body(70_000);
        let key = ObjectKey::new("p0123456789abcdef0123456789abcdef-s1");
        let (store, size_bytes) = (self.store, content.len() as u64);
        self.put(key.as_str(), &content).await;
        for (start, end) in [(0, 1), (0, size_bytes), (1, 65_537), (69_999, size_bytes), (35_000, 35_000)] {
            let read = good(store.get_range(&key, start, end - start).await);
            assert!(read == content.slice(start as usize..end as usize), "{start}..{end} is what was written there");
        }
        assert_eq!(good(store.get_range(&key, 0, 0).await), Bytes::new(), "an empty range is empty");
        assert_eq!(good(store.get_range(&key, size_bytes, 0).await), Bytes::new(), "also at the end");
        for (offset, length_bytes) in
            [(0, size_bytes + 1), (size_bytes - 1, 2), (size_bytes, 1), (size_bytes + 7, 1), (size_bytes + 1, 0)]
        {
            fails(store.get_range(&key, offset, length_bytes).await, ErrorKind::Truncated);
        }
        fails(store.get_range(&key, u64::MAX, 1).await, ErrorKind::Truncated);
        fails(store.get_range(&key, 1, u64::MAX).await, ErrorKind::Truncated);
        self.delete(key.as_str()).await;
    }

    async fn replaces(&self) {
        self.put("kopia.maintenance", b"the first and longer one").await;
        self.put("kopia.maintenance", b"second").await;
        assert_eq!(good(self.get("kopia.maintenance").await), &b"second"[..], "a get sees the last put");
        assert_eq!(good(self.store.stat(&ObjectKey::new("kopia.maintenance")).await).size_bytes, 6);
        assert_eq!(self.objects("kopia.").await.iter().map(|object| object.size_bytes).collect::<Vec<_>>(), [6]);
        self.delete("kopia.maintenance").await;
    }

    async fn refuses_taken_names(&self) {
        let key = ObjectKey::new("kopia.repository");
        good(self.store.put(&key, Bytes::from_static(b"first"), PutMode::IfAbsent).await);
        let second = self.store.put(&key, Bytes::from_static(b"second"), PutMode::IfAbsent).await;
        fails(second, ErrorKind::AlreadyExists);
        assert_eq!(good(self.store.get(&key).await), &b"first"[..], "a refused put changes nothing");
        assert_eq!(self.names("kopia").await, ["kopia.repository"], "and leaves nothing behind");
        self.delete("kopia.repository").await;
        good(self.store.put(&key, Bytes::from_static(b"third"), PutMode::IfAbsent).await);
        assert_eq!(good(self.store.get(&key).await), &b"third"[..], "a deleted name is free again");
        self.delete("kopia.repository").await;
    }

    /// Of several puts at once that must not replace, one succeeds and its bytes stay whole.
    async fn one_of_many_is_first(&self) {
        let key = ObjectKey::new("xn0_0123456789abcdef0123456789abcdef-s1-c1");
        let puts = (0..8_u8).map(|writer| {
            let body = Bytes::from(vec![writer; 10_000]);
            async { self.store.put(&key, body, PutMode::IfAbsent).await }
        });
        let results: Vec<_> = stream::iter(puts).buffer_unordered(8).collect().await;
        let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
        assert_eq!(won.len(), 1, "exactly one put is the first: {lost:?}");
        for result in lost {
            fails(result, ErrorKind::AlreadyExists);
        }
        let read = good(self.store.get(&key).await);
        assert!(read.len() == 10_000 && read.iter().all(|byte| *byte == read[0]), "nothing is mixed");
        self.delete(key.as_str()).await;
    }

    async fn says_not_found(&self) {
        for name in ["xe7", "p0123456789abcdef0123456789abcdef-s2"] {
            let key = ObjectKey::new(name);
            fails(self.store.get(&key).await, ErrorKind::NotFound);
            fails(self.store.get_range(&key, 0, 1).await, ErrorKind::NotFound);
            fails(self.store.get_range(&key, 0, 0).await, ErrorKind::NotFound);
            fails(self.store.stat(&key).await, ErrorKind::NotFound);
        }
    }

    async fn deletes_twice(&self) {
        for name in ["xe8", "p0123456789abcdef0123456789abcdef-s3"] {
            self.put(name, b"x").await;
            self.delete(name).await;
            fails(self.get(name).await, ErrorKind::NotFound);
            fails(self.store.stat(&ObjectKey::new(name)).await, ErrorKind::NotFound);
            assert_eq!(self.names(name).await, Vec::<String>::new(), "a deleted object is not listed");
            self.delete(name).await;
            self.delete(&format!("{name}-never-there")).await;
        }
    }

    /// A prefix is any beginning, not a word or a directory.
    async fn lists_by_prefix(&self) {
        for name in FLAT_NAMES {
            self.put(name, b"x").await;
        }
        for prefix in ["", "k", "kopia.", "p", "p01", "p0123456789abcdef0123456789abcdef-s", "x", "xn0", "xn0_", "xw17"]
        {
            let mut expected: Vec<&str> = FLAT_NAMES.into_iter().filter(|name| name.starts_with(prefix)).collect();
            expected.sort_unstable();
            assert_eq!(self.names(prefix).await, expected, "the names that begin with {prefix:?}");
        }
        for whole in FLAT_NAMES {
            let listed = self.names(whole).await;
            assert!(listed.contains(&whole.to_owned()), "a whole name is a prefix of itself: {whole}");
        }
        for nothing in ["z", "kopia/", "xn0_z", "p0123456789abcdef0123456789abcdef-s0123456789abcdef0x"] {
            assert_eq!(self.names(nothing).await, Vec::<String>::new(), "nothing begins with {nothing:?}");
        }
        for name in FLAT_NAMES {
            self.delete(name).await;
        }
    }

    async fn lists_by_prefix_across_slashes(&self) {
        for name in SLASHED_NAMES {
            self.put(name, b"x").await;
        }
        for prefix in ["d", "data", "data/", "data/0", "data/01/", "data/01/01", "snapshots/", "snap"] {
            let mut expected: Vec<&str> = SLASHED_NAMES.into_iter().filter(|name| name.starts_with(prefix)).collect();
            expected.sort_unstable();
            assert_eq!(self.names(prefix).await, expected, "the names that begin with {prefix:?}");
        }
        assert_eq!(self.names("data/03/").await, Vec::<String>::new());
        fails(self.get("data/03/0").await, ErrorKind::NotFound);
        self.delete("data/03/0").await;
        for name in SLASHED_NAMES {
            self.delete(name).await;
        }
    }

    async fn refuses_no_name(&self) {
        fails(self.store.put(&ObjectKey::new(""), Bytes::new(), PutMode::Replace).await, ErrorKind::Misconfigured);
    }

    /// More objects than fit one page, each exactly once.
    async fn lists_many(&self) {
        let names: Vec<String> = (0..MANY_COUNT).map(|number| format!("q{number:032x}-s1")).collect();
        let all = |names: &[String]| stream::iter(names.to_vec());
        all(&names).for_each_concurrent(IN_FLIGHT_COUNT, |name| async move { self.put(&name, b"q").await }).await;
        assert_eq!(self.names("q").await, names, "every one of {MANY_COUNT} objects, once");
        assert_eq!(self.names("q0000000000000000000000000000002").await, names[0x20..0x30], "a part of them");
        all(&names).for_each_concurrent(IN_FLIGHT_COUNT, |name| async move { self.delete(&name).await }).await;
    }
}
