//! Everything of ours is gone: who does not need us goes on, protected claims wait, and nothing is decided in the meantime.

use anyhow::{Result, ensure};
use e2e::{CLAIM, Claim, LEASE, POD, Pod, Protected, SOURCE, STORAGE_CLASS, labelled, leaks};
use serde_json::json;

use crate::{OPERATORS, alone};

#[test]
fn claims_wait_for_us_and_all_others_go_on() -> Result<()> {
    alone("dead", async |space| {
        let protected = Protected::new(space).await?;
        let trees = protected.backed_up_trees(&["old", "bound"]).await?;
        protected.delete("old").await?;
        space.create_object(&CLAIM, Claim::new("held").label("backup", "dialy").build()).await?;
        protected.held("held", "InvalidLabelOrAnnotation").await?;

        e2e::scale_operator(&space.cluster, 0).await?;
        protected.scale_catalog(0).await?;
        // Others: made, used, grown, deleted.
        space.create_object(&CLAIM, Claim::new("plain").build()).await?;
        space.bound("plain").await?;
        space.create_object(&POD, Pod::shell("user", "echo x >/data/file").mount("plain", "/data").build()).await?;
        space.succeeded("user").await?;
        space.delete_object(&POD, "user").await?;
        space.patch(&CLAIM, "plain", json!({"spec": {"resources": {"requests": {"storage": "200Mi"}}}})).await?;
        let has_grown = |claim: &serde_json::Value| Ok(claim["spec"]["resources"]["requests"]["storage"] == "200Mi");
        space.until(&CLAIM, "plain", "grows", has_grown).await?;
        space.delete_object(&CLAIM, "plain").await?;
        space.until_gone(&CLAIM, "plain").await?;
        // Ours: made and kept waiting; deleted, bound or not, with all that belongs to them.
        protected.claim("new").await?;
        protected.claim("old").await?;
        for claim in ["bound", "held"] {
            protected.delete(claim).await?;
        }
        leaks::nothing_left_over(space).await?;
        for claim in ["new", "old"] {
            let found = space.get(&CLAIM, claim).await?;
            ensure!(found["status"]["phase"] == "Pending" && found["spec"]["volumeName"].is_null(), "{found:#}");
            ensure!(found["spec"]["dataSourceRef"]["name"] == format!("{claim}-backup"), "{found:#}");
        }

        e2e::scale_operator(&space.cluster, OPERATORS).await?;
        protected.scale_catalog(1).await?;
        protected.decided("new", "fresh").await?;
        space.bound("new").await?;
        protected.decided("old", "restore").await?;
        protected.claim("bound").await?;
        protected.hold_trees(&["old", "bound"], &trees).await?;
        protected.verified_by_kopia("old")?;
        protected.remove().await
    })
}

#[test]
fn what_happens_to_claims_meanwhile_is_seen_afterwards() -> Result<()> {
    alone("meanwhile", async |space| {
        let gate = space.unique("gate");
        let class = space.storage_class("gated", json!({"publishGate": gate})).await?;
        // Copies that are read wait for the gate, and so do the movers that read them.
        let protected = Protected::with(space, json!({}), json!({"storageClassName": class})).await?;
        let elevated = json!({"metadata": {"annotations": {"volsync.backube/privileged-movers": "true"}}});
        space.patch(&e2e::NAMESPACE, &space.name, elevated).await?;
        for claim in ["read", "relabelled", "unlabelled"] {
            protected.claim(claim).await?;
            space.bound(claim).await?;
        }
        space.fill_tree("read").await?;
        let tree = space.tree("read", ".").await?;
        protected.backuper("read", "Pending").await?;
        let job = "volsync-src-read-backup";

        e2e::scale_operator(&space.cluster, 0).await?;
        space.cluster.open_gate(&gate)?;
        space.complete(job).await?;
        space.patch(&CLAIM, "relabelled", json!({"metadata": {"labels": {"backup": "daily"}}})).await?;
        space.patch(&CLAIM, "unlabelled", json!({"metadata": {"labels": {"backup": null}}})).await?;
        space.create_object(&CLAIM, Claim::new("late").build()).await?;
        space.bound("late").await?;
        space.patch(&CLAIM, "late", json!({"metadata": {"labels": {"backup": "daily"}}})).await?;

        e2e::scale_operator(&space.cluster, OPERATORS).await?;
        let source = protected.idle("read").await?;
        ensure!(source["status"]["latestMoverStatus"]["result"] == "Successful", "{}", source["status"]);
        let daily = |source: &serde_json::Value| Ok(source["spec"]["trigger"]["schedule"] == "0 2 * * *");
        space.until(&SOURCE, "relabelled-backup", "runs daily", daily).await?;
        space.until_gone(&SOURCE, "unlabelled-backup").await?;
        protected.decided("late", "kept").await?;
        // The backup that ended while nobody looked may have been of nothing: what counts is one of now.
        protected.back_up("read", "now").await?;
        protected.delete("read").await?;
        space.create_object(&CLAIM, labelled("read").build()).await?;
        protected.hold_trees(&["read"], &[tree]).await?;
        protected.remove().await?;
        space.delete_object(&STORAGE_CLASS, &class).await
    })
}

#[test]
fn another_controller_of_the_same_kinds_is_left_alone() -> Result<()> {
    alone("foreign", async |space| {
        let protected = Protected::new(space).await?;
        let trees = protected.backed_up_trees(&["data"]).await?;
        protected.delete("data").await?;
        e2e::scale_operator(&space.cluster, 0).await?;
        // As VolSync's own controller holds it.
        let system = e2e::system(&space.cluster);
        let held = json!({"spec": {"holderIdentity": "volsync-0", "leaseDurationSeconds": 3600}});
        system.patch(&LEASE, "b95b3104.backube", held).await?;
        let undecided = stays_undecided(&protected).await;
        // It goes, and we begin.
        system.delete_object(&LEASE, "b95b3104.backube").await?;
        undecided?;
        protected.hold_trees(&["data"], &trees).await?;
        protected.remove().await
    })
}

/// We stand by.
async fn stays_undecided(protected: &Protected<'_>) -> Result<()> {
    let space = protected.space;
    e2e::scale_operator(&space.cluster, OPERATORS).await?;
    protected.claim("data").await?;
    space.create_object(&CLAIM, Claim::new("plain").build()).await?;
    space.bound("plain").await?;
    let claim = space.get(&CLAIM, "data").await?;
    ensure!(claim["metadata"]["annotations"]["perennial.dev/decision"].is_null(), "{claim:#}");
    ensure!(space.get(&SOURCE, "data-backup").await?.is_null());
    Ok(())
}
