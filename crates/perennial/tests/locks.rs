//! A bucket with object lock, on a foreign server: what we write there cannot be deleted, and kopia works on beside us.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use futures::TryStreamExt as _;
use jiff::SignedDuration;
use repository::{Clock as _, SystemClock};
use storage::{Certificate, ErrorKind, LockMode, ObjectKey, ObjectLock, S3Address, S3Credentials, S3Storage, Storage};

use crate::kopia::Kopia;
use crate::support::{Place, Ran, describe};

const ACCESS_KEY_ID: &str = "id-of-key";
const SECRET_ACCESS_KEY: &str = "the-secret-key";

/// Where `cargo xtask tools` puts it.
fn versitygw() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    let built = cache.map(|cache| cache.join("perennial/tools/versitygw/1.8.0/versitygw"));
    let program = set("VERSITYGW").or(built).unwrap();
    assert!(program.is_file(), "{} is missing: run `cargo xtask tools`", program.display());
    program
}

/// A server that keeps one version of each object, so that deleting a locked one is refused; dropping it kills it.
struct Server {
    address: SocketAddr,
    process: Child,
}

impl Server {
    fn start(directory: &Path) -> Self {
        fs::create_dir_all(directory).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut process = Command::new(versitygw())
            .args(["--port", &address.to_string(), "--access", ACCESS_KEY_ID, "--secret", SECRET_ACCESS_KEY])
            .arg("posix")
            .arg(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines().map_while(Result::ok);
        // It prints its addresses when it is about to listen; a full pipe would stop it later.
        let (ready, listens) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            lines.filter(|line| line.contains(&address.port().to_string())).for_each(|_| {
                let _ = ready.send(());
            });
        });
        listens.recv().unwrap();
        while TcpStream::connect(address).is_err() {
            assert!(process.try_wait().unwrap().is_none(), "versitygw ended");
            std::thread::yield_now();
        }
        Self { address, process }
    }

    fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    fn make_bucket(&self, name: &str, options: &[&str]) {
        let made = Command::new(versitygw())
            .args(["admin", "--access", ACCESS_KEY_ID, "--secret", SECRET_ACCESS_KEY])
            .args(["--endpoint-url", &self.endpoint()])
            .args(["create-bucket", "--owner", ACCESS_KEY_ID, "--bucket", name])
            .args(options)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
    }

    fn store(&self, bucket: &str) -> S3Storage {
        S3Storage::open(
            &S3Address {
                bucket: bucket.to_owned(),
                prefix: String::new(),
                endpoint: self.endpoint(),
                region: "us-east-1".to_owned(),
                ca_file: None,
                certificate: Certificate::Verified,
            },
            &S3Credentials {
                access_key_id: ACCESS_KEY_ID.to_owned(),
                secret_access_key: SECRET_ACCESS_KEY.to_owned(),
                session_token: None,
            },
        )
        .unwrap()
    }

    fn run(&self, place: &Place, bucket: &str, arguments: &[&str]) -> Ran {
        let mut command = place.command();
        command
            .env("PERENNIAL_STORE", format!("s3://{bucket}/?endpoint={}", self.endpoint()))
            .env("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID)
            .env("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY)
            .args(arguments);
        Ran::of(&command.output().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn what_is_locked_cannot_go_and_kopia_works_on() {
    let place = Place::new();
    let server = Server::start(&place.path("server"));
    server.make_bucket("locked", &["--object-lock-enabled-for-bucket"]);
    let run = |arguments: &[&str]| server.run(&place, "locked", arguments);
    run(&["repository", "create", "--retention-mode", "COMPLIANCE", "--retention-period", "24h"]).expect(0);
    let source = place.plant("source");
    run(&["backup", "source", "--as", "us@box:/data"]).expect(0);
    let status = run(&["repository", "status", "--json"]).expect(0).json();
    assert_eq!((&status["retention"]["mode"], &status["retention"]["hours"]), (&"COMPLIANCE".into(), &24.into()));

    let kopia = Kopia::on(&place);
    let (endpoint, id) = (format!("--endpoint={}", server.address), format!("--access-key={ACCESS_KEY_ID}"));
    let secret = format!("--secret-access-key={SECRET_ACCESS_KEY}");
    kopia.run(&["repository", "connect", "s3", "--bucket=locked", &endpoint, &id, &secret, "--disable-tls"]);
    kopia.run(&["content", "verify", "--full", "--download-percent=100"]);
    fs::write(source.join("more"), "of kopia's").unwrap();
    kopia.run(&["snapshot", "create", &place.text("source"), "--override-source=us@box:/data"]);
    run(&["restore", "latest", "out", "--source", "us@box:/data"]).expect(0);
    assert_eq!(describe(&place.path("out")), describe(&source));

    let (runtime, store) = (tokio::runtime::Runtime::new().unwrap(), server.store("locked"));
    let packs: Vec<ObjectKey> = runtime.block_on(store.list("p").map_ok(|object| object.key).try_collect()).unwrap();
    assert!(!packs.is_empty());
    for pack in &packs {
        let refused = runtime.block_on(store.delete(pack)).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::AccessDenied, "{refused}");
    }
    let markers: Vec<_> = runtime.block_on(store.list("s").try_collect()).unwrap();
    assert!(markers.is_empty(), "a session that has ended leaves no marker: {markers:?}");
}

/// Kopia reads that locks are to be made longer; our full run does it, on a foreign server.
#[test]
fn locks_are_made_longer_when_the_repository_asks_for_it() {
    let place = Place::new();
    let server = Server::start(&place.path("server"));
    server.make_bucket("locked", &["--object-lock-enabled-for-bucket"]);
    let run = |arguments: &[&str]| server.run(&place, "locked", arguments);
    run(&["repository", "create", "--retention-mode", "COMPLIANCE", "--retention-period", "48h"]).expect(0);
    place.plant("source");
    run(&["backup", "source", "--as", "us@box:/data", "--no-maintain"]).expect(0);
    run(&["maintain", "extend-locks", "on"]).expect(0);

    let kopia = Kopia::on(&place);
    let (endpoint, id) = (format!("--endpoint={}", server.address), format!("--access-key={ACCESS_KEY_ID}"));
    let secret = format!("--secret-access-key={SECRET_ACCESS_KEY}");
    kopia.run(&["repository", "connect", "s3", "--bucket=locked", &endpoint, &id, &secret, "--disable-tls"]);
    let said: serde_json::Value = serde_json::from_str(&kopia.run(&["maintenance", "info", "--json"])).unwrap();
    assert_eq!(said["extendObjectLocks"], true, "{said}");
    let done = run(&["maintain", "--full", "--json"]).expect(0).json();
    let tasks = done["tasks"].as_array().unwrap();
    let extended = tasks.iter().find(|task| task["task"] == "extend-blob-retention-time").unwrap();
    let counts = &extended["counts"]["data"];
    assert_eq!(counts["retentionPeriod"], "48h0m0s", "{counts}");
    assert_eq!(counts["toExtendBlobCount"], counts["extendedBlobCount"], "{counts}");
    assert!(counts["extendedBlobCount"].as_u64().unwrap() > 4, "{counts}");

    let (runtime, store) = (tokio::runtime::Runtime::new().unwrap(), server.store("locked"));
    let packs: Vec<ObjectKey> = runtime.block_on(store.list("p").map_ok(|object| object.key).try_collect()).unwrap();
    let now = SystemClock.now();
    let lock_until = |hours| {
        let lock = ObjectLock { mode: LockMode::Compliance, until: now + SignedDuration::from_hours(hours) };
        runtime.block_on(store.extend_lock(&packs[0], lock))
    };
    // A lock becomes longer and never shorter.
    lock_until(60).unwrap();
    assert_eq!(lock_until(50).unwrap_err().kind, ErrorKind::AccessDenied);
    kopia.run(&["maintenance", "info"]);
    kopia.run(&["content", "verify", "--full", "--download-percent=100"]);
}

#[test]
fn a_bucket_without_object_lock_is_refused_by_name() {
    let place = Place::new();
    let server = Server::start(&place.path("server"));
    server.make_bucket("plain", &[]);
    let options = ["repository", "create", "--retention-mode", "GOVERNANCE", "--retention-period", "48h"];
    let refused = server.run(&place, "plain", &options);
    assert_ne!(refused.code, Some(0));
    assert!(refused.stderr.contains("a bucket with object lock"), "{}", refused.stderr);
}
