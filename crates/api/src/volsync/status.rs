//! What both kinds report.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The only type of condition that either kind has.
pub const SYNCHRONIZING: &str = "Synchronizing";

/// Where an object stands: the reason of its condition. Source: VolSync API §9.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SynchronizingReason {
    /// A synchronization runs, failures and pauses included.
    SyncInProgress,
    /// It has ended, and what was made for it is being removed.
    CleaningUp,
    /// Idle until the schedule's next time.
    WaitingForSchedule,
    /// Idle until the manual trigger changes.
    WaitingForManual,
    /// The last look failed; the message says how.
    Error,
}

impl SynchronizingReason {
    /// The reason as conditions spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SyncInProgress => "SyncInProgress",
            Self::CleaningUp => "CleaningUp",
            Self::WaitingForSchedule => "WaitingForSchedule",
            Self::WaitingForManual => "WaitingForManual",
            Self::Error => "Error",
        }
    }

    /// The condition's message; an error brings its own.
    pub fn message(self) -> Option<&'static str> {
        match self {
            Self::SyncInProgress => Some("Synchronization in-progress"),
            Self::CleaningUp => Some("Cleaning up"),
            Self::WaitingForSchedule => Some("Waiting for next scheduled synchronization"),
            Self::WaitingForManual => Some("Waiting for manual trigger"),
            Self::Error => None,
        }
    }

    /// The reason that a condition names; `CleanupInProgress` is a fork's word for cleaning up.
    pub fn of(reason: &str) -> Option<Self> {
        match reason {
            "SyncInProgress" => Some(Self::SyncInProgress),
            "CleaningUp" | "CleanupInProgress" => Some(Self::CleaningUp),
            "WaitingForSchedule" => Some(Self::WaitingForSchedule),
            "WaitingForManual" => Some(Self::WaitingForManual),
            "Error" => Some(Self::Error),
            _ => None,
        }
    }

    /// Whether the condition is true with this reason.
    pub fn is_synchronizing(self) -> bool {
        match self {
            Self::SyncInProgress => true,
            Self::CleaningUp | Self::WaitingForSchedule | Self::WaitingForManual | Self::Error => false,
        }
    }
}

/// How far an object's synchronizations are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SyncStatus {
    /// When the last synchronization ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_sync_time: Option<Time>,
    /// When the synchronization that runs now began; absent while none runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_sync_start_time: Option<Time>,
    /// How long the last one took, as Go writes durations: `1m7.28s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_sync_duration: Option<String>,
    /// When the schedule asks for the next one; absent without a schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_sync_time: Option<Time>,
    /// The manual trigger of the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_manual_sync: Option<String>,
    /// What the last mover said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest_mover_status: Option<MoverStatus>,
    /// What another controller keeps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<BTreeMap<String, String>>,
    /// Where the object stands; one, of type `Synchronizing`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,
}

/// What a mover said when it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MoverStatus {
    /// `Successful` or `Failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// The last lines of its log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logs: Option<String>,
}

/// [`MoverStatus::result`] of a mover that did its work.
pub const SUCCESSFUL: &str = "Successful";

/// [`MoverStatus::result`] of a mover that did not.
pub const FAILED: &str = "Failed";

/// Status of a mover that is not ours, whatever it holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(extend("type" = "object", "x-kubernetes-preserve-unknown-fields" = true))]
pub struct ForeignStatus(pub Value);
