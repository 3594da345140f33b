//! The decoders of this crate, for the fuzzer: bytes in, and nothing may go wrong but the decoding.
//!
//! Each function takes what a decoder gets once decryption is done, decodes it, and where the format can be written
//! too, checks that what was decoded is written and read again as the same.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write as _;

use ::repository::{DataId, Identity};
use jiff::Timestamp;
use serde_json::value::RawValue;
use storage::{Object, ObjectKey};

use crate::content::{Crypto, Sealer};
use crate::epoch::View;
use crate::format_blob::{self, Configuration};
use crate::index::legacy::{CompactionLog, LegacySet};
use crate::index::{Builder, IndexEntry, IndexFile, MergedIndex, Places};
use crate::manifest::Manifest;
use crate::object::ObjectId;
use crate::pack::Postamble;
use crate::policy::PolicyJson;
use crate::{blob, directory, ignore, index, manifest, object, policy, repository, snapshot, supported};

/// The clear part of `kopia.repository`.
pub fn format_blob(bytes: &[u8]) {
    let _ = serde_json::from_slice::<format_blob::FormatBlobJson>(bytes);
}

/// The locked part of `kopia.repository`, and what opening decides from it.
pub fn configuration(bytes: &[u8]) {
    if let Ok(configuration) = parse_configuration(bytes) {
        let _ = supported::check_supported(&configuration);
        if let Some(lock) = &configuration.upgrade_lock {
            lock.is_locked(Timestamp::UNIX_EPOCH);
        }
    }
}

/// `kopia.blobcfg`, decrypted.
pub fn blobcfg(bytes: &[u8]) {
    let _ = serde_json::from_slice::<format_blob::BlobRetention>(bytes);
}

/// An index blob of any version: every entry is read, merged, and what makes sense is written and read again.
pub fn index_file(bytes: &[u8]) {
    let Ok(index) = IndexFile::parse(bytes.to_vec()) else { return };
    let mut entries: Vec<IndexEntry> = (0..index.len()).filter_map(|at| index.entry(at).ok()).collect();
    if index.len() > 0 {
        let mut builder = Builder::new(Places::new("", None, 4 << 20, 1 << 30), index.key(0).len());
        let makes_sense = [&index, &index].map(|file| builder.add(file).expect("there is memory for it").is_ok());
        let built = builder.finish(None, Some(0)).expect("there is memory for it");
        let merged = MergedIndex::new(built.table, None);
        assert!(merged.iter().all(|entry| entry.is_ok()));
        assert!(makes_sense[0] || merged.is_empty());
    }
    entries.sort_by_key(|entry| entry.content);
    entries.dedup_by_key(|entry| entry.content);
    // Nothing that is written has lengths and times so far apart.
    let is_plain = |entry: &IndexEntry| {
        entry.location.packed_bytes < 1 << 24
            && entry.location.original_bytes < 1 << 24
            && entry.timestamp_seconds < 1 << 32
            && entry.location.pack.as_str().len() < 256
    };
    if entries.is_empty() || !entries.iter().all(is_plain) {
        return;
    }
    let written = index::write(2, &entries);
    let again = IndexFile::parse(written).expect("what was read is written and read again");
    let again: Vec<IndexEntry> = (0..again.len()).filter_map(|at| again.entry(at).ok()).collect();
    assert_eq!(again, entries);
}

/// Lines of names of index blobs, and behind the first zero byte a compaction log, decrypted.
pub fn compaction_log(bytes: &[u8]) {
    let (names, log) = split(bytes);
    let Ok(log) = serde_json::from_slice::<CompactionLog>(log) else { return };
    let blobs: Vec<Object> = String::from_utf8_lossy(names).lines().map(listed).collect();
    let set = LegacySet { logs: vec![(listed("m"), log)], damage: Vec::new(), blobs };
    assert!(set.active().count() <= set.blobs.len());
}

/// The end of a pack, and the local index that it names.
pub fn postamble(bytes: &[u8]) {
    if let Some(found) = Postamble::find(bytes) {
        let _ = found.open_index(&crypto(), &mut bytes.to_vec());
    }
}

/// A whole blob under a hostile name, and with hostile bytes.
pub fn whole_blob(bytes: &[u8]) {
    let (name, body) = split(bytes);
    let _ = blob::open(&crypto(), &String::from_utf8_lossy(name), body.to_vec());
    let _ = blob::session_of(&String::from_utf8_lossy(name));
}

