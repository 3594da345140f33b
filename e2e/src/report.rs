//! What a test that has failed leaves behind, for whoever looks into it: objects, events and logs of its namespaces,
//! whole as files, and what matters most printed.
//!
//! What cannot be had is said, and stops nothing. Values of Secrets are neither printed nor written.

use crate::space::{Space, value};
use anyhow::{Context, Result};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DynamicObject, ListParams, LogParams};
use kube::core::ApiResource;
use kube::discovery::{Discovery, Scope, verbs};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// Bytes of a file's name before its ending.
const NAME_BYTES_MAX: usize = 200;

/// Directory for the files; without it nothing is written.
pub(crate) const DIRECTORY: &str = "PERENNIAL_E2E_LOGS";

/// Lines of a log that are printed.
const LOG_LINES_MAX: usize = 60;
/// Bytes of a log that are kept.
const LOG_BYTES_MAX: i64 = 16 << 20;
/// Lists under way at a time.
const IN_FLIGHT: usize = 8;
/// Longest time for all of it: a cluster that is gone answers nothing.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Kinds that every namespace has, or of which there is nothing to say in a line: these are only written.
const NOT_PRINTED: [&str; 7] =
    ["ConfigMap", "EndpointSlice", "Endpoints", "Lease", "PodTemplate", "Secret", "ServiceAccount"];

/// What was found.
#[derive(Default)]
pub struct Remains {
    objects: Vec<Value>,
    logs: Vec<Log>,
    /// What could not be had.
    missing: Vec<String>,
}

struct Log {
    namespace: String,
    /// `POD.CONTAINER`, and `.previous` for the container that ran before.
    name: String,
    text: String,
}

/// Looks for whatever is left of the namespaces that a test has made, and for objects of the whole cluster that are theirs.
pub async fn remains(space: &Space) -> Remains {
    let mut remains = Remains::default();
    if tokio::time::timeout(TIMEOUT, remains.collect(space)).await.is_err() {
        remains.missing.push(format!("whatever else there is: not within {} s", TIMEOUT.as_secs()));
    }
    remains
}

impl Remains {
    async fn collect(&mut self, space: &Space) {
        let namespaces = space.cluster.namespaces();
        let client = space.cluster.client();
        let kinds = match Discovery::new(client.clone()).run_aggregated().await {
            Ok(discovered) => discovered,
            Err(error) => return self.missing.push(format!("the kinds that the cluster has: {error:#}")),
        };
        let kinds = kinds.groups().flat_map(|group| group.recommended_resources());
        let mut places: Vec<(ApiResource, Api<DynamicObject>)> = Vec::new();
        for (kind, capabilities) in kinds.filter(|(_, capabilities)| capabilities.supports_operation(verbs::LIST)) {
            // Events are served twice.
            if kind.kind == "Event" && !kind.group.is_empty() {
                continue;
            }
            match capabilities.scope {
                Scope::Cluster => places.push((kind.clone(), Api::all_with(client.clone(), &kind))),
                Scope::Namespaced => places.extend(
                    namespaces
                        .iter()
                        .map(|namespace| (kind.clone(), Api::namespaced_with(client.clone(), namespace, &kind))),
                ),
            }
        }
        let found = stream::iter(places).map(async |(kind, api)| (api.list(&ListParams::default()).await, kind));
        let found: Vec<_> = found.buffer_unordered(IN_FLIGHT).collect().await;
        for (objects, kind) in found {
            match objects {
                Ok(objects) => self.objects.extend(objects.items.iter().filter_map(|object| plain(object, &kind))),
                Err(error) => self.missing.push(format!("{}: {error:#}", kind.plural)),
            }
        }
        self.objects.retain(|object| belongs(object, &namespaces));
        self.objects.sort_by_key(|object| [namespace(object), kind(object), name(object)].map(str::to_owned));
        self.collect_logs(space).await;
    }

    async fn collect_logs(&mut self, space: &Space) {
        for pod in self.objects.iter().filter(|object| kind(object) == "Pod") {
            let pods: Api<Pod> = Api::namespaced(space.cluster.client(), namespace(pod));
            for (container, previous) in containers(pod) {
                let end = if previous { ".previous" } else { "" };
                let file = format!("{}.{container}{end}", name(pod));
                let parameters = LogParams {
                    container: Some(container),
                    previous,
                    limit_bytes: Some(LOG_BYTES_MAX),
                    ..Default::default()
                };
                match pods.logs(name(pod), &parameters).await {
                    Ok(text) => self.logs.push(Log { namespace: namespace(pod).to_owned(), name: file, text }),
                    Err(error) => self.missing.push(format!("log {file}: {error:#}")),
                }
            }
        }
    }

