//! The Job of a mover: its pod, what is mounted into it, and what it says when it ends.
//!
//! A Job tries once. Whether and when it is tried again is decided outside, with what it has said in hand.

use std::collections::BTreeMap;

use api::mover::{Report, Task};
use api::naming::label_value;
use api::volsync::options::MoverVolume;
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, Container, EmptyDirVolumeSource, EnvVar, NFSVolumeSource,
    PersistentVolumeClaimVolumeSource, Pod, PodSecurityContext, PodSpec, PodTemplateSpec, ResourceRequirements,
    SeccompProfile, SecretVolumeSource, SecurityContext, Toleration, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::ResourceExt;

use crate::authorities::{self, Authorities};
use crate::caches::Caches;
use crate::ids::Ids;
use crate::names::{CLASS, CLEANUP, CREATED_BY, CREATOR, DIRECTION, OWNER, REPOSITORY};

/// Where the mover finds the Secret's keys as files: a file that changes is read anew, a variable never.
const CREDENTIALS_PATH: &str = "/run/perennial/credentials";

/// Where a repository in a directory is mounted.
pub const REPOSITORY_PATH: &str = "/repository";

/// How long a pod may take to leave the repository in order after it was told to end.
const GRACE_S: i64 = 60;

/// What a mover gets where nobody says anything. A backup of half a million files takes 131 MiB (docs/benchmarks.md); more
/// memory means more that is under way at once.
const MEMORY_REQUEST: &str = "128Mi";
const MEMORY_LIMIT: &str = "512Mi";
const CPU_REQUEST: &str = "50m";

/// What a mover with elevated rights needs beside user 0: to read what it does not own, and to give away what it makes.
/// Pod Security `baseline` allows all of these.
const ELEVATED: [&str; 6] = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "MKNOD", "SETFCAP"];

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Into the repository.
    Backup,
    /// Out of it.
    Restore,
}

impl Direction {
    /// The word for labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Restore => "restore",
        }
    }
}

/// As whom a mover runs.
#[derive(Clone, Debug, PartialEq)]
pub enum Identity {
    /// As that user and group.
    Plain(Ids),
    /// As somebody said in so many words.
    Given(Box<PodSecurityContext>),
    /// As root with what it takes to read and write files of everybody.
    Elevated(Option<Box<PodSecurityContext>>),
}

impl Identity {
    /// Elevated where the namespace allows it, else as somebody says, else as those.
    pub fn of(is_privileged: bool, given: Option<Box<PodSecurityContext>>, ids: Ids) -> Self {
        match (is_privileged, given) {
            (true, given) => Self::Elevated(given),
            (false, Some(given)) => Self::Given(given),
            (false, None) => Self::Plain(ids),
        }
    }
}

/// Where a repository that is no bucket is.
#[derive(Clone, Debug, PartialEq)]
pub enum Directory {
    /// A directory that an NFS server exports.
    Nfs {
        /// The server.
        server: String,
        /// The directory.
        path: String,
    },
    /// A claim of the mover's namespace.
    Claim(String),
}

