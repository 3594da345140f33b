//! The definitions of all kinds, as they are installed: the types' own schemas, made what the API server wants.
//!
//! What the derived schemas lack or say otherwise is put right here, in one walk: VolSync's kinds have no required
//! `spec`; null counts as not said; numbers have Kubernetes' formats; quantities a pattern; unions one rule with a message in
//! place of `oneOf`; and the rules of [`crate::validate`] stand at their places.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Map, Value, json};

use crate::v1alpha1::{BackupPolicy, BackupRepository};
use crate::validate::{self, ChangeRule, Rule};
use crate::volsync::{ReplicationDestination, ReplicationSource};

/// What a quantity may be. Source: Kubernetes, apimachinery `resource.Quantity`, and the tool that generates its schemas.
const QUANTITY_PATTERN: &str = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$";

/// A definition and the name of the file that holds it.
pub struct Definition {
    /// `<group>_<plural>.yaml`.
    pub file: String,
    /// The definition, ready to be written.
    pub content: Value,
}

/// Columns after which a description goes on in the next line, so that the file can be read.
const DESCRIPTION_COLUMNS_MAX: usize = 100;

/// Sections of VolSync's kinds whose movers are not ours: carried, but not explained, which halves the definitions.
const FOREIGN_SECTIONS: [&str; 4] = ["rclone", "rsync", "rsyncTLS", "syncthing"];

/// The definitions of all kinds, VolSync's first.
pub fn all() -> Vec<Definition> {
    vec![
        definition(volsyncs(&ReplicationSource::crd())),
        definition(volsyncs(&ReplicationDestination::crd())),
        definition(ours(&BackupRepository::crd(), repository_rules())),
        definition(ours(&BackupPolicy::crd(), policy_rules())),
    ]
}

fn definition(content: Value) -> Definition {
    let text = |pointer: &str| content.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    Definition { file: format!("{}_{}.yaml", text("/spec/group"), text("/spec/names/plural")), content }
}

/// One of VolSync's: nothing is required, not even a spec.
fn volsyncs(crd: &CustomResourceDefinition) -> Value {
    let mut content = finished(crd);
    let schema = schema_of(&mut content);
    schema.remove("required");
    for section in FOREIGN_SECTIONS {
        if let Some(section) = at(schema, &["spec"]).get_mut("properties").and_then(|all| all.get_mut(section)) {
            section.as_object_mut().into_iter().flat_map(children).for_each(|field| remove(field, "description"));
        }
    }
    content
}

/// Removes a keyword from a schema and all below it.
fn remove(schema: &mut Map<String, Value>, keyword: &str) {
    schema.remove(keyword);
    children(schema).for_each(|child| remove(child, keyword));
}

/// One of ours, with its rules.
fn ours(crd: &CustomResourceDefinition, rules: Vec<Placed>) -> Value {
    let mut content = finished(crd);
    let schema = schema_of(&mut content);
    // In a status absent is not zero: nobody has looked yet.
    remove(at(schema, &["status"]), "default");
    for Placed { place, rule } in rules {
        let path: Vec<&str> = place.split('.').collect();
        add_rule(at(schema, &path), rule);
    }
    content
}

fn finished(crd: &CustomResourceDefinition) -> Value {
    let mut content = serde_json::to_value(crd).expect("a definition is JSON");
    let schema = schema_of(&mut content);
    schema.remove("title");
    finish(schema);
    content
}

/// The schema of the only version.
fn schema_of(content: &mut Value) -> &mut Map<String, Value> {
    let schema = content.pointer_mut("/spec/versions/0/schema/openAPIV3Schema");
    schema.and_then(Value::as_object_mut).expect("a derived definition has a version with a schema")
}

/// A rule as the API server wants it, and its place.
struct Placed {
    place: &'static str,
    rule: Value,
}

fn repository_rules() -> Vec<Placed> {
    placed(validate::repository::RULES).chain(placed_changes(validate::repository::CHANGE_RULES)).collect()
}

fn policy_rules() -> Vec<Placed> {
    placed(validate::policy::RULES).collect()
}

fn placed<Spec>(rules: &'static [Rule<Spec>]) -> impl Iterator<Item = Placed> {
    rules.iter().flat_map(|rule| rule.places.iter().map(|place| Placed { place, rule: cel(rule.cel, rule.message) }))
}

fn placed_changes<Spec>(rules: &'static [ChangeRule<Spec>]) -> impl Iterator<Item = Placed> {
    rules.iter().map(|rule| Placed { place: rule.place, rule: cel(rule.cel, rule.message) })
}

