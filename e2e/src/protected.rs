//! A namespace whose labelled claims are backed up to a bucket of its own: what a test of the product begins with.

use crate::builders::{Claim, Pod};
use crate::cluster::Cluster;
use crate::kinds::{CLAIM, DEPLOYMENT, DESTINATION, POD, POLICY, REPOSITORY, SECRET, SOURCE};
use crate::s3::{ACCESS_KEY, BUCKET, S3, SECRET_KEY};
use crate::space::Space;
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

/// The password of all repositories.
pub const PASSWORD: &str = "correct horse";

/// The installation's namespace.
const SYSTEM: &str = "volsync-system";

/// The decision about a claim, on the claim.
const DECISION: &str = "perennial.dev/decision";

/// A namespace with its bucket, repository and policy.
pub struct Protected<'a> {
    /// The namespace.
    pub space: &'a Space,
    /// Where its backups go.
    pub server: S3,
    system: Space,
}

impl<'a> Protected<'a> {
    /// Sets all of it up.
    pub async fn new(space: &'a Space) -> Result<Self> {
        Self::with(space, json!({}), json!({})).await
    }

    /// The same with members of the repository's and the policy's spec set otherwise.
    pub async fn with(space: &'a Space, repository: Value, policy: Value) -> Result<Self> {
        let server = S3::start(&space.cluster).await?;
        let system = Space { cluster: space.cluster.clone(), name: SYSTEM.to_owned() };
        let protected = Self { space, server, system };
        protected.write_secret(PASSWORD, SECRET_KEY).await?;
        let mut spec = json!({
            "format": "kopia",
            "store": {"s3": {"endpoint": protected.server.endpoint(), "bucket": BUCKET}},
            "credentials": {"secretRef": {"name": protected.secret()}},
        });
        merge(&mut spec, repository);
        space.create_object(&REPOSITORY, json!({"metadata": {"name": space.name}, "spec": spec})).await?;
        let mut spec = json!({
            "priority": 1,
            "repository": space.name,
            "claims": {"namespaces": {"names": [space.name]}},
            "cache": {"capacity": "100Mi"},
        });
        merge(&mut spec, policy);
        space.create_object(&POLICY, json!({"metadata": {"name": space.name}, "spec": spec})).await?;
        Ok(protected)
    }

    /// Takes away what does not go with the namespace.
    pub async fn remove(&self) -> Result<()> {
        self.space.delete_object(&POLICY, &self.space.name).await?;
        self.space.delete_object(&REPOSITORY, &self.space.name).await?;
        self.system.delete_object(&SECRET, &self.secret()).await
    }

    fn secret(&self) -> String {
        format!("repository-{}", self.space.name)
    }

    /// Writes the repository's Secret, or what somebody has made of it.
    pub async fn write_secret(&self, password: &str, secret_key: &str) -> Result<()> {
        let data = json!({
            "KOPIA_PASSWORD": password, "KOPIA_S3_ACCESS_KEY_ID": ACCESS_KEY, "KOPIA_S3_SECRET_ACCESS_KEY": secret_key,
        });
        if self.system.get(&SECRET, &self.secret()).await?.is_null() {
            let body = json!({"metadata": {"name": self.secret()}, "stringData": data});
            return self.system.create_object(&SECRET, body).await.map(drop);
        }
        self.system.patch(&SECRET, &self.secret(), json!({"stringData": data})).await.map(drop)
    }

    /// Changes members of the repository's spec, and waits until its catalog follows.
    pub async fn change_repository(&self, spec: Value) -> Result<()> {
        let before = self.catalog().await?;
        self.space.patch(&REPOSITORY, &self.space.name, json!({"spec": spec})).await?;
        self.follows(&before).await
    }

    /// Changes the repository's Secret, and waits until its catalog follows.
    pub async fn change_secret(&self, password: &str, secret_key: &str) -> Result<()> {
        let before = self.catalog().await?;
        self.write_secret(password, secret_key).await?;
        self.follows(&before).await
    }

