//! What cannot be established is waited for: no claim is ever empty by mistake.

use anyhow::{Result, ensure};
use e2e::{CLAIM, PASSWORD, Protected, REPOSITORY, SECRET, SECRET_KEY};
use serde_json::{Value, json};

/// A claim with one backup, and its data.
async fn backed_up(protected: &Protected<'_>) -> Result<()> {
    protected.claim("data").await?;
    protected.space.bound("data").await?;
    protected.write("data", "echo mine >file").await?;
    protected.back_up("data", "one").await?;
    protected.delete("data").await
}

/// The claim binds by itself, with its data.
async fn comes_back(protected: &Protected<'_>) -> Result<()> {
    protected.space.bound("data").await?;
    protected.decided("data", "restore").await?;
    ensure!(protected.read("data", "file").await? == "mine\n");
    protected.remove().await
}

#[test]
fn a_claim_waits_while_the_storage_is_down() -> Result<()> {
    e2e::test("down", async |space| {
        let mut protected = Protected::new(space).await?;
        backed_up(&protected).await?;
        protected.server.stop()?;
        protected.claim("data").await?;
        protected.held("data", "RepositoryUnreachable").await?;
        ensure!(space.get(&CLAIM, "data").await?["status"]["phase"] == "Pending");
        protected.server.start_again().await?;
        comes_back(&protected).await
    })
}

#[test]
fn a_claim_waits_while_the_password_is_wrong() -> Result<()> {
    e2e::test("password", async |space| {
        let protected = Protected::new(space).await?;
        backed_up(&protected).await?;
        protected.change_secret("wrong", SECRET_KEY).await?;
        protected.claim("data").await?;
        protected.held("data", "RepositoryAuth").await?;
        protected.change_secret(PASSWORD, SECRET_KEY).await?;
        comes_back(&protected).await
    })
}

#[test]
fn a_claim_waits_while_the_key_is_wrong() -> Result<()> {
    e2e::test("key", async |space| {
        let protected = Protected::new(space).await?;
        backed_up(&protected).await?;
        protected.change_secret(PASSWORD, "wrong").await?;
        protected.claim("data").await?;
        protected.held("data", "RepositoryAuth").await?;
        let says_why = |found: &Value| {
            let conditions = found["status"]["conditions"].as_array().into_iter().flatten();
            let mut ready = conditions.filter(|condition| condition["type"] == "Ready");
            Ok(ready.any(|ready| ready["status"] == "False" && ready["reason"] == "RepositoryAuth"))
        };
        space.until(&REPOSITORY, &space.name, "says that the key is refused", says_why).await?;
        protected.change_secret(PASSWORD, SECRET_KEY).await?;
        comes_back(&protected).await
    })
}

#[test]
fn a_claim_waits_while_the_prefix_is_wrong() -> Result<()> {
    e2e::test("prefix", async |space| {
        let protected = Protected::new(space).await?;
        backed_up(&protected).await?;
        protected.change_repository(json!({"store": {"s3": {"prefix": "elsewhere"}}})).await?;
        protected.claim("data").await?;
        protected.held("data", "RepositoryMissing").await?;
        protected.change_repository(json!({"store": {"s3": {"prefix": null}}})).await?;
        comes_back(&protected).await
    })
}

#[test]
fn a_claim_waits_while_the_bucket_is_wrong() -> Result<()> {
    e2e::test("bucket", async |space| {
        let protected = Protected::new(space).await?;
        backed_up(&protected).await?;
        protected.change_repository(json!({"store": {"s3": {"bucket": "nothing-here"}}})).await?;
        protected.claim("data").await?;
        protected.held("data", "RepositoryMissing").await?;
        protected.change_repository(json!({"store": {"s3": {"bucket": e2e::s3::BUCKET}}})).await?;
        comes_back(&protected).await
    })
}

#[test]
fn a_claim_waits_for_its_credentials() -> Result<()> {
    e2e::test("secret", async |space| {
        let protected =
            Protected::with(space, json!({"credentials": {"secretRef": {"name": "not-there-yet"}}}), json!({})).await?;
        protected.claim("data").await?;
        protected.held("data", "WaitingForRepoSecret").await?;
        let right = json!({"spec": {"credentials": {"secretRef": {"name": format!("repository-{}", space.name)}}}});
        space.patch(&REPOSITORY, &space.name, right).await?;
        space.bound("data").await?;
        protected.decided("data", "fresh").await?;
        protected.remove().await
    })
}

#[test]
fn a_claims_secret_that_was_deleted_is_made_again() -> Result<()> {
    e2e::test("deleted", async |space| {
        let protected = Protected::new(space).await?;
        protected.claim("data").await?;
        protected.idle("data").await?;
        protected.write("data", "echo mine >file").await?;
        space.delete_object(&SECRET, "volsync-data").await?;
        protected.back_up("data", "one").await?;
        protected.delete("data").await?;
        protected.claim("data").await?;
        comes_back(&protected).await
    })
}

#[test]
fn a_snapshot_that_does_not_fit_is_not_begun() -> Result<()> {
    e2e::test("size", async |space| {
        let protected = Protected::new(space).await?;
        protected.claim("data").await?;
        space.bound("data").await?;
        protected.write("data", "dd if=/dev/zero of=file bs=1000000 count=20 2>/dev/null").await?;
        protected.back_up("data", "one").await?;
        protected.delete("data").await?;
        space.create_object(&CLAIM, e2e::labelled("data").size("10Mi").build()).await?;
        protected.held("data", "CapacityTooSmall").await?;
        protected.delete("data").await?;
        space.create_object(&CLAIM, e2e::labelled("data").size("300Mi").build()).await?;
        space.bound("data").await?;
        ensure!(protected.write("data", "wc -c <file").await?.trim() == "20000000");
        protected.remove().await
    })
}
