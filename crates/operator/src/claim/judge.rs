//! Whether a claim is protected, by which policy, and if not, why not: each claim of the cluster has one answer.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::v1alpha1::BackupPolicy;
use api::v1alpha1::claims::{Cadence, Exempt};
use api::v1alpha1::namespaces::{EXCLUDED_NAMESPACES, selects};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;

use super::word::{self, Said};
use crate::names::{CLEANUP, CREATED_BY, CREATOR, POPULATOR_FOR, RESTORE_AS_OF};

/// Bytes of the longest name of a claim that is backed up: `volsync-<pvc>-backup-src` is a name, too, and those have 253.
const NAME_BYTES_MAX: usize = 253 - "volsync-".len() - "-backup-src".len();

/// What is said of a claim that is not backed up although it asks for it.
const NO_FILES: &str = "a raw block volume has no files to back up, so it is not backed up";

/// Values of the label that plainly mean "no".
pub const NO: [&str; 7] = ["false", "no", "none", "off", "disabled", "never", ""];

/// What a claim is to us.
#[derive(Clone, Debug, PartialEq)]
pub enum Judgement {
    /// Nobody asks for backups of it.
    Ignored(Ignored),
    /// Somebody says that it is not to be backed up, and why.
    Exempt {
        /// In their words.
        reason: String,
    },
    /// Somebody asks for something that cannot be understood: nothing is written, and a new claim waits.
    Review {
        /// What a person has to mend.
        why: String,
    },
    /// It asks for backups and is a raw device, which has no files: it is not backed up. Where there is a backup of files
    /// it must not come up without them.
    Raw(Protection),
    /// It is backed up.
    Protected(Protection),
}

/// Why nobody asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// It has no label, and no policy picks it without one.
    NoLabel,
    /// Its label says no.
    OptedOut,
    /// Its namespace is never backed up.
    ExcludedNamespace,
    /// It is a volume on its way to somebody else, or a copy.
    Helper,
}

impl Ignored {
    /// The word for the audit.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoLabel => "no-label",
            Self::OptedOut => "opted-out",
            Self::ExcludedNamespace => "excluded-namespace",
            Self::Helper => "helper",
        }
    }
}

/// How a claim is backed up.
#[derive(Clone, Debug, PartialEq)]
pub struct Protection {
    /// The policy that fits it first.
    pub policy: Arc<BackupPolicy>,
    /// How often, and how much stays.
    pub cadence: Cadence,
    /// What a person says about the claim.
    pub said: Said,
}

/// Judges a claim. `policies` come in the order in which they count.
pub fn judge(
    claim: &PersistentVolumeClaim,
    namespace_labels: &BTreeMap<String, String>,
    policies: &[Arc<BackupPolicy>],
) -> Judgement {
    let namespace = claim.namespace().unwrap_or_default();
    if EXCLUDED_NAMESPACES.contains(&namespace.as_str()) {
        return Judgement::Ignored(Ignored::ExcludedNamespace);
    }
    let is_movers = claim.labels().get(CREATED_BY).map(String::as_str) == Some(CREATOR);
    if is_movers || claim.labels().contains_key(POPULATOR_FOR) || claim.labels().contains_key(CLEANUP) {
        return Judgement::Ignored(Ignored::Helper);
    }
    if let Some((policy, value)) = asking(claim, namespace_labels, policies) {
        return of_value(claim, policy, value);
    }
    let is_excluded = policies.iter().any(|policy| {
        let claims = &policy.spec.claims;
        claim.labels().contains_key(&claims.label.key) && !claims.includes(&namespace, namespace_labels)
    });
    Judgement::Ignored(if is_excluded { Ignored::ExcludedNamespace } else { Ignored::NoLabel })
}

/// The policy that counts for a claim, if one does, and the value by which the claim asks it for backups.
pub fn asking<'a>(
    claim: &'a PersistentVolumeClaim,
    namespace_labels: &BTreeMap<String, String>,
    policies: &'a [Arc<BackupPolicy>],
) -> Option<(&'a Arc<BackupPolicy>, &'a str)> {
    let namespace = claim.namespace().unwrap_or_default();
    let mut fitting = policies.iter().filter(|policy| policy.spec.claims.includes(&namespace, namespace_labels));
    fitting.find_map(|policy| Some((policy, asked(claim, policy)?)))
}

