//! The alerts: Prometheus' own checks, a firing and a silent case for each, and a page for whoever is called.

use anyhow::{Context, Result, ensure};
use e2e::shipped::{Tool, checkout, objects};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

/// The rules' file, as the Prometheus operator takes it.
const RULES: &str = "deploy/alerts/perennial.yaml";

/// Names and severities that dashboards and pagers of VolSync's and pvc-plumber's users know.
const CONTRACT: [(&str, &str); 10] = [
    ("VolSyncControllerDown", "critical"),
    ("VolSyncVolumeOutOfSync", "critical"),
    ("VolSyncMissedScheduledBackup", "warning"),
    ("VolSyncDurationTooLong", "warning"),
    ("PvcPlumberDown", "critical"),
    ("PVCPlumberUnknownDecisions", "critical"),
    ("PVCPlumberBackupCheckErrors", "warning"),
    ("ProtectedPVCPendingTooLong", "warning"),
    ("ProtectedPVCSkipRestoreStale", "warning"),
    ("PerennialMaintenanceFailed", "warning"),
];

fn spec() -> Result<Value> {
    let text = std::fs::read_to_string(checkout().join(RULES)).context("read the rules")?;
    let found = objects(&text)?.pop().context("a PrometheusRule")?;
    Ok(found["spec"].clone())
}

fn rules(spec: &Value) -> impl Iterator<Item = &Value> {
    let groups = spec["groups"].as_array().into_iter().flatten();
    groups.flat_map(|group| group["rules"].as_array().into_iter().flatten())
}

fn name(rule: &Value) -> &str {
    rule["alert"].as_str().unwrap_or_default()
}

fn write(directory: &Path, file: &str, text: &str) -> Result<String> {
    let path = directory.join(file);
    std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    Ok(path.display().to_string())
}

#[test]
fn prometheus_takes_the_rules() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = write(directory.path(), "rules.yaml", &spec()?.to_string())?;
    let said = Tool::Promtool.run(&["check", "rules", "--lint=all", "--lint-fatal", &file])?;
    ensure!(said.contains("SUCCESS"), "{said}");
    Ok(())
}

#[test]
fn each_alert_fires_when_it_should_and_not_before() -> Result<()> {
    let mut spec = spec()?;
    // What a person reads is not what is tried here.
    for group in spec["groups"].as_array_mut().into_iter().flatten() {
        for rule in group["rules"].as_array_mut().into_iter().flatten() {
            rule["annotations"] = json!({});
        }
    }
    let tests = std::fs::read_to_string(checkout().join("deploy/alerts/tests.yaml")).context("read the tests")?;
    let cases = objects(&tests)?.pop().context("tests")?;
    for rule in rules(&spec) {
        let of_rule = cases["tests"].as_array().into_iter().flatten();
        let of_rule = of_rule.flat_map(|test| test["alert_rule_test"].as_array().into_iter().flatten());
        let of_rule: Vec<&Value> = of_rule.filter(|case| case["alertname"] == rule["alert"]).collect();
        let silent = of_rule.iter().filter(|case| case["exp_alerts"].as_array().is_none_or(Vec::is_empty)).count();
        ensure!(silent > 0, "{} has no case where it is silent", name(rule));
        ensure!(silent < of_rule.len(), "{} has no case where it fires", name(rule));
    }
    let directory = tempfile::tempdir()?;
    let file = write(directory.path(), "rules.yaml", &spec.to_string())?;
    let tests = write(directory.path(), "tests.yaml", &tests.replace("RULES", &file))?;
    let said = Tool::Promtool.run(&["test", "rules", &tests])?;
    ensure!(said.contains("SUCCESS"), "{said}");
    Ok(())
}

#[test]
fn names_and_severities_are_those_that_people_have_configured() -> Result<()> {
    let spec = spec()?;
    for (wanted, severity) in CONTRACT {
        let rule = rules(&spec).find(|rule| name(rule) == wanted).with_context(|| format!("no alert {wanted}"))?;
        ensure!(rule["labels"]["severity"] == severity, "{wanted}: {}", rule["labels"]);
    }
    Ok(())
}

#[test]
fn each_alert_has_a_page_and_each_page_an_alert() -> Result<()> {
    let spec = spec()?;
    let mut wanted = BTreeSet::new();
    for rule in rules(&spec) {
        let url = rule["annotations"]["runbook_url"].as_str().unwrap_or_default();
        ensure!(url == format!("docs/runbooks/{}.md", name(rule)), "{}: {url}", name(rule));
        let page = std::fs::read_to_string(checkout().join(url)).with_context(|| format!("read {url}"))?;
        ensure!(page.starts_with(&format!("# {}\n", name(rule))), "{url} has another title");
        wanted.insert(format!("{}.md", name(rule)));
    }
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(checkout().join("docs/runbooks")).context("list docs/runbooks")? {
        found.insert(entry?.file_name().to_string_lossy().into_owned());
    }
    ensure!(found == wanted, "{:?}", found.symmetric_difference(&wanted));
    Ok(())
}
