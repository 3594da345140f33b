use anyhow::{Result, bail, ensure};
use e2e::{
    CLAIM, CONFIG_MAP, Claim, MUTATING_POLICY, MUTATING_POLICY_BINDING, VALIDATING_POLICY, VALIDATING_POLICY_BINDING,
};
use serde_json::json;

#[test]
fn a_policy_gives_labelled_claims_a_source() -> Result<()> {
    e2e::test("mutating", async |space| {
        let name = space.unique("policy");
        let expression = r#"Object{spec: Object.spec{dataSourceRef: Object.spec.dataSourceRef{
            apiGroup: "populate.example.test", kind: "Source", name: object.metadata.name}}}"#;
        let policy = json!({
            "metadata": {"name": name},
            "spec": {
                "matchConstraints": {
                    "resourceRules": [{
                        "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
                        "resources": ["persistentvolumeclaims"],
                    }],
                    "objectSelector": {"matchLabels": {"example.test/space": space.name}},
                },
                "matchConditions": [{
                    "name": "no-source-yet",
                    "expression": "!has(object.spec.dataSourceRef) && !has(object.spec.dataSource)",
                }],
                "failurePolicy": "Fail",
                "reinvocationPolicy": "IfNeeded",
                "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}],
            },
        });
        space.create_object(&MUTATING_POLICY, policy).await?;
        let binding = json!({"metadata": {"name": name}, "spec": {"policyName": name}});
        space.create_object(&MUTATING_POLICY_BINDING, binding).await?;
        // A policy takes effect a moment after it exists.
        let claim = Claim::new("labelled").label("example.test/space", &space.name);
        let claim = space
            .retry("the policy sets a source", async || {
                let made = space.create_object(&CLAIM, claim.clone().build()).await?;
                if made["spec"]["dataSourceRef"]["name"] == "labelled" {
                    return Ok(made);
                }
                space.delete_object(&CLAIM, "labelled").await?;
                space.until_gone(&CLAIM, "labelled").await?;
                bail!("no source")
            })
            .await?;
        ensure!(claim["spec"]["dataSource"]["kind"] == "Source", "the API server copies it: {claim:#}");
        space.delete_object(&MUTATING_POLICY_BINDING, &name).await?;
        space.delete_object(&MUTATING_POLICY, &name).await
    })
}

#[test]
fn a_policy_refuses_a_name() -> Result<()> {
    e2e::test("validating", async |space| {
        let name = space.unique("policy");
        let policy = json!({
            "metadata": {"name": name},
            "spec": {
                "matchConstraints": {
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": space.name}},
                    "resourceRules": [{
                        "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"],
                    }],
                },
                "validations": [{"expression": "!object.metadata.name.startsWith('forbidden')", "message": "not this name"}],
            },
        });
        space.create_object(&VALIDATING_POLICY, policy).await?;
        let binding = json!({"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]}});
        space.create_object(&VALIDATING_POLICY_BINDING, binding).await?;
        let map = || json!({"metadata": {"generateName": "forbidden-"}});
        let refusal = space
            .retry("the policy refuses", async || match space.create_object(&CONFIG_MAP, map()).await {
                Ok(_) => bail!("it was allowed"),
                Err(error) => Ok(format!("{error:#}")),
            })
            .await?;
        ensure!(refusal.contains("not this name"), "{refusal}");
        space.create_object(&CONFIG_MAP, json!({"metadata": {"name": "allowed"}})).await?;
        space.delete_object(&VALIDATING_POLICY_BINDING, &name).await?;
        space.delete_object(&VALIDATING_POLICY, &name).await
    })
}