/// The value by which the claim asks this policy for backups, if it does.
fn asked<'a>(claim: &'a PersistentVolumeClaim, policy: &'a BackupPolicy) -> Option<&'a str> {
    let claims = &policy.spec.claims;
    let own = claim.labels().get(&claims.label.key);
    own.map(String::as_str).or_else(|| {
        let unlabelled = claims.unlabelled.as_ref()?;
        selects(&unlabelled.selector, claim.labels()).then_some(unlabelled.value.as_str())
    })
}

fn of_value(claim: &PersistentVolumeClaim, policy: &Arc<BackupPolicy>, value: &str) -> Judgement {
    if let Some(exemption) = exemption(claim, &policy.spec.claims.exempt) {
        return exemption;
    }
    if NO.contains(&value) {
        return Judgement::Ignored(Ignored::OptedOut);
    }
    let label = &policy.spec.claims.label;
    let Some(cadence) = label.cadence(value) else {
        let known = label.values.iter().map(|cadence| cadence.value.as_str()).collect::<Vec<_>>().join(", ");
        return Judgement::Review {
            why: format!("label {} has the value {value:?}: it must be one of {known}", label.key),
        };
    };
    if let Some(moment) = claim.annotations().get(RESTORE_AS_OF).filter(|moment| moment.parse::<Timestamp>().is_err()) {
        let why = format!("annotation {RESTORE_AS_OF} is {moment:?}: write a moment as in 2026-01-15T10:30:00Z");
        return Judgement::Review { why };
    }
    let bytes = claim.name_any().len();
    if bytes > NAME_BYTES_MAX {
        let why = format!(
            "the name has {bytes} characters, and those of the objects that a backup needs are made from it: it may have \
             {NAME_BYTES_MAX}"
        );
        return Judgement::Review { why };
    }
    match word::read(claim) {
        Ok(mut said) => {
            if is_raw(claim) {
                said.ignored.get_or_insert_with(|| NO_FILES.to_owned());
            }
            let protection = Protection { policy: Arc::clone(policy), cadence: cadence.clone(), said };
            if is_raw(claim) { Judgement::Raw(protection) } else { Judgement::Protected(protection) }
        }
        Err(why) => Judgement::Review { why },
    }
}

/// Whether a claim's volume is a raw device.
pub fn is_raw(claim: &PersistentVolumeClaim) -> bool {
    claim.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref()) == Some("Block")
}

