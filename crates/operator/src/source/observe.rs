//! What is seen of a source: its claim, what was made for it, and how its mover is to run.

use std::sync::Arc;

use api::mover::Layout;
use api::naming::{ClaimKey, Identity, VolsyncNames, source_job_name, volsync_identity};
use api::recorded::Recorded;
use api::v1alpha1::repository::Limits;
use api::v1alpha1::{BackupPolicy, BackupRepository};
use api::volsync::ReplicationSource;
use api::volsync::kopia::SourceKopia;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;

use crate::authorities::Authorities;
use crate::caches::key;
use crate::claim::judge::{Judgement, judge};
use crate::claim::word::Said;
use crate::consumers::{self, Consumer, Place};
use crate::context::Context;
use crate::error::{Error, retry_after};
use crate::ids::{self, Ids};
use crate::job::{self, Progress};
use crate::names::{DECISION, MANAGED_BY, MANAGER};
use crate::repository;
use crate::snapshots::VolumeSnapshot;
use crate::sync::{self, USER, checked, owns};

/// Everything that [`plan`](super::plan::plan) needs to know.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The claim; none if it is not there.
    pub claim: Option<Arc<PersistentVolumeClaim>>,
    /// The mover's section, or why there is none.
    pub kopia: Result<SourceKopia, String>,
    /// How the mover is to run.
    pub run: Run,
    /// What the repository's Secret lacks; none while it is not needed.
    pub secret: Result<(), String>,
    /// The Job of this source.
    pub job: Option<Arc<Job>>,
    /// How far it is.
    pub progress: Option<Progress>,
    /// What keeps it from running.
    pub obstacle: Option<String>,
    /// A Job of its name that is somebody else's.
    pub foreign_job: Option<String>,
    /// The VolumeSnapshot of this source.
    pub snapshot: Option<Arc<VolumeSnapshot>>,
    /// The claim made of it, or the clone.
    pub copy: Option<Arc<PersistentVolumeClaim>>,
    /// Why the volume is read directly although a VolumeSnapshot is asked for; none where one can be taken.
    pub directly: Option<String>,
    /// How long to wait after the last failure.
    pub pause: std::time::Duration,
    /// The image of movers.
    pub image: String,
}

/// How the mover of a source runs.
#[derive(Clone, Debug)]
pub struct Run {
    /// What only a generated source has.
    pub own: Option<Own>,
    /// The history in the repository.
    pub identity: Identity,
    /// How repositories lie in the store.
    pub layout: Layout,
    /// The repository, by which limits are counted.
    pub repository: String,
    /// How many movers it may have.
    pub limits: Limits,
    /// The storage class of the volume.
    pub class: String,
    /// Whether the namespace allows elevated rights.
    pub is_privileged: bool,
    /// As whom it runs where the source does not say.
    pub ids: Ids,
    /// Where it has to run if it reads the claim itself.
    pub place: Place,
    /// The mover, for metrics.
    pub method: String,
}

/// What a generated source has behind it.
#[derive(Clone, Debug)]
pub struct Own {
    /// Its claim's names.
    pub key: ClaimKey,
    /// Its repository.
    pub repository: Arc<BackupRepository>,
    /// Its policy.
    pub policy: Arc<BackupPolicy>,
    /// What a person says about its claim.
    pub said: Said,
    /// Which repository it must be, if one was seen or somebody says so.
    pub expected: Option<api::id::RepositoryId>,
    /// Whether there are backups of the claim: that its volume is empty is alarming then.
    pub has_history: bool,
}

/// Looks at everything.
///
/// # Errors
/// The API server does not answer.
pub async fn observe(context: &Context, source: &ReplicationSource) -> Result<Observed, Error> {
    let caches = &context.caches;
    let namespace = source.namespace();
    let claim = source.spec.source_pvc.as_deref().and_then(|name| caches.claims.get(&key(name, namespace.clone())));
    let (own, kopia) = match own(context, source, claim.as_deref()) {
        Ok(own) => (own, sync::section(source.spec.method())),
        Err(why) => (None, Err(why)),
    };
    let mut run = run(context, source, claim.as_deref(), kopia.as_ref().ok(), own);
    let name = source.name_any();
    let job = caches.jobs.get(&key::<Job>(&source_job_name(&name), namespace.clone()));
    let (job, foreign_job) = sync::own_or_foreign(source, job);
    let copy = format!("volsync-{name}-src");
    let snapshot = caches.snapshots.get(&key(&copy, namespace.clone())).filter(|found| owns(source, &**found));
    let copy = caches.claims.get(&key(&copy, namespace.clone())).filter(|found| owns(source, &**found));
    let volumes = kopia.as_ref().ok().and_then(|kopia| kopia.mover.mover_volumes.clone()).unwrap_or_default();
    let secret = match kopia.as_ref().ok().and_then(|kopia| kopia.repository.clone()) {
        Some(secret) if job.is_none() => {
            let authorities = Authorities::of(kopia.as_ref().ok().and_then(|kopia| kopia.custom_ca.as_ref()));
            checked(context, namespace.as_deref().unwrap_or_default(), &secret, &volumes, authorities.as_ref()).await?
        }
        Some(_) => Ok(()),
        None => Err("spec.kopia.repository names no Secret".to_owned()),
    };
    let is_under_way = source.status.as_ref().is_some_and(|status| status.sync.last_sync_start_time.is_some());
    if let Some(claim) = claim.as_deref().filter(|_| is_under_way && job.is_none()) {
        let consumers = consumers::look(context, namespace.as_deref().unwrap_or_default(), &claim.name_any()).await?;
        run.place = consumers::place(claim, &consumers);
        run.ids = ids(context, run.own.as_ref(), &consumers);
    }
    Ok(Observed {
        progress: job.as_deref().map(|job| job::progress(job, caches)),
        obstacle: job.as_deref().and_then(|job| job::obstacle(job, caches)),
        directly: without_snapshots(context, &run),
        pause: retry_after(context.failures(source).saturating_add(2)),
        image: context.settings.image.clone(),
        claim,
        kopia,
        run,
        secret,
        job,
        foreign_job,
        snapshot,
        copy,
    })
}

