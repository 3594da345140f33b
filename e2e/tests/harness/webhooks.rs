use anyhow::{Context, Result, ensure};
use e2e::webhook::{Identity, MARK, serve};
use e2e::{CONFIG_MAP, MUTATING_WEBHOOK, POD, Pod, SERVICE, Space, WEBHOOK_IMAGE};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// Has the API server ask that webhook about every new ConfigMap of the namespace.
async fn configure(space: &Space, client: Value) -> Result<String> {
    let name = space.unique("webhook");
    let webhook = json!({
        "metadata": {"name": name},
        "webhooks": [{
            "name": "mark.example.test",
            "clientConfig": client,
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": space.name}},
            "rules": [{
                "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"],
            }],
            "failurePolicy": "Fail",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "timeoutSeconds": 5,
        }],
    });
    space.create_object(&MUTATING_WEBHOOK, webhook).await?;
    Ok(name)
}

/// Waits until a new ConfigMap gets that mark: a webhook takes effect a moment after it exists.
async fn marked(space: &Space, mark: &str) -> Result<()> {
    space
        .retry("the webhook marks", async || {
            let made = space.create_object(&CONFIG_MAP, json!({"metadata": {"generateName": "marked-"}})).await?;
            let found = &made["metadata"]["annotations"][MARK];
            ensure!(found == mark, "the mark is {found}");
            Ok(())
        })
        .await
}

#[test]
fn a_webhook_in_a_pod_is_asked_through_its_service() -> Result<()> {
    e2e::test("hookpod", async |space| {
        let identity = Identity::new(&format!("webhook.{}.svc", space.name))?;
        let pod = Pod::command("webhook", WEBHOOK_IMAGE, &["/webhook"])
            .label("app", "webhook")
            .with_container("readinessProbe", json!({"tcpSocket": {"port": 8443}, "periodSeconds": 1}))
            .with_container(
                "env",
                json!([
                    {"name": "TLS_CERTIFICATE", "value": identity.certificate},
                    {"name": "TLS_KEY", "value": identity.key},
                ]),
            );
        space.create_object(&POD, pod.build()).await?;
        let service = json!({
            "metadata": {"name": "webhook"},
            "spec": {"selector": {"app": "webhook"}, "ports": [{"port": 443, "targetPort": 8443}]},
        });
        space.create_object(&SERVICE, service).await?;
        space.ready("webhook").await?;
        let reference = json!({"service": {"namespace": space.name, "name": "webhook"}, "caBundle": identity.bundle()});
        let name = configure(space, reference).await?;
        marked(space, "pod").await?;
        space.delete_object(&MUTATING_WEBHOOK, &name).await
    })
}

#[test]
fn a_webhook_of_the_test_is_asked_by_its_address_and_missed_at_once() -> Result<()> {
    e2e::test("hookhost", async |space| {
        let host = space.cluster.host()?;
        let identity = Identity::new(&host)?;
        let listener = TcpListener::bind((host.as_str(), 0)).await.with_context(|| format!("listen on {host}"))?;
        let port = listener.local_addr().context("ask for our address")?.port();
        let bundle = identity.bundle();
        let server = tokio::spawn(async move { serve(listener, &identity, "host").await });
        let url = format!("https://{host}:{port}/");
        let name = configure(space, json!({"url": url, "caBundle": bundle})).await?;
        marked(space, "host").await?;
        server.abort();
        let _cancelled = server.await;
        let refused = async || {
            let map = json!({"metadata": {"generateName": "refused-"}});
            ensure!(space.create_object(&CONFIG_MAP, map).await.is_err(), "it was allowed");
            Ok(())
        };
        space.retry("without its webhook nothing is made", refused).await?;
        space.delete_object(&MUTATING_WEBHOOK, &name).await
    })
}