/// Everything about a mover's run but its task.
#[derive(Clone, Debug)]
pub struct Run<'a> {
    /// The Job's name.
    pub name: &'a str,
    /// The Job's namespace.
    pub namespace: &'a str,
    /// For whom it runs, and with whom it goes.
    pub owner: OwnerReference,
    /// The program's image.
    pub image: &'a str,
    /// Which way.
    pub direction: Direction,
    /// The BackupRepository, for the limits; the Secret's name where there is none.
    pub repository: &'a str,
    /// The storage class of the volume, for the limits.
    pub class: &'a str,
    /// The Secret with the credentials.
    pub secret: &'a str,
    /// The claim that is mounted at `/data`.
    pub data: &'a str,
    /// Whether that is somebody's claim and not a copy of it: then nothing may change it, and the kubelet must not give its
    /// files to the mover's group.
    pub is_live: bool,
    /// Where the repository is, if it is no bucket.
    pub directory: Option<Directory>,
    /// Certificate authorities beside the system's.
    pub authorities: Option<Authorities>,
    /// As whom.
    pub identity: Identity,
    /// Size of the cache, which comes and goes with the pod.
    pub cache: Option<Quantity>,
    /// More variables: name and value.
    pub variables: Vec<(&'static str, String)>,
    /// Resources of the container; the usual ones when absent.
    pub resources: Option<ResourceRequirements>,
    /// Affinity of the pod.
    pub affinity: Option<Affinity>,
    /// The node's labels.
    pub node_selector: BTreeMap<String, String>,
    /// Taints that the pod puts up with.
    pub tolerations: Vec<Toleration>,
    /// Labels over those that the pod has anyway.
    pub labels: BTreeMap<String, String>,
    /// Account of the pod; the namespace's default one when absent. Its token is not mounted.
    pub service_account: Option<String>,
    /// More volumes.
    pub volumes: Vec<MoverVolume>,
}

/// The Job that does the task.
pub fn build(run: &Run<'_>, task: &Task) -> Job {
    let mut labels = BTreeMap::from([
        (CREATED_BY.to_owned(), CREATOR.to_owned()),
        (OWNER.to_owned(), label_value(&run.owner.name)),
        (CLEANUP.to_owned(), run.owner.uid.clone()),
        (REPOSITORY.to_owned(), label_value(run.repository)),
        (DIRECTION.to_owned(), run.direction.as_str().to_owned()),
        (CLASS.to_owned(), label_value(run.class)),
    ]);
    let metadata = ObjectMeta {
        name: Some(run.name.to_owned()),
        namespace: Some(run.namespace.to_owned()),
        labels: Some(labels.clone()),
        owner_references: Some(vec![run.owner.clone()]),
        ..ObjectMeta::default()
    };
    labels.extend(run.labels.clone());
    let template = PodTemplateSpec {
        metadata: Some(ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }),
        spec: Some(pod(run, task)),
    };
    Job { metadata, spec: Some(JobSpec { backoff_limit: Some(0), template, ..JobSpec::default() }), status: None }
}

fn pod(run: &Run<'_>, task: &Task) -> PodSpec {
    let mounts = mounts(run);
    let (volumes, volume_mounts) = mounts.into_iter().unzip();
    let command = ["/perennial", "mover", "--verbose", "--task"].map(str::to_owned).into();
    let task = serde_json::to_string(task).expect("a task is text and numbers");
    PodSpec {
        containers: vec![Container {
            // Queries for logs name it so.
            name: "kopia".to_owned(),
            image: Some(run.image.to_owned()),
            command: Some(command),
            args: Some(vec![task]),
            env: Some(variables(run)),
            resources: Some(
                run.resources.clone().unwrap_or_else(|| self::resources(CPU_REQUEST, MEMORY_REQUEST, MEMORY_LIMIT)),
            ),
            security_context: Some(container_security(&run.identity)),
            volume_mounts: Some(volume_mounts),
            ..Container::default()
        }],
        volumes: Some(volumes),
        restart_policy: Some("Never".to_owned()),
        termination_grace_period_seconds: Some(GRACE_S),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        service_account_name: run.service_account.clone(),
        security_context: Some(pod_security(&run.identity)),
        affinity: run.affinity.clone(),
        node_selector: (!run.node_selector.is_empty()).then(|| run.node_selector.clone()),
        tolerations: (!run.tolerations.is_empty()).then(|| run.tolerations.clone()),
        ..PodSpec::default()
    }
}

