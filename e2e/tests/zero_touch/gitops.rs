//! Claims that an engine applies from Git, in the three ways in which those do it: again and again, and after a rebuild.

use anyhow::{Result, ensure};
use e2e::shipped::Shell;
use e2e::{CLAIM, Claim, DESTINATION, Protected, SECRET, SOURCE};
use std::fs;

/// Argo CD as it is, Argo CD with `ServerSideApply=true`, Flux.
const WAYS: [&str; 3] = [
    "kubectl apply",
    "kubectl apply --server-side --force-conflicts --field-manager=argocd-controller",
    "kubectl apply --server-side --force-conflicts --field-manager=kustomize-controller",
];

/// A claim as it stands in Git, with the engine's own label; nothing in it is ours but `backup`.
fn manifest(space: &str, name: &str, value: &str) -> String {
    format!(
        "apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {name}
  namespace: {space}
  labels: {{app.kubernetes.io/instance: app, kustomize.toolkit.fluxcd.io/name: app, backup: {value}}}
spec:
  accessModes: [ReadWriteOnce]
  resources: {{requests: {{storage: 64Mi}}}}
"
    )
}

#[test]
fn what_git_does_not_say_is_no_difference() -> Result<()> {
    e2e::test("gitops", async |space| {
        let protected = Protected::new(space).await?;
        let shell = Shell::new(&space.name)?;
        let directory = tempfile::tempdir()?;
        for (number, way) in WAYS.iter().enumerate() {
            let name = format!("data-{number}");
            let file = directory.path().join(&name);
            let path = file.display();
            fs::write(&file, manifest(&space.name, &name, "hourly"))?;
            shell.says(&format!("{way} -f {path}"), &[])?;
            space.bound(&name).await?;
            protected.write(&name, "echo mine >file").await?;
            protected.back_up(&name, "one").await?;

            // The mark is nobody's difference: neither that of an apply nor that of a diff.
            let version = |claim: &serde_json::Value| claim["metadata"]["resourceVersion"].clone();
            let before = space.get(&CLAIM, &name).await?;
            shell.says(&format!("{way} -f {path}"), &[])?;
            ensure!(version(&space.get(&CLAIM, &name).await?) == version(&before), "the claim was written");
            let diff = way.replace("apply", "diff");
            shell.says(&format!("{diff} -f {path}"), &[])?;

            // What is generated is not the engine's: it neither compares nor prunes it.
            let generated = [
                (SECRET, format!("volsync-{name}")),
                (SOURCE, format!("{name}-backup")),
                (DESTINATION, format!("{name}-backup")),
            ];
            for (kind, generated) in generated {
                let metadata = space.get(&kind, &generated).await?["metadata"].clone();
                let (labels, annotations) = (&metadata["labels"], &metadata["annotations"]);
                let is_tracked = ["app.kubernetes.io/instance", "kustomize.toolkit.fluxcd.io/name"]
                    .iter()
                    .any(|label| labels[label].is_string());
                ensure!(!is_tracked, "{generated}: {labels}");
                ensure!(annotations["argocd.argoproj.io/compare-options"] == "IgnoreExtraneous", "{annotations}");
                ensure!(annotations["kustomize.toolkit.fluxcd.io/prune"] == "disabled", "{annotations}");
            }

            // Git changes, and then the cluster is built again from it.
            fs::write(&file, manifest(&space.name, &name, "daily"))?;
            shell.says(&format!("{way} -f {path}"), &[])?;
            let is_daily = |source: &serde_json::Value| Ok(source["spec"]["trigger"]["schedule"] == "0 2 * * *");
            space.until(&SOURCE, &format!("{name}-backup"), "runs daily", is_daily).await?;
            protected.delete(&name).await?;
            shell.says(&format!("{way} -f {path}"), &[])?;
            space.bound(&name).await?;
            ensure!(protected.read(&name, "file").await? == "mine\n");
        }
        protected.remove().await
    })
}

#[test]
fn what_came_up_empty_is_not_backed_up_and_one_command_puts_the_backup_in_its_place() -> Result<()> {
    e2e::test("replaced", async |space| {
        let protected = Protected::new(space).await?;
        let shell = Shell::new(&space.name)?;
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("claim");
        fs::write(&file, manifest(&space.name, "data", "hourly"))?;
        shell.says(&format!("kubectl apply -f {}", file.display()), &[])?;
        space.bound("data").await?;
        protected.write("data", "echo mine >file").await?;
        protected.back_up("data", "one").await?;
        protected.delete("data").await?;
        // Made without the label, and so without the mark: it is not backed up over what there is.
        space.create_object(&CLAIM, Claim::new("data").build()).await?;
        space.bound("data").await?;
        space.patch(&CLAIM, "data", serde_json::json!({"metadata": {"labels": {"backup": "hourly"}}})).await?;
        let decision = protected.decided("data", "hold").await?;
        let detail = decision["detail"].as_str().unwrap_or_default();
        ensure!(
            decision["reason"] == "BoundWithoutDecision" && detail.contains("kubectl replace --force -f"),
            "{detail}"
        );
        ensure!(space.get(&SOURCE, "data-backup").await?.is_null());
        shell.says(&format!("kubectl replace --force -f {}", file.display()), &[])?;
        space.bound("data").await?;
        ensure!(protected.read("data", "file").await? == "mine\n");
        protected.remove().await
    })
}
