//! A repository that is not the right one, in every way: the claim waits and says why, and comes back when it is mended.

use anyhow::{Context, Result, ensure};
use e2e::s3::{ACCESS_KEY, S3, SECRET_KEY};
use e2e::{PASSWORD, Protected, SOURCE, labelled, program};
use serde_json::{Value, json};

/// A claim with one backup of a tree, deleted; and the tree.
async fn gone(protected: &Protected<'_>, claim: &str) -> Result<String> {
    let trees = protected.backed_up_trees(&[claim]).await?;
    protected.delete(claim).await?;
    trees.into_iter().next().context("one claim has one tree")
}

#[test]
fn a_claim_waits_while_the_address_is_wrong() -> Result<()> {
    e2e::test("address", async |space| {
        let protected = Protected::new(space).await?;
        let tree = gone(&protected, "data").await?;
        let right = protected.server.endpoint();
        let store = |endpoint: &str| json!({"store": {"s3": {"endpoint": endpoint}}});
        let host = right.rsplit_once(':').map(|(host, _)| host).unwrap_or_default();
        // A name that nobody has; port 1 of the same machine, where nobody listens; a server that speaks no TLS.
        for wrong in ["http://nobody.invalid:9000", &format!("{host}:1"), &right.replace("http://", "https://")] {
            protected.delete("data").await?;
            protected.change_repository(store(wrong)).await?;
            protected.claim("data").await?;
            let why = protected.held("data", "RepositoryUnreachable").await?;
            e2e::say(&format!("{wrong}: {}", why["detail"]));
        }
        protected.change_repository(store(&right)).await?;
        protected.hold_trees(&["data"], &[tree]).await?;
        protected.remove().await
    })
}

#[test]
fn a_claim_waits_while_another_repository_is_there() -> Result<()> {
    e2e::test("other", async |space| {
        let protected = Protected::new(space).await?;
        let tree = gone(&protected, "data").await?;
        let own = protected.server.files().join(&space.name);
        let aside = protected.server.files().with_file_name("aside");
        std::fs::rename(own.join("data"), &aside).context("take the repository away")?;
        let created = program()?
            .args(["repository", "create", "--format", "kopia"])
            .args(["--store", &protected.server.store(&format!("{}/new", space.name))])
            .envs([
                ("PERENNIAL_PASSWORD", PASSWORD),
                ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
                ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
            ])
            .output()
            .context("run perennial")?;
        ensure!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
        std::fs::rename(own.join("new"), own.join("data")).context("put a new one into its place")?;
        protected.claim("data").await?;
        protected.held("data", "WrongRepository").await?;
        std::fs::remove_dir_all(own.join("data")).context("take the other one away")?;
        std::fs::rename(&aside, own.join("data")).context("put the right one back")?;
        protected.hold_trees(&["data"], &[tree]).await?;
        protected.remove().await
    })
}

#[test]
fn a_claim_waits_while_its_backups_are_gone() -> Result<()> {
    e2e::test("emptied", async |space| {
        let protected = Protected::new(space).await?;
        let bucket = protected.server.files();
        let elsewhere = bucket.with_file_name("elsewhere");
        let place = |of: &std::path::Path, path: &str| of.join(path);
        // Its repository is gone, its record in the ledger is there.
        let tree = gone(&protected, "data").await?;
        let own = format!("{}/data", space.name);
        std::fs::create_dir_all(place(&elsewhere, &space.name)).context("make a place for what is taken away")?;
        std::fs::rename(place(&bucket, &own), place(&elsewhere, &own)).context("take the repository away")?;
        protected.claim("data").await?;
        protected.held("data", "RepositoryMissing").await?;
        std::fs::rename(place(&elsewhere, &own), place(&bucket, &own)).context("put the repository back")?;
        protected.hold_trees(&["data"], std::slice::from_ref(&tree)).await?;
        // All of the bucket is empty: the cluster knows that something was there.
        protected.delete("data").await?;
        std::fs::remove_dir_all(&elsewhere).context("clear up")?;
        std::fs::rename(&bucket, &elsewhere).context("take everything away")?;
        std::fs::create_dir(&bucket).context("make an empty bucket")?;
        protected.claim("data").await?;
        protected.held("data", "RepositoryMissing").await?;
        std::fs::remove_dir(&bucket).context("take the empty bucket away")?;
        std::fs::rename(&elsewhere, &bucket).context("put everything back")?;
        protected.hold_trees(&["data"], std::slice::from_ref(&tree)).await?;
        // Objects are there, but what makes them a repository is not.
        protected.delete("data").await?;
        let format = place(&bucket, &format!("{own}/kopia.repository"));
        let kept = std::fs::read(&format).context("read kopia.repository")?;
        std::fs::remove_file(&format).context("remove kopia.repository")?;
        protected.claim("data").await?;
        protected.held("data", "RepositoryMissing").await?;
        std::fs::write(&format, kept).context("put kopia.repository back")?;
        protected.hold_trees(&["data"], &[tree]).await?;
        protected.verified_by_kopia("data")?;
        protected.remove().await
    })
}

#[test]
fn a_full_storage_takes_no_backup_and_gives_everything_back() -> Result<()> {
    e2e::test("full", async |space| {
        let server = S3::small(&space.cluster, "24m").await?;
        let protected = Protected::at(space, server, json!({}), json!({})).await?;
        let trees = protected.backed_up_trees(&["data", "other"]).await?;
        protected.write("data", "dd if=/dev/urandom of=large bs=1000000 count=40 2>/dev/null").await?;
        protected.idle("data").await?;
        space.patch(&SOURCE, "data-backup", json!({"spec": {"trigger": {"manual": "full"}}})).await?;
        let has_failed = |source: &Value| {
            let mover = &source["status"]["latestMoverStatus"];
            Ok(mover["result"] == "Failed" && mover["logs"].as_str().is_some_and(|logs| !logs.is_empty()))
        };
        let source = space.until(&SOURCE, "data-backup", "has failed", has_failed).await?;
        e2e::say(&format!("a full storage: {}", source["status"]["latestMoverStatus"]["logs"]));
        ensure!(source["status"]["conditions"][0]["reason"] == "Error", "{}", source["status"]);
        space.event("data-backup", source["status"]["latestMoverStatus"]["logs"].as_str().unwrap_or_default()).await?;
        // What is there is given back, and whoever needs no room is backed up.
        protected.delete("other").await?;
        protected.claim("other").await?;
        protected.hold_trees(&["other"], &trees[1..]).await?;
        protected.delete("data").await?;
        space.create_object(&e2e::CLAIM, labelled("data").size("200Mi").build()).await?;
        protected.hold_trees(&["data"], &trees[..1]).await?;
        protected.remove().await
    })
}
