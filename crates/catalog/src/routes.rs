//! The questions over HTTP: parse, ask, encode.
//!
//! | path | answer |
//! |---|---|
//! | `/exists/{namespace}/{pvc}` | pvc-plumber's: 200 authoritative, 503 not, 400 no such name |
//! | `/facts/{namespace}/{pvc}` | what is found now, as [`api::decide::Facts`]; 200 even for "unreachable" |
//! | `/decide/{namespace}/{pvc}` | the decision, as [`api::decide::Decision`]; `pinned`, `asOf`, `creation`, `ledgerExpected`, `backupExpected`, `declaredNew` say what is expected |
//! | `/snapshots/{namespace}/{pvc}` | all of them, newest first; 503 unless the listing is complete |
//! | `/overview` | the store as a whole, as [`api::overview::Overview`]; 503 if it cannot be looked at |
//! | `/healthz`, `/readyz` | alive; able to answer |
//! | `/metrics` | Prometheus |
//!
//! `username`, `hostname` and `path` name the history where it is not the usual one. Answers about a claim carry an `Age`
//! in seconds. GET and HEAD only. Where a token is asked for, `/exists` does without: its callers never had one. `/metrics`
//! and `/overview` name no claim, and do without as well.

use std::sync::Arc;
use std::time::Instant;

use api::decide::{Claim, Creation, Decision, Dismissal, Facts, HoldReason, Location, Restore, Word, decide};
use api::exists::Answer;
use api::id::{RepositoryId, SnapshotId};
use api::naming::{ClaimKey, Identity, NameError};
use api::overview::NOT_READY;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::{Catalog, Looked};

/// Requests at the same time; more are turned away with 503.
pub const REQUESTS_MAX: usize = 1024;

/// Answers until `shutdown` comes, and then until the requests under way are answered.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    catalog: Arc<Catalog>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, router(catalog)).with_graceful_shutdown(shutdown).await
}

/// All routes.
pub fn router(catalog: Arc<Catalog>) -> Router {
    let seats = Arc::new(Semaphore::new(REQUESTS_MAX));
    // Whoever asks whether there is a backup has never shown anything, and learns no more than that.
    let open = Router::new()
        .route("/exists", get(exists_of_nothing))
        .route("/exists/", get(exists_of_nothing))
        .route("/exists/{*claim}", get(exists))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&seats), seated));
    let claims = Router::new()
        .route("/facts/{namespace}/{pvc}", get(facts))
        .route("/decide/{namespace}/{pvc}", get(decision))
        .route("/snapshots/{namespace}/{pvc}", get(snapshots))
        .route_layer(middleware::from_fn_with_state(seats, seated))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&catalog), authorized));
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        // Counts and reasons, no claim's name: Prometheus need not hold a token for each repository.
        .route("/metrics", get(metrics))
        .route("/overview", get(overview))
        .merge(open)
        .merge(claims)
        .layer(middleware::from_fn_with_state(Arc::clone(&catalog), counted))
        .with_state(catalog)
}

/// What a question may say beside its path.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Question {
    username: Option<String>,
    hostname: Option<String>,
    path: Option<String>,
    pinned: Option<String>,
    as_of: Option<Timestamp>,
    creation: Option<Creation>,
    ledger_expected: Option<bool>,
    backup_expected: Option<bool>,
    declared_new: Option<bool>,
    restore: Option<Restore>,
    dismissed_up_to: Option<Timestamp>,
    dismissed_snapshot: Option<String>,
    accepted: Option<String>,
}

impl Question {
    /// The history it names, the usual parts filled in; none if it names no part.
    fn identity(&self, catalog: &Catalog, claim: &ClaimKey) -> Option<Identity> {
        if self.username.is_none() && self.hostname.is_none() && self.path.is_none() {
            return None;
        }
        let usual = catalog.default_identity(claim);
        Some(Identity {
            username: self.username.clone().unwrap_or(usual.username),
            hostname: self.hostname.clone().unwrap_or(usual.hostname),
            path: self.path.clone().unwrap_or(usual.path),
        })
    }

    /// What it expects, over what the catalog expects of every claim.
    fn expectation(&self, usual: &Claim) -> Claim {
        Claim {
            pinned_repository_id: match &self.pinned {
                Some(id) => Some(RepositoryId::new(id.as_str())),
                None => usual.pinned_repository_id.clone(),
            },
            creation: self.creation.unwrap_or(usual.creation),
            ledger_expected: self.ledger_expected.unwrap_or(usual.ledger_expected),
            backup_expected: self.backup_expected.unwrap_or(usual.backup_expected),
            restore_as_of: self.as_of.or(usual.restore_as_of),
            word: self.word(),
        }
    }