/// What stands behind a generated source; an error if that is not there any more. A source that somebody wrote has nothing
/// behind it, whatever its name.
fn own(
    context: &Context,
    source: &ReplicationSource,
    claim: Option<&PersistentVolumeClaim>,
) -> Result<Option<Own>, String> {
    let Some(claim) = claim.filter(|_| source.labels().get(MANAGED_BY).map(String::as_str) == Some(MANAGER)) else {
        return Ok(None);
    };
    // A claim that was created again is backed up when its own gate opens, and not by what its predecessor has left.
    if !source.owner_references().iter().any(|owner| Some(&owner.uid) == claim.uid().as_ref()) {
        return Err(format!("made for an earlier claim of the name {}, and goes with it", claim.name_any()));
    }
    let namespace = claim.namespace().unwrap_or_default();
    let space = context.caches.namespaces.get(&key(&namespace, None));
    let labels = space.map(|space| space.labels().clone()).unwrap_or_default();
    let Judgement::Protected(protection) = judge(claim, &labels, &context.caches.policies_in_order()) else {
        return Err(format!("no policy asks for backups of claim {} any more", claim.name_any()));
    };
    let name = &protection.policy.spec.repository;
    let repository = context.caches.repositories.get(&key(name, None));
    let repository = repository.ok_or_else(|| format!("BackupRepository {name} does not exist"))?;
    let names = ClaimKey::new(namespace, claim.name_any()).map_err(|error| error.to_string())?;
    let known = context.ledger.of(&repository.name_any(), &names).map(|entry| entry.repository_id);
    let decided = claim.annotations().get(DECISION).map(String::as_str);
    let decided = Recorded::read(decided, &claim.uid().unwrap_or_default());
    let has_history = known.is_some() || decided.is_some_and(|recorded| recorded.verdict.tells_of_a_history());
    let expected = repository.spec.id.clone().or(known);
    Ok(Some(Own { key: names, policy: protection.policy, said: protection.said, expected, has_history, repository }))
}

/// Why no VolumeSnapshot of the volume can be taken, if so.
fn without_snapshots(context: &Context, run: &Run) -> Option<String> {
    if !context.able.volume_snapshots {
        return Some("the cluster has no VolumeSnapshots".to_owned());
    }
    // Who wrote a source by hand has asked for what stands in it.
    run.own.as_ref()?;
    let class = context.caches.classes.get(&key(&run.class, None))?;
    let driver = &class.provisioner;
    let is_for_it = context.caches.snapshot_classes.find(|found| found.driver == *driver).is_some();
    (!is_for_it).then(|| format!("the driver {driver} of class {} has no VolumeSnapshotClass", run.class))
}

fn run(
    context: &Context,
    source: &ReplicationSource,
    claim: Option<&PersistentVolumeClaim>,
    kopia: Option<&SourceKopia>,
    own: Option<Own>,
) -> Run {
    let namespace = source.namespace().unwrap_or_default();
    let is_privileged = sync::is_privileged(context, &namespace);
    let class = claim.and_then(|claim| claim.spec.as_ref()?.storage_class_name.clone()).unwrap_or_default();
    let (identity, layout, repository, limits) = match &own {
        Some(own) => {
            let spec = &own.repository.spec;
            (repository::identity(spec, &own.key), spec.layout, own.repository.name_any(), spec.limits)
        }
        None => {
            let text = |value: Option<&String>| value.map(String::as_str).unwrap_or_default().to_owned();
            let identity = volsync_identity(&VolsyncNames {
                name: &source.name_any(),
                namespace: &namespace,
                username: &text(kopia.and_then(|kopia| kopia.username.as_ref())),
                hostname: &text(kopia.and_then(|kopia| kopia.hostname.as_ref())),
                path: &text(kopia.and_then(|kopia| kopia.source_path_override.as_ref())),
                ..VolsyncNames::default()
            });
            let secret = kopia.and_then(|kopia| kopia.repository.clone()).unwrap_or_default();
            (identity, Layout::Shared, format!("{namespace}.{secret}"), Limits::default())
        }
    };
    Run {
        own,
        identity,
        layout,
        repository,
        limits,
        class,
        is_privileged,
        ids: USER,
        place: Place::Anywhere,
        method: "kopia".to_owned(),
    }
}

/// As whom a backup runs: as the last one that has read all, else as the pods that use the claim.
fn ids(context: &Context, own: Option<&Own>, consumers: &[Consumer]) -> Ids {
    match own {
        Some(own) => {
            let recorded = context.ledger.of(&own.repository.name_any(), &own.key).and_then(|entry| entry.ids);
            let known = recorded.or_else(|| ids::of_consumers(consumers, ids::USUAL));
            ids::of_policy(&own.policy.spec.mover, known.filter(|_| ids::may_differ(&own.repository.spec.store)))
        }
        None => ids::of_consumers(consumers, USER).unwrap_or(USER),
    }
}
