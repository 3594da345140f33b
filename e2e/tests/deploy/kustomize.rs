//! What kustomize makes.

use anyhow::{Result, ensure};
use e2e::shipped::{kustomized, title};
use serde_json::Value;

#[test]
fn all_objects_come_with_the_operators_wave() -> Result<()> {
    for object in kustomized("deploy/kustomize/base")? {
        // Whoever deletes the installation keeps what else is in its namespace.
        ensure!(object["kind"] != "Namespace");
        let wave = &object["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"];
        ensure!(*wave == "2", "{}: {wave}", title(&object));
    }
    Ok(())
}

#[test]
fn a_component_makes_the_marking_fit_an_older_api_server() -> Result<()> {
    let made = kustomized("deploy/examples/kubernetes-1.34")?;
    let is_marking = |found: &&Value| found["metadata"]["name"].as_str().is_some_and(|name| name.contains("mark"));
    let marking: Vec<&Value> = made.iter().filter(is_marking).collect();
    ensure!(marking.len() == 4, "{marking:#?}");
    for found in marking {
        ensure!(found["apiVersion"] == "admissionregistration.k8s.io/v1beta1", "{}", title(found));
    }
    Ok(())
}
