//! When the first backup of a volume may run: never before it is known that the volume holds what it should.
//!
//! An empty volume that is backed up pushes good snapshots out of retention. The gate stays shut until the claim is bound,
//! its decision is carried out, and it is old enough where it started empty although there is a history.

use std::fmt;
use std::time::Duration;

use api::recorded::{Recorded, Verdict};
use jiff::Timestamp;

/// Where the gate stands; the words are those of the audit and of Events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// The claim has no volume.
    WaitingForBound,
    /// Nothing is decided, or what was decided is not done.
    WaitingForRestore,
    /// The volume is too young.
    WaitingForAge {
        /// When it is old enough.
        until: Timestamp,
    },
    /// The volume is a raw device.
    NoFiles,
    /// Backups run.
    Ready,
    /// The policy is paused.
    Disabled,
}

impl Gate {
    /// The word for labels and the audit.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WaitingForBound => "waiting_for_pvc_bound",
            Self::WaitingForRestore => "waiting_for_restore",
            Self::WaitingForAge { .. } => "waiting_for_min_age",
            Self::NoFiles => "no_files",
            Self::Ready => "ready",
            Self::Disabled => "disabled",
        }
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// What the gate rests on.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Whether the claim has a volume.
    pub is_bound: bool,
    /// Whether that is a raw device.
    pub is_raw: bool,
    /// What was decided about it.
    pub recorded: Option<&'a Recorded>,
    /// Whether its identity has a history although it started empty.
    pub has_history: bool,
    /// Whether the policy is paused.
    pub is_paused: bool,
    /// When the claim was created.
    pub created: Timestamp,
    /// How old it must be where it started empty although there is a history.
    pub minimum_age: Duration,
}

/// Where the gate stands.
pub fn gate(seen: &Seen<'_>, now: Timestamp) -> Gate {
    if seen.is_paused {
        return Gate::Disabled;
    }
    if !seen.is_bound {
        return Gate::WaitingForBound;
    }
    if seen.is_raw {
        return Gate::NoFiles;
    }
    match seen.recorded.map(|recorded| &recorded.verdict) {
        None | Some(Verdict::Hold { .. }) => Gate::WaitingForRestore,
        Some(Verdict::Fresh { .. }) if seen.has_history => match seen.created.checked_add(seen.minimum_age) {
            Ok(until) if until > now => Gate::WaitingForAge { until },
            Ok(_) | Err(_) => Gate::Ready,
        },
        Some(Verdict::Fresh { .. } | Verdict::Restore { .. } | Verdict::Kept { .. }) => Gate::Ready,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::decide::{HoldReason, Proof};

    fn recorded(verdict: Verdict) -> Recorded {
        Recorded { verdict, repository_id: None, uid: "u".to_owned(), time: at("2026-11-22T06:00:00Z") }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[track_caller]
    fn check(verdict: Option<Verdict>, change: impl Fn(&mut Seen<'_>), now: &str, expected: &str) {
        let recorded = verdict.map(recorded);
        let mut seen = Seen {
            is_bound: true,
            is_raw: false,
            recorded: recorded.as_ref(),
            has_history: false,
            is_paused: false,
            created: at("2026-11-22T06:00:00Z"),
            minimum_age: Duration::from_secs(7200),
        };
        change(&mut seen);
        assert_eq!(gate(&seen, at(now)).as_str(), expected);
    }

    #[test]
    fn the_gate() {
        let fresh = || Some(Verdict::Fresh { proof: Proof::NeverInitialised });
        let hold = Some(Verdict::Hold { reason: HoldReason::Unknown, detail: String::new() });
        let soon = "2026-11-22T07:59:59Z";
        check(fresh(), |_| {}, soon, "ready");
        check(fresh(), |seen| seen.is_bound = false, soon, "waiting_for_pvc_bound");
        check(fresh(), |seen| seen.is_raw = true, soon, "no_files");
        check(fresh(), |seen| seen.is_paused = true, soon, "disabled");
        check(fresh(), |seen| seen.has_history = true, soon, "waiting_for_min_age");
        check(fresh(), |seen| seen.has_history = true, "2026-11-22T08:00:00Z", "ready");
        check(None, |_| {}, soon, "waiting_for_restore");
        check(hold, |_| {}, soon, "waiting_for_restore");
    }
}
