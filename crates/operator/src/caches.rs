//! What the operator knows of the cluster: one list and one watch for each kind, and who is looked at when one changes.
//!
//! ```text
//! API server ─ list in pages, then watch ─→ store (read by everybody)
//!                                       └─→ whom does it concern? ─→ queue of the claims, of the sources, …
//! ```
//! Secrets are not among them: they are read by name, when they are needed.

use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;

use api::v1alpha1::{BackupPolicy, BackupRepository};
use api::volsync::{ReplicationDestination, ReplicationSource};
use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::Api;
use kube::runtime::reflector::{ObjectRef, Store, store::Writer};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::names::{CREATED_BY, CREATOR, DESTINATION_KIND, FOR_CLAIM, MANAGED_BY, MANAGER, VOLSYNC_GROUP};
use crate::server::Capabilities;
use crate::snapshots::{VolumeSnapshot, VolumeSnapshotClass};

/// Objects that wait to be looked at before whoever watches has to wait, too.
const QUEUE_LENGTH: usize = 1024;

/// Objects in a page of a list. Each page is in memory as text and as objects for a while, of all kinds at once at a start.
const PAGE_LENGTH: u32 = 100;

/// Annotations nobody here reads, and that can be as large as the object.
const UNREAD: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A copy of each kind, as current as the watch is.
pub struct Caches {
    /// All claims.
    pub claims: Store<PersistentVolumeClaim>,
    /// All namespaces.
    pub namespaces: Store<Namespace>,
    /// All nodes.
    pub nodes: Store<Node>,
    /// All storage classes.
    pub classes: Store<StorageClass>,
    /// All sources.
    pub sources: Store<ReplicationSource>,
    /// All destinations.
    pub destinations: Store<ReplicationDestination>,
    /// All repositories.
    pub repositories: Store<BackupRepository>,
    /// All policies.
    pub policies: Store<BackupPolicy>,
    /// Jobs of movers.
    pub jobs: Store<Job>,
    /// Their pods.
    pub pods: Store<Pod>,
    /// VolumeSnapshots that we made; empty where the cluster has no such kind.
    pub snapshots: Store<VolumeSnapshot>,
    /// Ways to take VolumeSnapshots; empty where the cluster has no such kind.
    pub snapshot_classes: Store<VolumeSnapshotClass>,
    /// Catalogs, in our own namespace.
    pub catalogs: Store<Deployment>,
}

/// One queue for each kind that is looked at.
pub struct Queues {
    /// Claims.
    pub claims: mpsc::Receiver<ObjectRef<PersistentVolumeClaim>>,
    /// Sources.
    pub sources: mpsc::Receiver<ObjectRef<ReplicationSource>>,
    /// Destinations.
    pub destinations: mpsc::Receiver<ObjectRef<ReplicationDestination>>,
    /// Repositories.
    pub repositories: mpsc::Receiver<ObjectRef<BackupRepository>>,
}

/// The other ends.
#[derive(Clone)]
struct Senders {
    claims: mpsc::Sender<ObjectRef<PersistentVolumeClaim>>,
    sources: mpsc::Sender<ObjectRef<ReplicationSource>>,
    destinations: mpsc::Sender<ObjectRef<ReplicationDestination>>,
    repositories: mpsc::Sender<ObjectRef<BackupRepository>>,
}

/// Somebody who is to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Woken {
    Claim(ObjectRef<PersistentVolumeClaim>),
    Source(ObjectRef<ReplicationSource>),
    Destination(ObjectRef<ReplicationDestination>),
    Repository(ObjectRef<BackupRepository>),
}

/// Whom the change of an object concerns.
type Concern<K> = fn(&Caches, &K) -> Vec<Woken>;

