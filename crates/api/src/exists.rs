//! The answer to `GET /exists/{namespace}/{pvc}`, for those who ask as they asked pvc-plumber.
//!
//! Fields keep their names and types. What a careless reader must never see is a "no" that was only a "don't know":
//! whatever is not decided answers 503, `authoritative` false and `decision` unknown.

use serde::{Deserialize, Serialize};

use crate::decide::{Decision, Facts, Location, Snapshots};
use crate::naming::{ClaimKey, Identity, NameError};

/// What is asked of whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// Whether there is a backup of this claim.
    pub exists: bool,
    /// How many snapshots there are, at least 1; absent when there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_count: Option<u64>,
    /// What a new claim would get.
    pub decision: Verdict,
    /// Whether the repository was reached, opened, is the expected one and was listed completely, and so decided.
    pub authoritative: bool,
    /// The namespace asked for; empty if the path made no sense.
    pub namespace: String,
    /// The claim asked for; empty if the path made no sense.
    pub pvc: String,
    /// What was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<Backend>,
    /// The history in the repository, `username@hostname:path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Why the answer is no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whether the question itself was wrong.
    #[serde(skip)]
    malformed: bool,
}

/// The decision in pvc-plumber's three words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// There is a backup, and a new claim gets it.
    Restore,
    /// There is none, proven.
    Fresh,
    /// Everything else.
    Unknown,
}

/// What kind of repository was looked at, in pvc-plumber's words and, for restic in a directory, ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// restic in a bucket.
    S3,
    /// Kopia in a directory.
    KopiaFs,
    /// Kopia in a bucket.
    KopiaS3,
    /// restic in a directory.
    ResticFs,
}

impl Answer {
    /// The answer for `claim`, whose history is `identity`, from the same facts on which `decision` rests.
    pub fn new(claim: &ClaimKey, identity: &Identity, backend: Backend, facts: &Facts, decision: &Decision) -> Self {
        let (verdict, error) = match decision {
            Decision::Restore { .. } => (Verdict::Restore, None),
            Decision::Fresh { .. } => (Verdict::Fresh, None),
            Decision::Hold { reason, detail } => (Verdict::Unknown, Some(format!("{reason}: {detail}"))),
        };
        let count = snapshot_count(facts);
        Self {
            exists: count > 0,
            key_count: (count > 0).then_some(count),
            decision: verdict,
            authoritative: verdict != Verdict::Unknown,
            namespace: claim.namespace().to_owned(),
            pvc: claim.pvc().to_owned(),
            backend: Some(backend),
            source: Some(identity.to_string()),
            error,
            malformed: false,
        }
    }

    /// The answer to a path that names no claim.
    pub fn malformed(error: &NameError) -> Self {
        Self {
            exists: false,
            key_count: None,
            decision: Verdict::Unknown,
            authoritative: false,
            namespace: String::new(),
            pvc: String::new(),
            backend: None,
            source: None,
            error: Some(error.to_string()),
            malformed: true,
        }
    }

    /// The HTTP status: 200 for an authoritative answer, 400 for a path that names no claim, 503 for everything else.
    pub fn status(&self) -> u16 {
        match self.decision {
            _ if self.malformed => 400,
            Verdict::Restore | Verdict::Fresh if self.authoritative => 200,
            Verdict::Restore | Verdict::Fresh | Verdict::Unknown => 503,
        }
    }
}

/// Snapshots that were seen, quarantined ones too: they are a backup that only waits for a person.
fn snapshot_count(facts: &Facts) -> u64 {
    match &facts.location {
        Location::Open { snapshots: Snapshots { good, quarantined, .. }, .. } => {
            let held_only = quarantined.iter().filter(|held| good.iter().all(|one| one.id != held.id)).count();
            u64::try_from(good.len() + held_only).unwrap_or(u64::MAX)
        }
        Location::Unreachable { .. }
        | Location::AuthDenied { .. }
        | Location::StoreMissing { .. }
        | Location::Empty
        | Location::Uninitialised
        | Location::Unknown { .. } => 0,
    }
}

#[cfg(test)]
mod tests;
