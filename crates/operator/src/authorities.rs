//! Certificate authorities that somebody gives a mover or a catalog beside the system's.
//!
//! A repository names a Secret of the installation; pods mount Secrets of their own namespace, so that each namespace gets a
//! copy of that one key, beside the credentials, which stay as they are.

use std::collections::BTreeMap;

use api::v1alpha1::BackupRepositorySpec;
use api::v1alpha1::store::{SecretKey, Store};
use api::volsync::options::CustomCa;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMapVolumeSource, KeyToPath, Secret, SecretVolumeSource, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::context::Context;
use crate::error::Error;

/// The key of a copy, and the file's name wherever it is mounted.
pub const KEY: &str = "ca.crt";

/// Where they are mounted.
pub const PATH: &str = "/customCA";

/// The variable that names the file.
pub const VARIABLE: (&str, &str) = ("CUSTOM_CA", "/customCA/ca.crt");

/// One key of an object in the pod's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authorities {
    /// Of a Secret.
    Secret {
        /// The Secret.
        name: String,
        /// The key.
        key: String,
    },
    /// Of a ConfigMap.
    ConfigMap {
        /// The ConfigMap.
        name: String,
        /// The key.
        key: String,
    },
}

impl Authorities {
    /// What a section says. Without a key nothing is meant; a Secret outweighs a ConfigMap. Source: VolSync API §1.5.
    pub fn of(given: Option<&CustomCa>) -> Option<Self> {
        let said = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let given = given?;
        let key = said(&given.key)?;
        match (said(&given.secret_name), said(&given.config_map_name)) {
            (Some(name), _) => Some(Self::Secret { name, key }),
            (None, Some(name)) => Some(Self::ConfigMap { name, key }),
            (None, None) => None,
        }
    }

    /// As a pod mounts them.
    pub fn volume(&self) -> Volume {
        let item = |key: &str| KeyToPath { key: key.to_owned(), path: KEY.to_owned(), mode: None };
        match self {
            Self::Secret { name, key } => Volume {
                secret: Some(SecretVolumeSource {
                    secret_name: Some(name.clone()),
                    items: Some(vec![item(key)]),
                    default_mode: Some(0o444),
                    ..SecretVolumeSource::default()
                }),
                ..Volume::default()
            },
            Self::ConfigMap { name, key } => Volume {
                config_map: Some(ConfigMapVolumeSource {
                    name: name.clone(),
                    items: Some(vec![item(key)]),
                    ..ConfigMapVolumeSource::default()
                }),
                ..Volume::default()
            },
        }
    }

    /// What is missing of them, in words. ConfigMaps are not looked at: nobody has to let us read them all.
    ///
    /// # Errors
    /// The API server does not answer.
    pub async fn checked(&self, context: &Context, namespace: &str) -> Result<Result<(), String>, Error> {
        match self {
            Self::Secret { name, key } => {
                let found = context.secret(namespace, name).await?;
                Ok(value(found.as_deref(), namespace, name, key).map(drop))
            }
            Self::ConfigMap { .. } => Ok(Ok(())),
        }
    }
}

fn value(secret: Option<&Secret>, namespace: &str, name: &str, key: &str) -> Result<ByteString, String> {
    let secret = secret.ok_or_else(|| format!("there is no Secret {namespace}/{name} with certificate authorities"))?;
    let value = secret.data.as_ref().and_then(|data| data.get(key)).filter(|value| !value.0.is_empty());
    value.cloned().ok_or_else(|| format!("Secret {namespace}/{name} has no key {key}, or nothing in it"))
}

/// The Secret that a repository names for them, if it does.
pub fn wanted(repository: &BackupRepositorySpec) -> Option<&SecretKey> {
    match &repository.store {
        Store::S3(s3) => s3.ca_secret.as_ref(),
        Store::Nfs(_) | Store::Claim(_) => None,
    }
}

/// Where the copy for these credentials is.
pub fn copy_of(repository: &BackupRepositorySpec, credentials: &str) -> Option<Authorities> {
    wanted(repository).map(|_| Authorities::Secret { name: copy_name(credentials), key: KEY.to_owned() })
}

/// The Secret with the copy beside these credentials.
pub fn copy_name(credentials: &str) -> String {
    format!("{credentials}-ca")
}

/// What a repository's authorities are now: the copy as it has to be, and what tells it from others. None where the
/// repository names none; an error is what is missing, in words.
///
/// # Errors
/// The API server does not answer.
pub async fn copy(
    repository: &BackupRepositorySpec,
    metadata: ObjectMeta,
    context: &Context,
) -> Result<Result<Option<(Secret, String)>, String>, Error> {
    let Some(wanted) = wanted(repository) else { return Ok(Ok(None)) };
    let namespace = wanted.namespace.as_deref().unwrap_or(&context.settings.namespace);
    let source = context.secret(namespace, &wanted.name).await?;
    let value = match value(source.as_deref(), namespace, &wanted.name, &wanted.key) {
        Ok(value) => value,
        Err(why) => return Ok(Err(why)),
    };
    let version = source.and_then(|source| source.metadata.resource_version.clone()).unwrap_or_default();
    let secret = Secret {
        metadata,
        data: Some(BTreeMap::from([(KEY.to_owned(), value)])),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    };
    Ok(Ok(Some((secret, version))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn what_a_section_says() {
        let check = |given: Value, expected: Option<(&str, &str, &str)>| {
            let given: CustomCa = serde_json::from_value(given).unwrap();
            let found = Authorities::of(Some(&given));
            let found = found.as_ref().map(|found| match found {
                Authorities::Secret { name, key } => ("secret", name.as_str(), key.as_str()),
                Authorities::ConfigMap { name, key } => ("map", name.as_str(), key.as_str()),
            });
            assert_eq!(found, expected);
        };
        check(json!({"secretName": "a", "configMapName": "b", "key": "k"}), Some(("secret", "a", "k")));
        check(json!({"secretName": "", "configMapName": "b", "key": "k"}), Some(("map", "b", "k")));
        check(json!({"secretName": "a", "configMapName": "b"}), None);
        check(json!({"secretName": "a", "key": ""}), None);
        check(json!({"key": "k"}), None);
        assert_eq!(Authorities::of(None), None);
    }

    #[test]
    fn the_file_has_one_name_whatever_the_key() {
        let map = Authorities::ConfigMap { name: "b".to_owned(), key: "k".to_owned() };
        let volume = serde_json::to_value(map.volume()).unwrap();
        assert_eq!(
            volume.pointer("/configMap"),
            Some(&json!({"name": "b", "items": [{"key": "k", "path": "ca.crt"}]}))
        );
        let secret = Authorities::Secret { name: "a".to_owned(), key: "k".to_owned() };
        let volume = serde_json::to_value(secret.volume()).unwrap();
        assert_eq!(volume.pointer("/secret/items"), Some(&json!([{"key": "k", "path": "ca.crt"}])));
    }
}
