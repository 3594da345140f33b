//! Which claims are backed up, how often, and what happens when that changes.

use anyhow::{Result, ensure};
use e2e::{CLAIM, Claim, Protected, SOURCE};
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
fn a_class_without_snapshots_is_read_directly() -> Result<()> {
    e2e::test("direct", async |space| {
        let protected = Protected::with(space, json!({}), json!({"copyMethod": "Direct"})).await?;
        space.create_object(&CLAIM, e2e::labelled("data").class("plain").build()).await?;
        space.bound("data").await?;
        protected.write("data", "echo mine >file").await?;
        protected.back_up("data", "one").await?;
        protected.delete("data").await?;
        space.create_object(&CLAIM, e2e::labelled("data").class("plain").build()).await?;
        space.bound("data").await?;
        ensure!(protected.read("data", "file").await? == "mine\n");
        protected.remove().await
    })
}
