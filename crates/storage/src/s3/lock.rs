//! Object locks: on puts, and made longer.
//!
//! OpenDAL has no word for them, and a header that is added behind its back is not covered by its signature, which servers
//! refuse. So a put that locks is signed again, and so is one that is made into a change of a lock.
//!
//! Source: Amazon S3 API reference, "PutObject", `x-amz-object-lock-mode` and `x-amz-object-lock-retain-until-date`; and
//! "PutObjectRetention".

use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue, Request};
use opendal::Buffer;
use reqsign_aws_v4::{Credential, RequestSigner};
use reqsign_core::{Context, SignRequest as _};

use crate::address::S3Credentials;
use crate::{Error, ErrorKind, ObjectLock};

const MODE: HeaderName = HeaderName::from_static("x-amz-object-lock-mode");
const RETAIN_UNTIL: HeaderName = HeaderName::from_static("x-amz-object-lock-retain-until-date");

/// What a put is made into.
#[derive(Clone, Copy)]
pub(super) enum Change {
    /// A put that locks.
    Lock(ObjectLock),
    /// A change of a lock; the body says which.
    Retention,
}

/// Signs requests anew with the store's own keys.
pub(super) struct Signer {
    signer: RequestSigner,
    credential: Credential,
}

impl Signer {
    pub(super) fn new(region: &str, credentials: &S3Credentials) -> Self {
        let credential = Credential {
            access_key_id: credentials.access_key_id.clone(),
            secret_access_key: credentials.secret_access_key.clone(),
            session_token: credentials.session_token.clone(),
            expires_in: None,
        };
        Self { signer: RequestSigner::new("s3", region), credential }
    }

    /// The same request, changed.
    pub(super) async fn sign(&self, request: Request<Buffer>, change: Change) -> opendal::Result<Request<Buffer>> {
        let failed = |detail: String| opendal::Error::new(opendal::ErrorKind::Unexpected, detail);
        let (mut parts, body) = request.into_parts();
        parts.headers.remove(AUTHORIZATION);
        match change {
            Change::Lock(lock) => {
                let until = HeaderValue::from_str(&until(lock)).map_err(|error| failed(error.to_string()))?;
                parts.headers.insert(MODE, HeaderValue::from_static(lock.mode.s3_name()));
                parts.headers.insert(RETAIN_UNTIL, until);
            }
            Change::Retention => {
                let uri = format!("{}?retention", parts.uri).parse();
                parts.uri = uri.map_err(|error: http::uri::InvalidUri| failed(error.to_string()))?;
            }
        }
        self.signer
            .sign_request(&Context::new(), &mut parts, Some(&self.credential), None)
            .await
            .map_err(|error| failed(format!("sign the request: {error}")))?;
        Ok(Request::from_parts(parts, body))
    }
}

fn until(lock: ObjectLock) -> String {
    lock.until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The body of a request that changes a lock.
pub(super) fn retention(lock: ObjectLock) -> String {
    let (mode, until) = (lock.mode.s3_name(), until(lock));
    format!(
        "<Retention xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Mode>{mode}</Mode>\
         <RetainUntilDate>{until}</RetainUntilDate></Retention>"
    )
}

/// What a bucket without object lock answers is said as that.
pub(super) fn sort(error: Error) -> Error {
    let is_about_locks = ["InvalidRequest", "ObjectLockConfigurationNotFound", "InvalidBucketObjectLockConfiguration"]
        .iter()
        .any(|code| error.detail.contains(code));
    let kind = if is_about_locks { ErrorKind::CannotLock } else { error.kind };
    Error { kind, ..error }
}
