//! What a mover or a catalog needs to get into a repository: a Secret that we fill, or an ExternalSecret that somebody
//! else fills from a store of secrets.
//!
//! The keys are a contract that existing set-ups rely on: seven for a bucket, see zero-touch R38.

use std::collections::BTreeMap;

use api::mover::Layout;
use api::naming::ClaimKey;
use api::v1alpha1::BackupRepositorySpec;
use api::v1alpha1::credentials::{ExternalSecret as Source, Fetch, KeyNames, RemoteValue};
use api::v1alpha1::store::Store;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::CustomResource;
use ring::digest;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::job::{Directory, REPOSITORY_PATH};

/// For whom credentials are.
#[derive(Clone, Debug)]
pub enum User<'a> {
    /// The mover of one claim.
    Claim(&'a ClaimKey),
    /// The catalog, which looks at the whole store.
    Catalog,
}

/// What External Secrets is asked for. Source: External Secrets, `external-secrets.io/v1`.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "external-secrets.io",
    version = "v1",
    kind = "ExternalSecret",
    namespaced,
    status = "ExternalSecretStatus",
    schema = "disabled"
)]
pub struct ExternalSecretSpec {
    /// All members, as they stand.
    #[serde(flatten)]
    pub members: BTreeMap<String, Value>,
}

/// How it went.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ExternalSecretStatus {
    /// `Ready` says whether the Secret is filled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

impl ExternalSecret {
    /// What keeps it from being filled, in its controller's words; none if it is filled or nobody has said anything.
    pub fn failure(&self) -> Option<String> {
        let conditions = &self.status.as_ref()?.conditions;
        let ready = conditions.iter().find(|condition| condition.type_ == "Ready")?;
        (ready.status != "True").then(|| format!("{}: {}", ready.reason, ready.message))
    }
}

/// The three values that somebody has to keep secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Values {
    /// The repository's password.
    pub password: Vec<u8>,
    /// The bucket's access key and its secret.
    pub keys: Option<(Vec<u8>, Vec<u8>)>,
}

/// What a Secret lacks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Secret {secret} has no key {key}, or nothing in it")]
pub struct MissingKey {
    /// The Secret.
    pub secret: String,
    /// The key.
    pub key: String,
}

/// Where the repository is for this user: what is no secret in the credentials.
pub fn place(repository: &BackupRepositorySpec, user: &User<'_>) -> BTreeMap<String, String> {
    let own = match (user, repository.layout) {
        (User::Claim(claim), Layout::PerClaim) => Some(claim.repository_prefix()),
        (User::Claim(_), Layout::Shared) | (User::Catalog, _) => None,
    };
    match &repository.store {
        Store::S3(s3) => {
            let prefix = [s3.prefix.clone(), own].into_iter().flatten().collect::<Vec<_>>().join("/");
            [
                ("KOPIA_S3_BUCKET", s3.bucket.clone()),
                ("KOPIA_S3_ENDPOINT", s3.host().to_owned()),
                ("KOPIA_S3_PREFIX", prefix),
                ("KOPIA_S3_DISABLE_TLS", s3.is_plaintext().to_string()),
            ]
            .map(|(key, value)| (key.to_owned(), value))
            .into()
        }
        Store::Nfs(_) | Store::Claim(_) => {
            let path = [Some(REPOSITORY_PATH.to_owned()), own].into_iter().flatten().collect::<Vec<_>>().join("/");
            BTreeMap::from([("KOPIA_REPOSITORY".to_owned(), format!("filesystem://{path}"))])
        }
    }
}

/// Where the repository is mounted from, if it is no bucket.
pub fn directory(store: &Store) -> Option<Directory> {
    match store {
        Store::S3(_) => None,
        Store::Nfs(nfs) => Some(Directory::Nfs { server: nfs.server.clone(), path: nfs.path.clone() }),
        Store::Claim(claim) => Some(Directory::Claim(claim.name.clone())),
    }
}

/// The values in a Secret that somebody keeps.
///
/// # Errors
/// The first key that is missing or empty.
pub fn values(repository: &BackupRepositorySpec, names: &KeyNames<'_>, secret: &Secret) -> Result<Values, MissingKey> {
    let value = |key: &str| {
        let found = secret.data.as_ref().and_then(|data| data.get(key)).filter(|value| !value.0.is_empty());
        found
            .map(|value| value.0.clone())
            .ok_or_else(|| MissingKey { secret: secret.metadata.name.clone().unwrap_or_default(), key: key.to_owned() })
    };
    let keys = match &repository.store {
        Store::S3(_) => Some((value(names.access_key)?, value(names.secret_key)?)),
        Store::Nfs(_) | Store::Claim(_) => None,
    };
    Ok(Values { password: value(names.password)?, keys })
}

