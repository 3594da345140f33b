//! Policies: what to leave out, what to compress, what to keep.
//!
//! A policy is a manifest for a path, a user at a host, a host, or everyone; what counts for a source is merged from all
//! that concern it. Documents may have been written by a newer Kopia and are rewritten here, so what this program does not
//! know is carried along. Source: Kopia format, "Policies".

use std::collections::{BTreeMap, BTreeSet};

use repository::Identity;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::json::{is_default, null_is_default};
use crate::retention::Retention;

mod resolved;

pub use resolved::{CompressionChoice, ErrorHandling, FileRules, Policy};

/// Value of the label `type`.
pub(crate) const TYPE: &str = "policy";
/// The name that stands for no compression.
const NO_COMPRESSION: &str = "none";

/// A policy document as Kopia writes it: unset members are absent, the sections are not.
///
/// Source: Kopia format, "Policies", "Payload".
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PolicyJson {
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) retention: RetentionJson,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) files: FilesJson,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) error_handling: ErrorHandlingJson,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) scheduling: SchedulingJson,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) compression: CompressionJson,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) metadata_compression: MetadataCompressionJson,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) splitter: SplitterJson,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) actions: ActionsJson,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) os_snapshots: OsSnapshotsJson,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) logging: LoggingJson,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) upload: UploadJson,
    #[serde(skip_serializing_if = "is_default", deserialize_with = "null_is_default")]
    pub(crate) no_parent: bool,
    #[serde(flatten)]
    pub(crate) unknown: Map<String, Value>,
}

/// Counts below zero keep nothing, as zero does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct RetentionJson {
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) keep_latest: Option<i64>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) keep_hourly: Option<i64>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) keep_daily: Option<i64>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) keep_weekly: Option<i64>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) keep_monthly: Option<i64>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) keep_annual: Option<i64>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) ignore_identical_snapshots: Option<bool>,
    #[serde(flatten)]
    pub(crate) unknown: Map<String, Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct FilesJson {
    #[serde(skip_serializing_if = "is_default", deserialize_with = "null_is_default")]
    pub(crate) ignore: Vec<String>,
    #[serde(skip_serializing_if = "is_default", deserialize_with = "null_is_default")]
    pub(crate) no_parent_ignore: bool,
    #[serde(skip_serializing_if = "is_default", deserialize_with = "null_is_default")]
    pub(crate) ignore_dot_files: Vec<String>,
    #[serde(skip_serializing_if = "is_default", deserialize_with = "null_is_default")]
    pub(crate) no_parent_dot_files: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) ignore_cache_dirs: Option<bool>,
    #[serde(skip_serializing_if = "is_default", deserialize_with = "null_is_default")]
    pub(crate) max_file_size: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) one_file_system: Option<bool>,
    #[serde(flatten)]
    pub(crate) unknown: Map<String, Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ErrorHandlingJson {
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) ignore_file_errors: Option<bool>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) ignore_directory_errors: Option<bool>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) ignore_unknown_types: Option<bool>,
    #[serde(flatten)]
    pub(crate) unknown: Map<String, Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SchedulingJson {
    #[serde(skip_serializing_if = "is_default", deserialize_with = "null_is_default")]
    pub(crate) interval_seconds: i64,
    #[serde(skip_serializing_if = "is_default", deserialize_with = "null_is_default")]
    pub(crate) time_of_day: Vec<TimeOfDayJson>,
    #[serde(skip_serializing_if = "is_default", deserialize_with = "null_is_default")]
    pub(crate) no_parent_time_of_day: bool,
    #[serde(skip_serializing_if = "is_default", deserialize_with = "null_is_default")]
    pub(crate) manual: bool,
    #[serde(skip_serializing_if = "is_default", deserialize_with = "null_is_default")]
    pub(crate) cron: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) run_missed: Option<bool>,
    #[serde(flatten)]
    pub(crate) unknown: Map<String, Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct TimeOfDayJson {
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) hour: i64,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) min: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct CompressionJson {
    #[serde(skip_serializing_if = "is_default", deserialize_with = "null_is_default")]
    pub(crate) compressor_name: String,
    #[serde(skip_serializing_if = "is_default", deserialize_with = "null_is_default")]
    pub(crate) only_compress: Vec<String>,
    #[serde(skip_serializing_if = "is_default", deserialize_with = "null_is_default")]
    pub(crate) no_parent_only_compress: bool,
    #[serde(skip_serializing_if = "is_default", deserialize_with = "null_is_default")]
    pub(crate) never_compress: Vec<String>,
    #[serde(skip_serializing_if = "is_default", deserialize_with = "null_is_default")]
    pub(crate) no_parent_never_compress: bool,
    #[serde(skip_serializing_if = "is_default", deserialize_with = "null_is_default")]
    pub(crate) min_size: i64,
    #[serde(skip_serializing_if = "is_default", deserialize_with = "null_is_default")]
    pub(crate) max_size: i64,
    #[serde(flatten)]
    pub(crate) unknown: Map<String, Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct MetadataCompressionJson {
    #[serde(skip_serializing_if = "is_default", deserialize_with = "null_is_default")]
    pub(crate) compressor_name: String,
    #[serde(flatten)]
    pub(crate) unknown: Map<String, Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SplitterJson {
    #[serde(skip_serializing_if = "is_default", deserialize_with = "null_is_default")]
    pub(crate) algorithm: String,
    #[serde(flatten)]
    pub(crate) unknown: Map<String, Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ActionsJson {
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) before_folder: Option<ActionJson>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) after_folder: Option<ActionJson>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) before_snapshot_root: Option<ActionJson>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) after_snapshot_root: Option<ActionJson>,
    #[serde(flatten)]
    pub(crate) unknown: Map<String, Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ActionJson {
    #[serde(skip_serializing_if = "is_default", deserialize_with = "null_is_default")]
    pub(crate) path: String,
    #[serde(skip_serializing_if = "is_default", deserialize_with = "null_is_default")]
    pub(crate) args: Vec<String>,
    #[serde(skip_serializing_if = "is_default", deserialize_with = "null_is_default")]
    pub(crate) script: String,
    /// In seconds.
    #[serde(skip_serializing_if = "is_default", deserialize_with = "null_is_default")]
    pub(crate) timeout: i64,
    #[serde(skip_serializing_if = "is_default", deserialize_with = "null_is_default")]
    pub(crate) mode: String,
    #[serde(flatten)]
    pub(crate) unknown: Map<String, Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct OsSnapshotsJson {
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) volume_shadow_copy: VolumeShadowCopyJson,
    #[serde(flatten)]
    pub(crate) unknown: Map<String, Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct VolumeShadowCopyJson {
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) enable: Option<i64>,
    #[serde(flatten)]
    pub(crate) unknown: Map<String, Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LoggingJson {
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) directories: LogDetailJson,
    #[serde(deserialize_with = "null_is_default")]
    pub(crate) entries: LogDetailJson,
    #[serde(flatten)]
    pub(crate) unknown: Map<String, Value>,
}

