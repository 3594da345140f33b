//! What goes into a mover's Job and what comes out: one [`Task`], one [`Report`].
//!
//! ```text
//! operator ─ Task (JSON; no secret in it) ─→ mover ─ Report (JSON, ≤ 4 KiB, the pod's termination message) ─→ operator
//! ```
//! Where the repository is and its password come from the mounted Secret, never from the task.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::decide::Creation;
use crate::exit::{Class, Exit};
use crate::id::{RepositoryId, SnapshotId};
use crate::naming::{ClaimKey, Identity};
use crate::retain::Retain;

/// Bytes of the longest termination message. Source: Kubernetes, which cuts off what is longer.
pub const TERMINATION_MESSAGE_BYTES_MAX: usize = 4096;

/// Bytes that a reason or a hint may take in the message, as JSON text.
const SENTENCE_BYTES_MAX: usize = 512;

/// Bytes that a snapshot's or repository's id may take in the message, as JSON text; real ones have at most 64.
const ID_BYTES_MAX: usize = 128;

/// Bytes that a path may take in the message, as JSON text.
const PATH_BYTES_MAX: usize = 256;

/// Owners in the message, the most frequent ones.
const OWNER_COUNT_MAX: usize = 8;

/// Kinds of shortfalls in the message; there are four.
const SHORTFALL_COUNT_MAX: usize = 4;

/// Bytes of a kind's name in the message.
const SHORTFALL_BYTES_MAX: usize = 12;

/// Stages in the message.
const STAGE_COUNT_MAX: usize = 16;

/// Bytes that a stage's name may take in the message, as JSON text.
const STAGE_BYTES_MAX: usize = 24;

/// What a mover is to do. Externally tagged: `{"backup":{…}}` or `{"restore":{…}}`.
///
/// Unknown fields are refused: a mover that does not know an option must not run without it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Task {
    /// Take a snapshot of the data.
    Backup(BackupTask),
    /// Fill the volume from a snapshot.
    Restore(RestoreTask),
}

impl Task {
    /// The claim that the task is about.
    pub fn claim(&self) -> &ClaimKey {
        match self {
            Self::Backup(task) => &task.claim,
            Self::Restore(task) => &task.claim,
        }
    }

    /// The history that the task is about.
    pub fn identity(&self) -> &Identity {
        match self {
            Self::Backup(task) => &task.identity,
            Self::Restore(task) => &task.identity,
        }
    }
}

/// Take a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackupTask {
    /// The claim, for the ledger and the logs.
    pub claim: ClaimKey,
    /// Under which name the snapshot is recorded.
    pub identity: Identity,
    /// Where the data is mounted, read only.
    pub data: PathBuf,
    /// How repositories lie in the store.
    pub layout: Layout,
    /// Whether a ledger record is written after a good snapshot.
    pub ledger: bool,
    /// The cluster's name, for the ledger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// The format's own name of the compressor, as in `zstd-fastest`; the format's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<String>,
    /// Uploads at a time, at least 1; the engine's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<u32>,
    /// How many snapshots of this identity stay; nothing is expired when unset.
    #[serde(default, skip_serializing_if = "Retain::is_unset")]
    pub retain: Retain,
    /// The repository that it must be, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_repository_id: Option<RepositoryId>,
    /// Whether the repository may be created.
    pub creation: Creation,
    /// Whether maintenance is left to somebody else (VolSync's `KopiaMaintenance`) even where the repository names this
    /// identity as its owner: whoever creates a repository is that at first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_maintenance: bool,
    /// A quarantined snapshot that a person accepts: it becomes the last good one before the new one is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<SnapshotId>,
    /// The volume started empty in spite of the snapshots up to this moment: the new one is not held against them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disregarded: Option<Timestamp>,
}

/// Fill a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RestoreTask {
    /// The claim, for the logs.
    pub claim: ClaimKey,
    /// Whose snapshots to choose from.
    pub identity: Identity,
    /// Where the volume is mounted.
    pub data: PathBuf,
    /// How repositories lie in the store.
    pub layout: Layout,
    /// Whether the ledger is consulted before "nothing to restore" is believed.
    pub ledger: bool,
    /// The cluster's name, for the logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Downloads at a time, at least 1; the engine's default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<u32>,
    /// The repository that it must be, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_repository_id: Option<RepositoryId>,
    /// Which snapshot.
    pub selection: Selection,
    /// Whether it is as good if there is none at all, neither of this identity nor, where there is no repository, of any:
    /// proven, the run ends with [`Outcome::Nothing`], and the volume stays as it is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub may_be_nothing: bool,
    /// Whether files that the snapshot does not have are removed from the volume (VolSync's `enableFileDeletion`).
    #[serde(default)]
    pub delete_extra: bool,
}