    async fn catalog(&self) -> Result<Value> {
        self.system.get(&DEPLOYMENT, &self.catalog_name()).await
    }

    fn catalog_name(&self) -> String {
        format!("perennial-catalog-{}", self.space.name)
    }

    /// Waits until another catalog than before answers, and it alone.
    async fn follows(&self, before: &Value) -> Result<()> {
        let before = &before["spec"]["template"]["metadata"]["annotations"];
        let follows = |found: &Value| {
            let status = &found["status"];
            let is_new = found["spec"]["template"]["metadata"]["annotations"] != *before;
            let is_seen = status["observedGeneration"] == found["metadata"]["generation"];
            Ok(is_new
                && is_seen
                && status["updatedReplicas"] == 1
                && status["replicas"] == 1
                && status["readyReplicas"] == 1)
        };
        self.system.until(&DEPLOYMENT, &self.catalog_name(), "follows", follows).await?;
        self.space
            .retry("the old catalog is gone", async || {
                let pods = self.system.list(&POD).await?;
                let own =
                    |pod: &&Value| pod["metadata"]["labels"]["perennial.dev/repository"] == self.space.name.as_str();
                let count = pods.iter().filter(own).count();
                ensure!(count == 1, "{count} pods");
                Ok(())
            })
            .await
    }

    /// A labelled claim, and nothing else.
    pub async fn claim(&self, name: &str) -> Result<Value> {
        self.space.create_object(&CLAIM, labelled(name).build()).await
    }

    /// Writes with a script as the user that movers run as. The claim is at the working directory.
    pub async fn write(&self, claim: &str, script: &str) -> Result<String> {
        self.run(claim, script).await
    }

    async fn run(&self, claim: &str, script: &str) -> Result<String> {
        let script = format!("set -e; cd /data; {script}");
        let mut body = Pod::shell("", &script).user(568, 568, 568).mount(claim, "/data").build();
        body["metadata"] = json!({"generateName": "app-"});
        let made = self.space.create_object(&POD, body).await?;
        let name = made["metadata"]["name"].as_str().context("a pod has a name")?;
        let said = self.space.succeeded(name).await?;
        self.space.delete_object(&POD, name).await?;
        self.space.until_gone(&POD, name).await?;
        Ok(said)
    }

    /// What is in a file.
    pub async fn read(&self, claim: &str, file: &str) -> Result<String> {
        self.run(claim, &format!("cat '{file}'")).await
    }

    /// Backs a claim up now, and waits until that went well.
    pub async fn back_up(&self, claim: &str, tag: &str) -> Result<Value> {
        let source = self.back_up_somehow(claim, tag).await?;
        let mover = &source["status"]["latestMoverStatus"];
        ensure!(mover["result"] == "Successful", "the backup {tag} of {claim}: {mover}");
        Ok(source)
    }

    /// Backs a claim up now, and waits until that has ended.
    pub async fn back_up_somehow(&self, claim: &str, tag: &str) -> Result<Value> {
        let name = format!("{claim}-backup");
        self.idle(claim).await?;
        self.space.patch(&SOURCE, &name, json!({"spec": {"trigger": {"manual": tag}}})).await?;
        self.space.until(&SOURCE, &name, "is backed up", |source| Ok(source["status"]["lastManualSync"] == tag)).await
    }

    /// Waits until the first backup of a claim has run.
    pub async fn idle(&self, claim: &str) -> Result<Value> {
        let idle = |source: &Value| {
            let status = &source["status"];
            Ok(status["lastSyncTime"].is_string() && status["lastSyncStartTime"].is_null())
        };
        self.space.until(&SOURCE, &format!("{claim}-backup"), "is idle", idle).await
    }

    /// Waits until there is a decision of that kind about a claim, and answers it.
    pub async fn decided(&self, claim: &str, wanted: &str) -> Result<Value> {
        let claim = self.space.until(&CLAIM, claim, wanted, |claim| Ok(decision(claim)["decision"] == wanted)).await?;
        Ok(decision(&claim))
    }

