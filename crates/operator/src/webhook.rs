//! Marks protected claims where the API server has no MutatingAdmissionPolicy: the same rule, over HTTPS.
//!
//! ```text
//! API server ─ AdmissionReview of a claim's CREATE ─→ mark (pure) ─→ allowed, with a patch or without
//! ```
//! Guarantees: nothing is refused and nobody is asked, so that an answer takes no longer than the way. Every replica
//! answers. The certificate is ours, and renewed before it ends.

mod certificate;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::v1alpha1::namespaces::EXCLUDED_NAMESPACES;
use axum::extract::DefaultBodyLimit;
use axum::routing::post;
use axum::serve::Listener;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::Client;
use rustls::ServerConfig;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::claim::judge::NO;
use crate::context::Clock;
use crate::error::Error;
use crate::names::{DESTINATION_KIND, VOLSYNC_GROUP};

/// Where the API server asks, as its configuration says.
const PATH: &str = "/mark";

/// Bytes of the longest review that is read: twice what an object in etcd may have.
const REVIEW_BYTES_MAX: usize = 4 << 20;

/// How long a caller may take for its handshake; the API server itself gives up after three.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections whose handshake is done and that wait to be served.
const WAITING_MAX: usize = 64;

/// Labels of the contract. A policy of another label needs a policy in the API server.
const LABEL: &str = "backup";
const EXEMPT: &str = "backup-exempt";

/// Begins to answer the API server, in tasks of `tasks`, which never end by themselves.
///
/// # Errors
/// There is no certificate, and none can be made.
pub async fn start(
    client: Client,
    namespace: String,
    (listener, address): (TcpListener, SocketAddr),
    clock: Clock,
    tasks: &mut JoinSet<()>,
) -> Result<(), Error> {
    let (certificate, configuration) = certificate::keep(client, namespace, clock).await?;
    tasks.spawn(certificate);
    let (accepted, waiting) = mpsc::channel(WAITING_MAX);
    tasks.spawn(accept(listener, configuration, accepted));
    let router = Router::new().route(PATH, post(review)).layer(DefaultBodyLimit::max(REVIEW_BYTES_MAX));
    tasks.spawn(async move {
        if let Err(error) = axum::serve(Shaken { waiting, address }, router).await {
            tracing::error!(%error, "the webhook is served no more");
        }
    });
    Ok(())
}

async fn review(Json(review): Json<Value>) -> Json<Value> {
    Json(answer(&review))
}

/// The answer to a review: always allowed.
fn answer(review: &Value) -> Value {
    let mut response = json!({"uid": review["request"]["uid"], "allowed": true});
    if let Some(reference) = mark(&review["request"]["object"], review["request"]["namespace"].as_str()) {
        let patch = json!([{"op": "add", "path": "/spec/dataSourceRef", "value": reference}]);
        response["patchType"] = json!("JSONPatch");
        response["patch"] = json!(STANDARD.encode(patch.to_string()));
    }
    json!({"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response})
}

/// The source that a new claim is to name; none for one that is left alone. Says the same as
/// `deploy/kustomize/base/marking.yaml`.
fn mark(claim: &Value, namespace: Option<&str>) -> Option<Value> {
    let (metadata, spec) = (&claim["metadata"], &claim["spec"]);
    let label = metadata["labels"][LABEL].as_str()?;
    let is_left_alone = NO.contains(&label)
        || metadata["labels"][EXEMPT] == "true"
        || namespace.is_none_or(|namespace| EXCLUDED_NAMESPACES.contains(&namespace))
        || !spec["dataSource"].is_null()
        || !spec["dataSourceRef"].is_null()
        || spec["volumeName"].as_str().is_some_and(|name| !name.is_empty());
    if is_left_alone {
        return None;
    }
    let name = match metadata["name"].as_str().filter(|name| !name.is_empty()) {
        Some(name) => format!("{name}-backup"),
        // The API server makes up the rest of the name later.
        None => format!("{}backup", metadata["generateName"].as_str()?),
    };
    Some(json!({"apiGroup": VOLSYNC_GROUP, "kind": DESTINATION_KIND, "name": name}))
}

/// Connections after their handshake, so that one that never speaks keeps no other waiting.
struct Shaken {
    waiting: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    address: SocketAddr,
}

impl Listener for Shaken {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.waiting.recv().await {
            Some(connection) => connection,
            // Whoever accepts does so as long as the process lives.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.address)
    }
}

async fn accept(
    listener: TcpListener,
    configuration: watch::Receiver<Arc<ServerConfig>>,
    accepted: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
) {
    let mut listener = listener;
    loop {
        // Errors of accepting are waited out in there.
        let (stream, address) = Listener::accept(&mut listener).await;
        let acceptor = TlsAcceptor::from(Arc::clone(&configuration.borrow()));
        let accepted = accepted.clone();
        tokio::spawn(async move {
            match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => drop(accepted.send((stream, address)).await),
                Ok(Err(error)) => tracing::debug!(%address, %error, "a handshake failed"),
                Err(_elapsed) => tracing::debug!(%address, "a handshake took too long"),
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(change: Value, expected: Option<&str>) {
        let mut claim = json!({"metadata": {"name": "data", "labels": {"backup": "hourly"}}, "spec": {}});
        for (place, members) in change.as_object().unwrap() {
            for (key, value) in members.as_object().unwrap() {
                claim[place][key] = value.clone();
            }
        }
        let name = mark(&claim, Some("media")).map(|reference| reference["name"].as_str().unwrap().to_owned());
        assert_eq!(name.as_deref(), expected, "{claim}");
    }

    #[test]
    fn protected_claims_are_marked_and_all_others_left_alone() {
        check(json!({}), Some("data-backup"));
        check(json!({"spec": {"volumeName": "", "volumeMode": "Filesystem"}}), Some("data-backup"));
        check(json!({"metadata": {"name": null, "generateName": "data-"}}), Some("data-backup"));
        check(json!({"metadata": {"labels": {"backup": "misspelt"}}}), Some("data-backup"));
        check(json!({"metadata": {"labels": {}}}), None);
        check(json!({"metadata": {"labels": {"backup": "false"}}}), None);
        check(json!({"metadata": {"labels": {"backup": "daily", "backup-exempt": "true"}}}), None);
        check(json!({"spec": {"volumeName": "pv"}}), None);
        check(json!({"spec": {"volumeMode": "Block"}}), Some("data-backup"));
        check(json!({"spec": {"dataSource": {"kind": "VolumeSnapshot", "name": "s"}}}), None);
        check(json!({"spec": {"dataSourceRef": {"kind": "Other", "name": "s"}}}), None);
        let claim = json!({"metadata": {"name": "data", "labels": {"backup": "hourly"}}, "spec": {}});
        assert_eq!((mark(&claim, Some("kyverno")), mark(&claim, None)), (None, None));
    }

    #[test]
    fn whatever_is_asked_is_allowed() {
        for request in [json!({}), json!({"uid": "u", "object": null}), json!({"uid": "u", "namespace": "media"})] {
            let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
            let answer = answer(&review);
            assert_eq!(answer["response"]["allowed"], true);
            assert!(answer["response"]["patch"].is_null());
        }
    }
}
