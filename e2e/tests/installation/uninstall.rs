//! The product goes and comes back: nothing of anybody's is lost, nobody is blocked.

use anyhow::{Context, Result, ensure};
use e2e::shipped::{CHART, Shell, Tool};
use e2e::{
    CLAIM, Claim, DEFINITION, POD, Pod, Protected, REPOSITORY, SECRET, SOURCE, Space, VOLUME, labelled, scale_operator,
};
use serde_json::Value;

/// Waits until a claim that was made while nobody was there is bound, and looks that nobody has marked it.
async fn binds_alone(space: &Space, claim: Claim, name: &str) -> Result<()> {
    space.create_object(&CLAIM, claim.build()).await?;
    let claim = space.bound(name).await?;
    ensure!(claim["spec"]["dataSourceRef"].is_null(), "{name} was marked: {}", claim["spec"]);
    Ok(())
}

/// What belongs to users, as it is now.
async fn belongings(space: &Space) -> Result<Vec<(String, Value)>> {
    let mut found = Vec::new();
    for name in ["data", "waiting"] {
        let claim = space.get(&CLAIM, name).await?;
        found.push((format!("claim {name}"), claim["metadata"]["uid"].clone()));
        if let Some(volume) = claim["spec"]["volumeName"].as_str() {
            found.push((format!("volume of {name}"), space.get(&VOLUME, volume).await?["metadata"]["uid"].clone()));
        }
    }
    let system = Space { cluster: space.cluster.clone(), name: "volsync-system".to_owned() };
    let secret = system.get(&SECRET, &format!("repository-{}", space.name)).await?;
    found.push(("the repository's Secret".to_owned(), secret["metadata"]["uid"].clone()));
    found.push(("the repository".to_owned(), space.get(&REPOSITORY, "default").await?["metadata"]["uid"].clone()));
    found.push(("the source".to_owned(), space.get(&SOURCE, "data-backup").await?["metadata"]["uid"].clone()));
    for name in ["replicationsources.volsync.backube", "backuprepositories.perennial.dev"] {
        found.push((name.to_owned(), space.get(&DEFINITION, name).await?["metadata"]["uid"].clone()));
    }
    let missing: Vec<&str> = found.iter().filter(|(_, uid)| uid.is_null()).map(|(what, _)| what.as_str()).collect();
    ensure!(missing.is_empty(), "gone: {}", missing.join(", "));
    Ok(found)
}

async fn nobody_runs(space: &Space) -> Result<()> {
    let system = Space { cluster: space.cluster.clone(), name: "volsync-system".to_owned() };
    space
        .retry("no operator runs", async || {
            let pods = system.list(&POD).await?;
            let left = pods.iter().filter(|pod| pod["metadata"]["labels"]["app.kubernetes.io/component"] == "operator");
            ensure!(left.count() == 0);
            Ok(())
        })
        .await
}

/// What must hold while nothing is installed.
async fn away(space: &Space, protected: &Protected<'_>, before: &[(String, Value)], round: &str) -> Result<()> {
    nobody_runs(space).await?;
    ensure!(belongings(space).await? == before, "what belongs to users has changed");
    ensure!(protected.read("data", "file").await? == "mine\n");
    binds_alone(space, Claim::new(&format!("plain-{round}")), &format!("plain-{round}")).await?;
    let name = format!("meanwhile-{round}");
    binds_alone(space, labelled(&name), &name).await?;
    ensure!(space.get(&CLAIM, "waiting").await?["status"]["phase"] == "Pending", "it was handed out");
    // Nothing holds what is deleted.
    let gone = format!("gone-{round}");
    space.create_object(&CLAIM, labelled(&gone).build()).await?;
    space.bound(&gone).await?;
    space.delete_object(&CLAIM, &gone).await?;
    space.until_gone(&CLAIM, &gone).await
}

#[test]
fn it_goes_without_a_trace_in_anybodys_data_and_picks_everything_up_again() -> Result<()> {
    e2e::test("uninstall", async |space| {
        let shell = Shell::new(&space.name)?;
        // The repository `default` of an earlier test was another one.
        e2e::forget_everything(&space.cluster).await?;
        scale_operator(&space.cluster, 2).await?;
        let mut protected = Protected::by_default(space).await?;
        protected.claim("data").await?;
        space.bound("data").await?;
        protected.write("data", "echo mine >file").await?;
        protected.back_up("data", "one").await?;
        protected.server.stop()?;
        protected.claim("waiting").await?;
        protected.held("waiting", "RepositoryUnreachable").await?;
        let before = belongings(space).await?;
        shell.says("kubectl delete -k deploy/kustomize/base --wait=true", &["deleted"])?;
        away(space, &protected, &before, "kustomize").await?;

        // Back, by the chart.
        protected.server.start_again().await?;
        let notes = Tool::Helm.run(&[
            "install",
            "perennial",
            CHART,
            "--namespace",
            "volsync-system",
            "--set",
            "image.tag=test",
            "--wait",
            "--timeout",
            "5m",
        ])?;
        ensure!(notes.contains("dirs-late") && notes.contains("stay Pending until a pod wants them"), "{notes}");
        space.bound("waiting").await?;
        protected.decided("waiting", "fresh").await?;
        protected.back_up("data", "two").await?;
        // What came up alone while nobody was there is backed up from now on: there is no backup that it should have held.
        protected.decided("meanwhile-kustomize", "kept").await?;
        protected.idle("meanwhile-kustomize").await?;

        // And gone once more, as Helm does it.
        protected.server.stop()?;
        let pod = Pod::idle("user").mount("data", "/data").build();
        space.create_object(&POD, pod).await?;
        space.ready("user").await?;
        Tool::Helm.run(&["uninstall", "perennial", "--namespace", "volsync-system", "--wait"])?;
        nobody_runs(space).await?;
        belongings(space).await.context("after helm uninstall")?;
        space.shell("user", "echo more >>/data/file").await?;
        binds_alone(space, labelled("meanwhile-helm"), "meanwhile-helm").await?;

        // Back as it was.
        protected.server.start_again().await?;
        shell.says("kubectl apply --server-side --force-conflicts -k deploy/kustomize/base", &["perennial"])?;
        scale_operator(&space.cluster, 2).await?;
        protected.back_up("data", "three").await?;
        space.delete_object(&POD, "user").await?;
        protected.delete("data").await?;
        protected.claim("data").await?;
        space.bound("data").await?;
        ensure!(protected.read("data", "file").await? == "mine\nmore\n");
        protected.remove().await
    })
}

#[test]
fn the_api_server_takes_what_the_chart_makes() -> Result<()> {
    let repository = r#"repository={"spec":{"format":"kopia","store":{"s3":{"endpoint":"http://s3:9000","bucket":"backups"}},"credentials":{"secretRef":{"name":"r"}}}}"#;
    let text = Tool::Helm.run(&[
        "template",
        "perennial",
        CHART,
        "--namespace",
        "volsync-system",
        "--include-crds",
        "--kube-version",
        "1.36.0",
        "--set",
        "excludedNamespaces={lab}",
        "--set-json",
        repository,
        "--set-json",
        r#"networkPolicy={"metricsFrom":[{"namespaceSelector":{}}],"catalogsFrom":[{"podSelector":{}}]}"#,
    ])?;
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("chart.yaml");
    std::fs::write(&path, text)?;
    let path = path.display().to_string();
    let said =
        Tool::Kubectl.run(&["apply", "--server-side", "--force-conflicts", "--dry-run=server", "--filename", &path])?;
    ensure!(said.contains("backuprepository.perennial.dev/default serverside-applied (server dry run)"), "{said}");
    Ok(())
}
