//! Pods of ours end at random while claims are backed up and restored: all of it ends well, and nothing is left over.

use anyhow::{Context, Result, ensure};
use e2e::{CLAIM, Claim, POD, Pod, Protected, Random, SOURCE, Space, leaks};
use futures::future::try_join_all;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

use crate::{OPERATORS, alone};

/// How long pods are killed, in seconds.
const SECONDS: &str = "PERENNIAL_E2E_KILL_SECONDS";
const SECONDS_USUALLY: u64 = 60;

/// Claims that are backed up and restored.
const COUNT: usize = 20;

/// Between two kills.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(4));

#[test]
fn pods_that_end_at_random_cost_no_data() -> Result<()> {
    alone("chaos", async |space| {
        let seconds = std::env::var(SECONDS).ok().and_then(|text| text.parse().ok()).unwrap_or(SECONDS_USUALLY);
        let until = Instant::now() + Duration::from_secs(seconds);
        let protected = Protected::new(space).await?;
        let claims: Vec<String> = (0..COUNT).map(|number| format!("data-{number}")).collect();
        let (killed, lived) = tokio::try_join!(kill(&protected, until), live(&protected, &claims, until))?;
        e2e::say(&format!("{killed} pods were killed, the claims lived {lived} times"));
        e2e::scale_operator(&space.cluster, OPERATORS).await?;
        leaks::nothing_left_over(space).await?;
        for claim in &claims {
            protected.verified_by_kopia(claim)?;
        }
        protected.remove().await
    })
}

/// Kills one pod after the other until then. Answers how many.
async fn kill(protected: &Protected<'_>, until: Instant) -> Result<usize> {
    let space = protected.space;
    let mut random = Random::of_run(&space.name);
    let mut count = 0;
    while Instant::now() < until {
        tokio::time::sleep(random.pause(PAUSES.0, PAUSES.1)).await;
        let (home, pods) = match random.below(6) {
            0 => (e2e::system(&space.cluster), e2e::operators(&space.cluster).await?),
            1 => (e2e::system(&space.cluster), protected.catalogs().await?),
            _ => (Space { cluster: space.cluster.clone(), name: space.name.clone() }, movers(space).await?),
        };
        let Some(victim) = random.one_of(&pods) else { continue };
        match random.below(2) {
            0 => home.kill(victim).await?,
            _ => home.delete_object(&POD, victim).await?,
        }
        count += 1;
    }
    Ok(count)
}

/// Names of pods that read or write volumes now.
async fn movers(space: &Space) -> Result<Vec<String>> {
    let pods = space.list(&POD).await?;
    let is_mover = |pod: &&Value| pod["metadata"]["labels"]["app.kubernetes.io/created-by"] == "volsync";
    let is_alive = |pod: &&Value| matches!(pod["status"]["phase"].as_str(), Some("Pending" | "Running"));
    let names = pods.iter().filter(is_mover).filter(is_alive);
    Ok(names.filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned)).collect())
}

/// Claims are made, written, backed up, deleted, made again and compared, until then. Answers how often.
async fn live(protected: &Protected<'_>, claims: &[String], until: Instant) -> Result<usize> {
    let space = protected.space;
    try_join_all(claims.iter().map(async |claim| protected.claim(claim).await)).await?;
    all_bound(space, claims).await?;
    let mut lives = 0;
    loop {
        on_all(protected, claims, &fill(lives)).await?;
        // Seen by another pod: the kubelet gives what it finds to the pods' group.
        let written = on_all(protected, claims, LIST).await?;
        back_up_all(protected, claims, &format!("life-{lives}")).await?;
        try_join_all(claims.iter().map(async |claim| protected.delete(claim).await)).await?;
        try_join_all(claims.iter().map(async |claim| protected.claim(claim).await)).await?;
        // Who has no label waits for nobody.
        let plain = format!("plain-{lives}");
        space.create_object(&CLAIM, Claim::new(&plain).build()).await?;
        space.bound(&plain).await?;
        space.delete_object(&CLAIM, &plain).await?;
        all_bound(space, claims).await?;
        let found = on_all(protected, claims, LIST).await?;
        ensure!(found == written, "what came back is not what was there:\n{found}\nwas\n{written}");
        lives += 1;
        if Instant::now() >= until {
            return Ok(lives);
        }
    }
}

