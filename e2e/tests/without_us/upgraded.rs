//! An upgrade in the middle of a restore and of a backup: as if nothing had happened.

use anyhow::{Result, ensure};
use e2e::{CLAIM, JOB, Protected, SOURCE, STORAGE_CLASS, labelled};
use serde_json::json;

use crate::alone;

#[test]
fn restore_and_backup_go_on_with_the_movers_they_have() -> Result<()> {
    alone("upgraded", async |space| {
        let gate = space.unique("gate");
        let class = space.storage_class("gated", json!({"publishGate": gate})).await?;
        let protected = Protected::new(space).await?;
        let trees = protected.backed_up_trees(&["restored", "read"]).await?;
        protected.delete("restored").await?;
        space.create_object(&CLAIM, labelled("restored").class(&class).build()).await?;
        protected.restorer("restored", "Pending").await?;
        // The volume itself is read, which waits for the same gate.
        protected.delete("read").await?;
        space.create_object(&CLAIM, labelled("read").class(&class).build()).await?;
        protected.restorer("read", "Pending").await?;

        let uid = async |job: &str| Ok::<_, anyhow::Error>(space.get(&JOB, job).await?["metadata"]["uid"].clone());
        let before = uid("volsync-dst-restored-backup").await?;
        e2e::restart_operator(&space.cluster, &space.unique("restore")).await?;
        ensure!(uid("volsync-dst-restored-backup").await? == before, "the Job was made anew");
        space.cluster.open_gate(&gate)?;
        protected.hold_trees(&["restored", "read"], &trees).await?;

        protected.idle("read").await?;
        space.patch(&SOURCE, "read-backup", json!({"spec": {"trigger": {"manual": "upgraded"}}})).await?;
        space.until(&JOB, "volsync-src-read-backup", "is there", |job| Ok(!job.is_null())).await?;
        e2e::restart_operator(&space.cluster, &space.unique("backup")).await?;
        let synced = |source: &serde_json::Value| Ok(source["status"]["lastManualSync"] == "upgraded");
        let source = space.until(&SOURCE, "read-backup", "is backed up", synced).await?;
        ensure!(source["status"]["latestMoverStatus"]["result"] == "Successful", "{}", source["status"]);
        protected.verified_by_kopia("read")?;
        protected.remove().await?;
        space.delete_object(&STORAGE_CLASS, &class).await
    })
}
