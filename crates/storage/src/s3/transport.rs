//! The line to an S3 server: the HTTP client, and what each reply means.

use std::error::Error as _;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::{TryStreamExt as _, stream};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use opendal::{Buffer, HttpBody, HttpTransport};
use opendal_http_transport_reqwest::ReqwestTransport;

use super::lock::{Change, Signer};
use super::{Certificate, S3Address};
use crate::{ErrorKind, ObjectLock};

/// For a connection to come about, name resolution and TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Between two pieces of a reply.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);

/// Of an error's own words, in characters; the rest says nothing to a person.
const MESSAGE_MAX_COUNT: usize = 200;

/// Of an error's body, in bytes; longer ones are no S3 errors and are not read.
const ERROR_BODY_MAX_BYTES: u64 = 64 * 1024;

/// Longer bodies are taken as they come, in bytes.
const ONE_PIECE_BYTES_MAX: u64 = 64 << 20;

/// The words of a reply from a server that knows no conditions on a put.
pub(super) const NOT_IMPLEMENTED: &str = "S3 answered 501";

/// OpenDAL's transport, with every reply looked at first.
#[derive(Clone)]
pub(super) struct Transport {
    inner: ReqwestTransport,
    /// What every put is made into.
    change: Option<(Change, Arc<Signer>)>,
}

impl Transport {
    pub(super) fn new(address: &S3Address) -> Result<Self, String> {
        // A provider that is there already is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(SILENCE_TIMEOUT)
            // A signature is for one host only, and who redirects is a server of another region: say so instead.
            .redirect(reqwest::redirect::Policy::none())
            .tls_certs_only(authorities(address)?);
        if is_loopback(&address.endpoint) {
            client = client.no_proxy();
        }
        if address.certificate == Certificate::Unverified {
            client = client.tls_danger_accept_invalid_certs(true);
        }
        let client = client.build().map_err(|error| format!("no HTTP client: {}", chain(&error)))?;
        Ok(Self { inner: ReqwestTransport::new(client), change: None })
    }

    /// The same line; objects put through it are locked.
    pub(super) fn locking(&self, lock: ObjectLock, signer: Arc<Signer>) -> Self {
        Self { inner: self.inner.clone(), change: Some((Change::Lock(lock), signer)) }
    }

    /// The same line; what is put through it is an object's new lock.
    pub(super) fn extending(&self, signer: Arc<Signer>) -> Self {
        Self { inner: self.inner.clone(), change: Some((Change::Retention, signer)) }
    }
}

fn is_loopback(endpoint: &str) -> bool {
    let uri: Option<Uri> = endpoint.parse().ok();
    let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
    host == "localhost" || host.trim_matches(['[', ']']).parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

/// The system's certificate authorities and the given ones; plain HTTP needs none.
fn authorities(address: &S3Address) -> Result<Vec<reqwest::Certificate>, String> {
    if !address.endpoint.starts_with("https:") {
        return Ok(Vec::new());
    }
    let mut authorities = Vec::new();
    for certificate in rustls_native_certs::load_native_certs().certs {
        // System bundles hold odd certificates; one that does not parse is one less to trust.
        if let Ok(certificate) = reqwest::Certificate::from_der(&certificate) {
            authorities.push(certificate);
        }
    }
    if let Some(path) = &address.ca_file {
        let unusable = |error: &dyn fmt::Display| format!("CA file {}: {error}", path.display());
        let pem = std::fs::read(path).map_err(|error| unusable(&error))?;
        let given = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| unusable(&error))?;
        if given.is_empty() {
            return Err(unusable(&"holds no certificate"));
        }
        authorities.extend(given);
    }
    if authorities.is_empty() && address.certificate == Certificate::Verified {
        return Err("no certificate authorities are known: install the system's or give a CA file".to_owned());
    }
    Ok(authorities)
}

impl HttpTransport for Transport {
    async fn fetch(&self, request: Request<Buffer>) -> opendal::Result<Response<HttpBody>> {
        let is_list = request.method() == Method::GET
            && request.uri().query().is_some_and(|query| query.split('&').any(|part| part == "list-type=2"));
        let request = match &self.change {
            Some((change, signer)) if request.method() == Method::PUT => signer.sign(request, *change).await?,
            _ => request,
        };
        let response = HttpTransport::fetch(&self.inner, request).await?;
        if !response.status().is_success() {
            return Err(reply_failure(response).await.into());
        }
        if is_list { whole_listing(response).await } else { Ok(in_one_piece(response)) }
    }
}

/// What arrives is put where it belongs and let go of, instead of being kept as it came and joined at the end, which takes
/// twice the memory.
fn in_one_piece(response: Response<HttpBody>) -> Response<HttpBody> {
    let length_bytes = length_of(response.headers()).filter(|bytes| *bytes <= ONE_PIECE_BYTES_MAX);
    let Some(length_bytes) = length_bytes else { return response };
    let joined = |mut arriving: Box<dyn stream::Stream<Item = opendal::Result<Buffer>> + Send + Sync + Unpin>| {
        let whole = async move {
            let mut whole = Vec::with_capacity(length_bytes as usize);
            while let Some(some) = arriving.try_next().await? {
                some.for_each(|bytes| whole.extend_from_slice(&bytes));
            }
            Ok(Buffer::from(whole))
        };
        Box::new(Box::pin(stream::once(whole))) as Box<dyn stream::Stream<Item = _> + Send + Sync + Unpin>
    };
    response.map(|body| body.map_inner(joined))
}

