//! What tests create, with what matters in sight and the rest as a test wants it.

use crate::{BUSYBOX, TOOLS_IMAGE};
use serde_json::{Value, json};

/// A claim of 100 MiB for one node, of the cluster's default class.
#[derive(Clone, Debug)]
pub struct Claim {
    body: Value,
}

impl Claim {
    /// One of that name.
    pub fn new(name: &str) -> Self {
        Self {
            body: json!({
                "metadata": {"name": name},
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "100Mi"}}},
            }),
        }
    }

    /// Of that storage class.
    pub fn class(mut self, class: &str) -> Self {
        self.body["spec"]["storageClassName"] = class.into();
        self
    }

    /// That pods see as a raw device.
    pub fn device(mut self) -> Self {
        self.body["spec"]["volumeMode"] = "Block".into();
        self
    }

    /// With that much room.
    pub fn size(mut self, size: &str) -> Self {
        self.body["spec"]["resources"]["requests"]["storage"] = size.into();
        self
    }

    /// Filled with what a snapshot has.
    pub fn from_snapshot(mut self, snapshot: &str) -> Self {
        self.body["spec"]["dataSource"] =
            json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": snapshot});
        self
    }

    /// Filled with what a snapshot of another namespace has.
    pub fn from_snapshot_of(mut self, namespace: &str, snapshot: &str) -> Self {
        self.body["spec"]["dataSourceRef"] = json!({
            "apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": snapshot, "namespace": namespace,
        });
        self
    }

    /// Filled with what another claim has.
    pub fn from_claim(mut self, claim: &str) -> Self {
        self.body["spec"]["dataSource"] = json!({"kind": "PersistentVolumeClaim", "name": claim});
        self
    }

    /// To be filled by whoever serves that kind.
    pub fn from_object(mut self, group: &str, kind: &str, name: &str) -> Self {
        self.body["spec"]["dataSourceRef"] = json!({"apiGroup": group, "kind": kind, "name": name});
        self
    }

    /// With a label.
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.body["metadata"]["labels"][name] = value.into();
        self
    }

    /// As the API server takes it.
    pub fn build(self) -> Value {
        self.body
    }
}

/// A pod of one container, which is not started again.
#[derive(Clone, Debug)]
pub struct Pod {
    name: String,
    labels: Value,
    spec: Value,
}

impl Pod {
    /// One that runs a shell script.
    pub fn shell(name: &str, script: &str) -> Self {
        Self::command(name, BUSYBOX, &["sh", "-c", script])
    }

    /// One that runs a shell script, which may look at extended attributes and access control lists and set them.
    pub fn tools(name: &str, script: &str) -> Self {
        Self::command(name, TOOLS_IMAGE, &["sh", "-c", script])
    }

    /// One that does nothing until it is deleted, for commands to be run in.
    pub fn idle(name: &str) -> Self {
        Self::command(name, BUSYBOX, &["tail", "-f", "/dev/null"])
    }

    /// One that runs a program of an image.
    pub fn command(name: &str, image: &str, command: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            labels: json!({}),
            spec: json!({
                "restartPolicy": "Never",
                // What a test is done with is to go at once.
                "terminationGracePeriodSeconds": 0,
                "containers": [{"name": "main", "image": image, "command": command, "volumeMounts": [], "volumeDevices": []}],
                "volumes": [],
            }),
        }
    }

    /// Shows a claim at a path.
    pub fn mount(self, claim: &str, path: &str) -> Self {
        let source = json!({"persistentVolumeClaim": {"claimName": claim}});
        self.volume(volume_name(claim), source, json!({"mountPath": path}))
    }

    /// Shows a claim at a path, to be read only.
    pub fn mount_read_only(self, claim: &str, path: &str) -> Self {
        let source = json!({"persistentVolumeClaim": {"claimName": claim, "readOnly": true}});
        self.volume(volume_name(claim), source, json!({"mountPath": path, "readOnly": true}))
    }

    /// Shows a claim that is a raw device at a path.
    pub fn device(mut self, claim: &str, path: &str) -> Self {
        push(&mut self.spec["volumes"], json!({"name": claim, "persistentVolumeClaim": {"claimName": claim}}));
        push(&mut self.spec["containers"][0]["volumeDevices"], json!({"name": claim, "devicePath": path}));
        self
    }

    /// Shows any volume as a member of the container's `volumeMounts` says.
    pub fn volume(mut self, name: &str, mut source: Value, mut mount: Value) -> Self {
        source["name"] = name.into();
        mount["name"] = name.into();
        push(&mut self.spec["volumes"], source);
        push(&mut self.spec["containers"][0]["volumeMounts"], mount);
        self
    }

    /// Runs as that user and group, with a group that owns the volumes.
    pub fn user(mut self, user: u32, group: u32, volumes_group: u32) -> Self {
        self.spec["securityContext"] = json!({"runAsUser": user, "runAsGroup": group, "fsGroup": volumes_group});
        self
    }

    /// With a label.
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.labels[name] = value.into();
        self
    }

    /// Sets any member of the pod's spec.
    pub fn with(mut self, member: &str, value: Value) -> Self {
        self.spec[member] = value;
        self
    }

    /// Sets any member of the container.
    pub fn with_container(mut self, member: &str, value: Value) -> Self {
        self.spec["containers"][0][member] = value;
        self
    }

    /// As the API server takes it.
    pub fn build(self) -> Value {
        json!({"metadata": {"name": self.name, "labels": self.labels}, "spec": self.spec})
    }

    /// As a Job that tries once.
    pub fn job(self) -> Value {
        json!({
            "metadata": {"name": self.name},
            "spec": {"backoffLimit": 0, "template": {"metadata": {"labels": self.labels}, "spec": self.spec}},
        })
    }
}

fn push(list: &mut Value, item: Value) {
    if let Some(list) = list.as_array_mut() {
        list.push(item);
    }
}

/// A snapshot of a claim, of the class of that name or of the default one.
pub fn snapshot(name: &str, claim: &str, class: Option<&str>) -> Value {
    let mut body = json!({"metadata": {"name": name}, "spec": {"source": {"persistentVolumeClaimName": claim}}});
    if let Some(class) = class {
        body["spec"]["volumeSnapshotClassName"] = class.into();
    }
    body
}

/// A pod's name for a claim's volume, which may not be as long as the claim's own.
fn volume_name(claim: &str) -> &str {
    claim.get(..63).unwrap_or(claim)
}
