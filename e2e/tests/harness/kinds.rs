//! Our definitions and the documents of `crates/api/tests`, judged by a real API server.

use anyhow::{Context, Result, bail, ensure};
use e2e::{CLAIM, DEFINITION, DESTINATION, Kind, POLICY, REPOSITORY, SECRET, SOURCE, Space};
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const KINDS: [&Kind; 6] = [&SOURCE, &DESTINATION, &REPOSITORY, &POLICY, &CLAIM, &SECRET];

/// One document, and what the first line of its file says.
struct Document {
    file: PathBuf,
    verdict: String,
    object: Value,
}

impl Document {
    fn kind(&self) -> Result<&'static Kind> {
        let kind = KINDS.into_iter().find(|kind| self.object["kind"] == kind.kind);
        kind.with_context(|| format!("{}: no test knows {}", self.file.display(), self.object["kind"]))
    }

    /// The object, moved into the test's namespace; a status is a matter of its own.
    fn body(&self, space: &Space) -> Result<DynamicObject> {
        let mut object = self.object.clone();
        if self.kind()?.namespaced {
            object["metadata"]["namespace"] = json!(space.name);
        } else {
            // The installation has objects of the usual names.
            object["metadata"]["name"] = json!(space.unique(object["metadata"]["name"].as_str().unwrap_or_default()));
        }
        object.as_object_mut().context("an object")?.remove("status");
        Ok(serde_json::from_value(object)?)
    }

    fn api(&self, space: &Space) -> Result<Api<DynamicObject>> {
        Ok(space.api(self.kind()?))
    }

    fn name(&self) -> String {
        format!("{} {}", self.file.display(), self.object["metadata"]["name"])
    }
}