/// The length in bytes that a reply says it has.
fn length_of(headers: &HeaderMap) -> Option<u64> {
    headers.get(http::header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// What went wrong, sorted.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) kind: ErrorKind,
    pub(super) detail: String,
    /// How long the server asks to be left alone; 0 if it does not say.
    pub(super) retry_after_seconds: u32,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Failure {}

impl From<Failure> for opendal::Error {
    fn from(failure: Failure) -> Self {
        // The kind says nothing: `Failure::of` takes it from the source.
        Self::new(opendal::ErrorKind::Unexpected, failure.detail.clone()).set_source(failure)
    }
}

impl Failure {
    /// Ours where the reply was looked at here; else what OpenDAL says of the way there and back.
    pub(super) fn of(error: &opendal::Error) -> Self {
        let mut cause = error.source();
        while let Some(source) = cause {
            if let Some(failure) = source.downcast_ref::<Self>() {
                return failure.clone();
            }
            cause = source.source();
        }
        let kind = match error.kind() {
            opendal::ErrorKind::NotFound => ErrorKind::NotFound,
            opendal::ErrorKind::PermissionDenied => ErrorKind::AccessDenied,
            opendal::ErrorKind::ConditionNotMatch => ErrorKind::AlreadyExists,
            opendal::ErrorKind::ConfigInvalid | opendal::ErrorKind::Unsupported => ErrorKind::Misconfigured,
            opendal::ErrorKind::RateLimited => ErrorKind::Unreachable,
            // A request that left or a reply that came in part has reqwest's error below it.
            _ if error.is_temporary() || comes_from_the_line(error) => ErrorKind::Unreachable,
            _ => ErrorKind::Other,
        };
        let mut detail = error.message().to_owned();
        if let Some(source) = error.source() {
            detail = format!("{detail}: {}", chain(source));
        }
        Self { kind, detail, retry_after_seconds: 0 }
    }
}

fn comes_from_the_line(error: &opendal::Error) -> bool {
    let mut cause = error.source();
    while let Some(source) = cause {
        if source.is::<reqwest::Error>() || source.is::<std::io::Error>() {
            return true;
        }
        cause = source.source();
    }
    false
}

/// An error and what is below it, on one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    text
}

async fn reply_failure(response: Response<HttpBody>) -> Failure {
    let status = response.status();
    let (parts, mut body) = response.into_parts();
    let text = match length_of(&parts.headers) {
        Some(length_bytes) if length_bytes > ERROR_BODY_MAX_BYTES => String::new(),
        // A body that does not come in full leaves the status, which is what counts.
        _ => body
            .to_buffer()
            .await
            .map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned())
            .unwrap_or_default(),
    };
    let code = element(&text, "Code").unwrap_or_default();
    let message: String = element(&text, "Message").unwrap_or_default().chars().take(MESSAGE_MAX_COUNT).collect();
    let mut detail = format!("S3 answered {}", status.as_u16());
    if !code.is_empty() {
        detail = format!("{detail} {code}");
    }
    if !message.is_empty() {
        detail = format!("{detail}: {message}");
    }
    Failure { kind: kind_of(status, code), detail, retry_after_seconds: retry_after(&parts.headers).unwrap_or(0) }
}

/// In seconds; a date instead is passed over, since clocks differ.
fn retry_after(headers: &HeaderMap) -> Option<u32> {
    headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()
}

/// The text of the first element of this name in a reply.
fn element<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    let (content, _) = rest.split_once(&format!("</{name}>"))?;
    Some(content)
}

/// The code says more than the status where both are known.
fn kind_of(status: StatusCode, code: &str) -> ErrorKind {
    match code {
        "NoSuchBucket" => return ErrorKind::StoreMissing,
        "NoSuchKey" => return ErrorKind::NotFound,
        "AccessDenied" | "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "ExpiredToken" | "InvalidToken" => {
            return ErrorKind::AccessDenied;
        }
        "QuotaExceeded" | "XMinioStorageFull" | "XMinioAdminBucketQuotaExceeded" | "InsufficientStorage" => {
            return ErrorKind::Full;
        }
        // The body changed or ended on its way.
        "BadDigest"
        | "IncompleteBody"
        | "RequestTimeout"
        | "SlowDown"
        | "InternalError"
        | "ServiceUnavailable"
        | "OperationAborted"
        | "ConditionalRequestConflict" => return ErrorKind::Unreachable,
        _ => {}
    }
    match status.as_u16() {
        401 | 403 => ErrorKind::AccessDenied,
        404 => ErrorKind::NotFound,
        412 => ErrorKind::AlreadyExists,
        416 => ErrorKind::Truncated,
        507 => ErrorKind::Full,
        501 => ErrorKind::Misconfigured,
        408 | 409 | 425 | 429 | 499 | 500..=599 => ErrorKind::Unreachable,
        _ => ErrorKind::Misconfigured,
    }
}