/// Begins to watch everything, in tasks of `tasks`, which never end by themselves.
pub fn watch(client: &Client, namespace: &str, able: Capabilities, tasks: &mut JoinSet<()>) -> (Arc<Caches>, Queues) {
    let (claims_to, claims) = mpsc::channel(QUEUE_LENGTH);
    let (sources_to, sources) = mpsc::channel(QUEUE_LENGTH);
    let (destinations_to, destinations) = mpsc::channel(QUEUE_LENGTH);
    let (repositories_to, repositories) = mpsc::channel(QUEUE_LENGTH);
    let to = Senders {
        claims: claims_to,
        sources: sources_to,
        destinations: destinations_to,
        repositories: repositories_to,
    };

    let (claims_in, policies_in) = (Writer::default(), Writer::default());
    let (namespaces_in, classes_in, sources_in) = (Writer::default(), Writer::default(), Writer::default());
    let (destinations_in, repositories_in, jobs_in) = (Writer::default(), Writer::default(), Writer::default());
    let (pods_in, snapshots_in, catalogs_in) = (Writer::default(), Writer::default(), Writer::default());
    let (snapshot_classes_in, nodes_in) = (Writer::default(), Writer::default());
    let caches = Arc::new(Caches {
        claims: claims_in.as_reader(),
        namespaces: namespaces_in.as_reader(),
        nodes: nodes_in.as_reader(),
        classes: classes_in.as_reader(),
        sources: sources_in.as_reader(),
        destinations: destinations_in.as_reader(),
        repositories: repositories_in.as_reader(),
        policies: policies_in.as_reader(),
        jobs: jobs_in.as_reader(),
        pods: pods_in.as_reader(),
        snapshots: snapshots_in.as_reader(),
        snapshot_classes: snapshot_classes_in.as_reader(),
        catalogs: catalogs_in.as_reader(),
    });

    let all = || watcher::Config::default().page_size(PAGE_LENGTH);
    let of_movers = || all().labels(&format!("{CREATED_BY}={CREATOR}"));
    let ours = all().labels(&format!("{MANAGED_BY}={MANAGER}"));
    let mut watches = Watches { client, caches: &caches, to: &to, tasks };
    watches.add(all(), claims_in, of_claim);
    watches.add(all(), namespaces_in, of_namespace);
    watches.add(all(), nodes_in, |_, _: &Node| Vec::new());
    watches.add(all(), classes_in, |_, _: &StorageClass| Vec::new());
    watches.add(all(), sources_in, of_source);
    watches.add(all(), destinations_in, of_destination);
    watches.add(all(), repositories_in, of_repository);
    watches.add(all(), policies_in, |caches, _: &BackupPolicy| claims_where(caches, |_| true));
    watches.add(of_movers(), jobs_in, |_, job: &Job| owners(job));
    watches.add(of_movers(), pods_in, of_pod);
    if able.volume_snapshots {
        watches.add(of_movers(), snapshots_in, |_, snapshot: &VolumeSnapshot| owners(snapshot));
        watches.add(all(), snapshot_classes_in, |_, _: &VolumeSnapshotClass| Vec::new());
    }
    let deployments = Api::<Deployment>::namespaced(client.clone(), namespace);
    watches.add_in(deployments, ours, catalogs_in, of_catalog);
    (caches, Queues { claims, sources, destinations, repositories })
}

struct Watches<'a> {
    client: &'a Client,
    caches: &'a Arc<Caches>,
    to: &'a Senders,
    tasks: &'a mut JoinSet<()>,
}

impl Watches<'_> {
    fn add<K>(&mut self, config: watcher::Config, writer: Writer<K>, concern: Concern<K>)
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        self.add_in(Api::all(self.client.clone()), config, writer, concern);
    }

    fn add_in<K>(&mut self, api: Api<K>, config: watcher::Config, writer: Writer<K>, concern: Concern<K>)
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        self.tasks.spawn(follow(api, config, writer, concern, Arc::clone(self.caches), self.to.clone()));
    }
}