/// How repositories lie in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Layout {
    /// Every claim has its own, at `{namespace}/{pvc}` below the store's prefix; the ledger stands at that prefix.
    PerClaim,
    /// All claims share one, told apart by identity; the ledger stands inside its location.
    Shared,
}

/// Which snapshot of an identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Selection {
    /// The newest good one.
    Latest,
    /// Exactly this one, quarantined or not: somebody named it.
    Id(SnapshotId),
    /// The newest good one that is not newer than `time`, and then so many further back.
    AsOf {
        /// The moment.
        time: Timestamp,
        /// How many to skip (VolSync's `previous` beside `restoreAsOf`).
        #[serde(default)]
        previous: u32,
    },
    /// So many further back than the newest good one; 0 is the newest.
    Previous(u32),
}

/// How a run ended, with what it did until then.
///
/// Counters are of this run and start at 0. Fields that a reader does not know are skipped, so that an older operator
/// understands a newer mover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// The snapshot written or restored; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotId>,
    /// The repository; absent when it was never opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<RepositoryId>,
    /// Regular files in the snapshot, or restored.
    #[serde(default)]
    pub files: u64,
    /// Sum of their lengths in bytes.
    #[serde(default)]
    pub bytes: u64,
    /// Bytes that the store had to take for it, compressed and sealed; 0 for a restore.
    #[serde(default)]
    pub new_bytes: u64,
    /// Whether the snapshot is there, but held back: it has so much less than the one before that a person must look.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub quarantined: bool,
    /// Whether upkeep of the repository was due with this backup and did not come to its end; the log says why.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub maintenance_failed: bool,
    /// What could not be read (backup) or written (restore).
    #[serde(default, skip_serializing_if = "Unreadable::is_none")]
    pub unreadable: Unreadable,
    /// How many entries are in the snapshot, or restored, but not all as they were, by what is missing of them: extended
    /// attributes, special files, hard links, times. The log names the first.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub shortfalls: BTreeMap<String, u64>,
    /// Who owns the data, most files first, so that the next run can have the right uid.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owners: Vec<Owner>,
    /// Whose snapshots the repository has, those with the newest first, where it has none that was asked for; as far as
    /// they fit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub available: Vec<Available>,
    /// Wall time of each stage in milliseconds, by the stage's name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub stages_ms: BTreeMap<String, u64>,
    /// Most resident memory, in bytes.
    #[serde(default)]
    pub peak_memory_bytes: u64,
    /// Requests to the store.
    #[serde(default)]
    pub storage_calls: u64,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// Everything is there.
    Complete,
    /// Everything but what [`Report::unreadable`] counts.
    Partial,
    /// There was nothing to do, and that is proven: an empty volume, or no snapshot to restore.
    Nothing,
    /// It did not work.
    Failed {
        /// What to do about it.
        class: Class,
        /// The chain of errors on one line, without secrets.
        reason: String,
        /// What a person can do; empty when there is nothing to say.
        #[serde(default)]
        hint: String,
    },
    /// Stopped from outside; the repository is valid, the next run goes on.
    Interrupted,
}

impl Outcome {
    /// The exit code of a mover that ends so.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Complete | Self::Nothing => Exit::Success,
            Self::Partial => Exit::Partial,
            Self::Failed { class, .. } => Exit::from(*class),
            Self::Interrupted => Exit::Interrupted,
        }
    }
}

/// Files that were skipped with an error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unreadable {
    /// How many.
    pub count: u64,
    /// The first of them, as far as they fit. A path that had to be cut ends in `…`.
    pub paths: Vec<String>,
}

impl Unreadable {
    fn is_none(&self) -> bool {
        self.count == 0 && self.paths.is_empty()
    }
}

/// An owner of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Files that both own.
    pub files: u64,
}

/// A history that a repository has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Available {
    /// `username@hostname:path`. One that had to be cut ends in `…`.
    pub identity: String,
    /// How many snapshots.
    pub snapshots: u64,
    /// When the newest was taken.
    pub latest: Timestamp,
}