/// A content is sealed, then changed: it is refused or the same.
pub fn content(bytes: &[u8]) {
    let Some((damage, plain)) = bytes.split_first_chunk::<4>() else { return };
    let crypto = crypto();
    let id = crypto.content_id(0, plain);
    let sealed =
        Sealer::new(&crypto).seal(id, &[plain], None, &mut Vec::new(), |sealed, bytes| (sealed, bytes.to_vec()));
    let Ok((sealed, mut stored)) = sealed else { return };
    let at = u16::from_le_bytes([damage[0], damage[1]]) as usize % stored.len();
    stored[at] ^= damage[2];
    let location = crate::Location {
        pack: ::repository::PackId::new("p"),
        offset: 0,
        packed_bytes: stored.len() as u32,
        original_bytes: sealed.original_bytes,
        compression: if damage[3] < 32 { 0x1000 + (u32::from(damage[3]) << 8) } else { sealed.compression },
        encryption_key: 0,
    };
    match crypto.unseal(&id, &location, &mut stored) {
        Ok(found) => assert_eq!(found.bytes, plain),
        Err(_) => assert!(damage[2] != 0 || location.compression != sealed.compression),
    }
}

/// An object of version 1: a compressor's header and stream.
pub fn compressed_object(bytes: &[u8]) {
    let _ = crate::read::decompress_object(bytes);
}

/// A directory listing.
pub fn directory(bytes: &[u8]) {
    let mut arriving = directory::Arriving::new(some_object());
    let pushed = bytes.chunks(7).try_for_each(|piece| arriving.push(piece));
    let arrived = pushed.and_then(|()| arriving.finish());
    let Ok(read) = directory::read(&some_object(), bytes) else { return assert!(arrived.is_err()) };
    let arrived = arrived.expect("what is read at once is read in pieces");
    assert_eq!((&arrived.entries, &arrived.summary, &arrived.side), (&read.entries, &read.summary, &read.side));
    let Some(summary) = &read.summary else { return };
    let mut written = Vec::new();
    let entries = read.entries.iter().map(|entry| Ok(Cow::Borrowed(entry)));
    directory::write(entries, summary, &read.side, &mut written).expect("a Vec takes all bytes");
    let again = directory::read(&some_object(), &written).expect("what was read is written and read again");
    assert_eq!((again.entries, again.summary, again.side), (read.entries, read.summary, read.side));
}

/// An index object.
pub fn index_object(bytes: &[u8]) {
    let Ok(pieces) = object::read_index_object(&some_object(), bytes) else { return };
    let written: Vec<_> = pieces.iter().map(|(object, _, length)| (*object, *length)).collect();
    let again = object::read_index_object(&some_object(), &object::write_index_object(&written));
    assert_eq!(again.expect("what was read is written and read again"), pieces);
}

/// A manifest content: gzip around JSON, and all that is done with the manifests in it.
pub fn manifests(bytes: &[u8]) {
    let Ok(records) = manifest::read_content("m", bytes) else { return };
    for manifest in manifest::merge(records) {
        let _ = manifest::ManifestRecord::delete(&manifest, Timestamp::UNIX_EPOCH);
        let _ = snapshot::read(&manifest);
        let _ = repository::policy_of(&manifest);
    }
}

/// The JSON of a manifest content.
pub fn manifests_json(bytes: &[u8]) {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    let packed = gzip.write_all(bytes).and_then(|()| gzip.finish());
    manifests(&packed.expect("a Vec takes all bytes"));
}

/// The payload of a snapshot's manifest.
pub fn snapshot(bytes: &[u8]) {
    let Some(manifest) = some_manifest(bytes) else { return };
    let Ok(read) = snapshot::read(&manifest) else { return };
    let _ = snapshot::labels(&read);
    let written = crate::json::to_vec(&snapshot::SnapshotJson::from(&read));
    let manifest = some_manifest(&written).expect("what was written is JSON");
    let again = snapshot::read(&manifest).expect("what was read is written and read again");
    assert_eq!((again.identity, again.root, again.tags), (read.identity, read.root, read.tags));
}