/// Lists and watches one kind for ever.
async fn follow<K>(
    api: Api<K>,
    config: watcher::Config,
    mut writer: Writer<K>,
    concern: Concern<K>,
    caches: Arc<Caches>,
    to: Senders,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let reader = writer.as_reader();
    let mut events = pin!(watcher(api, config).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                let event = event.modify(forget_the_unread);
                writer.apply_watcher_event(&event);
                match &event {
                    watcher::Event::Apply(object) | watcher::Event::Delete(object) => {
                        to.send(concern(&caches, object)).await;
                    }
                    watcher::Event::InitDone => {
                        for object in reader.state() {
                            to.send(concern(&caches, &object)).await;
                        }
                    }
                    watcher::Event::Init | watcher::Event::InitApply(_) => {}
                }
            }
            Err(error) => tracing::warn!(kind = %K::kind(&()), error = %error, "the watch has ended, and begins again"),
        }
    }
}

fn forget_the_unread<K: Resource>(object: &mut K) {
    let meta = object.meta_mut();
    meta.managed_fields = None;
    if let Some(annotations) = &mut meta.annotations {
        annotations.remove(UNREAD);
    }
}

impl Senders {
    /// Nobody listens any more when the operator ends.
    async fn send(&self, woken: Vec<Woken>) {
        for woken in woken {
            match woken {
                Woken::Claim(object) => drop(self.claims.send(object).await),
                Woken::Source(object) => drop(self.sources.send(object).await),
                Woken::Destination(object) => drop(self.destinations.send(object).await),
                Woken::Repository(object) => drop(self.repositories.send(object).await),
            }
        }
    }
}

impl Caches {
    /// Waits until each has been listed once. That nobody writes any more ends the operator elsewhere.
    pub async fn ready(&self, able: Capabilities) {
        let snapshots = async {
            if able.volume_snapshots {
                let _listed = tokio::join!(self.snapshots.wait_until_ready(), self.snapshot_classes.wait_until_ready());
            }
        };
        let _listed = tokio::join!(
            self.claims.wait_until_ready(),
            self.namespaces.wait_until_ready(),
            self.nodes.wait_until_ready(),
            self.classes.wait_until_ready(),
            self.sources.wait_until_ready(),
            self.destinations.wait_until_ready(),
            self.repositories.wait_until_ready(),
            self.policies.wait_until_ready(),
            self.jobs.wait_until_ready(),
            self.pods.wait_until_ready(),
            self.catalogs.wait_until_ready(),
            snapshots,
        );
    }

    /// Whether a namespace is on its way out: nothing is made in it any more.
    pub fn is_going(&self, namespace: Option<String>) -> bool {
        let namespace = namespace.and_then(|name| self.namespaces.get(&key(&name, None)));
        namespace.is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some())
    }

    /// All policies, the one that counts first before the others.
    pub fn policies_in_order(&self) -> Vec<Arc<BackupPolicy>> {
        let mut policies = self.policies.state();
        policies.sort_by_key(|policy| (-i64::from(policy.spec.priority), policy.name_any()));
        policies
    }
}

/// The claim itself; what it is a copy of or is filled for; the sources that read it and the destinations that write it.
fn of_claim(caches: &Caches, claim: &PersistentVolumeClaim) -> Vec<Woken> {
    let reads = |source: &ReplicationSource| {
        source.namespace() == claim.namespace() && source.spec.source_pvc == claim.metadata.name
    };
    let readers = caches.sources.state_filter(reads);
    let writes = |destination: &ReplicationDestination| {
        let named = destination.spec.kopia.as_ref().and_then(|kopia| kopia.volume.destination_pvc.as_ref());
        named.is_some() && named == claim.metadata.name.as_ref() && destination.namespace() == claim.namespace()
    };
    let writers = caches.destinations.state_filter(writes);
    let mut woken = vec![Woken::Claim(ObjectRef::from_obj(claim))];
    woken.extend(owners(claim));
    woken.extend(writers.iter().map(|destination| Woken::Destination(ObjectRef::from_obj(&**destination))));
    woken.extend(readers.iter().map(|source| Woken::Source(ObjectRef::from_obj(&**source))));
    woken
}

