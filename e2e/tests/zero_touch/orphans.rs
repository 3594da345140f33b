//! What tells that something of ours does not work although everybody says it does.

use anyhow::{Context, Result, ensure};
use e2e::{JOB, Space};
use serde_json::json;

/// The value of one series; none without it.
async fn value(space: &Space, series: &str) -> Result<Option<u64>> {
    let metrics = e2e::metrics(&space.cluster).await?;
    let line = metrics.lines().find_map(|line| line.strip_prefix(series));
    line.map(|value| value.trim().parse().with_context(|| format!("{series} {value}"))).transpose()
}

/// An object that looks like ours and has no owner is nobody's: it is counted, and left to a person.
#[test]
fn what_nobody_needs_any_more_is_counted() -> Result<()> {
    e2e::test("orphans", async |space| {
        let container = json!({"name": "main", "image": e2e::BUSYBOX, "command": ["true"]});
        let mut body = json!({
            "metadata": {"name": "left-over", "labels": {"app.kubernetes.io/created-by": "volsync"}},
            "spec": {"suspend": true, "template": {"spec": {"restartPolicy": "Never", "containers": [container]}}},
        });
        space.create_object(&JOB, body.clone()).await?;
        space
            .retry("the orphan is counted", async || {
                let count = value(space, "perennial_orphans{kind=\"Job\"}").await?;
                ensure!(count.is_some_and(|count| count >= 1), "{count:?}");
                Ok(())
            })
            .await?;
        space.delete_object(&JOB, "left-over").await?;
        body["metadata"] = json!({"name": "somebodys"});
        space.create_object(&JOB, body).await?;
        space
            .retry("none is left", async || {
                for kind in
                    ["Job", "PersistentVolumeClaim", "VolumeSnapshot", "ReplicationSource", "ReplicationDestination"]
                {
                    let count = value(space, &format!("perennial_orphans{{kind=\"{kind}\"}}")).await?;
                    ensure!(count == Some(0), "{kind}: {count:?}");
                }
                Ok(())
            })
            .await
    })
}

#[test]
fn each_loop_says_when_it_was_last_at_its_end() -> Result<()> {
    e2e::test("loops", async |space| {
        for name in ["claim", "source", "destination", "repository", "policy"] {
            let series = format!("perennial_loop_last_run_timestamp_seconds{{loop=\"{name}\"}}");
            let has_begun = async || value(space, &series).await?.context("each loop has a series");
            let before = space.retry("it has begun", has_begun).await?;
            space
                .retry("it goes round", async || {
                    let after = value(space, &series).await?;
                    ensure!(after.is_some_and(|after| after > before), "{name}: {before}, {after:?}");
                    Ok(())
                })
                .await?;
        }
        Ok(())
    })
}
