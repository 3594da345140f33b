//! The definitions as they are installed.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::schema::DEFINITIONS;

/// Bytes of the longest annotation: `kubectl apply` keeps a whole definition in one unless it is told `--server-side`.
const APPLIED_BYTES_MAX: usize = 262_144;

#[test]
fn the_files_are_those_of_the_types() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
    let mut expected = Vec::new();
    for (name, wanted) in crate::files::all().unwrap() {
        let text = fs::read_to_string(deploy.join(&name)).unwrap_or_else(|error| panic!("deploy/{name}: {error}"));
        assert!(text == wanted, "deploy/{name} is not what the types and lists say: run `cargo xtask deploy`");
        expected.extend(name.strip_prefix("crds/").map(str::to_owned));
    }
    for definition in api::crds::all() {
        let text = fs::read_to_string(deploy.join("crds").join(&definition.file)).unwrap();
        assert_eq!(serde_saphyr::from_str::<Value>(&text).unwrap(), definition.content, "{}", definition.file);
    }
    let mut found: Vec<String> = fs::read_dir(deploy.join("crds"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".yaml"))
        .collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected, "files that no kind has");
}

#[test]
fn names_and_scopes() {
    let all: Vec<Value> = DEFINITIONS
        .iter()
        .map(|definition| {
            let names = &definition["spec"]["names"];
            json!([
                definition["metadata"]["name"],
                definition["spec"]["scope"],
                names["kind"],
                names["singular"],
                names["shortNames"],
                names["categories"]
            ])
        })
        .collect();
    assert_eq!(
        json!(all),
        json!([
            ["replicationsources.volsync.backube", "Namespaced", "ReplicationSource", "replicationsource", null, null],
            [
                "replicationdestinations.volsync.backube",
                "Namespaced",
                "ReplicationDestination",
                "replicationdestination",
                null,
                null
            ],
            [
                "backuprepositories.perennial.dev",
                "Cluster",
                "BackupRepository",
                "backuprepository",
                null,
                ["perennial"]
            ],
            ["backuppolicies.perennial.dev", "Cluster", "BackupPolicy", "backuppolicy", null, ["perennial"]],
        ])
    );
    for definition in DEFINITIONS.iter() {
        assert_eq!(definition["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
        let versions = definition["spec"]["versions"].as_array().unwrap();
        assert_eq!(versions.len(), 1);
        assert_eq!(versions[0]["name"], "v1alpha1");
        assert_eq!((&versions[0]["served"], &versions[0]["storage"]), (&json!(true), &json!(true)));
        assert_eq!(versions[0]["subresources"], json!({ "status": {} }));
    }
}

#[test]
fn volsyncs_columns() {
    let sync = [
        json!({ "name": "Last sync", "type": "string", "format": "date-time", "jsonPath": ".status.lastSyncTime" }),
        json!({ "name": "Duration", "type": "string", "jsonPath": ".status.lastSyncDuration" }),
        json!({ "name": "Next sync", "type": "string", "format": "date-time", "jsonPath": ".status.nextSyncTime" }),
    ];
    let source = json!({ "name": "Source", "type": "string", "jsonPath": ".spec.sourcePVC" });
    let columns = |index: usize| DEFINITIONS[index]["spec"]["versions"][0]["additionalPrinterColumns"].clone();
    assert_eq!(columns(0), json!([&[source], &sync[..]].concat()));
    assert_eq!(columns(1), json!(sync));
}

#[test]
fn definitions_can_be_applied_in_either_way() {
    for definition in DEFINITIONS.iter() {
        let length_bytes = definition.to_string().len();
        assert!(length_bytes < APPLIED_BYTES_MAX, "{} has {length_bytes} bytes", definition["metadata"]["name"]);
    }
}

/// Every field of ours stands in the documentation, and nothing that is none.
#[test]
fn the_page_has_every_field() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/api.md")).unwrap();
    for definition in &DEFINITIONS[2..] {
        let kind = definition["spec"]["names"]["kind"].as_str().unwrap();
        let section = page.split("\n## ").find(|section| section.starts_with(kind)).unwrap();
        let path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
        let mut fields = Vec::new();
        leaves("", definition.pointer(path).unwrap(), &mut fields);
        let missing: Vec<_> = fields.iter().filter(|field| !section.contains(&format!("`{field}`"))).collect();
        assert_eq!(missing, Vec::<&String>::new(), "docs/api.md, {kind}");
        let known = |word: &&str| fields.iter().any(|field| field == word || field.starts_with(&format!("{word}.")));
        let rows = section.lines().filter(|line| line.starts_with("| `")).filter_map(|row| row.split('|').nth(1));
        let named: Vec<&str> = rows.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
        let unknown: Vec<_> = named.iter().filter(|word| !known(word) && !word.ends_with("values")).collect();
        assert_eq!(unknown, Vec::<&&str>::new(), "docs/api.md, {kind}");
    }
}

/// Paths of what can be set; Kubernetes' own types are one thing each.
fn leaves(path: &str, schema: &Value, fields: &mut Vec<String>) {
    let is_kubernetes = ["resources", "affinity", "selector", "tolerations"].iter().any(|name| path.ends_with(name));
    let is_list_of_objects = schema["items"]["type"] == "object" && !is_kubernetes;
    match schema["properties"].as_object() {
        Some(members) if !is_kubernetes => {
            for (name, member) in members {
                let dot = if path.is_empty() { "" } else { "." };
                leaves(&format!("{path}{dot}{name}"), member, fields);
            }
        }
        _ if is_list_of_objects => leaves(&format!("{path}[]"), &schema["items"], fields),
        _ => fields.push(path.to_owned()),
    }
}

/// The fields of VolSync's sections by name, so that one that is lost or misspelt is noticed without an API server.
#[track_caller]
fn check_fields(index: usize, pointer: &str, expected: &[&str]) {
    let path = format!("/spec/versions/0/schema/openAPIV3Schema/properties/{pointer}/properties");
    let found = DEFINITIONS[index].pointer(&path).and_then(Value::as_object).unwrap().keys();
    let mut expected: Vec<&str> = expected.iter().flat_map(|names| names.split(' ')).collect();
    expected.sort_unstable();
    assert_eq!(found.collect::<Vec<_>>(), expected, "{pointer}");
}

const VOLUME: &str = "copyMethod capacity storageClassName accessModes volumeSnapshotClassName";
const DESTINATION: &str = "destinationPVC cleanupTempPVC";
const MOVER: &str = "moverSecurityContext moverServiceAccount moverPodLabels moverResources moverAffinity moverVolumes";
const CACHE: &str = "cacheCapacity cacheStorageClassName cacheAccessModes";
const KOPIA_CACHE: &str = "metadataCacheSizeLimitMB contentCacheSizeLimitMB";
const STATUS: &str = "lastSyncTime lastSyncStartTime lastSyncDuration nextSyncTime lastManualSync latestMoverStatus \
                      external conditions rsync rsyncTLS kopia";

#[test]
fn volsyncs_specs() {
    check_fields(0, "spec", &["sourcePVC trigger paused restic kopia rsync rsyncTLS rclone syncthing external"]);
    check_fields(1, "spec", &["trigger paused restic kopia rsync rsyncTLS rclone external"]);
    let own = "repository customCA pruneIntervalDays retain unlock exclude";
    check_fields(0, "spec/properties/restic", &[VOLUME, MOVER, CACHE, own]);
    let own = "repository customCA cleanupCachePVC previous restoreAsOf enableFileDeletion";
    check_fields(1, "spec/properties/restic", &[VOLUME, DESTINATION, MOVER, CACHE, own]);
    let own = "repository customCA retain compression parallelism actions policyConfig username hostname \
               sourcePathOverride additionalArgs";
    check_fields(0, "spec/properties/kopia", &[VOLUME, MOVER, CACHE, KOPIA_CACHE, own]);
    let own = "repository customCA cleanupCachePVC restoreAsOf previous shallow policyConfig sourceIdentity username \
               hostname enableFileDeletion additionalArgs";
    check_fields(1, "spec/properties/kopia", &[VOLUME, DESTINATION, MOVER, CACHE, KOPIA_CACHE, own]);
}

#[test]
fn volsyncs_other_movers() {
    let rsync = "sshKeys serviceType address port path sshUser moverServiceAccount moverPodLabels moverResources";
    check_fields(0, "spec/properties/rsync", &[VOLUME, rsync]);
    check_fields(1, "spec/properties/rsync", &[VOLUME, DESTINATION, rsync, "serviceAnnotations volumeMode"]);
    check_fields(0, "spec/properties/rsyncTLS", &[VOLUME, MOVER, "keySecret address port"]);
    let own = "keySecret serviceType serviceAnnotations volumeMode";
    check_fields(1, "spec/properties/rsyncTLS", &[VOLUME, DESTINATION, MOVER, own]);
    let rclone = "rcloneConfigSection rcloneDestPath rcloneConfig customCA";
    check_fields(0, "spec/properties/rclone", &[VOLUME, MOVER, rclone]);
    check_fields(1, "spec/properties/rclone", &[VOLUME, DESTINATION, MOVER, rclone]);
    let own = "peers serviceType configCapacity configStorageClassName configAccessModes";
    check_fields(0, "spec/properties/syncthing", &[MOVER, own]);
}

#[test]
fn volsyncs_statuses() {
    check_fields(0, "status", &[STATUS, "restic syncthing"]);
    check_fields(1, "status", &[STATUS, "latestImage"]);
    let configured = "lastConfiguredMetadataCacheSizeLimitMB lastConfiguredContentCacheSizeLimitMB";
    let own = "lastMaintenance nextScheduledMaintenance maintenanceFailures kopiaMaintenance";
    check_fields(0, "status/properties/kopia", &[configured, own]);
    check_fields(1, "status/properties/kopia", &[configured, "requestedIdentity snapshotsFound availableIdentities"]);
    check_fields(0, "status/properties/restic", &["lastPruned lastUnlocked"]);
}
