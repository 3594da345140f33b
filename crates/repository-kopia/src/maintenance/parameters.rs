//! The manifest that says who maintains a repository, and how often.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::ReadError;
use crate::json::null_is_default;
use crate::manifest::Manifest;

/// Value of the label `type`.
pub(crate) const TYPE: &str = "maintenance";

const SECOND: i64 = 1_000_000_000;

/// How a repository is maintained. Members that are unknown here are kept as they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MaintenanceParameters {
    /// The only client that maintains without being forced to, `user@host`; empty when nobody was named.
    #[serde(deserialize_with = "null_is_default")]
    pub owner: String,
    /// The frequent cycle.
    pub quick: CycleParameters,
    /// The thorough cycle.
    pub full: CycleParameters,
    /// Which diagnostic logs stay.
    pub log_retention: LogRetention,
    /// Locks of blobs are made longer in each full cycle.
    #[serde(deserialize_with = "null_is_default")]
    pub extend_object_locks: bool,
    #[serde(deserialize_with = "null_is_default")]
    list_parallelism: i64,
    #[serde(flatten)]
    other: Map<String, Value>,
}

/// One of the two cycles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CycleParameters {
    /// Whether it runs by itself.
    #[serde(default, deserialize_with = "null_is_default")]
    pub enabled: bool,
    #[serde(default, rename = "interval", deserialize_with = "null_is_default")]
    interval_nanoseconds: i64,
}

/// Which diagnostic logs stay. All zero stands for the defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LogRetention {
    /// Bytes at most.
    #[serde(rename = "maxTotalSize", deserialize_with = "null_is_default")]
    pub total_bytes_max: i64,
    /// How many at most.
    #[serde(rename = "maxCount", deserialize_with = "null_is_default")]
    pub count_max: i64,
    #[serde(rename = "maxAge", deserialize_with = "null_is_default")]
    age_max_nanoseconds: i64,
}

impl Default for MaintenanceParameters {
    fn default() -> Self {
        Self {
            owner: String::new(),
            quick: CycleParameters { enabled: true, interval_nanoseconds: 3_600 * SECOND },
            full: CycleParameters { enabled: true, interval_nanoseconds: 86_400 * SECOND },
            log_retention: LogRetention::standard(),
            extend_object_locks: false,
            list_parallelism: 0,
            other: Map::new(),
        }
    }
}

impl CycleParameters {
    /// How long after a cycle the next one is due.
    pub fn interval(&self) -> SignedDuration {
        SignedDuration::from_nanos(self.interval_nanoseconds)
    }
}

impl LogRetention {
    fn standard() -> Self {
        Self { total_bytes_max: 1 << 30, count_max: 10_000, age_max_nanoseconds: 30 * 86_400 * SECOND }
    }

    /// How old a log may become.
    pub fn age_max(&self) -> SignedDuration {
        SignedDuration::from_nanos(self.age_max_nanoseconds)
    }

    /// The limits that hold.
    #[must_use]
    pub fn or_standard(self) -> Self {
        if self == Self::default() { Self::standard() } else { self }
    }
}

impl MaintenanceParameters {
    pub(crate) fn read(manifest: &Manifest) -> Result<Self, ReadError> {
        serde_json::from_str(manifest.data.get()).map_err(|error| ReadError::Damaged {
            what: format!("maintenance parameters {}", manifest.id),
            detail: error.to_string(),
        })
    }
}

/// Of several manifests where there should be one, the one that Kopia takes too.
pub(crate) fn latest<'a>(manifests: impl IntoIterator<Item = &'a Manifest>) -> Option<&'a Manifest> {
    let mut sorted: Vec<&Manifest> = manifests.into_iter().collect();
    sorted.sort_by_key(|manifest| manifest.modified);
    sorted.into_iter().reduce(
        |latest, next| {
            if next.modified > latest.modified || next.id > latest.id { next } else { latest }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::MaintenanceParameters;
    use crate::json;

    #[test]
    fn kopias_form_is_kept_with_members_that_are_unknown_here() {
        let text = r#"{"owner":"me@here","quick":{"enabled":true,"interval":3600000000000},"full":{"enabled":false,"interval":86400000000000},"logRetention":{"maxTotalSize":1,"maxCount":2,"maxAge":3},"extendObjectLocks":true,"listParallelism":4,"later":{"a":[1]}}"#;
        let read: MaintenanceParameters = serde_json::from_str(text).unwrap();
        assert!(!read.full.enabled && read.extend_object_locks);
        assert_eq!(String::from_utf8(json::to_vec(&read)).unwrap(), text);
    }

    #[test]
    fn what_is_absent_or_null_is_the_default() {
        let read: MaintenanceParameters = serde_json::from_str(r#"{"owner":null}"#).unwrap();
        assert_eq!(read, MaintenanceParameters::default());
        assert_eq!(read.log_retention.or_standard().count_max, 10_000);
        let zero: MaintenanceParameters = serde_json::from_str(r#"{"logRetention":{}}"#).unwrap();
        assert_eq!(zero.log_retention.or_standard().count_max, 10_000);
    }
}
