//! Writes: each says what it wrote, none writes what is there already, and none takes a field from somebody else.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::Error;
use crate::names::FIELD_MANAGER;

/// What the operator's own objects have in common.
pub trait Object: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned + Send + 'static {}

impl<K: Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned + Send + 'static> Object for K {}

/// Applies an object of a namespace by server-side apply, unless `live` has all of it already. Answers whether it wrote.
///
/// # Errors
/// The API server's, a conflict with another field manager among them: nothing is forced.
pub async fn apply<K>(client: &Client, live: Option<&K>, wanted: &K) -> Result<bool, Error>
where
    K: Object + Resource<Scope = NamespaceResourceScope>,
{
    let what = describe(wanted);
    let body = encode(&what, wanted)?;
    if let Some(live) = live
        && contains(&encode(&what, live)?, &body)
    {
        return Ok(false);
    }
    let api: Api<K> = Api::namespaced(client.clone(), wanted.namespace().as_deref().unwrap_or_default());
    let params = PatchParams::apply(FIELD_MANAGER);
    let name = wanted.name_any();
    api.patch(&name, &params, &Patch::Apply(&body)).await.map_err(Error::kubernetes(format!("apply {what}")))?;
    tracing::debug!(object = what, "applied");
    Ok(true)
}

/// Creates an object. One that exists already is left as it is, whoever made it, and the answer is false.
pub async fn create<K>(client: &Client, wanted: &K) -> Result<bool, Error>
where
    K: Object + Resource<Scope = NamespaceResourceScope>,
{
    let what = describe(wanted);
    let api: Api<K> = Api::namespaced(client.clone(), wanted.namespace().as_deref().unwrap_or_default());
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    match api.create(&params, wanted).await {
        Ok(_) => {
            tracing::debug!(object = what, "created");
            Ok(true)
        }
        Err(kube::Error::Api(status)) if status.code == 409 && status.reason == "AlreadyExists" => Ok(false),
        Err(error) => Err(Error::kubernetes(format!("create {what}"))(error)),
    }
}

/// Deletes exactly this object, and not one of the same name that came after it. That it is gone is as good.
pub async fn delete<K>(client: &Client, object: &K) -> Result<(), Error>
where
    K: Object + Resource<Scope = NamespaceResourceScope>,
{
    let what = describe(object);
    if object.meta().deletion_timestamp.is_some() {
        return Ok(());
    }
    let api: Api<K> = Api::namespaced(client.clone(), object.namespace().as_deref().unwrap_or_default());
    let params = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Background),
        preconditions: Some(Preconditions { uid: object.uid(), resource_version: None }),
        ..DeleteParams::default()
    };
    match api.delete(&object.name_any(), &params).await {
        Ok(_) => {
            tracing::debug!(object = what, "deleted");
            Ok(())
        }
        // Gone, or another one by now.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(Error::kubernetes(format!("delete {what}"))(error)),
    }
}

/// Changes members of an object as a merge patch says.
pub async fn merge<K>(api: &Api<K>, name: &str, change: &Value, what: &str) -> Result<K, Error>
where
    K: Clone + Debug + DeserializeOwned,
{
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    api.patch(name, &params, &Patch::Merge(change)).await.map_err(Error::kubernetes(what))
}

/// Changes members of an object's status as a merge patch says.
pub async fn merge_status<K>(api: &Api<K>, name: &str, change: &Value, what: &str) -> Result<K, Error>
where
    K: Clone + Debug + DeserializeOwned,
{
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    api.patch_status(name, &params, &Patch::Merge(change)).await.map_err(Error::kubernetes(what))
}

/// A merge patch from one status to the other: what is gone is set to null.
pub fn difference(before: &Value, mut after: Value) -> Value {
    if let (Value::Object(before), Value::Object(after)) = (before, &mut after) {
        for gone in before.keys() {
            after.entry(gone.clone()).or_insert(Value::Null);
        }
    }
    after
}

/// Kind, namespace and name, for errors and logs.
pub fn describe<K: Resource<DynamicType = ()>>(object: &K) -> String {
    let name = object.meta().name.as_deref().unwrap_or_default();
    match object.meta().namespace.as_deref() {
        Some(namespace) => format!("{} {namespace}/{name}", K::kind(&())),
        None => format!("{} {name}", K::kind(&())),
    }
}

fn encode<K: Serialize>(what: &str, object: &K) -> Result<Value, Error> {
    serde_json::to_value(object).map_err(|source| Error::Encode { what: what.to_owned(), source })
}

/// Whether `live` has everything that `wanted` says. Lists count as a whole, but for additions of defaults in their items.
fn contains(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| live.get(key).is_some_and(|live| contains(live, wanted)))
        }
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(live, wanted)| contains(live, wanted))
        }
        (live, wanted) => live == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_there_already_is_not_written() {
        let live = json!({"metadata": {"name": "a", "uid": "x"}, "spec": {"ports": [{"port": 80, "protocol": "TCP"}]}});
        assert!(contains(&live, &json!({"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}})));
        assert!(!contains(&live, &json!({"metadata": {"name": "b"}})));
        assert!(!contains(&live, &json!({"spec": {"ports": []}})));
        assert!(!contains(&live, &json!({"spec": {"ports": [{"port": 80}, {"port": 81}]}})));
        assert!(!contains(&live, &json!({"spec": {"type": "ClusterIP"}})));
    }
}
