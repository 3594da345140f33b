//! A namespace whose labelled claims are backed up to a bucket of its own: what a test of the product begins with.

use crate::builders::{Claim, Pod};
use crate::kinds::{CLAIM, DEPLOYMENT, DESTINATION, JOB, POD, POLICY, REPOSITORY, SECRET, SOURCE};
use crate::leaks;
use crate::s3::{ACCESS_KEY, BUCKET, S3, SECRET_KEY};
use crate::space::Space;
use crate::system::{scale, system};
use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use serde_json::{Value, json};

/// The password of all repositories.
pub const PASSWORD: &str = "correct horse";

/// The decision about a claim, on the claim.
const DECISION: &str = "perennial.dev/decision";

/// A namespace with its bucket, repository and policy.
pub struct Protected<'a> {
    /// The namespace.
    pub space: &'a Space,
    /// Where its backups go.
    pub server: S3,
    /// The installation's namespace.
    pub system: Space,
    /// The repository's name.
    repository: String,
}

impl<'a> Protected<'a> {
    /// Sets all of it up.
    pub async fn new(space: &'a Space) -> Result<Self> {
        Self::with(space, json!({}), json!({})).await
    }

    /// The same with members of the repository's and the policy's spec set otherwise.
    pub async fn with(space: &'a Space, repository: Value, policy: Value) -> Result<Self> {
        Self::at(space, S3::start(&space.cluster).await?, repository, policy).await
    }

