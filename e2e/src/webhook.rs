//! A mutating webhook that marks what it sees: in the process of a test, or in a pod as the program `webhook`.

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// The annotation that the webhook sets; its value says which one it was.
pub const MARK: &str = "example.test/mark";

/// Longest review that is read: an object in etcd has at most 1.5 MiB.
const REVIEW_BYTES_MAX: usize = 4 << 20;

/// A certificate for one name, which is its own authority, and its key, both in PEM.
pub struct Identity {
    /// To serve with, and to give to the API server as `caBundle`.
    pub certificate: String,
    /// To serve with.
    pub key: String,
}

impl Identity {
    /// A new one for a host name or an address.
    pub fn new(name: &str) -> Result<Self> {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).context("make a certificate")?;
        Ok(Self { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() })
    }

    /// As it stands in a webhook's configuration.
    pub fn bundle(&self) -> String {
        STANDARD.encode(&self.certificate)
    }
}

/// Answers reviews until it is dropped; connections that callers keep open end with it.
pub async fn serve(listener: TcpListener, identity: &Identity, mark: &str) -> Result<()> {
    let certificate =
        CertificateDer::from_pem_slice(identity.certificate.as_bytes()).context("read the certificate")?;
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).context("read the key")?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("choose versions of TLS")?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .context("use the certificate")?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.context("accept a connection")?;
        let (acceptor, mark) = (acceptor.clone(), mark.to_owned());
        connections.spawn(async move {
            if let Err(error) = converse(acceptor, stream, &mark).await {
                eprintln!("webhook: {error:#}");
            }
        });
    }
}

async fn converse(acceptor: TlsAcceptor, stream: TcpStream, mark: &str) -> Result<()> {
    let stream = acceptor.accept(stream).await.context("shake hands")?;
    let service = hyper::service::service_fn(|request| answer(request, mark));
    let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    connection.await.context("serve")
}

async fn answer(request: Request<Incoming>, mark: &str) -> Result<Response<Full<Bytes>>> {
    let body = Limited::new(request.into_body(), REVIEW_BYTES_MAX).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("read a review: {error}"))?.to_bytes();
    let review: Value = serde_json::from_slice(&body).context("decode a review")?;
    let patch = json!([{"op": "add", "path": "/metadata/annotations", "value": {MARK: mark}}]).to_string();
    let answer = json!({
        "apiVersion": review["apiVersion"],
        "kind": review["kind"],
        "response": {
            "uid": review["request"]["uid"], "allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(patch),
        },
    });
    let response = Response::builder().header("content-type", "application/json");
    response.body(Full::from(answer.to_string())).context("build an answer")
}
