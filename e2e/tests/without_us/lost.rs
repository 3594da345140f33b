//! A node that goes while a mover runs on it.

use anyhow::{Result, ensure};
use e2e::{CLAIM, Cluster, NAMESPACE, NODE, POD, Protected, labelled};
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::alone;

#[test]
fn a_restore_goes_on_elsewhere() -> Result<()> {
    alone("lost", async |space| {
        let protected = Protected::new(space).await?;
        let trees = protected.backed_up_trees(&["data"]).await?;
        protected.delete("data").await?;

        // A node that takes pods and never runs one; the others take none for now.
        let lost = space.unique("lost");
        let others = names(&space.cluster.all(&NODE)).await?;
        // A moment that has just been.
        let now = space.get(&NAMESPACE, &space.name).await?["metadata"]["creationTimestamp"].clone();
        space.create_object(&NODE, node(&lost, &now)).await?;
        let restore_on_it = async {
            space.until(&NODE, &lost, "takes pods", |node| Ok(node["spec"]["taints"].is_null())).await?;
            cordon(&space.cluster, &others, json!(true)).await?;
            space.create_object(&CLAIM, labelled("data").build()).await?;
            let mover = protected.restorer("data", "Pending").await?;
            let is_there = |pod: &Value| Ok(pod["spec"]["nodeName"] == lost.as_str());
            space.until(&POD, &mover, "is on the node", is_there).await?;
            Ok(mover)
        };
        let mover: Result<String> = restore_on_it.await;
        // It is gone for good, with what ran on it.
        cordon(&space.cluster, &others, Value::Null).await?;
        space.delete_object(&NODE, &lost).await?;
        space.until_gone(&POD, &mover?).await?;
        ensure!(space.get(&CLAIM, "data").await?["status"]["phase"] != "Bound");
        protected.hold_trees(&["data"], &trees).await?;
        protected.cleared_up("data").await?;
        protected.remove().await
    })
}

fn node(name: &str, now: &Value) -> Value {
    let room = json!({"cpu": "4", "memory": "8Gi", "pods": "10", "ephemeral-storage": "10Gi"});
    let ready = json!([{
        "type": "Ready", "status": "True", "reason": "Test", "lastHeartbeatTime": now, "lastTransitionTime": now,
    }]);
    json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}},
        "status": {"capacity": room, "allocatable": room, "conditions": ready},
    })
}

async fn names(nodes: &Api<DynamicObject>) -> Result<Vec<String>> {
    let found = nodes.list(&ListParams::default()).await?;
    Ok(found.items.into_iter().filter_map(|node| node.metadata.name).collect())
}

async fn cordon(cluster: &Cluster, nodes: &[String], unschedulable: Value) -> Result<()> {
    for node in nodes {
        let change = Patch::Merge(json!({"spec": {"unschedulable": unschedulable}}));
        cluster.all(&NODE).patch(node, &PatchParams::default(), &change).await?;
    }
    Ok(())
}
