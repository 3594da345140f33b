//! A namespace of a test, and what a test does in it.

use crate::cluster::Cluster;
use crate::kinds::{CLAIM, JOB, Kind, NAMESPACE, POD, SERVICE_ACCOUNT, SNAPSHOT, STORAGE_CLASS};
use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{
    Api, AttachParams, DeleteParams, DynamicObject, ListParams, LogParams, Patch, PatchParams, PostParams,
};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::{Value, json};
use std::pin::pin;
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// Longest wait for any one state. A cluster that is not overloaded needs a few seconds for each.
const DEADLINE: Duration = Duration::from_secs(120);

/// The CSI test driver, as clusters of ours have it.
const DRIVER: &str = "dirs.csi.perennial.dev";

/// Pause between two tries of something that nothing can be watched for.
const INTERVAL: Duration = Duration::from_millis(200);

/// What a command in a pod said and how it ended.
#[derive(Debug)]
pub struct Output {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Did it end with 0?
    pub success: bool,
}

/// A namespace, unlike any other.
pub struct Space {
    /// The cluster it is in.
    pub cluster: Cluster,
    /// Its name.
    pub name: String,
}

impl Space {
    /// Makes one whose name begins with `prefix`, and waits until pods are allowed in it.
    pub async fn create(cluster: &Cluster, prefix: &str, labels: &[(&str, &str)]) -> Result<Self> {
        let space = Self::bare(cluster, prefix, labels).await?;
        // Pods are refused until the controller manager has made the account.
        space.until(&SERVICE_ACCOUNT, "default", "exists", |account| Ok(!account.is_null())).await?;
        Ok(space)
    }

    /// Makes one and leaves it at that: where there is a control plane alone, nobody makes an account in it.
    pub async fn bare(cluster: &Cluster, prefix: &str, labels: &[(&str, &str)]) -> Result<Self> {
        let labels: serde_json::Map<String, Value> =
            labels.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let object = object(&NAMESPACE, json!({"metadata": {"generateName": format!("{prefix}-"), "labels": labels}}))?;
        let created = cluster.all(&NAMESPACE).create(&PostParams::default(), &object).await;
        let name = created.context("create a namespace")?.metadata.name.context("a namespace has a name")?;
        cluster.remember(&name);
        Ok(Self { cluster: cluster.clone(), name })
    }

    /// Makes it again after it was deleted and is gone.
    pub async fn again(&self) -> Result<()> {
        let body = json!({"metadata": {"name": self.name}});
        self.create_object(&NAMESPACE, body).await?;
        self.cluster.remember(&self.name);
        self.until(&SERVICE_ACCOUNT, "default", "exists", |account| Ok(!account.is_null())).await.map(drop)
    }

    /// The same namespace for a program of that name, see [`Cluster::agent`].
    pub fn agent(&self, name: &str) -> Result<Self> {
        Ok(Self { cluster: self.cluster.agent(name)?, name: self.name.clone() })
    }

    /// The same namespace with the rights of a service account in it.
    pub async fn account(&self, name: &str) -> Result<Self> {
        Ok(Self { cluster: self.cluster.account(&self.name, name).await?, name: self.name.clone() })
    }

    /// Begins to delete it with all that is in it.
    pub async fn delete(&self) -> Result<()> {
        self.delete_object(&NAMESPACE, &self.name).await
    }

    /// Objects of a kind in here, or of the whole cluster where the kind is.
    pub fn api(&self, kind: &Kind) -> Api<DynamicObject> {
        self.cluster.within(kind, &self.name)
    }

    /// A name for an object of the whole cluster.
    pub fn unique(&self, name: &str) -> String {
        format!("{}-{name}", self.name)
    }

    /// Creates an object and answers what the API server made of it.
    pub async fn create_object(&self, kind: &Kind, body: Value) -> Result<Value> {
        let object = object(kind, body)?;
        let name = object.metadata.name.clone().unwrap_or_default();
        let created = self.api(kind).create(&PostParams::default(), &object).await;
        value(&created.with_context(|| format!("create {} {name}", kind.kind))?)
    }

    /// A storage class of the test's own, of the CSI test driver; its parameters say what bad hours it has.
    pub async fn storage_class(&self, name: &str, parameters: Value) -> Result<String> {
        let name = self.unique(name);
        let body = json!({"metadata": {"name": name}, "provisioner": DRIVER, "parameters": parameters});
        self.create_object(&STORAGE_CLASS, body).await?;
        Ok(name)
    }

