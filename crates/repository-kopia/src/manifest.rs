//! Manifests: small labelled JSON documents. Snapshots and policies are manifests.
//!
//! Source: Kopia format, "Manifests".

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};

use codec::cipher::random_bytes;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::ReadError;
use crate::json::{self, null_is_default};

/// Content prefix of manifests.
pub(crate) const MANIFEST_PREFIX: u8 = b'm';
/// No manifest content is larger once decompressed, in bytes: a guard, not a rule of the format. A snapshot takes some 1,500.
const MANIFEST_BYTES_MAX: u64 = 256 << 20;

/// How much later than a manifest the record of its deletion is at least.
const AFTER: SignedDuration = SignedDuration::from_millis(1);

/// One manifest.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// 32 hexadecimal digits; random.
    pub id: String,
    /// What it is about; always has `type`.
    pub labels: BTreeMap<String, String>,
    /// When it was written.
    pub modified: Timestamp,
    /// Its document.
    pub data: Box<RawValue>,
}

/// A manifest as it is written, or the record that one is gone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ManifestRecord {
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) labels: Option<BTreeMap<String, String>>,
    pub(crate) modified: Timestamp,
    #[serde(default, skip_serializing_if = "std::ops::Not::not", deserialize_with = "null_is_default")]
    pub(crate) deleted: bool,
    #[serde(default)]
    pub(crate) data: Option<Box<RawValue>>,
}

#[derive(Serialize, Deserialize)]
struct ManifestContentJson {
    /// Must be there, if only as `null`: records that are unknown are not absent.
    #[serde(deserialize_with = "null_is_default")]
    entries: Vec<ManifestRecord>,
}

impl ManifestRecord {
    /// A new manifest under a new id.
    pub(crate) fn put(
        labels: BTreeMap<String, String>,
        data: &impl Serialize,
        now: Timestamp,
    ) -> Result<Self, codec::Error> {
        let data = String::from_utf8(json::to_vec(data)).expect("JSON is text");
        Ok(Self {
            id: hex::encode(random_bytes::<16>()?),
            labels: Some(labels),
            modified: now,
            deleted: false,
            data: Some(RawValue::from_string(data).expect("it was just written as JSON")),
        })
    }

    /// The record that `manifest` is gone. The later of two records counts, so it is dated after the manifest itself even
    /// where a clock says otherwise.
    pub(crate) fn delete(manifest: &Manifest, now: Timestamp) -> Self {
        Self::delete_id(&manifest.id, manifest.modified, now)
    }

    /// The record that this one is gone.
    pub(crate) fn deletion(&self, now: Timestamp) -> Self {
        Self::delete_id(&self.id, self.modified, now)
    }

    fn delete_id(id: &str, modified: Timestamp, now: Timestamp) -> Self {
        let earliest = modified.checked_add(AFTER).unwrap_or(now);
        Self { id: id.to_owned(), labels: None, modified: now.max(earliest), deleted: true, data: None }
    }
}

/// The bytes of a manifest content.
pub(crate) fn write_content(records: Vec<ManifestRecord>) -> Vec<u8> {
    let plain = json::to_line(&ManifestContentJson { entries: records });
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&plain).expect("a Vec takes all bytes");
    gzip.finish().expect("a Vec takes all bytes")
}

/// Reads a manifest content.
pub(crate) fn read_content(name: &str, bytes: &[u8]) -> Result<Vec<ManifestRecord>, ReadError> {
    read_bounded(name, bytes, MANIFEST_BYTES_MAX)
}

fn read_bounded(name: &str, bytes: &[u8], bytes_max: u64) -> Result<Vec<ManifestRecord>, ReadError> {
    let damaged = |detail: String| ReadError::Damaged { what: format!("manifest content {name}"), detail };
    let mut plain = Vec::new();
    flate2::read::MultiGzDecoder::new(bytes)
        .take(bytes_max + 1)
        .read_to_end(&mut plain)
        .map_err(|error| damaged(error.to_string()))?;
    if plain.len() as u64 > bytes_max {
        return Err(damaged(format!("it is longer than {bytes_max} bytes once decompressed")));
    }
    let parsed: ManifestContentJson = serde_json::from_slice(&plain).map_err(|error| damaged(error.to_string()))?;
    Ok(parsed.entries)
}

/// The manifests that exist: of each id the latest record counts, and only if it is no deletion.
pub(crate) fn merge(records: impl IntoIterator<Item = ManifestRecord>) -> Vec<Manifest> {
    let mut latest: BTreeMap<String, ManifestRecord> = BTreeMap::new();
    for record in records {
        match latest.get(&record.id) {
            Some(known) if known.modified >= record.modified => {}
            _ => {
                latest.insert(record.id.clone(), record);
            }
        }
    }
    latest
        .into_values()
        .filter(|record| !record.deleted)
        .filter_map(|record| {
            let labels = record.labels.unwrap_or_default();
            Some(Manifest { id: record.id, labels, modified: record.modified, data: record.data? })
        })
        .collect()
}

/// All manifests that carry every one of `labels`.
pub(crate) fn with_labels<'a>(
    manifests: &'a [Manifest],
    labels: &'a BTreeMap<String, String>,
) -> impl Iterator<Item = &'a Manifest> {
    manifests.iter().filter(move |manifest| labels.iter().all(|(key, value)| manifest.labels.get(key) == Some(value)))
}

#[cfg(test)]
mod tests {
    use super::{ManifestRecord, merge, read_bounded, read_content, write_content};
    use crate::json;

    /// Source: Kopia format, "JSON byte forms" vectors.
    #[test]
    fn records_have_kopias_bytes() {
        let deletion = "{\"id\":\"00112233445566778899aabbccddeeff\",\"labels\":null,\"modified\":\"2023-11-14T22:13:20.123456Z\",\"deleted\":true,\"data\":null}";
        let put = "{\"id\":\"00112233445566778899aabbccddeeff\",\"labels\":{\"policyType\":\"global\",\"type\":\"policy\"},\"modified\":\"2023-11-14T22:13:20.123456Z\",\"data\":{\"retention\":{}}}";
        for text in [deletion, put] {
            let record: ManifestRecord = serde_json::from_str(text).unwrap();
            assert_eq!(String::from_utf8(json::to_vec(&record)).unwrap(), text);
        }
    }

    #[test]
    fn what_is_too_long_is_said_to_be() {
        let long = write_content(vec![
            ManifestRecord::put([].into(), &"x".repeat(5_000), "2026-01-01T00:00:00Z".parse().unwrap()).unwrap(),
        ]);
        assert_eq!(read_bounded("m0", &long, 10_000).unwrap().len(), 1);
        let error = read_bounded("m0", &long, 5_000).unwrap_err();
        assert_eq!(error.to_string(), "manifest content m0 is damaged: it is longer than 5000 bytes once decompressed");
    }

    #[test]
    fn a_later_deletion_wins_and_an_earlier_does_not() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let put = ManifestRecord::put([("type".to_owned(), "x".to_owned())].into(), &1, now).unwrap();
        let read = merge(read_content("m0", &write_content(vec![put.clone()])).unwrap());
        assert_eq!(read.len(), 1);
        let gone = ManifestRecord::delete(&read[0], now);
        assert_eq!(merge([put.clone(), gone.clone()]).len(), 0);
        let earlier = ManifestRecord { modified: "2025-12-31T00:00:01Z".parse().unwrap(), ..gone };
        assert_eq!(merge([earlier, put.clone()]).len(), 1);
    }
}