/// Directories have the first two members only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct LogDetailJson {
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) snapshotted: Option<i64>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) ignored: Option<i64>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) cache_hit: Option<i64>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) cache_miss: Option<i64>,
    #[serde(flatten)]
    pub(crate) unknown: Map<String, Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct UploadJson {
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) max_parallel_snapshots: Option<i64>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) max_parallel_file_reads: Option<i64>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) parallel_upload_above_size: Option<i64>,
    #[serde(flatten)]
    pub(crate) unknown: Map<String, Value>,
}

impl PolicyJson {
    /// What Kopia takes where no policy says anything, and stores as the global policy of a new repository.
    ///
    /// Source: Kopia format, "Policies", "Defaults".
    pub(crate) fn defaults() -> Self {
        Self {
            retention: RetentionJson {
                keep_latest: Some(10),
                keep_hourly: Some(48),
                keep_daily: Some(7),
                keep_weekly: Some(4),
                keep_monthly: Some(24),
                keep_annual: Some(3),
                ignore_identical_snapshots: Some(false),
                ..RetentionJson::default()
            },
            files: FilesJson { ignore_dot_files: vec![".kopiaignore".to_owned()], ..FilesJson::default() },
            error_handling: ErrorHandlingJson {
                ignore_file_errors: Some(false),
                ignore_directory_errors: Some(false),
                ignore_unknown_types: Some(true),
                ..ErrorHandlingJson::default()
            },
            scheduling: SchedulingJson { run_missed: Some(true), ..SchedulingJson::default() },
            compression: CompressionJson { compressor_name: NO_COMPRESSION.to_owned(), ..CompressionJson::default() },
            metadata_compression: MetadataCompressionJson {
                compressor_name: codec::compress::Algorithm::ZstdFastest.kopia_name().to_owned(),
                ..MetadataCompressionJson::default()
            },
            os_snapshots: OsSnapshotsJson {
                volume_shadow_copy: VolumeShadowCopyJson { enable: Some(0), ..VolumeShadowCopyJson::default() },
                ..OsSnapshotsJson::default()
            },
            logging: LoggingJson {
                directories: LogDetailJson { snapshotted: Some(5), ignored: Some(5), ..LogDetailJson::default() },
                entries: LogDetailJson {
                    snapshotted: Some(0),
                    ignored: Some(5),
                    cache_hit: Some(0),
                    cache_miss: Some(0),
                    ..LogDetailJson::default()
                },
                ..LoggingJson::default()
            },
            upload: UploadJson {
                max_parallel_snapshots: Some(1),
                parallel_upload_above_size: Some(2 << 30),
                ..UploadJson::default()
            },
            ..Self::default()
        }
    }

