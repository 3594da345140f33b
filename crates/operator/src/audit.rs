//! The verdict on every claim of the cluster, those that are left alone included. Source: zero-touch §2.5.
//!
//! Made from the caches when it is asked for, so it is never stale. Fields keep pvc-plumber's names; what it did not say
//! comes after them.

use std::collections::BTreeMap;

use api::naming::ClaimKey;
use api::recorded::{Recorded, Verdict};
use api::volsync::{ReplicationDestination, ReplicationSource};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::{Resource, ResourceExt};
use serde::Serialize;

use crate::caches::{Caches, destination_of, key};
use crate::claim::judge::{Ignored, Judgement, Protection, judge};
use crate::names::{DECISION, MANAGED_BY, MANAGER};
use crate::repository;

/// Labels by which engines that apply Git's state know their objects.
const OF_GIT: [&str; 2] = ["argocd.argoproj.io/instance", "kustomize.toolkit.fluxcd.io/name"];

/// pvc-plumber's own label to opt in, beside the contract's.
const ENABLED: &str = "pvc-plumber.io/enabled";
const LABEL: &str = "backup";

/// The verdicts, and how many of each.
#[derive(Debug, Serialize)]
pub struct Audit {
    generated_at: Timestamp,
    operator_mode: &'static str,
    naming_strategy: &'static str,
    default_repo_secret: &'static str,
    summary: Summary,
    entries: Vec<Entry>,
}

#[derive(Debug, Default, Serialize)]
struct Summary {
    total_pvcs: usize,
    by_action: BTreeMap<&'static str, usize>,
    by_owner_classification: BTreeMap<&'static str, usize>,
    by_label_source: BTreeMap<&'static str, usize>,
}

