//! What the operator says over HTTP: numbers, whether it lives, whether it works.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::OnceCell;

use crate::caches::key;
use crate::context::Context;

/// What is known of the operator by those who ask.
#[derive(Default)]
pub struct Face {
    /// Everything, once it leads.
    pub context: OnceCell<Arc<Context>>,
    /// Whether it has begun to look at objects, or stands by to.
    pub is_ready: AtomicBool,
}

/// Answers until the process ends.
///
/// # Errors
/// The socket fails.
pub async fn serve(listener: TcpListener, face: Arc<Face>) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(face);
    axum::serve(listener, router).await
}

async fn readyz(State(face): State<Arc<Face>>) -> Response {
    match face.is_ready.load(Ordering::Relaxed) {
        true => "ok\n".into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, "the caches are not filled yet\n").into_response(),
    }
}

async fn metrics(State(face): State<Arc<Face>>) -> Response {
    let text = face.context.get().map(|context| {
        let namespaced = |namespace: &str| Some(namespace.to_owned());
        context.metrics.keep(
            |namespace, name| context.caches.sources.get(&key(name, namespaced(namespace))).is_some(),
            |namespace, name| context.caches.claims.get(&key(name, namespaced(namespace))).is_some(),
        );
        context.metrics.text()
    });
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text.unwrap_or_default()).into_response()
}
