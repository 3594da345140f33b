//! The operator: brings claims, sources, destinations and repositories to where they should be.
//!
//! ```text
//! caches (one list and one watch a kind) ─→ queues ─→ claim · source · destination · repository: observe → plan → apply → report
//!                                                        │ facts                     │ Task
//!                                                     catalog                   mover's Job ─ Report ─┘
//! ```
//! Guarantees: no repository bytes here; one operator works at a time; every step may be cut off and done again; what we did
//! not make is read and not changed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::http::HeaderValue;
use axum::http::header::USER_AGENT;
use futures::{Stream, StreamExt};
use kube::runtime::controller::{self, Action, Config};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Client, Resource};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

mod apply;
mod audit;
mod authorities;
mod caches;
mod catalogs;
mod claim;
mod consumers;
mod context;
mod credentials;
mod destination;
mod duration;
mod error;
mod gauges;
mod http;
mod ids;
mod inventory;
mod job;
mod leader;
mod ledger;
mod metrics;
mod names;
mod neighbours;
mod policy;
mod quantity;
mod repository;
mod server;
mod slots;
mod snapshots;
mod source;
mod sync;
mod webhook;

pub use context::{Clock, Settings};
pub use error::Error;

use catalogs::Catalogs;
use context::Context;
use http::Face;
use leader::Leader;
use ledger::Mirror;

/// Objects of one kind that are looked at at a time: most of the time is spent waiting for the API server or a catalog.
const CONCURRENCY: u16 = 32;

/// Runs until `end` comes true or the Lease is lost.
///
/// # Errors
/// What keeps it from beginning: no API server, no socket, a ledger that makes no sense.
pub async fn run(
    settings: Settings,
    listen: SocketAddr,
    clock: Clock,
    end: impl Future<Output = ()>,
) -> Result<(), StartError> {
    // Whoever has installed one before is as good.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let client = client().await.map_err(|source| StartError::Client(Box::new(source)))?;
    let listener = TcpListener::bind(listen).await.map_err(|source| StartError::Listen { listen, source })?;
    let face = Arc::new(Face::default());
    let mut tasks = JoinSet::new();
    let served = Arc::clone(&face);
    tasks.spawn(async move {
        if let Err(error) = http::serve(listener, served).await {
            tracing::error!(%error, "nobody listens any more");
        }
    });
    if let Some(listen) = settings.webhook {
        let socket = TcpListener::bind(listen).await.map_err(|source| StartError::Listen { listen, source })?;
        let (client, namespace) = (client.clone(), settings.namespace.clone());
        webhook::start(client, namespace, (socket, listen), Arc::clone(&clock), &mut tasks).await?;
    }
    let able = server::ask(&client).await?;
    tracing::info!(
        marking = able.marking.as_str(),
        volume_snapshots = able.volume_snapshots,
        external_secrets = able.external_secrets,
        "the API server"
    );
    // Whoever stands by does what is promised: it takes over.
    face.is_ready.store(true, Ordering::Relaxed);
    let address = settings.address.map(|address| SocketAddr::new(address, listen.port()).to_string());
    let leader = Leader::new(client.clone(), &settings.namespace, &settings.pod, address, Arc::clone(&clock));
    let leader = Arc::new(leader);
    let _first = face.leader.set(Arc::clone(&leader));
    let work = async {
        leader.acquire().await;
        tracing::info!(pod = settings.pod, "leads");
        face.is_ready.store(false, Ordering::Relaxed);
        let ledger = Mirror::load(&client, &settings.namespace).await?;
        let catalogs = Catalogs::new().map_err(StartError::Catalogs)?;
        let (caches, queues) = caches::watch(&client, &settings.namespace, able, &mut tasks);
        let context =
            Context::new(client.clone(), Arc::clone(&caches), able, catalogs, settings.clone(), clock, ledger);
        let context = Arc::new(context);
        caches.ready(able).await;
        // It is asked again whenever it matters.
        if let Err(error) = context.neighbours.at_work().await {
            tracing::warn!(error = %error.chain(), "it is not known whether another controller is at work");
        }
        let _first = face.context.set(Arc::clone(&context));
        face.is_ready.store(true, Ordering::Relaxed);
        tracing::info!(claims = caches.claims.len(), sources = caches.sources.len(), "begins");
        tokio::select! {
            () = look_at(&caches.claims, queues.claims, claim::reconcile, &context) => {}
            () = look_at(&caches.sources, queues.sources, source::reconcile, &context) => {}
            () = look_at(&caches.destinations, queues.destinations, destination::reconcile, &context) => {}
            () = look_at(&caches.repositories, queues.repositories, repository::reconcile, &context) => {}
            () = policy::keep(&context) => {}
            () = leader.hold() => return Err(StartError::LeaseLost),
        }
        Ok(())
    };
    let outcome = tokio::select! {
        outcome = work => outcome,
        () = end => Ok(()),
    };
    leader.release().await;
    outcome
}

