//! A foreign S3 server: versitygw, an independent implementation in Go.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use storage::probe::probe;
use storage::{Certificate, ErrorKind, S3Storage, Storage};
use tempfile::TempDir;
use testkit::conformance_with_slashes;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::support::{ACCESS_KEY_ID, SECRET_ACCESS_KEY, address, all, credentials, key, kinds};

/// The released version that `cargo xtask tools` builds.
const VERSION: &str = "1.8.0";

fn program() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let program = variable("VERSITYGW").unwrap_or_else(|| {
        let tools = variable("PERENNIAL_TOOLS").unwrap_or_else(|| {
            let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
            cache.unwrap_or_default().join("perennial/tools")
        });
        tools.join("versitygw").join(VERSION).join("versitygw")
    });
    assert!(program.is_file(), "{} is missing: run cargo xtask tools", program.display());
    program
}

/// A running server with one bucket, `backups`; dropping it kills it.
struct Versitygw {
    endpoint: String,
    _process: Child,
    _directory: TempDir,
}

impl Versitygw {
    async fn start() -> Self {
        Self::start_with("http", &[]).await
    }

    async fn start_with(scheme: &str, options: &[&Path]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (root, metadata) = (directory.path().join("root"), directory.path().join("metadata"));
        std::fs::create_dir_all(root.join("backups")).unwrap();
        std::fs::create_dir(&metadata).unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut process = Command::new(program())
            .args(["--port", &free.to_string(), "--access", ACCESS_KEY_ID, "--secret", SECRET_ACCESS_KEY])
            .args(options)
            .args(["posix", "--sidecar"])
            .args([&metadata, &root])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        // It prints its addresses when it is about to listen.
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains(&free.port().to_string()) {
                break;
            }
        }
        while tokio::net::TcpStream::connect(free).await.is_err() {
            assert!(process.try_wait().unwrap().is_none(), "versitygw ended");
            tokio::task::yield_now().await;
        }
        // Its log goes on; a full pipe would stop it.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { endpoint: format!("{scheme}://{free}"), _process: process, _directory: directory }
    }

    fn store(&self, bucket: &str, prefix: &str, secret_access_key: &str) -> S3Storage {
        S3Storage::open(&address(self.endpoint.clone(), bucket, prefix), &credentials(secret_access_key)).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_server_conforms() {
    let server = Versitygw::start().await;
    probe(&server.store("backups", "", SECRET_ACCESS_KEY)).await.unwrap();
    conformance_with_slashes(&server.store("backups", "media/photos/", SECRET_ACCESS_KEY)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_servers_errors_are_sorted() {
    let server = Versitygw::start().await;
    let (not_found, taken) = (Some(ErrorKind::NotFound), Some(ErrorKind::AlreadyExists));
    let store = server.store("backups", "", SECRET_ACCESS_KEY);
    assert_eq!(kinds(&store, "xe5").await, [not_found, not_found, not_found, None, None, None, taken]);
    let wrong_secret = server.store("backups", "", "another-secret");
    assert_eq!(kinds(&wrong_secret, "xe5").await, all(ErrorKind::AccessDenied));
    let wrong_bucket = server.store("elsewhere", "", SECRET_ACCESS_KEY);
    assert_eq!(kinds(&wrong_bucket, "xe5").await, all(ErrorKind::StoreMissing));
}

/// The files under `tests/data/tls`: an authority and a certificate of it for 127.0.0.1, valid until 2126.
#[tokio::test(flavor = "multi_thread")]
async fn tls_needs_a_known_authority() {
    let tls = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls");
    let (certificate, private_key) = (tls.join("server.pem"), tls.join("server.key"));
    let options = [Path::new("--cert"), &certificate, Path::new("--key"), &private_key];
    let server = Versitygw::start_with("https", &options).await;
    let unknown = address(server.endpoint.clone(), "backups", "");
    let mut unverified = unknown.clone();
    unverified.certificate = Certificate::Unverified;
    let mut known = unknown.clone();
    known.ca_file = Some(tls.join("ca.pem"));
    let mut other_host = known.clone();
    other_host.endpoint = server.endpoint.replace("127.0.0.1", "localhost");
    let stat = async |address| {
        let opened = S3Storage::open(&address, &credentials(SECRET_ACCESS_KEY));
        match opened {
            Ok(store) => store.stat(&key("xe5")).await.unwrap_err().kind,
            Err(error) => error.kind,
        }
    };
    assert_eq!(stat(known).await, ErrorKind::NotFound);
    assert_eq!(stat(unverified).await, ErrorKind::NotFound);
    assert_eq!(stat(other_host).await, ErrorKind::Unreachable);
    // A machine without any authorities of its own says so before it connects.
    assert!(matches!(stat(unknown).await, ErrorKind::Unreachable | ErrorKind::Misconfigured));
    let mut missing = address(server.endpoint.clone(), "backups", "");
    missing.ca_file = Some(tls.join("no-such-file.pem"));
    assert_eq!(stat(missing).await, ErrorKind::Misconfigured);
}
