use anyhow::{Result, ensure};
use e2e::{CLAIM, Claim, JOB, POD, Pod, VOLUME};
use serde_json::json;

#[test]
fn a_claim_keeps_what_an_ordinary_user_writes() -> Result<()> {
    e2e::test("claim", async |space| {
        space.create_object(&CLAIM, Claim::new("data").build()).await?;
        let script = "id; echo first >/data/file && sync && stat -c %g:%a /data/file";
        let write = Pod::shell("write", script).user(1000, 1000, 2000).mount("data", "/data");
        space.create_object(&JOB, write.job()).await?;
        space.complete("write").await?;
        let read = Pod::shell("read", "cat /data/file; ! touch /data/x 2>&1").mount_read_only("data", "/data");
        space.create_object(&POD, read.build()).await?;
        let said = space.succeeded("read").await?;
        ensure!(said.contains("first") && said.contains("Read-only"), "{said}");
        Ok(())
    })
}

#[test]
fn logs_of_a_job_are_readable() -> Result<()> {
    e2e::test("logs", async |space| {
        space.create_object(&POD, Pod::shell("id", "id").user(1000, 1000, 2000).build()).await?;
        let said = space.succeeded("id").await?;
        ensure!(said.contains("uid=1000") && said.contains("groups=1000,2000"), "{said}");
        Ok(())
    })
}

#[test]
fn a_claim_of_a_late_class_waits_for_its_first_pod() -> Result<()> {
    e2e::test("late", async |space| {
        space.create_object(&CLAIM, Claim::new("late").class("dirs-late").build()).await?;
        space.event("late", "waiting for first consumer").await?;
        ensure!(space.get(&CLAIM, "late").await?["status"]["phase"] == "Pending");
        space.create_object(&POD, Pod::shell("touch", "touch /data/file").mount("late", "/data").build()).await?;
        space.succeeded("touch").await?;
        space.bound("late").await?;
        Ok(())
    })
}

#[test]
fn a_claim_can_grow() -> Result<()> {
    e2e::test("grow", async |space| {
        space.create_object(&CLAIM, Claim::new("data").build()).await?;
        space.bound("data").await?;
        space.patch(&CLAIM, "data", json!({"spec": {"resources": {"requests": {"storage": "200Mi"}}}})).await?;
        let grown = |claim: &serde_json::Value| Ok(claim["status"]["capacity"]["storage"] == "200Mi");
        space.until(&CLAIM, "data", "has grown", grown).await?;
        Ok(())
    })
}

#[test]
fn a_deleted_claim_takes_its_volume_along() -> Result<()> {
    e2e::test("gone", async |space| {
        space.create_object(&CLAIM, Claim::new("data").build()).await?;
        let claim = space.bound("data").await?;
        let volume = claim["spec"]["volumeName"].as_str().unwrap_or_default().to_owned();
        space.delete_object(&CLAIM, "data").await?;
        space.until_gone(&CLAIM, "data").await?;
        space.until_gone(&VOLUME, &volume).await
    })
}
