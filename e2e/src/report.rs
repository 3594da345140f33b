//! What lies in a namespace whose test has failed, for whoever looks into it.

use crate::kinds::{CLAIM, EVENT, JOB, Kind, POD, SERVICE, SNAPSHOT};
use crate::space::Space;
use serde_json::Value;

const KINDS: [Kind; 5] = [POD, JOB, CLAIM, SNAPSHOT, SERVICE];

/// Lines of a log that are printed.
const LOG_LINES_MAX: usize = 60;

/// Prints objects, events and logs; what cannot be had is said, and stops nothing.
pub async fn print(space: &Space) {
    eprintln!("\n--- namespace {} ---", space.name);
    for kind in &KINDS {
        match space.list(kind).await {
            Ok(objects) => objects.iter().for_each(|object| print_object(kind, object)),
            Err(error) => eprintln!("{}: {error:#}", kind.plural),
        }
    }
    match space.list(&EVENT).await {
        Ok(mut events) => {
            events.sort_by_key(|event| event["metadata"]["creationTimestamp"].as_str().unwrap_or_default().to_owned());
            for event in events {
                let about = &event["involvedObject"];
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                eprintln!(
                    "event {} {} {}: {}",
                    text(&about["kind"]),
                    text(&about["name"]),
                    text(&event["reason"]),
                    text(&event["message"])
                );
            }
        }
        Err(error) => eprintln!("events: {error:#}"),
    }
    for pod in space.list(&POD).await.unwrap_or_default() {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        match space.logs(name).await {
            Ok(log) => {
                let lines: Vec<&str> = log.lines().collect();
                for line in &lines[lines.len().saturating_sub(LOG_LINES_MAX)..] {
                    eprintln!("log {name}: {line}");
                }
            }
            Err(error) => eprintln!("log {name}: {error:#}"),
        }
    }
}

fn print_object(kind: &Kind, object: &Value) {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    eprintln!("{} {name}: spec {} status {}", kind.kind, object["spec"], object["status"]);
}
