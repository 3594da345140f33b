//! Which namespaces something is for.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Namespaces that are never backed up, whatever anyone configures: their volumes belong to the machinery that would
/// have to be there before a restore.
pub const EXCLUDED_NAMESPACES: [&str; 3] = ["kube-system", "volsync-system", "kyverno"];

/// Namespaces by name or by their labels; one that fits either is meant. At least one of the two is given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Namespaces {
    /// Their names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 63)))]
    pub names: Vec<String>,
    /// Their labels; an empty selector means all namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

impl Namespaces {
    /// Whether anything is said at all; a rule asks for that.
    pub fn is_said(&self) -> bool {
        !self.names.is_empty() || self.selector.is_some()
    }

    /// Whether the namespace `name`, which has these labels, is meant.
    pub fn contains(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        self.names.iter().any(|listed| listed == name)
            || self.selector.as_ref().is_some_and(|selector| selects(selector, labels))
    }
}

/// Whether a selector picks an object with these labels. An empty selector picks everything.
///
/// An operator that Kubernetes does not have picks nothing.
pub fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    equal && selector.match_expressions.iter().flatten().all(|requirement| meets(requirement, labels))
}

fn meets(requirement: &LabelSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(&requirement.key);
    let is_listed = || value.is_some_and(|value| requirement.values.iter().flatten().any(|listed| listed == value));
    match requirement.operator.as_str() {
        "In" => is_listed(),
        "NotIn" => !is_listed(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(namespaces: Value, name: &str, labels: Value, expected: bool) {
        let namespaces: Namespaces = serde_json::from_value(namespaces).unwrap();
        assert_eq!(namespaces.contains(name, &serde_json::from_value(labels).unwrap()), expected);
    }

    #[test]
    fn by_name_or_by_labels() {
        check(json!({"names": ["media", "home"]}), "home", json!({}), true);
        check(json!({"names": ["media"]}), "home", json!({}), false);
        check(json!({"selector": {}}), "home", json!({}), true);
        check(json!({"names": ["media"], "selector": {"matchLabels": {"a": "b"}}}), "media", json!({}), true);
        check(json!({"names": ["media"], "selector": {"matchLabels": {"a": "b"}}}), "home", json!({"a": "b"}), true);
        check(json!({"selector": {"matchLabels": {"a": "b"}}}), "home", json!({"a": "c"}), false);
    }

    #[test]
    fn expressions() {
        let with = |operator: &str, values: Value| json!({"selector": {"matchExpressions": [{"key": "tier", "operator": operator, "values": values}]}});
        check(with("In", json!(["a", "b"])), "n", json!({"tier": "b"}), true);
        check(with("In", json!(["a", "b"])), "n", json!({}), false);
        check(with("NotIn", json!(["a"])), "n", json!({"tier": "b"}), true);
        check(with("NotIn", json!(["a"])), "n", json!({"tier": "a"}), false);
        check(with("NotIn", json!(["a"])), "n", json!({}), true);
        check(with("Exists", json!(null)), "n", json!({"tier": ""}), true);
        check(with("DoesNotExist", json!(null)), "n", json!({"tier": ""}), false);
        check(with("Near", json!(["a"])), "n", json!({"tier": "a"}), false);
    }
}