/// The Secret of this user, filled.
pub fn secret(repository: &BackupRepositorySpec, user: &User<'_>, values: &Values, metadata: ObjectMeta) -> Secret {
    let names = KeyNames::of_format(repository.format);
    let mut data: BTreeMap<String, ByteString> =
        place(repository, user).into_iter().map(|(key, value)| (key, ByteString(value.into_bytes()))).collect();
    data.insert(names.password.to_owned(), ByteString(values.password.clone()));
    if let Some((access, secret)) = &values.keys {
        data.insert(names.access_key.to_owned(), ByteString(access.clone()));
        data.insert(names.secret_key.to_owned(), ByteString(secret.clone()));
    }
    Secret { metadata, data: Some(data), type_: Some("Opaque".to_owned()), ..Secret::default() }
}

/// The ExternalSecret of this user, which makes a Secret of its own name.
///
/// What is no secret stands in the template, merged with what is fetched: a template that replaces it loses the
/// credentials. Nothing of ours stands in double braces.
pub fn external(
    repository: &BackupRepositorySpec,
    user: &User<'_>,
    from: &Source,
    metadata: ObjectMeta,
) -> ExternalSecret {
    let name = metadata.name.clone().unwrap_or_default();
    let template = json!({"engineVersion": "v2", "mergePolicy": "Merge", "data": place(repository, user)});
    let mut members = json!({
        "refreshInterval": from.refresh_interval,
        "secretStoreRef": {"name": from.store.name, "kind": from.store.kind.as_str()},
        "target": {"name": name, "creationPolicy": "Owner", "template": template},
    });
    let names = KeyNames::of_format(repository.format);
    match &from.fetch {
        Fetch::Record(record) => members["dataFrom"] = json!([{"extract": {"key": record.key}}]),
        Fetch::Values(values) => {
            let keys = [(names.access_key, &values.access_key), (names.secret_key, &values.secret_key)];
            let keys = keys.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
            let all = std::iter::once((names.password, &values.password)).chain(keys);
            members["data"] = all.map(|(name, value)| remote(name, value)).collect();
        }
    }
    let members = match members {
        Value::Object(members) => members.into_iter().collect(),
        _ => BTreeMap::new(),
    };
    ExternalSecret { metadata, spec: ExternalSecretSpec { members }, status: None }
}

fn remote(name: &str, value: &RemoteValue) -> Value {
    let mut reference = json!({"key": value.key});
    if let Some(property) = &value.property {
        reference["property"] = property.as_str().into();
    }
    json!({"secretKey": name, "remoteRef": reference})
}

/// The keys that a Secret of this repository must have, whoever fills it.
pub fn keys(repository: &BackupRepositorySpec, user: &User<'_>) -> Vec<String> {
    let names = KeyNames::of_format(repository.format);
    let mut keys: Vec<String> = place(repository, user).into_keys().collect();
    keys.push(names.password.to_owned());
    if matches!(repository.store, Store::S3(_)) {
        keys.extend([names.access_key.to_owned(), names.secret_key.to_owned()]);
    }
    keys.sort();
    keys
}

/// The first key that the Secret lacks or has nothing in.
pub fn first_missing(secret: &Secret, keys: &[String]) -> Option<MissingKey> {
    let has =
        |key: &String| secret.data.as_ref().and_then(|data| data.get(key)).is_some_and(|value| !value.0.is_empty());
    // A prefix may be nothing: the repository is the whole bucket.
    let missing = keys.iter().find(|key| key.as_str() != "KOPIA_S3_PREFIX" && !has(key))?;
    Some(MissingKey { secret: secret.metadata.name.clone().unwrap_or_default(), key: missing.clone() })
}

/// Changes whenever the credentials do, where they lead to included, and tells nothing of what is secret in them.
pub fn version(repository: &BackupRepositorySpec, user: &User<'_>, source: &Secret) -> String {
    let of_secret = (source.metadata.uid.as_deref(), source.metadata.resource_version.as_deref());
    let text = format!("{of_secret:?} {:?} {:?}", place(repository, user), repository.store);
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    hex::encode(hash).chars().take(VERSION_DIGITS).collect()
}

/// Digits of a version: enough to tell all that ever were apart.
const VERSION_DIGITS: usize = 24;

#[cfg(test)]
mod tests;
