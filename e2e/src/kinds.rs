//! The kinds of objects that tests touch, as the API server serves them.

use kube::core::ApiResource;

/// One kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Empty for the core group.
    pub group: &'static str,
    /// Version of the group.
    pub version: &'static str,
    /// In the singular, with capitals.
    pub kind: &'static str,
    /// As it stands in addresses.
    pub plural: &'static str,
    /// Else it belongs to the whole cluster.
    pub namespaced: bool,
}

impl Kind {
    const fn new(api: (&'static str, &'static str), kind: &'static str, plural: &'static str) -> Self {
        Self { group: api.0, version: api.1, kind, plural, namespaced: true }
    }

    const fn of_the_cluster(api: (&'static str, &'static str), kind: &'static str, plural: &'static str) -> Self {
        Self { namespaced: false, ..Self::new(api, kind, plural) }
    }

    /// `group/version`, or the version alone in the core group.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// What the client wants to know of it.
    pub fn resource(&self) -> ApiResource {
        ApiResource {
            group: self.group.to_owned(),
            version: self.version.to_owned(),
            api_version: self.api_version(),
            kind: self.kind.to_owned(),
            plural: self.plural.to_owned(),
        }
    }
}

const CORE: (&str, &str) = ("", "v1");
const STORAGE: (&str, &str) = ("storage.k8s.io", "v1");
const SNAPSHOTS: (&str, &str) = ("snapshot.storage.k8s.io", "v1");
const ACCESS: (&str, &str) = ("rbac.authorization.k8s.io", "v1");
const EXTERNAL_SECRETS: (&str, &str) = ("external-secrets.io", "v1");
const VOLSYNC: (&str, &str) = ("volsync.backube", "v1alpha1");
const OURS: (&str, &str) = ("perennial.dev", "v1alpha1");
const ADMISSION: (&str, &str) = ("admissionregistration.k8s.io", "v1");

/// `v1` Namespace.
pub const NAMESPACE: Kind = Kind::of_the_cluster(CORE, "Namespace", "namespaces");
/// `v1` Node.
pub const NODE: Kind = Kind::of_the_cluster(CORE, "Node", "nodes");
/// `v1` Pod.
pub const POD: Kind = Kind::new(CORE, "Pod", "pods");
/// `v1` Service.
pub const SERVICE: Kind = Kind::new(CORE, "Service", "services");
/// `v1` ServiceAccount.
pub const SERVICE_ACCOUNT: Kind = Kind::new(CORE, "ServiceAccount", "serviceaccounts");
/// `v1` ConfigMap.
pub const CONFIG_MAP: Kind = Kind::new(CORE, "ConfigMap", "configmaps");
/// `v1` Secret.
pub const SECRET: Kind = Kind::new(CORE, "Secret", "secrets");
/// `v1` Event.
pub const EVENT: Kind = Kind::new(CORE, "Event", "events");
/// `v1` PersistentVolumeClaim.
pub const CLAIM: Kind = Kind::new(CORE, "PersistentVolumeClaim", "persistentvolumeclaims");
/// `v1` PersistentVolume.
pub const VOLUME: Kind = Kind::of_the_cluster(CORE, "PersistentVolume", "persistentvolumes");
/// `batch/v1` Job.
pub const JOB: Kind = Kind::new(("batch", "v1"), "Job", "jobs");
/// `storage.k8s.io/v1` StorageClass.
pub const STORAGE_CLASS: Kind = Kind::of_the_cluster(STORAGE, "StorageClass", "storageclasses");
/// `snapshot.storage.k8s.io/v1` VolumeSnapshot.
pub const SNAPSHOT: Kind = Kind::new(SNAPSHOTS, "VolumeSnapshot", "volumesnapshots");
/// `snapshot.storage.k8s.io/v1` VolumeSnapshotContent.
pub const SNAPSHOT_CONTENT: Kind = Kind::of_the_cluster(SNAPSHOTS, "VolumeSnapshotContent", "volumesnapshotcontents");
/// `snapshot.storage.k8s.io/v1` VolumeSnapshotClass.
pub const SNAPSHOT_CLASS: Kind = Kind::of_the_cluster(SNAPSHOTS, "VolumeSnapshotClass", "volumesnapshotclasses");
/// `gateway.networking.k8s.io/v1beta1` ReferenceGrant.
pub const GRANT: Kind = Kind::new(("gateway.networking.k8s.io", "v1beta1"), "ReferenceGrant", "referencegrants");
/// `admissionregistration.k8s.io/v1` MutatingAdmissionPolicy.
pub const MUTATING_POLICY: Kind =
    Kind::of_the_cluster(ADMISSION, "MutatingAdmissionPolicy", "mutatingadmissionpolicies");
