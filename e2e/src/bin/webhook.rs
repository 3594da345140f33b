//! The webhook of the tests, for a pod: serves with the certificate and key that `TLS_CERTIFICATE` and `TLS_KEY` hold.

use anyhow::{Context, Result};
use e2e::webhook::{Identity, serve};
use tokio::net::TcpListener;

/// Where the pod listens.
const ADDRESS: &str = "0.0.0.0:8443";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let variable = |name: &str| std::env::var(name).with_context(|| format!("{name} is not set"));
    let identity = Identity { certificate: variable("TLS_CERTIFICATE")?, key: variable("TLS_KEY")? };
    let listener = TcpListener::bind(ADDRESS).await.with_context(|| format!("listen on {ADDRESS}"))?;
    serve(listener, &identity, "pod").await
}