/// The payload of a policy's manifest, merged with itself, and what follows from it.
pub fn policy(bytes: &[u8]) {
    let Some(manifest) = some_manifest(bytes) else { return };
    let Ok(read) = repository::policy_of(&manifest) else { return };
    let _ = policy::effective(&[read.clone(), read.clone(), PolicyJson::defaults()]);
    let _ = crate::Policy::resolve(&policy::effective(&[read]));
    let text = String::from_utf8_lossy(bytes);
    let _ = policy::labels_of_identity_chain(&Identity {
        user: String::new(),
        host: String::new(),
        path: text.chars().take(200).collect(),
    });
}

/// The text of a dot-ignore file, and behind its first zero byte a path: rules are compiled and asked.
pub fn ignore_rules(bytes: &[u8]) {
    let (rules, path) = split(bytes);
    let (rules, path) = (String::from_utf8_lossy(rules), String::from_utf8_lossy(path));
    let Ok(rules) = ignore::Rules::default().child("/base", ignore::parse_dot_ignore(&rules)) else { return };
    let path: String = path.chars().take(1000).collect();
    rules.is_ignored(&format!("/base/{path}"), false);
    rules.is_ignored(&path, true);
}

/// The ids of objects and contents.
pub fn ids(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(id) = text.parse::<ObjectId>() {
        assert_eq!(id.to_string().parse::<ObjectId>(), Ok(id));
    }
    if let Ok(id) = text.parse::<::repository::ContentId>() {
        let mut key = Vec::new();
        id.write_key(&mut key);
        assert_eq!(::repository::ContentId::from_key(&key), Ok(id));
    }
    let _ = crate::read::parse_object(&DataId::new(text.as_ref()));
}

/// Names of index blobs, one a line: which of them count.
pub fn epochs(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let listing: Vec<Object> = text.lines().take(1000).map(listed).collect();
    let complete = View::new(&listing).complete_index();
    assert!(complete.iter().all(|key| listing.iter().any(|object| object.key == *key)));
}

/// A session marker, decrypted.
pub fn session_marker(bytes: &[u8]) {
    let _ = serde_json::from_slice::<blob::SessionMarker>(bytes);
}

/// `kopia.maintenance`, decrypted: what is read is written and read again as the same.
pub fn schedule(bytes: &[u8]) {
    let Ok(schedule) = serde_json::from_slice::<crate::Schedule>(bytes) else { return };
    let _ = (schedule.next_full(), schedule.next_quick(), schedule.runs().count());
    let again: crate::Schedule = serde_json::from_slice(&crate::json::to_vec(&schedule)).expect("it was just written");
    assert_eq!(again, schedule);
}

/// Who maintains, and how often.
pub fn maintenance_parameters(bytes: &[u8]) {
    let Some(manifest) = some_manifest(bytes) else { return };
    let Ok(parameters) = crate::MaintenanceParameters::read(&manifest) else { return };
    let _ = (parameters.quick.interval(), parameters.full.interval());
}

/// Two parts: before the first zero byte, and behind it.
fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    let at = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    (&bytes[..at], bytes.get(at + 1..).unwrap_or_default())
}

fn listed(name: &str) -> Object {
    Object { key: ObjectKey::new(name), size_bytes: name.len() as u64, modified: Timestamp::UNIX_EPOCH }
}

fn some_object() -> ObjectId {
    ObjectId::direct(::repository::ContentId::new(b'k', &[7; 16]).expect("16 bytes are a hash"))
}

fn some_manifest(bytes: &[u8]) -> Option<Manifest> {
    let data = RawValue::from_string(String::from_utf8(bytes.to_vec()).ok()?).ok()?;
    Some(Manifest { id: "0".repeat(32), labels: BTreeMap::new(), modified: Timestamp::UNIX_EPOCH, data })
}

fn parse_configuration(bytes: &[u8]) -> serde_json::Result<Configuration> {
    serde_json::from_slice::<format_blob::EncryptedFormatJson>(bytes).map(|locked| locked.format)
}

/// The keys of no repository.
fn crypto() -> Crypto {
    let json = br#"{"format":{"hash":"BLAKE2B-256-128","encryption":"AES256-GCM-HMAC-SHA256","version":3,"indexVersion":2,
        "secret":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","masterKey":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}}"#;
    Crypto::new(&parse_configuration(json).expect("it is one")).expect("it is supported")
}
