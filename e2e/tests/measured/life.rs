use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use e2e::{CLAIM, JOB, POD, Protected, labelled, say};
use serde_json::Value;

const FRESH: usize = 9;
const RESTORES: usize = 5;

/// 1,000 files of 1 MiB, as random as data that was compressed before.
const WRITE: &str = "i=0; while [ $i -lt 1000 ]; do mkdir -p d$((i / 50)); \
                     dd if=/dev/urandom of=d$((i / 50))/f$i bs=1M count=1 2>/dev/null; i=$((i + 1)); done";

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[test]
fn a_claim_without_a_backup_is_bound() -> Result<()> {
    e2e::test("fresh", async |space| {
        let protected = Protected::new(space).await?;
        let mut took = Vec::new();
        for number in 0..FRESH {
            let name = format!("data-{number}");
            let began = Instant::now();
            protected.claim(&name).await?;
            space.bound(&name).await?;
            took.push(began.elapsed().as_secs_f64());
            // Its first backup is not to run beside the next one's beginning.
            protected.idle(&name).await?;
        }
        say(&format!("fresh: created → Bound {:.2} s, median of {FRESH}", median(took)));
        protected.remove().await
    })
}

/// When each part of a restore was reached, in seconds from the claim's creation.
async fn restored(protected: &Protected<'_>) -> Result<Vec<(&'static str, f64)>> {
    let space = protected.space;
    let began = Instant::now();
    let mut reached = Vec::new();
    space.create_object(&CLAIM, labelled("data").size("2Gi").build()).await?;
    protected.decided("data", "restore").await?;
    reached.push(("decided", began.elapsed().as_secs_f64()));
    space.until(&JOB, "volsync-dst-data-backup", "exists", |job| Ok(!job.is_null())).await?;
    reached.push(("Job made", began.elapsed().as_secs_f64()));
    let name = space
        .retry("the mover's pod exists", async || {
            let pods = space.list(&POD).await?;
            let pod = pods.iter().filter_map(|pod| pod["metadata"]["name"].as_str());
            pod.map(str::to_owned).find(|name| name.starts_with("volsync-dst-")).context("no pod")
        })
        .await?;
    let runs = |pod: &Value| Ok(["Running", "Succeeded"].iter().any(|phase| pod["status"]["phase"] == *phase));
    space.until(&POD, &name, "runs", runs).await?;
    reached.push(("mover runs", began.elapsed().as_secs_f64()));
    let ends = |pod: &Value| Ok(pod.is_null() || pod["status"]["phase"] == "Succeeded");
    let pod = space.until(&POD, &name, "has ended", ends).await?;
    reached.push(("mover has ended", began.elapsed().as_secs_f64()));
    let message = &pod["status"]["containerStatuses"][0]["state"]["terminated"]["message"];
    let report: Value = serde_json::from_str(message.as_str().unwrap_or("null"))?;
    say(&format!("the mover: {} of {} bytes", report["stagesMs"], report["bytes"]));
    space.bound("data").await?;
    reached.push(("Bound", began.elapsed().as_secs_f64()));
    Ok(reached)
}

#[test]
fn a_gibibyte_comes_back() -> Result<()> {
    e2e::test("gibibyte", async |space| {
        let protected = Protected::new(space).await?;
        space.create_object(&CLAIM, labelled("data").size("2Gi").build()).await?;
        space.bound("data").await?;
        protected.idle("data").await?;
        protected.write("data", WRITE).await?;
        let began = Instant::now();
        protected.back_up("data", "first").await?;
        say(&format!("backed up in {:.1} s", began.elapsed().as_secs_f64()));
        let mut all: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        let mut order = Vec::new();
        for _ in 0..RESTORES {
            protected.delete("data").await?;
            let reached = restored(&protected).await?;
            order = reached.iter().map(|(what, _)| *what).collect();
            reached.into_iter().for_each(|(what, seconds)| all.entry(what).or_default().push(seconds));
            protected.cleared_up("data").await?;
        }
        for what in order {
            let seconds = all.get(what).cloned().unwrap_or_default();
            say(&format!("1 GiB in 1,000 files: {what} {:.2} s, median of {RESTORES}", median(seconds)));
        }
        protected.remove().await
    })
}

#[test]
fn what_a_claims_life_asks_of_the_api_server() -> Result<()> {
    e2e::test("calls", async |space| {
        let protected = Protected::new(space).await?;
        let mut parts = Vec::new();
        let mut mark = space.cluster.mark().await?;
        let mut part = async |what: &'static str| -> Result<()> {
            let calls = space.cluster.calls(mark).await?.of_account("volsync-system", "perennial");
            let of_it: Vec<_> = calls.iter().filter(|call| concerns(call, &space.name)).collect();
            let writes = of_it.iter().filter(|call| !matches!(call.verb.as_str(), "get" | "list" | "watch")).count();
            parts.push(format!("{what}: {} calls, {writes} of them writes", of_it.len()));
            mark = space.cluster.mark().await?;
            Ok(())
        };
        protected.claim("data").await?;
        space.bound("data").await?;
        protected.idle("data").await?;
        part("fresh, bound, and the first backup, which finds nothing").await?;
        protected.write("data", "echo mine >file").await?;
        protected.back_up("data", "one").await?;
        protected.cleared_up("data").await?;
        part("a backup").await?;
        protected.delete("data").await?;
        part("deleted").await?;
        protected.claim("data").await?;
        space.bound("data").await?;
        protected.cleared_up("data").await?;
        part("restored, bound, and the first backup").await?;
        ensure!(parts.len() == 4);
        parts.iter().for_each(|part| say(part));
        protected.remove().await
    })
}

/// Volumes belong to no namespace; here nothing else is handed over meanwhile.
fn concerns(call: &e2e::Call, namespace: &str) -> bool {
    call.namespace == namespace || call.resource == "persistentvolumes"
}
