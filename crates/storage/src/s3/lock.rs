//! Object locks on puts.
//!
//! OpenDAL has no word for them, and a header that is added behind its back is not covered by its signature, which servers
//! refuse. So a put that locks is signed again.
//!
//! Source: Amazon S3 API reference, "PutObject", `x-amz-object-lock-mode` and `x-amz-object-lock-retain-until-date`.

use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue, Request};
use opendal::Buffer;
use reqsign_aws_v4::{Credential, RequestSigner};
use reqsign_core::{Context, SignRequest as _};

use crate::address::S3Credentials;
use crate::{Error, ErrorKind, ObjectLock};

const MODE: HeaderName = HeaderName::from_static("x-amz-object-lock-mode");
const RETAIN_UNTIL: HeaderName = HeaderName::from_static("x-amz-object-lock-retain-until-date");

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

    /// The same request, which now also locks what it puts.
    pub(super) async fn lock(&self, request: Request<Buffer>, lock: ObjectLock) -> opendal::Result<Request<Buffer>> {
        let failed = |detail: String| opendal::Error::new(opendal::ErrorKind::Unexpected, detail);
        let (mut parts, body) = request.into_parts();
        let until = lock.until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let until = HeaderValue::from_str(&until).map_err(|error| failed(error.to_string()))?;
        parts.headers.remove(AUTHORIZATION);
        parts.headers.insert(MODE, HeaderValue::from_static(lock.mode.s3_name()));
        parts.headers.insert(RETAIN_UNTIL, until);
        self.signer
            .sign_request(&Context::new(), &mut parts, Some(&self.credential), None)
            .await
            .map_err(|error| failed(format!("sign the request: {error}")))?;
        Ok(Request::from_parts(parts, body))
    }
}

/// What a bucket without object lock answers is said as that.
pub(super) fn sort(error: Error) -> Error {
    let is_about_locks = ["InvalidRequest", "ObjectLockConfigurationNotFound", "InvalidBucketObjectLockConfiguration"]
        .iter()
        .any(|code| error.detail.contains(code));
    let kind = if is_about_locks { ErrorKind::CannotLock } else { error.kind };
    Error { kind, ..error }
}
