//! What a repository's catalog is made of: pure, from the repository and how the operator was started.

use std::collections::BTreeMap;

use api::mover::Layout;
use api::naming::label_value;
use api::v1alpha1::BackupRepository;
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EmptyDirVolumeSource, EnvVar, HTTPGetAction, PodSecurityContext, PodSpec,
    PodTemplateSpec, Probe, SeccompProfile, Secret, SecretVolumeSource, SecurityContext, Service, ServicePort,
    ServiceSpec, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{Resource, ResourceExt};

use super::{catalog_name, token_name, variables};
use crate::authorities;
use crate::catalogs::PORT;
use crate::context::Settings;
use crate::credentials;
use crate::ids;
use crate::job::{REPOSITORY_PATH, directory_volume, resources};
use crate::names::{MANAGED_BY, MANAGER, REPOSITORY};
use crate::sync;

const CREDENTIALS_PATH: &str = "/run/perennial/credentials";
const TOKEN_PATH: &str = "/run/perennial/token";

/// Who reads a repository in a bucket: nobody that a machine has, like the image's own user. What lies in a directory only
/// its owner may read, and that is the user of the movers.
fn user(repository: &BackupRepository) -> i64 {
    match credentials::directory(&repository.spec.store) {
        None => sync::USER.uid,
        Some(_) => ids::USUAL.uid,
    }
}

/// The repository whose catalog answers as pvc-plumber did.
const DEFAULT: &str = "default";

/// Under which name and port existing callers ask.
const PVC_PLUMBER: &str = "pvc-plumber";
const PVC_PLUMBER_PORT: i32 = 80;

/// Set on the catalog's pods so that a changed Secret makes new ones.
const CREDENTIALS_VERSION: &str = "perennial.dev/credentials";

/// A key derivation takes 64 MiB, one at a time; the rest is indexes.
const MEMORY_LIMIT: &str = "192Mi";
const MEMORY_REQUEST: &str = "128Mi";
const CPU_REQUEST: &str = "20m";

/// Name, namespace, owner and marks of an object of the catalog.
pub fn metadata(repository: &BackupRepository, namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        labels: Some(labels(&repository.name_any())),
        owner_references: Some(vec![OwnerReference {
            api_version: BackupRepository::api_version(&()).into_owned(),
            kind: BackupRepository::kind(&()).into_owned(),
            name: repository.name_any(),
            uid: repository.uid().unwrap_or_default(),
            controller: Some(true),
            block_owner_deletion: None,
        }]),
        ..ObjectMeta::default()
    }
}

fn labels(repository: &str) -> BTreeMap<String, String> {
    let own = [(MANAGED_BY, MANAGER.to_owned()), ("app.kubernetes.io/component", "catalog".to_owned())];
    own.into_iter().chain(selector(repository)).map(|(key, value)| (key.to_owned(), value)).collect()
}