    /// The object of that name as it is now; [`Value::Null`] if there is none.
    pub async fn get(&self, kind: &Kind, name: &str) -> Result<Value> {
        let found = self.api(kind).get_opt(name).await.with_context(|| format!("get {} {name}", kind.kind))?;
        found.as_ref().map_or(Ok(Value::Null), value)
    }

    /// All objects of a kind in here.
    pub async fn list(&self, kind: &Kind) -> Result<Vec<Value>> {
        let found = self.api(kind).list(&ListParams::default()).await;
        found.with_context(|| format!("list {}", kind.plural))?.items.iter().map(value).collect()
    }

    /// Changes some members of an object.
    pub async fn patch(&self, kind: &Kind, name: &str, change: Value) -> Result<Value> {
        let patched = self.api(kind).patch(name, &PatchParams::default(), &Patch::Merge(change)).await;
        value(&patched.with_context(|| format!("patch {} {name}", kind.kind))?)
    }

    /// Begins to delete an object; that there is none is as good.
    pub async fn delete_object(&self, kind: &Kind, name: &str) -> Result<()> {
        match self.api(kind).delete(name, &DeleteParams::background()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => other.map(drop).with_context(|| format!("delete {} {name}", kind.kind)),
        }
    }

    /// Ends a pod at once, without a word to it.
    pub async fn kill(&self, pod: &str) -> Result<()> {
        match self.api(&POD).delete(pod, &DeleteParams::default().grace_period(0)).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            other => other.map(drop).with_context(|| format!("kill pod {pod}")),
        }
    }

    /// Waits until the object is as wanted, by watching it. An object that does not exist is [`Value::Null`]; an error of
    /// `wanted` says that it never will be, and ends the wait.
    pub async fn until(
        &self,
        kind: &Kind,
        name: &str,
        what: &str,
        mut wanted: impl FnMut(&Value) -> Result<bool>,
    ) -> Result<Value> {
        let mut seen = Value::Null;
        let mut trouble = None;
        let mut states = pin!(watcher::watch_object(self.api(kind), name).default_backoff());
        let waited = tokio::time::timeout(DEADLINE, async {
            while let Some(state) = states.next().await {
                match state {
                    Ok(state) => {
                        seen = state.as_ref().map_or(Ok(Value::Null), value)?;
                        if wanted(&seen)? {
                            return Ok(());
                        }
                    }
                    Err(error) => trouble = Some(error),
                }
            }
            bail!("the watch ended")
        });
        let outcome = waited.await.unwrap_or_else(|_elapsed| bail!("not within {} s", DEADLINE.as_secs()));
        let trouble = trouble.map(|error| format!("; the last watch said {error}")).unwrap_or_default();
        outcome.with_context(|| format!("{} {name} {what}: last seen as {seen:#}{trouble}", kind.kind))?;
        Ok(seen)
    }

    /// Waits until there is no such object.
    pub async fn until_gone(&self, kind: &Kind, name: &str) -> Result<()> {
        self.until(kind, name, "is gone", |object| Ok(object.is_null())).await.map(drop)
    }

    /// Does it again until it succeeds: for what takes effect some time after it exists.
    pub async fn retry<T>(&self, what: &str, mut attempt: impl AsyncFnMut() -> Result<T>) -> Result<T> {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        loop {
            match attempt().await {
                Ok(done) => return Ok(done),
                Err(error) if tokio::time::Instant::now() > deadline => {
                    return Err(error.context(format!("{what}: not within {} s", DEADLINE.as_secs())));
                }
                Err(_again) => tokio::time::sleep(INTERVAL).await,
            }
        }
    }

    /// Waits until a claim has a volume, and answers the claim.
    pub async fn bound(&self, claim: &str) -> Result<Value> {
        self.until(&CLAIM, claim, "is bound", |claim| match claim["status"]["phase"].as_str() {
            Some("Lost") => bail!("its volume is lost"),
            phase => Ok(phase == Some("Bound")),
        })
        .await
    }

    /// Waits until a snapshot can be used.
    pub async fn snapshot_ready(&self, snapshot: &str) -> Result<Value> {
        self.until(&SNAPSHOT, snapshot, "is ready", |snapshot| Ok(snapshot["status"]["readyToUse"] == true)).await
    }

    /// Waits until all containers of a pod run and say that they are ready.
    pub async fn ready(&self, pod: &str) -> Result<Value> {
        self.until(&POD, pod, "is ready", |pod| {
            if let Some(phase @ ("Failed" | "Succeeded")) = pod["status"]["phase"].as_str() {
                bail!("the pod has ended: {phase}");
            }
            Ok(condition(pod, "Ready"))
        })
        .await
    }

    /// Waits until a pod has ended well, and answers what it said.
    pub async fn succeeded(&self, pod: &str) -> Result<String> {
        let phase = |pod: &Value| match pod["status"]["phase"].as_str() {
            Some("Failed") => bail!("the pod has failed"),
            phase => Ok(phase == Some("Succeeded")),
        };
        self.until(&POD, pod, "has succeeded", phase).await?;
        self.logs(pod).await
    }

    /// Waits until a Job is complete.
    pub async fn complete(&self, job: &str) -> Result<Value> {
        self.until(&JOB, job, "is complete", |job| {
            ensure!(!condition(job, "Failed"), "the Job has failed");
            Ok(condition(job, "Complete"))
        })
        .await
    }

    /// What the only container of a pod has said so far.
    pub async fn logs(&self, pod: &str) -> Result<String> {
        let pods: Api<Pod> = Api::namespaced(self.cluster.client.clone(), &self.name);
        pods.logs(pod, &LogParams::default()).await.with_context(|| format!("read the log of pod {pod}"))
    }

    /// Runs a command in a pod to its end.
    pub async fn exec(&self, pod: &str, command: &[&str]) -> Result<Output> {
        let pods: Api<Pod> = Api::namespaced(self.cluster.client.clone(), &self.name);
        let attach = AttachParams::default().stdout(true).stderr(true);
        let process = pods.exec(pod, command.to_vec(), &attach).await;
        let mut process = process.with_context(|| format!("run {command:?} in pod {pod}"))?;
        let status = process.take_status().context("a command has a status")?;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let mut out = process.stdout().context("standard output is attached")?;
        let mut error = process.stderr().context("standard error is attached")?;
        let read = tokio::time::timeout(DEADLINE, async {
            tokio::try_join!(out.read_to_end(&mut stdout), error.read_to_end(&mut stderr))
        });
        read.await.with_context(|| format!("{command:?} in pod {pod} does not end"))?.context("read what it says")?;
        let status = status.await.context("the command has ended without a status")?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Output { stdout: text(stdout), stderr: text(stderr), success: status.status.as_deref() == Some("Success") })
    }

    /// Runs a shell script in a pod, which must end well, and answers what it said.
    pub async fn shell(&self, pod: &str, script: &str) -> Result<String> {
        let output = self.exec(pod, &["sh", "-c", script]).await?;
        ensure!(output.success, "`{script}` in pod {pod} has failed: {}{}", output.stdout, output.stderr);
        Ok(output.stdout)
    }

    /// Waits for an event that tells of an object in here.
    pub async fn event(&self, name: &str, wanted: &str) -> Result<()> {
        let events = self.api(&crate::kinds::EVENT);
        let config = watcher::Config::default().fields(&format!("involvedObject.name={name}"));
        let mut seen = Vec::new();
        let mut stream = pin!(watcher::watcher(events, config).default_backoff().applied_objects());
        let waited = tokio::time::timeout(DEADLINE, async {
            while let Some(event) = stream.try_next().await? {
                let message = value(&event)?["message"].as_str().unwrap_or_default().to_owned();
                if message.contains(wanted) {
                    return Ok(());
                }
                seen.push(message);
            }
            bail!("the watch ended")
        });
        let outcome = waited.await.unwrap_or_else(|_elapsed| bail!("not within {} s", DEADLINE.as_secs()));
        outcome.with_context(|| format!("an event of {name} that says {wanted:?}; seen: {seen:#?}"))
    }
}

/// Is the condition of that type true?
fn condition(object: &Value, kind: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions
        .is_some_and(|conditions| conditions.iter().any(|found| found["type"] == kind && found["status"] == "True"))
}

fn object(kind: &Kind, mut body: Value) -> Result<DynamicObject> {
    body["apiVersion"] = kind.api_version().into();
    body["kind"] = kind.kind.into();
    serde_json::from_value(body).with_context(|| format!("read the {} that a test made", kind.kind))
}

pub(crate) fn value(object: &DynamicObject) -> Result<Value> {
    serde_json::to_value(object).context("encode an object")
}
