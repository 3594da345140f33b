//! The operator with many protected claims: what it asks of the API server, and how much memory it takes.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use e2e::{
    CLAIM, Call, Claim, JOB, NAMESPACE, OPERATOR_AGENT, Operator, POLICY, REPOSITORY, SECRET, SOURCE, Space, say,
};
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

/// How many claims, unless the environment says otherwise: the numbers in docs/benchmarks.md are of 5,000.
const CLAIMS: usize = 300;
const CLAIMS_VARIABLE: &str = "PERENNIAL_E2E_CLAIMS";

const NAMESPACES: usize = 10;
/// Requests under way at a time.
const IN_FLIGHT: usize = 32;
const SYSTEM: &str = "volsync-system";

/// Memory that the operator may have with 5,000 claims.
const MEMORY_MAX_KIB: u64 = 128 * 1024;

/// A namespace for the operator, a repository, and a policy for the namespaces with the claims.
async fn prepare(space: &Space) -> Result<Vec<Space>> {
    if space.get(&NAMESPACE, SYSTEM).await?.is_null() {
        space.create_object(&NAMESPACE, json!({"metadata": {"name": SYSTEM}})).await?;
    }
    let system = Space { cluster: space.cluster.clone(), name: SYSTEM.to_owned() };
    let data = json!({"KOPIA_PASSWORD": "p", "KOPIA_S3_ACCESS_KEY_ID": "a", "KOPIA_S3_SECRET_ACCESS_KEY": "s"});
    system.create_object(&SECRET, json!({"metadata": {"name": space.name}, "stringData": data})).await?;
    let repository = json!({
        "format": "kopia",
        "store": {"s3": {"endpoint": "127.0.0.1:1", "bucket": "nobody"}},
        "credentials": {"secretRef": {"name": space.name}},
    });
    space.create_object(&REPOSITORY, json!({"metadata": {"name": space.name}, "spec": repository})).await?;
    let namespaces = stream::iter(0..NAMESPACES).map(|_| Space::bare(&space.cluster, "many", &[]));
    let namespaces: Vec<Space> = namespaces.buffer_unordered(IN_FLIGHT).try_collect().await?;
    let names: Vec<&str> = namespaces.iter().map(|within| within.name.as_str()).collect();
    let policy = json!({
        "priority": 1, "repository": space.name, "copyMethod": "Direct", "claims": {"namespaces": {"names": names}},
    });
    space.create_object(&POLICY, json!({"metadata": {"name": space.name}, "spec": policy})).await?;
    Ok(namespaces)
}