/// What is in a claim, with everything that a pod without rights can see.
const LIST: &str =
    "find . -type f | sort | xargs -r sha256sum; find . -mindepth 1 | sort | xargs stat -c '%n %F %a %u:%g %Y'";

/// Many small files and some that take their time, different in each claim.
fn fill(life: usize) -> String {
    let files = "for i in $(seq 100); do echo \"$c $i\" >many/$i; done";
    let large = "dd if=/dev/urandom of=large bs=100000 count=20 2>/dev/null";
    format!("mkdir -p many deep/er; {files}; {large}; echo life {life} >deep/er/life")
}

/// Runs a script in each claim, all from one pod. Answers what it said.
async fn on_all(protected: &Protected<'_>, claims: &[String], script: &str) -> Result<String> {
    let space = protected.space;
    let script = format!("set -e; for c in /data/*; do cd $c; echo $c; {script}; done");
    let pod = Pod::shell("", &script).user(568, 568, 568);
    let pod = claims.iter().fold(pod, |pod, claim| pod.mount(claim, &format!("/data/{claim}")));
    let mut body = pod.build();
    body["metadata"] = json!({"generateName": "app-"});
    let made = space.create_object(&POD, body).await?;
    let name = made["metadata"]["name"].as_str().context("a pod has a name")?;
    let said = space.succeeded(name).await?;
    space.delete_object(&POD, name).await?;
    space.until_gone(&POD, name).await?;
    Ok(said)
}

/// Asks for a backup of each and waits until all have one that went well.
async fn back_up_all(protected: &Protected<'_>, claims: &[String], tag: &str) -> Result<()> {
    let space = protected.space;
    for claim in claims {
        let name = format!("{claim}-backup");
        space.until(&SOURCE, &name, "is there", |source| Ok(!source.is_null())).await?;
        space.patch(&SOURCE, &name, json!({"spec": {"trigger": {"manual": tag}}})).await?;
    }
    each_in_time(claims, async || {
        let sources = space.list(&SOURCE).await?;
        let is_done = |source: &&Value| {
            let status = &source["status"];
            status["lastManualSync"] == tag && status["latestMoverStatus"]["result"] == "Successful"
        };
        let done = sources.iter().filter(is_done).filter_map(|source| source["spec"]["sourcePVC"].as_str());
        Ok(done.map(str::to_owned).collect())
    })
    .await
    .with_context(|| format!("all are backed up as {tag}"))
}

async fn all_bound(space: &Space, claims: &[String]) -> Result<()> {
    each_in_time(claims, async || {
        let found = space.list(&CLAIM).await?;
        let bound = found.iter().filter(|claim| claim["status"]["phase"] == "Bound");
        Ok(bound.filter_map(|claim| claim["metadata"]["name"].as_str().map(str::to_owned)).collect())
    })
    .await
    .context("all are bound")
}

/// Waits until all are done. How long that takes hangs on the machine; that nothing at all goes on for so long does not.
async fn each_in_time(all: &[String], mut done: impl AsyncFnMut() -> Result<BTreeSet<String>>) -> Result<()> {
    const STANDSTILL: Duration = Duration::from_secs(330);
    const INTERVAL: Duration = Duration::from_millis(500);
    let (mut known, mut since) = (0, Instant::now());
    loop {
        let found = done().await?;
        let missing: Vec<&String> = all.iter().filter(|name| !found.contains(*name)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        if all.len() - missing.len() != known {
            (known, since) = (all.len() - missing.len(), Instant::now());
        }
        ensure!(since.elapsed() < STANDSTILL, "nothing has happened for {} s: {missing:?}", STANDSTILL.as_secs());
        tokio::time::sleep(INTERVAL).await;
    }
}
