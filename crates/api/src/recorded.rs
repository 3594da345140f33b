//! What was decided about a claim, as it stands on the claim itself: the annotation `perennial.dev/decision`.
//!
//! A record belongs to one claim's UID. One that was copied from somewhere else, by Git or by a backup of the cluster, is
//! none.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::decide::{Decision, HoldReason, Proof, Snapshot};
use crate::id::RepositoryId;

/// A decision about one claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recorded {
    /// What was decided.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// The repository that was looked at, if one was open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository_id: Option<RepositoryId>,
    /// The claim's UID.
    pub uid: String,
    /// When.
    pub time: Timestamp,
}

/// What was decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Verdict {
    /// The data of this snapshot.
    Restore {
        /// Which one.
        snapshot: Snapshot,
    },
    /// An empty volume.
    Fresh {
        /// Why nothing is lost by it.
        proof: Proof,
    },
    /// Nothing yet.
    Hold {
        /// Why, from a closed list.
        reason: HoldReason,
        /// The same for a person.
        detail: String,
    },
    /// The volume that it has already: it was bound before it was protected.
    Kept {
        /// Why that is right.
        why: Kept,
    },
}

/// Why the volume that a claim has is the right one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Kept {
    /// There is no backup that it could stand in the way of.
    NoHistory {
        /// What proves it.
        proof: Proof,
    },
    /// Backups were taken while this claim was there: they are its own.
    OwnHistory {
        /// The newest.
        snapshot: Snapshot,
    },
    /// A person said so.
    Accepted,
}

impl Verdict {
    /// The word for labels, events and logs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Restore { .. } => "restore",
            Self::Fresh { .. } => "fresh",
            Self::Hold { .. } => "hold",
            Self::Kept { .. } => "kept",
        }
    }

    /// Whether there were backups of the claim when it was decided about.
    pub fn tells_of_a_history(&self) -> bool {
        match self {
            Self::Restore { .. } | Self::Kept { why: Kept::OwnHistory { .. } | Kept::Accepted } => true,
            Self::Fresh { .. } | Self::Hold { .. } | Self::Kept { why: Kept::NoHistory { .. } } => false,
        }
    }

    /// Whether it is to be asked again.
    pub fn is_hold(&self) -> bool {
        matches!(self, Self::Hold { .. })
    }
}

impl From<Decision> for Verdict {
    fn from(decision: Decision) -> Self {
        match decision {
            Decision::Restore { snapshot } => Self::Restore { snapshot },
            Decision::Fresh { proof } => Self::Fresh { proof },
            Decision::Hold { reason, detail } => Self::Hold { reason, detail },
        }
    }
}

impl Recorded {
    /// The record for a claim with this UID; none if there is none, or it is another claim's, or no record.
    pub fn read(text: Option<&str>, uid: &str) -> Option<Self> {
        let recorded: Self = serde_json::from_str(text?).ok()?;
        (recorded.uid == uid).then_some(recorded)
    }

    /// As it stands on the claim.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("text and numbers are always JSON")
    }

    /// Whether both say the same to whoever waits, apart from when it was said.
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        (&self.verdict, &self.repository_id, &self.uid) == (&other.verdict, &other.repository_id, &other.uid)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Restore { snapshot } => {
                let Snapshot { id, time, files, bytes, owner: _ } = snapshot;
                write!(out, "restore snapshot {id} of {time}: {files} files, {bytes} bytes")
            }
            Self::Fresh { proof } => write!(out, "start empty: {proof}"),
            Self::Hold { reason, detail } => write!(out, "wait, {reason}: {detail}"),
            Self::Kept { why: Kept::NoHistory { proof } } => write!(out, "keep the volume, nothing is lost: {proof}"),
            Self::Kept { why: Kept::OwnHistory { snapshot } } => {
                write!(out, "keep the volume, snapshot {} of {} is of it", snapshot.id, snapshot.time)
            }
            Self::Kept { why: Kept::Accepted } => out.write_str("keep the volume, a person said so"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::SnapshotId;

    #[track_caller]
    fn check(verdict: Verdict, json: &str, said: &str) {
        assert_eq!(verdict.to_string(), said);
        let recorded = Recorded {
            verdict,
            repository_id: Some(RepositoryId::new("abc")),
            uid: "u-1".to_owned(),
            time: "2026-11-22T06:00:00Z".parse().unwrap(),
        };
        assert_eq!(
            recorded.to_json(),
            format!(r#"{{{json},"repositoryId":"abc","uid":"u-1","time":"2026-11-22T06:00:00Z"}}"#)
        );
        assert_eq!(Recorded::read(Some(&recorded.to_json()), "u-1"), Some(recorded.clone()));
        assert_eq!(Recorded::read(Some(&recorded.to_json()), "u-2"), None);
    }

    #[test]
    fn what_stands_on_a_claim() {
        let time = "2026-11-21T02:00:00Z".parse().unwrap();
        let snapshot = Snapshot { id: SnapshotId::new("k1"), time, files: 3, bytes: 70, owner: None };
        check(
            Verdict::Restore { snapshot: snapshot.clone() },
            r#""decision":"restore","snapshot":{"id":"k1","time":"2026-11-21T02:00:00Z","files":3,"bytes":70}"#,
            "restore snapshot k1 of 2026-11-21T02:00:00Z: 3 files, 70 bytes",
        );
        check(
            Verdict::Fresh { proof: Proof::NeverInitialised },
            r#""decision":"fresh","proof":"neverInitialised""#,
            "start empty: the location is empty and was never used",
        );
        check(
            Verdict::Hold { reason: HoldReason::RepositoryAuth, detail: "403".to_owned() },
            r#""decision":"hold","reason":"RepositoryAuth","detail":"403""#,
            "wait, RepositoryAuth: 403",
        );
        check(
            Verdict::Kept { why: Kept::OwnHistory { snapshot } },
            r#""decision":"kept","why":{"ownHistory":{"snapshot":{"id":"k1","time":"2026-11-21T02:00:00Z","files":3,"bytes":70}}}"#,
            "keep the volume, snapshot k1 of 2026-11-21T02:00:00Z is of it",
        );
    }

    #[test]
    fn what_is_no_record_is_none() {
        assert_eq!(Recorded::read(None, "u"), None);
        assert_eq!(Recorded::read(Some("yes"), "u"), None);
        assert_eq!(Recorded::read(Some(r#"{"decision":"fresh","uid":"u"}"#), "u"), None);
    }
}
