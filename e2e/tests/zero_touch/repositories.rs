//! What a BackupRepository says of itself.

use anyhow::{Result, ensure};
use e2e::{Protected, REPOSITORY, Space};
use serde_json::{Value, json};

/// The status after the first backup.
async fn status(space: &Space, layout: &str) -> Result<Value> {
    let protected = Protected::with(space, json!({"layout": layout}), json!({})).await?;
    protected.claim("data").await?;
    space.bound("data").await?;
    protected.write("data", "echo mine >file").await?;
    protected.back_up("data", "one").await?;
    let has_one = |found: &Value| Ok(found["status"]["ledger"]["entries"] == 1);
    let found = space.until(&REPOSITORY, &space.name, "knows of the backup", has_one).await?;
    protected.remove().await?;
    Ok(found["status"].clone())
}

fn says(status: &Value, type_: &str) -> bool {
    let conditions = status["conditions"].as_array().into_iter().flatten();
    conditions.filter(|condition| condition["type"] == type_).any(|condition| condition["status"] == "True")
}

#[test]
fn a_shared_repository_is_told_in_numbers() -> Result<()> {
    e2e::test("numbers", async |space| {
        let status = status(space, "Shared").await?;
        ensure!(says(&status, "Ready") && says(&status, "Reachable"), "{status}");
        ensure!(status["checked"].is_string() && status["latencyMs"].is_u64(), "{status}");
        ensure!(status["id"].is_string() && status["snapshots"] == 1, "{status}");
        ensure!(status["indexBlobs"].as_u64().is_some_and(|count| count > 0), "{status}");
        let conditions = status["conditions"].as_array().into_iter().flatten();
        ensure!(conditions.filter(|condition| condition["type"] == "Maintained").count() == 1, "{status}");
        Ok(())
    })
}

#[test]
fn a_store_of_many_repositories_is_told_as_far_as_it_is_one() -> Result<()> {
    e2e::test("store", async |space| {
        let status = status(space, "PerClaim").await?;
        ensure!(says(&status, "Ready") && status["checked"].is_string() && status["latencyMs"].is_u64(), "{status}");
        ensure!(status["snapshots"].is_null() && status["id"].is_null(), "{status}");
        Ok(())
    })
}
