//! Where a store is: text, environment and the store itself.
//!
//! | text | store |
//! |---|---|
//! | `/srv/repo`, `file:/srv/repo`, `filesystem:///srv/repo` | a directory |
//! | `s3://bucket/some/prefix?endpoint=http://127.0.0.1:9000&region=us-east-1&ca=/ca.pem&insecure=true` | a bucket |
//!
//! The prefix in the path of an `s3://` address always ends in a slash, written or not, and doubled slashes are one;
//! `prefix=…` among the parameters gives any other prefix as it is. `insecure=true` turns the look at the server's
//! certificate off.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::filesystem::{FilesystemStorage, Layout};
use crate::s3::{Certificate, REGION_DEFAULT, S3Address, S3Storage};
use crate::{Error, ErrorKind, Storage};

/// Amazon's own server, for addresses that name no other.
const ENDPOINT_DEFAULT: &str = "https://s3.amazonaws.com";

/// Where a store is. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A directory, by its absolute path.
    Filesystem(PathBuf),
    /// A bucket.
    S3(S3Address),
}

/// What stores ask for before they answer.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// For buckets.
    pub s3: Option<S3Credentials>,
}

/// The keys of a bucket. Its debug form hides them.
#[derive(Clone, PartialEq, Eq)]
pub struct S3Credentials {
    /// Whose key.
    pub access_key_id: String,
    /// The key.
    pub secret_access_key: String,
    /// For keys that are lent for a while.
    pub session_token: Option<String>,
}

impl fmt::Debug for S3Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("S3Credentials([redacted])")
    }
}

impl Credentials {
    /// Takes what is set: `KOPIA_S3_ACCESS_KEY_ID`, `KOPIA_S3_SECRET_ACCESS_KEY`, `KOPIA_S3_SESSION_TOKEN`, else the
    /// same with `AWS_`. A key id without its secret is as good as none.
    pub fn from_env(variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let of = |start: &str, prefix: &str| {
            Some(S3Credentials {
                access_key_id: set(variable, &format!("{start}ACCESS_KEY_ID"))?,
                secret_access_key: set(variable, &format!("{start}SECRET_ACCESS_KEY"))?,
                session_token: set(variable, &format!("{prefix}SESSION_TOKEN")),
            })
        };
        Self { s3: of("KOPIA_S3_", "KOPIA_S3_").or_else(|| of("AWS_", "AWS_")) }
    }
}

/// A variable's value; an empty one is not set.
fn set(variable: &dyn Fn(&str) -> Option<String>, name: &str) -> Option<String> {
    variable(name).filter(|value| !value.is_empty())
}