    /// This document with these counts to keep: all six, so that one that is unset here is inherited again.
    #[must_use]
    pub(crate) fn with_retention(mut self, retention: &Retention) -> Self {
        self.retention = RetentionJson {
            keep_latest: retention.keep_latest.map(i64::from),
            keep_hourly: retention.keep_hourly.map(i64::from),
            keep_daily: retention.keep_daily.map(i64::from),
            keep_weekly: retention.keep_weekly.map(i64::from),
            keep_monthly: retention.keep_monthly.map(i64::from),
            keep_annual: retention.keep_annual.map(i64::from),
            ..self.retention
        };
        self
    }

    /// Takes from a less specific policy what is not set yet. Members that are unknown here are not inherited.
    fn merge(&mut self, next: &Self) {
        self.retention.merge(&next.retention);
        self.files.merge(&next.files);
        let (errors, next_errors) = (&mut self.error_handling, &next.error_handling);
        inherit(&mut errors.ignore_file_errors, &next_errors.ignore_file_errors);
        inherit(&mut errors.ignore_directory_errors, &next_errors.ignore_directory_errors);
        inherit(&mut errors.ignore_unknown_types, &next_errors.ignore_unknown_types);
        self.scheduling.merge(&next.scheduling);
        self.compression.merge(&next.compression);
        inherit(&mut self.metadata_compression.compressor_name, &next.metadata_compression.compressor_name);
        inherit(&mut self.splitter.algorithm, &next.splitter.algorithm);
        inherit(&mut self.actions.before_snapshot_root, &next.actions.before_snapshot_root);
        inherit(&mut self.actions.after_snapshot_root, &next.actions.after_snapshot_root);
        let shadow_copy = &mut self.os_snapshots.volume_shadow_copy;
        inherit(&mut shadow_copy.enable, &next.os_snapshots.volume_shadow_copy.enable);
        self.logging.directories.merge(&next.logging.directories);
        self.logging.entries.merge(&next.logging.entries);
        self.upload.merge(&next.upload);
    }
}

/// Sets what is unset, empty, zero or false.
fn inherit<T: Clone + Default + PartialEq>(target: &mut T, next: &T) {
    if is_default(target) {
        target.clone_from(next);
    }
}

impl RetentionJson {
    fn merge(&mut self, next: &Self) {
        inherit(&mut self.keep_latest, &next.keep_latest);
        inherit(&mut self.keep_hourly, &next.keep_hourly);
        inherit(&mut self.keep_daily, &next.keep_daily);
        inherit(&mut self.keep_weekly, &next.keep_weekly);
        inherit(&mut self.keep_monthly, &next.keep_monthly);
        inherit(&mut self.keep_annual, &next.keep_annual);
        inherit(&mut self.ignore_identical_snapshots, &next.ignore_identical_snapshots);
    }

    fn resolve(&self) -> Retention {
        let count = |keep: Option<i64>| keep.map(clamp);
        Retention {
            keep_latest: count(self.keep_latest),
            keep_hourly: count(self.keep_hourly),
            keep_daily: count(self.keep_daily),
            keep_weekly: count(self.keep_weekly),
            keep_monthly: count(self.keep_monthly),
            keep_annual: count(self.keep_annual),
        }
    }
}

impl FilesJson {
    fn merge(&mut self, next: &Self) {
        inherit(&mut self.ignore, &next.ignore);
        inherit(&mut self.no_parent_ignore, &next.no_parent_ignore);
        inherit(&mut self.ignore_dot_files, &next.ignore_dot_files);
        inherit(&mut self.no_parent_dot_files, &next.no_parent_dot_files);
        inherit(&mut self.ignore_cache_dirs, &next.ignore_cache_dirs);
        inherit(&mut self.max_file_size, &next.max_file_size);
        inherit(&mut self.one_file_system, &next.one_file_system);
    }
}

