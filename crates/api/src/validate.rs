//! What a spec of ours must not say: each rule once, as an expression for the API server and as a function for us.
//!
//! The expressions (CEL) go into the definitions, so that a wrong object is refused when it is written; the functions hold
//! wherever no API server has looked. Both are tested with the same documents. That exactly one member of a union is
//! given needs no rule here: our types cannot say anything else, and [`crate::crds`] writes the expression.

pub mod policy;
pub mod repository;

/// A rule about one state of a spec.
pub struct Rule<Spec> {
    /// Where it stands in the schema: properties from the root, `[]` for the items of a list. Several places are possible.
    pub places: &'static [&'static str],
    /// The rule for the API server; `self` is what stands at the place.
    pub cel: &'static str,
    /// What is wrong and what to do.
    pub message: &'static str,
    /// The rule for us; `true` when it is kept.
    pub is_kept: fn(&Spec) -> bool,
}

/// A rule about a change of a spec.
pub struct ChangeRule<Spec> {
    /// Where it stands in the schema.
    pub place: &'static str,
    /// The rule for the API server; `oldSelf` is what stood at the place before.
    pub cel: &'static str,
    /// What is wrong and what to do.
    pub message: &'static str,
    /// The rule for us, old spec first; `true` when it is kept.
    pub is_kept: fn(&Spec, &Spec) -> bool,
}

/// A rule that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct Violation {
    /// Where in the object.
    pub place: &'static str,
    /// What is wrong and what to do.
    pub message: &'static str,
}

/// The rules that `spec` breaks, in the table's order.
fn broken<Spec>(rules: &[Rule<Spec>], spec: &Spec) -> Vec<Violation> {
    let broken = rules.iter().filter(|rule| !(rule.is_kept)(spec));
    broken.map(|rule| Violation { place: rule.places.first().copied().unwrap_or(""), message: rule.message }).collect()
}

/// The rules that going from `old` to `new` breaks, in the table's order.
fn broken_by_change<Spec>(rules: &[ChangeRule<Spec>], old: &Spec, new: &Spec) -> Vec<Violation> {
    let broken = rules.iter().filter(|rule| !(rule.is_kept)(old, new));
    broken.map(|rule| Violation { place: rule.place, message: rule.message }).collect()
}
