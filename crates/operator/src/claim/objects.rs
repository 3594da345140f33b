//! What is made for a protected claim: pure, from the claim, its policy and its repository.

use std::collections::BTreeMap;

use api::decide::Snapshot;
use api::id::RepositoryId;
use api::mover::{Layout, RestoreTask, Selection, Task};
use api::naming::{ClaimKey, destination_job_name, prime_name};
use api::v1alpha1::policy::Mover;
use api::v1alpha1::{BackupPolicySpec, BackupRepository};
use api::volsync::kopia::{DestinationKopia, KopiaCache, KopiaRetain, SourceIdentity, SourceKopia};
use api::volsync::options::{CacheOptions, CopyMethod, CustomCa, DestinationVolumeOptions, MoverConfig, VolumeOptions};
use api::volsync::trigger::Trigger;
use api::volsync::{ReplicationDestination, ReplicationDestinationSpec, ReplicationSource, ReplicationSourceSpec};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

use super::judge::Protection;
use super::plan::Purpose;
use super::volume;
use crate::authorities;
use crate::credentials;
use crate::ids;
use crate::job::{self, Direction, Identity, Run};
use crate::names::{DECISION, FOR_CLAIM, LEAVE_ALONE, MANAGED_BY, MANAGER};
use crate::repository;

/// The trigger of every generated destination.
pub const RESTORE_ONCE: &str = "restore-once";

/// What all objects for one claim are made from.
#[derive(Clone, Copy, Debug)]
pub struct Material<'a> {
    /// The claim.
    pub claim: &'a PersistentVolumeClaim,
    /// Its names.
    pub key: &'a ClaimKey,
    /// How it is backed up.
    pub protection: &'a Protection,
    /// To where.
    pub repository: &'a BackupRepository,
}

impl Material<'_> {
    fn policy(&self) -> &BackupPolicySpec {
        &self.protection.policy.spec
    }

    /// Name, namespace, owner and marks of an object that lives as long as the claim.
    pub fn metadata(&self, name: String) -> ObjectMeta {
        let labels = [(MANAGED_BY, MANAGER.to_owned()), (FOR_CLAIM, self.key.label_value())];
        ObjectMeta {
            name: Some(name),
            namespace: Some(self.key.namespace().to_owned()),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value)).into()),
            annotations: Some(LEAVE_ALONE.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            owner_references: Some(vec![volume::owner(self.claim, false)]),
            ..ObjectMeta::default()
        }
    }

    /// The ReplicationSource `<pvc>-backup`.
    pub fn source(&self) -> ReplicationSource {
        let policy = self.policy();
        let names = explicit_names(self.repository, self.key);
        let kopia = SourceKopia {
            volume: VolumeOptions {
                copy_method: Some(policy.copy_method),
                storage_class_name: policy.storage_class_name.clone(),
                access_modes: access_modes(policy),
                volume_snapshot_class_name: policy.volume_snapshot_class_name.clone(),
                ..VolumeOptions::default()
            },
            repository: Some(self.key.credentials_name()),
            custom_ca: self.custom_ca(),
            retain: Some(retain(self.protection)),
            compression: Some(policy.compression.clone()),
            parallelism: i32::try_from(policy.parallelism).ok(),
            cache: cache(policy),
            username: names.as_ref().map(|(username, _)| username.clone()),
            hostname: names.map(|(_, hostname)| hostname),
            mover: mover(&policy.mover),
            ..SourceKopia::default()
        };
        let trigger = Trigger { schedule: Some(self.protection.cadence.schedule.clone()), manual: None };
        let spec = ReplicationSourceSpec {
            source_pvc: Some(self.claim.name_any()),
            trigger: Some(trigger),
            paused: policy.paused.then_some(true),
            kopia: Some(kopia),
            ..ReplicationSourceSpec::default()
        };
        ReplicationSource { metadata: self.metadata(self.key.backup_name()), spec, status: None }
    }

    /// The ReplicationDestination `<pvc>-backup`.
    pub fn destination(&self) -> ReplicationDestination {
        let policy = self.policy();
        let wanted = self.claim.spec.clone().unwrap_or_default();
        let names = explicit_names(self.repository, self.key);
        let capacity = wanted.resources.and_then(|resources| resources.requests?.get("storage").cloned());
        let source = names
            .is_none()
            .then(|| SourceIdentity { source_name: Some(self.key.backup_name()), ..SourceIdentity::default() });
        let kopia = DestinationKopia {
            volume: DestinationVolumeOptions {
                volume: VolumeOptions {
                    copy_method: Some(CopyMethod::Snapshot),
                    capacity,
                    storage_class_name: wanted.storage_class_name,
                    access_modes: wanted.access_modes.map(|modes| modes.into_iter().take(1).collect()),
                    volume_snapshot_class_name: policy.volume_snapshot_class_name.clone(),
                },
                ..DestinationVolumeOptions::default()
            },
            repository: Some(self.key.credentials_name()),
            custom_ca: self.custom_ca(),
            cache: cache(policy),
            source_identity: source,
            username: names.as_ref().map(|(username, _)| username.clone()),
            hostname: names.map(|(_, hostname)| hostname),
            enable_file_deletion: Some(true),
            mover: mover(&policy.mover),
            ..DestinationKopia::default()
        };
        let trigger = Trigger { schedule: None, manual: Some(RESTORE_ONCE.to_owned()) };
        let spec = ReplicationDestinationSpec {
            trigger: Some(trigger),
            kopia: Some(kopia),
            ..ReplicationDestinationSpec::default()
        };
        ReplicationDestination { metadata: self.metadata(self.key.backup_name()), spec, status: None }
    }

    /// The copy of the repository's certificate authorities, as sections name it.
    fn custom_ca(&self) -> Option<CustomCa> {
        authorities::wanted(&self.repository.spec).map(|_| CustomCa {
            secret_name: Some(authorities::copy_name(&self.key.credentials_name())),
            config_map_name: None,
            key: Some(authorities::KEY.to_owned()),
        })
    }

    /// The claim whose volume is filled: of the same size, class and modes, and on the node where it will be used.
    pub fn prime(&self, purpose: Purpose) -> PersistentVolumeClaim {
        let mut prime = volume::prime(self.claim, self.key, None);
        prime.annotations_mut().insert(DECISION.to_owned(), purpose.as_str().to_owned());
        prime
    }

    /// The Job that writes a snapshot into the prime's volume.
    pub fn restore(&self, snapshot: &Snapshot, id: Option<RepositoryId>, image: &str, identity: Identity) -> Job {
        let policy = self.policy();
        let spec = &self.repository.spec;
        let task = Task::Restore(RestoreTask {
            claim: self.key.clone(),
            identity: repository::identity(spec, self.key),
            data: "/data".into(),
            layout: spec.layout,
            ledger: true,
            cluster: spec.cluster_name.clone(),
            parallelism: None,
            expected_repository_id: id,
            selection: Selection::Id(snapshot.id.clone()),
            may_be_nothing: false,
            // What an earlier try has left is not the user's.
            delete_extra: true,
        });
        let wanted = self.claim.spec.as_ref();
        let run = Run {
            name: &destination_job_name(&self.key.backup_name()),
            namespace: self.key.namespace(),
            owner: volume::owner(self.claim, true),
            image,
            direction: Direction::Restore,
            repository: &self.repository.name_any(),
            class: wanted.and_then(|spec| spec.storage_class_name.as_deref()).unwrap_or_default(),
            secret: &self.key.credentials_name(),
            data: &prime_name(&self.claim.uid().unwrap_or_default()),
            is_live: false,
            directory: credentials::directory(&spec.store),
            authorities: authorities::copy_of(spec, &self.key.credentials_name()),
            identity,
            cache: Some(policy.cache.capacity.clone()),
            variables: repository::variables(spec),
            resources: policy.mover.resources.clone(),
            affinity: policy.mover.affinity.clone(),
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            labels: policy.mover.pod_labels.clone(),
            service_account: policy.mover.service_account.clone(),
            volumes: Vec::new(),
        };
        job::build(&run, &task)
    }
}

