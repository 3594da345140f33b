use anyhow::{Result, ensure};
use e2e::{CLAIM, Claim, GRANT, POD, Pod, SNAPSHOT, Space, same_trees, snapshot};
use serde_json::json;

/// A claim `data` with a file that says `first`, and a pod `pod` that holds it.
async fn filled(space: &Space) -> Result<()> {
    space.create_object(&CLAIM, Claim::new("data").build()).await?;
    space.create_object(&POD, Pod::idle("pod").mount("data", "/data").build()).await?;
    space.ready("pod").await?;
    space.shell("pod", "echo first >/data/file && sync").await?;
    Ok(())
}

#[test]
fn snapshot_and_clone_keep_what_was_there() -> Result<()> {
    e2e::test("snapshot", async |space| {
        filled(space).await?;
        space.create_object(&SNAPSHOT, snapshot("data", "data", Some("dirs"))).await?;
        space.snapshot_ready("data").await?;
        space.create_object(&CLAIM, Claim::new("clone").from_claim("data").build()).await?;
        space.bound("clone").await?;
        space.shell("pod", "echo second >>/data/file").await?;
        space.create_object(&CLAIM, Claim::new("restored").from_snapshot("data").build()).await?;
        let read = Pod::shell("read", "grep -H . /data/file /restored/file /clone/file")
            .mount("data", "/data")
            .mount("restored", "/restored")
            .mount_read_only("clone", "/clone");
        space.create_object(&POD, read.build()).await?;
        let said = space.succeeded("read").await?;
        let expected = "/data/file:first\n/data/file:second\n/restored/file:first\n/clone/file:first\n";
        ensure!(said == expected, "{said}");
        Ok(())
    })
}

#[test]
fn copies_have_every_attribute() -> Result<()> {
    e2e::test("attributes", async |space| {
        space.create_object(&CLAIM, Claim::new("data").build()).await?;
        space.fill_tree("data").await?;
        let before = space.tree("data", ".").await?;
        for attribute in ["user.bytes=0x00ff0a", "system.posix_acl_default=0x", "security.capability=0x", "user.empty"]
        {
            ensure!(before.contains(attribute), "no {attribute}: {before}");
        }
        ensure!(before.contains("./a/one is ./a/b/same"), "{before}");
        space.create_object(&SNAPSHOT, snapshot("data", "data", None)).await?;
        space.create_object(&CLAIM, Claim::new("restored").from_snapshot("data").build()).await?;
        space.create_object(&CLAIM, Claim::new("clone").from_claim("data").build()).await?;
        for copy in ["restored", "clone"] {
            same_trees(&before, &space.tree(copy, ".").await?)?;
        }
        // The judge sees one changed bit of a list.
        let change = Pod::tools("change", "setfacl -m u:1000:r /data/a/one").mount("clone", "/data");
        space.create_object(&POD, change.build()).await?;
        space.succeeded("change").await?;
        let changed = same_trees(&before, &space.tree("clone", ".").await?);
        ensure!(changed.is_err_and(|error| error.to_string().matches("a/one").count() > 0), "nobody saw the change");
        Ok(())
    })
}

#[test]
fn a_snapshot_of_another_namespace_needs_a_grant() -> Result<()> {
    e2e::test("crossing", async |space| {
        filled(space).await?;
        space.create_object(&SNAPSHOT, snapshot("data", "data", None)).await?;
        space.snapshot_ready("data").await?;
        let other = Space::create(&space.cluster, "crossing", &[]).await?;
        let claim = Claim::new("crossing").from_snapshot_of(&space.name, "data");
        other.create_object(&CLAIM, claim.build()).await?;
        other.event("crossing", "isn't allowed").await?;
        ensure!(other.get(&CLAIM, "crossing").await?["status"]["phase"] == "Pending");
        let grant = json!({
            "metadata": {"name": "crossing"},
            "spec": {
                "from": [{"group": "", "kind": "PersistentVolumeClaim", "namespace": other.name}],
                "to": [{"group": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot"}],
            },
        });
        space.create_object(&GRANT, grant).await?;
        other.create_object(&POD, Pod::shell("read", "cat /data/file").mount("crossing", "/data").build()).await?;
        let said = other.succeeded("read").await?;
        ensure!(said == "first\n", "{said}");
        other.delete().await
    })
}
