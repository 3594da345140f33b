//! Objects in a bucket, over OpenDAL.
//!
//! OpenDAL signs and speaks the protocol; this file and its parts keep the contract where OpenDAL alone would not:
//! - [`transport`] sorts every reply by status and error code before OpenDAL sees it, and refuses listings that are
//!   not whole answers of an S3 server;
//! - "not found" is believed of an object only when the bucket answers;
//! - a name that OpenDAL would change (leading, trailing or doubled slashes, white space at its ends) is refused;
//! - the prefix is glued to the name with nothing in between.
//!
//! A put is one `PUT` with `Content-MD5`, never a multipart upload. `IfAbsent` looks first and then puts with
//! `If-None-Match: *`. Caveat: where a server ignores that header, or answers that it does not know it, two writers at
//! the same moment can both succeed. Objects whose name ends in `/` are directory markers of other programs and are
//! not listed.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use jiff::Timestamp;
use opendal::{EntryMode, Lister, OperationContext, Operator};

use crate::address::S3Credentials;
use crate::{Error, ErrorKind, Object, ObjectKey, ObjectLock, PutMode, Storage};

mod lock;
mod transport;

use lock::Signer;
use transport::{Failure, Transport};

/// For a reply to anything, however small: servers under load answer late.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(60);

/// The slowest line a transfer may have before it counts as hanging, in bytes per second.
const SLOWEST_BYTES_PER_SECOND: u64 = 64 * 1024;

/// For one object whose size is not known beforehand: 256 MiB on the slowest line.
const WHOLE_GET_TIMEOUT: Duration = Duration::from_secs(60 + 4096);

/// What OpenDAL needs to know where it matters to no one.
pub(crate) const REGION_DEFAULT: &str = "us-east-1";

/// Where a bucket is and how to speak to its server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Address {
    /// The bucket's name.
    pub bucket: String,
    /// What every object's name begins with; nothing is put in between.
    pub prefix: String,
    /// `http://host:port` or `https://host:port`.
    pub endpoint: String,
    /// The region requests are signed for.
    pub region: String,
    /// A PEM file with certificate authorities to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// How the server's certificate is looked at.
    pub certificate: Certificate,
}

/// How the server's certificate is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// It must come from a trusted authority and name the host.
    Verified,
    /// Anything passes: whoever is on the line can read and change everything but what the format protects.
    Unverified,
}

/// A bucket, or the part of it below a prefix.
pub struct S3Storage {
    operator: Operator,
    transport: Transport,
    signer: Arc<Signer>,
    prefix: String,
    address: String,
    secrets: Vec<String>,
}

impl S3Storage {
    /// Prepares access to a bucket; nothing is sent yet.
    ///
    /// Only what is given here counts: no environment, no configuration file, no metadata service is asked for keys.
    /// Errors are [`ErrorKind::Misconfigured`].
    pub fn open(address: &S3Address, credentials: &S3Credentials) -> Result<Self, Error> {
        let text = address.to_string();
        let misconfigured = |detail: String| Error {
            kind: ErrorKind::Misconfigured,
            operation: "open".to_owned(),
            address: text.clone(),
            detail,
            retry_after_seconds: 0,
        };
        let mut builder = opendal::services::S3::default()
            .root("/")
            .bucket(&address.bucket)
            .endpoint(&address.endpoint)
            .region(&address.region)
            .access_key_id(&credentials.access_key_id)
            .secret_access_key(&credentials.secret_access_key)
            .checksum_algorithm("md5")
            .disable_config_load()
            .disable_ec2_metadata();
        let mut secrets = vec![credentials.access_key_id.clone(), credentials.secret_access_key.clone()];
        if let Some(token) = &credentials.session_token {
            builder = builder.session_token(token);
            secrets.push(token.clone());
        }
        secrets.retain(|secret| !secret.is_empty());
        if credentials.access_key_id.is_empty() || credentials.secret_access_key.is_empty() {
            return Err(misconfigured("no access key and secret key are given".to_owned()));
        }
        let transport = Transport::new(address).map_err(misconfigured)?;
        let operator = Operator::new(builder).map_err(|error| misconfigured(error.message().to_owned()))?;
        let operator = operator.with_context(context(transport.clone()));
        let signer = Arc::new(Signer::new(&address.region, credentials));
        Ok(Self { operator, transport, signer, prefix: address.prefix.clone(), address: text, secrets })
    }

    fn error(&self, operation: &str, kind: ErrorKind, detail: impl Into<String>) -> Error {
        let mut detail = detail.into();
        for secret in &self.secrets {
            detail = detail.replace(secret.as_str(), "[redacted]");
        }
        Error { kind, operation: operation.to_owned(), address: self.address.clone(), detail, retry_after_seconds: 0 }
    }

    /// The object's name in the bucket.
    fn path(&self, operation: &str, key: &ObjectKey) -> Result<String, Error> {
        let path = format!("{}{key}", self.prefix);
        let changed = path.trim() != path || path.starts_with('/') || path.ends_with('/') || path.contains("//");
        if key.as_str().is_empty() || changed {
            return Err(self.error(operation, ErrorKind::Misconfigured, "the name does not fit an S3 path"));
        }
        Ok(path)
    }

