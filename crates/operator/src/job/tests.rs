use api::mover::{Layout, RestoreTask, Selection};
use api::naming::ClaimKey;
use serde_json::{Value, json};

use super::*;

/// A restore's pod, as JSON, with that repository and these authorities.
fn restore(directory: Option<Directory>, authorities: Option<Authorities>) -> Value {
    let claim = ClaimKey::new("media", "photos").unwrap();
    let task = Task::Restore(RestoreTask {
        identity: claim.shared_identity(),
        claim,
        data: "/data".into(),
        layout: Layout::PerClaim,
        ledger: true,
        cluster: None,
        parallelism: None,
        expected_repository_id: None,
        selection: Selection::Latest,
        may_be_nothing: false,
        delete_extra: true,
    });
    let run = Run {
        name: "volsync-dst-photos-backup",
        namespace: "media",
        owner: OwnerReference { name: "photos".to_owned(), uid: "u".to_owned(), ..OwnerReference::default() },
        image: "perennial",
        direction: Direction::Restore,
        repository: "default",
        class: "fast",
        secret: "volsync-photos",
        data: "vs-prime-u",
        is_live: false,
        directory,
        authorities,
        identity: Identity::Plain(Ids { uid: 1234, gid: 5, fs_group: None }),
        cache: None,
        variables: vec![("KOPIA_REPOSITORY", "filesystem:///repository".to_owned())],
        resources: None,
        affinity: None,
        node_selector: BTreeMap::new(),
        tolerations: Vec::new(),
        labels: BTreeMap::new(),
        service_account: None,
        volumes: Vec::new(),
    };
    let job = serde_json::to_value(build(&run, &task)).unwrap();
    assert_eq!(job.pointer("/metadata/labels/volsync.backube~1owner"), Some(&json!("photos")));
    job.pointer("/spec/template/spec").unwrap().clone()
}

#[track_caller]
fn mounted(pod: &Value, name: &str, source: Value, mount: Value) {
    let named = |list: &str| {
        let list = pod.pointer(list).and_then(Value::as_array).unwrap();
        list.iter().find(|found| found["name"] == name).cloned().unwrap_or_default()
    };
    assert_eq!(named("/volumes"), source);
    assert_eq!(named("/containers/0/volumeMounts"), mount);
}

#[test]
fn a_repository_that_is_no_bucket_is_mounted() {
    let mount = || json!({"name": "repository", "mountPath": "/repository"});
    let nfs = restore(Some(Directory::Nfs { server: "nas".to_owned(), path: "/srv/backups".to_owned() }), None);
    let source = json!({"name": "repository", "nfs": {"server": "nas", "path": "/srv/backups"}});
    mounted(&nfs, "repository", source, mount());
    let claim = restore(Some(Directory::Claim("store".to_owned())), None);
    let source = json!({"name": "repository", "persistentVolumeClaim": {"claimName": "store"}});
    mounted(&claim, "repository", source, mount());
    mounted(&restore(None, None), "repository", Value::Null, Value::Null);
}

#[test]
fn authorities_are_a_file_that_a_variable_names() {
    let pod =
        restore(None, Some(Authorities::Secret { name: "volsync-photos-ca".to_owned(), key: "ca.crt".to_owned() }));
    let items = json!([{"key": "ca.crt", "path": "ca.crt"}]);
    let source = json!({"name": "custom-ca", "secret": {"secretName": "volsync-photos-ca", "defaultMode": 0o444, "items": items}});
    mounted(&pod, "custom-ca", source, json!({"name": "custom-ca", "mountPath": "/customCA", "readOnly": true}));
    let variables = pod.pointer("/containers/0/env").and_then(Value::as_array).unwrap();
    assert!(variables.contains(&json!({"name": "CUSTOM_CA", "value": "/customCA/ca.crt"})), "{variables:?}");
}

#[test]
fn a_mover_without_a_group_leaves_the_volumes_groups_as_they_are() {
    let pod = restore(None, None);
    let security = json!({
        "runAsNonRoot": true, "runAsUser": 1234, "runAsGroup": 5, "seccompProfile": {"type": "RuntimeDefault"},
    });
    assert_eq!(pod["securityContext"], security);
}
