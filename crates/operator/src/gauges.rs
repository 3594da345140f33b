//! Numbers that are read off the cluster whenever somebody asks: they are right from the first moment on, and go with their
//! objects.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::recorded::{Recorded, Verdict};
use api::v1alpha1::{BackupPolicy, BackupRepository};
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt;

use crate::caches::{Caches, destination_of};
use crate::claim::judge::{Judgement, judge};
use crate::inventory;
use crate::metrics::{family, line};
use crate::names::{DECISION, SELECTED_NODE, SKIP_RESTORE};

/// The value of a class that waits until a pod wants the volume.
const WAITS: &str = "WaitForFirstConsumer";

/// In Prometheus' text format.
pub fn text(caches: &Caches) -> String {
    let mut out = String::new();
    claims(
        &caches.claims.state(),
        &caches.namespaces.state(),
        &caches.classes.state(),
        &caches.policies_in_order(),
        &mut out,
    );
    repositories(&caches.repositories.state(), &mut out);
    family(
        &mut out,
        "perennial_generated_objects",
        "gauge",
        "Objects of VolSync's kinds that were generated for claims.",
    );
    for (kind, count) in inventory::generated(caches) {
        line(&mut out, "perennial_generated_objects", &[("kind", kind.as_str())], count);
    }
    family(&mut out, "perennial_orphans", "gauge", "Objects of ours that nobody needs and that are still there.");
    for (kind, count) in inventory::orphans(caches) {
        line(&mut out, "perennial_orphans", &[("kind", kind.as_str())], count);
    }
    out
}

fn claims(
    claims: &[Arc<PersistentVolumeClaim>],
    namespaces: &[Arc<Namespace>],
    classes: &[Arc<StorageClass>],
    policies: &[Arc<BackupPolicy>],
    out: &mut String,
) {
    let labels: BTreeMap<String, BTreeMap<String, String>> =
        namespaces.iter().map(|namespace| (namespace.name_any(), namespace.labels().clone())).collect();
    let (mut held, mut pending, mut skipping) = (Vec::new(), Vec::new(), Vec::new());
    for claim in claims {
        let none = BTreeMap::new();
        let labels = labels.get(&claim.namespace().unwrap_or_default()).unwrap_or(&none);
        let place = (claim.namespace().unwrap_or_default(), claim.name_any());
        let is_protected = matches!(judge(claim, labels, policies), Judgement::Protected(_));
        if let Some(reason) = reason_to_wait(claim) {
            held.push((place.clone(), reason));
        }
        if is_pending(claim, classes) {
            pending.push(place.clone());
        }
        if is_protected
            && SKIP_RESTORE.iter().any(|key| claim.annotations().get(*key).is_some_and(|said| said != "false"))
        {
            skipping.push(place);
        }
    }
    family(out, "perennial_claim_held", "gauge", "Claims of which it is not known what they should hold, by why.");
    for ((namespace, name), reason) in &held {
        let labels = [("namespace", namespace.as_str()), ("persistentvolumeclaim", name.as_str()), ("reason", *reason)];
        line(out, "perennial_claim_held", &labels, 1);
    }
    let all = [
        ("perennial_claim_pending", "Marked claims that have no volume although somebody could make one.", &pending),
        ("perennial_claim_skip_restore", "Protected claims that say that they want no restore.", &skipping),
    ];
    for (name, help, places) in all {
        family(out, name, "gauge", help);
        for (namespace, claim) in places {
            line(out, name, &[("namespace", namespace.as_str()), ("persistentvolumeclaim", claim.as_str())], 1);
        }
    }
}

fn repositories(repositories: &[Arc<BackupRepository>], out: &mut String) {
    family(out, "perennial_repository_reachable", "gauge", "Whether a repository answers.");
    for repository in repositories {
        let reachable = repository.status.as_ref().and_then(|status| status.reachable).unwrap_or_default();
        let name = repository.name_any();
        line(out, "perennial_repository_reachable", &[("repository", name.as_str())], u8::from(reachable));
    }
}

/// Why a claim is held, as the decision about it says.
pub fn reason_to_wait(claim: &PersistentVolumeClaim) -> Option<&'static str> {
    let text = claim.annotations().get(DECISION).map(String::as_str);
    match Recorded::read(text, claim.metadata.uid.as_deref().unwrap_or_default())?.verdict {
        Verdict::Hold { reason, .. } => Some(reason.as_str()),
        Verdict::Restore { .. } | Verdict::Fresh { .. } | Verdict::Kept { .. } => None,
    }
}

/// Whether a marked claim has no volume although somebody could make one.
pub fn is_pending(claim: &PersistentVolumeClaim, classes: &[Arc<StorageClass>]) -> bool {
    is_unbound(claim) && destination_of(claim).is_some() && !waits_for_a_pod(claim, classes)
}

fn is_unbound(claim: &PersistentVolumeClaim) -> bool {
    claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default().is_empty()
}

/// Nobody has used it yet, and its class wants to know by whom first.
fn waits_for_a_pod(claim: &PersistentVolumeClaim, classes: &[Arc<StorageClass>]) -> bool {
    let class = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref());
    let class = classes.iter().find(|found| Some(found.name_any().as_str()) == class);
    class.is_some_and(|class| class.volume_binding_mode.as_deref() == Some(WAITS))
        && !claim.annotations().contains_key(SELECTED_NODE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn claim(name: &str, annotations: Value, spec: Value) -> Arc<PersistentVolumeClaim> {
        let metadata = json!({
            "name": name, "namespace": "a", "uid": "u", "labels": {"backup": "hourly"}, "annotations": annotations,
        });
        Arc::new(serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap())
    }

    #[test]
    fn claims_that_wait_are_told_from_those_that_nobody_uses() {
        let source = json!({"apiGroup": "volsync.backube", "kind": "ReplicationDestination", "name": "x-backup"});
        let marked = |class: &str| json!({"dataSourceRef": source, "storageClassName": class});
        let hold = json!({
            "decision": "hold", "reason": "RepositoryAuth", "detail": "wrong password", "uid": "u",
            "time": "2026-11-22T00:00:00Z",
        });
        let all = [
            claim("held", json!({DECISION: hold.to_string()}), marked("now")),
            claim("late", json!({}), marked("late")),
            claim("used", json!({SELECTED_NODE: "node"}), marked("late")),
            claim("bound", json!({}), json!({"dataSourceRef": source, "volumeName": "v"})),
            claim(
                "skips",
                json!({SKIP_RESTORE[2]: "true", "volsync.backup/skip-restore-reason": "x"}),
                json!({"volumeName": "v"}),
            ),
        ];
        let late: StorageClass = serde_json::from_value(json!({
            "metadata": {"name": "late"}, "provisioner": "p", "volumeBindingMode": WAITS,
        }))
        .unwrap();
        let policy = BackupPolicy::new("default", Default::default());
        let mut text = String::new();
        claims(&all, &[], &[Arc::new(late)], &[Arc::new(policy)], &mut text);
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            lines,
            [
                r#"perennial_claim_held{namespace="a",persistentvolumeclaim="held",reason="RepositoryAuth"} 1"#,
                r#"perennial_claim_pending{namespace="a",persistentvolumeclaim="held"} 1"#,
                r#"perennial_claim_pending{namespace="a",persistentvolumeclaim="used"} 1"#,
                r#"perennial_claim_skip_restore{namespace="a",persistentvolumeclaim="skips"} 1"#,
            ]
        );
    }
}