    /// Waits until a claim waits for that reason, unbound.
    pub async fn held(&self, claim: &str, reason: &str) -> Result<Value> {
        let held = |claim: &Value| {
            ensure!(claim["status"]["phase"] != "Bound", "it is bound: {}", decision(claim));
            Ok(decision(claim)["reason"] == reason)
        };
        let claim = self.space.until(&CLAIM, claim, reason, held).await?;
        Ok(decision(&claim))
    }

    /// Deletes a claim, and waits until it and all that was made for it are gone.
    pub async fn delete(&self, claim: &str) -> Result<()> {
        self.space.delete_object(&CLAIM, claim).await?;
        self.space.until_gone(&CLAIM, claim).await?;
        self.space.until_gone(&SOURCE, &format!("{claim}-backup")).await?;
        self.space.until_gone(&DESTINATION, &format!("{claim}-backup")).await
    }

    /// Waits until nothing temporary is left for a bound claim, and fails if something stays.
    pub async fn cleared_up(&self, claim: &str) -> Result<()> {
        self.idle(claim).await?;
        for kind in [crate::kinds::JOB, crate::kinds::SNAPSHOT] {
            self.space
                .retry(&format!("no {} is left", kind.plural), async || {
                    let left = self.space.list(&kind).await?;
                    ensure!(left.is_empty(), "{}", names(&left));
                    Ok(())
                })
                .await?;
        }
        self.space
            .retry("no claim of ours is left", async || {
                let claims = self.space.list(&CLAIM).await?;
                let left: Vec<Value> =
                    claims.into_iter().filter(|found| found["metadata"]["labels"]["backup"].is_null()).collect();
                ensure!(left.is_empty(), "{}", names(&left));
                Ok(())
            })
            .await
    }
}

/// A labelled claim.
pub fn labelled(name: &str) -> Claim {
    Claim::new(name).label("backup", "hourly")
}

/// What was decided about a claim; [`Value::Null`] if nothing was.
fn decision(claim: &Value) -> Value {
    let text = claim["metadata"]["annotations"][DECISION].as_str().unwrap_or("null");
    serde_json::from_str(text).unwrap_or_default()
}

fn names(objects: &[Value]) -> String {
    let names = objects.iter().filter_map(|object| object["metadata"]["name"].as_str());
    names.collect::<Vec<_>>().join(", ")
}

/// Members of `change` over those of `body`; null removes one.
fn merge(body: &mut Value, change: Value) {
    match (body, change) {
        (Value::Object(body), Value::Object(change)) => {
            for (key, value) in change {
                if value.is_null() {
                    body.remove(&key);
                } else {
                    merge(body.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (body, change) => *body = change,
    }
}

/// The number of replicas of the operator, and a wait until there are so many.
///
/// # Errors
/// The operator's Deployment is not there.
pub async fn scale_operator(cluster: &Cluster, replicas: u32) -> Result<()> {
    let system = Space { cluster: cluster.clone(), name: SYSTEM.to_owned() };
    system.patch(&DEPLOYMENT, "perennial", json!({"spec": {"replicas": replicas}})).await?;
    let scaled = |found: &Value| {
        if found.is_null() {
            bail!("the operator is not installed");
        }
        let status = &found["status"];
        Ok(status["readyReplicas"].as_u64().unwrap_or(0) == u64::from(replicas)
            && status["replicas"].as_u64().unwrap_or(0) == u64::from(replicas))
    };
    system.until(&DEPLOYMENT, "perennial", "has as many pods as it should", scaled).await?;
    if replicas > 0 {
        return Ok(());
    }
    system
        .retry("no operator runs", async || {
            let pods = system.list(&POD).await?;
            let left: Vec<Value> = pods
                .into_iter()
                .filter(|pod| pod["metadata"]["labels"]["app.kubernetes.io/component"] == "operator")
                .collect();
            ensure!(left.is_empty(), "{}", names(&left));
            Ok(())
        })
        .await
}
