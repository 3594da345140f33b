//! The chart: what it makes is what kustomize makes, and values that mean nothing are refused.

use anyhow::{Context, Result, ensure};
use e2e::shipped::{CHART, Tool, chart, checkout, kustomized, title};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Labels that tell what a chart has made.
const CHART_LABELS: [&str; 3] = ["helm.sh/chart", "app.kubernetes.io/instance", "app.kubernetes.io/version"];

/// The base's image, and everything that may be switched on.
const ALL: [&str; 6] = ["--set", "image.tag=test", "--set", "monitors.enabled=true", "--set", "alerts.enabled=true"];

fn by_title(objects: Vec<Value>) -> BTreeMap<String, Value> {
    objects.into_iter().map(|object| (title(&object), object)).collect()
}

/// Kinds of the whole cluster that kustomize does not know, and gives a namespace like any other.
const OF_THE_CLUSTER: [&str; 3] = ["BackupPolicy", "MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"];

/// An object without the labels of a chart, and without what kustomize adds.
fn bare(mut object: Value) -> Value {
    if OF_THE_CLUSTER.iter().any(|kind| object["kind"] == *kind) {
        object["metadata"].as_object_mut().into_iter().for_each(|metadata| drop(metadata.remove("namespace")));
    }
    let Some(labels) = object.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) else { return object };
    labels.retain(|key, value| {
        !CHART_LABELS.contains(&key.as_str()) && (key != "app.kubernetes.io/managed-by" || value != "Helm")
    });
    if labels.is_empty() {
        object["metadata"].as_object_mut().into_iter().for_each(|metadata| drop(metadata.remove("labels")));
    }
    object
}

fn find(objects: &[Value], kind: &str, name: &str) -> Result<Value> {
    let found = objects.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    found.cloned().with_context(|| format!("a {kind} {name}"))
}

#[test]
fn it_passes_lint() -> Result<()> {
    let said = Tool::Helm.run(&["lint", "--strict", CHART, "--kube-version", "1.36.0"])?;
    ensure!(said.contains("0 chart(s) failed"), "{said}");
    Ok(())
}

#[test]
fn it_makes_what_kustomize_makes() -> Result<()> {
    same(chart(&ALL)?, kustomized("deploy/examples/monitored")?)
}

/// Both are the same objects, up to the labels of a chart.
fn same(made: Vec<Value>, wanted: Vec<Value>) -> Result<()> {
    let made = by_title(made.into_iter().map(bare).collect());
    let wanted = by_title(wanted.into_iter().map(bare).collect());
    ensure!(made.keys().eq(wanted.keys()), "{:#?}\n{:#?}", made.keys(), wanted.keys());
    for (title, object) in made {
        ensure!(wanted[&title] == object, "{title}:\nkustomize {:#}\nhelm {object:#}", wanted[&title]);
    }
    Ok(())
}

#[test]
fn its_definitions_are_the_shipped_ones() -> Result<()> {
    let own = checkout().join(CHART).join("crds");
    let shipped = checkout().join("deploy/crds");
    let names = |directory: &std::path::Path| -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    };
    ensure!(names(&own)? == names(&shipped)?);
    for name in names(&own)? {
        ensure!(std::fs::read(own.join(&name))? == std::fs::read(shipped.join(&name))?, "{name} is another one");
    }
    // Helm takes them along, and whoever uninstalls keeps them.
    let with = chart(&["--include-crds"])?;
    let definitions: Vec<&Value> = with.iter().filter(|found| found["kind"] == "CustomResourceDefinition").collect();
    ensure!(definitions.len() == names(&own)?.len());
    ensure!(definitions.iter().all(|found| found["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"));
    Ok(())
}

#[test]
fn excluded_namespaces_are_added_and_never_removed() -> Result<()> {
    let made = chart(&["--set", "excludedNamespaces={lab,kyverno}", "--set", "policy.spec.priority=3"])?;
    let policy = find(&made, "MutatingAdmissionPolicy", "perennial-mark")?;
    let listed = &policy["spec"]["matchConstraints"]["namespaceSelector"]["matchExpressions"][0]["values"];
    ensure!(*listed == json!(["kube-system", "volsync-system", "kyverno", "lab"]), "{listed}");
    let policy = find(&made, "BackupPolicy", "default")?;
    let wanted = json!({"priority": 3, "claims": {"excludedNamespaces": ["lab", "kyverno"]}});
    ensure!(policy["spec"] == wanted, "{policy:#}");
    // That of the release, if it is another one.
    let arguments = ["template", "p", CHART, "--namespace", "backups", "--kube-version", "1.36.0"];
    let made = e2e::shipped::objects(&Tool::Helm.run(&arguments)?)?;
    let policy = find(&made, "MutatingAdmissionPolicy", "perennial-mark")?;
    let listed = &policy["spec"]["matchConstraints"]["namespaceSelector"]["matchExpressions"][0]["values"];
    ensure!(*listed == json!(["kube-system", "volsync-system", "kyverno", "backups"]), "{listed}");
    let binding = find(&made, "ClusterRoleBinding", "perennial")?;
    ensure!(binding["subjects"][0]["namespace"] == "backups", "{binding:#}");
    Ok(())
}