/// By this name the API server's log tells our calls from others.
const AGENT: &str = concat!("perennial-operator/", env!("CARGO_PKG_VERSION"));

async fn client() -> Result<Client, kube::Error> {
    let mut config = kube::Config::infer().await.map_err(kube::Error::InferConfig)?;
    config.headers.push((USER_AGENT, HeaderValue::from_static(AGENT)));
    Client::try_from(config)
}

/// Looks at objects of one kind as they are named, several at a time and each by one alone.
async fn look_at<K, Looking>(
    store: &Store<K>,
    queue: mpsc::Receiver<ObjectRef<K>>,
    look: fn(Arc<K>, Arc<Context>) -> Looking,
    context: &Arc<Context>,
) where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
    Looking: Future<Output = Result<Action, Error>> + Send + 'static,
{
    let queue = futures::stream::unfold(queue, async |mut queue| {
        let next = queue.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(next), queue))
    });
    // So that one which never comes to an end is told, too.
    context.metrics.went_round(kind_of::<K>(), PULSE, context.now());
    let pulse = pulse(store.clone(), context);
    let queue = Box::pin(futures::stream::select(queue, pulse.map(Ok)));
    let config = Config::default().concurrency(CONCURRENCY).debounce(DEBOUNCE);
    let look = move |object: Arc<K>, context: Arc<Context>| {
        let looking = look(object, Arc::clone(&context));
        Box::pin(async move {
            let outcome = looking.await;
            context.metrics.went_round(kind_of::<K>(), PULSE, context.now());
            outcome
        })
    };
    let outcomes = controller::applier(look, after_error::<K>, Arc::clone(context), store.clone(), queue, config);
    outcomes.for_each(async |_outcome| {}).await;
}

/// How often some object of each kind is looked at for no reason: what stands still is told by that from what has nothing
/// to do.
const PULSE: Duration = Duration::from_secs(60);

/// The objects of a kind in turn, one with each beat.
fn pulse<K>(store: Store<K>, context: &Arc<Context>) -> impl Stream<Item = ObjectRef<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let mut beats = interval(PULSE);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let context = Arc::clone(context);
    futures::stream::unfold((beats, 0), move |(mut beats, turn)| {
        let (store, context) = (store.clone(), Arc::clone(&context));
        async move {
            loop {
                beats.tick().await;
                let objects = store.state();
                match objects.get(turn % objects.len().max(1)) {
                    Some(object) => return Some((ObjectRef::from_obj(&**object), (beats, turn.wrapping_add(1)))),
                    None => context.metrics.went_round(kind_of::<K>(), PULSE, context.now()),
                }
            }
        }
    })
}

/// Several changes that come together are one reason to look.
const DEBOUNCE: Duration = Duration::from_millis(50);

/// Tries at once after an object has changed between being read and being written.
const QUICK_TRIES: u32 = 3;

fn after_error<K: Resource<DynamicType = ()>>(object: Arc<K>, error: &Error, context: Arc<Context>) -> Action {
    let what = apply::describe(&*object);
    let pause = context.failed(&*object);
    // Somebody else's field stays somebody else's: that is no matter of trying quickly.
    if error.is_conflict() && context.failures(&*object) <= QUICK_TRIES {
        tracing::debug!(object = what, error = %error.chain(), "changed meanwhile");
        return Action::requeue(Duration::from_millis(200));
    }
    tracing::warn!(object = what, class = %error.class(), error = %error.chain(), pause_s = pause.as_secs(), "tries again");
    context.metrics.failed(kind_of::<K>(), error.class().as_str());
    Action::requeue(pause)
}

fn kind_of<K: Resource<DynamicType = ()>>() -> &'static str {
    match K::kind(&()).as_ref() {
        "PersistentVolumeClaim" => "claim",
        "ReplicationSource" => "source",
        "ReplicationDestination" => "destination",
        _ => "repository",
    }
}

/// Why the operator does not run, or runs no more.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no API server to talk to.
    #[error("find the API server")]
    Client(#[source] Box<kube::Error>),
    /// The address cannot be listened on.
    #[error("listen on {listen}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The client for catalogs cannot be made.
    #[error("make a client for the catalogs")]
    Catalogs(#[source] reqwest::Error),
    /// Something that has to be known first cannot be asked.
    #[error(transparent)]
    Object(#[from] Error),
    /// Another operator may work now.
    #[error("the Lease was lost")]
    LeaseLost,
}