impl Address {
    /// Reads an address. Errors are [`ErrorKind::Misconfigured`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        let refused = |detail: String| misconfigured(text, detail);
        if let Some(rest) = text.strip_prefix("s3://") {
            return S3Address::parse(rest).map(Self::S3).map_err(refused);
        }
        let path = match text.split_once(':') {
            Some(("file" | "filesystem", path)) => path.strip_prefix("//").unwrap_or(path),
            _ if text.starts_with('/') => text,
            _ => return Err(refused("begins with none of `/`, `file:`, `filesystem://` and `s3://`".to_owned())),
        };
        directory(path).map(Self::Filesystem).map_err(refused)
    }

    /// Takes the address from the variables of a Kopia Secret, as VolSync's movers read them; none when nothing is set.
    ///
    /// `KOPIA_S3_BUCKET` wins over `KOPIA_REPOSITORY`. A prefix, from `KOPIA_S3_PREFIX` or the path of `s3://…`, ends in
    /// a slash. TLS is off when `KOPIA_S3_DISABLE_TLS` or `AWS_S3_DISABLE_TLS` is `true` or the endpoint says `http://`.
    /// `CUSTOM_CA` names a file with certificate authorities. Errors are [`ErrorKind::Misconfigured`].
    pub fn from_env(variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<Self>, Error> {
        let first = |names: &[&str]| names.iter().find_map(|name| set(variable, name));
        let repository = set(variable, "KOPIA_REPOSITORY");
        let url = repository.as_deref().and_then(|text| text.strip_prefix("s3://"));
        let bucket = set(variable, "KOPIA_S3_BUCKET");
        if bucket.is_none() && url.is_none() {
            return match repository {
                None => Ok(None),
                Some(text) => Self::parse(&text).map(Some),
            };
        }
        let (url_bucket, url_prefix) = url.unwrap_or_default().split_once('/').unwrap_or((url.unwrap_or_default(), ""));
        let bucket = bucket.unwrap_or_else(|| url_bucket.to_owned());
        let text = format!("s3://{bucket}");
        let refused = |detail: String| misconfigured(&text, detail);
        let prefix = set(variable, "KOPIA_S3_PREFIX").unwrap_or_else(|| url_prefix.to_owned());
        let no_tls = ["KOPIA_S3_DISABLE_TLS", "AWS_S3_DISABLE_TLS"]
            .iter()
            .any(|name| variable(name).is_some_and(|value| value == "true"));
        let endpoint = first(&["KOPIA_S3_ENDPOINT", "AWS_S3_ENDPOINT"]).unwrap_or_default();
        let mut endpoint = endpoint_of(&endpoint).map_err(refused)?;
        if let (true, Some(host)) = (no_tls, endpoint.strip_prefix("https://")) {
            endpoint = format!("http://{host}");
        }
        let address = S3Address {
            bucket: bucket_of(&bucket).map_err(refused)?,
            prefix: prefix_of(&prefix).map_err(refused)?,
            endpoint,
            region: first(&["AWS_REGION", "AWS_DEFAULT_REGION"]).unwrap_or_else(|| REGION_DEFAULT.to_owned()),
            ca_file: set(variable, "CUSTOM_CA").map(PathBuf::from),
            certificate: Certificate::Verified,
        };
        Ok(Some(Self::S3(address)))
    }

    /// The address of a part of this store: a sub-directory, or a longer prefix that ends in a slash.
    ///
    /// `sub` has its parts between slashes, as in `media/photos`; empty parts, `.` and `..` are
    /// [`ErrorKind::Misconfigured`].
    pub fn join(&self, sub: &str) -> Result<Self, Error> {
        if sub.split('/').any(|part| matches!(part, "" | "." | "..")) {
            let detail = format!("`{sub}` is no place below it: it has an empty part, `.` or `..`");
            return Err(misconfigured(&self.to_string(), detail));
        }
        Ok(match self {
            Self::Filesystem(path) => Self::Filesystem(path.join(sub)),
            Self::S3(address) => {
                let between = if address.prefix.is_empty() || address.prefix.ends_with('/') { "" } else { "/" };
                let prefix = format!("{}{between}{sub}/", address.prefix);
                Self::S3(S3Address { prefix, ..address.clone() })
            }
        })
    }

    /// Opens the store; a directory must be there, a bucket is asked nothing yet.
    pub fn open(&self, layout: Layout, credentials: &Credentials) -> Result<Arc<dyn Storage>, Error> {
        match self {
            Self::Filesystem(path) => Ok(Arc::new(FilesystemStorage::open(path, layout)?)),
            Self::S3(address) => open_s3(address, credentials),
        }
    }

    /// As [`open`](Self::open), and makes a directory that is not there. A bucket is never made.
    pub fn create(&self, layout: Layout, credentials: &Credentials) -> Result<Arc<dyn Storage>, Error> {
        match self {
            Self::Filesystem(path) => Ok(Arc::new(FilesystemStorage::create(path, layout)?)),
            Self::S3(address) => open_s3(address, credentials),
        }
    }
}

fn open_s3(address: &S3Address, credentials: &Credentials) -> Result<Arc<dyn Storage>, Error> {
    match &credentials.s3 {
        Some(credentials) => Ok(Arc::new(S3Storage::open(address, credentials)?)),
        None => Err(misconfigured(&address.to_string(), "no access key and secret key are given".to_owned())),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Filesystem(path) => write!(f, "file:{}", path.display()),
            Self::S3(address) => address.fmt(f),
        }
    }
}

impl std::str::FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

