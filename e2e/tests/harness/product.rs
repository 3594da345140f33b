//! The product's image, with its own program and other people's as the judges of what comes back.

use anyhow::{Result, ensure};
use e2e::s3::{ACCESS_KEY, S3, SECRET_KEY};
use e2e::{CLAIM, Claim, POD, PRODUCT_IMAGE, Pod, SECRET, Space, same_trees};
use serde_json::json;

/// A pod that runs the product with those arguments, as root: it reads and makes files of anybody.
fn perennial(name: &str, arguments: &[&str]) -> Pod {
    let command: Vec<&str> = std::iter::once("/perennial").chain(arguments.iter().copied()).collect();
    Pod::command(name, PRODUCT_IMAGE, &command)
        .with_container("envFrom", json!([{"secretRef": {"name": "repository"}}]))
        .with_container("securityContext", json!({"runAsUser": 0, "runAsGroup": 0}))
}

async fn run(space: &Space, pod: Pod, name: &str) -> Result<String> {
    space.create_object(&POD, pod.build()).await?;
    space.succeeded(name).await
}

#[test]
fn what_is_backed_up_to_a_bucket_comes_back_with_all_attributes() -> Result<()> {
    e2e::test("product", async |space| {
        let server = S3::start(&space.cluster).await?;
        let secret = json!({"metadata": {"name": "repository"}, "stringData": {
            "PERENNIAL_STORE": server.store("data/"), "PERENNIAL_PASSWORD": "correct horse",
            "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        }});
        space.create_object(&SECRET, secret).await?;
        for claim in ["data", "restored"] {
            space.create_object(&CLAIM, Claim::new(claim).build()).await?;
        }
        space.fill_tree("data").await?;
        run(space, perennial("create", &["repository", "create"]), "create").await?;
        let source = "data@space:/data";
        let backup = perennial("backup", &["backup", "/data/a", "--as", source]).mount_read_only("data", "/data");
        run(space, backup, "backup").await?;
        let restore = ["restore", "latest", "/restored/a", "--source", source];
        run(space, perennial("restore", &restore).mount("restored", "/restored"), "restore").await?;
        let diff = ["diff", "latest", "/restored/a", "--source", source, "--exit-code", "--read-all"];
        let judge = perennial("judge", &diff).mount_read_only("restored", "/restored");
        let said = run(space, judge, "judge").await?;
        ensure!(!said.contains("secret"), "{said}");
        same_trees(&space.tree("data", "a").await?, &space.tree("restored", "a").await?)?;
        // The judge sees what it should: one changed mode is told.
        let change = Pod::shell("change", "chmod 644 /restored/a/b/secret").mount("restored", "/restored");
        run(space, change, "change").await?;
        let diff = ["diff", "latest", "/restored/a", "--source", source];
        let said = run(space, perennial("again", &diff).mount_read_only("restored", "/restored"), "again").await?;
        ensure!(said.contains("b/secret"), "{said}");
        Ok(())
    })
}

#[test]
fn the_image_runs_as_an_ordinary_user_where_only_those_may() -> Result<()> {
    e2e::test("plain", async |space| {
        let strict =
            Space::create(&space.cluster, "image", &[("pod-security.kubernetes.io/enforce", "restricted")]).await?;
        let pod = Pod::command("version", PRODUCT_IMAGE, &["/perennial", "--version"])
            .with("securityContext", json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}}))
            .with_container(
                "securityContext",
                json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}}),
            );
        let said = run(&strict, pod, "version").await?;
        ensure!(said.starts_with("perennial "), "{said}");
        strict.delete().await
    })
}
