//! The cluster that the tests run against.

use crate::kinds::Kind;
use anyhow::{Context, Result};
use http::HeaderValue;
use http::header::USER_AGENT;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, DynamicObject, PostParams};
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// The kubeconfig that the tests use.
const KUBECONFIG: &str = "PERENNIAL_E2E_KUBECONFIG";
/// The context in it; without it the current one.
const CONTEXT: &str = "PERENNIAL_E2E_CONTEXT";
/// The address at which pods reach servers that a test starts.
const HOST: &str = "PERENNIAL_E2E_HOST";
/// The base directory of the CSI test driver, for its gates; a foreign cluster has none.
const DRIVER: &str = "PERENNIAL_E2E_CSI";

/// A connection to it.
#[derive(Clone)]
pub struct Cluster {
    pub(crate) client: Client,
    config: Config,
    /// Names of the namespaces that were made over this connection and those made of it.
    namespaces: Arc<Mutex<Vec<String>>>,
}

impl Cluster {
    /// Connects to the cluster that the environment names.
    pub async fn connect() -> Result<Self> {
        let path = variable(KUBECONFIG)?;
        let kubeconfig = kubeconfig(&path)?;
        let context = std::env::var(CONTEXT).ok().filter(|name| !name.is_empty());
        let options = KubeConfigOptions { context, ..Default::default() };
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
        let config = config.with_context(|| format!("find the cluster in {path}"))?;
        Self::with(config, Arc::default())
    }

    fn with(config: Config, namespaces: Arc<Mutex<Vec<String>>>) -> Result<Self> {
        let client = Client::try_from(config.clone()).context("make a client")?;
        Ok(Self { client, config, namespaces })
    }

    /// The namespaces that a test has made.
    pub(crate) fn namespaces(&self) -> Vec<String> {
        self.namespaces.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn remember(&self, namespace: &str) {
        let mut known = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.iter().any(|known| known == namespace) {
            known.push(namespace.to_owned());
        }
    }

    /// The same cluster for a program of that name, by which [`Calls::of_agent`](crate::Calls::of_agent) tells its calls
    /// from those of others.
    pub fn agent(&self, name: &str) -> Result<Self> {
        let mut config = self.config.clone();
        let value = HeaderValue::from_str(name).with_context(|| format!("{name:?} cannot be a program's name"))?;
        config.headers.push((USER_AGENT, value));
        Self::with(config, self.namespaces.clone())
    }

    /// The same cluster with the rights of a service account.
    pub async fn account(&self, namespace: &str, name: &str) -> Result<Self> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let asked = accounts.create_token_request(name, &PostParams::default(), &TokenRequest::default()).await;
        let status = asked.with_context(|| format!("ask for a token of ServiceAccount {namespace}/{name}"))?.status;
        let token = status.and_then(|status| status.token).context("a token request is answered with a token")?;
        let mut config = self.config.clone();
        config.auth_info = AuthInfo { token: Some(token.into()), ..Default::default() };
        Self::with(config, self.namespaces.clone())
    }

    /// A client for calls that nothing here makes.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Objects of a kind of the whole cluster, or in all namespaces.
    pub fn all(&self, kind: &Kind) -> Api<DynamicObject> {
        Api::all_with(self.client.clone(), &kind.resource())
    }

    /// Objects of a kind in one namespace.
    pub fn within(&self, kind: &Kind, namespace: &str) -> Api<DynamicObject> {
        if kind.namespaced {
            Api::namespaced_with(self.client.clone(), namespace, &kind.resource())
        } else {
            self.all(kind)
        }
    }

    /// The address at which pods reach servers that a test starts.
    pub fn host(&self) -> Result<String> {
        variable(HOST).context("no address at which pods reach this machine: give `--host-address`")
    }

    /// The base directory of the CSI test driver: what it stores, and its gates.
    pub fn driver(&self) -> Result<PathBuf> {
        variable(DRIVER).map(PathBuf::from)
    }

    /// Opens a gate that a parameter of a class names: the driver goes on.
    pub fn open_gate(&self, name: &str) -> Result<()> {
        let path = self.driver()?.join("gates").join(name);
        std::fs::write(&path, "").with_context(|| format!("write {}", path.display()))
    }
}

/// The only one, or several that are one, as kubectl takes them.
fn kubeconfig(paths: &str) -> Result<Kubeconfig> {
    let mut merged = Kubeconfig::default();
    for path in std::env::split_paths(paths) {
        let read = Kubeconfig::read_from(&path).with_context(|| format!("read the kubeconfig {}", path.display()))?;
        merged = merged.merge(read).with_context(|| format!("add the kubeconfig {}", path.display()))?;
    }
    Ok(merged)
}

/// A variable that `cargo xtask e2e` sets.
pub(crate) fn variable(name: &str) -> Result<String> {
    std::env::var(name).with_context(|| format!("{name} is not set: run the tests by `cargo xtask e2e`"))
}
