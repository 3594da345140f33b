//! What is seen of a destination that somebody wrote: its claim, what was made for it, and whose snapshots it wants.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use api::naming::{Identity, VolsyncNames, destination_job_name, volsync_identity};
use api::volsync::kopia::DestinationKopia;
use api::volsync::{ReplicationDestination, ReplicationSource};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;

use super::objects::claim_name;
use crate::authorities::Authorities;
use crate::caches::{Caches, key};
use crate::consumers::{self, Place};
use crate::context::Context;
use crate::error::{Error, retry_after};
use crate::ids::{self, Ids};
use crate::job::{self, Progress};
use crate::snapshots::VolumeSnapshot;
use crate::sync::{self, USER, checked, owns};

/// Everything that [`plan`](super::plan::plan) needs to know.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The mover's section, or why there is none.
    pub kopia: Result<DestinationKopia, String>,
    /// Whose snapshots, or what is wrong with how that is said.
    pub identity: Result<Identity, String>,
    /// The claim that is written into.
    pub target: Target,
    /// Where the mover has to run.
    pub place: Place,
    /// As whom it runs where the destination does not say.
    pub ids: Ids,
    /// The repository's Secret.
    pub secret_name: Option<String>,
    /// What that lacks; nothing while it is not needed.
    pub secret: Result<(), String>,
    /// The repository, by which limits are counted.
    pub repository: String,
    /// Whether the namespace allows elevated rights.
    pub is_privileged: bool,
    /// The Job of this destination.
    pub job: Option<Arc<Job>>,
    /// How far it is.
    pub progress: Option<Progress>,
    /// What keeps it from running.
    pub obstacle: Option<String>,
    /// A Job of its name that is somebody else's.
    pub foreign_job: Option<String>,
    /// The VolumeSnapshots of this destination.
    pub images: Vec<Arc<VolumeSnapshot>>,
    /// Names of VolumeSnapshots that claims are being made of.
    pub in_use: BTreeSet<String>,
    /// Whether the cluster knows VolumeSnapshots.
    pub can_snapshot: bool,
    /// How long to wait after the last failure.
    pub pause: Duration,
    /// The image of movers.
    pub image: String,
}

/// The claim that is written into.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// Somebody's, which the destination names; none if it is not there.
    Given {
        /// Its name.
        name: String,
        /// The claim.
        claim: Option<Arc<PersistentVolumeClaim>>,
    },
    /// The destination's own; none if it is not made yet.
    Own(Option<Arc<PersistentVolumeClaim>>),
    /// One of that name is there that was not made for this destination, which does not name it either.
    Foreign {
        /// Its name.
        name: String,
    },
}

impl Target {
    /// The claim, if it is there.
    pub fn claim(&self) -> Option<&Arc<PersistentVolumeClaim>> {
        match self {
            Self::Given { claim, .. } | Self::Own(claim) => claim.as_ref(),
            Self::Foreign { .. } => None,
        }
    }
}