    /// The same with a server of the test's own.
    pub async fn at(space: &'a Space, server: S3, repository: Value, policy: Value) -> Result<Self> {
        let protected = Self::with_repository(space, server, &space.name, repository).await?;
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

    /// Another namespace with the same bucket, repository and policy. Its server is not for stopping.
    pub fn beside<'b>(other: &Protected<'_>, space: &'b Space) -> Protected<'b> {
        let repository = other.repository.clone();
        Protected { space, server: other.server.handle(), system: system(&space.cluster), repository }
    }

    /// The repository `default`, for the installation's own policy: tests that have it run alone.
    pub async fn by_default(space: &'a Space) -> Result<Self> {
        Self::with_repository(space, S3::start(&space.cluster).await?, "default", json!({})).await
    }

    async fn with_repository(space: &'a Space, server: S3, name: &str, change: Value) -> Result<Self> {
        let protected = Self { space, server, system: system(&space.cluster), repository: name.to_owned() };
        protected.write_secret(PASSWORD, SECRET_KEY).await?;
        let mut spec = json!({
            "format": "kopia",
            "store": {"s3": {"endpoint": protected.server.endpoint(), "bucket": BUCKET}},
            "credentials": {"secretRef": {"name": protected.secret()}},
            // There is one node, and many claims on it.
            "limits": {"perNode": 4},
        });
        merge(&mut spec, change);
        space.create_object(&REPOSITORY, json!({"metadata": {"name": name}, "spec": spec})).await?;
        Ok(protected)
    }

    /// Takes away what does not go with the namespace, after a look at what should not be in it.
    pub async fn remove(&self) -> Result<()> {
        leaks::nothing_left_over(self.space).await?;
        // The installation's own stays.
        if self.repository != "default" {
            self.space.delete_object(&POLICY, &self.space.name).await?;
        }
        self.space.delete_object(&REPOSITORY, &self.repository).await?;
        self.system.delete_object(&SECRET, &self.secret()).await
    }

    /// The Secret with the repository's credentials, in the installation's namespace.
    pub fn secret(&self) -> String {
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
        self.followed(self.space.patch(&REPOSITORY, &self.repository, json!({"spec": spec}))).await
    }

    /// Changes the repository's Secret, and waits until its catalog follows.
    pub async fn change_secret(&self, password: &str, secret_key: &str) -> Result<()> {
        self.followed(self.write_secret(password, secret_key)).await
    }

    /// Makes a change, and waits until the repository's catalog follows.
    pub async fn followed<T>(&self, change: impl Future<Output = Result<T>>) -> Result<()> {
        let before = self.catalog().await?;
        change.await?;
        self.follows(&before).await
    }

    async fn catalog(&self) -> Result<Value> {
        self.system.get(&DEPLOYMENT, &self.catalog_name()).await
    }

    /// The number of pods of the repository's catalog, and a wait until there are so many.
    pub async fn scale_catalog(&self, replicas: u32) -> Result<()> {
        scale(&self.system, &self.catalog_name(), replicas).await
    }

    /// Names of the catalog's pods, in the installation's namespace.
    pub async fn catalogs(&self) -> Result<Vec<String>> {
        let pods = self.system.list(&POD).await?;
        let own = |pod: &&Value| pod["metadata"]["labels"]["perennial.dev/repository"] == self.repository.as_str();
        Ok(pods.iter().filter(own).filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned)).collect())
    }

    fn catalog_name(&self) -> String {
        format!("perennial-catalog-{}", self.repository)
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
                let count = self.catalogs().await?.len();
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

    /// Waits until the Job of a restore has a pod of that phase, and answers the pod's name.
    pub async fn restorer(&self, claim: &str, phase: &str) -> Result<String> {
        self.mover(&format!("volsync-dst-{claim}-backup"), phase).await
    }

    /// Waits until the Job of a backup has a pod of that phase, and answers the pod's name.
    pub async fn backuper(&self, claim: &str, phase: &str) -> Result<String> {
        self.mover(&format!("volsync-src-{claim}-backup"), phase).await
    }

    /// Names of movers' pods that run now.
    pub async fn running_movers(&self) -> Result<Vec<String>> {
        let pods = self.space.list(&POD).await?;
        let is_mover = |pod: &&Value| pod["metadata"]["labels"]["app.kubernetes.io/created-by"] == "volsync";
        let running = pods.iter().filter(is_mover).filter(|pod| pod["status"]["phase"] == "Running");
        Ok(running.filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned)).collect())
    }

    async fn mover(&self, job: &str, phase: &str) -> Result<String> {
        self.space
            .retry(&format!("the pod of Job {job} is {phase}"), async || {
                let pods = self.space.list(&POD).await?;
                let is_it = |pod: &&Value| {
                    let labels = &pod["metadata"]["labels"];
                    let is_going = pod["metadata"]["deletionTimestamp"].is_string();
                    labels["batch.kubernetes.io/job-name"] == job && pod["status"]["phase"] == phase && !is_going
                };
                let found = pods.iter().find(is_it).with_context(|| format!("pods: {}", names(&pods)))?;
                Ok(found["metadata"]["name"].as_str().unwrap_or_default().to_owned())
            })
            .await
    }

    /// Waits until a claim's restore has its Job, and answers that.
    pub async fn restore_begun(&self, claim: &str) -> Result<Value> {
        let name = format!("volsync-dst-{claim}-backup");
        self.space.until(&JOB, &name, "is there", |job| Ok(!job.is_null())).await
    }

    /// Waits until the claim whose volume is filled for this one is there, and answers it.
    pub async fn prime(&self, claim: &str) -> Result<Value> {
        let uid = self.space.get(&CLAIM, claim).await?["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        self.space.until(&CLAIM, &format!("vs-prime-{uid}"), "is there", |prime| Ok(!prime.is_null())).await
    }

    /// Claims with a tree of all kinds of files each, backed up. Movers may do everything from then on. Answers the trees.
    pub async fn backed_up_trees(&self, claims: &[&str]) -> Result<Vec<String>> {
        let elevated = json!({"metadata": {"annotations": {"volsync.backube/privileged-movers": "true"}}});
        self.space.patch(&crate::kinds::NAMESPACE, &self.space.name, elevated).await?;
        let each = claims.iter().map(async |claim| {
            self.claim(claim).await?;
            self.space.bound(claim).await?;
            self.space.fill_tree(claim).await?;
            let tree = self.space.tree(claim, ".").await?;
            self.back_up(claim, "one").await?;
            Ok(tree)
        });
        try_join_all(each).await
    }

    /// Claims hold these trees.
    pub async fn hold_trees(&self, claims: &[&str], trees: &[String]) -> Result<()> {
        let each = claims.iter().zip(trees).map(async |(claim, tree)| {
            self.space.bound(claim).await?;
            let found = self.space.tree(claim, ".").await?;
            crate::same_trees(tree, &found).with_context(|| format!("claim {claim}"))
        });
        try_join_all(each).await.map(drop)
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
pub fn decision(claim: &Value) -> Value {
    let text = claim["metadata"]["annotations"][DECISION].as_str().unwrap_or("null");
    serde_json::from_str(text).unwrap_or_default()
}

pub(crate) fn names(objects: &[Value]) -> String {
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
