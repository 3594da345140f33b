//! What is kept of a test that has failed.

use anyhow::{Context, Result, ensure};
use e2e::{CLAIM, Claim, POD, Pod, SECRET, Space};
use serde_json::json;
use std::path::Path;

/// Paths below a directory, sorted, and all texts in one.
fn read(directory: &Path) -> Result<(Vec<String>, String)> {
    let (mut names, mut texts) = (Vec::new(), String::new());
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).context("list what was kept")? {
            let path = entry.context("list what was kept")?.path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            texts.push_str(&std::fs::read_to_string(&path).context("read what was kept")?);
            names.push(path.strip_prefix(directory).context("it lies below")?.to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok((names, texts))
}

#[test]
fn what_a_test_leaves_behind_is_kept_without_secrets() -> Result<()> {
    e2e::test("kept", async |space| {
        let other = Space::create(&space.cluster, "beside", &[]).await?;
        let secret = json!({"metadata": {"name": "password"}, "stringData": {"key": "correct horse"}});
        other.create_object(&SECRET, secret).await?;
        space.create_object(&CLAIM, Claim::new("data").build()).await?;
        let volume = space.bound("data").await?["spec"]["volumeName"].as_str().unwrap_or_default().to_owned();
        // It fails once, and is started again.
        let script = "echo run of $(cat /data/file 2>&1); [ -e /data/file ] && exec tail -f /dev/null; echo 2 >/data/file; exit 1";
        let pod = Pod::shell("twice", script).mount("data", "/data").with("restartPolicy", json!("OnFailure"));
        space.create_object(&POD, pod.build()).await?;
        let restarted = |pod: &serde_json::Value| {
            let status = &pod["status"]["containerStatuses"][0];
            Ok(status["restartCount"] == 1 && status["state"]["running"].is_object())
        };
        space.until(&POD, "twice", "runs again", restarted).await?;
        space
            .retry("it says so", async || {
                let said = space.logs("twice").await?;
                ensure!(said == "run of 2\n", "{said}");
                Ok(())
            })
            .await?;

        let directory = tempfile::tempdir()?;
        e2e::report::remains(space).await.keep(directory.path())?;
        let (names, texts) = read(directory.path())?;
        let ours = |name: &str| format!("{}/{name}", space.name);
        for wanted in [
            ours("Pod twice.json"),
            ours("PersistentVolumeClaim data.json"),
            ours("twice.main.log"),
            ours("twice.main.previous.log"),
            format!("{}/Secret password.json", other.name),
            format!("cluster/PersistentVolume {volume}.json"),
            format!("cluster/Namespace {}.json", space.name),
            "events.txt".to_owned(),
        ] {
            ensure!(names.contains(&wanted), "{wanted} is missing: {names:#?}");
        }
        // A kubelet that has much to do may have thrown the log of the earlier run away, and says so.
        let earlier = std::fs::read_to_string(directory.path().join(ours("twice.main.previous.log")))?;
        ensure!(earlier.contains("No such file") || earlier.contains("unable to retrieve container logs"), "{earlier}");
        ensure!(std::fs::read_to_string(directory.path().join("events.txt"))?.contains("Pod twice Started"));
        ensure!(std::fs::read_to_string(directory.path().join("missing.txt"))?.is_empty());
        for secret in ["correct horse", "Y29ycmVjdCBob3JzZQ"] {
            ensure!(!texts.contains(secret), "a secret was written");
        }
        ensure!(!names.iter().any(|name| name.contains("kube-system")), "{names:#?}");
        other.delete().await
    })
}
