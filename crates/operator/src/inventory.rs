//! How many objects of ours there are, and how many of them nobody needs any more. Source: zero-touch H27.
//!
//! Those go with their owners, or when the run that made them ends. One that stays means that something does not work: the
//! cluster's garbage collection, somebody's finalizer, a loop of ours. Counted from the caches whenever somebody asks.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::runtime::reflector::Store;
use kube::{Resource, ResourceExt};

use crate::caches::{Caches, key};
use crate::names::{CREATED_BY, CREATOR, DO_NOT_DELETE, MANAGED_BY, MANAGER};

/// How many nobody needs, of each kind.
pub fn orphans(caches: &Caches) -> [(String, usize); 5] {
    [
        of_kind(&caches.jobs, caches),
        of_kind(&caches.claims, caches),
        of_kind(&caches.snapshots, caches),
        of_kind(&caches.sources, caches),
        of_kind(&caches.destinations, caches),
    ]
}

fn of_kind<K: Resource<DynamicType = ()> + Clone>(store: &Store<K>, caches: &Caches) -> (String, usize) {
    let need = |object: &K, owner: &OwnerReference| need(owner, object.namespace(), caches);
    let orphans = store.state_filter(|object| is_orphan(object, |owner| need(object, owner)));
    (K::kind(&()).into_owned(), orphans.len())
}

/// How many objects of VolSync's kinds were generated for claims, by kind.
pub fn generated(caches: &Caches) -> [(String, usize); 2] {
    [generated_of_kind(&caches.sources), generated_of_kind(&caches.destinations)]
}

fn generated_of_kind<K: Resource<DynamicType = ()> + Clone>(store: &Store<K>) -> (String, usize) {
    let generated = store.state_filter(|object| has(object, MANAGED_BY, MANAGER));
    (K::kind(&()).into_owned(), generated.len())
}

fn has<K: Resource>(object: &K, label: &str, value: &str) -> bool {
    object.labels().get(label).is_some_and(|found| found == value)
}

/// What an owner needs of what was made for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    /// Nothing: it is gone.
    Nothing,
    /// What lives as long as it does; no run is under way.
    Lasting,
    /// Everything.
    All,
}

fn need(owner: &OwnerReference, namespace: Option<String>, caches: &Caches) -> Need {
    let is_same = |uid: Option<String>| uid.as_ref() == Some(&owner.uid);
    match owner.kind.as_str() {
        "PersistentVolumeClaim" => {
            let claim = caches.claims.get(&key(&owner.name, namespace)).filter(|claim| is_same(claim.uid()));
            let phase = claim.map(|claim| claim.status.as_ref().and_then(|status| status.phase.clone()));
            phase.map_or(
                Need::Nothing,
                |phase| if phase.as_deref() == Some("Bound") { Need::Lasting } else { Need::All },
            )
        }
        "ReplicationSource" => {
            let source = caches.sources.get(&key(&owner.name, namespace)).filter(|source| is_same(source.uid()));
            let began =
                source.map(|source| source.status.as_ref().and_then(|status| status.sync.last_sync_start_time.clone()));
            began.map_or(Need::Nothing, |began| if began.is_some() { Need::All } else { Need::Lasting })
        }
        // Between two runs it keeps the volume or the snapshot that is its result.
        "ReplicationDestination" => {
            let destination = caches.destinations.get(&key(&owner.name, namespace));
            let is_there = destination.is_some_and(|destination| is_same(destination.uid()));
            if is_there { Need::All } else { Need::Nothing }
        }
        // Somebody else's matter.
        _ => Need::All,
    }
}

fn is_orphan<K: Resource>(object: &K, need: impl Fn(&OwnerReference) -> Need) -> bool {
    let is_temporary = has(object, CREATED_BY, CREATOR);
    if !is_temporary && !has(object, MANAGED_BY, MANAGER) || object.labels().contains_key(DO_NOT_DELETE) {
        return false;
    }
    match object.owner_references().iter().map(need).max() {
        None | Some(Need::Nothing) => true,
        Some(Need::Lasting) => is_temporary,
        Some(Need::All) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::batch::v1::Job;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(labels: Value, owners: &[Need], expected: bool) {
        let references: Vec<Value> = (0..owners.len())
            .map(|number| json!({"apiVersion": "v1", "kind": "X", "name": "x", "uid": number.to_string()}))
            .collect();
        let object = json!({"metadata": {"name": "x", "labels": labels, "ownerReferences": references}});
        let object: Job = serde_json::from_value(object).unwrap();
        let need = |owner: &OwnerReference| owners[owner.uid.parse::<usize>().unwrap()];
        assert_eq!(is_orphan(&object, need), expected, "{object:?}");
    }

    #[test]
    fn an_object_that_nobody_needs_any_more() {
        let temporary = || json!({CREATED_BY: CREATOR});
        let lasting = || json!({MANAGED_BY: MANAGER});
        check(temporary(), &[Need::All], false);
        check(temporary(), &[Need::Lasting], true);
        check(temporary(), &[Need::Nothing], true);
        check(temporary(), &[Need::Nothing, Need::All], false);
        check(temporary(), &[], true);
        check(lasting(), &[Need::Lasting], false);
        check(lasting(), &[Need::Nothing], true);
        check(json!({CREATED_BY: CREATOR, DO_NOT_DELETE: "yes"}), &[], false);
        check(json!({}), &[Need::Nothing], false);
    }
}
