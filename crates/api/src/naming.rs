//! Names: of a claim's history in a repository, of the objects made for it, of its ledger record.
//!
//! A name decides whether existing history is found, so each rule here is a rule that others already follow: the seeds'
//! object names and prefixes, VolSync's derivations with their quirks, pvc-plumber's label values and minutes.

use std::fmt;

use ring::digest;
use serde::{Deserialize, Serialize};

/// The path under which a claim's data stands in a snapshot unless somebody says otherwise.
pub const DATA_PATH: &str = "/data";

/// Where the ledger's records stand, relative to the store's prefix (PerClaim) or the repository's location (Shared).
pub const LEDGER_PREFIX: &str = "_perennial/ledger/";

/// Bytes of the longest namespace. Source: Kubernetes, RFC 1123 label.
const NAMESPACE_BYTES_MAX: usize = 63;

/// Bytes of the longest claim name. Source: Kubernetes, RFC 1123 subdomain.
const PVC_BYTES_MAX: usize = 253;

/// Bytes of the longest label value and of the longest Job name. Source: Kubernetes.
const LABEL_VALUE_BYTES_MAX: usize = 63;

/// Bytes after which a derived username is cut. Source: VolSync API §3.5.
const USERNAME_BYTES_MAX: usize = 50;

/// What VolSync calls a name of which nothing is left.
const NAMELESS: &str = "volsync-default";

/// A claim: its namespace and its name, both checked, so that neither can leave its place in a path.
///
/// Namespace: RFC 1123 label, at most 63 bytes. Name: RFC 1123 subdomain, at most 253 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "RawClaimKey")]
pub struct ClaimKey {
    namespace: String,
    pvc: String,
}

#[derive(Deserialize)]
struct RawClaimKey {
    namespace: String,
    pvc: String,
}

/// A name that Kubernetes would not accept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not an RFC 1123 label of at most 63 bytes.
    #[error("{name:?} is not the name of a namespace")]
    Namespace {
        /// What was given.
        name: String,
    },
    /// Not an RFC 1123 subdomain of at most 253 bytes.
    #[error("{name:?} is not the name of a claim")]
    Pvc {
        /// What was given.
        name: String,
    },
}

impl ClaimKey {
    /// Checks both names.
    pub fn new(namespace: impl Into<String>, pvc: impl Into<String>) -> Result<Self, NameError> {
        let (namespace, pvc) = (namespace.into(), pvc.into());
        if namespace.len() > NAMESPACE_BYTES_MAX || !is_label(&namespace) {
            return Err(NameError::Namespace { name: namespace });
        }
        if pvc.len() > PVC_BYTES_MAX || !pvc.split('.').all(is_label) {
            return Err(NameError::Pvc { name: pvc });
        }
        Ok(Self { namespace, pvc })
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The claim's name.
    pub fn pvc(&self) -> &str {
        &self.pvc
    }

    /// The claim's own repository below the store's prefix in layout PerClaim: `{namespace}/{pvc}`, no slash around it.
    pub fn repository_prefix(&self) -> String {
        format!("{}/{}", self.namespace, self.pvc)
    }

    /// The name of the ledger record: `_perennial/ledger/<namespace>/<pvc>.json`.
    pub fn ledger_object(&self) -> String {
        format!("{LEDGER_PREFIX}{}/{}.json", self.namespace, self.pvc)
    }

    /// The claim that a ledger record's name belongs to; none for any other name.
    pub fn of_ledger_object(name: &str) -> Option<Self> {
        let (namespace, pvc) = name.strip_prefix(LEDGER_PREFIX)?.strip_suffix(".json")?.split_once('/')?;
        Self::new(namespace, pvc).ok()
    }

    /// The claim's history in a shared repository: `<pvc>@<namespace>:/data`.
    pub fn shared_identity(&self) -> Identity {
        Identity { username: self.pvc.clone(), hostname: self.namespace.clone(), path: DATA_PATH.to_owned() }
    }

    /// The credentials, ExternalSecret and Secret alike: `volsync-<pvc>`.
    pub fn credentials_name(&self) -> String {
        format!("volsync-{}", self.pvc)
    }

    /// The ReplicationSource and the ReplicationDestination: `<pvc>-backup`.
    pub fn backup_name(&self) -> String {
        format!("{}-backup", self.pvc)
    }

    /// The claim's name as a label value; see [`label_value`].
    pub fn label_value(&self) -> String {
        label_value(&self.pvc)
    }

    /// The minute of the hour, 0–59, at which this claim's turn comes where turns are spread.
    ///
    /// The first four bytes, big endian, of SHA-256 of `<namespace>/<pvc>`, modulo 60. Source: pvc-plumber's tiers.
    /// The seeds' label values run at minute 0 and do not use it.
    pub fn minute(&self) -> u8 {
        let hash = digest::digest(&digest::SHA256, self.repository_prefix().as_bytes());
        let head = hash.as_ref().iter().take(4).fold(0_u32, |head, byte| head << 8 | u32::from(*byte));
        u8::try_from(head % 60).expect("a remainder of 60 is below 256")
    }
}

impl fmt::Display for ClaimKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.namespace, self.pvc)
    }
}

impl TryFrom<RawClaimKey> for ClaimKey {
    type Error = NameError;

    fn try_from(raw: RawClaimKey) -> Result<Self, NameError> {
        Self::new(raw.namespace, raw.pvc)
    }
}