/// Looks at everything.
///
/// # Errors
/// The API server does not answer.
pub async fn observe(context: &Context, destination: &ReplicationDestination) -> Result<Observed, Error> {
    let caches = &context.caches;
    let namespace = destination.namespace().unwrap_or_default();
    let kopia = sync::section(destination.spec.method());
    let known = kopia.as_ref().ok();
    let source = known.and_then(|kopia| discovered(caches, destination, kopia));
    let secret_name = known.and_then(|kopia| repository(kopia, source.as_deref()));
    let target = target(caches, destination, known);
    let job = caches.jobs.get(&key::<Job>(&destination_job_name(&destination.name_any()), Some(namespace.clone())));
    let (job, foreign_job) = sync::own_or_foreign(destination, job);
    let is_under_way =
        destination.status.as_ref().is_some_and(|status| status.sync.last_sync_start_time.is_some()) && job.is_none();
    let volumes = known.and_then(|kopia| kopia.mover.mover_volumes.clone()).unwrap_or_default();
    let secret = match &secret_name {
        Some(name) if is_under_way => {
            let authorities = Authorities::of(known.and_then(|kopia| kopia.custom_ca.as_ref()));
            checked(context, &namespace, name, &volumes, authorities.as_ref()).await?
        }
        Some(_) => Ok(()),
        None => Err("spec.kopia.repository names no Secret".to_owned()),
    };
    let (mut place, mut ids) = (Place::Anywhere, USER);
    if let Some(claim) = target.claim().filter(|_| is_under_way) {
        let consumers = consumers::look(context, &namespace, &claim.name_any()).await?;
        place = consumers::place(claim, &consumers);
        ids = ids::of_consumers(&consumers, USER).unwrap_or(USER);
    }
    let images = caches
        .snapshots
        .state_filter(|found| found.namespace().as_deref() == Some(namespace.as_str()) && owns(destination, found));
    Ok(Observed {
        identity: known.map_or_else(|| Err(String::new()), |kopia| identity(destination, kopia, source.as_deref())),
        target,
        place,
        ids,
        repository: format!("{namespace}.{}", secret_name.as_deref().unwrap_or_default()),
        secret_name,
        secret,
        is_privileged: sync::is_privileged(context, &namespace),
        progress: job.as_deref().map(|job| job::progress(job, caches)),
        obstacle: job.as_deref().and_then(|job| job::obstacle(job, caches)),
        job,
        foreign_job,
        in_use: if images.is_empty() { BTreeSet::new() } else { in_use(caches, &namespace) },
        images,
        can_snapshot: context.able.volume_snapshots,
        pause: retry_after(context.failures(destination).saturating_add(2)),
        image: context.settings.image.clone(),
        kopia,
    })
}

fn target(caches: &Caches, destination: &ReplicationDestination, kopia: Option<&DestinationKopia>) -> Target {
    let given = kopia.and_then(|kopia| kopia.volume.destination_pvc.clone()).filter(|name| !name.is_empty());
    if let Some(name) = given {
        let claim = caches.claims.get(&key(&name, destination.namespace()));
        return Target::Given { name, claim };
    }
    let name = claim_name(destination);
    match caches.claims.get(&key(&name, destination.namespace())) {
        Some(claim) if !owns(destination, &*claim) => Target::Foreign { name },
        claim => Target::Own(claim),
    }
}

/// The source whose snapshots are wanted, if it is to be looked up. Source: VolSync API §3.5.
fn discovered(
    caches: &Caches,
    destination: &ReplicationDestination,
    kopia: &DestinationKopia,
) -> Option<Arc<ReplicationSource>> {
    let wanted = kopia.source_identity.as_ref()?;
    let is_looked_up = text(&wanted.source_pvc_name).is_empty() && text(&kopia.hostname).is_empty();
    let name = Some(text(&wanted.source_name)).filter(|name| is_looked_up && !name.is_empty())?;
    let namespace = Some(text(&wanted.source_namespace)).filter(|namespace| !namespace.is_empty());
    let namespace = namespace.map(str::to_owned).or_else(|| destination.namespace());
    caches.sources.get(&key(name, namespace)).filter(|source| source.spec.kopia.is_some())
}

fn repository(kopia: &DestinationKopia, source: Option<&ReplicationSource>) -> Option<String> {
    let own = kopia.repository.clone().filter(|name| !name.is_empty());
    own.or_else(|| source?.spec.kopia.as_ref()?.repository.clone()).filter(|name| !name.is_empty())
}

