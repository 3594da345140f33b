//! What every look at an object has at hand.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::v1alpha1::BackupRepository;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use kube::api::Api;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource, ResourceExt};

use crate::caches::Caches;
use crate::catalogs::{Catalogs, PORT};
use crate::claim::rebuild::Admitted;
use crate::error::{Error, retry_after};
use crate::ledger::Mirror;
use crate::metrics::Metrics;
use crate::neighbours::Neighbours;
use crate::repository;
use crate::server::Capabilities;
use crate::slots::Slots;

/// How the operator was started.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Our own namespace: catalogs run in it, and Secrets that repositories name are looked for there.
    pub namespace: String,
    /// Our own pod.
    pub pod: String,
    /// Our own pod's address, at which others ask who leads; none outside of a cluster.
    pub address: Option<IpAddr>,
    /// The image of movers and catalogs: usually our own.
    pub image: String,
    /// The account of catalogs.
    pub catalog_account: Option<String>,
    /// Where the API server asks to have claims marked; none where it does that by itself.
    pub webhook: Option<SocketAddr>,
}

/// Where "now" comes from.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Everything around one object.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// What is known of the cluster.
    pub caches: Arc<Caches>,
    /// What the API server can do.
    pub able: Capabilities,
    /// Those who look at repositories.
    pub catalogs: Catalogs,
    /// How we were started.
    pub settings: Settings,
    /// Where "now" comes from.
    pub clock: Clock,
    /// Which backups exist, as far as this cluster has seen.
    pub ledger: Mirror,
    /// Who may start now.
    pub slots: Slots,
    /// Which claims of a rebuild may start empty.
    pub admitted: Admitted,
    /// Others who serve the same kinds.
    pub neighbours: Neighbours,
    /// Numbers for Prometheus.
    pub metrics: Metrics,
    /// With the number of Events that it was given.
    recorder: Mutex<(Recorder, usize)>,
    reporter: Reporter,
    /// By UID: an object of the same name that comes later begins anew.
    failures: Mutex<HashMap<String, u32>>,
    secrets: Mutex<HashMap<String, (Timestamp, Arc<Secret>)>>,
}

/// Events that a recorder is given: it remembers each for minutes, to count those that come again, and goes through all
/// of them for each.
const EVENTS_REMEMBERED_MAX: usize = 256;

/// How long a Secret that somebody keeps is believed before it is read again, and kept in memory. Everything that uses it
/// copes with an older one: a mover that is refused is started anew.
const SECRET_AGE_MAX: Duration = Duration::from_secs(10);

fn is_current(since: Timestamp, now: Timestamp) -> bool {
    since.checked_add(SECRET_AGE_MAX).is_ok_and(|until| until > now)
}

impl Context {
    /// Puts it together.
    pub fn new(
        client: Client,
        caches: Arc<Caches>,
        able: Capabilities,
        catalogs: Catalogs,
        settings: Settings,
        clock: Clock,
        ledger: Mirror,
    ) -> Self {
        let reporter = Reporter { controller: "volsync-controller".to_owned(), instance: Some(settings.pod.clone()) };
        Self {
            recorder: Mutex::new((Recorder::new(client.clone(), reporter.clone()), 0)),
            reporter,
            slots: Slots::default(),
            admitted: Admitted::default(),
            neighbours: Neighbours::new(client.clone(), &settings.namespace),
            metrics: Metrics::default(),
            failures: Mutex::default(),
            secrets: Mutex::default(),
            client,
            caches,
            able,
            catalogs,
            settings,
            clock,
            ledger,
        }
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Address of a repository's catalog, and what it wants to be shown.
    ///
    /// # Errors
    /// The catalog's own Secret is not there yet, or the API server does not answer.
    pub async fn catalog_of(&self, repository: &BackupRepository) -> Result<(String, String), Error> {
        let name = repository::catalog_name(&repository.name_any());
        let tokens = repository::token_name(&repository.name_any());
        let secret = self.secret(&self.settings.namespace, &tokens).await?;
        let token = secret.as_deref().and_then(repository::token);
        let token = token.ok_or_else(|| Error::Object { what: format!("the catalog {name} is not set up yet") })?;
        Ok((format!("http://{name}.{}.svc:{PORT}", self.settings.namespace), token))
    }

    /// A Secret by its name, at most ten seconds old.
    ///
    /// # Errors
    /// The API server does not answer.
    pub async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Arc<Secret>>, Error> {
        let place = format!("{namespace}/{name}");
        let now = self.now();
        let known = self.secrets.lock().unwrap_or_else(PoisonError::into_inner).get(&place).cloned();
        if let Some((since, secret)) = known
            && is_current(since, now)
        {
            return Ok(Some(secret));
        }
        self.secret_now(namespace, name).await
    }

    /// A Secret by its name, as it is.
    ///
    /// # Errors
    /// The API server does not answer.
    pub async fn secret_now(&self, namespace: &str, name: &str) -> Result<Option<Arc<Secret>>, Error> {
        let place = format!("{namespace}/{name}");
        let now = self.now();
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let found = secrets.get_opt(name).await.map_err(Error::kubernetes(format!("get Secret {place}")))?;
        let mut known = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (since, _)| is_current(*since, now));
        match found {
            Some(secret) => {
                let secret = Arc::new(secret);
                known.insert(place, (now, Arc::clone(&secret)));
                Ok(Some(secret))
            }
            None => {
                known.remove(&place);
                Ok(None)
            }
        }
    }

    /// Tells of an object. That it cannot be told stops nothing.
    pub async fn tell(&self, about: &ObjectReference, is_warning: bool, reason: &str, action: &str, text: &str) {
        let event = Event {
            type_: if is_warning { EventType::Warning } else { EventType::Normal },
            reason: reason.to_owned(),
            note: Some(shorten(text)),
            action: action.to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder().publish(&event, about).await {
            tracing::warn!(reason, error = %error, "an event was not taken");
        }
    }

    fn recorder(&self) -> Recorder {
        let mut known = self.recorder.lock().unwrap_or_else(PoisonError::into_inner);
        if known.1 == EVENTS_REMEMBERED_MAX {
            *known = (Recorder::new(self.client.clone(), self.reporter.clone()), 0);
        }
        known.1 += 1;
        known.0.clone()
    }

    /// The pause after one more failure of this object.
    pub fn failed<K: Resource<DynamicType = ()>>(&self, object: &K) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(object.uid().unwrap_or_default()).or_default();
        let pause = retry_after(*count);
        *count += 1;
        pause
    }

    /// How often this object has failed in a row.
    pub fn failures<K: Resource<DynamicType = ()>>(&self, object: &K) -> u32 {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.get(&object.uid().unwrap_or_default()).copied().unwrap_or_default()
    }

    /// The object is where it should be.
    pub fn succeeded<K: Resource<DynamicType = ()>>(&self, object: &K) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(&object.uid().unwrap_or_default());
    }
}

/// Characters of an Event's text. Source: Kubernetes, events.k8s.io/v1: 1 kB.
const NOTE_CHARS_MAX: usize = 500;

fn shorten(text: &str) -> String {
    if text.chars().count() <= NOTE_CHARS_MAX {
        return text.to_owned();
    }
    text.chars().take(NOTE_CHARS_MAX - 1).chain(std::iter::once('…')).collect()
}