/// Whether `text` is an RFC 1123 label, its length aside.
fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// The name of one history in a repository, as Kopia writes it: `username@hostname:path`.
///
/// restic keeps the hostname as host, the username as tag and the path as path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Identity {
    /// Who, usually the claim or the source object.
    pub username: String,
    /// Where, usually the namespace.
    pub hostname: String,
    /// The path recorded in the snapshot, absolute.
    pub path: String,
}

impl fmt::Display for Identity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}@{}:{}", self.username, self.hostname, self.path)
    }
}

/// What a ReplicationSource or ReplicationDestination says about its identity; empty text counts as not said.
///
/// `source_name` and `source_namespace` are `spec.kopia.sourceIdentity`, which only destinations have.
#[derive(Clone, Copy, Debug, Default)]
pub struct VolsyncNames<'a> {
    /// `metadata.name`.
    pub name: &'a str,
    /// `metadata.namespace`.
    pub namespace: &'a str,
    /// `spec.kopia.username`, taken verbatim.
    pub username: &'a str,
    /// `spec.kopia.hostname`, taken verbatim.
    pub hostname: &'a str,
    /// `spec.kopia.sourceIdentity.sourceName`.
    pub source_name: &'a str,
    /// `spec.kopia.sourceIdentity.sourceNamespace`; without a `source_name` it has no effect.
    pub source_namespace: &'a str,
    /// The path override that applies, given or discovered.
    pub path: &'a str,
}

/// The identity that VolSync's Kopia mover uses for such an object. Source: VolSync API §3.5.
///
/// The claim's name plays no part in it.
pub fn volsync_identity(names: &VolsyncNames<'_>) -> Identity {
    let (name, namespace) = match names.source_name {
        "" => (names.name, names.namespace),
        source => (source, or(names.source_namespace, names.namespace)),
    };
    Identity {
        username: if names.username.is_empty() { volsync_username(name) } else { names.username.to_owned() },
        hostname: if names.hostname.is_empty() { volsync_hostname(namespace, name) } else { names.hostname.to_owned() },
        path: or(names.path, DATA_PATH).to_owned(),
    }
}

fn or<'a>(text: &'a str, default: &'a str) -> &'a str {
    if text.is_empty() { default } else { text }
}

/// The username that VolSync derives from an object's name.
///
/// Keeps ASCII letters, digits, `-` and `_`, drops the rest, dots too; trims `-` and `_`; then cuts to 50 characters,
/// so that the cut may leave a trailing `-`. `volsync-default` when nothing is left.
pub fn volsync_username(name: &str) -> String {
    let kept: String = name.chars().filter(|char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_')).collect();
    let cut: String = kept.trim_matches(['-', '_']).chars().take(USERNAME_BYTES_MAX).collect();
    or(&cut, NAMELESS).to_owned()
}

/// The hostname that VolSync derives from a namespace; from the object's name when nothing of the namespace is left.
///
/// Keeps ASCII letters, digits, `-` and `.`, turns `_` into `-`, drops the rest; trims `-` and `.`; any length.
/// `volsync-default` when nothing is left of either.
pub fn volsync_hostname(namespace: &str, name: &str) -> String {
    let derive = |text: &str| {
        let kept: String = text
            .chars()
            .map(|char| if char == '_' { '-' } else { char })
            .filter(|char| char.is_ascii_alphanumeric() || matches!(char, '-' | '.'))
            .collect();
        kept.trim_matches(['-', '.']).to_owned()
    };
    let from_namespace = derive(namespace);
    if !from_namespace.is_empty() {
        return from_namespace;
    }
    or(&derive(name), NAMELESS).to_owned()
}

/// The Job that backs up for the ReplicationSource `source`: `volsync-src-<source>`, at most 63 bytes.
pub fn source_job_name(source: &str) -> String {
    job_name("volsync-src-", source)
}

/// The Job that restores for the ReplicationDestination `destination`: `volsync-dst-<destination>`, at most 63 bytes.
pub fn destination_job_name(destination: &str) -> String {
    job_name("volsync-dst-", destination)
}

/// VolSync's rule: a name that would be too long for a Job becomes its CRC-32 in eight hexadecimal digits.
fn job_name(prefix: &str, name: &str) -> String {
    let whole = format!("{prefix}{name}");
    if whole.len() <= LABEL_VALUE_BYTES_MAX { whole } else { format!("{prefix}{:08x}", crc32(name.as_bytes())) }
}

/// CRC-32 (IEEE 802.3, reflected), bit by bit: names are short and rarely too long.
fn crc32(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0xedb8_8320;
    let step = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

/// The claim that is filled before it becomes the user's claim with this UID: `vs-prime-<uid>`.
pub fn prime_name(uid: &str) -> String {
    format!("vs-prime-{uid}")
}

/// A claim's name as a label value, which has at most 63 bytes: `pvc-` and 24 hexadecimal digits of the name's SHA-256
/// where it would be longer. Object names keep the rule of their kind. Source: zero-touch §2.2.
pub fn label_value(name: &str) -> String {
    if name.len() <= LABEL_VALUE_BYTES_MAX {
        return name.to_owned();
    }
    let digits = hex::encode(digest::digest(&digest::SHA256, name.as_bytes()));
    format!("pvc-{}", digits.chars().take(24).collect::<String>())
}

#[cfg(test)]
mod tests;
