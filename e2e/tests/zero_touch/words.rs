//! What a person says about a claim or a repository, and that it counts once.

use anyhow::{Context, Result, ensure};
use e2e::s3::{ACCESS_KEY, SECRET_KEY};
use e2e::{CLAIM, PASSWORD, Protected, REPOSITORY, labelled, program};
use serde_json::{Value, json};

/// The same manifest, applied after a newer backup, restores.
#[test]
fn a_backup_that_is_dismissed_is_not_restored_and_the_next_one_is() -> Result<()> {
    e2e::test("dismiss", async |space| {
        let protected = Protected::with(space, json!({}), json!({"minimumAge": "0s"})).await?;
        protected.claim("data").await?;
        space.bound("data").await?;
        protected.write("data", "for i in $(seq 20); do echo old >file$i; done").await?;
        let source = protected.back_up("data", "old").await?;
        let moment = source["status"]["lastSyncTime"].as_str().context("a time")?.to_owned();
        let manifest = || {
            let mut body = labelled("data").build();
            body["metadata"]["annotations"] =
                json!({"perennial.dev/skip-restore": moment, "perennial.dev/skip-restore-reason": "begins anew"});
            body
        };
        protected.delete("data").await?;
        space.create_object(&CLAIM, manifest()).await?;
        let decision = protected.decided("data", "fresh").await?;
        ensure!(decision["proof"]["dismissed"]["snapshot"]["files"] == 20, "{decision}");
        space.bound("data").await?;
        // One file against twenty: it is not held against what was dismissed.
        protected.write("data", "echo new >file").await?;
        protected.back_up("data", "new").await?;
        protected.delete("data").await?;
        space.create_object(&CLAIM, manifest()).await?;
        protected.decided("data", "restore").await?;
        space.bound("data").await?;
        ensure!(protected.write("data", "ls; cat file").await? == "file\nnew\n");
        protected.remove().await
    })
}

#[test]
fn a_skip_without_its_occasion_does_not_count() -> Result<()> {
    e2e::test("skip", async |space| {
        let protected = Protected::new(space).await?;
        protected.claim("data").await?;
        space.bound("data").await?;
        protected.write("data", "echo mine >file").await?;
        protected.back_up("data", "one").await?;
        protected.delete("data").await?;
        let mut body = labelled("data").build();
        body["metadata"]["annotations"] =
            json!({"pvc-plumber.io/skip-restore": "true", "pvc-plumber.io/skip-restore-reason": "an old habit"});
        space.create_object(&CLAIM, body).await?;
        protected.decided("data", "restore").await?;
        space.event("data", "does not count").await?;
        space.bound("data").await?;
        ensure!(protected.read("data", "file").await? == "mine\n");

        // Without a reason, somebody has to look.
        protected.delete("data").await?;
        let mut body = labelled("data").build();
        body["metadata"]["annotations"] = json!({"perennial.dev/skip-restore": moment_far_away()});
        space.create_object(&CLAIM, body).await?;
        protected.held("data", "InvalidLabelOrAnnotation").await?;
        space.patch(&CLAIM, "data", json!({"metadata": {"annotations": {"perennial.dev/skip-restore": null}}})).await?;
        space.bound("data").await?;
        ensure!(protected.read("data", "file").await? == "mine\n");
        protected.remove().await
    })
}

fn moment_far_away() -> &'static str {
    "2200-01-01T00:00:00Z"
}

#[test]
fn a_quarantined_backup_that_is_accepted_is_good() -> Result<()> {
    e2e::test("accept", async |space| {
        let protected = Protected::new(space).await?;
        protected.claim("data").await?;
        space.bound("data").await?;
        protected.write("data", "for i in $(seq 20); do echo old >file$i; done").await?;
        protected.back_up("data", "old").await?;
        protected.write("data", "rm file*; echo less >left").await?;
        let source = protected.back_up_somehow("data", "less").await?;
        let logs = source["status"]["latestMoverStatus"]["logs"].as_str().unwrap_or_default().to_owned();
        let id = logs
            .split("perennial.dev/accept-snapshot=")
            .nth(1)
            .and_then(|rest| rest.split([')', ' ', '\n', '"']).next());
        let id = id.with_context(|| format!("no word about accepting in {logs:?}"))?;
        space
            .patch(&CLAIM, "data", json!({"metadata": {"annotations": {"perennial.dev/accept-snapshot": id}}}))
            .await?;
        protected.back_up("data", "accepted").await?;
        protected.delete("data").await?;
        protected.claim("data").await?;
        space.bound("data").await?;
        ensure!(protected.write("data", "ls").await? == "left\n");
        protected.remove().await
    })
}

#[test]
fn a_rebuild_in_which_all_would_be_empty_stops_until_somebody_confirms() -> Result<()> {
    e2e::test("mass", async |space| {
        let protected = Protected::with(space, json!({"massFresh": {"threshold": 2}}), json!({})).await?;
        protected.claim("known").await?;
        space.bound("known").await?;
        protected.write("known", "echo mine >file").await?;
        protected.back_up("known", "one").await?;
        protected.delete("known").await?;

        protected.claim("first").await?;
        space.bound("first").await?;
        protected.claim("second").await?;
        protected.held("second", "MassFresh").await?;
        space.patch(&REPOSITORY, &space.name, json!({"spec": {"massFresh": {"confirmed": "meant"}}})).await?;
        space.bound("second").await?;

        // A restore proves the store right; the word is used up then.
        protected.claim("known").await?;
        space.bound("known").await?;
        ensure!(protected.read("known", "file").await? == "mine\n");
        let used = |repository: &Value| Ok(repository["status"]["massFreshConfirmed"] == "meant");
        space.until(&REPOSITORY, &space.name, "has used the word", used).await?;
        protected.remove().await
    })
}

#[test]
fn a_repository_without_a_ledger_is_believed_once_it_is_declared_new() -> Result<()> {
    e2e::test("declared", async |space| {
        let protected = Protected::new(space).await?;
        let store = protected.server.store(&format!("{}/data", space.name));
        let created = program()?
            .args(["repository", "create", "--format", "kopia", "--store", &store])
            .envs([
                ("PERENNIAL_PASSWORD", PASSWORD),
                ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
                ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
            ])
            .output()
            .context("run perennial")?;
        ensure!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
        protected.claim("data").await?;
        let decision = protected.held("data", "Unknown").await?;
        ensure!(decision["detail"].as_str().is_some_and(|detail| detail.contains("declare")), "{decision}");
        space.patch(&REPOSITORY, &space.name, json!({"spec": {"declaredNew": "today"}})).await?;
        space.bound("data").await?;
        let decision = protected.decided("data", "fresh").await?;
        ensure!(decision["proof"]["declaredNew"].is_object(), "{decision}");
        protected.write("data", "echo mine >file").await?;
        protected.back_up("data", "one").await?;
        let used = |repository: &Value| Ok(repository["status"]["declaredNew"] == "today");
        space.until(&REPOSITORY, &space.name, "has used the word", used).await?;
        protected.remove().await
    })
}
