//! The API server's own word on who asked it what.

use anyhow::{Context, Result, ensure};
use e2e::{CLAIM, CONFIG_MAP, Claim, POD, Pod, ROLE, ROLE_BINDING, Right, SERVICE_ACCOUNT, SNAPSHOT, snapshot};
use futures::StreamExt;
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::json;
use std::collections::BTreeMap;
use std::pin::pin;

fn counts<const N: usize>(expected: [(&str, usize); N]) -> BTreeMap<String, usize> {
    expected.into_iter().map(|(call, count)| (call.to_owned(), count)).collect()
}

fn right(group: &str, resource: &str, verb: &str) -> Right {
    Right { group: group.to_owned(), resource: resource.to_owned(), verb: verb.to_owned() }
}

#[test]
fn each_call_of_a_program_is_counted_once() -> Result<()> {
    e2e::test("counted", async |space| {
        let ours = space.agent(&space.name)?;
        let mark = ours.cluster.mark().await?;
        ours.create_object(&CONFIG_MAP, json!({"metadata": {"name": "map"}})).await?;
        ours.patch(&CONFIG_MAP, "map", json!({"data": {"key": "value"}})).await?;
        ours.get(&CONFIG_MAP, "map").await?;
        ours.get(&CONFIG_MAP, "none").await?;
        ours.create_object(&POD, Pod::idle("pod").build()).await?;
        // A list and a watch, which has ended when the calls are read.
        {
            let maps = watcher::watcher(ours.api(&CONFIG_MAP), watcher::Config::default().fields("metadata.name=map"));
            let mut maps = pin!(maps.applied_objects());
            maps.next().await.context("there is a map")??;
            let change = async { ours.patch(&CONFIG_MAP, "map", json!({"data": {"key": "other"}})).await };
            let (seen, changed) = tokio::join!(maps.next(), change);
            changed?;
            seen.context("there is another map")??;
        }
        space.ready("pod").await?;
        // Where an answer has several parts, and lasts.
        ours.shell("pod", "echo said").await?;
        ours.logs("pod").await?;
        let calls = ours.cluster.calls(mark).await?;
        let found = calls.of_agent(&space.name);
        let expected = [
            ("create configmaps", 1),
            ("create pods", 1),
            ("get configmaps", 1),
            ("get configmaps: 404", 1),
            ("get pods/exec", 1),
            ("get pods/log", 1),
            ("list configmaps", 1),
            ("patch configmaps", 2),
            ("watch configmaps", 1),
        ];
        ensure!(found.tally() == counts(expected), "{:#?}", found.tally());
        let created = found.iter().find(|call| call.verb == "create").context("a call that creates")?;
        ensure!(created.name == "map" && created.code == 201 && created.user == "admin", "{created:#?}");
        ensure!(found.within(&space.name).len() == found.len(), "{found:#?}");
        let later = ours.cluster.mark().await?;
        ensure!(ours.cluster.calls(later).await?.of_agent(&space.name).is_empty());
        Ok(())
    })
}

#[test]
fn rights_that_are_used_are_told_from_those_that_are_missing() -> Result<()> {
    e2e::test("rights", async |space| {
        space.create_object(&SERVICE_ACCOUNT, json!({"metadata": {"name": "tool"}})).await?;
        let rules = json!([
            {"apiGroups": [""], "resources": ["configmaps", "secrets"], "verbs": ["get", "list", "create"]},
            {"apiGroups": [""], "resources": ["serviceaccounts/token"], "verbs": ["create"]},
        ]);
        space.create_object(&ROLE, json!({"metadata": {"name": "tool"}, "rules": rules})).await?;
        let binding = json!({
            "metadata": {"name": "tool"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "tool"},
            "subjects": [{"kind": "ServiceAccount", "name": "tool", "namespace": space.name}],
        });
        space.create_object(&ROLE_BINDING, binding).await?;
        let tool = space.account("tool").await?;
        // Rights take effect a moment after they are given.
        space.retry("the account may list", async || tool.list(&CONFIG_MAP).await).await?;
        let mark = space.cluster.mark().await?;
        tool.list(&CONFIG_MAP).await?;
        tool.create_object(&CONFIG_MAP, json!({"metadata": {"generateName": "made-"}})).await?;
        tool.account("tool").await?;
        ensure!(tool.get(&CLAIM, "any").await.is_err(), "it may not get claims");
        ensure!(tool.list(&SNAPSHOT).await.is_err(), "it may not list snapshots");
        let calls = space.cluster.calls(mark).await?.of_account(&space.name, "tool");
        let used = [
            right("", "configmaps", "create"),
            right("", "configmaps", "list"),
            right("", "serviceaccounts/token", "create"),
        ];
        ensure!(calls.rights() == used.into(), "{:#?}", calls.rights());
        let missing =
            counts([("get persistentvolumeclaims: 403", 1), ("list volumesnapshots.snapshot.storage.k8s.io: 403", 1)]);
        ensure!(calls.refused().tally() == missing, "{:#?}", calls.refused().tally());
        Ok(())
    })
}

#[test]
fn what_the_cluster_does_by_itself_is_left_out() -> Result<()> {
    e2e::test("quiet", async |space| {
        let ours = space.agent(&space.name)?;
        let mark = ours.cluster.mark().await?;
        ours.create_object(&CLAIM, Claim::new("data").build()).await?;
        ours.create_object(&POD, Pod::shell("pod", "touch /data/file").mount("data", "/data").build()).await?;
        ours.succeeded("pod").await?;
        ours.create_object(&SNAPSHOT, snapshot("data", "data", None)).await?;
        ours.snapshot_ready("data").await?;
        let calls = ours.cluster.calls(mark).await?.within(&space.name);
        let others: Vec<_> = calls.iter().filter(|call| call.agent != space.name).collect();
        ensure!(others.is_empty(), "{others:#?}");
        Ok(())
    })
}
