//! Where a repository's password and its store's keys come from. None of them ever stands in an object of ours.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::repository::Format;
use crate::span::Span;

/// Where a repository's password and its store's keys come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Credentials {
    /// A Secret that somebody keeps.
    SecretRef(SecretRef),
    /// A record of a secret store, fetched for each claim by an ExternalSecret that we make.
    ExternalSecret(ExternalSecret),
}

/// A Secret and the names of its keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// The Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its namespace; the installation's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// Names of its keys, where they are not those of the format.
    #[serde(default, skip_serializing_if = "SecretKeys::is_unset")]
    pub keys: SecretKeys,
}

/// Names of the keys in a Secret. Absent ones have the name that the format's movers use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeys {
    /// Of the repository's password; `KOPIA_PASSWORD` or `RESTIC_PASSWORD` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = KEY_PATTERN))]
    pub password: Option<String>,
    /// Of the bucket's access key; `KOPIA_S3_ACCESS_KEY_ID` or `AWS_ACCESS_KEY_ID` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = KEY_PATTERN))]
    pub access_key: Option<String>,
    /// Of the bucket's secret key; `KOPIA_S3_SECRET_ACCESS_KEY` or `AWS_SECRET_ACCESS_KEY` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = KEY_PATTERN))]
    pub secret_key: Option<String>,
}

/// What Kubernetes allows as a key of a Secret.
pub const KEY_PATTERN: &str = "^[-._a-zA-Z0-9]+$";

impl SecretKeys {
    fn is_unset(&self) -> bool {
        *self == Self::default()
    }

    /// All three names, the format's where none is given.
    pub fn names(&self, format: Format) -> KeyNames<'_> {
        let usual = KeyNames::of_format(format);
        KeyNames {
            password: self.password.as_deref().unwrap_or(usual.password),
            access_key: self.access_key.as_deref().unwrap_or(usual.access_key),
            secret_key: self.secret_key.as_deref().unwrap_or(usual.secret_key),
        }
    }
}

/// Names of the three keys in a Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyNames<'a> {
    /// Of the repository's password.
    pub password: &'a str,
    /// Of the bucket's access key.
    pub access_key: &'a str,
    /// Of the bucket's secret key.
    pub secret_key: &'a str,
}

impl KeyNames<'static> {
    /// The names in the Secrets that are made for claims: those that the formats' movers read.
    pub fn of_format(format: Format) -> Self {
        match format {
            Format::Kopia => Self {
                password: "KOPIA_PASSWORD",
                access_key: "KOPIA_S3_ACCESS_KEY_ID",
                secret_key: "KOPIA_S3_SECRET_ACCESS_KEY",
            },
            Format::Restic => Self {
                password: "RESTIC_PASSWORD",
                access_key: "AWS_ACCESS_KEY_ID",
                secret_key: "AWS_SECRET_ACCESS_KEY",
            },
        }
    }
}

/// A record of a secret store that External Secrets can reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalSecret {
    /// The secret store.
    pub store: SecretStoreRef,
    /// What is fetched from it.
    pub fetch: Fetch,
    /// How often it is fetched again; `0s` for once only.
    #[serde(default = "refresh_interval")]
    pub refresh_interval: Span,
}

fn refresh_interval() -> Span {
    Span::of_hours(1)
}

/// A secret store of External Secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretStoreRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its kind. A `SecretStore` must exist in the namespace of every claim.
    #[serde(default)]
    pub kind: SecretStoreKind,
}

/// Kind of a secret store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SecretStoreKind {
    /// One for all namespaces.
    #[default]
    ClusterSecretStore,
    /// One in each namespace.
    SecretStore,
}

impl SecretStoreKind {
    /// The kind as External Secrets spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClusterSecretStore => "ClusterSecretStore",
            Self::SecretStore => "SecretStore",
        }
    }
}

/// What is fetched from a secret store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Fetch {
    /// Value by value, wherever each stands.
    Values(RemoteValues),
    /// A whole record whose members have the names that the format's movers use.
    Record(RemoteRecord),
}

/// Where each value stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RemoteValues {
    /// The repository's password.
    pub password: RemoteValue,
    /// The bucket's access key. Only for S3, and needed there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key: Option<RemoteValue>,
    /// The bucket's secret key. Only for S3, and needed there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key: Option<RemoteValue>,
}

/// One value of a secret store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RemoteValue {
    /// The record, as in `rustfs`.
    #[schemars(length(min = 1, max = 1024))]
    pub key: String,
    /// The value in the record, as in `kopia_password`; the record itself when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub property: Option<String>,
}

/// A record of a secret store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RemoteRecord {
    /// The record.
    #[schemars(length(min = 1, max = 1024))]
    pub key: String,
}