fn variables(run: &Run<'_>) -> Vec<EnvVar> {
    let fixed = [
        ("PERENNIAL_CREDENTIALS_DIRECTORY", CREDENTIALS_PATH.to_owned()),
        ("KOPIA_CACHE_DIRECTORY", "/cache".to_owned()),
        ("HOME", "/tmp".to_owned()),
    ];
    let (variable, path) = authorities::VARIABLE;
    let authorities = run.authorities.iter().map(|_| (variable, path.to_owned()));
    let all = fixed.into_iter().chain(authorities).chain(run.variables.iter().cloned());
    all.map(|(name, value)| EnvVar { name: name.to_owned(), value: Some(value), value_from: None }).collect()
}

/// Volumes with their mounts.
fn mounts(run: &Run<'_>) -> Vec<(Volume, VolumeMount)> {
    let is_backup = run.direction == Direction::Backup;
    let mut mounts = vec![
        mount("data", "/data", is_backup, claim(run.data, run.is_live)),
        mount("cache", "/cache", false, empty(None, run.cache.clone())),
        mount("tempdir", "/tmp", false, empty(Some("Memory"), None)),
        mount("credentials", CREDENTIALS_PATH, true, secret(run.secret)),
    ];
    if let Some(directory) = &run.directory {
        mounts.push(mount("repository", REPOSITORY_PATH, false, directory_volume(directory)));
    }
    if let Some(authorities) = &run.authorities {
        mounts.push(mount("custom-ca", authorities::PATH, true, authorities.volume()));
    }
    mounts.extend(run.volumes.iter().map(|volume| {
        let name = format!("u-{}", volume.mount_path.replace('/', "-"));
        let source = Volume {
            nfs: volume.volume_source.nfs.clone(),
            secret: volume.volume_source.secret.clone(),
            persistent_volume_claim: volume.volume_source.persistent_volume_claim.clone(),
            ..Volume::default()
        };
        mount(&name, &format!("/mnt/{}", volume.mount_path), false, source)
    }));
    mounts
}

fn mount(name: &str, path: &str, read_only: bool, volume: Volume) -> (Volume, VolumeMount) {
    let mount = VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    };
    (Volume { name: name.to_owned(), ..volume }, mount)
}

fn claim(name: &str, read_only: bool) -> Volume {
    let source =
        PersistentVolumeClaimVolumeSource { claim_name: name.to_owned(), read_only: read_only.then_some(true) };
    Volume { persistent_volume_claim: Some(source), ..Volume::default() }
}

fn secret(name: &str) -> Volume {
    // Readable for the mover's group, whoever it runs as.
    let source = SecretVolumeSource {
        secret_name: Some(name.to_owned()),
        default_mode: Some(0o444),
        ..SecretVolumeSource::default()
    };
    Volume { secret: Some(source), ..Volume::default() }
}

fn empty(medium: Option<&str>, size: Option<Quantity>) -> Volume {
    let source = EmptyDirVolumeSource { medium: medium.map(str::to_owned), size_limit: size };
    Volume { empty_dir: Some(source), ..Volume::default() }
}

/// The volume of a repository in a directory.
pub fn directory_volume(directory: &Directory) -> Volume {
    match directory {
        Directory::Nfs { server, path } => {
            let source = NFSVolumeSource { server: server.clone(), path: path.clone(), read_only: None };
            Volume { nfs: Some(source), ..Volume::default() }
        }
        Directory::Claim(name) => claim(name, false),
    }
}

/// What a container asks for: a share of a processor and memory; and its limit of memory. A processor has none: what is idle
/// may be used.
pub fn resources(cpu: &str, memory: &str, memory_limit: &str) -> ResourceRequirements {
    let quantity = |text: &str| Quantity(text.to_owned());
    ResourceRequirements {
        requests: Some(BTreeMap::from([("cpu".to_owned(), quantity(cpu)), ("memory".to_owned(), quantity(memory))])),
        limits: Some(BTreeMap::from([("memory".to_owned(), quantity(memory_limit))])),
        ..ResourceRequirements::default()
    }
}

