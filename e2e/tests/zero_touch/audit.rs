//! The verdict on every claim, as pvc-plumber's users ask for it.

use anyhow::{Context, Result, ensure};
use e2e::{CLAIM, Claim, Protected, Space};
use serde_json::Value;

/// Where the API server passes it through.
const AUDIT: &str = "/api/v1/namespaces/volsync-system/services/pvc-plumber-metrics:audit-http/proxy/audit";

async fn entries(space: &Space) -> Result<Vec<Value>> {
    let request = http::Request::get(AUDIT).body(Vec::new()).context("make a request")?;
    let audit: Value = space.cluster.client().request(request).await.context("ask for the audit")?;
    let total = audit["summary"]["total_pvcs"].as_u64().unwrap_or_default();
    let all = audit["entries"].as_array().cloned().unwrap_or_default();
    ensure!(u64::try_from(all.len())? == total, "{}", audit["summary"]);
    Ok(all.into_iter().filter(|entry| entry["namespace"] == space.name.as_str()).collect())
}

#[test]
fn every_claim_has_a_verdict_whichever_replica_is_asked() -> Result<()> {
    e2e::test("audit", async |space| {
        let protected = Protected::new(space).await?;
        protected.claim("data").await?;
        space.create_object(&CLAIM, Claim::new("plain").build()).await?;
        space.bound("data").await?;
        space.bound("plain").await?;
        protected.idle("data").await?;
        // The proxy takes any of the replicas; all of them know what the one knows that leads.
        for _ in 0..8 {
            space
                .retry("the audit knows both", async || {
                    let entries = entries(space).await?;
                    let of =
                        |name: &str| entries.iter().find(|entry| entry["pvc"] == name).cloned().unwrap_or_default();
                    let (data, plain) = (of("data"), of("plain"));
                    ensure!(data["action"] == "already-matches", "{data}");
                    ensure!(data["tier"] == "hourly" && data["decision"]["decision"] == "fresh", "{data}");
                    ensure!(data["last_backup"].is_string() && data["next_backup"].is_string(), "{data}");
                    ensure!(data["expected"]["repository_secret"] == "volsync-data", "{data}");
                    ensure!(plain["action"] == "skipped-not-opted-in", "{plain}");
                    Ok(())
                })
                .await?;
        }
        protected.remove().await
    })
}
