//! Repositories in a volume that the installation and every namespace mount.

use anyhow::{Result, ensure};
use e2e::{CLAIM, POD, Pod, Protected, Space, VOLUME};
use serde_json::json;

/// A claim of this name for a directory of the node, in a namespace.
async fn share(space: &Space, name: &str, directory: &str) -> Result<()> {
    let volume = format!("{}-{name}", space.name);
    let size = json!({"storage": "100Mi"});
    let spec = json!({
        "accessModes": ["ReadWriteMany"], "capacity": size, "storageClassName": "",
        "persistentVolumeReclaimPolicy": "Retain",
        "hostPath": {"path": directory, "type": "DirectoryOrCreate"},
        "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": space.name, "name": name},
    });
    space.create_object(&VOLUME, json!({"metadata": {"name": volume}, "spec": spec})).await?;
    let spec = json!({
        "accessModes": ["ReadWriteMany"], "resources": {"requests": size}, "storageClassName": "", "volumeName": volume,
    });
    space.create_object(&CLAIM, json!({"metadata": {"name": name}, "spec": spec})).await?;
    space.bound(name).await.map(drop)
}

async fn unshare(space: &Space, name: &str) -> Result<()> {
    space.delete_object(&CLAIM, name).await?;
    space.delete_object(&VOLUME, &format!("{}-{name}", space.name)).await
}

#[test]
fn a_repository_in_a_shared_volume() -> Result<()> {
    e2e::test("volume", async |space| {
        let name = space.unique("store");
        let repository = json!({
            "store": {"claim": {"name": name}, "s3": null},
            "declaredNew": "2026-01-01T00:00:00Z",
        });
        let protected = Protected::with(space, repository, json!({})).await?;
        let directory = format!("/var/lib/{name}");
        share(space, &name, &directory).await?;
        share(&protected.system, &name, &directory).await?;
        let open = Pod::shell("open", "chmod 777 /store").mount(&name, "/store").build();
        space.create_object(&POD, open).await?;
        space.succeeded("open").await?;

        protected.claim("data").await?;
        space.bound("data").await?;
        protected.decided("data", "fresh").await?;
        protected.write("data", "echo mine >file").await?;
        protected.back_up("data", "one").await?;
        protected.delete("data").await?;
        protected.claim("data").await?;
        protected.decided("data", "restore").await?;
        space.bound("data").await?;
        ensure!(protected.read("data", "file").await? == "mine\n");
        protected.remove().await?;
        unshare(&protected.system, &name).await?;
        unshare(space, &name).await
    })
}