/// A protected claim as it is long after it was made: it has its volume, and what was decided stands on it.
async fn settled(within: &Space, name: &str) -> Result<()> {
    let claim = Claim::new(name).label("backup", "hourly");
    let mut body = claim.build();
    body["spec"]["volumeName"] = json!(format!("pv-{}-{name}", within.name));
    let made = within.create_object(&CLAIM, body).await?;
    let decision = json!({
        "decision": "fresh", "proof": "neverInitialised", "uid": made["metadata"]["uid"], "time": "2026-11-22T06:00:00Z",
    });
    let annotations = json!({"perennial.dev/decision": decision.to_string()});
    within.patch(&CLAIM, name, json!({"metadata": {"annotations": annotations}})).await?;
    let status =
        json!({"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]}});
    let params = PatchParams::default();
    within.api(&CLAIM).patch_status(name, &params, &Patch::Merge(&status)).await.context("bind a claim")?;
    Ok(())
}

async fn fill(namespaces: &[Space], count: usize) -> Result<()> {
    let each = (0..count).filter_map(|number| Some((namespaces.get(number % NAMESPACES)?, number)));
    let claims = stream::iter(each).map(async |(within, number)| settled(within, &format!("data-{number}")).await);
    claims.buffer_unordered(IN_FLIGHT).try_collect().await
}

/// Waits until every claim has its source, a tenth of them at a time: however slow the machine, it must go on.
async fn all_have_sources(namespaces: &[Space], count: usize) -> Result<()> {
    let first = namespaces.first().context("there is a namespace")?;
    for tenths in 1..=10 {
        let wanted = count * tenths / 10;
        first
            .retry(&format!("{wanted} claims have a source"), async || {
                let mut found = 0;
                for within in namespaces {
                    found += within.list(&SOURCE).await?.len();
                }
                ensure!(found >= wanted, "{found} of {count}");
                Ok(())
            })
            .await?;
    }
    Ok(())
}

/// As after a good backup: nothing runs, and the next is not due before long.
async fn all_are_backed_up(namespaces: &[Space]) -> Result<()> {
    for within in namespaces {
        for job in within.list(&JOB).await? {
            within.delete_object(&JOB, job["metadata"]["name"].as_str().unwrap_or_default()).await?;
        }
        let sources = within.list(&SOURCE).await?;
        let done = stream::iter(sources.iter().filter_map(|source| source["metadata"]["name"].as_str()));
        let status = json!({"status": {"lastSyncTime": "2200-01-01T00:00:00Z", "lastSyncStartTime": null}});
        let patches = done.map(async |name| {
            let params = PatchParams::default();
            within.api(&SOURCE).patch_status(name, &params, &Patch::Merge(&status)).await.map(drop)
        });
        patches.buffer_unordered(IN_FLIGHT).try_collect::<()>().await.context("report a backup")?;
    }
    Ok(())
}

/// Waits until every source says that it waits for its time.
async fn all_wait(namespaces: &[Space]) -> Result<()> {
    let waits = |source: &&Value| {
        source["status"]["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|found| found["reason"] == "WaitingForSchedule")
    };
    for within in namespaces {
        within
            .retry("every source waits for its time", async || {
                let sources = within.list(&SOURCE).await?;
                let count = sources.iter().filter(waits).count();
                ensure!(count == sources.len(), "{count} of {}", sources.len());
                Ok(())
            })
            .await?;
    }
    Ok(())
}

/// Makes one more claim and waits until it has its source: whatever came before it in the queues was looked at.
async fn one_more(within: &Space, name: &str) -> Result<()> {
    settled(within, name).await?;
    let source = format!("{name}-backup");
    let is_looked_at = |source: &Value| Ok(source["status"]["conditions"].is_array());
    within.until(&SOURCE, &source, "is looked at", is_looked_at).await.map(drop)
}

fn is_write(call: &Call) -> bool {
    !matches!(call.verb.as_str(), "get" | "list" | "watch")
}

#[test]
fn a_new_start_with_many_claims_lists_once_and_writes_nothing() -> Result<()> {
    e2e::test_on_control_plane("many", async |space| {
        let count = std::env::var(CLAIMS_VARIABLE).ok().map_or(Ok(CLAIMS), |text| text.parse())?;
        let namespaces = prepare(space).await?;
        fill(&namespaces, count).await?;
        let mark = space.cluster.mark().await?;
        let operator = Operator::start(SYSTEM)?;
        all_have_sources(&namespaces, count).await?;
        say(&format!("{count} claims have their sources: {} MiB at most", operator.peak_memory_kib()? / 1024));
        let calls = space.cluster.calls(mark).await?.of_agent(OPERATOR_AGENT);
        let writes: BTreeMap<String, usize> = calls.tally().into_iter().filter(|(_, calls)| *calls >= count).collect();
        say(&format!("calls that came once for each claim or more often: {writes:?}"));
        operator.stop()?;

        // Once to find that all is done, and to say so.
        all_are_backed_up(&namespaces).await?;
        let operator = Operator::start(SYSTEM)?;
        all_wait(&namespaces).await?;
        let is_counted = |policy: &Value| Ok(policy["status"]["claims"]["protected"] == count);
        space.until(&POLICY, &space.name, "counts all claims", is_counted).await?;
        operator.stop()?;

        let mark = space.cluster.mark().await?;
        let operator = Operator::start(SYSTEM)?;
        one_more(namespaces.first().context("there is a namespace")?, "last").await?;
        let peak = operator.peak_memory_kib()?;
        say(&format!("{count} claims, started anew: {} MiB at most", peak / 1024));
        ensure!(peak <= MEMORY_MAX_KIB, "{peak} KiB");
        let calls = space.cluster.calls(mark).await?.of_agent(OPERATOR_AGENT);
        operator.stop()?;

        let of_the_last = ["last", "last-backup", "volsync-last", "volsync-src-last-backup"];
        // The policy counts that one, too.
        let counts = calls.iter().filter(|call| is_write(call) && call.resource == "backuppolicies").count();
        ensure!(counts <= 1, "{counts} writes of the policy's status");
        let expected = |call: &&Call| {
            of_the_last.contains(&call.name.as_str()) || ["leases", "backuppolicies"].contains(&call.resource.as_str())
        };
        let is_event = |call: &&Call| call.resource == "events";
        let writes: Vec<String> = calls
            .iter()
            .filter(|call| is_write(call))
            .filter(|call| !expected(call) && !is_event(call))
            .map(|call| format!("{call} {}/{}", call.namespace, call.name))
            .collect();
        ensure!(writes.is_empty(), "writes: {writes:#?}");
        let first_pages = calls.iter().filter(|call| call.verb == "list" && !call.uri.contains("continue="));
        let mut kinds = BTreeSet::new();
        for call in first_pages {
            ensure!(kinds.insert(format!("{}/{}", call.group, call.resource)), "listed twice: {call} {}", call.uri);
        }
        say(&format!("listed once each: {}", kinds.into_iter().collect::<Vec<_>>().join(", ")));
        space.delete_object(&POLICY, &space.name).await?;
        space.delete_object(&REPOSITORY, &space.name).await
    })
}
