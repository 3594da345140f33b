//! Where a repository's objects lie.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a repository's objects lie: in a bucket or in a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Store {
    /// A bucket of an object store that speaks S3.
    S3(S3Store),
    /// A directory that an NFS server exports.
    Nfs(NfsStore),
    /// A volume that every user of the repository mounts.
    Claim(ClaimStore),
}

/// A bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct S3Store {
    /// Host and port, with or without a scheme: `minio.storage.svc:9000`, `https://s3.eu-central-1.amazonaws.com`.
    #[schemars(length(min = 1, max = 512), regex(pattern = ENDPOINT_PATTERN))]
    pub endpoint: String,
    /// The bucket. It must exist.
    #[schemars(length(min = 3, max = 63), regex(pattern = BUCKET_PATTERN))]
    pub bucket: String,
    /// The region, where the store wants one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub region: Option<String>,
    /// What all object names begin with, without a slash at either end; the whole bucket when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = PREFIX_PATTERN))]
    pub prefix: Option<String>,
    /// Whether the store is spoken to without TLS. A scheme `http` in the endpoint says the same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure: bool,
    /// Certificate authorities for the store, where the system's do not know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret: Option<SecretKey>,
}

/// Host, or address, and port; a scheme before them, or not.
pub const ENDPOINT_PATTERN: &str = r"^(https?://)?([A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\])(:[0-9]{1,5})?/?$";

/// What a bucket may be called.
pub const BUCKET_PATTERN: &str = "^[a-z0-9][a-z0-9.-]*[a-z0-9]$";

/// Parts of letters, digits, dots, underscores and hyphens between single slashes, as VolSync's movers take them.
pub const PREFIX_PATTERN: &str = "^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$";

impl S3Store {
    /// Host and port without scheme and slash, as `KOPIA_S3_ENDPOINT` wants it.
    pub fn host(&self) -> &str {
        let (_, host) = self.scheme_and_host();
        host
    }

    /// Whether it is spoken to without TLS.
    pub fn is_plaintext(&self) -> bool {
        let (scheme, _) = self.scheme_and_host();
        self.insecure || scheme == Some("http")
    }

    /// The endpoint with its scheme, as `RESTIC_REPOSITORY` wants it.
    pub fn url(&self) -> String {
        let scheme = if self.is_plaintext() { "http" } else { "https" };
        format!("{scheme}://{}", self.host())
    }

    fn scheme_and_host(&self) -> (Option<&str>, &str) {
        let endpoint = self.endpoint.trim_end_matches('/');
        match endpoint.split_once("://") {
            Some((scheme, host)) => (Some(scheme), host),
            None => (None, endpoint),
        }
    }
}

/// A directory of an NFS server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NfsStore {
    /// Name or address of the server.
    #[schemars(length(min = 1, max = 253))]
    pub server: String,
    /// The exported directory, absolute.
    #[schemars(length(min = 1, max = 4096), regex(pattern = "^/"))]
    pub path: String,
}

/// A claim by its name. A pod mounts claims of its own namespace only, so every namespace that uses the repository, the
/// installation's included, needs a claim of this name for the same shared file system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimStore {
    /// The claim.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// One key of a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKey {
    /// The Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its namespace; the installation's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// The key.
    #[serde(default = "ca_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

fn ca_key() -> String {
    "ca.crt".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(endpoint: &str, insecure: bool, host: &str, url: &str) {
        let store = S3Store { endpoint: endpoint.to_owned(), insecure, ..S3Store::default() };
        assert_eq!((store.host(), store.url().as_str()), (host, url));
        assert!(regex::Regex::new(ENDPOINT_PATTERN).unwrap().is_match(endpoint), "{endpoint}");
    }

    #[test]
    fn endpoints_with_and_without_scheme_say_the_same() {
        check("http://192.168.10.133:30292", false, "192.168.10.133:30292", "http://192.168.10.133:30292");
        check("192.168.10.133:30292", true, "192.168.10.133:30292", "http://192.168.10.133:30292");
        check("s3.example.com", false, "s3.example.com", "https://s3.example.com");
        check("https://s3.example.com/", false, "s3.example.com", "https://s3.example.com");
        check("http://[fd00::1]:9000", false, "[fd00::1]:9000", "http://[fd00::1]:9000");
    }

    #[test]
    fn endpoints_that_are_more_than_a_host_are_refused() {
        let pattern = regex::Regex::new(ENDPOINT_PATTERN).unwrap();
        for endpoint in ["", "https://https://host", "host/bucket", "host:port", "ftp://host", "user@host", "a host"] {
            assert!(!pattern.is_match(endpoint), "{endpoint}");
        }
    }

    #[test]
    fn prefixes_stay_in_their_place() {
        let pattern = regex::Regex::new(PREFIX_PATTERN).unwrap();
        for prefix in ["a", "clusters/home", "a.b/c_d-e"] {
            assert!(pattern.is_match(prefix), "{prefix}");
        }
        for prefix in ["", "/a", "a/", "a//b", "..", "a/../b", ".a", "a b"] {
            assert!(!pattern.is_match(prefix), "{prefix}");
        }
    }
}