/// Pod Security `restricted`, unless the namespace allows more or somebody says otherwise.
fn pod_security(identity: &Identity) -> PodSecurityContext {
    let seccomp = Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None });
    match identity {
        Identity::Plain(Ids { uid, gid, fs_group }) => PodSecurityContext {
            run_as_non_root: Some(*uid != 0),
            run_as_user: Some(*uid),
            run_as_group: Some(*gid),
            fs_group: *fs_group,
            // A volume whose root belongs to the group already is not gone through again.
            fs_group_change_policy: fs_group.map(|_| "OnRootMismatch".to_owned()),
            seccomp_profile: seccomp,
            ..PodSecurityContext::default()
        },
        Identity::Given(context) => {
            PodSecurityContext { seccomp_profile: context.seccomp_profile.clone().or(seccomp), ..(**context).clone() }
        }
        // Whoever may read everything needs no group, and what the kubelet does to give it one would be backed up.
        Identity::Elevated(context) => PodSecurityContext {
            seccomp_profile: seccomp,
            fs_group: None,
            fs_group_change_policy: None,
            ..context.as_deref().cloned().unwrap_or_default()
        },
    }
}

fn container_security(identity: &Identity) -> SecurityContext {
    let is_elevated = matches!(identity, Identity::Elevated(_));
    SecurityContext {
        allow_privilege_escalation: Some(false),
        privileged: Some(false),
        read_only_root_filesystem: Some(true),
        run_as_user: is_elevated.then_some(0),
        run_as_non_root: is_elevated.then_some(false),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            add: is_elevated.then(|| ELEVATED.map(str::to_owned).into()),
        }),
        ..SecurityContext::default()
    }
}

/// How far a Job is.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// It has not ended.
    Running,
    /// It has, and nobody has seen yet what its pod said.
    Ending,
    /// It has, with this report; none if the pod died before it could write one.
    Ended(Option<Box<Report>>),
}

/// How far the Job is, from its conditions and its pod's last words.
pub fn progress(job: &Job, caches: &Caches) -> Progress {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let has_ended =
        conditions.iter().any(|found| matches!(found.type_.as_str(), "Complete" | "Failed") && found.status == "True");
    if !has_ended {
        return Progress::Running;
    }
    let uid = job.uid();
    let is_of_job = |pod: &Pod| {
        pod.namespace() == job.namespace() && pod.owner_references().iter().any(|o| Some(&o.uid) == uid.as_ref())
    };
    let pods = caches.pods.state_filter(is_of_job);
    let words = pods.iter().filter_map(|pod| last_words(pod)).next_back();
    match words {
        Some(text) => Progress::Ended(Report::from_termination_message(&text).ok().map(Box::new)),
        // The pod's end and the Job's arrive by two watches.
        None if pods.iter().any(|pod| !has_terminated(pod)) => Progress::Ending,
        None => Progress::Ended(None),
    }
}

fn has_terminated(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn last_words(pod: &Pod) -> Option<String> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.iter().find_map(|status| status.state.as_ref()?.terminated.as_ref()?.message.clone())
}

/// Why a Job's pod does not run, in the words of whoever keeps it from running; none while all is well.
pub fn obstacle(job: &Job, caches: &Caches) -> Option<String> {
    let uid = job.uid();
    let pods =
        caches.pods.state_filter(|pod| pod.owner_references().iter().any(|owner| Some(&owner.uid) == uid.as_ref()));
    pods.iter().find_map(|pod| {
        let status = pod.status.as_ref()?;
        let waiting =
            status.container_statuses.iter().flatten().find_map(|status| status.state.as_ref()?.waiting.clone());
        if let Some(waiting) = waiting.filter(|waiting| waiting.reason.as_deref() != Some("ContainerCreating")) {
            let reason = waiting.reason.unwrap_or_default();
            return Some(format!("{reason}: {}", waiting.message.unwrap_or_default()));
        }
        let unscheduled = status
            .conditions
            .iter()
            .flatten()
            .find(|found| found.type_ == "PodScheduled" && found.status == "False")?;
        unscheduled.message.clone()
    })
}

#[cfg(test)]
mod tests;
