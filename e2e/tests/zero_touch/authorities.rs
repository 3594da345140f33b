//! Stores whose certificates come from an authority of their own.

use anyhow::{Result, ensure};
use e2e::s3::S3;
use e2e::{CLAIM, CONFIG_MAP, Claim, DESTINATION, PASSWORD, Protected, SECRET, SOURCE};
use serde_json::{Value, json};

#[test]
fn a_claim_waits_until_the_stores_authority_is_known() -> Result<()> {
    e2e::test("authority", async |space| {
        let server = S3::with_tls(&space.cluster).await?;
        let protected = Protected::at(space, server, json!({}), json!({})).await?;
        protected.claim("data").await?;
        space
            .retry("the claim waits for the authority", async || {
                let decision = protected.held("data", "RepositoryUnreachable").await?;
                ensure!(decision["detail"].as_str().is_some_and(|detail| detail.contains("certificate")), "{decision}");
                Ok(())
            })
            .await?;
        let name = space.unique("authority");
        let body = json!({"metadata": {"name": name}, "stringData": {"root.pem": protected.server.authority()}});
        protected.system.create_object(&SECRET, body).await?;
        let known = json!({"store": {"s3": {"caSecret": {"name": name, "key": "root.pem"}}}});
        protected.change_repository(known).await?;
        space.bound("data").await?;
        protected.decided("data", "fresh").await?;
        let keys = space.get(&SECRET, "volsync-data").await?;
        ensure!(keys["data"].as_object().is_some_and(|data| data.len() == 7), "the credentials stay as they are");
        protected.write("data", "echo mine >file").await?;
        let source = protected.back_up("data", "one").await?;
        let custom = json!({"secretName": "volsync-data-ca", "key": "ca.crt"});
        ensure!(source["spec"]["kopia"]["customCA"] == custom, "{}", source["spec"]);
        protected.delete("data").await?;
        space.until_gone(&SECRET, "volsync-data-ca").await?;
        protected.claim("data").await?;
        space.bound("data").await?;
        ensure!(protected.read("data", "file").await? == "mine\n");
        protected.remove().await?;
        protected.system.delete_object(&SECRET, &name).await
    })
}

#[test]
fn sources_and_destinations_that_somebody_wrote_name_their_own() -> Result<()> {
    e2e::test("custom", async |space| {
        let server = S3::with_tls(&space.cluster).await?;
        let protected = Protected::at(space, server, json!({}), json!({})).await?;
        let data = protected.server.secret("by-hand", PASSWORD);
        space.create_object(&SECRET, json!({"metadata": {"name": "repo"}, "stringData": data})).await?;
        let authority = json!({"root.pem": protected.server.authority()});
        space.create_object(&CONFIG_MAP, json!({"metadata": {"name": "root"}, "data": authority})).await?;
        space.create_object(&CLAIM, Claim::new("data").build()).await?;
        space.bound("data").await?;
        protected.write("data", "echo mine >file").await?;
        let kopia = json!({"repository": "repo", "copyMethod": "Snapshot"});
        let spec = json!({"sourcePVC": "data", "trigger": {"manual": "one"}, "kopia": kopia});
        space.create_object(&SOURCE, json!({"metadata": {"name": "app"}, "spec": spec})).await?;
        let refused = |source: &Value| {
            let message = source["status"]["conditions"][0]["message"].as_str().unwrap_or_default();
            Ok(message.contains("certificate"))
        };
        space.until(&SOURCE, "app", "is refused", refused).await?;
        let custom = json!({"configMapName": "root", "key": "root.pem"});
        space.patch(&SOURCE, "app", json!({"spec": {"kopia": {"customCA": custom}}})).await?;
        let done = |found: &Value| Ok(found["status"]["lastManualSync"] == "one");
        space.until(&SOURCE, "app", "is backed up", done).await?;
        let kopia = json!({
            "repository": "repo", "copyMethod": "Direct", "customCA": custom, "capacity": "100Mi",
            "accessModes": ["ReadWriteOnce"], "sourceIdentity": {"sourceName": "app"},
        });
        let spec = json!({"trigger": {"manual": "one"}, "kopia": kopia});
        space.create_object(&DESTINATION, json!({"metadata": {"name": "dst"}, "spec": spec})).await?;
        space.until(&DESTINATION, "dst", "is restored", done).await?;
        ensure!(protected.read("volsync-dst-dest", "file").await? == "mine\n");
        protected.remove().await
    })
}