    /// What a person says about the claim.
    fn word(&self) -> Word {
        let snapshot = self.dismissed_snapshot.as_deref().map(|id| Dismissal::Snapshot(SnapshotId::new(id)));
        Word {
            restore: self.restore.unwrap_or_default(),
            dismissed: self.dismissed_up_to.map(Dismissal::UpTo).or(snapshot),
            accepted: self.accepted.as_deref().map(SnapshotId::new),
        }
    }
}

#[derive(Serialize)]
struct Refusal {
    error: String,
}

fn refusal(status: StatusCode, error: impl Into<String>) -> Response {
    (status, Json(Refusal { error: error.into() })).into_response()
}

type Asked = Result<Query<Question>, QueryRejection>;

async fn exists_of_nothing() -> Response {
    answer(&Answer::malformed(&NameError::Namespace { name: String::new() }))
}

async fn exists(State(catalog): State<Arc<Catalog>>, Path(path): Path<String>, asked: Asked) -> Response {
    let (namespace, pvc) = path.split_once('/').unwrap_or((&path, ""));
    let claim = match ClaimKey::new(namespace, pvc) {
        Ok(claim) => claim,
        Err(error) => return answer(&Answer::malformed(&error)),
    };
    let Ok(Query(question)) = asked else { return refused(asked) };
    let identity = question.identity(&catalog, &claim);
    let expectation = question.expectation(&catalog.options().expectation);
    let began = Instant::now();
    let (looked, decision) = catalog.decide(&claim, identity.as_ref(), &expectation).await;
    log(&claim, &decision, began);
    let backend = catalog.options().backend;
    aged(&looked, answer(&Answer::new(&claim, &looked.identity, backend, &looked.facts, &decision)))
}

fn answer(answer: &Answer) -> Response {
    let status = StatusCode::from_u16(answer.status()).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    (status, Json(answer)).into_response()
}

async fn facts(
    State(catalog): State<Arc<Catalog>>,
    Path((namespace, pvc)): Path<(String, String)>,
    asked: Asked,
) -> Response {
    let (claim, question) = match parsed(namespace, pvc, asked) {
        Ok(parsed) => parsed,
        Err(refused) => return refused,
    };
    let began = Instant::now();
    let looked = catalog.look_now(&claim, question.identity(&catalog, &claim).as_ref()).await;
    let facts = with_word(&looked.facts, &question);
    log(&claim, &decide(&facts, &question.expectation(&catalog.options().expectation)), began);
    aged(&looked, Json(facts).into_response())
}

async fn decision(
    State(catalog): State<Arc<Catalog>>,
    Path((namespace, pvc)): Path<(String, String)>,
    asked: Asked,
) -> Response {
    let (claim, question) = match parsed(namespace, pvc, asked) {
        Ok(parsed) => parsed,
        Err(refused) => return refused,
    };
    let expectation = question.expectation(&catalog.options().expectation);
    let identity = question.identity(&catalog, &claim);
    let (looked, decided) = catalog.decide(&claim, identity.as_ref(), &expectation).await;
    let decided = match question.declared_new {
        None => decided,
        Some(_) => decide(&with_word(&looked.facts, &question), &expectation),
    };
    aged(&looked, Json(decided).into_response())
}

/// The decision log: a line for each question.
fn log(claim: &ClaimKey, decision: &Decision, began: Instant) {
    let (word, reason) = match decision {
        Decision::Restore { .. } => ("restore", ""),
        Decision::Fresh { .. } => ("fresh", ""),
        Decision::Hold { reason, .. } => ("unknown", reason.as_str()),
    };
    let duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(
        namespace = claim.namespace(),
        claim = claim.pvc(),
        decision = word,
        reason,
        duration_ms,
        "{decision}"
    );
}

/// The facts, with what the question says about the repository being new.
fn with_word(facts: &Facts, question: &Question) -> Facts {
    Facts { declared_new: question.declared_new.unwrap_or(facts.declared_new), ..facts.clone() }
}

async fn snapshots(
    State(catalog): State<Arc<Catalog>>,
    Path((namespace, pvc)): Path<(String, String)>,
    asked: Asked,
) -> Response {
    let (claim, question) = match parsed(namespace, pvc, asked) {
        Ok(parsed) => parsed,
        Err(refused) => return refused,
    };
    match catalog.snapshots(&claim, question.identity(&catalog, &claim).as_ref()).await {
        Ok((snapshots, age)) => with_age(age.as_secs(), Json(snapshots).into_response()),
        Err(location) => refusal(StatusCode::SERVICE_UNAVAILABLE, words_of(&location)),
    }
}

