//! A local S3 server, fresh for each run, that logs every call.

use super::contestant::{ACCESS_KEY, SECRET_KEY};
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The one bucket; versitygw takes each directory for one.
pub const BUCKET: &str = "bucket";

/// Attempts to reach the server that has just been started, and the time between two.
const ATTEMPTS: u32 = 200;
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(50);

/// A versitygw on loopback over a directory; it ends with this value.
pub struct Server {
    child: Child,
    address: SocketAddr,
    directory: PathBuf,
    access_log: PathBuf,
}

impl Server {
    /// Starts it on a free port and waits until it answers.
    pub fn start(program: &Path, place: &Path) -> Result<Self> {
        let directory = place.join("s3");
        std::fs::create_dir_all(directory.join(BUCKET)).context("make the bucket")?;
        let access_log = place.join("s3-access.log");
        // The port is free again once the listener is dropped; nobody else on this machine hunts for that one.
        let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = address.context("find a free port")?;
        let log = File::create(place.join("s3.log")).context("create the server's log")?;
        let child = Command::new(program)
            // As the services that people rent; without it each call would come with a connection of its own.
            .args(["--port", &address.to_string(), "--quiet", "--keep-alive", "--access-log"])
            .arg(&access_log)
            .arg("posix")
            .arg(&directory)
            .env("ROOT_ACCESS_KEY", ACCESS_KEY)
            .env("ROOT_SECRET_KEY", SECRET_KEY)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("copy the log's handle")?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let mut server = Self { child, address, directory, access_log };
        server.wait_until_reachable()?;
        Ok(server)
    }

    /// Host and port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the bucket's objects lie as files.
    pub fn repository(&self) -> PathBuf {
        self.directory.join(BUCKET)
    }

    /// Calls answered so far: lines of its log that name an S3 operation.
    pub fn calls_count(&self) -> Result<u64> {
        let log = File::open(&self.access_log).context("open the server's access log")?;
        let mut calls_count = 0;
        for line in BufReader::new(log).lines() {
            calls_count += u64::from(line.context("read the server's access log")?.contains(" s3_"));
        }
        Ok(calls_count)
    }

    fn wait_until_reachable(&mut self) -> Result<()> {
        for _ in 0..ATTEMPTS {
            if let Some(status) = self.child.try_wait().context("look at the server")? {
                bail!("the S3 server ended with {status} at its start");
            }
            if TcpStream::connect(self.address).is_ok() {
                return Ok(());
            }
            std::thread::park_timeout(BETWEEN_ATTEMPTS);
        }
        bail!("the S3 server does not answer at {}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is gone afterwards.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
