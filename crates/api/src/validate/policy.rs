//! Rules of BackupPolicy.

use super::{Rule, Violation};
use crate::span::Span;
use crate::v1alpha1::BackupPolicySpec;
use crate::v1alpha1::namespaces::{EXCLUDED_NAMESPACES, Namespaces};

/// A start that is later than this is of another day.
const OFFSET_MAX: Span = Span::of_hours(24);

/// More would look like a missed schedule.
const JITTER_MAX: Span = Span::of_hours(1);

/// Longer than this a claim's pods should not be at rest.
const HOOK_TIMEOUT_MAX: Span = Span::of_hours(1);

/// What a spec must not say.
pub const RULES: &[Rule<BackupPolicySpec>] = &[
    Rule {
        places: &["spec.claims.namespaces"],
        cel: "has(self.names) || has(self.selector)",
        message: "say names, a selector or both; without namespaces all are meant",
        is_kept: namespaces_are_said,
    },
    Rule {
        places: &["spec.claims.namespaces"],
        cel: "!has(self.names) || !self.names.exists(name, name in ['kube-system', 'volsync-system', 'kyverno'])",
        message: "kube-system, volsync-system and kyverno are never backed up: take them out of names",
        is_kept: namespaces_can_be_backed_up,
    },
    Rule {
        places: &["spec.claims"],
        cel: "!has(self.unlabelled) || self.label.values.exists(cadence, cadence.value == self.unlabelled.value)",
        message: "unlabelled.value must be one of label.values",
        is_kept: unlabelled_claims_have_a_cadence,
    },
    Rule {
        places: &["spec.claims"],
        cel: "self.exempt.label != self.label.key",
        message: "exempt.label must be another label than label.key",
        is_kept: exemption_has_a_label_of_its_own,
    },
    Rule {
        places: &["spec.claims.label.values[].retain"],
        cel: "(has(self.latest) && self.latest > 0) || (has(self.hourly) && self.hourly > 0) \
              || (has(self.daily) && self.daily > 0) || (has(self.weekly) && self.weekly > 0) \
              || (has(self.monthly) && self.monthly > 0) || (has(self.yearly) && self.yearly > 0)",
        message: "a retention that keeps nothing removes every backup: say at least one number above 0",
        is_kept: something_is_retained,
    },
    Rule {
        places: &["spec.offset"],
        cel: "duration(self) <= duration('24h')",
        message: "offset is at most 24h",
        is_kept: offset_is_bounded,
    },
    Rule {
        places: &["spec.jitter"],
        cel: "duration(self) <= duration('1h')",
        message: "jitter is at most 1h",
        is_kept: jitter_is_bounded,
    },
    Rule {
        places: &["spec.hooks.before[].timeout", "spec.hooks.after[].timeout"],
        cel: "duration(self) > duration('0s') && duration(self) <= duration('1h')",
        message: "the timeout of a hook is at least 1s and at most 1h",
        is_kept: hooks_end,
    },
];

/// The rules that a spec breaks.
pub fn violations(spec: &BackupPolicySpec) -> Vec<Violation> {
    super::broken(RULES, spec)
}

fn namespaces_are_said(spec: &BackupPolicySpec) -> bool {
    spec.claims.namespaces.as_ref().is_none_or(Namespaces::is_said)
}

fn namespaces_can_be_backed_up(spec: &BackupPolicySpec) -> bool {
    let names = spec.claims.namespaces.iter().flat_map(|namespaces| &namespaces.names);
    names.into_iter().all(|name| !EXCLUDED_NAMESPACES.contains(&name.as_str()))
}

fn unlabelled_claims_have_a_cadence(spec: &BackupPolicySpec) -> bool {
    let unlabelled = spec.claims.unlabelled.as_ref();
    unlabelled.is_none_or(|unlabelled| spec.claims.label.cadence(&unlabelled.value).is_some())
}

fn exemption_has_a_label_of_its_own(spec: &BackupPolicySpec) -> bool {
    spec.claims.exempt.label != spec.claims.label.key
}

fn something_is_retained(spec: &BackupPolicySpec) -> bool {
    spec.claims.label.values.iter().all(|cadence| cadence.retain.keeps_something())
}

fn offset_is_bounded(spec: &BackupPolicySpec) -> bool {
    spec.offset <= OFFSET_MAX
}

fn jitter_is_bounded(spec: &BackupPolicySpec) -> bool {
    spec.jitter <= JITTER_MAX
}

fn hooks_end(spec: &BackupPolicySpec) -> bool {
    let hooks = spec.hooks.before.iter().chain(&spec.hooks.after);
    hooks.into_iter().all(|hook| hook.timeout > Span::default() && hook.timeout <= HOOK_TIMEOUT_MAX)
}
