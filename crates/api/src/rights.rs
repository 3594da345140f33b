//! What the operator may ask of the API server: one list, from which the installations' roles are written.
//!
//! Not in it, and not to be: a `*`, listing Secrets, changing the spec of somebody's claim.
//! `cargo xtask deploy` writes `deploy/kustomize/base/rbac.yaml` and the chart's roles; a test on a cluster compares the
//! list with the calls that the operator makes.

/// Where a rule holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In all namespaces, and for what belongs to none.
    Cluster,
    /// In the operator's own namespace.
    Own,
}

/// One rule of a role.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Where it holds.
    pub scope: Scope,
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// In the plural, or `PLURAL/SUBRESOURCE`.
    pub resources: &'static [&'static str],
    /// What may be done.
    pub verbs: &'static [&'static str],
    /// Only with objects of these names; with any if there are none.
    pub names: &'static [&'static str],
    /// What for, as one sentence.
    pub why: &'static str,
}

/// All rules of the operator.
///
/// What is applied needs `create` and `patch`; what is kept in mind needs `list` and `watch`.
pub const OPERATOR: &[Rule] = &[
    Rule {
        scope: Scope::Cluster,
        group: "",
        resources: &["persistentvolumeclaims"],
        verbs: &["list", "watch", "create", "patch", "delete"],
        names: &[],
        why: "Claims: decisions are annotations on them; those that are filled, or read for a backup, come and go.",
    },
    Rule {
        scope: Scope::Cluster,
        group: "",
        resources: &["persistentvolumes"],
        verbs: &["get", "patch"],
        names: &[],
        why: "A filled volume changes hands.",
    },
    Rule {
        scope: Scope::Cluster,
        group: "",
        resources: &["secrets"],
        verbs: &["get", "create", "patch"],
        names: &[],
        why: "The credentials of each claim, by name; never listed.",
    },
    Rule {
        scope: Scope::Cluster,
        group: "",
        resources: &["namespaces", "pods"],
        verbs: &["list", "watch"],
        names: &[],
        why: "Namespaces say which claims count; the pods of movers say how they ended.",
    },
    Rule {
        scope: Scope::Cluster,
        group: "",
        resources: &["nodes"],
        verbs: &["list", "watch"],
        names: &[],
        why: "How many movers run on each.",
    },
    Rule {
        scope: Scope::Cluster,
        group: "storage.k8s.io",
        resources: &["storageclasses"],
        verbs: &["list", "watch"],
        names: &[],
        why: "Whether a class waits for the first pod.",
    },
    Rule {
        scope: Scope::Cluster,
        group: "batch",
        resources: &["jobs"],
        verbs: &["list", "watch", "create", "delete"],
        names: &[],
        why: "Movers.",
    },
    Rule {
        scope: Scope::Cluster,
        group: "snapshot.storage.k8s.io",
        resources: &["volumesnapshots"],
        verbs: &["get", "list", "watch", "create", "patch", "delete"],
        names: &[],
        why: "What backups are read from, and what restores become. Somebody may keep one of those.",
    },
    Rule {
        scope: Scope::Cluster,
        group: "snapshot.storage.k8s.io",
        resources: &["volumesnapshotclasses"],
        verbs: &["list", "watch"],
        names: &[],
        why: "Which class a VolumeSnapshot gets.",
    },
    Rule {
        scope: Scope::Cluster,
        group: "external-secrets.io",
        resources: &["externalsecrets"],
        verbs: &["get", "create", "patch"],
        names: &[],
        why: "The credentials of each claim where a secret store has them.",
    },
    Rule {
        scope: Scope::Cluster,
        group: "volsync.backube",
        resources: &["replicationsources"],
        verbs: &["list", "watch", "create", "patch", "delete"],
        names: &[],
        why: "One for each claim that is backed up.",
    },
    Rule {
        scope: Scope::Cluster,
        group: "volsync.backube",
        resources: &["replicationdestinations"],
        verbs: &["list", "watch", "create", "patch"],
        names: &[],
        why: "One for each claim that can be restored; it goes with its claim.",
    },
    Rule {
        scope: Scope::Cluster,
        group: "volsync.backube",
        resources: &["replicationsources/status", "replicationdestinations/status"],
        verbs: &["patch"],
        names: &[],
        why: "What became of them.",
    },
    Rule {
        scope: Scope::Cluster,
        group: "volsync.backube",
        resources: &["replicationsources/finalizers"],
        verbs: &["update"],
        names: &[],
        why: "Some API servers want this of whoever makes objects that belong to a source.",
    },
    Rule {
        scope: Scope::Cluster,
        group: "perennial.dev",
        resources: &["backuprepositories", "backuppolicies"],
        verbs: &["list", "watch"],
        names: &[],
        why: "Our own kinds.",
    },
    Rule {
        scope: Scope::Cluster,
        group: "perennial.dev",
        resources: &["backuprepositories/status", "backuppolicies/status"],
        verbs: &["patch"],
        names: &[],
        why: "Whether a repository answers, and how many claims take a policy.",
    },
    Rule {
        scope: Scope::Cluster,
        group: "events.k8s.io",
        resources: &["events"],
        verbs: &["create", "patch"],
        names: &[],
        why: "What happened, told of the object it happened to.",
    },
    Rule {
        scope: Scope::Cluster,
        group: "coordination.k8s.io",
        resources: &["leases"],
        verbs: &["list"],
        names: &[],
        why: "Whether a VolSync is at work in another namespace.",
    },
    Rule {
        scope: Scope::Own,
        group: "apps",
        resources: &["deployments"],
        verbs: &["list", "watch", "create", "patch"],
        names: &[],
        why: "A catalog for each repository.",
    },
    Rule {
        scope: Scope::Own,
        group: "",
        resources: &["services"],
        verbs: &["get", "create", "patch"],
        names: &[],
        why: "The way to a catalog.",
    },
    Rule {
        scope: Scope::Own,
        group: "",
        resources: &["configmaps"],
        verbs: &["get", "create", "patch"],
        names: &["perennial-ledger"],
        why: "The ledger's mirror.",
    },
    Rule {
        scope: Scope::Own,
        group: "coordination.k8s.io",
        resources: &["leases"],
        verbs: &["get", "update"],
        names: &["b95b3104.backube"],
        why: "Who leads; VolSync's own Lease, so that one of both stands still.",
    },
    Rule {
        scope: Scope::Own,
        group: "coordination.k8s.io",
        resources: &["leases"],
        verbs: &["create"],
        names: &[],
        why: "The same; what does not exist yet has no name that a rule could ask for.",
    },
];

