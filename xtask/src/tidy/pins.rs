//! Dependencies stand once, in the root manifest, pinned to one version, each with its reason.

use super::{Checkout, Findings};
use anyhow::Result;

pub fn check(checkout: &Checkout) -> Result<Findings> {
    let mut findings = root_manifest(&checkout.read("Cargo.toml")?);
    for member in checkout.metadata.members() {
        let manifest = member.manifest_path.strip_prefix(&checkout.root).unwrap_or(&member.manifest_path);
        for line in member_manifest(&checkout.read(manifest)?) {
            findings.push(format!("{}:{line}", manifest.display()));
        }
        let loose = member.dependencies.iter().filter(|dependency| dependency.source.is_some());
        let loose = loose.filter(|dependency| !dependency.req.starts_with('='));
        findings
            .extend(loose.map(|dependency| format!("{} of {} is not pinned with `=`", dependency.name, member.name)));
    }
    Ok(findings)
}

fn root_manifest(text: &str) -> Findings {
    let mut findings = Findings::new();
    for (number, line) in dependency_lines(text, |section| section == "workspace.dependencies") {
        if line.contains("path =") {
            continue;
        }
        let (value, comment) = line.split_once(" # ").unwrap_or((line, ""));
        if !value.contains("\"=") {
            findings.push(format!("Cargo.toml:{number}: not pinned: write \"=x.y.z\""));
        }
        if comment.trim().is_empty() {
            findings
                .push(format!("Cargo.toml:{number}: without a reason: end the line with ` # what for, why this one`"));
        }
    }
    findings
}

fn member_manifest(text: &str) -> Findings {
    let lines = dependency_lines(text, |section| section.ends_with("dependencies"));
    let own = lines.filter(|(_, line)| !line.contains("workspace = true"));
    own.map(|(number, _)| format!("{number}: version and reason belong into [workspace.dependencies]")).collect()
}

/// Numbered lines of the wanted sections that are neither empty nor comments.
fn dependency_lines(text: &str, wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = (usize, &str)> {
    let mut inside = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let line = line.trim();
        if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            inside = wanted(section);
            return None;
        }
        (inside && !line.is_empty() && !line.starts_with('#')).then_some((index + 1, line))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_and_reasons_are_demanded() {
        let manifest = "[workspace.dependencies]\na = { path = \"a\" }\nb = \"=1\" # for b\nc = \"1\" # for c\nd = \"=1\"\n[profile.dev]\ne = 1\n";
        let findings = root_manifest(manifest);
        assert_eq!(findings.len(), 2, "{findings:?}");
        assert!(findings[0].starts_with("Cargo.toml:4: not pinned"));
        assert!(findings[1].starts_with("Cargo.toml:5: without a reason"));
    }

    #[test]
    fn members_take_over_what_the_root_says() {
        let manifest = "[package]\nname = \"x\"\n[dependencies]\na.workspace = true\nb = { workspace = true, features = [\"c\"] }\n[dev-dependencies]\nd = \"1\"\n";
        assert_eq!(member_manifest(manifest), ["7: version and reason belong into [workspace.dependencies]"]);
    }
}
