//! The commands that people have learnt, as they type them.

use anyhow::{Context, Result, ensure};
use e2e::shipped::Shell;
use e2e::{CLAIM, POD, Pod, Protected, SOURCE, Space};
use serde_json::{Value, json};

/// What a pod in the installation's namespace gets for an address.
async fn fetch(system: &Space, url: &str) -> Result<Value> {
    let mut pod = Pod::command("", e2e::BUSYBOX, &["wget", "-q", "-O", "-", url])
        .with(
            "securityContext",
            json!({"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}),
        )
        .with_container(
            "securityContext",
            json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}),
        )
        .build();
    pod["metadata"] = json!({"generateName": "curl-"});
    let made = system.create_object(&POD, pod).await?;
    let name = made["metadata"]["name"].as_str().context("a pod has a name")?;
    let said = system.succeeded(name).await?;
    system.delete_object(&POD, name).await?;
    serde_json::from_str(&said).with_context(|| format!("{url} says {said}"))
}

#[test]
fn commands_that_people_know_answer() -> Result<()> {
    e2e::test("commands", async |space| {
        let shell = Shell::new(&space.name)?;
        let system = Space { cluster: space.cluster.clone(), name: "volsync-system".to_owned() };
        // The repository `default` of an earlier test was another one.
        e2e::forget_everything(&space.cluster).await?;
        e2e::scale_operator(&space.cluster, 2).await?;
        let mut protected = Protected::by_default(space).await?;
        protected.claim("data").await?;
        space.bound("data").await?;
        protected.write("data", "echo mine >file").await?;

        // Before the first backup could be made, and after it.
        let exists =
            |claim: &str| format!("http://pvc-plumber.volsync-system.svc.cluster.local/exists/{}/{claim}", space.name);
        protected.back_up("data", "one").await?;
        let answer = fetch(&system, &exists("data")).await?;
        ensure!(answer["exists"] == true && answer["keyCount"].as_u64() >= Some(1), "{answer}");
        let answer = fetch(&system, &exists("other")).await?;
        ensure!(answer["exists"] == false, "{answer}");

        // What there is.
        shell.says("kubectl get replicationdestination -n $NS", &["data-backup"])?;
        shell.says("kubectl get replicationsource -n $NS", &["data-backup", "data"])?;
        shell.says("kubectl get replicationsource -A", &[&space.name, "data-backup"])?;
        shell.says(
            "kubectl get replicationsource,replicationdestination -A",
            &["replicationsource.volsync.backube/data-backup"],
        )?;
        shell.says(
            "kubectl get replicationsource data-backup -n $NS -o yaml",
            &["lastSyncTime:", "result: Successful"],
        )?;
        shell.says(
            "kubectl describe replicationsource data-backup -n $NS",
            &[
                "Last Sync Time:",
                "Last Sync Duration:",
                "Next Sync Time:",
                "Conditions:",
                "Result:",
                "Successful",
                "Logs:",
            ],
        )?;
        shell.says("kubectl get externalsecret -n $NS", &[])?;
        shell.says("kubectl get secret -n $NS | grep volsync", &["volsync-data"])?;
        shell.says("kubectl get mutatingadmissionpolicy", &["perennial-mark"])?;
        shell.says("kubectl get mutatingadmissionpolicybinding", &["perennial-mark"])?;
        // One line for each decision: namespace, claim, decision, reason, duration.
        let log = shell.says("kubectl logs -n volsync-system -l app.kubernetes.io/name=pvc-plumber --tail=-1", &[])?;
        let line =
            log.lines().find(|line| line.contains("fresh") && line.contains(&space.name) && line.contains("data"));
        ensure!(line.is_some(), "no decision about the claim: {log}");

        // Movers, while one runs: its storage is down, so that it does not end at once.
        protected.server.stop()?;
        space.patch(&SOURCE, "data-backup", json!({"spec": {"trigger": {"manual": "two"}}})).await?;
        space
            .retry("a mover is seen", async || {
                shell.says("kubectl get pods -n $NS | grep volsync", &["volsync-src-data-backup"])
            })
            .await?;
        space
            .retry("a mover's log is seen", async || {
                let said = shell.says("kubectl logs -n $NS -l volsync.backube/owner=data-backup", &[])?;
                ensure!(!said.trim().is_empty(), "nothing");
                Ok(())
            })
            .await?;

        // A claim that is stuck Pending says why in three places.
        protected.claim("stuck").await?;
        protected.held("stuck", "RepositoryUnreachable").await?;
        space
            .retry("the destination says it", async || {
                shell.says("kubectl get replicationdestination stuck-backup -n $NS -o yaml", &["RepositoryUnreachable"])
            })
            .await?;
        shell.says("kubectl describe pvc stuck -n $NS", &["RepositoryUnreachable"])?;
        let log = shell.says("kubectl logs -n volsync-system -l app.kubernetes.io/name=pvc-plumber --tail=-1", &[])?;
        ensure!(log.lines().any(|line| line.contains("stuck") && line.contains("RepositoryUnreachable")), "{log}");
        protected.server.start_again().await?;
        space.bound("stuck").await?;
        space
            .until(&SOURCE, "data-backup", "is backed up", |source| Ok(source["status"]["lastManualSync"] == "two"))
            .await?;

        // And deletion is nobody's to block.
        shell.says("kubectl delete pvc data stuck -n $NS", &["deleted"])?;
        space.until_gone(&CLAIM, "data").await?;
        protected.remove().await
    })
}
