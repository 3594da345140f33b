//! Credentials that External Secrets' own controller fetches from a store of secrets.

use anyhow::{Result, ensure};
use e2e::s3::ACCESS_KEY;
use e2e::{CLUSTER_SECRET_STORE, EXTERNAL_SECRET, PASSWORD, Protected, SECRET, SECRET_KEY, Space};
use serde_json::{Value, json};

/// A store of secrets with one record, as people keep it.
fn store(name: &str, secret_key: &str) -> Value {
    let record = json!({
        "k8s-admin-access-key": ACCESS_KEY, "k8s-admin-secret-key": secret_key, "kopia_password": PASSWORD,
    });
    let data = json!([{"key": "rustfs", "value": record.to_string()}]);
    json!({"metadata": {"name": name}, "spec": {"provider": {"fake": {"data": data}}}})
}

/// Values one by one, from that store.
fn credentials(store: &str) -> Value {
    let value = |property: &str| json!({"key": "rustfs", "property": property});
    json!({"externalSecret": {
        "store": {"name": store, "kind": "ClusterSecretStore"},
        "refreshInterval": "1s",
        "fetch": {"values": {
            "password": value("kopia_password"),
            "accessKey": value("k8s-admin-access-key"),
            "secretKey": value("k8s-admin-secret-key"),
        }},
    }})
}

async fn set_key(space: &Space, store_name: &str, secret_key: &str) -> Result<()> {
    let spec = store(store_name, secret_key)["spec"].clone();
    space.patch(&CLUSTER_SECRET_STORE, store_name, json!({"spec": spec})).await.map(drop)
}

#[test]
fn credentials_come_from_a_store_of_secrets_and_follow_it() -> Result<()> {
    e2e::test("external", async |space| {
        let name = space.unique("store");
        let mut wanted = credentials(&name);
        wanted["secretRef"] = Value::Null;
        let protected = Protected::with(space, json!({"credentials": wanted}), json!({})).await?;
        // The store is not there yet: nobody decides without a look.
        protected.claim("data").await?;
        protected.held("data", "WaitingForRepoSecret").await?;
        space.create_object(&CLUSTER_SECRET_STORE, store(&name, SECRET_KEY)).await?;
        space.bound("data").await?;
        protected.decided("data", "fresh").await?;

        let external = space.get(&EXTERNAL_SECRET, "volsync-data").await?;
        let target = &external["spec"]["target"];
        ensure!(target["name"] == "volsync-data" && target["creationPolicy"] == "Owner", "{target}");
        ensure!(
            target["template"]["engineVersion"] == "v2" && target["template"]["mergePolicy"] == "Merge",
            "{target}"
        );
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
        protected.write("data", "echo mine >file").await?;
        protected.back_up("data", "one").await?;
        protected.delete("data").await?;
        space.until_gone(&EXTERNAL_SECRET, "volsync-data").await?;

        // What changes in the store changes everywhere.
        protected.followed(set_key(space, &name, "revoked")).await?;
        protected.claim("data").await?;
        protected.held("data", "RepositoryAuth").await?;
        protected.followed(set_key(space, &name, SECRET_KEY)).await?;
        space.bound("data").await?;
        ensure!(protected.read("data", "file").await? == "mine\n");
        protected.remove().await?;
        space.delete_object(&CLUSTER_SECRET_STORE, &name).await
    })
}