/// Complete: what it writes is an address again.
impl fmt::Display for S3Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_path = self.prefix.is_empty() || prefix_of(&self.prefix).is_ok_and(|prefix| prefix == self.prefix);
        write!(f, "s3://{}", self.bucket)?;
        if is_path && !self.prefix.is_empty() {
            write!(f, "/{}", self.prefix)?;
        }
        let mut parameters = Vec::new();
        if !is_path {
            parameters.push(format!("prefix={}", encoded(&self.prefix)));
        }
        if self.endpoint != ENDPOINT_DEFAULT {
            parameters.push(format!("endpoint={}", encoded(&self.endpoint)));
        }
        if self.region != REGION_DEFAULT {
            parameters.push(format!("region={}", encoded(&self.region)));
        }
        if let Some(path) = &self.ca_file {
            parameters.push(format!("ca={}", encoded(&path.to_string_lossy())));
        }
        if self.certificate == Certificate::Unverified {
            parameters.push("insecure=true".to_owned());
        }
        if parameters.is_empty() { Ok(()) } else { write!(f, "?{}", parameters.join("&")) }
    }
}

impl S3Address {
    /// Reads what follows `s3://`.
    fn parse(rest: &str) -> Result<Self, String> {
        let (place, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        let mut address = Self {
            bucket: bucket_of(bucket)?,
            prefix: prefix_of(prefix)?,
            endpoint: ENDPOINT_DEFAULT.to_owned(),
            region: REGION_DEFAULT.to_owned(),
            ca_file: None,
            certificate: Certificate::Verified,
        };
        for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').ok_or_else(|| format!("`{parameter}` has no value"))?;
            let value = decoded(value)?;
            match name {
                "prefix" if prefix.is_empty() => address.prefix = value,
                "prefix" => return Err("the prefix is given twice".to_owned()),
                "endpoint" => address.endpoint = endpoint_of(&value)?,
                "region" => address.region = value,
                "ca" => address.ca_file = Some(value.into()),
                "insecure" => {
                    address.certificate = match value.as_str() {
                        "true" => Certificate::Unverified,
                        "false" => Certificate::Verified,
                        _ => return Err("`insecure` is neither `true` nor `false`".to_owned()),
                    }
                }
                // Not its value: someone may have tried to put a key here.
                _ => return Err(format!("the parameter `{name}` is not known")),
            }
        }
        Ok(address)
    }
}

fn misconfigured(address: &str, detail: String) -> Error {
    // Parameters may hold what does not belong there.
    let address = address.split_once('?').map_or(address, |(start, _)| start).to_owned();
    Error {
        kind: ErrorKind::Misconfigured,
        operation: "read address".to_owned(),
        address,
        detail,
        retry_after_seconds: 0,
    }
}

fn directory(path: &str) -> Result<PathBuf, String> {
    if !path.starts_with('/') {
        return Err("the path is not absolute".to_owned());
    }
    if path.split('/').any(|part| part == "..") {
        return Err("the path has `..` in it".to_owned());
    }
    // Takes doubled slashes and a trailing one away, so that one directory has one address.
    Ok(Path::new(path).components().collect())
}

/// Amazon's rules for a bucket's name.
fn bucket_of(name: &str) -> Result<String, String> {
    let fits = (3..=63).contains(&name.len())
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-'))
        && !name.contains("..")
        && name.parse::<std::net::Ipv4Addr>().is_err();
    if fits { Ok(name.to_owned()) } else { Err(format!("`{name}` is no bucket's name")) }
}

/// VolSync's rules for a prefix: doubled slashes are one, and it ends in one.
fn prefix_of(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/');
    if !text.bytes().all(allowed) || text.contains("..") {
        return Err("the prefix has more in it than letters, digits, `.`, `_`, `-` and `/`, or `..`".to_owned());
    }
    let mut prefix = String::with_capacity(text.len() + 1);
    for part in text.split('/').filter(|part| !part.is_empty()) {
        prefix.push_str(part);
        prefix.push('/');
    }
    Ok(prefix)
}

/// A server's address with its scheme; without one it is `https`.
fn endpoint_of(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Ok(ENDPOINT_DEFAULT.to_owned());
    }
    let endpoint = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let endpoint = endpoint.trim_end_matches('/');
    let host = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
    match host {
        // A name and a password before an `@` would be shown in every message.
        Some(host) if !host.is_empty() && !host.contains(['@', '/', '?', '#', ' ']) => Ok(endpoint.to_owned()),
        Some(_) | None => Err("the endpoint is not `host:port` with or without `http://` or `https://`".to_owned()),
    }
}

fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/:[]".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

fn decoded(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = rest.get(..2).ok_or("a `%` without its two digits")?;
        bytes.extend(hex::decode(digits).map_err(|_| "a `%` without its two digits")?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).map_err(|_| "a value is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests;
