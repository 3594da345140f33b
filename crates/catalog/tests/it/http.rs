//! The same over a socket.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use catalog::{Catalog, Options};
use jiff::ToSpan as _;
use repository_kopia::{CycleKind, Safety, Task};
use testkit::MemoryStore;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::world::World;

struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<std::io::Result<()>>,
}

struct Reply {
    status: u16,
    head: String,
    body: String,
}

impl Server {
    async fn start(catalog: Arc<Catalog>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move {
            let _ = stopped.await;
        };
        Self { address, stop, ended: tokio::spawn(catalog::serve(listener, catalog, shutdown)) }
    }

    async fn request(&self, verb: &str, path: &str, headers: &str) -> Reply {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let text = format!("{verb} {path} HTTP/1.1\r\nHost: catalog\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.unwrap();
        let (head, body) = reply.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Reply { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    async fn get(&self, path: &str) -> Reply {
        self.request("GET", path, "").await
    }

    #[track_caller]
    fn check(reply: &Reply, status: u16, begins: &str) {
        assert_eq!(reply.status, status, "{}", reply.body);
        assert!(reply.body.starts_with(begins), "{}", reply.body);
    }
}

#[tokio::test]
async fn exists_as_pvc_plumber_said_it() {
    let world = World::with_a_backup().await;
    let server = Server::start(world.catalog()).await;
    let reply = server.get("/exists/media/photos").await;
    let rest = r#""namespace":"media","pvc":"photos","backend":"kopia-s3","source":"photos@media:/data"}"#;
    let json = format!(r#"{{"exists":true,"keyCount":1,"decision":"restore","authoritative":true,{rest}"#);
    assert_eq!((reply.status, reply.body), (200, json));
    assert!(reply.head.contains("\r\nage: 0"), "{}", reply.head);
    let reply = server.get("/exists/media/new").await;
    Server::check(&reply, 200, r#"{"exists":false,"decision":"fresh","authoritative":true,"#);
    world.store.vanish();
    let reply = server.get("/exists/media/new").await;
    Server::check(&reply, 503, r#"{"exists":false,"decision":"unknown","authoritative":false,"#);
    for path in [
        "/exists",
        "/exists/",
        "/exists/media",
        "/exists/media/",
        "/exists/media/a/b",
        "/exists/M/x",
        "/exists/a/%2e%2e",
    ] {
        Server::check(&server.get(path).await, 400, r#"{"exists":false,"decision":"unknown","authoritative":false,"#);
    }
}

#[tokio::test]
async fn facts_decisions_and_snapshots() {
    let world = World::with_a_backup().await;
    let id = world.repository().await.unique_id();
    let server = Server::start(world.catalog()).await;
    let facts: api::decide::Facts = serde_json::from_str(&server.get("/facts/media/photos").await.body).unwrap();
    assert!(matches!(facts.location, api::decide::Location::Open { listing_complete: true, .. }));
    Server::check(&server.get("/decide/media/photos").await, 200, r#"{"restore":{"snapshot":{"id":""#);
    Server::check(&server.get(&format!("/decide/media/photos?pinned={id}")).await, 200, r#"{"restore""#);
    let wrong = server.get("/decide/media/photos?pinned=00ff").await;
    Server::check(&wrong, 200, r#"{"hold":{"reason":"WrongRepository""#);
    let early = server.get("/decide/media/photos?asOf=2020-01-01T00:00:00Z").await;
    Server::check(&early, 200, r#"{"hold":{"reason":"ExpectedBackupMissing""#);
    Server::check(&server.get("/decide/media/new?backupExpected=true").await, 200, r#"{"hold":{"reason":"Expected"#);
    Server::check(&server.get("/decide/media/new").await, 200, r#"{"fresh":{"proof":{"repositoryOpenNoHistory""#);
    Server::check(&server.get("/decide/media/new?username=photos").await, 200, r#"{"restore""#);
    Server::check(&server.get("/decide/media/new?pined=00ff").await, 400, r#"{"error":"#);
    Server::check(&server.get("/decide/Media/new").await, 400, r#"{"error":"\"Media\" is not the name"#);
    Server::check(&server.get("/snapshots/media/photos").await, 200, r#"[{"id":""#);
    assert!(server.get("/snapshots/media/photos").await.body.contains(r#""files":10,"bytes":10240,"complete":true"#));
    Server::check(&server.get("/snapshots/media/new").await, 200, "[]");
}

#[tokio::test]
async fn what_is_restored_is_the_newest_although_an_older_one_is_remembered() {
    let world = World::with_a_backup().await;
    let catalog = Catalog::new(Options { refresh_every: Duration::from_secs(3600), ..world.options() });
    let server = Server::start(catalog).await;
    let newest = async |path: &str| {
        let facts: api::decide::Facts = serde_json::from_str(&server.get(path).await.body).unwrap();
        let api::decide::Location::Open { snapshots, .. } = facts.location else { panic!("not open") };
        snapshots.good.len()
    };
    assert_eq!(newest("/facts/media/photos").await, 1);
    world.back_up("photos", 11).await;
    assert!(server.get("/exists/media/photos").await.body.contains(r#""keyCount":1"#), "memory will do for that");
    assert_eq!(newest("/facts/media/photos").await, 2);
}

#[tokio::test]
async fn the_store_as_a_whole() {
    let world = World::with_a_backup().await;
    let server = Server::start(world.catalog()).await;
    let overview = async || {
        let reply = server.get("/overview").await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        assert!(!reply.body.contains("photos"), "{}", reply.body);
        serde_json::from_str::<api::overview::Overview>(&reply.body).unwrap()
    };
    let before = overview().await;
    let figures = before.repository.unwrap();
    assert_eq!((before.checked, figures.snapshots, figures.index_blobs), (world.store.now(), 1, 2));
    assert_eq!(figures.upkeep, Some(api::overview::Upkeep::default()));

    let repository = world.repository().await;
    repository.set_maintenance_owner("u@h").await.unwrap();
    let cycle = repository.begin_maintenance(CycleKind::Full, false, Safety::full()).await.unwrap();
    let now = world.store.now();
    cycle.record(Task::SnapshotGc, now, None, None).await.unwrap();
    cycle.record(Task::FullDeleteBlobs, now, Some("no room".to_owned()), None).await.unwrap();
    let upkeep = overview().await.repository.unwrap().upkeep.unwrap();
    assert_eq!((upkeep.last_good, upkeep.next_full), (Some(now), Some(now + 24.hours())));
    assert_eq!(upkeep.failure, Some(format!("full-delete-blobs at {now}: no room")));
    cycle.record(Task::FullDeleteBlobs, now, None, None).await.unwrap();
    assert_eq!(overview().await.repository.unwrap().upkeep.unwrap().failure, None);

    let world = World { store: MemoryStore::new() };
    let server = Server::start(Catalog::new(Options { retry_after: Duration::ZERO, ..world.options() })).await;
    let empty: api::overview::Overview = serde_json::from_str(&server.get("/overview").await.body).unwrap();
    assert_eq!(empty.repository, None);
    world.store.vanish();
    let server = Server::start(Catalog::new(Options { retry_after: Duration::ZERO, ..world.options() })).await;
    Server::check(&server.get("/overview").await, 503, r#"{"error":"#);
}

#[tokio::test]
async fn other_verbs_other_paths_and_tokens() {
    let world = World { store: MemoryStore::new() };
    let catalog = Catalog::new(Options { bearer: Some("sesame".to_owned()), ..world.options() });
    let server = Server::start(catalog).await;
    let token = "Authorization: Bearer sesame\r\n";
    assert_eq!(server.get("/facts/media/photos").await.status, 401);
    assert_eq!(server.request("GET", "/facts/media/photos", "Authorization: Bearer\r\n").await.status, 401);
    assert_eq!(server.request("GET", "/facts/media/photos", token).await.status, 200);
    assert_eq!(server.request("HEAD", "/facts/media/photos", token).await.status, 200);
    // Whoever asks as they asked pvc-plumber never had a token.
    assert_eq!(server.get("/exists/media/photos").await.status, 200);
    for verb in ["POST", "PUT", "DELETE", "PATCH"] {
        assert_eq!(server.request(verb, "/exists/media/photos", token).await.status, 405, "{verb}");
        assert_eq!(server.request(verb, "/metrics", token).await.status, 405, "{verb}");
    }
    assert_eq!(server.request("GET", "/elsewhere", token).await.status, 404);
    assert_eq!((server.get("/healthz").await.status, server.get("/readyz").await.status), (200, 200));
    let numbers = server.get("/metrics").await;
    assert_eq!(numbers.status, 200);
    assert!(!numbers.body.contains("photos"), "{}", numbers.body);
}

#[tokio::test]
async fn ready_is_more_than_alive() {
    let world = World { store: MemoryStore::new() };
    let catalog = Catalog::new(Options { retry_after: Duration::ZERO, ..world.options() });
    world.store.vanish();
    let server = Server::start(catalog).await;
    assert_eq!(server.get("/healthz").await.status, 200);
    let not_ready = server.get("/readyz").await;
    assert_eq!(not_ready.status, 503);
    assert!(not_ready.head.contains("\r\nperennial-not-ready: repositorymissing\r\n"), "{}", not_ready.head);
    world.store.wipe();
    assert_eq!(server.get("/readyz").await.status, 200);
}

/// Names and labels are a contract with dashboards and alerts.
#[tokio::test]
async fn metrics_have_these_names() {
    let world = World::with_a_backup().await;
    let server = Server::start(world.catalog()).await;
    server.get("/exists/media/photos").await;
    world.store.vanish();
    server.get("/exists/media/new").await;
    let text = server.get("/metrics").await.body;
    let mut names: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit_once(' ').map(|(name, _)| name))
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            r#"perennial_catalog_decisions_total{decision="RepositoryUnreachable"}"#,
            r#"perennial_catalog_decisions_total{decision="restore"}"#,
            "perennial_catalog_last_good_look_age_seconds",
            "perennial_catalog_last_look_seconds",
            "perennial_catalog_open_repositories",
            "perennial_catalog_opens_total",
            r#"perennial_catalog_refresh_failures_total{reason="store_missing"}"#,
            "perennial_catalog_refreshes_total",
            r#"perennial_catalog_requests_total{route="exists",status="200"}"#,
            r#"perennial_catalog_requests_total{route="exists",status="503"}"#,
            "perennial_catalog_storage_calls_total{operation=\"delete\"}",
            "perennial_catalog_storage_calls_total{operation=\"get\"}",
            "perennial_catalog_storage_calls_total{operation=\"get_range\"}",
            "perennial_catalog_storage_calls_total{operation=\"list\"}",
            "perennial_catalog_storage_calls_total{operation=\"put\"}",
            "perennial_catalog_storage_calls_total{operation=\"stat\"}",
            "perennial_catalog_storage_failures_total",
        ]
    );
}

#[tokio::test]
async fn a_shutdown_ends_the_server() {
    let world = World { store: MemoryStore::new() };
    let server = Server::start(world.catalog()).await;
    assert_eq!(server.get("/healthz").await.status, 200);
    server.stop.send(()).unwrap();
    server.ended.await.unwrap().unwrap();
}
