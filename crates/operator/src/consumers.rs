//! The pods that use a claim: where they run, and as whom.

use k8s_openapi::api::core::v1::{
    Affinity, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PersistentVolumeClaim, Pod,
    PreferredSchedulingTerm, Toleration,
};
use kube::ResourceExt;
use kube::api::{Api, ListParams};

use crate::context::Context;
use crate::error::Error;
use crate::names::{CREATED_BY, CREATOR};

/// The one field of a node that a pod can ask for. Source: Kubernetes, NodeSelectorTerm.
const NODE_NAME: &str = "metadata.name";

/// The weight of a wish that outweighs all others. Source: Kubernetes, PreferredSchedulingTerm: 1 to 100.
const WEIGHT_MAX: i32 = 100;

/// A pod that uses a claim. Movers are none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Consumer {
    /// The node, once it is scheduled.
    pub node: Option<String>,
    /// Whether it runs; else it is on its way to.
    pub is_running: bool,
    /// The taints that it puts up with.
    pub tolerations: Vec<Toleration>,
    /// As whom it uses the claim.
    pub user: User,
}

/// As whom a pod uses a claim, as far as it says so: the image may, too, and nobody sees that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// User.
    pub uid: Option<i64>,
    /// Group.
    pub gid: Option<i64>,
    /// Group of the volume.
    pub fs_group: Option<i64>,
}

/// Looks for the pods that use a claim.
///
/// # Errors
/// The API server does not answer.
pub async fn look(context: &Context, namespace: &str, claim: &str) -> Result<Vec<Consumer>, Error> {
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
    let found = pods.list(&ListParams::default()).await;
    let found = found.map_err(Error::kubernetes(format!("list the pods of namespace {namespace}")))?;
    Ok(of_claim(&found.items, claim))
}

/// Those that run before those that are on their way.
fn of_claim(pods: &[Pod], claim: &str) -> Vec<Consumer> {
    let mut consumers: Vec<Consumer> = pods.iter().filter_map(|pod| consumer(pod, claim)).collect();
    consumers.sort_by_key(|consumer| !consumer.is_running);
    consumers
}

fn consumer(pod: &Pod, claim: &str) -> Option<Consumer> {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let is_running = phase == Some("Running");
    let counts = is_running || phase == Some("Pending");
    if !counts || pod.labels().get(CREATED_BY).map(String::as_str) == Some(CREATOR) {
        return None;
    }
    let spec = pod.spec.as_ref()?;
    let volume =
        spec.volumes.iter().flatten().find(|volume| {
            volume.persistent_volume_claim.as_ref().is_some_and(|of_claim| of_claim.claim_name == claim)
        })?;
    let mounts = |names: &Option<Vec<k8s_openapi::api::core::v1::VolumeMount>>| {
        names.iter().flatten().any(|mount| mount.name == volume.name)
    };
    let own = spec.containers.iter().find(|container| mounts(&container.volume_mounts));
    let own = own.and_then(|container| container.security_context.as_ref());
    let all = spec.security_context.as_ref();
    let user = User {
        uid: own.and_then(|own| own.run_as_user).or_else(|| all?.run_as_user),
        gid: own.and_then(|own| own.run_as_group).or_else(|| all?.run_as_group),
        fs_group: all.and_then(|all| all.fs_group),
    };
    let tolerations = spec.tolerations.clone().unwrap_or_default();
    Some(Consumer { node: spec.node_name.clone(), is_running, tolerations, user })
}

/// Where a mover has to run that uses the same volume: nowhere special, on a node, or nobody knows yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Place {
    /// Anywhere.
    #[default]
    Anywhere,
    /// Where a pod uses it.
    Node {
        /// The node.
        name: String,
        /// The taints that the pod puts up with.
        tolerations: Vec<Toleration>,
    },
    /// A pod uses it that is not scheduled yet.
    Unknown,
}

/// Where a mover has to run that mounts the claim itself. Source: VolSync API §6.6.
pub fn place(claim: &PersistentVolumeClaim, consumers: &[Consumer]) -> Place {
    let modes = claim.status.as_ref().and_then(|status| status.access_modes.as_deref()).unwrap_or_default();
    let first = consumers.first().filter(|_| !modes.iter().any(|mode| mode == "ReadWriteMany"));
    match first {
        None => Place::Anywhere,
        Some(Consumer { node: None, .. }) => Place::Unknown,
        Some(Consumer { node: Some(name), tolerations, .. }) => {
            Place::Node { name: name.clone(), tolerations: tolerations.clone() }
        }
    }
}