fn files(directory: &str) -> Result<Vec<PathBuf>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(directory);
    let entries = std::fs::read_dir(&directory).with_context(|| format!("read {}", directory.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}

fn documents(directory: &str) -> Result<Vec<Document>> {
    let mut documents = Vec::new();
    for file in files(&format!("crates/api/tests/documents/{directory}"))? {
        let text = std::fs::read_to_string(&file)?;
        let verdict = text.lines().next().unwrap_or_default().trim_start_matches("# ").to_owned();
        let objects: Vec<Value> = serde_saphyr::from_multiple(&text).with_context(|| file.display().to_string())?;
        let of_file = |object| Document { file: file.clone(), verdict: verdict.clone(), object };
        documents.extend(objects.into_iter().map(of_file));
    }
    Ok(documents)
}

/// Installs our definitions, and waits until the API server serves them.
async fn install(space: &Space) -> Result<()> {
    for file in files("deploy/crds")? {
        let definition: Value = serde_saphyr::from_str(&std::fs::read_to_string(&file)?)?;
        let name = definition["metadata"]["name"].as_str().context("a name")?;
        let (definitions, parameters) = (space.api(&DEFINITION), PatchParams::apply("e2e").force());
        let applied = definitions.patch(name, &parameters, &Patch::Apply(&definition)).await;
        applied.with_context(|| format!("apply {}", file.display()))?;
        let is = |definition: &Value, type_: &str, status: &str| {
            let conditions = definition["status"]["conditions"].as_array();
            let found = conditions.into_iter().flatten().find(|condition| condition["type"] == type_);
            found.is_some_and(|condition| condition["status"] == status)
        };
        let served = space.until(&DEFINITION, name, "is served", |found| {
            if is(found, "NonStructuralSchema", "True") || is(found, "NamesAccepted", "False") {
                bail!("the API server does not like it")
            }
            Ok(is(found, "Established", "True"))
        });
        served.await?;
    }
    // Served is not yet found by every path to it.
    for kind in [&SOURCE, &DESTINATION, &REPOSITORY, &POLICY] {
        space.retry("the kind is served", async || space.list(kind).await).await?;
    }
    Ok(())
}

fn dry_run() -> PostParams {
    PostParams { dry_run: true, field_manager: None }
}

/// Whether everything that `sent` says is in `stored`; null says nothing.
fn holds(stored: &Value, sent: &Value) -> bool {
    match (stored, sent) {
        (Value::Object(stored), Value::Object(sent)) => {
            let is_there = |name: &String, value: &Value| stored.get(name).is_some_and(|found| holds(found, value));
            sent.iter().all(|(name, value)| value.is_null() || is_there(name, value))
        }
        (Value::Array(stored), Value::Array(sent)) => {
            stored.len() == sent.len() && stored.iter().zip(sent).all(|(stored, sent)| holds(stored, sent))
        }
        _ => stored == sent,
    }
}

#[test]
fn documents_are_accepted_and_nothing_of_them_is_pruned() -> Result<()> {
    e2e::test("accepted", async |space| {
        install(space).await?;
        for document in documents("accepted")? {
            let body = document.body(space)?;
            let stored = document.api(space)?.create(&dry_run(), &body).await.with_context(|| document.name())?;
            // A Secret's texts become its data.
            let is_whole = document.kind()? == &SECRET || holds(&stored.data, &body.data);
            ensure!(is_whole, "{}: something was pruned: {:#}", document.name(), stored.data);
        }
        Ok(())
    })
}

#[test]
fn documents_are_refused_with_a_message_that_says_why() -> Result<()> {
    e2e::test("refused", async |space| {
        install(space).await?;
        for document in documents("refused")? {
            let expected = document.verdict.strip_prefix("refused: ").context("a verdict")?;
            match document.api(space)?.create(&dry_run(), &document.body(space)?).await {
                Ok(_) => bail!("{} was accepted", document.name()),
                Err(kube::Error::Api(status)) => {
                    ensure!(status.message.contains(expected), "{}: {}", document.name(), status.message);
                }
                Err(error) => return Err(error).context(document.name()),
            }
        }
        Ok(())
    })
}

#[test]
fn changes_that_leave_data_behind_are_refused() -> Result<()> {
    e2e::test("changes", async |space| {
        install(space).await?;
        for pair in documents("changes")?.chunks(2) {
            let [before, after] = pair else { bail!("two documents make a change") };
            let repositories = before.api(space)?;
            let name = space.unique(before.object["metadata"]["name"].as_str().context("a name")?);
            let named = |document: &Document| -> Result<DynamicObject> {
                let mut body = document.body(space)?;
                body.metadata.name = Some(name.clone());
                Ok(body)
            };
            let created = repositories.create(&PostParams::default(), &named(before)?).await;
            let mut changed = named(after)?;
            changed.metadata.resource_version = created.with_context(|| before.name())?.metadata.resource_version;
            // The operator reports on it meanwhile.
            let outcome = loop {
                match repositories.replace(&name, &dry_run(), &changed).await {
                    Err(kube::Error::Api(status)) if status.code == 409 => {
                        changed.metadata.resource_version = repositories.get(&name).await?.metadata.resource_version;
                    }
                    outcome => break outcome,
                }
            };
            space.delete_object(&REPOSITORY, &name).await?;
            match (before.verdict.strip_prefix("refused: "), outcome) {
                (None, outcome) => drop(outcome.with_context(|| before.name())?),
                (Some(expected), Err(kube::Error::Api(status))) => {
                    ensure!(status.message.contains(expected), "{}: {}", before.name(), status.message);
                }
                (Some(_), outcome) => bail!("{} was not refused: {outcome:?}", before.name()),
            }
        }
        Ok(())
    })
}

#[test]
fn an_empty_policy_is_the_contract_of_the_label() -> Result<()> {
    e2e::test("contract", async |space| {
        install(space).await?;
        let body: DynamicObject = serde_json::from_value(json!({
            "apiVersion": POLICY.api_version(), "kind": POLICY.kind, "metadata": {"name": space.unique("policy")}, "spec": {},
        }))?;
        let stored = space.api(&POLICY).create(&dry_run(), &body).await?;
        let retain = json!({"hourly": 24, "daily": 7, "weekly": 4, "monthly": 2});
        let expected = json!({
            "priority": 0,
            "repository": "default",
            "claims": {
                "label": {
                    "key": "backup",
                    "values": [
                        {"value": "hourly", "schedule": "0 * * * *", "retain": retain},
                        {"value": "daily", "schedule": "0 2 * * *", "retain": retain},
                    ],
                },
                "exempt": {
                    "label": "backup-exempt",
                    "reasonAnnotations": [
                        "perennial.dev/backup-exempt-reason", "storage.vanillax.dev/backup-exempt-reason",
                    ],
                },
            },
            // Its ids are found for each claim; 568 is the last that counts.
            "mover": {},
            "cache": {"capacity": "2Gi"},
            "copyMethod": "Snapshot",
            "compression": "zstd-fastest",
            "parallelism": 2,
            "guard": {"filesPercent": 20, "bytesPercent": 20},
            "minimumAge": "2h",
            "offset": "5m",
            "jitter": "10s",
        });
        ensure!(stored.data["spec"] == expected, "{:#}", stored.data["spec"]);
        Ok(())
    })
}
