//! What a BackupRepository's status says of the store as a whole. It changes with every look, so it is written rarely.

use std::time::Duration;

use api::overview::{Overview, Upkeep};
use api::v1alpha1::conditions::{ConditionStatus, ConditionType, Finding, Reason, set};
use api::v1alpha1::repository::{BackupRepositoryStatus, LedgerStatus};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// How old the numbers may be.
const AGE_MAX: Duration = Duration::from_secs(600);

/// How late upkeep may be: a day is how often all of it runs by Kopia's standard.
const LATE_MAX: Duration = Duration::from_secs(24 * 3600);

/// Whether the store was not looked at as a whole for long, was away meanwhile, or has the first backup of another claim.
pub fn is_due(before: &BackupRepositoryStatus, ledger: LedgerStatus, now: Timestamp) -> bool {
    let next = before.checked.as_ref().and_then(|checked| checked.0.checked_add(AGE_MAX).ok());
    before.reachable != Some(true) || before.ledger != Some(ledger) || next.is_none_or(|next| next <= now)
}

/// Puts what was seen into the status.
pub fn note(overview: &Overview, generation: Option<i64>, now: Timestamp, status: &mut BackupRepositoryStatus) {
    status.checked = Some(Time(overview.checked));
    status.latency_ms = Some(overview.latency_ms);
    let repository = overview.repository.as_ref();
    status.snapshots = repository.map(|figures| figures.snapshots);
    status.index_blobs = repository.map(|figures| figures.index_blobs);
    let Some(upkeep) = repository.and_then(|figures| figures.upkeep.as_ref()) else { return };
    status.last_maintenance = upkeep.last_good.map(Time);
    let (holds, reason, message) = judge(upkeep, now);
    let finding = Finding {
        type_: ConditionType::Maintained.as_str(),
        status: holds,
        reason: reason.as_str(),
        message: &message,
        observed_generation: generation,
    };
    set(&mut status.conditions, &finding, now);
}

fn judge(upkeep: &Upkeep, now: Timestamp) -> (ConditionStatus, Reason, String) {
    if let Some(failure) = &upkeep.failure {
        return (ConditionStatus::False, Reason::MaintenanceFailed, format!("the last run failed: {failure}"));
    }
    let Some(next) = upkeep.next_full else {
        return (ConditionStatus::Unknown, Reason::Waiting, "it has not run yet".to_owned());
    };
    match next.checked_add(LATE_MAX) {
        Ok(limit) if limit < now => {
            (ConditionStatus::False, Reason::MaintenanceFailed, format!("it was due at {next}, and nobody did it"))
        }
        Ok(_) | Err(_) => (ConditionStatus::True, Reason::Ok, format!("it is due again at {next}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::overview::Figures;

    const NOW: &str = "2026-11-22T12:00:00Z";

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[track_caller]
    fn check(upkeep: Upkeep, expected: &str) {
        let figures = Figures { snapshots: 3, index_blobs: 2, upkeep: Some(upkeep) };
        let overview = Overview { checked: at(NOW), latency_ms: 7, repository: Some(figures) };
        let mut status = BackupRepositoryStatus::default();
        note(&overview, None, at(NOW), &mut status);
        assert_eq!((status.snapshots, status.index_blobs, status.latency_ms), (Some(3), Some(2), Some(7)));
        let condition = &status.conditions[0];
        assert_eq!(format!("{} {}: {}", condition.status, condition.reason, condition.message), expected);
    }

    #[test]
    fn upkeep_is_judged_by_what_ran_and_by_what_is_due() {
        check(Upkeep::default(), "Unknown Waiting: it has not run yet");
        let due = |next: &str| Upkeep { next_full: Some(at(next)), ..Upkeep::default() };
        check(due("2026-11-22T18:00:00Z"), "True Ok: it is due again at 2026-11-22T18:00:00Z");
        check(due("2026-11-21T12:00:00Z"), "True Ok: it is due again at 2026-11-21T12:00:00Z");
        check(
            due("2026-11-21T11:59:59Z"),
            "False MaintenanceFailed: it was due at 2026-11-21T11:59:59Z, and nobody did it",
        );
        let failed = Upkeep { failure: Some("cleanup-logs: 403".to_owned()), ..due("2026-11-22T18:00:00Z") };
        check(failed, "False MaintenanceFailed: the last run failed: cleanup-logs: 403");
    }

    #[test]
    fn numbers_are_written_rarely() {
        let one = LedgerStatus { entries: 1 };
        let status = |checked: &str| BackupRepositoryStatus {
            checked: Some(Time(at(checked))),
            reachable: Some(true),
            ledger: Some(one),
            ..BackupRepositoryStatus::default()
        };
        assert!(!is_due(&status("2026-11-22T11:50:01Z"), one, at(NOW)));
        assert!(is_due(&status("2026-11-22T11:50:00Z"), one, at(NOW)));
        assert!(is_due(&status(NOW), LedgerStatus { entries: 2 }, at(NOW)));
        assert!(is_due(&BackupRepositoryStatus { reachable: Some(false), ..status(NOW) }, one, at(NOW)));
        assert!(is_due(&BackupRepositoryStatus::default(), one, at(NOW)));
    }
}