fn exemption(claim: &PersistentVolumeClaim, exempt: &Exempt) -> Option<Judgement> {
    if claim.labels().get(&exempt.label).map(String::as_str) != Some("true") {
        return None;
    }
    let reason = exempt.reason_annotations.iter().find_map(|key| claim.annotations().get(key));
    Some(match reason.map(|reason| reason.trim()).filter(|reason| !reason.is_empty()) {
        Some(reason) => Judgement::Exempt { reason: reason.to_owned() },
        None => Judgement::Review {
            why: format!(
                "label {} needs a reason in the annotation {}",
                exempt.label,
                exempt.reason_annotations.join(" or ")
            ),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn claim(namespace: &str, labels: Value, annotations: Value) -> PersistentVolumeClaim {
        serde_json::from_value(json!({
            "metadata": {"name": "data", "namespace": namespace, "labels": labels, "annotations": annotations},
        }))
        .unwrap()
    }

    fn policy(name: &str, spec: Value) -> Arc<BackupPolicy> {
        Arc::new(BackupPolicy::new(name, serde_json::from_value(spec).unwrap()))
    }

    #[track_caller]
    fn check(claim: &PersistentVolumeClaim, policies: &[Arc<BackupPolicy>], expected: &str) {
        let said = match judge(claim, &BTreeMap::new(), policies) {
            Judgement::Ignored(why) => why.as_str().to_owned(),
            Judgement::Exempt { reason } => format!("exempt: {reason}"),
            Judgement::Review { why } => format!("review: {why}"),
            Judgement::Raw(protection) => format!("raw by {}", protection.policy.name_any()),
            Judgement::Protected(protection) => {
                format!("{} by {}", protection.cadence.value, protection.policy.name_any())
            }
        };
        assert_eq!(said, expected);
    }

    #[test]
    fn the_label_is_all_it_takes() {
        let policies = [policy("default", json!({}))];
        check(&claim("media", json!({"backup": "hourly"}), json!({})), &policies, "hourly by default");
        check(&claim("media", json!({"backup": "daily"}), json!({})), &policies, "daily by default");
        check(&claim("media", json!({}), json!({})), &policies, "no-label");
        check(&claim("media", json!({"backup": "false"}), json!({})), &policies, "opted-out");
        let misspelt = "review: label backup has the value \"dialy\": it must be one of hourly, daily";
        check(&claim("media", json!({"backup": "dialy"}), json!({})), &policies, misspelt);
        check(&claim("media", json!({"backup": "daily"}), json!({})), &[], "no-label");
        let mut raw = claim("media", json!({"backup": "daily"}), json!({}));
        raw.spec = serde_json::from_value(json!({"volumeMode": "Block"})).unwrap();
        check(&raw, &policies, "raw by default");
    }

    #[test]
    fn names_from_which_no_others_can_be_made() {
        let policies = [policy("default", json!({}))];
        let named = |length: usize| {
            let mut claim = claim("media", json!({"backup": "daily"}), json!({}));
            claim.metadata.name = Some("n".repeat(length));
            claim
        };
        check(&named(104), &policies, "daily by default");
        check(&named(234), &policies, "daily by default");
        let why = "review: the name has 235 characters, and those of the objects that a backup needs are made from it: it \
                   may have 234";
        check(&named(235), &policies, why);
    }

    #[test]
    fn namespaces_that_are_left_out() {
        let policies = [policy("default", json!({"claims": {"excludedNamespaces": ["lab"]}}))];
        let labels = json!({"backup": "daily"});
        check(&claim("kube-system", labels.clone(), json!({})), &policies, "excluded-namespace");
        check(&claim("lab", labels.clone(), json!({})), &policies, "excluded-namespace");
        check(&claim("lab", json!({}), json!({})), &policies, "no-label");
        check(&claim("media", labels, json!({})), &policies, "daily by default");
    }

    #[test]
    fn exemptions_need_a_reason() {
        let policies = [policy("default", json!({}))];
        let labels = json!({"backup": "daily", "backup-exempt": "true"});
        let reason = json!({"storage.vanillax.dev/backup-exempt-reason": "cache"});
        check(&claim("media", labels.clone(), reason), &policies, "exempt: cache");
        let why = "review: label backup-exempt needs a reason in the annotation perennial.dev/backup-exempt-reason or \
                   storage.vanillax.dev/backup-exempt-reason";
        check(&claim("media", labels, json!({})), &policies, why);
        check(
            &claim("media", json!({"backup": "daily", "backup-exempt": "false"}), json!({})),
            &policies,
            "daily by default",
        );
    }

    #[test]
    fn the_first_policy_that_fits_counts_and_the_claims_own_label_wins() {
        let all = policy(
            "all",
            json!({
                "claims": {"namespaces": {"names": ["media"]}, "unlabelled": {"selector": {}, "value": "daily"}},
            }),
        );
        let policies = [all, policy("default", json!({}))];
        check(&claim("media", json!({}), json!({})), &policies, "daily by all");
        check(&claim("media", json!({"backup": "hourly"}), json!({})), &policies, "hourly by all");
        check(&claim("media", json!({"backup": "no"}), json!({})), &policies, "opted-out");
        check(&claim("home", json!({"backup": "hourly"}), json!({})), &policies, "hourly by default");
        check(&claim("home", json!({}), json!({})), &policies, "no-label");
    }

    #[test]
    fn volumes_on_their_way_to_somebody_are_left_alone() {
        let all = [policy("all", json!({"claims": {"unlabelled": {"selector": {}, "value": "daily"}}}))];
        check(&claim("media", json!({"volsync.backube/populator-pvc-for": "data"}), json!({})), &all, "helper");
        check(&claim("media", json!({"volsync.backube/cleanup": "uid"}), json!({})), &all, "helper");
        check(&claim("media", json!({"app.kubernetes.io/created-by": "volsync"}), json!({})), &all, "helper");
    }
}
