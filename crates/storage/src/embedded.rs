//! An S3 server in this process, over a directory, on the loopback interface: for tests and demonstrations.
//!
//! Buckets are the sub-directories of the root, objects files below them. It is the `s3s-fs` crate, with what that
//! leaves open closed in front of it: nothing is answered without a valid signature, an operation on a bucket that is
//! not there says so (`s3s-fs` would make the bucket or miss the object), and conditional puts go one at a time, so
//! that a condition holds until its put is done.
//!
//! Caveats: nothing is synced to disk; one server per directory; an object's name cannot be a directory of another's.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::SimpleAuth;
use s3s::path::S3Path;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{HttpError, HttpRequest, HttpResponse, S3Result, s3_error};
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::task::{JoinHandle, JoinSet};

/// A running server; dropping it stops it.
pub struct EmbeddedS3 {
    address: SocketAddr,
    service: Counted,
    server: Option<JoinHandle<()>>,
}

impl EmbeddedS3 {
    /// Serves the directory `root`, which must be there, on a free port.
    pub async fn start(root: &Path, access_key_id: &str, secret_access_key: &str) -> io::Result<Self> {
        let files = s3s_fs::FileSystem::new(root).map_err(|error| io::Error::other(format!("{error:?}")))?;
        let mut service = S3ServiceBuilder::new(files);
        service.set_auth(SimpleAuth::from_single(access_key_id, secret_access_key));
        service.set_access(Gate { root: root.to_owned() });
        let service = Counted {
            inner: service.build(),
            requests_count: Arc::new(AtomicU64::new(0)),
            conditional: Arc::new(Mutex::new(())),
        };
        let mut embedded = Self { address: (Ipv4Addr::LOCALHOST, 0).into(), service, server: None };
        embedded.restart().await?;
        Ok(embedded)
    }

    /// `http://127.0.0.1:port`; stays the same over a restart.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests answered so far.
    pub fn requests_count(&self) -> u64 {
        self.service.requests_count.load(Ordering::Relaxed)
    }

    /// Closes the listener and every connection at once: clients see a refused connection from now on.
    pub async fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
            // Ended for certain, with its sockets closed.
            let _ = server.await;
        }
    }

    /// Serves again on the same port; a running server is stopped first.
    pub async fn restart(&mut self) -> io::Result<()> {
        self.stop().await;
        let listener = TcpListener::bind(self.address).await?;
        self.address = listener.local_addr()?;
        self.server = Some(tokio::spawn(serve(listener, self.service.clone())));
        Ok(())
    }
}

impl Drop for EmbeddedS3 {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
        }
    }
}

/// Accepts until it is aborted; the connections are its own and end with it.
async fn serve(listener: TcpListener, service: Counted) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((socket, _)) = accepted else { continue };
                let service = service.clone();
                connections.spawn(async move {
                    let http = http1::Builder::new();
                    // A broken connection is its client's to report.
                    let _ = http.serve_connection(TokioIo::new(socket), service).await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Who may do what: everyone with the key, everything, where the bucket is there.
struct Gate {
    root: PathBuf,
}

#[async_trait::async_trait]
impl S3Access for Gate {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        if context.credentials().is_none() {
            return Err(s3_error!(AccessDenied, "Signature is required"));
        }
        let bucket = match context.s3_path() {
            S3Path::Root => return Ok(()),
            S3Path::Bucket { bucket } | S3Path::Object { bucket, .. } => bucket,
        };
        let makes_bucket = context.s3_op().name() == "CreateBucket";
        if makes_bucket || self.root.join(&**bucket).is_dir() { Ok(()) } else { Err(s3_error!(NoSuchBucket)) }
    }
}

/// Counts requests and lets conditional ones through one at a time.
#[derive(Clone)]
struct Counted {
    inner: S3Service,
    requests_count: Arc<AtomicU64>,
    conditional: Arc<Mutex<()>>,
}

impl Service<http::Request<Incoming>> for Counted {
    type Response = HttpResponse;
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send>>;

    fn call(&self, request: http::Request<Incoming>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            this.requests_count.fetch_add(1, Ordering::Relaxed);
            let is_conditional = request.headers().contains_key(http::header::IF_NONE_MATCH);
            let _one_at_a_time = if is_conditional { Some(this.conditional.lock().await) } else { None };
            this.inner.call(HttpRequest::from(request.map(s3s::Body::from))).await
        })
    }
}
