//! What kustomize makes.

use anyhow::{Result, ensure};
use e2e::shipped::{kustomized, title};

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
    let marking: Vec<String> = kustomized("deploy/examples/kubernetes-1.34")?
        .iter()
        .filter(|found| found["metadata"]["name"] == "perennial-mark")
        .map(|found| format!("{} {}", found["apiVersion"], found["kind"]).replace('"', ""))
        .collect();
    let wanted = [
        "admissionregistration.k8s.io/v1beta1 MutatingAdmissionPolicy",
        "admissionregistration.k8s.io/v1beta1 MutatingAdmissionPolicyBinding",
    ];
    ensure!(marking == wanted, "{marking:#?}");
    Ok(())
}
