//! Sources and destinations that somebody wrote, as for VolSync, and claims that are filled from them.

use anyhow::{Result, ensure};
use e2e::{CLAIM, Claim, DESTINATION, JOB, PASSWORD, Pod, Protected, SECRET, SNAPSHOT, SOURCE, Space};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

/// The Secret of a repository of its own.
const REPOSITORY: &str = "app-volsync-secret";

/// A namespace with a bucket and a Secret for it, and the claim `data` without a label.
async fn with_claim(space: &Space) -> Result<Protected<'_>> {
    let protected = Protected::new(space).await?;
    let data = protected.server.secret("by-hand", PASSWORD);
    space.create_object(&SECRET, json!({"metadata": {"name": REPOSITORY}, "stringData": data})).await?;
    space.create_object(&CLAIM, Claim::new("data").build()).await?;
    space.bound("data").await?;
    Ok(protected)
}

/// Backs `data` up with the source `app`, which is made if it is not there.
async fn back_up(space: &Space, tag: &str) -> Result<()> {
    let spec = json!({
        "sourcePVC": "data", "trigger": {"manual": tag},
        "kopia": {"repository": REPOSITORY, "copyMethod": "Snapshot"},
    });
    if space.get(&SOURCE, "app").await?.is_null() {
        space.create_object(&SOURCE, json!({"metadata": {"name": "app"}, "spec": spec})).await?;
    } else {
        space.patch(&SOURCE, "app", json!({"spec": spec})).await?;
    }
    let done = |source: &Value| Ok(source["status"]["lastManualSync"] == tag);
    let source = space.until(&SOURCE, "app", "is backed up", done).await?;
    ensure!(source["status"]["latestMoverStatus"]["result"] == "Successful", "{}", source["status"]);
    Ok(())
}

/// The destination `app-dst` of the source's snapshots, with more in its section.
async fn write_destination(space: &Space, tag: &str, more: Value) -> Result<()> {
    let mut kopia = json!({
        "repository": REPOSITORY, "copyMethod": "Snapshot", "capacity": "100Mi", "accessModes": ["ReadWriteOnce"],
        "sourceIdentity": {"sourceName": "app"},
    });
    if let (Value::Object(kopia), Value::Object(more)) = (&mut kopia, more) {
        kopia.extend(more);
    }
    let spec = json!({"trigger": {"manual": tag}, "kopia": kopia});
    space.create_object(&DESTINATION, json!({"metadata": {"name": "app-dst"}, "spec": spec})).await?;
    Ok(())
}

/// Waits until a tag was obeyed, and answers the status.
async fn synchronized(space: &Space, tag: &str) -> Result<Value> {
    let done = |found: &Value| {
        let reason = &found["status"]["conditions"][0]["reason"];
        Ok(found["status"]["lastManualSync"] == tag && *reason == "WaitingForManual")
    };
    let found = space.until(&DESTINATION, "app-dst", "is synchronized", done).await?;
    let status = found["status"].clone();
    ensure!(status["latestMoverStatus"]["result"] == "Successful", "{status}");
    ensure!(status["lastSyncStartTime"].is_null() && status["lastSyncDuration"].is_string(), "{status}");
    Ok(status)
}

/// A claim that wants what the destination has.
fn wanting(class: &str) -> Value {
    Claim::new("restored").class(class).from_object("volsync.backube", "ReplicationDestination", "app-dst").build()
}

#[test]
fn a_snapshot_is_restored_into_a_claim_that_is_named() -> Result<()> {
    e2e::test("named", async |space| {
        let protected = with_claim(space).await?;
        protected.write("data", "echo mine >file; echo gone >later").await?;
        back_up(space, "one").await?;
        protected.write("data", "echo spoilt >file; rm later; echo new >extra").await?;
        write_destination(space, "one", json!({"copyMethod": "Direct", "destinationPVC": "data"})).await?;
        let status = synchronized(space, "one").await?;
        let image = json!({"apiGroup": "", "kind": "PersistentVolumeClaim", "name": "data"});
        ensure!(status["latestImage"] == image, "{status}");
        ensure!(status["kopia"]["requestedIdentity"] == format!("app@{}:/data", space.name), "{status}");
        ensure!(protected.write("data", "cat file later extra").await? == "mine\ngone\nnew\n");
        let logs = json!({"spec": {"trigger": {"manual": "two"}, "kopia": {"enableFileDeletion": true}}});
        space.patch(&DESTINATION, "app-dst", logs).await?;
        synchronized(space, "two").await?;
        ensure!(protected.write("data", "ls").await? == "file\nlater\n");
        space.until_gone(&JOB, "volsync-dst-app-dst").await?;
        protected.remove().await
    })
}