impl Report {
    /// A report that says only how it ended.
    pub fn new(outcome: Outcome) -> Self {
        Self {
            outcome,
            snapshot: None,
            repository: None,
            files: 0,
            bytes: 0,
            new_bytes: 0,
            quarantined: false,
            maintenance_failed: false,
            unreadable: Unreadable::default(),
            shortfalls: BTreeMap::new(),
            owners: Vec::new(),
            available: Vec::new(),
            stages_ms: BTreeMap::new(),
            peak_memory_bytes: 0,
            storage_calls: 0,
        }
    }

    /// A failure.
    pub fn failed(class: Class, reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Outcome::Failed { class, reason: reason.into(), hint: hint.into() })
    }

    /// The report as JSON of at most [`TERMINATION_MESSAGE_BYTES_MAX`] bytes, whatever it holds.
    ///
    /// Outcome, class and counters always survive. Sentences are cut, then as many paths follow as there is room for, and
    /// then as many identities.
    pub fn to_termination_message(&self) -> String {
        let mut report = self.within_limits();
        // The first that does not fit ends the list, so that the paths are really the first ones.
        for path in &self.unreadable.paths {
            report.unreadable.paths.push(cut(path, PATH_BYTES_MAX));
            if report.to_json().len() > TERMINATION_MESSAGE_BYTES_MAX {
                report.unreadable.paths.pop();
                break;
            }
        }
        for available in &self.available {
            let identity = cut(&available.identity, PATH_BYTES_MAX);
            report.available.push(Available { identity, ..available.clone() });
            if report.to_json().len() > TERMINATION_MESSAGE_BYTES_MAX {
                report.available.pop();
                break;
            }
        }
        report.to_json()
    }

    /// Reads a termination message. Errors: the text is no report, for instance since the pod died before it wrote one.
    pub fn from_termination_message(text: &str) -> Result<Self, ReportError> {
        serde_json::from_str(text).map_err(ReportError)
    }

    /// Everything but the paths and identities, each part within its limit. The limits together leave room for some paths.
    fn within_limits(&self) -> Self {
        let outcome = match &self.outcome {
            Outcome::Failed { class, reason, hint } => Outcome::Failed {
                class: *class,
                reason: cut(reason, SENTENCE_BYTES_MAX),
                hint: cut(hint, SENTENCE_BYTES_MAX),
            },
            other @ (Outcome::Complete | Outcome::Partial | Outcome::Nothing | Outcome::Interrupted) => other.clone(),
        };
        let shortfalls = self.shortfalls.iter().take(SHORTFALL_COUNT_MAX);
        let stages = self.stages_ms.iter().take(STAGE_COUNT_MAX);
        Self {
            outcome,
            snapshot: self.snapshot.as_ref().map(|id| SnapshotId::new(cut(id.as_str(), ID_BYTES_MAX))),
            repository: self.repository.as_ref().map(|id| RepositoryId::new(cut(id.as_str(), ID_BYTES_MAX))),
            unreadable: Unreadable { count: self.unreadable.count, paths: Vec::new() },
            available: Vec::new(),
            shortfalls: shortfalls.map(|(kind, count)| (cut(kind, SHORTFALL_BYTES_MAX), *count)).collect(),
            owners: self.owners.iter().take(OWNER_COUNT_MAX).copied().collect(),
            stages_ms: stages.map(|(stage, ms)| (cut(stage, STAGE_BYTES_MAX), *ms)).collect(),
            ..*self
        }
    }

    fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a report of text and numbers is always JSON")
    }
}

/// A termination message that is no report.
#[derive(Debug, thiserror::Error)]
#[error("read the mover's report")]
pub struct ReportError(#[source] serde_json::Error);

/// The beginning of `text`, with `…` at its end where something is missing, so that it takes at most `max_bytes` as
/// JSON text without its quotes.
fn cut(text: &str, max_bytes: usize) -> String {
    const MARK: char = '…';
    let mut length_bytes = 0;
    // The end of the longest beginning that still has room for the mark.
    let mut marked_end = 0;
    for (start, char) in text.char_indices() {
        length_bytes += json_bytes(char);
        if length_bytes > max_bytes {
            let head = text.get(..marked_end).unwrap_or_default();
            return format!("{head}{MARK}");
        }
        if length_bytes + MARK.len_utf8() <= max_bytes {
            marked_end = start + char.len_utf8();
        }
    }
    text.to_owned()
}

/// Bytes of one character in JSON text: a control character takes up to six.
fn json_bytes(char: char) -> usize {
    match char {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        other => other.len_utf8(),
    }
}

#[cfg(test)]
mod tests;
