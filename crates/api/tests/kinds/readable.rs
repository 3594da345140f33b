//! Whatever the schema lets through is read: one object that cannot be read would stop the list it stands in.

use api::v1alpha1::{BackupPolicy, BackupRepository};
use api::volsync::{ReplicationDestination, ReplicationSource};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::schema::{self, of_kind};

/// Documents of one kind; fewer means that the walk ends early.
const DOCUMENTS_COUNT_MIN: usize = 40;

/// Texts that some pattern, enum or format of ours lets through.
const TEXTS: [&str; 12] =
    ["", "a", "aaa", "1", "0s", "a@b", "@daily", "/", "true", "A", "a.b/c", "2025-01-15T10:30:00Z"];

/// Values for a schema: of each member the smallest document that has it, and what else the schema lets through.
fn values(schema: &Value) -> Vec<Value> {
    if schema["x-kubernetes-int-or-string"] == true {
        return vec![json!(0), json!(-5), json!("1Gi"), json!("1e3")];
    }
    match schema["type"].as_str() {
        Some("string") => texts(schema),
        Some("integer") => numbers(schema),
        Some("boolean") => vec![json!(true), json!(false)],
        Some("array") => lists(schema),
        Some("object") => objects(schema),
        _ => vec![json!({"any": "thing"})],
    }
}

fn texts(schema: &Value) -> Vec<Value> {
    let allowed = schema["enum"].as_array().cloned();
    let all = allowed.unwrap_or_else(|| TEXTS.iter().map(|text| json!(text)).collect());
    all.into_iter().filter(|text| fits(schema, text)).collect()
}

fn numbers(schema: &Value) -> Vec<Value> {
    let bound = |name: &str| schema[name].as_f64().map(|bound| bound as i64);
    let (min, max) = match schema["format"].as_str() {
        Some("int32") => (i64::from(i32::MIN), i64::from(i32::MAX)),
        _ => (i64::MIN, i64::MAX),
    };
    vec![json!(bound("minimum").unwrap_or(min)), json!(bound("maximum").unwrap_or(max))]
}

fn lists(schema: &Value) -> Vec<Value> {
    let min = schema["minItems"].as_u64().unwrap_or(0) as usize;
    let one_each = values(&schema["items"]).into_iter().map(|item| json!(vec![item; min.max(1)]));
    (min == 0).then(|| json!([])).into_iter().chain(one_each).collect()
}

fn objects(schema: &Value) -> Vec<Value> {
    if let Some(inner) = schema.get("additionalProperties") {
        return values(inner).into_iter().map(|value| json!({ "a": value })).chain([json!({})]).collect();
    }
    let none = Map::new();
    let members = schema["properties"].as_object().unwrap_or(&none);
    let needed = required(schema);
    let with = |name: &String, value: Value| {
        let mut object = needed.clone();
        object.insert(name.clone(), value);
        Value::Object(object)
    };
    let each = members.iter().flat_map(|(name, inner)| values(inner).into_iter().map(|value| with(name, value)));
    each.chain([Value::Object(needed.clone())]).filter(|object| fits(schema, object)).collect()
}

/// The smallest object that has all that is required; of a union its first member.
fn required(schema: &Value) -> Map<String, Value> {
    let needed = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let first = |name: &str| values(&schema["properties"][name]).into_iter().next().expect("a value that fits");
    needed.map(|name| (name.to_owned(), first(name))).collect()
}

fn fits(schema: &Value, value: &Value) -> bool {
    schema::errors(schema, value).is_empty()
}

fn check<Kind: DeserializeOwned>(kind: &str) {
    let documents = values(of_kind(kind).unwrap());
    assert!(documents.len() >= DOCUMENTS_COUNT_MIN, "only {} documents of {kind}", documents.len());
    for mut document in documents {
        document["metadata"] = json!({ "name": "a" });
        if let Err(error) = serde_json::from_value::<Kind>(document.clone()) {
            panic!("{kind} cannot be read: {error}\n{document}");
        }
    }
}

#[test]
fn what_the_schema_lets_through_is_read() {
    check::<ReplicationSource>("ReplicationSource");
    check::<ReplicationDestination>("ReplicationDestination");
    check::<BackupRepository>("BackupRepository");
    check::<BackupPolicy>("BackupPolicy");
}