    /// Runs one request within its time.
    async fn run<T>(
        &self,
        operation: &str,
        time_out: Duration,
        request: impl Future<Output = opendal::Result<T>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout(time_out, request).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                let Failure { kind, detail, retry_after_seconds } = Failure::of(&error);
                Err(Error { retry_after_seconds, ..self.error(operation, kind, detail) })
            }
            Err(_) => {
                let detail = format!("no reply within {} s", time_out.as_secs());
                Err(self.error(operation, ErrorKind::Unreachable, detail))
            }
        }
    }

    /// Runs one request on an object; its absence is believed only when the bucket itself answers.
    async fn run_on_object<T>(
        &self,
        operation: &str,
        time_out: Duration,
        request: impl Future<Output = opendal::Result<T>>,
    ) -> Result<T, Error> {
        let result = self.run(operation, time_out, request).await;
        if let Err(Error { kind: ErrorKind::NotFound, .. }) = result {
            self.bucket_answers(operation).await?;
        }
        result
    }

    async fn bucket_answers(&self, operation: &str) -> Result<(), Error> {
        let mut lister = self.lister(operation, &self.prefix, Some(1)).await?;
        self.run(operation, OPERATION_TIMEOUT, async { lister.next().await.transpose() }).await.map(|_| ())
    }

    /// A flat listing: with `recursive`, OpenDAL sends the prefix as it is and no delimiter.
    async fn lister(&self, operation: &str, prefix: &str, limit: Option<usize>) -> Result<Lister, Error> {
        let options = opendal::options::ListOptions { recursive: true, limit, ..Default::default() };
        self.run(operation, OPERATION_TIMEOUT, self.operator.lister_options(prefix, options)).await
    }

    async fn put_with(
        &self,
        operation: &str,
        path: &str,
        body: Bytes,
        if_not_exists: bool,
        operator: &Operator,
    ) -> Result<(), Error> {
        let time_out = transfer_timeout(body.len() as u64);
        let options = opendal::options::WriteOptions { if_not_exists, ..Default::default() };
        match self.run(operation, time_out, operator.write_options(path, body, options)).await {
            Ok(_) => Ok(()),
            // Of a put, only the bucket can be missing.
            Err(error) if error.kind == ErrorKind::NotFound => Err(Error { kind: ErrorKind::StoreMissing, ..error }),
            Err(error) => Err(error),
        }
    }

    async fn put_through(&self, operator: &Operator, key: &ObjectKey, body: Bytes, mode: PutMode) -> Result<(), Error> {
        let operation = format!("put {key}");
        let path = self.path(&operation, key)?;
        if mode == PutMode::Replace {
            return self.put_with(&operation, &path, body, false, operator).await;
        }
        // A missing bucket looks like a missing object here; the put itself tells them apart.
        match self.run(&operation, OPERATION_TIMEOUT, self.operator.stat(&path)).await {
            Ok(_) => return Err(self.error(&operation, ErrorKind::AlreadyExists, "the name is taken")),
            Err(error) if error.kind == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        match self.put_with(&operation, &path, body.clone(), true, operator).await {
            // The one answer of a server that knows no conditions; it was looked up just now.
            Err(error) if error.detail.contains(transport::NOT_IMPLEMENTED) => {
                self.put_with(&operation, &path, body, false, operator).await
            }
            other => other,
        }
    }

    fn object(&self, operation: &str, key: ObjectKey, metadata: &opendal::Metadata) -> Result<Object, Error> {
        let modified = metadata
            .last_modified()
            .ok_or_else(|| self.error(operation, ErrorKind::Lies, format!("{key} has no modification time")))?;
        Ok(Object { key, size_bytes: metadata.content_length(), modified: Timestamp::from(modified) })
    }

    /// What a listing's entry is to us, if anything.
    fn listed(&self, entry: &opendal::Entry) -> Option<Result<Object, Error>> {
        if entry.metadata().mode() != EntryMode::FILE {
            return None;
        }
        let name = entry.path().strip_prefix(&self.prefix)?;
        (!name.is_empty()).then(|| self.object("list", ObjectKey::new(name), entry.metadata()))
    }
}

fn context(transport: Transport) -> OperationContext {
    OperationContext::new().with_http_transport(opendal::HttpTransporter::new(transport))
}

fn transfer_timeout(size_bytes: u64) -> Duration {
    OPERATION_TIMEOUT + Duration::from_secs(size_bytes / SLOWEST_BYTES_PER_SECOND)
}

impl fmt::Debug for S3Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("S3Storage").field(&self.address).finish()
    }
}

#[async_trait]
impl Storage for S3Storage {
    fn address(&self) -> String {
        self.address.clone()
    }

    async fn put(&self, key: &ObjectKey, body: Bytes, mode: PutMode) -> Result<(), Error> {
        self.put_through(&self.operator, key, body, mode).await
    }

