//! What a person says about a claim in its annotations.

use api::decide::{Dismissal, Restore, Word};
use api::id::SnapshotId;
use jiff::Timestamp;
use jiff::civil::Date;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;

use crate::names::{ACCEPT_SNAPSHOT, REASON_SUFFIX, RESTORE_MODE, SKIP_RESTORE};

/// Modes of pvc-plumber's that say nothing about whether to restore. Source: zero-touch §2.3.
const OTHER_MODES: [&str; 4] = ["audit", "permissive", "enforce", "strict"];

/// What a person says, as far as it counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// What counts.
    pub word: Word,
    /// What does not count, and why.
    pub ignored: Option<String>,
}

/// Reads a claim's annotations; an error is what a person has to mend first.
pub fn read(claim: &PersistentVolumeClaim) -> Result<Said, String> {
    let mut said = Said::default();
    let annotations = claim.annotations();
    if let Some((key, mode)) = RESTORE_MODE.iter().find_map(|key| annotations.get_key_value(*key)) {
        said.word.restore = match mode.as_str() {
            "never" => Restore::Never,
            "force" => Restore::Force,
            other if OTHER_MODES.contains(&other) => Restore::IfThere,
            other => return Err(format!("annotation {key} is {other:?}: it must be never or force")),
        };
    }
    said.word.accepted = annotations.get(ACCEPT_SNAPSHOT).filter(|id| !id.is_empty()).map(SnapshotId::new);
    let Some((key, value)) = SKIP_RESTORE.iter().find_map(|key| annotations.get_key_value(*key)) else {
        return Ok(said);
    };
    if value == "false" {
        return Ok(said);
    }
    let reason = annotations.get(&format!("{key}{REASON_SUFFIX}")).map(|reason| reason.trim()).unwrap_or_default();
    if reason.is_empty() {
        return Err(format!("annotation {key} needs a reason in {key}{REASON_SUFFIX}"));
    }
    if value == "true" {
        said.ignored = Some(format!(
            "annotation {key} does not count: left in Git it would empty the next rebuild, so write the moment up to \
             which backups are dismissed, as in 2026-01-15T10:30:00Z, or a snapshot's id"
        ));
        return Ok(said);
    }
    said.word.dismissed = Some(match (value.parse::<Timestamp>(), value.parse::<Date>()) {
        (Ok(moment), _) => Dismissal::UpTo(moment),
        (Err(_), Ok(_)) => {
            return Err(format!(
                "annotation {key} is {value:?}: a day is not enough, write a moment as in {value}T10:30:00Z"
            ));
        }
        (Err(_), Err(_)) => Dismissal::Snapshot(SnapshotId::new(value)),
    });
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(annotations: Value, expected: Result<(Word, bool), &str>) {
        let claim = serde_json::from_value(json!({"metadata": {"name": "data", "annotations": annotations}})).unwrap();
        let said = read(&claim).map(|said| (said.word, said.ignored.is_some()));
        assert_eq!(said, expected.map_err(str::to_owned));
    }

    fn dismissed(what: Dismissal) -> Word {
        Word { dismissed: Some(what), ..Word::default() }
    }

    #[test]
    fn a_skip_names_its_occasion_and_its_reason() {
        let key = "perennial.dev/skip-restore";
        let why = "perennial.dev/skip-restore-reason";
        let moment = "2026-11-22T10:30:00Z";
        check(json!({}), Ok((Word::default(), false)));
        check(json!({key: "false"}), Ok((Word::default(), false)));
        check(json!({key: moment, why: "new data"}), Ok((dismissed(Dismissal::UpTo(moment.parse().unwrap())), false)));
        let named = dismissed(Dismissal::Snapshot(SnapshotId::new("k1")));
        check(json!({key: "k1", why: "new data"}), Ok((named, false)));
        check(json!({key: "true", why: "new data"}), Ok((Word::default(), true)));
        let older = json!({"volsync.backup/skip-restore": "true", "volsync.backup/skip-restore-reason": "x"});
        check(older, Ok((Word::default(), true)));
        check(
            json!({key: moment, why: " "}),
            Err("annotation perennial.dev/skip-restore needs a reason in perennial.dev/skip-restore-reason"),
        );
        check(
            json!({key: "2026-11-22", why: "x"}),
            Err(
                "annotation perennial.dev/skip-restore is \"2026-11-22\": a day is not enough, write a moment as in 2026-11-22T10:30:00Z",
            ),
        );
    }

    #[test]
    fn modes_and_acceptance() {
        let restore = |restore| Ok((Word { restore, ..Word::default() }, false));
        check(json!({"pvc-plumber.io/restore-mode": "never"}), restore(Restore::Never));
        check(json!({"pvc-plumber.io/restore-mode": "force"}), restore(Restore::Force));
        check(json!({"pvc-plumber.io/restore-mode": "strict"}), restore(Restore::IfThere));
        check(
            json!({"perennial.dev/restore-mode": "always"}),
            Err("annotation perennial.dev/restore-mode is \"always\": it must be never or force"),
        );
        let accepted = Word { accepted: Some(SnapshotId::new("k2")), ..Word::default() };
        check(json!({"perennial.dev/accept-snapshot": "k2"}), Ok((accepted, false)));
    }
}
