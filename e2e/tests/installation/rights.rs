//! The operator's rights: everything it asks for is permitted, and everything that is permitted is used.

use anyhow::{Result, ensure};
use e2e::{
    CLAIM, CLUSTER_ROLE, CLUSTER_SECRET_STORE, Call, LEASE, PASSWORD, Protected, ROLE, SOURCE, Space, s3,
    scale_operator,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const SYSTEM: &str = "volsync-system";
const ACCOUNT: &str = "perennial";

/// What no test uses, and why it is granted all the same.
const UNSEEN: [(&str, &str); 4] = [
    ("update volsync.backube replicationsources/finalizers", "asked by an admission plugin that this API server lacks"),
    (
        "get snapshot.storage.k8s.io volumesnapshots",
        "for claims that are filled from an image: zero_touch::destinations",
    ),
    ("patch snapshot.storage.k8s.io volumesnapshots", "for an image that somebody keeps: zero_touch::destinations"),
    ("patch events.k8s.io events", "only an event that comes again within minutes is patched, which need not happen"),
];

/// What a role grants, or a call uses, as `VERB GROUP RESOURCE`.
fn line(verb: &str, group: &str, resource: &str) -> String {
    format!("{verb} {} {resource}", if group.is_empty() { "core" } else { group })
}

/// Everything that a role grants.
fn granted(role: &Value) -> BTreeSet<String> {
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut lines = BTreeSet::new();
    for rule in role["rules"].as_array().into_iter().flatten() {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                lines.extend(texts(&rule["verbs"]).iter().map(|verb| line(verb, &group, &resource)));
            }
        }
    }
    lines
}

/// What a call uses. Whoever applies what is not there yet creates it.
fn used(call: &Call) -> Vec<String> {
    let Some(right) = call.right() else { return Vec::new() };
    let created = call.verb == "patch" && call.code == 201;
    let verbs = std::iter::once(right.verb.as_str()).chain(created.then_some("create"));
    verbs.map(|verb| line(verb, &right.group, &right.resource)).collect()
}

/// A claim's whole life: empty, backed up, restored, no longer asked for.
async fn life(protected: &Protected<'_>) -> Result<()> {
    let space = protected.space;
    protected.claim("data").await?;
    space.bound("data").await?;
    protected.write("data", "echo mine >file").await?;
    protected.back_up("data", "one").await?;
    protected.cleared_up("data").await?;
    protected.delete("data").await?;
    protected.claim("data").await?;
    protected.decided("data", "restore").await?;
    space.bound("data").await?;
    ensure!(protected.read("data", "file").await? == "mine\n");
    protected.cleared_up("data").await?;
    space.patch(&CLAIM, "data", json!({"metadata": {"labels": {"backup": null}}})).await?;
    space.until_gone(&SOURCE, "data-backup").await
}

#[test]
fn the_operator_uses_all_of_its_rights_and_needs_no_other() -> Result<()> {
    e2e::test("rights", async |space| {
        let system = Space { cluster: space.cluster.clone(), name: SYSTEM.to_owned() };
        // From its first call on, and with nobody having led before.
        e2e::forget_everything(&space.cluster).await?;
        system.delete_object(&LEASE, "b95b3104.backube").await?;
        let mark = space.cluster.mark().await?;
        scale_operator(&space.cluster, 2).await?;
        let protected = Protected::new(space).await?;
        life(&protected).await?;
        protected.remove().await?;
        // Once more, with credentials from a secret store.
        let other = Space::create(&space.cluster, "rights-store", &[]).await?;
        let record = json!({
            "KOPIA_PASSWORD": PASSWORD, "KOPIA_S3_ACCESS_KEY_ID": s3::ACCESS_KEY, "KOPIA_S3_SECRET_ACCESS_KEY": s3::SECRET_KEY,
        });
        let store = json!({
            "metadata": {"name": other.name},
            "spec": {"provider": {"fake": {"data": [{"key": "record", "value": record.to_string()}]}}},
        });
        other.create_object(&CLUSTER_SECRET_STORE, store).await?;
        let credentials = json!({"credentials": {"secretRef": null, "externalSecret": {
            "store": {"name": other.name, "kind": "ClusterSecretStore"},
            "fetch": {"record": {"key": "record"}}, "refreshInterval": "1m",
        }}});
        let protected = Protected::with(&other, credentials, json!({})).await?;
        life(&protected).await?;
        protected.remove().await?;
        other.delete_object(&CLUSTER_SECRET_STORE, &other.name).await?;
        other.delete().await?;

        let calls = space.cluster.calls(mark).await?.of_account(SYSTEM, ACCOUNT);
        ensure!(calls.refused().is_empty(), "not permitted: {:#?}", calls.refused().tally());
        let mut grants = granted(&space.get(&CLUSTER_ROLE, ACCOUNT).await?);
        grants.extend(granted(&system.get(&ROLE, ACCOUNT).await?));
        let seen: BTreeSet<String> = calls.iter().flat_map(used).collect();
        let missing: Vec<&String> = seen.difference(&grants).collect();
        ensure!(missing.is_empty(), "used and not in the list: {missing:#?}");
        let unseen: BTreeSet<&str> = UNSEEN.iter().map(|(right, _)| *right).collect();
        let idle: Vec<&String> = grants.difference(&seen).filter(|right| !unseen.contains(right.as_str())).collect();
        ensure!(idle.is_empty(), "granted and never used: {idle:#?}");
        let gone: Vec<&&str> = unseen.iter().filter(|right| !grants.contains(**right)).collect();
        ensure!(gone.is_empty(), "excused and not granted any more: {gone:#?}");
        Ok(())
    })
}
