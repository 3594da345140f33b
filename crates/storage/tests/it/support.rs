//! What several of these tests need.

use bytes::Bytes;
use storage::embedded::EmbeddedS3;
use storage::{Certificate, Error, ErrorKind, ObjectKey, PutMode, S3Address, S3Credentials, S3Storage, Storage};
use tempfile::TempDir;

pub const ACCESS_KEY_ID: &str = "AKIAPERENNIALTEST";
pub const SECRET_ACCESS_KEY: &str = "a-secret-that-must-never-be-shown";

pub fn key(name: &str) -> ObjectKey {
    ObjectKey::new(name)
}

pub fn credentials(secret_access_key: &str) -> S3Credentials {
    S3Credentials {
        access_key_id: ACCESS_KEY_ID.to_owned(),
        secret_access_key: secret_access_key.to_owned(),
        session_token: None,
    }
}

pub fn address(endpoint: String, bucket: &str, prefix: &str) -> S3Address {
    S3Address {
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
        endpoint,
        region: "us-east-1".to_owned(),
        ca_file: None,
        certificate: Certificate::Verified,
    }
}

/// An embedded server with one bucket, `backups`.
pub struct Server {
    pub s3: EmbeddedS3,
    pub root: TempDir,
}

impl Server {
    pub async fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("backups")).unwrap();
        let s3 = EmbeddedS3::start(root.path(), ACCESS_KEY_ID, SECRET_ACCESS_KEY).await.unwrap();
        Self { s3, root }
    }

    pub fn store(&self, bucket: &str, prefix: &str) -> S3Storage {
        self.store_with(bucket, prefix, SECRET_ACCESS_KEY)
    }

    pub fn store_with(&self, bucket: &str, prefix: &str, secret_access_key: &str) -> S3Storage {
        S3Storage::open(&address(self.s3.endpoint(), bucket, prefix), &credentials(secret_access_key)).unwrap()
    }
}

/// Each operation once, on an object of this name: what kind of error each gives, if any.
pub async fn kinds(store: &dyn Storage, name: &str) -> [Option<ErrorKind>; 7] {
    use futures::TryStreamExt;
    fn kind<T>(result: Result<T, Error>) -> Option<ErrorKind> {
        result.err().map(|error| {
            let text = format!("{error} {error:?}");
            assert!(!text.contains(SECRET_ACCESS_KEY) && !text.contains(ACCESS_KEY_ID), "{text}");
            error.kind
        })
    }
    let (key, body) = (key(name), Bytes::from_static(b"body"));
    [
        kind(store.get(&key).await),
        kind(store.get_range(&key, 0, 1).await),
        kind(store.stat(&key).await),
        kind(store.list("").try_collect::<Vec<_>>().await),
        kind(store.delete(&key).await),
        kind(store.put(&key, body.clone(), PutMode::Replace).await),
        kind(store.put(&key, body, PutMode::IfAbsent).await),
    ]
}

/// All operations fail in this way.
pub fn all(kind: ErrorKind) -> [Option<ErrorKind>; 7] {
    [Some(kind); 7]
}
