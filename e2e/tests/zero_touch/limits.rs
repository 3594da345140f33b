//! How many movers run at a time.

use anyhow::{Context, Result, ensure};
use e2e::{JOB, Protected, Space};
use futures::future::{try_join, try_join_all};
use jiff::Timestamp;
use serde_json::{Value, json};

#[test]
fn a_slot_is_free_again_when_its_mover_has_gone() -> Result<()> {
    e2e::test("limits", async |space| {
        let one = json!({"limits": {"movers": 1, "perClass": 1, "perNode": 1}});
        let protected = Protected::with(space, one, json!({})).await?;
        for name in ["first", "second", "third"] {
            protected.claim(name).await?;
            space.bound(name).await?;
            protected.idle(name).await?;
        }
        protected.remove().await
    })
}

/// When a claim's backup began and ended, as its Job says.
async fn ran(space: &Space, claim: &str) -> Result<(Timestamp, Timestamp)> {
    let job = format!("volsync-src-{claim}-backup");
    let has_ended = |job: &Value| Ok(job["status"]["completionTime"].is_string());
    let job = space.until(&JOB, &job, "has ended", has_ended).await?;
    let time = |member: &str| job["status"][member].as_str().context("a time")?.parse().context("read a time");
    Ok((time("startTime")?, time("completionTime")?))
}

#[test]
fn a_node_has_no_more_movers_than_it_may() -> Result<()> {
    e2e::test("pernode", async |space| {
        let one = json!({"limits": {"movers": 8, "perClass": 8, "perNode": 1}});
        let protected = Protected::with(space, one, json!({})).await?;
        let names = ["first", "second", "third"];
        for name in names {
            protected.claim(name).await?;
            space.bound(name).await?;
            protected.write(name, "echo mine >file").await?;
            protected.idle(name).await?;
        }
        let runs = try_join_all(names.map(|name| ran(space, name)));
        let (mut runs, _) = try_join(runs, try_join_all(names.map(|name| protected.back_up(name, "one")))).await?;
        runs.sort_unstable();
        for pair in runs.windows(2) {
            ensure!(pair[0].1 <= pair[1].0, "two at a time: {runs:?}");
        }
        protected.remove().await
    })
}
