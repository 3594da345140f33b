//! A foreign S3 server in the process of a test, which pods reach at the host's end of the link.

use crate::cluster::{Cluster, variable};
use anyhow::{Context, Result, ensure};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
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

/// The server's certificate and its key, beside the bucket.
const CERTIFICATE: &str = "server.crt";
const KEY: &str = "server.key";

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
    /// The certificate that has signed the server's, if it speaks TLS.
    authority: Option<String>,
    /// How much room it has, as mount(8) takes it; as much as the machine without.
    size: Option<&'static str>,
    /// None in a handle of a server that another one runs.
    process: Option<Process>,
    directory: Arc<TempDir>,
}

impl S3 {
    /// Starts one and waits until it listens.
    pub async fn start(cluster: &Cluster) -> Result<Self> {
        Self::begin(cluster, None, false).await
    }

    /// Starts one that has room for so much, as mount(8) takes it: `16m`.
    pub async fn small(cluster: &Cluster, size: &'static str) -> Result<Self> {
        Self::begin(cluster, Some(size), false).await
    }

    /// Starts one that speaks TLS, with a certificate of an authority that nobody knows.
    pub async fn with_tls(cluster: &Cluster) -> Result<Self> {
        Self::begin(cluster, None, true).await
    }

    async fn begin(cluster: &Cluster, size: Option<&'static str>, has_tls: bool) -> Result<Self> {
        let host = cluster.host()?;
        let directory = tempfile::tempdir().context("make a directory for the bucket")?;
        let (root, metadata) = (directory.path().join("root"), directory.path().join("metadata"));
        std::fs::create_dir_all(root.join(BUCKET)).context("make the bucket")?;
        std::fs::create_dir(&metadata).context("make a directory for metadata")?;
        let free = TcpListener::bind((host.as_str(), 0)).and_then(|listener| listener.local_addr());
        let address = free.with_context(|| format!("find a free port of {host}"))?;
        let authority = has_tls.then(|| certificates(&host, directory.path())).transpose()?;
        let process = Some(Process::start(address, directory.path(), size, has_tls)?);
        let mut server = Self { address, authority, size, process, directory: Arc::new(directory) };
        server.listening().await?;
        Ok(server)
    }

    /// Another handle of the same server, which cannot stop it.
    pub fn handle(&self) -> Self {
        Self {
            address: self.address,
            authority: self.authority.clone(),
            size: self.size,
            process: None,
            directory: Arc::clone(&self.directory),
        }
    }

    /// Takes it away, as when the storage is down.
    pub fn stop(&mut self) -> Result<()> {
        drop(self.process.take().context("this handle does not run the server")?);
        Ok(())
    }

    /// Brings it back, with all that was in it.
    pub async fn start_again(&mut self) -> Result<()> {
        let has_tls = self.authority.is_some();
        self.process = Some(Process::start(self.address, self.directory.path(), self.size, has_tls)?);
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
        let scheme = if self.authority.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// The certificate authority of a server that speaks TLS, as a Secret or a ConfigMap has it.
    pub fn authority(&self) -> &str {
        self.authority.as_deref().unwrap_or_default()
    }

    /// A place in the bucket, as `PERENNIAL_STORE` takes it.
    pub fn store(&self, prefix: &str) -> String {
        format!("s3://{BUCKET}/{prefix}?endpoint=http://{}&region=us-east-1", self.address)
    }

    /// The members of a Secret that somebody writes for a repository in the bucket.
    pub fn secret(&self, prefix: &str, password: &str) -> serde_json::Value {
        serde_json::json!({
            "KOPIA_REPOSITORY": format!("s3://{BUCKET}/{prefix}"),
            "KOPIA_PASSWORD": password,
            "KOPIA_S3_ENDPOINT": self.address.to_string(),
            "KOPIA_S3_DISABLE_TLS": self.authority.is_none().to_string(),
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        })
    }

    /// What lies in the bucket, for a test that changes it.
    pub fn files(&self) -> std::path::PathBuf {
        Path::join(self.directory.path(), "root").join(BUCKET)
    }
}

/// Writes an authority's certificate for this host and its key; answers the authority's own.
fn certificates(host: &str, directory: &Path) -> Result<String> {
    let mut params = CertificateParams::new(Vec::new()).context("describe an authority")?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "an authority of its own");
    let key = KeyPair::generate().context("make the authority's key")?;
    let authority = CertifiedIssuer::self_signed(params, key).context("make an authority")?;
    let key = KeyPair::generate().context("make the server's key")?;
    let params = CertificateParams::new(vec![host.to_owned()]).context("describe the server")?;
    let certificate = params.signed_by(&key, &authority).context("sign the server's certificate")?;
    std::fs::write(directory.join(CERTIFICATE), certificate.pem()).context("write the server's certificate")?;
    std::fs::write(directory.join(KEY), key.serialize_pem()).context("write the server's key")?;
    Ok(authority.pem())
}

/// The server's process, which ends with it.
struct Process(Child);

impl Process {
    fn start(address: SocketAddr, directory: &Path, size: Option<&str>, has_tls: bool) -> Result<Self> {
        let program = variable(PROGRAM)?;
        let mut command = Command::new("sh");
        command.args(["-c", WITH_US, "sh"]);
        if let Some(size) = size {
            command.args(["unshare", "--mount", "--propagation", "private", "sh", "-c", SMALL, "sh"]);
            command.arg(directory.join("root")).arg(size);
        }
        command.args([program.as_str(), "--quiet", "--port", &address.to_string()]);
        if has_tls {
            command.arg("--cert").arg(directory.join(CERTIFICATE)).arg("--key").arg(directory.join(KEY));
        }
        command
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
