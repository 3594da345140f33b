//! Which claims are backed up, how often, and what happens when that changes.

use anyhow::{Result, ensure};
use e2e::{CLAIM, Claim, Protected, SOURCE};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

#[test]
fn the_label_can_change_and_go() -> Result<()> {
    e2e::test("change", async |space| {
        let protected = Protected::new(space).await?;
        protected.claim("data").await?;
        protected.idle("data").await?;
        space.patch(&CLAIM, "data", json!({"metadata": {"labels": {"backup": "daily"}}})).await?;
        let daily = |source: &Value| Ok(source["spec"]["trigger"]["schedule"] == "0 2 * * *");
        space.until(&SOURCE, "data-backup", "runs daily", daily).await?;
        space.patch(&CLAIM, "data", json!({"metadata": {"labels": {"backup": null}}})).await?;
        space.until_gone(&SOURCE, "data-backup").await?;
        ensure!(space.get(&CLAIM, "data").await?["status"]["phase"] == "Bound");
        protected.remove().await
    })
}

#[test]
fn a_claim_that_is_there_already_is_backed_up_once_it_has_the_label() -> Result<()> {
    e2e::test("adopted", async |space| {
        let protected = Protected::new(space).await?;
        space.create_object(&CLAIM, Claim::new("data").build()).await?;
        space.bound("data").await?;
        protected.write("data", "echo mine >file").await?;
        space.patch(&CLAIM, "data", json!({"metadata": {"labels": {"backup": "hourly"}}})).await?;
        protected.decided("data", "kept").await?;
        protected.back_up("data", "one").await?;
        protected.delete("data").await?;
        protected.claim("data").await?;
        space.bound("data").await?;
        ensure!(protected.read("data", "file").await? == "mine\n");
        protected.remove().await
    })
}

#[test]
fn a_claim_that_came_up_empty_beside_its_backup_is_not_backed_up() -> Result<()> {
    e2e::test("gated", async |space| {
        let protected = Protected::new(space).await?;
        protected.claim("data").await?;
        space.bound("data").await?;
        protected.write("data", "echo mine >file").await?;
        protected.back_up("data", "one").await?;
        protected.delete("data").await?;
        // Made without the label, and so without the mark.
        space.create_object(&CLAIM, Claim::new("data").build()).await?;
        space.bound("data").await?;
        space.patch(&CLAIM, "data", json!({"metadata": {"labels": {"backup": "hourly"}}})).await?;
        let decision = protected.decided("data", "hold").await?;
        ensure!(decision["reason"] == "BoundWithoutDecision", "{decision}");
        ensure!(space.get(&SOURCE, "data-backup").await?.is_null());
        protected.remove().await
    })
}

#[test]
fn a_misspelt_label_waits_for_a_person() -> Result<()> {
    e2e::test("misspelt", async |space| {
        let protected = Protected::new(space).await?;
        space.create_object(&CLAIM, Claim::new("data").label("backup", "dialy").build()).await?;
        protected.held("data", "InvalidLabelOrAnnotation").await?;
        space.patch(&CLAIM, "data", json!({"metadata": {"labels": {"backup": "daily"}}})).await?;
        space.bound("data").await?;
        protected.decided("data", "fresh").await?;
        protected.remove().await
    })
}

#[test]
fn a_class_without_snapshots_is_read_directly_and_says_so() -> Result<()> {
    e2e::test("direct", async |space| {
        let protected = Protected::new(space).await?;
        let made = || e2e::labelled("data").class("plain").build();
        space.create_object(&CLAIM, made()).await?;
        space.bound("data").await?;
        protected.write("data", "echo mine >file").await?;
        let source = protected.back_up("data", "one").await?;
        ensure!(source["spec"]["kopia"]["copyMethod"] == "Snapshot", "the policy stays: {}", source["spec"]);
        let says_so = |source: &Value| {
            let message = source["status"]["conditions"][0]["message"].as_str().unwrap_or_default();
            Ok(message.contains(
                "read directly: the driver plain.csi.perennial.dev of class plain has no VolumeSnapshotClass",
            ))
        };
        space.until(&SOURCE, "data-backup", "says that it is read directly", says_so).await?;
        protected.delete("data").await?;
        space.create_object(&CLAIM, made()).await?;
        space.bound("data").await?;
        ensure!(protected.read("data", "file").await? == "mine\n");
        protected.remove().await
    })
}

#[test]
fn a_new_volume_that_was_empty_is_looked_at_again_soon() -> Result<()> {
    e2e::test("soon", async |space| {
        let protected = Protected::new(space).await?;
        space.create_object(&CLAIM, Claim::new("data").label("backup", "daily").build()).await?;
        let source = protected.idle("data").await?;
        let logs = &source["status"]["latestMoverStatus"]["logs"];
        ensure!(logs.as_str().is_some_and(|logs| logs.contains("empty")), "{}", source["status"]);
        let is_soon = |source: &Value| {
            let time = |member: &str| serde_json::from_value::<Time>(source["status"][member].clone()).ok();
            let (Some(last), Some(next)) = (time("lastSyncTime"), time("nextSyncTime")) else { return Ok(false) };
            Ok(next.0.duration_since(last.0).as_secs() <= 600)
        };
        space.until(&SOURCE, "data-backup", "is due soon", is_soon).await?;
        protected.remove().await
    })
}

#[test]
fn a_name_may_be_long_and_one_that_is_too_long_says_so() -> Result<()> {
    e2e::test("long", async |space| {
        let protected = Protected::new(space).await?;
        let (long, too_long) = ("n".repeat(104), "n".repeat(253));
        protected.claim(&too_long).await?;
        protected.claim(&long).await?;
        let decision = protected.held(&too_long, "InvalidLabelOrAnnotation").await?;
        ensure!(decision["detail"].as_str().is_some_and(|detail| detail.contains("253 characters")), "{decision}");
        space.bound(&long).await?;
        protected.write(&long, "echo mine >file").await?;
        protected.back_up(&long, "one").await?;
        protected.delete(&long).await?;
        protected.claim(&long).await?;
        space.bound(&long).await?;
        ensure!(protected.write(&long, "cat file").await? == "mine\n");
        protected.verified_by_kopia(&long)?;
        protected.remove().await
    })
}
