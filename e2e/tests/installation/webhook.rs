//! Where the API server has no MutatingAdmissionPolicy: the operator marks claims as a webhook.

use anyhow::{Result, ensure};
use e2e::shipped::Shell;
use e2e::{CLAIM, Claim, MUTATING_WEBHOOK, Protected, SECRET, Space, labelled, scale_operator};
use serde_json::{Value, json};

const CONFIGURATION: &str = "perennial-mark";

/// Waits until the API server trusts another certificate than before; answers what it trusts.
async fn trusts_anew(space: &Space, before: &Value) -> Result<Value> {
    let anew = |found: &Value| {
        let bundle = &found["webhooks"][0]["clientConfig"]["caBundle"];
        Ok(bundle.is_string() && bundle != before)
    };
    let found = space.until(&MUTATING_WEBHOOK, CONFIGURATION, "trusts another certificate", anew).await?;
    Ok(found["webhooks"][0]["clientConfig"]["caBundle"].clone())
}

/// Creates a labelled claim as soon as the webhook answers, and looks that it is marked.
async fn marked(space: &Space, name: &str) -> Result<()> {
    space
        .retry("a labelled claim is taken", async || {
            space.create_object(&CLAIM, labelled(name).build()).await.map(drop)
        })
        .await?;
    let claim = space.get(&CLAIM, name).await?;
    ensure!(claim["spec"]["dataSourceRef"]["name"] == format!("{name}-backup"), "{}", claim["spec"]);
    Ok(())
}

#[test]
fn claims_are_marked_by_a_webhook_that_stands_in_nobody_elses_way() -> Result<()> {
    e2e::test("webhook", async |space| {
        let shell = Shell::new(&space.name)?;
        shell.says("kubectl delete mutatingadmissionpolicybinding perennial-mark --wait=true", &["deleted"])?;
        shell.says("kubectl delete mutatingadmissionpolicy perennial-mark --wait=true", &["deleted"])?;
        shell.says(
            "kubectl apply --server-side --force-conflicts -k deploy/kustomize/webhook",
            &["perennial-webhook"],
        )?;
        let trusted = trusts_anew(space, &Value::Null).await?;
        scale_operator(&space.cluster, 2).await?;

        let protected = Protected::new(space).await?;
        marked(space, "data").await?;
        space.bound("data").await?;
        protected.write("data", "echo mine >file").await?;
        protected.back_up("data", "one").await?;
        protected.delete("data").await?;
        marked(space, "data").await?;
        space.bound("data").await?;
        ensure!(protected.read("data", "file").await? == "mine\n");
        space.create_object(&CLAIM, Claim::new("plain").build()).await?;
        ensure!(space.bound("plain").await?["spec"]["dataSourceRef"].is_null());
        space.create_object(&CLAIM, labelled("copy").from_claim("data").build()).await?;
        ensure!(space.get(&CLAIM, "copy").await?["spec"]["dataSourceRef"]["kind"] == "PersistentVolumeClaim");

        // A certificate that is about to end is replaced, and the API server follows.
        let system = Space { cluster: space.cluster.clone(), name: "volsync-system".to_owned() };
        let soon = json!({"metadata": {"annotations": {"perennial.dev/ends": "2020-01-01T00:00:00Z"}}});
        system.patch(&SECRET, "perennial-webhook", soon).await?;
        trusts_anew(space, &trusted).await?;
        marked(space, "renewed").await?;

        // Nobody answers: what is not protected goes on as usual, and what is protected is refused, not empty.
        scale_operator(&space.cluster, 0).await?;
        space.create_object(&CLAIM, Claim::new("alone").build()).await?;
        space.bound("alone").await?;
        let refused = space.create_object(&CLAIM, labelled("refused").build()).await;
        let said = refused.map(drop).map_err(|error| format!("{error:#}"));
        ensure!(said.as_ref().is_err_and(|said| said.contains("mark.perennial.dev")), "{said:?}");
        space.delete_object(&CLAIM, "plain").await?;
        space.delete_object(&CLAIM, "renewed").await?;
        space.until_gone(&CLAIM, "plain").await?;
        space.until_gone(&CLAIM, "renewed").await?;
        // One command takes it out of the way.
        shell.says("kubectl delete mutatingwebhookconfiguration perennial-mark", &["deleted"])?;
        space.create_object(&CLAIM, labelled("missed").build()).await?;
        space.bound("missed").await?;

        // As it was before.
        shell.says("kubectl delete -k deploy/kustomize/webhook --ignore-not-found --wait=true", &["deleted"])?;
        shell.says("kubectl apply --server-side --force-conflicts -k deploy/kustomize/base", &["perennial"])?;
        scale_operator(&space.cluster, 2).await?;
        protected.decided("missed", "kept").await?;
        protected.remove().await
    })
}