fn of_namespace(caches: &Caches, namespace: &Namespace) -> Vec<Woken> {
    claims_where(caches, |claim| claim.namespace() == namespace.metadata.name)
}

fn of_source(_: &Caches, source: &ReplicationSource) -> Vec<Woken> {
    let claim = source.spec.source_pvc.as_deref().filter(|_| source.labels().contains_key(FOR_CLAIM));
    let claim = claim.map(|claim| Woken::Claim(key(claim, source.namespace())));
    std::iter::once(Woken::Source(ObjectRef::from_obj(source))).chain(claim).collect()
}

fn of_destination(caches: &Caches, destination: &ReplicationDestination) -> Vec<Woken> {
    let mut woken = claims_where(caches, |claim| {
        claim.namespace() == destination.namespace() && destination_of(claim) == destination.metadata.name.as_deref()
    });
    woken.push(Woken::Destination(ObjectRef::from_obj(destination)));
    woken
}

fn of_repository(caches: &Caches, repository: &BackupRepository) -> Vec<Woken> {
    let mut woken = waiting(caches);
    woken.push(Woken::Repository(ObjectRef::from_obj(repository)));
    woken
}

/// A catalog that has changed may know what its repository's claims wait for.
fn of_catalog(caches: &Caches, catalog: &Deployment) -> Vec<Woken> {
    let mut woken = owners(catalog);
    woken.extend(waiting(caches));
    woken
}

/// Claims that wait to be filled.
fn waiting(caches: &Caches) -> Vec<Woken> {
    claims_where(caches, |claim| {
        let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
        volume.is_empty() && destination_of(claim).is_some()
    })
}

/// A mover's pod: whoever has made its Job.
fn of_pod(caches: &Caches, pod: &Pod) -> Vec<Woken> {
    let job = pod.owner_references().iter().find(|owner| owner.kind == "Job");
    let job = job.and_then(|job| caches.jobs.get(&key(&job.name, pod.namespace())));
    job.map(|job| owners(&*job)).unwrap_or_default()
}

fn claims_where(caches: &Caches, concerns: impl Fn(&PersistentVolumeClaim) -> bool) -> Vec<Woken> {
    let claims = caches.claims.state_filter(concerns);
    claims.iter().map(|claim| Woken::Claim(ObjectRef::from_obj(&**claim))).collect()
}

/// Whoever made an object.
fn owners<K: Resource<DynamicType = ()>>(object: &K) -> Vec<Woken> {
    let namespace = object.namespace();
    let owners = object.owner_references().iter();
    owners
        .filter_map(|owner| match owner.kind.as_str() {
            "PersistentVolumeClaim" => Some(Woken::Claim(key(&owner.name, namespace.clone()))),
            "ReplicationSource" => Some(Woken::Source(key(&owner.name, namespace.clone()))),
            "ReplicationDestination" => Some(Woken::Destination(key(&owner.name, namespace.clone()))),
            "BackupRepository" => Some(Woken::Repository(key(&owner.name, None))),
            _ => None,
        })
        .collect()
}

/// A reference to an object by its name.
pub fn key<K: Resource<DynamicType = ()>>(name: &str, namespace: Option<String>) -> ObjectRef<K> {
    let reference = ObjectRef::new(name);
    match namespace {
        Some(namespace) => reference.within(&namespace),
        None => reference,
    }
}

/// The name of the destination that a claim wants to be filled by.
pub fn destination_of(claim: &PersistentVolumeClaim) -> Option<&str> {
    let reference = claim.spec.as_ref()?.data_source_ref.as_ref()?;
    let is_ours = reference.api_group.as_deref() == Some(VOLSYNC_GROUP) && reference.kind == DESTINATION_KIND;
    is_ours.then_some(reference.name.as_str())
}