/// The affinity with that node in it: every way to satisfy it must have the node as well.
pub fn on_node(affinity: Option<Affinity>, node: &str) -> Affinity {
    let by_name = NodeSelectorRequirement {
        key: NODE_NAME.to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    let mut affinity = affinity.unwrap_or_default();
    let nodes: &mut NodeAffinity = affinity.node_affinity.get_or_insert_default();
    let required = nodes
        .required_during_scheduling_ignored_during_execution
        .get_or_insert_with(|| NodeSelector { node_selector_terms: vec![NodeSelectorTerm::default()] });
    for term in &mut required.node_selector_terms {
        term.match_fields.get_or_insert_default().push(by_name.clone());
    }
    affinity
}

/// The node that [`on_node`] asks for.
pub fn node_of(affinity: &Affinity) -> Option<String> {
    let nodes = affinity.node_affinity.as_ref()?.required_during_scheduling_ignored_during_execution.as_ref()?;
    let fields = nodes.node_selector_terms.first()?.match_fields.as_deref()?;
    let name = fields.iter().find(|field| field.key == NODE_NAME && field.operator == "In")?;
    name.values.as_deref()?.first().cloned()
}

/// The affinity with a wish beside it: on none of these nodes, if another will do.
pub fn rather_not_on(affinity: Option<Affinity>, nodes: &[String]) -> Affinity {
    let not_on = |node: &String| NodeSelectorRequirement {
        key: NODE_NAME.to_owned(),
        operator: "NotIn".to_owned(),
        values: Some(vec![node.clone()]),
    };
    let preference =
        NodeSelectorTerm { match_fields: Some(nodes.iter().map(not_on).collect()), ..NodeSelectorTerm::default() };
    let mut affinity = affinity.unwrap_or_default();
    let wishes =
        &mut affinity.node_affinity.get_or_insert_default().preferred_during_scheduling_ignored_during_execution;
    wishes.get_or_insert_default().push(PreferredSchedulingTerm { preference, weight: WEIGHT_MAX });
    affinity
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(phase: &str, spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "app"}, "spec": spec, "status": {"phase": phase}})).unwrap()
    }

    fn using(claim: &str) -> Value {
        json!({
            "nodeName": "one", "securityContext": {"runAsUser": 1, "runAsGroup": 2, "fsGroup": 3},
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}],
            "containers": [
                {"name": "beside", "securityContext": {"runAsUser": 7}},
                {"name": "main", "securityContext": {"runAsUser": 8}, "volumeMounts": [{"name": "v", "mountPath": "/data"}]},
            ],
        })
    }

    #[test]
    fn whoever_mounts_the_claim_says_as_whom() {
        let pods = [pod("Pending", using("data")), pod("Running", using("data")), pod("Running", using("other"))];
        let found = of_claim(&pods, "data");
        assert_eq!(found.iter().map(|consumer| consumer.is_running).collect::<Vec<_>>(), [true, false]);
        assert_eq!(found[0].user, User { uid: Some(8), gid: Some(2), fs_group: Some(3) });
        let ended = [pod("Succeeded", using("data"))];
        assert_eq!(of_claim(&ended, "data"), []);
        let mut mover = pod("Running", using("data"));
        mover.labels_mut().insert(CREATED_BY.to_owned(), CREATOR.to_owned());
        assert_eq!(of_claim(&[mover], "data"), []);
    }

    #[test]
    fn a_mover_goes_where_the_volume_is_in_use() {
        let claim = |modes: Value| serde_json::from_value(json!({"status": {"accessModes": modes}})).unwrap();
        let once: PersistentVolumeClaim = claim(json!(["ReadWriteOnce"]));
        let many: PersistentVolumeClaim = claim(json!(["ReadWriteMany"]));
        let consumers = of_claim(&[pod("Running", using("data"))], "data");
        assert_eq!(place(&once, &consumers), Place::Node { name: "one".to_owned(), tolerations: Vec::new() });
        assert_eq!(place(&many, &consumers), Place::Anywhere);
        assert_eq!(place(&once, &[]), Place::Anywhere);
        assert_eq!(place(&once, &[Consumer::default()]), Place::Unknown);
    }

    #[test]
    fn nodes_that_are_full_are_a_wish() {
        let wish = serde_json::to_value(rather_not_on(None, &["one".to_owned(), "two".to_owned()])).unwrap();
        let field = |node: &str| json!({"key": "metadata.name", "operator": "NotIn", "values": [node]});
        let expected = json!([{"weight": 100, "preference": {"matchFields": [field("one"), field("two")]}}]);
        assert_eq!(wish["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"], expected);
    }

    #[test]
    fn the_node_stands_beside_what_somebody_asks_for() {
        let alone = serde_json::to_value(on_node(None, "one")).unwrap();
        let field = json!([{"key": "metadata.name", "operator": "In", "values": ["one"]}]);
        let required = "/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
        assert_eq!(alone.pointer(required), Some(&json!([{"matchFields": field}])));
        let zone = json!([{"key": "zone", "operator": "Exists"}]);
        let given = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": zone}],
        }}});
        let both = serde_json::to_value(on_node(serde_json::from_value(given).unwrap(), "one")).unwrap();
        assert_eq!(both.pointer(required), Some(&json!([{"matchExpressions": zone, "matchFields": field}])));
        assert_eq!(node_of(&serde_json::from_value(both).unwrap()), Some("one".to_owned()));
        assert_eq!(node_of(&rather_not_on(None, &["one".to_owned()])), None);
    }
}