/// Username and hostname where VolSync's rule does not give them: in a repository that claims share.
fn explicit_names(repository: &BackupRepository, claim: &ClaimKey) -> Option<(String, String)> {
    match repository.spec.layout {
        Layout::PerClaim => None,
        Layout::Shared => {
            let identity = repository::identity(&repository.spec, claim);
            Some((identity.username, identity.hostname))
        }
    }
}

fn access_modes(policy: &BackupPolicySpec) -> Option<Vec<String>> {
    let modes = policy.access_modes.as_ref()?;
    Some(modes.iter().map(|mode| mode.as_str().to_owned()).collect())
}

fn retain(protection: &Protection) -> KopiaRetain {
    let retain = &protection.cadence.retain;
    let count = |count: Option<u32>| count.and_then(|count| i32::try_from(count).ok());
    KopiaRetain {
        hourly: count(retain.hourly),
        daily: count(retain.daily),
        weekly: count(retain.weekly),
        monthly: count(retain.monthly),
        yearly: count(retain.yearly),
        latest: count(retain.latest),
    }
}

fn cache(policy: &BackupPolicySpec) -> KopiaCache {
    let modes = policy.cache.access_modes.as_ref();
    KopiaCache {
        place: CacheOptions {
            cache_capacity: Some(policy.cache.capacity.clone()),
            cache_storage_class_name: policy.cache.storage_class_name.clone(),
            cache_access_modes: modes.map(|modes| modes.iter().map(|mode| mode.as_str().to_owned()).collect()),
        },
        ..KopiaCache::default()
    }
}

fn mover(mover: &Mover) -> MoverConfig {
    let labels = Some(mover.pod_labels.clone()).filter(|labels| !labels.is_empty());
    MoverConfig {
        mover_security_context: ids::set_by(mover),
        mover_service_account: mover.service_account.clone(),
        mover_pod_labels: labels,
        mover_resources: mover.resources.clone(),
        mover_affinity: mover.affinity.clone(),
        mover_volumes: None,
    }
}
