//! Which claims are backed up, how often, and what happens when that changes.

use anyhow::{Result, ensure};
use e2e::{CLAIM, Claim, NAMESPACE, POLICY, Protected, SOURCE, Space};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::PostParams;
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

/// Waits until the API server marks such claims: it reads policies some time after they were made.
async fn marks(space: &Space, claim: Value) -> Result<()> {
    let trial = PostParams { dry_run: true, ..PostParams::default() };
    space
        .retry("claims are marked", async || {
            let made = space.api(&CLAIM).create(&trial, &serde_json::from_value(claim.clone())?).await?;
            ensure!(made.data["spec"]["dataSourceRef"].is_object(), "{}", made.data);
            Ok(())
        })
        .await
}

fn with_kind(mut claim: Value) -> Value {
    claim["apiVersion"] = "v1".into();
    claim["kind"] = "PersistentVolumeClaim".into();
    claim
}

#[test]
fn a_policy_picks_claims_that_nobody_could_label() -> Result<()> {
    e2e::test("unlabelled", async |space| {
        let selector = json!({
            "matchLabels": {"app": "db"}, "matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["cache"]}],
        });
        let picks = json!({"claims": {"unlabelled": {"selector": selector, "value": "daily"}}});
        let protected = Protected::with(space, json!({}), picks).await?;
        let picked = || Claim::new("data").label("app", "db");
        marks(space, with_kind(picked().build())).await?;

        space.create_object(&CLAIM, picked().build()).await?;
        space.bound("data").await?;
        protected.decided("data", "fresh").await?;
        protected.write("data", "echo mine >file").await?;
        let source = protected.back_up("data", "one").await?;
        ensure!(source["spec"]["trigger"]["schedule"] == "0 2 * * *", "{}", source["spec"]);
        protected.delete("data").await?;
        space.create_object(&CLAIM, picked().build()).await?;
        protected.decided("data", "restore").await?;
        space.bound("data").await?;
        ensure!(protected.read("data", "file").await? == "mine\n");

        // Those that the selector leaves out, those that say no, and those on their way to somebody.
        let others = [
            Claim::new("plain"),
            Claim::new("cache").label("app", "db").label("tier", "cache"),
            Claim::new("no").label("app", "db").label("backup", "no"),
            Claim::new("exempt").label("app", "db").label("backup-exempt", "true"),
            Claim::new("copy").label("app", "db").label("app.kubernetes.io/created-by", "volsync"),
        ];
        for other in others {
            let claim = space.create_object(&CLAIM, other.build()).await?;
            ensure!(claim["spec"]["dataSourceRef"].is_null(), "{claim:#}");
            space.bound(claim["metadata"]["name"].as_str().unwrap_or_default()).await?;
        }
        space.delete_object(&CLAIM, "copy").await?;
        protected.remove().await
    })
}

#[test]
fn a_policy_has_a_label_of_its_own_in_the_namespaces_it_is_for() -> Result<()> {
    e2e::test("ownlabel", async |space| {
        let often = json!([{"value": "often", "schedule": "*/30 * * * *"}]);
        let claims = json!({
            "namespaces": {"names": null, "selector": {"matchLabels": {"team": space.name}}},
            "label": {"key": "example.test/snapshots", "values": often},
        });
        let protected = Protected::with(space, json!({}), json!({"claims": claims})).await?;
        let asking = || Claim::new("data").label("example.test/snapshots", "often");
        // Not yet: the namespace is not one of those.
        let claim = space.create_object(&CLAIM, Claim::new("before").label("example.test/snapshots", "often").build());
        ensure!(claim.await?["spec"]["dataSourceRef"].is_null());
        space.patch(&NAMESPACE, &space.name, json!({"metadata": {"labels": {"team": space.name}}})).await?;
        marks(space, with_kind(asking().build())).await?;
        space.create_object(&CLAIM, asking().build()).await?;
        space.bound("data").await?;
        protected.decided("data", "fresh").await?;
        let source = protected.idle("data").await?;
        ensure!(source["spec"]["trigger"]["schedule"] == "*/30 * * * *", "{}", source["spec"]);
        protected.remove().await
    })
}

#[test]
fn a_policy_says_how_its_claims_are() -> Result<()> {
    e2e::test("counted", async |space| {
        let protected = Protected::new(space).await?;
        let says = async |ready: &str, counts: Value| {
            let says = |policy: &Value| {
                let status = &policy["status"];
                Ok(status["conditions"][0]["reason"] == ready && status["claims"] == counts)
            };
            space.until(&POLICY, &space.name, ready, says).await
        };
        let none = json!({"protected": 0, "current": 0, "held": 0, "exempt": 0, "needsReview": 0});
        says("Ok", none).await?;
        protected.claim("data").await?;
        space.bound("data").await?;
        protected.write("data", "echo mine >file").await?;
        protected.back_up("data", "one").await?;
        space.create_object(&CLAIM, Claim::new("misspelt").label("backup", "dialy").build()).await?;
        let exempt = Claim::new("exempt").label("backup", "daily").label("backup-exempt", "true").build();
        space.create_object(&CLAIM, exempt).await?;
        let reason = json!({"metadata": {"annotations": {"perennial.dev/backup-exempt-reason": "a cache"}}});
        space.patch(&CLAIM, "exempt", reason).await?;
        says("Ok", json!({"protected": 1, "current": 1, "held": 0, "exempt": 1, "needsReview": 1})).await?;
        space.patch(&POLICY, &space.name, json!({"spec": {"paused": true}})).await?;
        says("Paused", json!({"protected": 1, "current": 1, "held": 0, "exempt": 1, "needsReview": 1})).await?;
        space.patch(&POLICY, &space.name, json!({"spec": {"paused": null, "repository": "nowhere"}})).await?;
        says("RepositoryNotFound", json!({"protected": 1, "current": 1, "held": 0, "exempt": 1, "needsReview": 1}))
            .await?;
        protected.remove().await
    })
}