/// `admissionregistration.k8s.io/v1` MutatingAdmissionPolicyBinding.
pub const MUTATING_POLICY_BINDING: Kind =
    Kind::of_the_cluster(ADMISSION, "MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings");
/// `admissionregistration.k8s.io/v1` ValidatingAdmissionPolicy.
pub const VALIDATING_POLICY: Kind =
    Kind::of_the_cluster(ADMISSION, "ValidatingAdmissionPolicy", "validatingadmissionpolicies");
/// `admissionregistration.k8s.io/v1` ValidatingAdmissionPolicyBinding.
pub const VALIDATING_POLICY_BINDING: Kind =
    Kind::of_the_cluster(ADMISSION, "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings");
/// `admissionregistration.k8s.io/v1` MutatingWebhookConfiguration.
pub const MUTATING_WEBHOOK: Kind =
    Kind::of_the_cluster(ADMISSION, "MutatingWebhookConfiguration", "mutatingwebhookconfigurations");
/// `rbac.authorization.k8s.io/v1` Role.
pub const ROLE: Kind = Kind::new(ACCESS, "Role", "roles");
/// `rbac.authorization.k8s.io/v1` RoleBinding.
pub const ROLE_BINDING: Kind = Kind::new(ACCESS, "RoleBinding", "rolebindings");
/// `rbac.authorization.k8s.io/v1` ClusterRole.
pub const CLUSTER_ROLE: Kind = Kind::of_the_cluster(ACCESS, "ClusterRole", "clusterroles");
/// `coordination.k8s.io/v1` Lease.
pub const LEASE: Kind = Kind::new(("coordination.k8s.io", "v1"), "Lease", "leases");
/// `external-secrets.io/v1` SecretStore.
pub const SECRET_STORE: Kind = Kind::new(EXTERNAL_SECRETS, "SecretStore", "secretstores");
/// `external-secrets.io/v1` ClusterSecretStore.
pub const CLUSTER_SECRET_STORE: Kind =
    Kind::of_the_cluster(EXTERNAL_SECRETS, "ClusterSecretStore", "clustersecretstores");
/// `external-secrets.io/v1` ExternalSecret.
pub const EXTERNAL_SECRET: Kind = Kind::new(EXTERNAL_SECRETS, "ExternalSecret", "externalsecrets");
/// `apiextensions.k8s.io/v1` CustomResourceDefinition.
pub const DEFINITION: Kind =
    Kind::of_the_cluster(("apiextensions.k8s.io", "v1"), "CustomResourceDefinition", "customresourcedefinitions");
/// `volsync.backube/v1alpha1` ReplicationSource.
pub const SOURCE: Kind = Kind::new(VOLSYNC, "ReplicationSource", "replicationsources");
/// `volsync.backube/v1alpha1` ReplicationDestination.
pub const DESTINATION: Kind = Kind::new(VOLSYNC, "ReplicationDestination", "replicationdestinations");
/// `perennial.dev/v1alpha1` BackupRepository.
pub const REPOSITORY: Kind = Kind::of_the_cluster(OURS, "BackupRepository", "backuprepositories");
/// `perennial.dev/v1alpha1` BackupPolicy.
pub const POLICY: Kind = Kind::of_the_cluster(OURS, "BackupPolicy", "backuppolicies");
/// `apps/v1` StatefulSet.
pub const STATEFUL_SET: Kind = Kind::new(("apps", "v1"), "StatefulSet", "statefulsets");
/// `apps/v1` Deployment.
pub const DEPLOYMENT: Kind = Kind::new(("apps", "v1"), "Deployment", "deployments");
