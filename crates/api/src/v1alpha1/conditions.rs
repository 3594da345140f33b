//! What our kinds' conditions say: a closed list of reasons, and how a condition changes.

use std::fmt;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// What a condition is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConditionType {
    /// Whether the object does what it is for.
    Ready,
    /// Whether a repository's store answers, as seen by the catalog.
    Reachable,
    /// Whether a repository's upkeep runs as it should.
    Maintained,
}

impl ConditionType {
    /// The type as conditions spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Reachable => "Reachable",
            Self::Maintained => "Maintained",
        }
    }
}

/// Why a condition is as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// All is well.
    Ok,
    /// Nobody has looked yet.
    Waiting,
    /// The spec contradicts itself; the message names the field.
    InvalidSpec,
    /// A policy names a repository that does not exist.
    RepositoryNotFound,
    /// A policy names a repository that is not ready.
    RepositoryNotReady,
    /// The credentials are not there yet.
    WaitingForRepoSecret,
    /// The store or the repository refuses the credentials.
    RepositoryAuth,
    /// The store gives no complete answer.
    RepositoryUnreachable,
    /// There is no repository where one must be.
    RepositoryMissing,
    /// There is another repository than the pinned one.
    WrongRepository,
    /// Upkeep is overdue or fails.
    MaintenanceFailed,
    /// Somebody else is named as the owner of upkeep.
    MaintenanceForeign,
    /// Upkeep is switched off.
    MaintenanceDisabled,
    /// The policy starts no backups.
    Paused,
}

impl Reason {
    /// The reason as conditions spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "Ok",
            Self::Waiting => "Waiting",
            Self::InvalidSpec => "InvalidSpec",
            Self::RepositoryNotFound => "RepositoryNotFound",
            Self::RepositoryNotReady => "RepositoryNotReady",
            Self::WaitingForRepoSecret => "WaitingForRepoSecret",
            Self::RepositoryAuth => "RepositoryAuth",
            Self::RepositoryUnreachable => "RepositoryUnreachable",
            Self::RepositoryMissing => "RepositoryMissing",
            Self::WrongRepository => "WrongRepository",
            Self::MaintenanceFailed => "MaintenanceFailed",
            Self::MaintenanceForeign => "MaintenanceForeign",
            Self::MaintenanceDisabled => "MaintenanceDisabled",
            Self::Paused => "Paused",
        }
    }
}

/// Whether what a condition is about holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConditionStatus {
    /// It does.
    True,
    /// It does not.
    False,
    /// Nobody can say.
    Unknown,
}

impl ConditionStatus {
    /// The status as conditions spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl fmt::Display for ConditionType {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// What a condition is to say, its times aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding<'a> {
    /// Its type; one condition of each stands in a list.
    pub type_: &'a str,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, from a closed list.
    pub reason: &'a str,
    /// The same for a person, without secrets.
    pub message: &'a str,
    /// The generation of the spec that was looked at; VolSync's kinds have none.
    pub observed_generation: Option<i64>,
}

/// Puts a finding into a list of conditions.
///
/// The time of the last transition changes with the status alone, so that looking again writes nothing new.
pub fn set(conditions: &mut Vec<Condition>, finding: &Finding<'_>, now: Timestamp) {
    let earlier = conditions.iter_mut().find(|condition| condition.type_ == finding.type_);
    let unchanged = earlier.as_ref().filter(|condition| condition.status == finding.status.as_str());
    let condition = Condition {
        type_: finding.type_.to_owned(),
        status: finding.status.as_str().to_owned(),
        reason: finding.reason.to_owned(),
        message: finding.message.to_owned(),
        observed_generation: finding.observed_generation,
        last_transition_time: unchanged.map_or(Time(now), |condition| condition.last_transition_time.clone()),
    };
    match earlier {
        Some(place) => *place = condition,
        None => conditions.push(condition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(status: ConditionStatus, reason: &str) -> Finding<'_> {
        Finding { type_: "Ready", status, reason, message: "", observed_generation: Some(1) }
    }

    #[test]
    fn the_transition_is_that_of_the_status() {
        let times: Vec<Timestamp> = (1..=3).map(|second| Timestamp::from_second(second).unwrap()).collect();
        let mut conditions = Vec::new();
        set(&mut conditions, &finding(ConditionStatus::False, "Waiting"), times[0]);
        set(&mut conditions, &finding(ConditionStatus::False, "RepositoryAuth"), times[1]);
        assert_eq!(conditions.len(), 1);
        assert_eq!((conditions[0].reason.as_str(), conditions[0].last_transition_time.0), ("RepositoryAuth", times[0]));
        set(&mut conditions, &finding(ConditionStatus::True, "Ok"), times[2]);
        assert_eq!((conditions[0].status.as_str(), conditions[0].last_transition_time.0), ("True", times[2]));
    }
}
