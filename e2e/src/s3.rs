//! A foreign S3 server in the process of a test, which pods reach at the host's end of the link.

use crate::cluster::{Cluster, variable};
use anyhow::{Context, Result, ensure};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// The program, which `cargo xtask tools` builds.
const PROGRAM: &str = "VERSITYGW";

/// Who may do everything.
pub const ACCESS_KEY: &str = "e2e";
/// That one's secret.
pub const SECRET_KEY: &str = "e2e-secret-key";
/// The only bucket.
pub const BUCKET: &str = "backups";

/// Ends the server when standard input ends, and with it whoever holds the other end, however that ends.
const WITH_US: &str = r#""$@" & cat >/dev/null; kill -KILL "$!"; wait"#;

/// The same where the server's directory, the first argument, has room for as much as the second says. It is in memory, and
/// seen by the server alone.
const SMALL: &str = r#"root=$1 size=$2; shift 2
mount -t tmpfs -o "size=$size" tmpfs "$root" && mkdir "$root/backups" && exec "$@""#;

/// Longest wait until the server listens.
const START_TIMEOUT: Duration = Duration::from_secs(30);
const INTERVAL: Duration = Duration::from_millis(20);

/// A running server over a directory of its own; dropping the last of its handles ends both.
pub struct S3 {
    address: SocketAddr,
    /// How much room it has, as mount(8) takes it; as much as the machine without.
    size: Option<&'static str>,
    /// None in a handle of a server that another one runs.
    process: Option<Process>,
    directory: Arc<TempDir>,
}

impl S3 {
    /// Starts one and waits until it listens.
    pub async fn start(cluster: &Cluster) -> Result<Self> {
        Self::begin(cluster, None).await
    }

    /// Starts one that has room for so much, as mount(8) takes it: `16m`.
    pub async fn small(cluster: &Cluster, size: &'static str) -> Result<Self> {
        Self::begin(cluster, Some(size)).await
    }

    async fn begin(cluster: &Cluster, size: Option<&'static str>) -> Result<Self> {
        let host = cluster.host()?;
        let directory = tempfile::tempdir().context("make a directory for the bucket")?;
        let (root, metadata) = (directory.path().join("root"), directory.path().join("metadata"));
        std::fs::create_dir_all(root.join(BUCKET)).context("make the bucket")?;
        std::fs::create_dir(&metadata).context("make a directory for metadata")?;
        let free = TcpListener::bind((host.as_str(), 0)).and_then(|listener| listener.local_addr());
        let address = free.with_context(|| format!("find a free port of {host}"))?;
        let process = Some(Process::start(address, directory.path(), size)?);
        let mut server = Self { address, size, process, directory: Arc::new(directory) };
        server.listening().await?;
        Ok(server)
    }

    /// Another handle of the same server, which cannot stop it.
    pub fn handle(&self) -> Self {
        Self { address: self.address, size: self.size, process: None, directory: Arc::clone(&self.directory) }
    }

    /// Takes it away, as when the storage is down.
    pub fn stop(&mut self) -> Result<()> {
        drop(self.process.take().context("this handle does not run the server")?);
        Ok(())
    }

    /// Brings it back, with all that was in it.
    pub async fn start_again(&mut self) -> Result<()> {
        self.process = Some(Process::start(self.address, self.directory.path(), self.size)?);
        self.listening().await
    }

    async fn listening(&mut self) -> Result<()> {
        let (address, server) = (self.address, self);
        let listening = tokio::time::timeout(START_TIMEOUT, async {
            while tokio::net::TcpStream::connect(address).await.is_err() {
                let process = server.process.as_mut().context("this handle does not run the server")?;
                let ended = process.0.try_wait().context("look after the server")?;
                ensure!(ended.is_none(), "the S3 server has ended");
                tokio::time::sleep(INTERVAL).await;
            }
            Ok(())
        });
        listening.await.context("the S3 server does not listen")?
    }

    /// Its address, as a pod spells it.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A place in the bucket, as `PERENNIAL_STORE` takes it.
    pub fn store(&self, prefix: &str) -> String {
        format!("s3://{BUCKET}/{prefix}?endpoint=http://{}&region=us-east-1", self.address)
    }

    /// What lies in the bucket, for a test that changes it.
    pub fn files(&self) -> std::path::PathBuf {
        Path::join(self.directory.path(), "root").join(BUCKET)
    }
}

/// The server's process, which ends with it.
struct Process(Child);

impl Process {
    fn start(address: SocketAddr, directory: &Path, size: Option<&str>) -> Result<Self> {
        let program = variable(PROGRAM)?;
        let mut command = Command::new("sh");
        command.args(["-c", WITH_US, "sh"]);
        if let Some(size) = size {
            command.args(["unshare", "--mount", "--propagation", "private", "sh", "-c", SMALL, "sh"]);
            command.arg(directory.join("root")).arg(size);
        }
        command
            .args([program.as_str(), "--quiet", "--port", &address.to_string()])
            .args(["--access", ACCESS_KEY, "--secret", SECRET_KEY, "posix", "--sidecar"])
            .args([&directory.join("metadata"), &directory.join("root")])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("start {program}"))
            .map(Self)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // One that has ended by itself is as good.
        let _ended = self.0.wait();
    }
}