/// Reads one page of a listing and lets it pass only when it is whole.
///
/// OpenDAL takes any XML for a page, and what lacks its elements for an empty last one: a proxy's greeting page would
/// be an empty repository.
async fn whole_listing(response: Response<HttpBody>) -> opendal::Result<Response<HttpBody>> {
    let (parts, mut body) = response.into_parts();
    let page = body.to_buffer().await?;
    let bytes = page.to_bytes();
    let text = std::str::from_utf8(&bytes).map_err(|_| lie("a listing is not UTF-8"))?;
    if !text.contains("<ListBucketResult") || !text.trim_end().ends_with("</ListBucketResult>") {
        return Err(lie("a listing is not answered by a whole ListBucketResult"));
    }
    match element(text, "IsTruncated") {
        Some("false") => {}
        Some("true") if element(text, "NextContinuationToken").is_some_and(|token| !token.is_empty()) => {}
        Some(_) | None => return Err(lie("a page of a listing does not say how the listing goes on")),
    }
    let length_bytes = bytes.len() as u64;
    let body = HttpBody::new(stream::iter([Ok(Buffer::from(bytes))]), Some(length_bytes));
    Ok(Response::from_parts(parts, body))
}

fn lie(detail: &str) -> opendal::Error {
    Failure { kind: ErrorKind::Lies, detail: detail.to_owned(), retry_after_seconds: 0 }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: u16, code: &str, kind: ErrorKind) {
        assert_eq!(kind_of(StatusCode::from_u16(status).unwrap(), code), kind, "{status} {code}");
    }

    #[test]
    fn replies_are_sorted_by_code_then_status() {
        check(404, "NoSuchBucket", ErrorKind::StoreMissing);
        check(404, "NoSuchKey", ErrorKind::NotFound);
        check(404, "", ErrorKind::NotFound);
        check(401, "", ErrorKind::AccessDenied);
        check(403, "", ErrorKind::AccessDenied);
        check(403, "SignatureDoesNotMatch", ErrorKind::AccessDenied);
        check(400, "ExpiredToken", ErrorKind::AccessDenied);
        check(403, "QuotaExceeded", ErrorKind::Full);
        check(507, "", ErrorKind::Full);
        check(412, "PreconditionFailed", ErrorKind::AlreadyExists);
        check(416, "InvalidRange", ErrorKind::Truncated);
        check(429, "", ErrorKind::Unreachable);
        check(400, "RequestTimeout", ErrorKind::Unreachable);
        check(400, "BadDigest", ErrorKind::Unreachable);
        check(409, "ConditionalRequestConflict", ErrorKind::Unreachable);
        check(500, "InternalError", ErrorKind::Unreachable);
        check(503, "SlowDown", ErrorKind::Unreachable);
        check(301, "PermanentRedirect", ErrorKind::Misconfigured);
        check(400, "AuthorizationHeaderMalformed", ErrorKind::Misconfigured);
        check(501, "NotImplemented", ErrorKind::Misconfigured);
    }

    #[tokio::test]
    async fn a_busy_server_says_for_how_long() {
        for (header, expected) in [("7", 7), ("Fri, 31 Dec 1999 23:59:59 GMT", 0), ("-1", 0)] {
            let body = HttpBody::new(stream::iter([Ok(Buffer::from("<Code>SlowDown</Code>"))]), None);
            let response = Response::builder().status(503).header("Retry-After", header).body(body).unwrap();
            let failure = Failure::of(&reply_failure(response).await.into());
            assert_eq!(failure.kind, ErrorKind::Unreachable);
            assert_eq!(failure.retry_after_seconds, expected, "{header}");
        }
    }

    async fn check_page(page: &'static str, passes: bool) {
        let body = HttpBody::new(stream::iter([Ok(Buffer::from(page))]), None);
        let read = whole_listing(Response::new(body)).await;
        assert_eq!(read.is_ok(), passes, "{page}");
        if let Err(error) = read {
            assert_eq!(Failure::of(&error).kind, ErrorKind::Lies);
        }
    }

    #[tokio::test]
    async fn a_page_that_is_no_whole_listing_is_refused() {
        check_page("<ListBucketResult xmlns=\"x\"><IsTruncated>false</IsTruncated></ListBucketResult>\n", true).await;
        check_page(
            "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken></ListBucketResult>",
            true,
        ).await;
        check_page("<html><body>Log in to continue</body></html>", false).await;
        check_page("", false).await;
        check_page("<ListBucketResult><IsTruncated>false</IsTruncated>", false).await;
        check_page("<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>", false).await;
        check_page("<ListBucketResult><Contents></Contents></ListBucketResult>", false).await;
    }
}
