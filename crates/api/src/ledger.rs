//! The ledger: what a repository is expected to hold, so that "there is nothing" can be told from "it is gone".
//!
//! One record per claim, sealed with a key that only those who know the repository's password can derive. A record that
//! is missing proves nothing by itself; a record that is there proves that a backup existed. The content guard stands
//! here too, since it decides what becomes the next record's "last good snapshot".

use std::fmt;

use jiff::Timestamp;
use ring::hmac;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::exit::Class;
use crate::id::{RepositoryId, SnapshotId};
use crate::naming::ClaimKey;

/// Object at a directory store's root that says: this is the store, and not an empty place where it should be mounted.
pub const STORE_MARKER: &str = "_perennial/store";

/// What the ledger's key is derived for, from the repository's secrets.
pub const KEY_PURPOSE: &str = "perennial ledger";

/// The tag of a snapshot that the content guard holds back; its value is the reason.
pub const QUARANTINE_TAG: &str = "tag:perennial-quarantine";

/// The version of the record that this program writes, and the newest it reads.
pub const FORMAT_VERSION: u32 = 1;

/// Bytes of the longest sealed record that is read: many times what names and ids of the longest legal kind need, so
/// that a limit on memory never makes a true record unreadable.
pub const SEALED_BYTES_MAX: usize = 65_536;

/// What the ledger knows of one claim: its last good snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LedgerEntry {
    /// The version of this record; [`FORMAT_VERSION`] when written.
    pub format_version: u32,
    /// The repository that holds the snapshot.
    pub repository_id: RepositoryId,
    /// The claim, spelled `namespace` and `pvc`. A reader compares it with the name under which the record was found.
    #[serde(flatten)]
    pub claim: ClaimKey,
    /// The last good snapshot.
    pub snapshot_id: SnapshotId,
    /// When that snapshot was taken.
    pub time: Timestamp,
    /// Regular files in it.
    pub files: u64,
    /// Sum of their lengths in bytes.
    pub bytes: u64,
    /// The cluster that wrote the record, if it has a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
}

/// The envelope. The seal covers the bytes of `entry` as they stand, so the record is read only after they are checked.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Envelope<'a> {
    #[serde(borrow)]
    entry: &'a RawValue,
    hmac_sha256: String,
}

/// A ledger record that cannot be believed. None of them means that there is no record.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Longer than [`SEALED_BYTES_MAX`].
    #[error("ledger record has {length_bytes} bytes, more than {SEALED_BYTES_MAX}")]
    TooLong {
        /// Its length.
        length_bytes: usize,
    },
    /// Not a sealed record.
    #[error("read ledger record")]
    Malformed(#[source] serde_json::Error),
    /// Altered since it was sealed, or sealed under another password.
    #[error("ledger record has a wrong seal")]
    WrongSeal,
    /// Written by a newer program.
    #[error("ledger record has format version {version}, newer than {FORMAT_VERSION}")]
    Newer {
        /// The record's version.
        version: u32,
    },
}

impl LedgerError {
    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::TooLong { .. } | Self::Malformed(_) | Self::WrongSeal => Class::Damaged,
            Self::Newer { .. } => Class::Blocked,
        }
    }
}

/// The record in its envelope, one line of JSON: `{"entry":{…},"hmacSha256":"…"}`.
///
/// The seal is HMAC-SHA-256 over exactly the bytes between `"entry":` and the comma, in lower-case hexadecimal.
pub fn seal(entry: &LedgerEntry, key: &[u8; 32]) -> Vec<u8> {
    let payload = serde_json::to_string(entry).expect("a record of text and numbers is always JSON");
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), payload.as_bytes());
    format!(r#"{{"entry":{payload},"hmacSha256":"{}"}}"#, hex::encode(tag)).into_bytes()
}

