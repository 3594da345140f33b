//! Objects as people write them: read without loss, accepted or refused, each for its reason.

use std::fs;
use std::path::{Path, PathBuf};

use api::v1alpha1::{BackupPolicy, BackupRepository};
use api::validate::{self, Violation};
use api::volsync::{ReplicationDestination, ReplicationSource};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::schema;

/// Documents with something to learn from each; fewer means that some are not found.
const ACCEPTED_COUNT_MIN: usize = 40;

/// One document of a file.
pub struct Document {
    /// The file's name.
    pub file: String,
    /// What its first line says, without the `#`.
    pub verdict: String,
    /// The object.
    pub object: Value,
}

impl Document {
    /// `metadata.name`.
    pub fn name(&self) -> &str {
        self.object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
    }

    fn kind(&self) -> &str {
        self.object["kind"].as_str().unwrap_or_default()
    }
}

/// All documents of a directory, in the order of the files' names.
pub fn read(directory: &str) -> Vec<Document> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/documents").join(directory);
    let mut files: Vec<PathBuf> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().flat_map(|file| parse(file)).collect()
}

fn parse(file: &Path) -> Vec<Document> {
    let text = fs::read_to_string(file).unwrap();
    let verdict = text.lines().next().and_then(|line| line.strip_prefix("# ")).unwrap_or_default();
    let objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{file:?}: {error}"));
    let file = file.file_name().unwrap().to_string_lossy();
    objects.into_iter().map(|object| Document { file: file.to_string(), verdict: verdict.to_owned(), object }).collect()
}

/// The object as its type says it again; the error where it cannot be read.
fn through_the_type(document: &Document) -> Result<Value, String> {
    fn through<T: DeserializeOwned + Serialize>(object: &Value) -> Result<Value, String> {
        let typed: T = serde_json::from_value(object.clone()).map_err(|error| error.to_string())?;
        Ok(serde_json::to_value(&typed).unwrap())
    }
    match document.kind() {
        "ReplicationSource" => through::<ReplicationSource>(&document.object),
        "ReplicationDestination" => through::<ReplicationDestination>(&document.object),
        "BackupRepository" => through::<BackupRepository>(&document.object),
        "BackupPolicy" => through::<BackupPolicy>(&document.object),
        "PersistentVolumeClaim" => through::<PersistentVolumeClaim>(&document.object),
        "Secret" => through::<Secret>(&document.object),
        other => panic!("{}: no test reads the kind {other}", document.file),
    }
}

/// The rules of ours that the object breaks.
fn violations(document: &Document) -> Vec<Violation> {
    match document.kind() {
        "BackupRepository" => {
            let typed: BackupRepository = serde_json::from_value(document.object.clone()).unwrap();
            validate::repository::violations(&typed.spec)
        }
        "BackupPolicy" => {
            let typed: BackupPolicy = serde_json::from_value(document.object.clone()).unwrap();
            validate::policy::violations(&typed.spec)
        }
        _ => Vec::new(),
    }
}

/// What `object` says and `other` does not say in the same way, each by its path. Numbers and texts of quantities are
/// the same thing.
fn missing(path: &str, object: &Value, other: &Value, findings: &mut Vec<String>) {
    match (object, other) {
        (Value::Object(members), Value::Object(others)) => {
            for (name, member) in members {
                let path = format!("{path}.{name}");
                match others.get(name) {
                    Some(other) => missing(&path, member, other, findings),
                    // What is false or empty anyway may go unsaid.
                    None if [Value::Null, Value::Bool(false), Value::Object(Default::default())].contains(member) => {}
                    None => findings.push(path),
                }
            }
        }
        (Value::Array(items), Value::Array(others)) if items.len() == others.len() => {
            for (index, (item, other)) in items.iter().zip(others).enumerate() {
                missing(&format!("{path}[{index}]"), item, other, findings);
            }
        }
        (Value::Number(number), Value::String(text)) if number.to_string() == *text => {}
        _ if object == other => {}
        _ => findings.push(format!("{path}: {object} became {other}")),
    }
}

#[test]
fn accepted_documents_pass_through_their_types_without_loss() {
    let documents = read("accepted");
    assert!(documents.len() >= ACCEPTED_COUNT_MIN, "only {} documents", documents.len());
    for document in &documents {
        let again = through_the_type(document).unwrap_or_else(|error| panic!("{} {error}", document.file));
        let mut findings = Vec::new();
        missing("", &document.object, &again, &mut findings);
        // A claim's and a Secret's own affair.
        findings.retain(|finding| !finding.starts_with(".apiVersion: "));
        assert_eq!(findings, Vec::<String>::new(), "{} {}", document.file, document.name());
    }
}

#[test]
fn accepted_documents_fit_their_schemas_and_rules() {
    for document in read("accepted") {
        let errors = schema::errors_of(&document.object);
        assert_eq!(errors, Vec::<String>::new(), "{} {}", document.file, document.name());
        assert_eq!(violations(&document), [], "{} {}", document.file, document.name());
    }
}

/// A document whose verdict is a rule's message breaks that rule alone; any other does not fit the schema.
#[test]
fn refused_documents_are_refused_for_their_reason() {
    for document in read("refused") {
        let expected = document.verdict.strip_prefix("refused: ").expect("a verdict in the first line");
        let errors = schema::errors_of(&document.object);
        if errors.is_empty() {
            let broken: Vec<String> = violations(&document).iter().map(ToString::to_string).collect();
            assert!(matches!(broken.as_slice(), [one] if one.contains(expected)), "{}: {broken:?}", document.file);
        } else {
            let is_union = expected.starts_with("say exactly one of");
            assert!(!is_union || through_the_type(&document).is_err(), "{} is read", document.file);
        }
    }
}

#[test]
fn changes_are_refused_where_data_would_be_left_behind() {
    let documents = read("changes");
    for pair in documents.chunks(2) {
        let [before, after] = pair else { panic!("{}: two documents make a change", pair[0].file) };
        assert_eq!((&before.file, before.name()), (&after.file, after.name()));
        let spec = |document: &Document| {
            let typed: BackupRepository = serde_json::from_value(document.object.clone()).unwrap();
            typed.spec
        };
        let broken = validate::repository::change_violations(&spec(before), &spec(after));
        match before.verdict.strip_prefix("refused: ") {
            Some(expected) => {
                assert!(broken.len() == 1 && broken[0].to_string().contains(expected), "{}: {broken:?}", before.file);
            }
            None => assert_eq!((before.verdict.as_str(), broken), ("accepted", Vec::new()), "{}", before.file),
        }
    }
}
