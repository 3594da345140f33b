//! Movers are killed: what they did is done again, and ends with all of the data.

use anyhow::{Context, Result, ensure};
use e2e::{CLAIM, Protected, SOURCE, STORAGE_CLASS, labelled};
use serde_json::json;

/// So often one that runs is killed, at whatever it does then.
const KILLS: usize = 3;

/// Kills movers as soon as they run, each where it is just then, until enough were killed or all is done. Answers how many.
async fn kill_running(protected: &Protected<'_>, is_done: impl AsyncFn() -> Result<bool>) -> Result<usize> {
    let mut killed: Vec<String> = Vec::new();
    while killed.len() < KILLS {
        let next = protected.space.retry("a mover runs, or all is done", async || {
            if is_done().await? {
                return Ok(None);
            }
            let running = protected.running_movers().await?;
            running.into_iter().find(|pod| !killed.contains(pod)).map(Some).context("no mover runs")
        });
        let Some(pod) = next.await? else { break };
        protected.space.kill(&pod).await?;
        killed.push(pod);
    }
    Ok(killed.len())
}

#[test]
fn a_restore_whose_movers_are_killed_ends_with_all_of_the_data() -> Result<()> {
    e2e::test("restorers", async |space| {
        let gate = space.unique("gate");
        let class = space.storage_class("gated", json!({"publishGate": gate})).await?;
        let protected = Protected::new(space).await?;
        protected.backed_up_trees(&["data"]).await?;
        protected.write("data", "dd if=/dev/urandom of=large bs=1000000 count=40 2>/dev/null").await?;
        let tree = space.tree("data", ".").await?;
        protected.back_up("data", "two").await?;
        protected.delete("data").await?;
        space.create_object(&CLAIM, labelled("data").class(&class).build()).await?;
        // Before it has begun.
        let waiting = protected.restorer("data", "Pending").await?;
        space.kill(&waiting).await?;
        space.event("data", "without a word").await?;
        ensure!(space.get(&CLAIM, "data").await?["status"]["phase"] == "Pending");
        // While it runs.
        space.cluster.open_gate(&gate)?;
        let is_bound = async || anyhow::Ok(space.get(&CLAIM, "data").await?["status"]["phase"] == "Bound");
        let count = kill_running(&protected, is_bound).await?;
        e2e::say(&format!("{count} movers of a restore were killed while they ran"));
        protected.hold_trees(&["data"], &[tree]).await?;
        protected.remove().await?;
        space.delete_object(&STORAGE_CLASS, &class).await
    })
}

#[test]
fn a_backup_whose_movers_are_killed_is_taken_in_the_end() -> Result<()> {
    e2e::test("backupers", async |space| {
        let gate = space.unique("gate");
        let class = space.storage_class("gated", json!({"publishGate": gate})).await?;
        let protected = Protected::with(space, json!({}), json!({"storageClassName": class})).await?;
        let elevated = json!({"metadata": {"annotations": {"volsync.backube/privileged-movers": "true"}}});
        space.patch(&e2e::NAMESPACE, &space.name, elevated).await?;
        protected.claim("data").await?;
        space.bound("data").await?;
        space.fill_tree("data").await?;
        let tree = space.tree("data", ".").await?;
        let waiting = protected.backuper("data", "Pending").await?;
        space.kill(&waiting).await?;
        let has_failed = |source: &serde_json::Value| Ok(source["status"]["latestMoverStatus"]["result"] == "Failed");
        let source = space.until(&SOURCE, "data-backup", "has failed", has_failed).await?;
        ensure!(source["status"]["lastSyncTime"].is_null(), "{}", source["status"]);
        space.cluster.open_gate(&gate)?;
        let is_done =
            async || anyhow::Ok(space.get(&SOURCE, "data-backup").await?["status"]["lastSyncTime"].is_string());
        let count = kill_running(&protected, is_done).await?;
        e2e::say(&format!("{count} movers of a backup were killed while they ran"));
        protected.back_up("data", "now").await?;
        protected.verified_by_kopia("data")?;
        protected.delete("data").await?;
        protected.claim("data").await?;
        protected.hold_trees(&["data"], &[tree]).await?;
        protected.remove().await?;
        space.delete_object(&STORAGE_CLASS, &class).await
    })
}
