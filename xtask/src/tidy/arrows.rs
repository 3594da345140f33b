//! Which of our crates may depend on which, and which never meet Kubernetes.

use super::{Checkout, Findings};
use anyhow::Result;

/// A crate of ours and those of ours that it may depend on, in reading order. A crate that is not here fails.
const ARROWS: &[(&str, &[&str])] = &[
    ("codec", &[]),
    ("storage", &[]),
    ("repository", &[]),
    ("repository-kopia", &BASE),
    ("repository-restic", &BASE),
    ("engine", &["codec", "storage", "repository", "repository-kopia", "repository-restic"]),
    ("api", &[]),
    ("operator", &["api"]),
    ("catalog", &BESIDE_THE_DATA),
    ("mover", &BESIDE_THE_DATA),
    (
        "perennial",
        &[
            "codec",
            "storage",
            "repository",
            "repository-kopia",
            "repository-restic",
            "engine",
            "api",
            "operator",
            "catalog",
            "mover",
        ],
    ),
    ("testkit", &["storage", "repository", "repository-kopia", "repository-restic", "engine"]),
    ("e2e", &["api", "testkit"]),
    ("csi-driver", &[]),
    ("fuzz", &["codec", "storage", "repository", "repository-kopia", "repository-restic", "api"]),
    ("xtask", &[]),
];

const BASE: [&str; 3] = ["codec", "storage", "repository"];
const BESIDE_THE_DATA: [&str; 7] =
    ["codec", "storage", "repository", "repository-kopia", "repository-restic", "engine", "api"];

/// Crates that know no Kubernetes, however far down.
const WITHOUT_KUBERNETES: [&str; 6] =
    ["codec", "storage", "repository", "repository-kopia", "repository-restic", "engine"];

/// What only tests may depend on.
const TEST_CRATE: &str = "testkit";

pub fn check(checkout: &Checkout) -> Result<Findings> {
    let mut findings = Findings::new();
    for member in checkout.metadata.members() {
        for dependency in member.dependencies.iter().filter(|dependency| dependency.source.is_none()) {
            let for_tests = dependency.kind.as_deref() == Some("dev");
            findings.extend(judge(&member.name, &dependency.name, for_tests));
        }
        if member.dependencies.is_empty() {
            findings.extend(allowed(&member.name).err());
        }
        if WITHOUT_KUBERNETES.contains(&member.name.as_str()) {
            let closure = checkout.metadata.closure(member);
            let pulled_in = closure.iter().filter(|package| is_kubernetes(&package.name));
            findings.extend(
                pulled_in.map(|package| format!("{} pulls in {}: it knows no Kubernetes", member.name, package.name)),
            );
        }
    }
    Ok(findings)
}

/// Is this arrow one of those drawn?
fn judge(from: &str, to: &str, for_tests: bool) -> Option<String> {
    // A crate may turn its own features on for its tests.
    if for_tests && (to == TEST_CRATE || to == from) {
        return None;
    }
    match allowed(from) {
        Err(finding) => Some(finding),
        Ok(allowed) if allowed.contains(&to) => None,
        Ok(_) => Some(format!("{from} must not depend on {to}: the arrows stand in xtask/src/tidy/arrows.rs")),
    }
}

fn allowed(name: &str) -> Result<&'static [&'static str], String> {
    let known = ARROWS.iter().find(|(crate_name, _)| *crate_name == name);
    known.map(|(_, allowed)| *allowed).ok_or_else(|| {
        format!("{name} has no arrows yet: say in xtask/src/tidy/arrows.rs which of our crates it may depend on")
    })
}

fn is_kubernetes(name: &str) -> bool {
    name == "api" || name == "kube" || name.starts_with("kube-") || name == "k8s-openapi"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(arrow: &str, allowed: bool) {
        let (from, to) = arrow.split_once(" → ").expect("an arrow");
        assert_eq!(judge(from, to, false).is_none(), allowed, "{arrow}");
    }

    #[test]
    fn drawn_arrows_pass_and_others_do_not() {
        check("engine → repository-kopia", true);
        check("engine → codec", true);
        check("mover → api", true);
        check("perennial → operator", true);
        check("testkit → engine", true);
        check("engine → api", false);
        check("codec → storage", false);
        check("operator → engine", false);
        check("api → repository", false);
        check("perennial → testkit", false);
        check("newcomer → codec", false);
    }

    #[test]
    fn only_tests_may_use_the_test_crate() {
        assert_eq!(judge("storage", "testkit", true), None);
        assert!(judge("storage", "testkit", false).is_some());
        assert!(judge("storage", "engine", true).is_some());
    }

    #[test]
    fn kubernetes_crates_are_known_by_name() {
        for name in ["kube", "kube-client", "k8s-openapi", "api"] {
            assert!(is_kubernetes(name), "{name}");
        }
        assert!(!is_kubernetes("kuberlist"));
    }
}
