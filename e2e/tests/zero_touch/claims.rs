//! A labelled claim's life: fresh, backed up, deleted, back with its data.

use anyhow::{Result, ensure};
use e2e::{CLAIM, Claim, POD, Pod, Protected, SECRET, SOURCE, STATEFUL_SET, labelled};
use serde_json::{Value, json};

#[test]
fn a_label_is_all_it_takes_to_come_back() -> Result<()> {
    e2e::test("label", async |space| {
        let protected = Protected::new(space).await?;
        protected.claim("data").await?;
        space.bound("data").await?;
        let decision = protected.decided("data", "fresh").await?;
        ensure!(decision["proof"] == "neverInitialised", "{decision}");
        protected.write("data", "echo mine >bookmarks; mkdir deep; echo x >deep/file").await?;
        protected.back_up("data", "one").await?;
        protected.cleared_up("data").await?;

        // Removed and added again.
        protected.delete("data").await?;
        protected.claim("data").await?;
        let decision = protected.decided("data", "restore").await?;
        ensure!(decision["snapshot"]["files"] == 2, "{decision}");
        space.bound("data").await?;
        ensure!(protected.read("data", "bookmarks").await? == "mine\n");
        ensure!(protected.read("data", "deep/file").await? == "x\n");

        // What comes back is the newest.
        protected.write("data", "echo newer >bookmarks").await?;
        protected.back_up("data", "two").await?;
        protected.delete("data").await?;
        protected.claim("data").await?;
        space.bound("data").await?;
        ensure!(protected.read("data", "bookmarks").await? == "newer\n");
        protected.cleared_up("data").await?;
        let volume = space.get(&CLAIM, "data").await?["spec"]["volumeName"].as_str().unwrap_or_default().to_owned();
        let volume = space.get(&e2e::VOLUME, &volume).await?;
        ensure!(volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete", "{}", volume["spec"]);
        protected.remove().await
    })
}

#[test]
fn the_generated_objects_are_the_contract() -> Result<()> {
    e2e::test("contract", async |space| {
        let protected = Protected::new(space).await?;
        protected.claim("data").await?;
        space.bound("data").await?;
        let secret = space.get(&SECRET, "volsync-data").await?;
        let keys: Vec<&String> = secret["data"].as_object().into_iter().flatten().map(|(key, _)| key).collect();
        let seven = [
            "KOPIA_PASSWORD",
            "KOPIA_S3_ACCESS_KEY_ID",
            "KOPIA_S3_BUCKET",
            "KOPIA_S3_DISABLE_TLS",
            "KOPIA_S3_ENDPOINT",
            "KOPIA_S3_PREFIX",
            "KOPIA_S3_SECRET_ACCESS_KEY",
        ];
        ensure!(keys == seven, "{keys:?}");
        let source = protected.idle("data").await?;
        let kopia = &source["spec"]["kopia"];
        ensure!(source["spec"]["trigger"]["schedule"] == "0 * * * *", "{}", source["spec"]);
        ensure!(source["metadata"]["labels"]["volsync.backup/pvc"] == "data", "{}", source["metadata"]);
        ensure!(kopia["copyMethod"] == "Snapshot" && kopia["compression"] == "zstd-fastest", "{kopia}");
        ensure!(kopia["retain"] == json!({"hourly": 24, "daily": 7, "weekly": 4, "monthly": 2}), "{kopia}");
        let claim = space.get(&CLAIM, "data").await?;
        let reference = &claim["spec"]["dataSourceRef"];
        let wanted = json!({"apiGroup": "volsync.backube", "kind": "ReplicationDestination", "name": "data-backup"});
        ensure!(*reference == wanted, "{reference}");
        protected.remove().await
    })
}

#[test]
fn claims_without_the_label_are_not_touched() -> Result<()> {
    e2e::test("others", async |space| {
        let protected = Protected::new(space).await?;
        space.create_object(&CLAIM, Claim::new("plain").build()).await?;
        space.create_object(&CLAIM, Claim::new("no").label("backup", "false").build()).await?;
        space
            .create_object(&CLAIM, Claim::new("exempt").label("backup", "daily").label("backup-exempt", "true").build())
            .await?;
        for name in ["plain", "no", "exempt"] {
            let claim = space.bound(name).await?;
            ensure!(claim["spec"]["dataSourceRef"].is_null(), "{}", claim["spec"]);
            ensure!(claim["metadata"]["annotations"]["perennial.dev/decision"].is_null(), "{}", claim["metadata"]);
            ensure!(space.get(&SOURCE, &format!("{name}-backup")).await?.is_null());
        }
        protected.remove().await
    })
}

#[test]
fn a_claim_of_a_late_class_is_filled_where_its_pod_runs() -> Result<()> {
    e2e::test("late", async |space| {
        let protected = Protected::new(space).await?;
        let late = || e2e::labelled("data").class("dirs-late").build();
        space.create_object(&CLAIM, late()).await?;
        // Decided although nobody uses it yet.
        protected.decided("data", "fresh").await?;
        ensure!(space.get(&CLAIM, "data").await?["status"]["phase"] == "Pending");
        protected.write("data", "echo mine >file").await?;
        protected.back_up("data", "one").await?;
        protected.delete("data").await?;
        space.create_object(&CLAIM, late()).await?;
        protected.decided("data", "restore").await?;
        ensure!(protected.read("data", "file").await? == "mine\n");
        protected.remove().await
    })
}

#[test]
fn a_stateful_sets_claim_comes_back_under_it() -> Result<()> {
    e2e::test("stateful", async |space| {
        let protected = Protected::new(space).await?;
        let pod =
            Pod::shell("pod", "cd /data; [ -e file ] || date >file; tail -f /dev/null").user(568, 568, 568).build();
        let mut spec = pod["spec"].clone();
        spec["restartPolicy"] = "Always".into();
        spec["containers"][0]["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
        let claim = e2e::labelled("data").build();
        let set = json!({
            "metadata": {"name": "app"},
            "spec": {
                "serviceName": "app", "replicas": 1, "selector": {"matchLabels": {"app": "app"}},
                "template": {"metadata": {"labels": {"app": "app"}}, "spec": spec},
                "volumeClaimTemplates": [claim],
            },
        });
        space.create_object(&STATEFUL_SET, set).await?;
        space.ready("app-0").await?;
        let written = space.shell("app-0", "cat /data/file").await?;
        protected.back_up("data-app-0", "one").await?;
        // The set makes the claim again at once, blank, as it thinks.
        let uid = space.get(&CLAIM, "data-app-0").await?["metadata"]["uid"].clone();
        space.delete_object(&CLAIM, "data-app-0").await?;
        space.delete_object(&POD, "app-0").await?;
        let is_new = |claim: &Value| Ok(!claim.is_null() && claim["metadata"]["uid"] != uid);
        space.until(&CLAIM, "data-app-0", "is made again", is_new).await?;
        protected.decided("data-app-0", "restore").await?;
        space.ready("app-0").await?;
        ensure!(space.shell("app-0", "cat /data/file").await? == written);
        protected.remove().await
    })
}

#[test]
fn a_claim_that_is_made_again_at_once_gets_the_newest() -> Result<()> {
    e2e::test("atonce", async |space| {
        let protected = Protected::new(space).await?;
        protected.claim("data").await?;
        space.bound("data").await?;
        for content in ["one", "two", "three"] {
            // Its predecessor's source is on its way out and must not read what is not its own.
            protected.write("data", &format!("echo {content} >file")).await?;
            let uid = space.get(&CLAIM, "data").await?["metadata"]["uid"].clone();
            let is_own = |source: &Value| Ok(source["metadata"]["ownerReferences"][0]["uid"] == uid);
            space.until(&SOURCE, "data-backup", "is this claim's", is_own).await?;
            protected.back_up("data", content).await?;
            // An app still uses it: the claim is Terminating, and goes with the app.
            space.create_object(&POD, Pod::idle("app").mount("data", "/data").build()).await?;
            space.ready("app").await?;
            space.delete_object(&CLAIM, "data").await?;
            let is_going = |claim: &Value| Ok(claim["metadata"]["deletionTimestamp"].is_string());
            space.until(&CLAIM, "data", "is on its way out", is_going).await?;
            space.kill("app").await?;
            space.until_gone(&CLAIM, "data").await?;
            protected.claim("data").await?;
            space.bound("data").await?;
            ensure!(protected.read("data", "file").await? == format!("{content}\n"));
        }
        protected.remove().await
    })
}

#[test]
fn all_kinds_of_files_come_back_where_movers_may_do_everything() -> Result<()> {
    e2e::test("attributes", async |space| {
        let elevated = json!({"metadata": {"annotations": {"volsync.backube/privileged-movers": "true"}}});
        space.patch(&e2e::NAMESPACE, &space.name, elevated).await?;
        let protected = Protected::new(space).await?;
        protected.claim("data").await?;
        space.bound("data").await?;
        space.fill_tree("data").await?;
        let before = space.tree("data", ".").await?;
        protected.back_up("data", "one").await?;
        protected.delete("data").await?;
        protected.claim("data").await?;
        space.bound("data").await?;
        e2e::same_trees(&before, &space.tree("data", ".").await?)?;
        protected.remove().await
    })
}

/// Files cannot be put into a raw device, and a raw device cannot be backed up: the first is no reason to lose them.
#[test]
fn a_raw_device_starts_empty_unless_there_are_files() -> Result<()> {
    e2e::test("raw", async |space| {
        let protected = Protected::new(space).await?;
        space.create_object(&CLAIM, labelled("disk").device().size("8Mi").build()).await?;
        protected.decided("disk", "fresh").await?;
        space.bound("disk").await?;
        space.event("disk", "it is not backed up").await?;
        let write = Pod::shell("write", "echo mine >/dev/disk && head -c 4 /dev/disk").device("disk", "/dev/disk");
        space.create_object(&POD, write.build()).await?;
        ensure!(space.succeeded("write").await? == "mine");

        protected.claim("data").await?;
        space.bound("data").await?;
        protected.write("data", "echo mine >file").await?;
        protected.back_up("data", "one").await?;
        let sources = space.list(&SOURCE).await?;
        ensure!(sources.len() == 1, "only data is backed up: {sources:?}");
        protected.delete("data").await?;
        space.create_object(&CLAIM, labelled("data").device().build()).await?;
        let decision = protected.held("data", "VolumeModeMismatch").await?;
        ensure!(decision["detail"].as_str().is_some_and(|detail| detail.contains("Filesystem")), "{decision}");
        protected.delete("data").await?;
        protected.claim("data").await?;
        space.bound("data").await?;
        ensure!(protected.read("data", "file").await? == "mine\n");
        space.delete_object(&POD, "write").await?;
        protected.delete("disk").await?;
        protected.remove().await
    })
}