#[test]
fn the_policy_that_marks_has_the_version_that_the_api_server_has() -> Result<()> {
    let version = |arguments: &[&str]| -> Result<Value> {
        let fixed = ["template", "p", CHART, "--namespace", "volsync-system"];
        let made = e2e::shipped::objects(&Tool::Helm.run(&[&fixed, arguments].concat())?)?;
        let policy = find(&made, "MutatingAdmissionPolicy", "perennial-mark")?;
        for name in ["perennial-mark", "perennial-mark-by-policy"] {
            for kind in ["MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"] {
                ensure!(find(&made, kind, name)?["apiVersion"] == policy["apiVersion"], "{kind} {name}");
            }
        }
        Ok(policy["apiVersion"].clone())
    };
    let group = "admissionregistration.k8s.io";
    let kind = |version: &str| format!("{group}/{version}/MutatingAdmissionPolicy");
    let (v1, beta) = (format!("{group}/v1"), format!("{group}/v1beta1"));
    ensure!(version(&["--kube-version", "1.36.0"])? == v1.as_str());
    ensure!(version(&["--kube-version", "1.34.0", "--api-versions", &kind("v1beta1")])? == beta.as_str());
    let both = ["--kube-version", "1.35.0", "--api-versions", &kind("v1"), "--api-versions", &kind("v1beta1")];
    ensure!(version(&both)? == v1.as_str());
    ensure!(version(&["--kube-version", "1.34.0", "--set", "marking.by=v1beta1"])? == beta.as_str());
    Ok(())
}

#[test]
fn an_older_api_server_gets_the_webhook_that_kustomize_makes() -> Result<()> {
    let fixed = ["template", "perennial", CHART, "--namespace", "volsync-system", "--kube-version", "1.33.0"];
    let made = e2e::shipped::objects(&Tool::Helm.run(&[&fixed[..], &["--set", "image.tag=test"]].concat())?)?;
    same(made, kustomized("deploy/kustomize/webhook")?)
}

#[test]
fn a_repository_comes_with_it_if_it_is_said() -> Result<()> {
    ensure!(find(&chart(&[])?, "BackupRepository", "default").is_err());
    let values = r#"repository={"spec":{"format":"kopia","store":{"s3":{"endpoint":"http://s3","bucket":"b"}},"credentials":{"secretRef":{"name":"r"}}}}"#;
    let made = chart(&["--set-json", values])?;
    let repository = find(&made, "BackupRepository", "default")?;
    ensure!(repository["spec"]["store"]["s3"]["bucket"] == "b", "{repository:#}");
    Ok(())
}

#[test]
fn other_values_reach_their_places() -> Result<()> {
    let made = chart(&[
        "--set",
        "image.repository=registry.test/perennial,image.tag=1.2.3,image.pullPolicy=Always,replicas=3",
        "--set",
        "imagePullSecrets[0].name=pull,priorityClassName=high,nodeSelector.disk=fast",
        "--set",
        "podLabels.team=storage,podAnnotations.note=x,resources.limits.memory=512Mi",
        "--set-json",
        r#"networkPolicy={"catalogsFrom":[{"namespaceSelector":{}}]}"#,
        "--set",
        "monitors.enabled=true,monitors.labels.release=prom,alerts.enabled=true",
        "--set",
        "alerts.runbooks=https://example.test/perennial/",
    ])?;
    let deployment = find(&made, "Deployment", "perennial")?;
    let spec = &deployment["spec"]["template"]["spec"];
    let container = &spec["containers"][0];
    ensure!(container["image"] == "registry.test/perennial:1.2.3" && container["imagePullPolicy"] == "Always");
    let image = json!({"name": "PERENNIAL_IMAGE", "value": "registry.test/perennial:1.2.3"});
    ensure!(container["env"].as_array().is_some_and(|variables| variables.contains(&image)), "{container:#}");
    ensure!(container["resources"]["limits"]["memory"] == "512Mi", "{container:#}");
    ensure!(deployment["spec"]["replicas"] == 3 && spec["nodeSelector"]["disk"] == "fast");
    ensure!(spec["imagePullSecrets"][0]["name"] == "pull" && spec["priorityClassName"] == "high");
    let metadata = &deployment["spec"]["template"]["metadata"];
    ensure!(metadata["labels"]["team"] == "storage" && metadata["annotations"]["note"] == "x", "{metadata:#}");
    let peers = &find(&made, "NetworkPolicy", "perennial-catalogs")?["spec"]["ingress"][0]["from"];
    ensure!(peers.as_array().is_some_and(|peers| peers.len() == 2), "the operator and who was named: {peers:#}");
    ensure!(find(&made, "ServiceMonitor", "perennial")?["metadata"]["labels"]["release"] == "prom");
    let rule = find(&made, "PrometheusRule", "perennial")?;
    let url = &rule["spec"]["groups"][0]["rules"][0]["annotations"]["runbook_url"];
    ensure!(*url == "https://example.test/perennial/docs/runbooks/VolSyncControllerDown.md", "{url}");
    ensure!(chart(&["--set", "networkPolicy.enabled=false"])?.iter().all(|found| found["kind"] != "NetworkPolicy"));
    Ok(())
}

#[test]
fn values_that_mean_nothing_are_refused() -> Result<()> {
    for (value, why) in [
        ("replica=1", "replica"),
        ("image.name=x", "name"),
        ("replicas=-1", "replicas"),
        ("replicas=two", "replicas"),
        ("excludedNamespaces={Kube_System}", "excludedNamespaces"),
        ("marking.by=v1alpha1", "marking"),
        ("marking.enabled=false", "enabled"),
        ("monitors.interval=often", "interval"),
        ("policy.name=other", "name"),
        ("image.pullPolicy=Sometimes", "pullPolicy"),
    ] {
        let said = Tool::Helm.refusal(&["template", "p", CHART, "--kube-version", "1.36.0", "--set", value])?;
        ensure!(
            said.contains("values don't meet the specifications of the schema") && said.contains(why),
            "{value}: {said}"
        );
    }
    Ok(())
}