/// Whose snapshots: what is said outright, then what the source's name gives, then the destination's own.
fn identity(
    destination: &ReplicationDestination,
    kopia: &DestinationKopia,
    source: Option<&ReplicationSource>,
) -> Result<Identity, String> {
    let (username, hostname) = (text(&kopia.username), text(&kopia.hostname));
    if username.is_empty() != hostname.is_empty() {
        return Err("username and hostname must be provided together, or neither of them".to_owned());
    }
    let wanted = kopia.source_identity.clone().unwrap_or_default();
    let recorded = source.and_then(|source| source.spec.kopia.as_ref()?.source_path_override.clone());
    let path = wanted.source_path_override.clone().filter(|path| !path.is_empty()).or(recorded);
    Ok(volsync_identity(&VolsyncNames {
        name: &destination.name_any(),
        namespace: &destination.namespace().unwrap_or_default(),
        username,
        hostname,
        source_name: text(&wanted.source_name),
        source_namespace: text(&wanted.source_namespace),
        path: text(&path),
    }))
}

fn text(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or_default()
}

/// The VolumeSnapshots that claims of the namespace wait to be made of: these stay.
fn in_use(caches: &Caches, namespace: &str) -> BTreeSet<String> {
    let waiting = caches.claims.state_filter(|claim| {
        let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
        claim.namespace().as_deref() == Some(namespace) && phase != Some("Bound")
    });
    let source = |claim: &Arc<PersistentVolumeClaim>| {
        let spec = claim.spec.as_ref()?;
        let reference = spec.data_source_ref.as_ref()?;
        (reference.kind == "VolumeSnapshot").then(|| reference.name.clone())
    };
    waiting.iter().filter_map(source).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn destination(kopia: Value) -> ReplicationDestination {
        let body = json!({"metadata": {"name": "app-dst", "namespace": "staging"}, "spec": {"kopia": kopia}});
        serde_json::from_value(body).unwrap()
    }

    fn section(destination: &ReplicationDestination) -> DestinationKopia {
        destination.spec.kopia.clone().unwrap()
    }

    #[track_caller]
    fn check(kopia: Value, source: Option<Value>, expected: Result<&str, &str>) {
        let destination = destination(kopia);
        let source: Option<ReplicationSource> = source.map(|kopia| {
            serde_json::from_value(json!({"metadata": {"name": "app"}, "spec": {"kopia": kopia}})).unwrap()
        });
        let found = identity(&destination, &section(&destination), source.as_ref());
        let found = found.as_ref().map(ToString::to_string);
        assert_eq!(found.as_deref().map_err(|error| error.as_str()), expected);
    }

    #[test]
    fn whose_snapshots() {
        check(json!({}), None, Ok("app-dst@staging:/data"));
        let of = |more: Value| {
            let mut wanted = json!({"sourceName": "app"});
            wanted.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({"sourceIdentity": wanted})
        };
        check(of(json!({})), None, Ok("app@staging:/data"));
        check(of(json!({"sourceNamespace": "prod"})), None, Ok("app@prod:/data"));
        check(of(json!({})), Some(json!({"sourcePathOverride": "/srv"})), Ok("app@staging:/srv"));
        let said = of(json!({"sourcePathOverride": "/own"}));
        check(said, Some(json!({"sourcePathOverride": "/srv"})), Ok("app@staging:/own"));
        check(json!({"username": "u", "hostname": "h"}), None, Ok("u@h:/data"));
        let half = Err("username and hostname must be provided together, or neither of them");
        check(json!({"username": "u"}), None, half);
        check(json!({"hostname": "h"}), None, half);
    }

    #[test]
    fn the_repository_of_the_source_stands_in() {
        let of = |kopia: Value, source: Option<Value>| {
            let source: Option<ReplicationSource> =
                source.map(|kopia| serde_json::from_value(json!({"metadata": {}, "spec": {"kopia": kopia}})).unwrap());
            repository(&section(&destination(kopia)), source.as_ref())
        };
        assert_eq!(of(json!({}), None), None);
        assert_eq!(of(json!({"repository": ""}), Some(json!({"repository": "its"}))).as_deref(), Some("its"));
        assert_eq!(of(json!({"repository": "own"}), Some(json!({"repository": "its"}))).as_deref(), Some("own"));
    }
}