/// Checks the seal, in constant time, and then reads the record.
///
/// Errors: every way in which the bytes are not a record that this key has sealed; see [`LedgerError`].
pub fn open(bytes: &[u8], key: &[u8; 32]) -> Result<LedgerEntry, LedgerError> {
    if bytes.len() > SEALED_BYTES_MAX {
        return Err(LedgerError::TooLong { length_bytes: bytes.len() });
    }
    let envelope: Envelope<'_> = serde_json::from_slice(bytes).map_err(LedgerError::Malformed)?;
    let payload = envelope.entry.get();
    let tag = hex::decode(&envelope.hmac_sha256).map_err(|_| LedgerError::WrongSeal)?;
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, key), payload.as_bytes(), &tag)
        .map_err(|_| LedgerError::WrongSeal)?;
    check_version(payload)?;
    serde_json::from_str(payload).map_err(LedgerError::Malformed)
}

/// Looks at the version alone, so that a newer record is called newer and not malformed.
fn check_version(payload: &str) -> Result<(), LedgerError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Version {
        format_version: u32,
    }
    let Version { format_version } = serde_json::from_str(payload).map_err(LedgerError::Malformed)?;
    if format_version > FORMAT_VERSION { Err(LedgerError::Newer { version: format_version }) } else { Ok(()) }
}

/// How much a snapshot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// Regular files.
    pub files: u64,
    /// Sum of their lengths in bytes.
    pub bytes: u64,
}

/// Below which share of the last good snapshot a new one is quarantined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Thresholds {
    /// Per cent of the files, 0–100; 0 switches this floor off.
    pub files_percent: u8,
    /// Per cent of the bytes, 0–100; 0 switches this floor off.
    pub bytes_percent: u8,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { files_percent: 20, bytes_percent: 20 }
    }
}

/// What becomes of a new snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuardVerdict {
    /// The newest good one from now on.
    Good,
    /// Stored, but neither restored by itself nor counted in retention until a person accepts it.
    Quarantine {
        /// What collapsed.
        why: Collapse,
    },
}

/// What collapsed between the last good snapshot and a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collapse {
    /// There were files, and there are none.
    NoFiles {
        /// How many there were.
        previous: u64,
    },
    /// Too few files are left.
    Files {
        /// How many there were.
        previous: u64,
        /// How many there are.
        current: u64,
    },
    /// Too few bytes are left.
    Bytes {
        /// How many there were.
        previous: u64,
        /// How many there are.
        current: u64,
    },
}

impl fmt::Display for Collapse {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFiles { previous } => write!(out, "no files left of {previous}"),
            Self::Files { previous, current } => write!(out, "{current} files left of {previous}"),
            Self::Bytes { previous, current } => write!(out, "{current} bytes left of {previous}"),
        }
    }
}

/// Whether a new snapshot may follow the last *good* one.
///
/// Comparing with the last good one, not with the last one, is what keeps three empty backups in a row from becoming
/// normal. A volume that was always empty stays good: nothing can be lost.
pub fn guard(previous: &Figures, current: &Figures, thresholds: &Thresholds) -> GuardVerdict {
    if current.files == 0 && previous.files > 0 {
        return GuardVerdict::Quarantine { why: Collapse::NoFiles { previous: previous.files } };
    }
    if is_below(current.files, previous.files, thresholds.files_percent) {
        let why = Collapse::Files { previous: previous.files, current: current.files };
        return GuardVerdict::Quarantine { why };
    }
    if is_below(current.bytes, previous.bytes, thresholds.bytes_percent) {
        let why = Collapse::Bytes { previous: previous.bytes, current: current.bytes };
        return GuardVerdict::Quarantine { why };
    }
    GuardVerdict::Good
}

/// Whether `current` is less than so many per cent of `previous`, without rounding and without overflow.
fn is_below(current: u64, previous: u64, percent: u8) -> bool {
    u128::from(current) * 100 < u128::from(previous) * u128::from(percent)
}

#[cfg(test)]
mod tests;
