//! Whether an object fits a definition's schema, as far as these schemas say anything: enough to notice a field that the
//! schema does not know or a bound that it does not have. The API server has the last word.

use std::sync::LazyLock;

use serde_json::{Map, Value};

/// All definitions.
pub static DEFINITIONS: LazyLock<Vec<Value>> =
    LazyLock::new(|| api::crds::all().into_iter().map(|definition| definition.content).collect());

/// The schema of a kind; none for a kind that is not ours.
pub fn of_kind(kind: &str) -> Option<&'static Value> {
    let definition = DEFINITIONS.iter().find(|definition| definition["spec"]["names"]["kind"] == kind)?;
    definition.pointer("/spec/versions/0/schema/openAPIV3Schema")
}

/// What does not fit, each with its path. Other kinds than ours always fit.
pub fn errors_of(object: &Value) -> Vec<String> {
    let Some(schema) = object["kind"].as_str().and_then(of_kind) else { return Vec::new() };
    let mut inner = object.clone();
    for member in ["apiVersion", "kind", "metadata"] {
        inner.as_object_mut().unwrap().remove(member);
    }
    errors(schema, &inner)
}

/// What of a value does not fit a schema.
pub fn errors(schema: &Value, value: &Value) -> Vec<String> {
    let mut errors = Vec::new();
    check("", schema, value, &mut errors);
    errors
}

fn check(path: &str, schema: &Value, value: &Value, errors: &mut Vec<String>) {
    let mut refuse = |why: &str| errors.push(format!("{path}: {why}: {value}"));
    let int_or_string = schema["x-kubernetes-int-or-string"] == true;
    let fits = match schema["type"].as_str() {
        None => !int_or_string || value.is_i64() || value.is_string(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64(),
        Some("boolean") => value.is_boolean(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        Some(other) => panic!("{path}: schemas of ours have no type {other}"),
    };
    if !fits {
        return refuse("wrong type");
    }
    if schema["enum"].as_array().is_some_and(|allowed| !allowed.contains(value)) {
        refuse("not in enum");
    }
    match value {
        Value::String(text) => check_text(schema, text, &mut refuse),
        Value::Number(number) => {
            let number = number.as_i64().unwrap();
            if schema["minimum"].as_f64().is_some_and(|min| (number as f64) < min) {
                refuse("too small");
            }
            if schema["maximum"].as_f64().is_some_and(|max| number as f64 > max) {
                refuse("too large");
            }
        }
        Value::Array(items) => {
            check_length(schema, "Items", items.len(), &mut refuse);
            for (index, item) in items.iter().enumerate() {
                check(&format!("{path}[{index}]"), &schema["items"], item, errors);
            }
            check_keys(path, schema, items, errors);
        }
        Value::Object(members) => check_members(path, schema, members, errors),
        Value::Bool(_) | Value::Null => {}
    }
}

fn check_text(schema: &Value, text: &str, refuse: &mut impl FnMut(&str)) {
    check_length(schema, "Length", text.chars().count(), refuse);
    if let Some(pattern) = schema["pattern"].as_str()
        && !regex::Regex::new(pattern).unwrap().is_match(text)
    {
        refuse("not of the pattern");
    }
    if schema["format"] == "date-time" && text.parse::<jiff::Timestamp>().is_err() {
        refuse("no moment");
    }
}

fn check_length(schema: &Value, of: &str, length: usize, refuse: &mut impl FnMut(&str)) {
    if schema[format!("min{of}")].as_u64().is_some_and(|min| (length as u64) < min) {
        refuse("too short");
    }
    if schema[format!("max{of}")].as_u64().is_some_and(|max| length as u64 > max) {
        refuse("too long");
    }
}

/// Two items of a list with a key must not have the same one.
fn check_keys(path: &str, schema: &Value, items: &[Value], errors: &mut Vec<String>) {
    let Some(key) = schema.pointer("/x-kubernetes-list-map-keys/0").and_then(Value::as_str) else { return };
    for (index, item) in items.iter().enumerate() {
        if items[..index].iter().any(|earlier| earlier[key] == item[key]) {
            errors.push(format!("{path}[{index}]: duplicate {key}"));
        }
    }
}

fn check_members(path: &str, schema: &Value, members: &Map<String, Value>, errors: &mut Vec<String>) {
    // API servers drop a null before they look at anything else.
    let mut members = members.clone();
    members.retain(|_, member| !member.is_null());
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !members.contains_key(name) {
            errors.push(format!("{path}.{name}: required"));
        }
    }
    for (name, member) in &members {
        let path = format!("{path}.{name}");
        let known = schema["properties"].get(name).or_else(|| schema.get("additionalProperties"));
        match known {
            Some(inner) => check(&path, inner, member, errors),
            None if schema["x-kubernetes-preserve-unknown-fields"] == true => {}
            None => errors.push(format!("{path}: unknown, it would be pruned")),
        }
    }
    check_union(path, schema, &members, errors);
}

/// The rule that stands in place of `oneOf`.
fn check_union(path: &str, schema: &Value, members: &Map<String, Value>, errors: &mut Vec<String>) {
    let rules = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
    let is_union = |rule: &Value| rule["message"].as_str().is_some_and(|text| text.starts_with("say exactly one of"));
    if rules.into_iter().any(is_union) && members.len() != 1 {
        errors.push(format!("{path}: {} members of a union", members.len()));
    }
}