fn cel(rule: &str, message: &str) -> Value {
    json!({ "rule": rule, "message": message })
}

fn add_rule(schema: &mut Map<String, Value>, rule: Value) {
    let rules = schema.entry("x-kubernetes-validations").or_insert_with(|| json!([]));
    rules.as_array_mut().expect("a list of rules").push(rule);
}

/// The schema at a place such as `claims.label.values[].retain`.
fn at<'a>(schema: &'a mut Map<String, Value>, path: &[&str]) -> &'a mut Map<String, Value> {
    let Some((first, rest)) = path.split_first() else { return schema };
    let (name, of_items) = first.strip_suffix("[]").map_or((*first, false), |name| (name, true));
    let property = schema.get_mut("properties").and_then(|properties| properties.get_mut(name));
    let inner = if of_items { property.and_then(|list| list.get_mut("items")) } else { property };
    at(inner.and_then(Value::as_object_mut).expect("a rule's place is in the schema"), rest)
}

/// Makes one schema and all below it what the API server wants.
fn finish(schema: &mut Map<String, Value>) {
    // As in schemas made from Go: a member is given or it is absent, and API servers drop a null.
    schema.remove("nullable");
    finish_number(schema);
    finish_union(schema);
    finish_description(schema);
    if schema.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        finish_quantity(schema);
    }
    for child in children(schema) {
        finish(child);
    }
}

/// All schemas directly below.
fn children(schema: &mut Map<String, Value>) -> impl Iterator<Item = &mut Map<String, Value>> {
    schema.iter_mut().flat_map(|(key, value)| match (key.as_str(), value) {
        ("properties", Value::Object(members)) => members.values_mut().filter_map(Value::as_object_mut).collect(),
        ("items" | "additionalProperties", Value::Object(child)) => vec![child],
        _ => Vec::new(),
    })
}

/// Kubernetes knows signed integers of 32 and 64 bits only, and bounds of integers are integers.
fn finish_number(schema: &mut Map<String, Value>) {
    for name in ["minimum", "maximum"] {
        if let Some(bound) = schema.get_mut(name).filter(|bound| bound.is_f64()) {
            // Far below where whole numbers end in a double.
            let whole = bound.as_f64().map(|bound| bound as i64);
            *bound = json!(whole);
        }
    }
    let (format, max) = match schema.get("format").and_then(Value::as_str) {
        Some("uint8") => ("int32", Some(json!(u8::MAX))),
        Some("uint32") => ("int64", Some(json!(u32::MAX))),
        Some("uint64") => ("int64", None),
        _ => return,
    };
    schema.insert("format".to_owned(), json!(format));
    schema.entry("minimum").or_insert(json!(0));
    if let Some(max) = max {
        schema.entry("maximum").or_insert(max);
    }
}

/// An externally tagged enum: `oneOf` refuses without saying what to do, so a rule takes its place.
fn finish_union(schema: &mut Map<String, Value>) {
    let Some(Value::Array(variants)) = schema.remove("oneOf") else { return };
    let names: Vec<String> = variants.iter().filter_map(required_member).collect();
    let members: Vec<String> = names.iter().map(|name| format!("has(self.{name})")).collect();
    let rule = format!("[{}].filter(given, given).size() == 1", members.join(", "));
    add_rule(schema, cel(&rule, &format!("say exactly one of {}", names.join(", "))));
}

fn required_member(variant: &Value) -> Option<String> {
    variant.pointer("/required/0")?.as_str().map(str::to_owned)
}

/// Lines broken where the column says and not where they are in the source; paragraphs stay.
fn finish_description(schema: &mut Map<String, Value>) {
    let Some(Value::String(text)) = schema.get_mut("description") else { return };
    let paragraphs: Vec<String> = text.split("\n\n").map(wrapped).collect();
    *text = paragraphs.join("\n\n");
}

fn wrapped(paragraph: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in paragraph.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= DESCRIPTION_COLUMNS_MAX => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

fn finish_quantity(schema: &mut Map<String, Value>) {
    schema.insert("anyOf".to_owned(), json!([{ "type": "integer" }, { "type": "string" }]));
    schema.insert("pattern".to_owned(), json!(QUANTITY_PATTERN));
    // Where a field says nothing of its own, the type's half page on the notation stands there.
    let is_of_the_type = |text: &str| text.starts_with("Quantity is a fixed-point representation");
    if schema.get("description").and_then(Value::as_str).is_some_and(is_of_the_type) {
        schema.insert("description".to_owned(), json!("A number, or a number with a unit, as in 512Mi."));
    }
}