fn words_of(location: &Location) -> String {
    match location {
        Location::Unreachable { detail }
        | Location::AuthDenied { detail }
        | Location::StoreMissing { detail }
        | Location::Unknown { detail } => detail.clone(),
        Location::Empty => "the location is empty".to_owned(),
        Location::Uninitialised => "objects are there, but they are no repository".to_owned(),
        Location::Open { .. } => "the repository is open".to_owned(),
    }
}

async fn readyz(State(catalog): State<Arc<Catalog>>) -> Response {
    match catalog.ready().await {
        Ok(()) => "ok\n".into_response(),
        Err(location) => {
            let reason = [(NOT_READY, reason_of(&location).as_str())];
            (StatusCode::SERVICE_UNAVAILABLE, reason, format!("{}\n", words_of(&location))).into_response()
        }
    }
}

/// Why nothing can be answered, as conditions and Events spell it.
fn reason_of(location: &Location) -> HoldReason {
    match location {
        Location::AuthDenied { .. } => HoldReason::RepositoryAuth,
        Location::StoreMissing { .. } => HoldReason::RepositoryMissing,
        Location::Unreachable { .. }
        | Location::Unknown { .. }
        | Location::Empty
        | Location::Uninitialised
        | Location::Open { .. } => HoldReason::RepositoryUnreachable,
    }
}

async fn overview(State(catalog): State<Arc<Catalog>>) -> Response {
    match catalog.overview().await {
        Ok(overview) => Json(overview).into_response(),
        Err(why) => refusal(StatusCode::SERVICE_UNAVAILABLE, why),
    }
}

async fn metrics(State(catalog): State<Arc<Catalog>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics_text(&catalog)).into_response()
}

/// What `/metrics` says.
pub fn metrics_text(catalog: &Catalog) -> String {
    let calls = catalog.options().calls.snapshot();
    catalog.metrics.text(&calls, catalog.sessions.open_count())
}

fn parsed(namespace: String, pvc: String, asked: Asked) -> Result<(ClaimKey, Question), Response> {
    let claim = ClaimKey::new(namespace, pvc).map_err(|error| refusal(StatusCode::BAD_REQUEST, error.to_string()))?;
    match asked {
        Ok(Query(question)) => Ok((claim, question)),
        Err(_) => Err(refused(asked)),
    }
}

fn refused(asked: Asked) -> Response {
    let why = asked.err().map(|rejection| rejection.body_text()).unwrap_or_default();
    refusal(StatusCode::BAD_REQUEST, why)
}

fn aged(looked: &Looked, response: Response) -> Response {
    with_age(looked.age.as_secs(), response)
}

fn with_age(seconds: u64, mut response: Response) -> Response {
    response.headers_mut().insert(header::AGE, HeaderValue::from(seconds));
    // What is in between must not make an answer older than it says.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Turns away who does not show the token, where there is one.
async fn authorized(State(catalog): State<Arc<Catalog>>, request: Request, next: Next) -> Response {
    let Some(token) = &catalog.options().bearer else { return next.run(request).await };
    let shown = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let shown = shown.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    // Hashes, so that the time of the comparison says nothing about the token.
    if digest(&SHA256, shown.as_bytes()).as_ref() == digest(&SHA256, token.as_bytes()).as_ref() {
        return next.run(request).await;
    }
    let challenge: [(HeaderName, &str); 1] = [(header::WWW_AUTHENTICATE, "Bearer")];
    (challenge, refusal(StatusCode::UNAUTHORIZED, "a bearer token is needed")).into_response()
}

/// Keeps the number of questions at a time within bounds.
async fn seated(State(seats): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    match seats.try_acquire() {
        Ok(_seat) => next.run(request).await,
        Err(_) => refusal(StatusCode::SERVICE_UNAVAILABLE, "too many questions at a time"),
    }
}

/// Counts answers by route, of which there is a closed list.
async fn counted(State(catalog): State<Arc<Catalog>>, request: Request, next: Next) -> Response {
    let route = match request.uri().path().split('/').nth(1) {
        Some("exists") => "exists",
        Some("facts") => "facts",
        Some("decide") => "decide",
        Some("snapshots") => "snapshots",
        Some("healthz") => "healthz",
        Some("readyz") => "readyz",
        Some("metrics") => "metrics",
        Some("overview") => "overview",
        _ => "other",
    };
    let response = next.run(request).await;
    catalog.metrics.request(route, response.status().as_u16());
    response
}