    /// Writes a file for each object and log, below a directory for each namespace, and `events.txt`.
    pub fn keep(&self, directory: &Path) -> Result<()> {
        let file = |namespace: &str, name: &str, text: &str| {
            let place = directory.join(if namespace.is_empty() { "cluster" } else { namespace });
            std::fs::create_dir_all(&place).with_context(|| format!("make {}", place.display()))?;
            // Kubernetes' names and a file's may have much the same length, and a kind stands before them here.
            let (head, end) = name.rsplit_once('.').unwrap_or((name, ""));
            let path = place.join(format!("{head:.NAME_BYTES_MAX$}.{end}"));
            std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))
        };
        for object in self.objects.iter().filter(|object| kind(object) != "Event") {
            let group = object["apiVersion"].as_str().and_then(|version| version.split_once('/'));
            let group = group.map(|(group, _)| format!(".{group}")).unwrap_or_default();
            let place = format!("{}{group} {}.json", kind(object), name(object));
            file(namespace(object), &place, &format!("{object:#}\n"))?;
        }
        for log in &self.logs {
            file(&log.namespace, &format!("{}.log", log.name), &log.text)?;
        }
        let lines = |lines: Vec<String>| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        std::fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
        for (name, lines) in [("events.txt", lines(self.events())), ("missing.txt", lines(self.missing.clone()))] {
            let path = directory.join(name);
            std::fs::write(&path, lines).with_context(|| format!("write {}", path.display()))?;
        }
        Ok(())
    }

    /// Prints the objects in a line each, events, and the ends of logs.
    pub fn print(&self) {
        for object in self.objects.iter().filter(|object| kind(object) != "Event") {
            if !NOT_PRINTED.contains(&kind(object)) {
                let (kind, name) = (kind(object), name(object));
                eprintln!("{kind} {name}: spec {} status {}", object["spec"], object["status"]);
            }
        }
        self.events().iter().for_each(|event| eprintln!("event {event}"));
        for log in &self.logs {
            let lines: Vec<&str> = log.text.lines().collect();
            for line in &lines[lines.len().saturating_sub(LOG_LINES_MAX)..] {
                eprintln!("log {}: {line}", log.name);
            }
        }
        self.missing.iter().for_each(|what| eprintln!("could not be had: {what}"));
    }

    /// In the order in which they were last seen.
    fn events(&self) -> Vec<String> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let events = self.objects.iter().filter(|object| kind(object) == "Event");
        let mut events: Vec<(String, String)> = events
            .map(|event| {
                let times = [&event["lastTimestamp"], &event["eventTime"], &event["metadata"]["creationTimestamp"]];
                let time = times.into_iter().find(|time| time.is_string()).map(text).unwrap_or_default();
                let about = &event["involvedObject"];
                let (kind, name) = (text(&about["kind"]), text(&about["name"]));
                let said = format!("{}: {}", text(&event["reason"]), text(&event["message"]));
                (time.clone(), format!("{time} {} {kind} {name} {said}", namespace(event)))
            })
            .collect();
        events.sort();
        events.into_iter().map(|(_, line)| line).collect()
    }
}

/// The object without its managers' notes, and a Secret without its values.
fn plain(object: &DynamicObject, resource: &ApiResource) -> Option<Value> {
    let mut plain = value(object).ok()?;
    // In a list, objects do not say what they are.
    plain["apiVersion"] = resource.api_version.clone().into();
    plain["kind"] = resource.kind.clone().into();
    if let Some(about) = plain["metadata"].as_object_mut() {
        about.remove("managedFields");
    }
    if resource.kind == "Secret" {
        hide(&mut plain);
    }
    Some(plain)
}

/// Leaves names and lengths. What was applied may stand in an annotation once more.
fn hide(secret: &mut Value) {
    for member in ["data", "stringData"] {
        for hidden in secret[member].as_object_mut().into_iter().flat_map(|values| values.values_mut()) {
            *hidden = json!(format!("{} characters", hidden.as_str().unwrap_or_default().len()));
        }
    }
    if let Some(about) = secret["metadata"].as_object_mut() {
        about.remove("annotations");
    }
}

fn belongs(object: &Value, namespaces: &[String]) -> bool {
    let spec = &object["spec"];
    let named =
        |place: &Value| place["namespace"].as_str().is_some_and(|place| namespaces.iter().any(|ours| ours == place));
    let is_called = |ours: &String| name(object).contains(ours.as_str());
    named(&object["metadata"])
        || [&spec["claimRef"], &spec["volumeSnapshotRef"]].into_iter().any(named)
        || namespaces.iter().any(is_called)
}

/// Containers of a pod that have begun, and whether it is the one that ran before.
fn containers(pod: &Value) -> Vec<(String, bool)> {
    let kinds = ["initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"];
    let statuses = kinds.iter().filter_map(|kind| pod["status"][kind].as_array()).flatten();
    let mut found = Vec::new();
    for status in statuses {
        let container = status["name"].as_str().unwrap_or_default();
        if status["lastState"]["terminated"].is_object() {
            found.push((container.to_owned(), true));
        }
        if status["containerID"].as_str().is_some_and(|id| !id.is_empty()) {
            found.push((container.to_owned(), false));
        }
    }
    found
}

fn kind(object: &Value) -> &str {
    object["kind"].as_str().unwrap_or_default()
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

fn namespace(object: &Value) -> &str {
    object["metadata"]["namespace"].as_str().unwrap_or_default()
}
