//! External Secrets' own controller, as users have it, with the two of its providers that need nothing else.

use anyhow::{Context, Result, ensure};
use e2e::{CONFIG_MAP, EXTERNAL_SECRET, SECRET, SECRET_STORE, SERVICE, SERVICE_ACCOUNT, Space};
use serde_json::{Value, json};

/// An ExternalSecret `wanted` that takes `password` out of `key`, from the store `store`.
async fn want(space: &Space, key: &str, property: Option<&str>) -> Result<()> {
    let mut reference = json!({"key": key});
    if let Some(property) = property {
        reference["property"] = property.into();
    }
    let body = json!({
        "metadata": {"name": "wanted"},
        "spec": {
            "refreshInterval": "1s",
            "secretStoreRef": {"kind": "SecretStore", "name": "store"},
            "target": {"name": "wanted"},
            "data": [{"secretKey": "password", "remoteRef": reference}],
        },
    });
    space.create_object(&EXTERNAL_SECRET, body).await?;
    Ok(())
}

/// Waits until the Secret says that, in base64.
async fn holds(space: &Space, password: &str) -> Result<()> {
    let holds = |secret: &Value| Ok(secret["data"]["password"] == password);
    space.until(&SECRET, "wanted", "holds the password", holds).await.map(drop)
}

#[test]
fn a_secret_comes_from_the_fake_provider() -> Result<()> {
    e2e::test("esfake", async |space| {
        let store = json!({
            "metadata": {"name": "store"},
            "spec": {"provider": {"fake": {"data": [{"key": "/backup", "value": "first"}]}}},
        });
        space.create_object(&SECRET_STORE, store).await?;
        want(space, "/backup", None).await?;
        holds(space, "Zmlyc3Q=").await
    })
}

#[test]
fn a_secret_comes_from_another_namespace_and_follows_it() -> Result<()> {
    e2e::test("eskube", async |space| {
        let vault = Space::create(&space.cluster, "vault", &[]).await?;
        let secret = json!({"metadata": {"name": "backup"}, "stringData": {"password": "first"}});
        vault.create_object(&SECRET, secret).await?;
        space.create_object(&SERVICE_ACCOUNT, json!({"metadata": {"name": "reader"}})).await?;
        let rules = json!([
            {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list", "watch"]},
            {"apiGroups": ["authorization.k8s.io"], "resources": ["selfsubjectrulesreviews"], "verbs": ["create"]},
        ]);
        vault.create_object(&e2e::ROLE, json!({"metadata": {"name": "reader"}, "rules": rules})).await?;
        let binding = json!({
            "metadata": {"name": "reader"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
            "subjects": [{"kind": "ServiceAccount", "name": "reader", "namespace": space.name}],
        });
        vault.create_object(&e2e::ROLE_BINDING, binding).await?;
        let authority = |map: &Value| Ok(!map.is_null());
        space.until(&CONFIG_MAP, "kube-root-ca.crt", "exists", authority).await?;
        // The controller may run where names of Services are unknown.
        let service =
            space.cluster.within(&SERVICE, "default").get("kubernetes").await.context("find the API server")?;
        let address = service.data["spec"]["clusterIP"].as_str().context("a Service has an address")?;
        let store = json!({
            "metadata": {"name": "store"},
            "spec": {"provider": {"kubernetes": {
                "remoteNamespace": vault.name,
                "server": {
                    "url": format!("https://{address}"),
                    "caProvider": {"type": "ConfigMap", "name": "kube-root-ca.crt", "key": "ca.crt"},
                },
                "auth": {"serviceAccount": {"name": "reader"}},
            }}},
        });
        space.create_object(&SECRET_STORE, store).await?;
        want(space, "backup", Some("password")).await?;
        holds(space, "Zmlyc3Q=").await?;
        vault.patch(&SECRET, "backup", json!({"stringData": {"password": "second"}})).await?;
        holds(space, "c2Vjb25k").await?;
        let found = space.get(&EXTERNAL_SECRET, "wanted").await?;
        ensure!(found["status"]["conditions"][0]["status"] == "True", "{found:#}");
        vault.delete().await
    })
}