/// The decision log of the default repository is where people look for it: at the pods of this name.
fn selector(repository: &str) -> [(&'static str, String); 2] {
    let name = if repository == DEFAULT { PVC_PLUMBER } else { "perennial-catalog" };
    [("app.kubernetes.io/name", name.to_owned()), (REPOSITORY, label_value(repository))]
}

/// The Secret with the catalog's token.
pub fn token(repository: &BackupRepository, namespace: &str, name: &str, key: &str, token: String) -> Secret {
    Secret {
        metadata: metadata(repository, namespace, name),
        data: Some(BTreeMap::from([(key.to_owned(), ByteString(token.into_bytes()))])),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    }
}

/// The Services that lead to the catalog.
pub fn services(repository: &BackupRepository, namespace: &str) -> Vec<Service> {
    let name = repository.name_any();
    let service = |service: &str, port: i32| Service {
        metadata: metadata(repository, namespace, service),
        spec: Some(ServiceSpec {
            selector: Some(selector(&name).map(|(key, value)| (key.to_owned(), value)).into()),
            ports: Some(vec![ServicePort {
                name: Some("http".to_owned()),
                port,
                target_port: Some(IntOrString::String("http".to_owned())),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    };
    let mut services = vec![service(&catalog_name(&name), i32::from(PORT))];
    if name == DEFAULT {
        services.push(service(PVC_PLUMBER, PVC_PLUMBER_PORT));
    }
    services
}

/// The catalog's Deployment. `version` changes with the credentials, and the pods with it.
pub fn deployment(repository: &BackupRepository, settings: &Settings, version: &str) -> Deployment {
    let name = repository.name_any();
    let selector: BTreeMap<String, String> = selector(&name).map(|(key, value)| (key.to_owned(), value)).into();
    let template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels(&name)),
            annotations: Some(BTreeMap::from([(CREDENTIALS_VERSION.to_owned(), version.to_owned())])),
            ..ObjectMeta::default()
        }),
        spec: Some(pod(repository, settings)),
    };
    Deployment {
        metadata: metadata(repository, &settings.namespace, &catalog_name(&name)),
        spec: Some(DeploymentSpec {
            replicas: Some(1),
            selector: LabelSelector { match_labels: Some(selector), match_expressions: None },
            strategy: Some(DeploymentStrategy { type_: Some("RollingUpdate".to_owned()), rolling_update: None }),
            template,
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

fn pod(repository: &BackupRepository, settings: &Settings) -> PodSpec {
    let (spec, user) = (&repository.spec, user(repository));
    let mut mounts = vec![
        mount("credentials", CREDENTIALS_PATH, secret(&catalog_name(&repository.name_any()))),
        mount("token", TOKEN_PATH, secret(&token_name(&repository.name_any()))),
        mount("tmp", "/tmp", Volume { empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() }),
    ];
    if let Some(directory) = credentials::directory(&spec.store) {
        mounts.push(mount("repository", REPOSITORY_PATH, directory_volume(&directory)));
    }
    if let Some(authorities) = authorities::copy_of(spec, &catalog_name(&repository.name_any())) {
        mounts.push(mount("custom-ca", authorities::PATH, authorities.volume()));
    }
    let (volumes, volume_mounts) = mounts.into_iter().unzip();
    PodSpec {
        containers: vec![Container {
            name: "catalog".to_owned(),
            image: Some(settings.image.clone()),
            command: Some(command(spec.layout)),
            env: Some(environment(repository)),
            ports: Some(vec![ContainerPort {
                name: Some("http".to_owned()),
                container_port: i32::from(PORT),
                ..ContainerPort::default()
            }]),
            resources: Some(
                spec.catalog.resources.clone().unwrap_or_else(|| resources(CPU_REQUEST, MEMORY_REQUEST, MEMORY_LIMIT)),
            ),
            liveness_probe: Some(probe("/healthz", 10)),
            // Not the repository: whether that answers is an answer, and must be had.
            readiness_probe: Some(probe("/healthz", 2)),
            security_context: Some(SecurityContext {
                allow_privilege_escalation: Some(false),
                privileged: Some(false),
                read_only_root_filesystem: Some(true),
                capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
                ..SecurityContext::default()
            }),
            volume_mounts: Some(volume_mounts),
            ..Container::default()
        }],
        volumes: Some(volumes),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        service_account_name: settings.catalog_account.clone(),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(user),
            run_as_group: Some(user),
            fs_group: Some(user),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
            ..PodSecurityContext::default()
        }),
        node_selector: Some(spec.catalog.node_selector.clone()).filter(|labels| !labels.is_empty()),
        tolerations: Some(spec.catalog.tolerations.clone()).filter(|tolerations| !tolerations.is_empty()),
        ..PodSpec::default()
    }
}

fn command(layout: Layout) -> Vec<String> {
    let layout = match layout {
        Layout::PerClaim => "per-claim",
        Layout::Shared => "shared",
    };
    let token = format!("{TOKEN_PATH}/{}", super::TOKEN);
    ["/perennial", "catalog", "--verbose", "--layout", layout, "--token-file", &token].map(str::to_owned).into()
}

fn environment(repository: &BackupRepository) -> Vec<EnvVar> {
    let fixed = [("PERENNIAL_CREDENTIALS_DIRECTORY", CREDENTIALS_PATH.to_owned()), ("HOME", "/tmp".to_owned())];
    let (variable, path) = authorities::VARIABLE;
    let authorities = authorities::wanted(&repository.spec).map(|_| (variable, path.to_owned()));
    let all = fixed.into_iter().chain(authorities).chain(variables(&repository.spec));
    all.map(|(name, value)| EnvVar { name: name.to_owned(), value: Some(value), value_from: None }).collect()
}

fn mount(name: &str, path: &str, volume: Volume) -> (Volume, VolumeMount) {
    let is_written = name == "tmp";
    let mount = VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: (!is_written).then_some(true),
        ..VolumeMount::default()
    };
    (Volume { name: name.to_owned(), ..volume }, mount)
}

fn secret(name: &str) -> Volume {
    let source = SecretVolumeSource { secret_name: Some(name.to_owned()), ..SecretVolumeSource::default() };
    Volume { secret: Some(source), ..Volume::default() }
}

fn probe(path: &str, period_seconds: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("http".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(5),
        failure_threshold: Some(6),
        ..Probe::default()
    }
}
