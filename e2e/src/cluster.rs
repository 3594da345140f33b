//! The cluster that the tests run against.

use crate::kinds::Kind;
use anyhow::{Context, Result};
use kube::api::{Api, DynamicObject};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use std::path::PathBuf;

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
}

impl Cluster {
    /// Connects to the cluster that the environment names.
    pub async fn connect() -> Result<Self> {
        let path = variable(KUBECONFIG)?;
        let kubeconfig = Kubeconfig::read_from(&path).with_context(|| format!("read the kubeconfig {path}"))?;
        let context = std::env::var(CONTEXT).ok().filter(|name| !name.is_empty());
        let options = KubeConfigOptions { context, ..Default::default() };
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
        let config = config.with_context(|| format!("find the cluster in {path}"))?;
        Ok(Self { client: Client::try_from(config).context("make a client")? })
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
        variable(HOST)
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

/// A variable that `cargo xtask e2e` sets.
pub(crate) fn variable(name: &str) -> Result<String> {
    std::env::var(name).with_context(|| format!("{name} is not set: run the tests by `cargo xtask e2e`"))
}