#[test]
fn an_image_is_replaced_by_the_next_and_fills_claims() -> Result<()> {
    e2e::test("image", async |space| {
        let protected = with_claim(space).await?;
        // The claim is there before the destination, and the destination before there is anything in its repository.
        space.create_object(&CLAIM, wanting("dirs")).await?;
        space.event("restored", "which does not exist").await?;
        protected.write("data", "echo first >file").await?;
        back_up(space, "one").await?;
        write_destination(space, "one", json!({"cleanupTempPVC": true})).await?;
        let first = synchronized(space, "one").await?["latestImage"].clone();
        ensure!(first["kind"] == "VolumeSnapshot", "{first}");
        space.until_gone(&CLAIM, "volsync-app-dst-dest").await?;
        space.bound("restored").await?;
        ensure!(protected.read("restored", "file").await? == "first\n");
        space.event("restored", "the volume is filled and bound").await?;
        let volume = space.get(&CLAIM, "restored").await?["spec"]["volumeName"].as_str().unwrap_or_default().to_owned();
        let kept = |volume: &Value| Ok(volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete");
        space.until(&e2e::VOLUME, &volume, "has its reclaim policy", kept).await?;

        protected.write("data", "echo second >file").await?;
        back_up(space, "two").await?;
        space.patch(&DESTINATION, "app-dst", json!({"spec": {"trigger": {"manual": "two"}}})).await?;
        let second = synchronized(space, "two").await?["latestImage"].clone();
        ensure!(first["name"] != second["name"], "{second}");
        space.until_gone(&SNAPSHOT, first["name"].as_str().unwrap_or_default()).await?;
        // A claim is filled with what there is when it is made, where its pod runs.
        space.delete_object(&CLAIM, "restored").await?;
        space.until_gone(&CLAIM, "restored").await?;
        space.create_object(&CLAIM, wanting("dirs-late")).await?;
        ensure!(protected.read("restored", "file").await? == "second\n");
        // What somebody wants to keep outlives the destination.
        let name = second["name"].as_str().unwrap_or_default();
        let mark = json!({"metadata": {"labels": {"volsync.backube/do-not-delete": "true"}}});
        space.patch(&SNAPSHOT, name, mark).await?;
        let free = |snapshot: &Value| Ok(snapshot["metadata"]["ownerReferences"].is_null());
        space.patch(&DESTINATION, "app-dst", json!({"metadata": {"annotations": {"looked": "at"}}})).await?;
        space.until(&SNAPSHOT, name, "belongs to nobody", free).await?;
        protected.remove().await
    })
}

#[test]
fn a_moment_before_everything_is_a_failure_and_nothing_at_all_is_none() -> Result<()> {
    e2e::test("moment", async |space| {
        let protected = with_claim(space).await?;
        // A repository that nobody has written to yet: an app that is new begins empty.
        write_destination(space, "none", json!({})).await?;
        let status = synchronized(space, "none").await?;
        let logs = status["latestMoverStatus"]["logs"].as_str().unwrap_or_default();
        ensure!(logs.contains("No eligible snapshots found"), "{status}");
        space.create_object(&CLAIM, wanting("dirs")).await?;
        space.bound("restored").await?;
        let empty = status["latestImage"].clone();

        protected.write("data", "echo first >file").await?;
        back_up(space, "one").await?;
        let early = json!({"trigger": {"manual": "early"}, "kopia": {"restoreAsOf": "2020-01-01T00:00:00Z"}});
        space.patch(&DESTINATION, "app-dst", json!({"spec": early})).await?;
        let refused = |found: &Value| {
            let condition = &found["status"]["conditions"][0];
            let message = condition["message"].as_str().unwrap_or_default();
            Ok(condition["reason"] == "Error" && message.contains("had begun at 2020-01-01"))
        };
        let found = space.until(&DESTINATION, "app-dst", "is refused", refused).await?;
        ensure!(found["status"]["latestMoverStatus"]["result"] == "Failed", "{}", found["status"]);
        ensure!(found["status"]["latestImage"] == empty, "{}", found["status"]);
        // What is asked for instead is done at once.
        let now = json!({"trigger": {"manual": "now"}, "kopia": {"restoreAsOf": null, "copyMethod": "Direct"}});
        space.patch(&DESTINATION, "app-dst", json!({"spec": now})).await?;
        synchronized(space, "now").await?;
        ensure!(protected.read("volsync-app-dst-dest", "file").await? == "first\n");
        protected.remove().await
    })
}

#[test]
fn nobody_elses_claim_is_written_into() -> Result<()> {
    e2e::test("foreign", async |space| {
        let protected = with_claim(space).await?;
        protected.write("data", "echo backed-up >file").await?;
        back_up(space, "one").await?;
        space.create_object(&CLAIM, Claim::new("volsync-app-dst-dest").build()).await?;
        space.bound("volsync-app-dst-dest").await?;
        protected.write("volsync-app-dst-dest", "echo precious >file").await?;
        write_destination(space, "one", json!({})).await?;
        let refused = |found: &Value| {
            let message = found["status"]["conditions"][0]["message"].as_str().unwrap_or_default();
            Ok(message.contains("was not made for this destination"))
        };
        space.until(&DESTINATION, "app-dst", "is refused", refused).await?;
        ensure!(protected.read("volsync-app-dst-dest", "file").await? == "precious\n");
        // Its owner may say that it is meant.
        let named = json!({"spec": {"kopia": {"copyMethod": "Direct", "destinationPVC": "volsync-app-dst-dest"}}});
        space.patch(&DESTINATION, "app-dst", named).await?;
        synchronized(space, "one").await?;
        ensure!(protected.read("volsync-app-dst-dest", "file").await? == "backed-up\n");
        protected.remove().await
    })
}

#[test]
fn a_schedule_restores_beside_a_tag_and_a_pod_that_uses_the_claim_is_no_hindrance() -> Result<()> {
    e2e::test("schedule", async |space| {
        let protected = with_claim(space).await?;
        protected.write("data", "echo mine >file").await?;
        back_up(space, "one").await?;
        space.create_object(&CLAIM, Claim::new("copy").build()).await?;
        let app = Pod::idle("app").user(568, 568, 568).mount("copy", "/data").build();
        space.create_object(&e2e::POD, app).await?;
        space.ready("app").await?;
        write_destination(space, "one", json!({"copyMethod": "Direct", "destinationPVC": "copy"})).await?;
        synchronized(space, "one").await?;
        ensure!(space.shell("app", "cat /data/file").await? == "mine\n");
        let yearly = json!({"spec": {"trigger": {"schedule": "0 0 1 1 *"}}});
        space.patch(&DESTINATION, "app-dst", yearly).await?;
        let scheduled = |found: &Value| Ok(found["status"]["nextSyncTime"].is_string());
        space.until(&DESTINATION, "app-dst", "has a next time", scheduled).await?;
        // Years ago: its turn has come.
        let ago = "2020-01-01T00:00:00Z";
        let change = Patch::Merge(json!({"status": {"lastSyncTime": ago}}));
        let destinations = space.api(&DESTINATION);
        destinations.patch_status("app-dst", &PatchParams::default(), &change).await?;
        let again = |found: &Value| {
            let status = &found["status"];
            Ok(status["lastSyncTime"].as_str() > Some(ago) && status["lastManualSync"] == "one")
        };
        space.until(&DESTINATION, "app-dst", "runs by its schedule", again).await?;
        protected.remove().await
    })
}