/// What it needs besides where it marks claims by a webhook, since the API server has no MutatingAdmissionPolicy.
pub const WEBHOOK: &[Rule] = &[
    Rule {
        scope: Scope::Cluster,
        group: "admissionregistration.k8s.io",
        resources: &["mutatingwebhookconfigurations"],
        verbs: &["get", "list", "watch", "patch"],
        names: &["perennial-mark"],
        why: "Where the API server looks for the authority of the webhook's certificate.",
    },
    Rule {
        scope: Scope::Own,
        group: "",
        resources: &["secrets"],
        verbs: &["update"],
        names: &["perennial-webhook"],
        why: "The webhook's certificate, when it is renewed.",
    },
];

/// Whether a call is permitted: `resource` as `PLURAL` or `PLURAL/SUBRESOURCE`, `is_own` if it concerns the operator's own
/// namespace.
pub fn permits(rules: &[Rule], group: &str, resource: &str, verb: &str, name: &str, is_own: bool) -> bool {
    rules.iter().any(|rule| {
        (rule.scope == Scope::Cluster || is_own)
            && rule.group == group
            && rule.resources.contains(&resource)
            && rule.verbs.contains(&verb)
            && (rule.names.is_empty() || rule.names.contains(&name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_granted_wholesale() {
        for rule in OPERATOR.iter().chain(WEBHOOK) {
            let words = rule.resources.iter().chain(rule.verbs).chain(rule.names);
            assert!(rule.group != "*" && words.clone().all(|word| *word != "*"), "{rule:?}");
            assert!(!rule.resources.is_empty() && !rule.verbs.is_empty(), "{rule:?}");
            assert!(rule.why.ends_with('.'), "{rule:?}");
            assert!(
                !rule.resources.contains(&"secrets")
                    || rule.verbs.iter().all(|verb| !["list", "watch", "delete", "deletecollection"].contains(verb)),
                "{rule:?}"
            );
            assert!(!rule.group.starts_with("rbac."), "rights are given by the installation alone: {rule:?}");
        }
    }

    #[test]
    fn a_rule_holds_for_its_names_and_its_place() {
        assert!(permits(OPERATOR, "", "secrets", "get", "any", false));
        assert!(!permits(OPERATOR, "", "secrets", "list", "", true));
        assert!(permits(OPERATOR, "", "configmaps", "patch", "perennial-ledger", true));
        assert!(!permits(OPERATOR, "", "configmaps", "patch", "other", true));
        assert!(!permits(OPERATOR, "", "configmaps", "patch", "perennial-ledger", false));
        assert!(permits(OPERATOR, "volsync.backube", "replicationsources/status", "patch", "a", false));
    }
}