/// The verdict on one claim.
#[derive(Debug, PartialEq, Serialize)]
pub struct Entry {
    namespace: String,
    pvc: String,
    mode: &'static str,
    tier: Option<String>,
    label_source: &'static str,
    backup_identity: Option<String>,
    expected: Option<Expected>,
    current: Current,
    owner_classification: &'static str,
    action: &'static str,
    blockers: Vec<String>,
    notes: Vec<String>,
    planned_ops: Vec<&'static str>,
    execution_result: &'static str,
    evaluated_at: Timestamp,
    age_seconds: u64,
    stale: bool,
    /// What was decided when the claim was created.
    decision: Option<Verdict>,
    /// When the last backup ended well, and when the next begins.
    last_backup: Option<Timestamp>,
    next_backup: Option<Timestamp>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Expected {
    rs_name: String,
    rd_name: String,
    repository_secret: String,
    repository: String,
    kopia_username: String,
    kopia_hostname: String,
    schedule: String,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct Current {
    rs_present: bool,
    rs_name: Option<String>,
    rs_managed_by: Option<String>,
    rs_repository: Option<String>,
    rs_source_pvc: Option<String>,
    rs_schedule: Option<String>,
    rd_present: bool,
    rd_name: Option<String>,
    rd_managed_by: Option<String>,
    rd_repository: Option<String>,
}

/// Judges every claim.
pub fn audit(caches: &Caches, now: Timestamp) -> Audit {
    let policies = caches.policies_in_order();
    let mut entries = Vec::new();
    for claim in caches.claims.state() {
        let namespace = claim.namespace().unwrap_or_default();
        let labels = caches.namespaces.get(&key(&namespace, None));
        let labels = labels.map(|namespace| namespace.labels().clone()).unwrap_or_default();
        let judgement = judge(&claim, &labels, &policies);
        let source = source_of(caches, &claim);
        let destination =
            destination_name(&claim).and_then(|name| caches.destinations.get(&key(&name, claim.namespace())));
        let expected = match &judgement {
            Judgement::Protected(protection) => expected(caches, &claim, protection),
            Judgement::Ignored(_) | Judgement::Exempt { .. } | Judgement::Raw(_) | Judgement::Review { .. } => None,
        };
        entries.push(entry(&claim, &judgement, expected, source.as_deref(), destination.as_deref(), now));
    }
    entries.sort_by(|one, other| (&one.namespace, &one.pvc).cmp(&(&other.namespace, &other.pvc)));
    let mut summary = Summary { total_pvcs: entries.len(), ..Summary::default() };
    for entry in &entries {
        *summary.by_action.entry(entry.action).or_default() += 1;
        *summary.by_owner_classification.entry(entry.owner_classification).or_default() += 1;
        *summary.by_label_source.entry(entry.label_source).or_default() += 1;
    }
    Audit {
        generated_at: now,
        // Whatever is not known is held: there is no other mode.
        operator_mode: "enforce",
        naming_strategy: "legacy-backup",
        default_repo_secret: "volsync-<pvc>",
        summary,
        entries,
    }
}

/// The source of the generated name, else any that reads the claim.
fn source_of(caches: &Caches, claim: &PersistentVolumeClaim) -> Option<std::sync::Arc<ReplicationSource>> {
    let generated = caches.sources.get(&key(&format!("{}-backup", claim.name_any()), claim.namespace()));
    generated.or_else(|| {
        caches.sources.find(|source| {
            source.namespace() == claim.namespace() && source.spec.source_pvc.as_deref() == Some(&claim.name_any())
        })
    })
}

fn destination_name(claim: &PersistentVolumeClaim) -> Option<String> {
    Some(destination_of(claim).map_or_else(|| format!("{}-backup", claim.name_any()), str::to_owned))
}

fn expected(caches: &Caches, claim: &PersistentVolumeClaim, protection: &Protection) -> Option<Expected> {
    let names = ClaimKey::new(claim.namespace()?, claim.name_any()).ok()?;
    let name = protection.policy.spec.repository.clone();
    let repository = caches.repositories.get(&key(&name, None))?;
    let identity = repository::identity(&repository.spec, &names);
    Some(Expected {
        rs_name: names.backup_name(),
        rd_name: names.backup_name(),
        repository_secret: names.credentials_name(),
        repository: name,
        kopia_username: identity.username,
        kopia_hostname: identity.hostname,
        schedule: protection.cadence.schedule.clone(),
    })
}

fn entry(
    claim: &PersistentVolumeClaim,
    judgement: &Judgement,
    expected: Option<Expected>,
    source: Option<&ReplicationSource>,
    destination: Option<&ReplicationDestination>,
    now: Timestamp,
) -> Entry {
    let uid = claim.uid().unwrap_or_default();
    let recorded = Recorded::read(claim.annotations().get(DECISION).map(String::as_str), &uid);
    let decision = recorded.map(|recorded| recorded.verdict);
    let mut blockers = Vec::new();
    let mut notes = Vec::new();
    let mut planned = Vec::new();
    let action = match judgement {
        Judgement::Ignored(Ignored::ExcludedNamespace) => "skipped-namespace-not-managed",
        Judgement::Ignored(why) => {
            notes.push(why.as_str().to_owned());
            "skipped-not-opted-in"
        }
        Judgement::Exempt { reason } => {
            notes.push(reason.clone());
            "skipped-exempt"
        }
        Judgement::Review { why } => {
            blockers.push(why.clone());
            "needs-human-review"
        }
        Judgement::Raw(protection) => {
            blockers.extend(protection.said.ignored.clone());
            if let Some(Verdict::Hold { reason, detail }) = &decision {
                blockers.push(format!("{reason}: {detail}"));
            }
            "needs-human-review"
        }
        Judgement::Protected(protection) => {
            notes.extend(protection.said.ignored.clone());
            if let Some(Verdict::Hold { reason, detail }) = &decision {
                blockers.push(format!("{reason}: {detail}"));
            }
            if expected.is_none() {
                blockers.push(format!("BackupRepository {} does not exist", protection.policy.spec.repository));
            }
            match source {
                Some(source) if is_ours(source) => "already-matches",
                Some(source) if is_of_git(source) => "inline-argo-observed",
                Some(_) => "would-adopt",
                None if blockers.is_empty() => {
                    planned.push("create ReplicationSource");
                    "would-create"
                }
                None => "needs-human-review",
            }
        }
    };
    let status = source.and_then(|source| source.status.as_ref());
    Entry {
        namespace: claim.namespace().unwrap_or_default(),
        pvc: claim.name_any(),
        mode: "enforce",
        tier: match judgement {
            Judgement::Protected(protection) => Some(protection.cadence.value.clone()),
            Judgement::Ignored(_) | Judgement::Exempt { .. } | Judgement::Raw(_) | Judgement::Review { .. } => None,
        },
        label_source: match (claim.labels().contains_key(ENABLED), claim.labels().contains_key(LABEL)) {
            (true, true) => "both",
            (true, false) => "v4",
            (false, true) => "legacy",
            (false, false) => "none",
        },
        backup_identity: expected.as_ref().map(|names| format!("{}@{}", names.kopia_username, names.kopia_hostname)),
        current: current(source, destination),
        owner_classification: match source {
            None => "none",
            Some(source) if is_ours(source) => "managed-by-pvc-plumber",
            Some(source) if is_of_git(source) => "inline-argo",
            Some(_) => "unmanaged-or-gitops-observed",
        },
        expected,
        action,
        blockers,
        notes,
        planned_ops: planned,
        execution_result: if action == "already-matches" { "applied" } else { "" },
        evaluated_at: now,
        age_seconds: 0,
        stale: false,
        decision,
        last_backup: status.and_then(|status| Some(status.sync.last_sync_time.as_ref()?.0)),
        next_backup: status.and_then(|status| Some(status.sync.next_sync_time.as_ref()?.0)),
    }
}

fn current(source: Option<&ReplicationSource>, destination: Option<&ReplicationDestination>) -> Current {
    let manager = |labels: &BTreeMap<String, String>| labels.get(MANAGED_BY).cloned();
    let mut current = Current { rs_present: source.is_some(), rd_present: destination.is_some(), ..Current::default() };
    if let Some(source) = source {
        current.rs_name = Some(source.name_any());
        current.rs_managed_by = manager(source.labels());
        current.rs_repository = source.spec.kopia.as_ref().and_then(|kopia| kopia.repository.clone());
        current.rs_source_pvc = source.spec.source_pvc.clone();
        current.rs_schedule = source.spec.trigger.as_ref().and_then(|trigger| trigger.schedule.clone());
    }
    if let Some(destination) = destination {
        current.rd_name = Some(destination.name_any());
        current.rd_managed_by = manager(destination.labels());
        current.rd_repository = destination.spec.kopia.as_ref().and_then(|kopia| kopia.repository.clone());
    }
    current
}

fn is_ours<K: Resource>(object: &K) -> bool {
    object.labels().get(MANAGED_BY).map(String::as_str) == Some(MANAGER)
}

fn is_of_git<K: Resource>(object: &K) -> bool {
    OF_GIT.iter().any(|label| object.labels().contains_key(*label))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use api::v1alpha1::BackupPolicy;
    use serde_json::{Value, json};

    use crate::claim::word::Said;

    fn protected() -> Judgement {
        let policy = Arc::new(BackupPolicy::new("default", serde_json::from_value(json!({})).unwrap()));
        let cadence = policy.spec.claims.label.cadence("daily").unwrap().clone();
        Judgement::Protected(Protection { policy, cadence, said: Said::default() })
    }

    fn names() -> Option<Expected> {
        Some(Expected {
            rs_name: "data-backup".to_owned(),
            rd_name: "data-backup".to_owned(),
            repository_secret: "volsync-data".to_owned(),
            repository: "default".to_owned(),
            kopia_username: "data-backup".to_owned(),
            kopia_hostname: "media".to_owned(),
            schedule: "0 2 * * *".to_owned(),
        })
    }

    #[track_caller]
    fn check(judgement: &Judgement, claim: Value, source: Option<Value>, expected: (&str, &str, &[&str])) -> Entry {
        let mut body =
            json!({"metadata": {"name": "data", "namespace": "media", "uid": "u", "labels": {"backup": "daily"}}});
        for (key, value) in claim.as_object().unwrap() {
            body["metadata"][key] = value.clone();
        }
        let claim = serde_json::from_value(body).unwrap();
        let source = source.map(|labels| {
            let body = json!({"metadata": {"name": "data-backup", "labels": labels}, "spec": {"sourcePVC": "data"}});
            serde_json::from_value::<ReplicationSource>(body).unwrap()
        });
        let entry = entry(&claim, judgement, names(), source.as_ref(), None, Timestamp::UNIX_EPOCH);
        let blockers: Vec<&str> = entry.blockers.iter().map(String::as_str).collect();
        assert_eq!((entry.action, entry.owner_classification, blockers.as_slice()), expected);
        entry
    }

    #[test]
    fn every_claim_has_one_verdict() {
        let ours = Some(json!({"app.kubernetes.io/managed-by": "perennial"}));
        let git = Some(json!({"argocd.argoproj.io/instance": "app"}));
        check(&protected(), json!({}), ours, ("already-matches", "managed-by-pvc-plumber", &[]));
        check(&protected(), json!({}), git, ("inline-argo-observed", "inline-argo", &[]));
        check(&protected(), json!({}), Some(json!({})), ("would-adopt", "unmanaged-or-gitops-observed", &[]));
        let entry = check(&protected(), json!({}), None, ("would-create", "none", &[]));
        assert_eq!((entry.tier.as_deref(), entry.label_source), (Some("daily"), "legacy"));
        let held =
            r#"{"decision":"hold","reason":"RepositoryAuth","detail":"403","uid":"u","time":"2026-11-22T06:00:00Z"}"#;
        let held = json!({"annotations": {DECISION: held}});
        check(&protected(), held, None, ("needs-human-review", "none", &["RepositoryAuth: 403"]));
        let review = Judgement::Review { why: "misspelt".to_owned() };
        check(&review, json!({}), None, ("needs-human-review", "none", &["misspelt"]));
        let entry = check(
            &Judgement::Ignored(Ignored::NoLabel),
            json!({"labels": {}}),
            None,
            ("skipped-not-opted-in", "none", &[]),
        );
        assert_eq!((entry.label_source, entry.notes.as_slice()), ("none", &["no-label".to_owned()][..]));
        let excluded = Judgement::Ignored(Ignored::ExcludedNamespace);
        check(&excluded, json!({}), None, ("skipped-namespace-not-managed", "none", &[]));
        check(&Judgement::Exempt { reason: "cache".to_owned() }, json!({}), None, ("skipped-exempt", "none", &[]));
    }
}