    async fn put_locked(&self, key: &ObjectKey, body: Bytes, mode: PutMode, lock: ObjectLock) -> Result<(), Error> {
        let transport = self.transport.locking(lock, self.signer.clone());
        let operator = self.operator.clone().with_context(context(transport));
        self.put_through(&operator, key, body, mode).await.map_err(lock::sort)
    }

    async fn extend_lock(&self, key: &ObjectKey, lock: ObjectLock) -> Result<(), Error> {
        let operation = format!("lock {key}");
        let path = self.path(&operation, key)?;
        let transport = self.transport.extending(self.signer.clone());
        let operator = self.operator.clone().with_context(context(transport));
        let request = operator.write(&path, lock::retention(lock));
        self.run_on_object(&operation, OPERATION_TIMEOUT, request).await.map(|_| ()).map_err(lock::sort)
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes, Error> {
        let operation = format!("get {key}");
        let path = self.path(&operation, key)?;
        let body = self.run_on_object(&operation, WHOLE_GET_TIMEOUT, self.operator.read(&path)).await?;
        Ok(body.to_bytes())
    }

    async fn get_range(&self, key: &ObjectKey, offset: u64, length_bytes: u64) -> Result<Bytes, Error> {
        let operation = format!("get range of {key}");
        let path = self.path(&operation, key)?;
        let too_short = |size_bytes: u64| {
            let detail = format!("{length_bytes} bytes at {offset} wanted, the object has {size_bytes}");
            self.error(&operation, ErrorKind::Truncated, detail)
        };
        let end = offset.checked_add(length_bytes);
        let Some(end) = end.filter(|end| *end > offset) else {
            // No range can be asked for; what is left is whether it lies within the object.
            let size_bytes = self.stat(key).await?.size_bytes;
            return if end.is_some_and(|end| end <= size_bytes) {
                Ok(Bytes::new())
            } else {
                Err(too_short(size_bytes))
            };
        };
        let options = opendal::options::ReadOptions { range: (offset..end).into(), ..Default::default() };
        let request = self.operator.read_options(&path, options);
        match self.run_on_object(&operation, transfer_timeout(length_bytes), request).await {
            Ok(body) if body.len() as u64 == length_bytes => Ok(body.to_bytes()),
            Ok(body) => {
                let detail = format!("asked for {length_bytes} bytes, got {}", body.len());
                Err(self.error(&operation, ErrorKind::Lies, detail))
            }
            Err(error) if matches!(error.kind, ErrorKind::Truncated | ErrorKind::Other) => {
                // A short body looks alike whether the object or the connection ended.
                let size_bytes = self.stat(key).await?.size_bytes;
                if end > size_bytes {
                    return Err(too_short(size_bytes));
                }
                let kind = if error.kind == ErrorKind::Truncated { ErrorKind::Lies } else { error.kind };
                Err(Error { kind, ..error })
            }
            Err(error) => Err(error),
        }
    }

    async fn stat(&self, key: &ObjectKey) -> Result<Object, Error> {
        let operation = format!("stat {key}");
        let path = self.path(&operation, key)?;
        let metadata = self.run_on_object(&operation, OPERATION_TIMEOUT, self.operator.stat(&path)).await?;
        self.object(&operation, key.clone(), &metadata)
    }

    fn list<'a>(&'a self, prefix: &str) -> BoxStream<'a, Result<Object, Error>> {
        let operation: Arc<str> = format!("list {prefix}*").into();
        let prefix = format!("{}{prefix}", self.prefix);
        if prefix.starts_with('/') || prefix.contains("//") || prefix.trim() != prefix {
            let error = self.error(&operation, ErrorKind::Misconfigured, "the prefix does not fit an S3 path");
            return stream::iter([Err(error)]).boxed();
        }
        stream::once(async move {
            let lister = self.lister(&operation, &prefix, None).await;
            let start = lister.map(|lister| Listing { lister, first: None, operation });
            stream::try_unfold(start, move |listing| async move {
                let mut listing = listing?;
                let next = async { listing.lister.next().await.transpose() };
                let Some(entry) = self.run(&listing.operation, OPERATION_TIMEOUT, next).await? else { return Ok(None) };
                match &listing.first {
                    Some(first) if first == entry.path() => {
                        let detail = "the listing starts anew instead of going on";
                        return Err(self.error(&listing.operation, ErrorKind::Lies, detail));
                    }
                    Some(_) => {}
                    None => listing.first = Some(entry.path().to_owned()),
                }
                Ok(Some((self.listed(&entry), Ok(listing))))
            })
        })
        .flatten()
        .filter_map(|listed| async move {
            match listed {
                Ok(entry) => entry,
                Err(error) => Some(Err(error)),
            }
        })
        .boxed()
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), Error> {
        let operation = format!("delete {key}");
        let path = self.path(&operation, key)?;
        let deleted = self.run_on_object(&operation, OPERATION_TIMEOUT, self.operator.delete(&path)).await;
        match deleted {
            // Some servers say so of what is not there; the bucket has answered.
            Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

/// A listing under way.
struct Listing {
    lister: Lister,
    /// The first name it gave: one that comes again means that the server lost its place.
    first: Option<String>,
    operation: Arc<str>,
}
