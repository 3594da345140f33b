//! The installation's own pods, for tests that take them away.

use crate::cluster::Cluster;
use crate::kinds::{CONFIG_MAP, DEPLOYMENT, POD};
use crate::protected::names;
use crate::space::Space;
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

/// The installation's namespace.
pub const SYSTEM: &str = "volsync-system";

/// The operator's Deployment.
const OPERATOR: &str = "perennial";

/// The installation's namespace, as that of a test.
pub fn system(cluster: &Cluster) -> Space {
    Space { cluster: cluster.clone(), name: SYSTEM.to_owned() }
}

/// The number of replicas of the operator, and a wait until there are so many.
///
/// # Errors
/// The operator's Deployment is not there.
pub async fn scale_operator(cluster: &Cluster, replicas: u32) -> Result<()> {
    let system = system(cluster);
    scale(&system, OPERATOR, replicas).await?;
    if replicas > 0 {
        return Ok(());
    }
    system
        .retry("no operator runs", async || {
            let left = operators(cluster).await?;
            ensure!(left.is_empty(), "{}", left.join(", "));
            Ok(())
        })
        .await
}

/// Takes the operator away and makes it forget which backups it has seen: as after a first installation.
///
/// # Errors
/// The operator's Deployment is not there.
pub async fn forget_everything(cluster: &Cluster) -> Result<()> {
    scale_operator(cluster, 0).await?;
    system(cluster).delete_object(&CONFIG_MAP, "perennial-ledger").await
}

/// Restarts the operator as an upgrade does: one pod after the other. Answers when all are new.
pub async fn restart_operator(cluster: &Cluster, reason: &str) -> Result<()> {
    let system = system(cluster);
    let change = json!({"spec": {"template": {"metadata": {"annotations": {"example.test/restarted": reason}}}}});
    let changed = system.patch(&DEPLOYMENT, OPERATOR, change).await?;
    let generation = changed["metadata"]["generation"].as_u64().context("an object has a generation")?;
    let restarted = |found: &Value| {
        let status = &found["status"];
        let wanted = &found["spec"]["replicas"];
        Ok(status["observedGeneration"].as_u64().unwrap_or(0) >= generation
            && [&status["updatedReplicas"], &status["readyReplicas"], &status["replicas"]]
                .iter()
                .all(|count| *count == wanted))
    };
    system.until(&DEPLOYMENT, OPERATOR, "is restarted", restarted).await.map(drop)
}

/// Names of the operator's pods.
pub async fn operators(cluster: &Cluster) -> Result<Vec<String>> {
    let pods = system(cluster).list(&POD).await?;
    let is_operator = |pod: &&Value| pod["metadata"]["labels"]["app.kubernetes.io/component"] == "operator";
    Ok(pods.iter().filter(is_operator).filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned)).collect())
}

/// Ends all pods of the operator at once, without a word to them.
pub async fn kill_operators(cluster: &Cluster) -> Result<()> {
    for pod in operators(cluster).await? {
        system(cluster).kill(&pod).await?;
    }
    Ok(())
}

/// What all pods of the operator that have an address say about themselves in numbers.
pub async fn metrics(cluster: &Cluster) -> Result<String> {
    let mut text = String::new();
    for pod in operators(cluster).await? {
        if system(cluster).get(&POD, &pod).await?["status"]["podIP"].is_null() {
            continue;
        }
        let path = format!("/api/v1/namespaces/{SYSTEM}/pods/{pod}:8080/proxy/metrics");
        let request = http::Request::get(path).body(Vec::new()).context("make a request")?;
        let said = cluster.client().request_text(request).await;
        text.push_str(&said.with_context(|| format!("read the metrics of pod {pod}"))?);
    }
    Ok(text)
}

/// The number of replicas of a Deployment, and a wait until there are so many.
pub async fn scale(space: &Space, deployment: &str, replicas: u32) -> Result<()> {
    space.patch(&DEPLOYMENT, deployment, json!({"spec": {"replicas": replicas}})).await?;
    let scaled = |found: &Value| {
        if found.is_null() {
            bail!("it is not there");
        }
        let count = |member: &str| found["status"][member].as_u64().unwrap_or(0);
        Ok(count("readyReplicas") == u64::from(replicas) && count("replicas") == u64::from(replicas))
    };
    space.until(&DEPLOYMENT, deployment, "has as many pods as it should", scaled).await?;
    if replicas > 0 {
        return Ok(());
    }
    let labels = space.get(&DEPLOYMENT, deployment).await?["spec"]["selector"]["matchLabels"].clone();
    let labels = labels.as_object().cloned().unwrap_or_default();
    space
        .retry("its pods are gone", async || {
            let is_of = |pod: &Value| labels.iter().all(|(key, value)| pod["metadata"]["labels"][key] == *value);
            let left: Vec<Value> = space.list(&POD).await?.into_iter().filter(is_of).collect();
            ensure!(left.is_empty(), "{}", names(&left));
            Ok(())
        })
        .await
}
