//! What an API server asks of a schema, checked at every node of every definition.

use serde_json::{Map, Value};

use crate::schema::{self, DEFINITIONS};

/// Nodes of all schemas; fewer means that the walk ends early.
const NODES_COUNT_MIN: usize = 2000;

/// What a node of ours may say. Anything else is either refused by API servers or of no effect.
const KEYWORDS: [&str; 23] = [
    "additionalProperties",
    "anyOf",
    "default",
    "description",
    "enum",
    "format",
    "items",
    "maxItems",
    "maxLength",
    "maximum",
    "minItems",
    "minLength",
    "minimum",
    "pattern",
    "properties",
    "required",
    "type",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
];

/// Formats that Kubernetes checks.
const FORMATS: [&str; 3] = ["int32", "int64", "date-time"];

fn walk(path: &str, schema: &Value, visit: &mut impl FnMut(&str, &Map<String, Value>)) {
    let node = schema.as_object().unwrap_or_else(|| panic!("{path}: a schema is an object"));
    visit(path, node);
    for (name, inner) in node.get("properties").and_then(Value::as_object).into_iter().flatten() {
        walk(&format!("{path}.{name}"), inner, visit);
    }
    for keyword in ["items", "additionalProperties"] {
        if let Some(inner) = node.get(keyword) {
            walk(&format!("{path}[]"), inner, visit);
        }
    }
}

fn walk_all(visit: &mut impl FnMut(&str, &Map<String, Value>)) {
    for definition in DEFINITIONS.iter() {
        let name = definition["spec"]["names"]["kind"].as_str().unwrap();
        walk(name, definition.pointer("/spec/versions/0/schema/openAPIV3Schema").unwrap(), visit);
    }
}

#[test]
fn every_node_is_structural() {
    let mut nodes_count = 0;
    walk_all(&mut |path, node| {
        nodes_count += 1;
        for keyword in node.keys() {
            assert!(KEYWORDS.contains(&keyword.as_str()), "{path}: {keyword}");
        }
        let int_or_string = node.contains_key("x-kubernetes-int-or-string");
        assert_eq!(int_or_string, !node.contains_key("type"), "{path}: a type, or an integer or string");
        assert_eq!(int_or_string, node.contains_key("anyOf"), "{path}: only integers or strings are one of several");
        assert!(node.get("type").is_none_or(Value::is_string), "{path}: one type");
        let both = node.contains_key("properties") && node.contains_key("additionalProperties");
        assert!(!both, "{path}: members by name or any members");
        if let Some(format) = node.get("format").and_then(Value::as_str) {
            assert!(FORMATS.contains(&format), "{path}: format {format}");
        }
        assert!(node.contains_key("items") == (node.get("type") == Some(&"array".into())), "{path}: items of a list");
    });
    assert!(nodes_count >= NODES_COUNT_MIN, "only {nodes_count} nodes");
}

#[test]
fn required_members_and_keys_of_lists_exist() {
    walk_all(&mut |path, node| {
        let properties = node.get("properties").and_then(Value::as_object);
        for name in node.get("required").and_then(Value::as_array).into_iter().flatten() {
            assert!(properties.is_some_and(|all| all.contains_key(name.as_str().unwrap())), "{path}: {name}");
        }
        for key in node.get("x-kubernetes-list-map-keys").and_then(Value::as_array).into_iter().flatten() {
            let item = &node["items"];
            let is_there = item["required"].as_array().is_some_and(|required| required.contains(key));
            assert!(is_there || item["properties"][key.as_str().unwrap()].get("default").is_some(), "{path}: {key}");
        }
    });
}

#[test]
fn defaults_fit_their_own_schemas_and_volsync_has_none() {
    let mut defaults_count = 0;
    walk_all(&mut |path, node| {
        let Some(default) = node.get("default") else { return };
        defaults_count += 1;
        // What Kubernetes' own types bring along is theirs.
        let is_ours = !path.starts_with("Replication") || path.ends_with(".protocol");
        assert!(is_ours, "{path}: VolSync has no default here");
        let errors = schema::errors(&Value::Object(node.clone()), default);
        assert_eq!(errors, Vec::<String>::new(), "{path}");
    });
    assert!(defaults_count > 20, "only {defaults_count} defaults");
}

#[test]
fn every_field_that_is_ours_is_described() {
    let is_foreign =
        |path: &str| ["rclone", "rsync", "syncthing"].iter().any(|mover| path.contains(&format!(".{mover}")));
    walk_all(&mut |path, node| {
        let text = node.get("description").and_then(Value::as_str);
        let may_be_silent = path.ends_with("[]") || (is_foreign(path) && path.contains(".spec."));
        assert!(text.is_some() || may_be_silent, "{path} has no description");
        // Links lead somewhere in the documentation of the code only.
        assert!(!text.is_some_and(|text| text.contains("[`") || text.contains("::")), "{path}: {text:?}");
    });
}

#[test]
fn statuses_have_no_defaults() {
    walk_all(&mut |path, node| {
        assert!(!(path.contains(".status") && node.contains_key("default")), "{path}");
    });
}
