//! Bad hours of storage, which the CSI test driver has on demand. A foreign cluster has another driver, so these are not
//! run there.

use anyhow::{Result, ensure};
use e2e::{CLAIM, Claim, POD, Pod, SNAPSHOT, SNAPSHOT_CLASS, STORAGE_CLASS, Space, same_trees, snapshot};
use serde_json::{Value, json};

const DRIVER: &str = "dirs.csi.perennial.dev";

/// A storage class of the test's own.
async fn class(space: &Space, parameters: Value) -> Result<String> {
    let name = space.unique("class");
    let body = json!({"metadata": {"name": name}, "provisioner": DRIVER, "parameters": parameters});
    space.create_object(&STORAGE_CLASS, body).await?;
    Ok(name)
}

/// A snapshot class of the test's own.
async fn snapshot_class(space: &Space, parameters: Value) -> Result<String> {
    let name = space.unique("class");
    let body =
        json!({"metadata": {"name": name}, "driver": DRIVER, "deletionPolicy": "Delete", "parameters": parameters});
    space.create_object(&SNAPSHOT_CLASS, body).await?;
    Ok(name)
}

#[test]
fn a_volume_waits_for_its_gate() -> Result<()> {
    e2e::test("slow", async |space| {
        let gate = space.unique("gate");
        let class = class(space, json!({"createGate": gate})).await?;
        space.create_object(&CLAIM, Claim::new("data").class(&class).build()).await?;
        space.event("data", &format!("gate {gate} is closed")).await?;
        space.cluster.open_gate(&gate)?;
        space.bound("data").await?;
        space.delete_object(&STORAGE_CLASS, &class).await
    })
}

#[test]
fn a_volume_that_is_never_made_says_why() -> Result<()> {
    e2e::test("refused", async |space| {
        let class = class(space, json!({"createError": "the pool is on fire"})).await?;
        space.create_object(&CLAIM, Claim::new("data").class(&class).build()).await?;
        space.event("data", "the pool is on fire").await?;
        ensure!(space.get(&CLAIM, "data").await?["status"]["phase"] == "Pending");
        space.delete_object(&STORAGE_CLASS, &class).await
    })
}

#[test]
fn a_full_volume_has_no_room_until_it_grows() -> Result<()> {
    e2e::test("full", async |space| {
        let name = space.unique("class");
        let body = json!({
            "metadata": {"name": name}, "provisioner": DRIVER, "allowVolumeExpansion": true,
            "parameters": {"backing": "memory"},
        });
        space.create_object(&STORAGE_CLASS, body).await?;
        space.create_object(&CLAIM, Claim::new("data").class(&name).size("1Mi").build()).await?;
        space.create_object(&POD, Pod::idle("pod").mount("data", "/data").build()).await?;
        space.ready("pod").await?;
        let fill = ["sh", "-c", "dd if=/dev/zero of=/data/file bs=1M count=3"];
        let full = space.exec("pod", &fill).await?;
        ensure!(!full.success && full.stderr.contains("No space left on device"), "{full:?}");
        space.patch(&CLAIM, "data", json!({"spec": {"resources": {"requests": {"storage": "4Mi"}}}})).await?;
        space.until(&CLAIM, "data", "has grown", |claim| Ok(claim["status"]["capacity"]["storage"] == "4Mi")).await?;
        ensure!(space.exec("pod", &fill).await?.success);
        space.delete_object(&STORAGE_CLASS, &name).await
    })
}

#[test]
fn a_volume_in_memory_has_every_attribute() -> Result<()> {
    e2e::test("memory", async |space| {
        let class = class(space, json!({"backing": "memory"})).await?;
        space.create_object(&CLAIM, Claim::new("data").build()).await?;
        space.fill_tree("data").await?;
        space.create_object(&CLAIM, Claim::new("copy").class(&class).from_claim("data").build()).await?;
        same_trees(&space.tree("data", ".").await?, &space.tree("copy", ".").await?)?;
        space.delete_object(&STORAGE_CLASS, &class).await
    })
}

#[test]
fn a_read_only_volume_cannot_be_written() -> Result<()> {
    e2e::test("readonly", async |space| {
        let class = class(space, json!({"readOnly": "true"})).await?;
        space.create_object(&CLAIM, Claim::new("data").class(&class).build()).await?;
        space.create_object(&POD, Pod::shell("pod", "! touch /data/x 2>&1").mount("data", "/data").build()).await?;
        let said = space.succeeded("pod").await?;
        ensure!(said.contains("Read-only"), "{said}");
        space.delete_object(&STORAGE_CLASS, &class).await
    })
}

#[test]
fn a_snapshot_is_late_or_never_taken() -> Result<()> {
    e2e::test("lateshot", async |space| {
        space.create_object(&CLAIM, Claim::new("data").build()).await?;
        space.bound("data").await?;
        let gate = space.unique("gate");
        let class = snapshot_class(space, json!({"snapshotGate": gate})).await?;
        space.create_object(&SNAPSHOT, snapshot("late", "data", Some(&class))).await?;
        let taken = |snapshot: &Value| Ok(snapshot["status"]["readyToUse"] == false);
        space.until(&SNAPSHOT, "late", "is taken and not ready", taken).await?;
        space.cluster.open_gate(&gate)?;
        space.snapshot_ready("late").await?;
        space.delete_object(&SNAPSHOT, "late").await?;
        space.until_gone(&SNAPSHOT, "late").await?;
        space.delete_object(&SNAPSHOT_CLASS, &class).await?;
        space.until_gone(&SNAPSHOT_CLASS, &class).await?;

        let class = snapshot_class(space, json!({"snapshotError": "no room for copies"})).await?;
        space.create_object(&SNAPSHOT, snapshot("never", "data", Some(&class))).await?;
        let refused = |snapshot: &Value| {
            let message = snapshot["status"]["error"]["message"].as_str().unwrap_or_default();
            Ok(message.contains("no room for copies"))
        };
        space.until(&SNAPSHOT, "never", "is refused", refused).await?;
        space.delete_object(&SNAPSHOT_CLASS, &class).await
    })
}

#[test]
fn a_storage_system_without_snapshots_refuses_clones() -> Result<()> {
    e2e::test("plain", async |space| {
        space.create_object(&CLAIM, Claim::new("data").class("plain").build()).await?;
        space.bound("data").await?;
        space.create_object(&CLAIM, Claim::new("clone").class("plain").from_claim("data").build()).await?;
        space.event("clone", "clone").await?;
        ensure!(space.get(&CLAIM, "clone").await?["status"]["phase"] == "Pending");
        Ok(())
    })
}

#[test]
fn deleting_claims_and_snapshots_removes_their_data() -> Result<()> {
    e2e::test("removed", async |space| {
        let claim = {
            space.create_object(&CLAIM, Claim::new("data").build()).await?;
            space.bound("data").await?
        };
        space.create_object(&SNAPSHOT, snapshot("data", "data", None)).await?;
        space.snapshot_ready("data").await?;
        let volume = claim["spec"]["volumeName"].as_str().unwrap_or_default();
        let directory = space.cluster.driver()?.join("volumes").join(volume);
        ensure!(directory.is_dir(), "{} is not there", directory.display());
        space.delete_object(&SNAPSHOT, "data").await?;
        space.until_gone(&SNAPSHOT, "data").await?;
        space.delete_object(&CLAIM, "data").await?;
        let gone = async || if directory.exists() { anyhow::bail!("still there") } else { Ok(()) };
        space.retry("the data is removed", gone).await
    })
}
