//! Another controller of the same kinds, elsewhere in the cluster: a VolSync that is at work serves what people wrote, and two
//! would run two movers. Until it stands still we serve what we have generated, and nothing else.
//!
//! One in our own namespace wants the same Lease, and so never works beside us. One elsewhere holds a Lease of the same name
//! there; who holds none is not seen.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Api, ListParams};
use kube::{Client, Resource, ResourceExt};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::error::Error;
use crate::leader;
use crate::names::{MANAGED_BY, MANAGER};

/// How long an answer holds.
pub const AGE_MAX: Duration = Duration::from_secs(30);

/// Looks for others.
pub struct Neighbours {
    leases: Api<Lease>,
    namespace: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The last answer, and since when we have it.
    known: Option<(Instant, Option<String>)>,
    /// Each Lease's version, by namespace, and since when it has been that: what counts is how long it has not changed.
    versions: HashMap<String, (String, Instant)>,
}

impl Neighbours {
    /// Those outside of `namespace`, which is ours.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self { leases: Api::all(client), namespace: namespace.to_owned(), state: Mutex::default() }
    }

    /// Whoever is at work, as `namespace/name`; at most half a minute old.
    ///
    /// # Errors
    /// The API server does not answer: nobody knows.
    pub async fn at_work(&self) -> Result<Option<String>, Error> {
        // Whoever asks meanwhile waits for the same answer.
        let mut state = self.state.lock().await;
        if let Some((since, known)) = &state.known
            && since.elapsed() < AGE_MAX
        {
            return Ok(known.clone());
        }
        let only = ListParams::default().fields(&format!("metadata.name={}", leader::NAME));
        let what = format!("list the Leases {} of all namespaces", leader::NAME);
        let leases = self.leases.list(&only).await.map_err(Error::kubernetes(what))?;
        let found = state.live(&leases.items, &self.namespace, Instant::now());
        let before = state.known.take().and_then(|(_, known)| known);
        match &found {
            Some(other) if before != found => {
                tracing::warn!(other, "another controller of VolSync's kinds is at work: it is left what people wrote");
            }
            None if before.is_some() => {
                tracing::info!("no other controller is at work any more: all objects are served")
            }
            Some(_) | None => {}
        }
        state.known = Some((Instant::now(), found.clone()));
        Ok(found)
    }

    /// Whether an object is left to somebody else: the name.
    ///
    /// # Errors
    /// The API server does not answer: nobody knows.
    pub async fn left_to<K: Resource>(&self, object: &K) -> Result<Option<String>, Error> {
        if object.labels().get(MANAGED_BY).map(String::as_str) == Some(MANAGER) {
            return Ok(None);
        }
        self.at_work().await
    }
}

impl State {
    fn live(&mut self, leases: &[Lease], own: &str, now: Instant) -> Option<String> {
        let mut found = None;
        for lease in leases {
            let namespace = lease.namespace().unwrap_or_default();
            let version = lease.resource_version().unwrap_or_default();
            let known = self.versions.get(&namespace).filter(|(known, _)| *known == version);
            let since = known.map_or(now, |(_, since)| *since);
            self.versions.insert(namespace.clone(), (version, since));
            let holder = leader::holder(lease).filter(|holder| !holder.is_empty());
            if let Some(holder) = holder.filter(|_| namespace != own && now - since < leader::duration(lease)) {
                found = found.or_else(|| Some(format!("{namespace}/{holder}")));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn lease(namespace: &str, version: &str, spec: Value) -> Lease {
        let metadata = json!({"namespace": namespace, "name": leader::NAME, "resourceVersion": version});
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    #[test]
    fn whoever_holds_a_lease_elsewhere_and_renews_it() {
        let mut state = State::default();
        let start = Instant::now();
        let held = || json!({"holderIdentity": "volsync-1", "leaseDurationSeconds": 137});
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let theirs = Some("backup/volsync-1".to_owned());
        assert_eq!(state.live(&[lease("volsync-system", "1", held())], "volsync-system", at(0)), None);
        assert_eq!(state.live(&[lease("backup", "2", held())], "volsync-system", at(0)), theirs);
        assert_eq!(state.live(&[lease("backup", "2", held())], "volsync-system", at(136)), theirs);
        assert_eq!(state.live(&[lease("backup", "2", held())], "volsync-system", at(137)), None, "it has died");
        assert_eq!(state.live(&[lease("backup", "3", held())], "volsync-system", at(300)), theirs, "it is back");
        let released = json!({"holderIdentity": "", "leaseDurationSeconds": 1});
        assert_eq!(state.live(&[lease("backup", "4", released)], "volsync-system", at(301)), None);
    }
}
