//! What the operator says over HTTP: numbers, whether it lives, whether it works, and its verdict on every claim.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::OnceCell;

use crate::audit;
use crate::caches::key;
use crate::context::Context;
use crate::gauges;
use crate::leader::Leader;

/// Marks a question that was passed on, so that it is not passed on again.
const PASSED_ON: &str = "perennial-passed-on";

/// How long the leader may take.
const PASS_ON_TIMEOUT: Duration = Duration::from_secs(10);

/// What is known of the operator by those who ask.
#[derive(Default)]
pub struct Face {
    /// Everything, once it leads.
    pub context: OnceCell<Arc<Context>>,
    /// Who leads, for what only that one knows.
    pub leader: OnceCell<Arc<Leader>>,
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
        .route("/audit", get(audit))
        .with_state(face);
    axum::serve(listener, router).await
}

async fn readyz(State(face): State<Arc<Face>>) -> Response {
    match face.is_ready.load(Ordering::Relaxed) {
        true => "ok\n".into_response(),
        false => (StatusCode::SERVICE_UNAVAILABLE, "the caches are not filled yet\n").into_response(),
    }
}

/// The verdicts, from whoever leads: others pass the question on.
async fn audit(State(face): State<Arc<Face>>, headers: HeaderMap) -> Response {
    let body = match face.context.get() {
        Some(context) => match serde_json::to_vec(&audit::audit(&context.caches, context.now())) {
            Ok(body) => body,
            Err(error) => return unavailable(&format!("the audit cannot be written: {error}")),
        },
        None if headers.contains_key(PASSED_ON) => return unavailable("this operator does not lead"),
        None => match ask_the_leader(&face).await {
            Ok(body) => body,
            Err(why) => return unavailable(&why),
        },
    };
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], body).into_response()
}

fn unavailable(why: &str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response()
}

async fn ask_the_leader(face: &Face) -> Result<Vec<u8>, String> {
    let leader = face.leader.get().ok_or("the operator has not begun yet")?;
    let address = leader.address().await.map_err(|error| error.chain())?;
    let address = address.ok_or("nobody leads, or does not say where it is")?;
    let client = reqwest::Client::builder().timeout(PASS_ON_TIMEOUT).no_proxy().build();
    let client = client.map_err(|error| error.to_string())?;
    let answer = client.get(format!("http://{address}/audit")).header(PASSED_ON, "1").send().await;
    let answer = answer.and_then(reqwest::Response::error_for_status).map_err(|error| error.to_string())?;
    answer.bytes().await.map(|body| body.to_vec()).map_err(|error| error.to_string())
}

async fn metrics(State(face): State<Arc<Face>>) -> Response {
    let text = face.context.get().map(|context| {
        let namespaced = |namespace: &str| Some(namespace.to_owned());
        context.metrics.keep(
            |namespace, name| context.caches.sources.get(&key(name, namespaced(namespace))).is_some(),
            |namespace, name| context.caches.destinations.get(&key(name, namespaced(namespace))).is_some(),
            |namespace, name| context.caches.claims.get(&key(name, namespaced(namespace))).is_some(),
        );
        context.metrics.text() + &gauges::text(&context.caches)
    });
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text.unwrap_or_default()).into_response()
}
