//! Which claims a policy is for, and how often each is backed up.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::namespaces::{EXCLUDED_NAMESPACES, Namespaces};
use super::policy::SCHEDULE_PATTERN;
use crate::retain::Retain;
use crate::schedule::{LABEL, Schedule};

/// The annotation that says why a claim is not backed up.
pub const EXEMPT_REASON: &str = "perennial.dev/backup-exempt-reason";

/// Which claims a policy is for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Claims {
    /// The label by which a claim asks for backups.
    pub label: Label,
    /// Claims without that label that are backed up all the same; none when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unlabelled: Option<Unlabelled>,
    /// The namespaces whose claims are meant; all when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Namespaces>,
    /// Namespaces that are left out, beside `kube-system`, `volsync-system` and `kyverno`, which always are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 63)))]
    pub excluded_namespaces: Vec<String>,
    /// How a claim says that it is not to be backed up.
    pub exempt: Exempt,
}

impl Claims {
    /// Whether claims of the namespace `name`, which has these labels, are meant at all.
    pub fn includes(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        !self.excludes(name) && self.namespaces.as_ref().is_none_or(|namespaces| namespaces.contains(name, labels))
    }

    fn excludes(&self, name: &str) -> bool {
        EXCLUDED_NAMESPACES.contains(&name) || self.excluded_namespaces.iter().any(|excluded| excluded == name)
    }
}

/// The label by which a claim asks for backups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Label {
    /// Its key.
    #[schemars(length(min = 1, max = 317), regex(pattern = LABEL_KEY_PATTERN))]
    pub key: String,
    /// What each of its values stands for. A claim with another value is not forgotten: a person must look at it.
    #[schemars(length(min = 1, max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["value"]))]
    pub values: Vec<Cadence>,
}

/// A label's key: a name, and before it a domain and a slash, or not.
pub const LABEL_KEY_PATTERN: &str = "^([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$";

impl Default for Label {
    fn default() -> Self {
        let cadence = |schedule: Schedule| Cadence {
            value: schedule.as_str().to_owned(),
            schedule: schedule.cron().to_owned(),
            retain: Retention::from(&Retain::of_label()),
        };
        Self { key: LABEL.to_owned(), values: vec![cadence(Schedule::Hourly), cadence(Schedule::Daily)] }
    }
}

impl Label {
    /// What the value `value` stands for.
    pub fn cadence(&self, value: &str) -> Option<&Cadence> {
        self.values.iter().find(|cadence| cadence.value == value)
    }
}

/// How often a claim is backed up, and how much of it stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cadence {
    /// The label's value.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"))]
    pub value: String,
    /// When: five fields of cron, or one of the names that begin with `@`.
    #[schemars(length(max = 256), regex(pattern = SCHEDULE_PATTERN))]
    pub schedule: String,
    /// Which snapshots stay.
    #[serde(default = "Retention::of_label")]
    pub retain: Retention,
}

/// How many snapshots stay, per period; what is absent has no say. Something must stay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// The newest so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub latest: Option<u32>,
    /// The newest snapshot of each of so many hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub hourly: Option<u32>,
    /// The newest snapshot of each of so many days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub daily: Option<u32>,
    /// The newest snapshot of each of so many weeks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub weekly: Option<u32>,
    /// The newest snapshot of each of so many months.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub monthly: Option<u32>,
    /// The newest snapshot of each of so many years.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub yearly: Option<u32>,
}

impl Retention {
    /// What a claim with a `backup` label keeps.
    pub fn of_label() -> Self {
        Self::from(&Retain::of_label())
    }

    /// Whether anything stays at all.
    pub fn keeps_something(&self) -> bool {
        let Self { latest, hourly, daily, weekly, monthly, yearly } = *self;
        [latest, hourly, daily, weekly, monthly, yearly].into_iter().flatten().any(|count| count > 0)
    }
}

impl From<&Retain> for Retention {
    /// What both have; restic's `within` and `last` have no place here.
    fn from(retain: &Retain) -> Self {
        Self {
            latest: retain.latest,
            hourly: retain.hourly,
            daily: retain.daily,
            weekly: retain.weekly,
            monthly: retain.monthly,
            yearly: retain.yearly,
        }
    }
}

impl From<&Retention> for Retain {
    fn from(retention: &Retention) -> Self {
        Self {
            latest: retention.latest,
            hourly: retention.hourly,
            daily: retention.daily,
            weekly: retention.weekly,
            monthly: retention.monthly,
            yearly: retention.yearly,
            within: None,
            last: None,
        }
    }
}

/// Claims that are backed up without carrying the label: those of a Helm chart, a StatefulSet, a whole namespace. A label
/// on the claim itself outweighs this.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Unlabelled {
    /// The claims' labels; an empty selector means every claim of the namespaces that the policy is for.
    pub selector: LabelSelector,
    /// They are treated as if they had the label with this value.
    #[schemars(length(min = 1, max = 63))]
    pub value: String,
}

/// How a claim says that it is not to be backed up: by a label with the value `true`, and an annotation that says why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Exempt {
    /// The label's key.
    #[schemars(length(min = 1, max = 317), regex(pattern = LABEL_KEY_PATTERN))]
    pub label: String,
    /// Annotations that may say why; the first that does counts. Without a reason a person must look at the claim.
    #[schemars(length(min = 1, max = 8), inner(length(min = 1, max = 317), regex(pattern = LABEL_KEY_PATTERN)))]
    pub reason_annotations: Vec<String>,
}

impl Default for Exempt {
    fn default() -> Self {
        Self {
            label: "backup-exempt".to_owned(),
            reason_annotations: vec![EXEMPT_REASON.to_owned(), "storage.vanillax.dev/backup-exempt-reason".to_owned()],
        }
    }
}