impl SchedulingJson {
    fn merge(&mut self, next: &Self) {
        inherit(&mut self.interval_seconds, &next.interval_seconds);
        if !self.no_parent_time_of_day {
            self.time_of_day = union(&self.time_of_day, &next.time_of_day);
        }
        inherit(&mut self.no_parent_time_of_day, &next.no_parent_time_of_day);
        inherit(&mut self.manual, &next.manual);
        inherit(&mut self.cron, &next.cron);
        inherit(&mut self.run_missed, &next.run_missed);
    }
}

impl CompressionJson {
    fn merge(&mut self, next: &Self) {
        inherit(&mut self.compressor_name, &next.compressor_name);
        inherit(&mut self.min_size, &next.min_size);
        inherit(&mut self.max_size, &next.max_size);
        if !self.no_parent_only_compress {
            self.only_compress = union(&self.only_compress, &next.only_compress);
        }
        inherit(&mut self.no_parent_only_compress, &next.no_parent_only_compress);
        if !self.no_parent_never_compress {
            self.never_compress = union(&self.never_compress, &next.never_compress);
        }
        inherit(&mut self.no_parent_never_compress, &next.no_parent_never_compress);
    }
}

impl LogDetailJson {
    fn merge(&mut self, next: &Self) {
        inherit(&mut self.snapshotted, &next.snapshotted);
        inherit(&mut self.ignored, &next.ignored);
        inherit(&mut self.cache_hit, &next.cache_hit);
        inherit(&mut self.cache_miss, &next.cache_miss);
    }
}

impl UploadJson {
    fn merge(&mut self, next: &Self) {
        inherit(&mut self.max_parallel_snapshots, &next.max_parallel_snapshots);
        inherit(&mut self.max_parallel_file_reads, &next.max_parallel_file_reads);
        inherit(&mut self.parallel_upload_above_size, &next.parallel_upload_above_size);
    }
}

/// Sorted, each once.
fn union<T: Clone + Ord>(left: &[T], right: &[T]) -> Vec<T> {
    left.iter().chain(right).cloned().collect::<BTreeSet<_>>().into_iter().collect()
}

/// The labels of all policies that concern `identity`, most specific first: its path, the directories above, its user at
/// its host, its host, everyone. The first are those of its own path policy.
///
/// Source: Kopia format, "Types and labels" and "Effective policy of a source".
pub(crate) fn labels_of_identity_chain(identity: &Identity) -> Vec<BTreeMap<String, String>> {
    let (host, user) = (("hostname", identity.host.as_str()), ("username", identity.user.as_str()));
    let paths = std::iter::successors(Some(identity.path.as_str()), |path| parent(path));
    let paths = paths.map(|path| labels("path", &[host, user, ("path", path)]));
    let wider = [labels("user", &[host, user]), labels("host", &[host]), labels("global", &[])];
    paths.chain(wider).collect()
}

fn labels(policy_type: &str, more: &[(&str, &str)]) -> BTreeMap<String, String> {
    [("type", TYPE), ("policyType", policy_type)]
        .iter()
        .chain(more)
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// The directory above, by either kind of slash; none above a root, which may be a Windows volume like `C:\`.
fn parent(path: &str) -> Option<&str> {
    let slash = path.rfind(['/', '\\'])?;
    let is_root = slash == 0 || (slash == 2 && path.as_bytes()[1] == b':');
    match (is_root, slash + 1 == path.len()) {
        (true, true) => None,
        (true, false) => Some(&path[..=slash]),
        (false, _) => Some(&path[..slash]),
    }
}

/// What the policies of one source say together, members that none sets taken from [`PolicyJson::defaults`].
///
/// `documents` stand most specific first, those with equal labels in the order of their `modified`. A policy with
/// `noParent` ends the list; the defaults are then left out too. Source: Kopia format, "Effective policy of a source".
pub(crate) fn effective(documents: &[PolicyJson]) -> PolicyJson {
    let mut effective = PolicyJson::default();
    for document in documents {
        effective.merge(document);
        if document.no_parent {
            return effective;
        }
    }
    effective.merge(&PolicyJson::defaults());
    if let Some(own) = documents.first() {
        effective.actions.before_folder.clone_from(&own.actions.before_folder);
        effective.actions.after_folder.clone_from(&own.actions.after_folder);
    }
    effective
}

/// Below zero is zero; more than fits is as much as fits.
fn clamp(count: i64) -> u32 {
    u32::try_from(count.max(0)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
