//! As whom movers run: as the app whose files they read and write.

use anyhow::{Result, ensure};
use e2e::{CONFIG_MAP, POD, Pod, Protected};
use serde_json::{Value, json};

#[test]
fn an_app_reads_its_own_files_again() -> Result<()> {
    e2e::test("ids", async |space| {
        let protected = Protected::new(space).await?;
        protected.claim("data").await?;
        space.bound("data").await?;
        let app = || Pod::idle("app").user(1234, 1234, 1234).mount("data", "/data").build();
        space.create_object(&POD, app()).await?;
        space.ready("app").await?;
        let write = "umask 077; cd /data; mkdir deep; echo mine >file; echo deep >deep/file";
        space.shell("app", write).await?;
        // All of it, by the ids of the pod that uses the claim; nobody else could read it.
        protected.back_up("data", "one").await?;
        let ids = |map: &Value| {
            let records: Value = serde_json::from_str(map["data"][&space.name].as_str().unwrap_or("null"))?;
            Ok(records[format!("{}/data", space.name)]["ids"] == json!({"uid": 1234, "gid": 1234, "fsGroup": 1234}))
        };
        protected.system.until(&CONFIG_MAP, "perennial-ledger", "knows as whom", ids).await?;
        space.delete_object(&POD, "app").await?;
        space.until_gone(&POD, "app").await?;
        protected.delete("data").await?;

        // At the restore there is no pod to be asked.
        protected.claim("data").await?;
        let decision = protected.decided("data", "restore").await?;
        ensure!(decision["snapshot"]["owner"] == json!({"uid": 1234, "gid": 1234}), "{decision}");
        space.bound("data").await?;
        space.create_object(&POD, app()).await?;
        space.ready("app").await?;
        // Modes are not asked for: the kubelet widens them for the pod's own fsGroup whenever it mounts the volume.
        let read = "cd /data; cat file deep/file; stat -c '%u:%g' file deep/file deep";
        let said = space.shell("app", read).await?;
        ensure!(said == "mine\ndeep\n1234:1234\n1234:1234\n1234:1234\n", "{said}");
        protected.remove().await
    })
}

#[test]
fn what_a_policy_sets_counts_before_all() -> Result<()> {
    e2e::test("set", async |space| {
        let protected = Protected::with(space, json!({}), json!({"mover": {"uid": 4000, "gid": 4000}})).await?;
        protected.claim("data").await?;
        space.bound("data").await?;
        let app = Pod::idle("app").user(1234, 1234, 1234).mount("data", "/data").build();
        space.create_object(&POD, app).await?;
        space.ready("app").await?;
        space.shell("app", "echo mine >/data/file").await?;
        let source = protected.back_up("data", "one").await?;
        let context = &source["spec"]["kopia"]["moverSecurityContext"];
        ensure!(*context == json!({"runAsUser": 4000, "runAsGroup": 4000, "fsGroup": 4000}), "{context}");
        protected.remove().await
    })
}
