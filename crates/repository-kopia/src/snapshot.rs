//! Snapshot manifests.
//!
//! Kopia's garbage collection passes over a snapshot that it cannot parse and then takes its data for garbage: types and
//! forms here must be exact. Source: Kopia format, "Snapshot manifest payload".

use std::collections::BTreeMap;

use jiff::Timestamp;
use repository::{Identity, Snapshot, SnapshotId, Stats};
use serde::{Deserialize, Serialize};

use crate::directory::EntryJson;
use crate::error::ReadError;
use crate::json::null_is_default;
use crate::manifest::Manifest;

/// Snapshots, and what stood in the way of knowing them all.
#[derive(Debug, Default)]
pub struct Listing {
    /// Ascending by start.
    pub snapshots: Vec<Snapshot>,
    /// Records that could not be read. Unless this is empty, there may be more snapshots than are listed.
    pub damage: Vec<ReadError>,
}

/// Value of the label `type`.
pub(crate) const TYPE: &str = "snapshot";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SnapshotJson<'a> {
    #[serde(default)]
    id: String,
    source: SourceJson,
    #[serde(default)]
    description: String,
    start_time: Timestamp,
    end_time: Timestamp,
    #[serde(default)]
    stats: StatsJson,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    incomplete: Option<String>,
    #[serde(default, borrow)]
    root_entry: Option<EntryJson<'a>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "null_is_default")]
    tags: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pins: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SourceJson {
    host: String,
    user_name: String,
    path: String,
}

/// Counts are 32 bits wide in Kopia; more would make the whole manifest unreadable to it.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct StatsJson {
    total_size: i64,
    excluded_total_size: i64,
    file_count: i32,
    cached_files: i32,
    non_cached_files: i32,
    dir_count: i32,
    excluded_file_count: i32,
    excluded_dir_count: i32,
    ignored_error_count: i32,
    error_count: i32,
}

fn clamp(count: u64) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn clamp_bytes(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

impl<'a> From<&'a Snapshot> for SnapshotJson<'a> {
    fn from(snapshot: &'a Snapshot) -> Self {
        let stats = &snapshot.stats;
        Self {
            id: String::new(),
            source: SourceJson {
                host: snapshot.identity.host.clone(),
                user_name: snapshot.identity.user.clone(),
                path: snapshot.identity.path.clone(),
            },
            description: snapshot.description.clone(),
            start_time: snapshot.start,
            end_time: snapshot.end,
            stats: StatsJson {
                total_size: clamp_bytes(stats.total_bytes),
                excluded_total_size: clamp_bytes(stats.excluded_bytes),
                file_count: clamp(stats.file_count),
                cached_files: clamp(stats.cached_file_count),
                non_cached_files: clamp(stats.file_count),
                dir_count: clamp(stats.directory_count),
                excluded_file_count: clamp(stats.excluded_file_count),
                excluded_dir_count: clamp(stats.excluded_directory_count),
                ignored_error_count: clamp(stats.ignored_error_count),
                error_count: clamp(stats.error_count),
            },
            incomplete: snapshot.incomplete.clone(),
            root_entry: snapshot.root.as_ref().map(EntryJson::from),
            tags: snapshot.tags.clone(),
            pins: snapshot.pins.clone(),
        }
    }
}

/// Reads the snapshot in a manifest of that type.
pub(crate) fn read(manifest: &Manifest) -> Result<Snapshot, ReadError> {
    let damaged = |detail: String| ReadError::Damaged { what: format!("snapshot {}", manifest.id), detail };
    let parsed: SnapshotJson<'_> =
        serde_json::from_str(manifest.data.get()).map_err(|error| damaged(error.to_string()))?;
    let root = parsed.root_entry.map(EntryJson::into_root).transpose().map_err(damaged)?;
    let count = |value: i32| u64::try_from(value).unwrap_or(0);
    let bytes = |value: i64| u64::try_from(value).unwrap_or(0);
    let stats = parsed.stats;
    Ok(Snapshot {
        id: SnapshotId::new(&manifest.id),
        identity: Identity { user: parsed.source.user_name, host: parsed.source.host, path: parsed.source.path },
        description: parsed.description,
        start: parsed.start_time,
        end: parsed.end_time,
        incomplete: parsed.incomplete.filter(|reason| !reason.is_empty()),
        root,
        stats: Stats {
            total_bytes: bytes(stats.total_size),
            file_count: count(stats.file_count),
            cached_file_count: count(stats.cached_files),
            directory_count: count(stats.dir_count),
            excluded_file_count: count(stats.excluded_file_count),
            excluded_directory_count: count(stats.excluded_dir_count),
            excluded_bytes: bytes(stats.excluded_total_size),
            ignored_error_count: count(stats.ignored_error_count),
            error_count: count(stats.error_count),
        },
        tags: parsed.tags,
        pins: parsed.pins,
    })
}

/// The labels of a snapshot's manifest, by which it is found.
pub(crate) fn labels(snapshot: &Snapshot) -> BTreeMap<String, String> {
    let mut labels = snapshot.tags.clone();
    labels.extend(identity_labels(&snapshot.identity));
    labels
}

/// The labels that every snapshot of this identity carries.
pub(crate) fn identity_labels(identity: &Identity) -> BTreeMap<String, String> {
    [("type", TYPE), ("hostname", &identity.host), ("username", &identity.user), ("path", &identity.path)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}
