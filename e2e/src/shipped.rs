//! What is shipped for clusters, and other people's programs that read it: helm, kustomize, promtool, kubectl.

use crate::cluster::variable;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The chart, from the root of the checkout.
pub const CHART: &str = "deploy/helm/perennial";

/// A program and the variable that names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// Helm.
    Helm,
    /// Prometheus' own checks.
    Promtool,
    /// kubectl, kustomize among its commands; on the tests' cluster where there is one.
    Kubectl,
}

impl Tool {
    /// Runs it in the root of the checkout, and answers what came of it.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn output(self, arguments: &[&str]) -> Result<Output> {
        let mut command = match self {
            Self::Helm => Command::new(variable("PERENNIAL_HELM")?),
            Self::Promtool => Command::new(variable("PERENNIAL_PROMTOOL")?),
            Self::Kubectl => {
                let mut command = Command::new(variable("PERENNIAL_KUBE")?);
                command.arg("kubectl");
                command
            }
        };
        // Never a cluster that somebody uses.
        command.env("KUBECONFIG", variable("PERENNIAL_E2E_KUBECONFIG").unwrap_or_else(|_none| "/dev/null".to_owned()));
        let output = command.args(arguments).current_dir(checkout()).output();
        output.with_context(|| format!("start {self:?} {}", arguments.join(" ")))
    }

    /// Runs it, which must end well, and answers what it said.
    ///
    /// # Errors
    /// It does not end well.
    pub fn run(self, arguments: &[&str]) -> Result<String> {
        let output = self.output(arguments)?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            bail!("{self:?} {}: {said}{}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(said)
    }

    /// Runs it, which must fail, and answers why it did.
    ///
    /// # Errors
    /// It ends well.
    pub fn refusal(self, arguments: &[&str]) -> Result<String> {
        let output = self.output(arguments)?;
        ensure!(!output.status.success(), "{self:?} {} ended well", arguments.join(" "));
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// The root of the checkout.
pub fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

/// The chart as a user's values make it, for a Kubernetes of 1.36.
///
/// # Errors
/// It does not render.
pub fn chart(arguments: &[&str]) -> Result<Vec<Value>> {
    let fixed = ["template", "perennial", CHART, "--namespace", "volsync-system", "--kube-version", "1.36.0"];
    objects(&Tool::Helm.run(&[&fixed, arguments].concat())?)
}

/// What kustomize makes of a directory.
///
/// # Errors
/// It makes nothing of it.
pub fn kustomized(directory: &str) -> Result<Vec<Value>> {
    objects(&Tool::Kubectl.run(&["kustomize", directory])?)
}

/// The documents of a YAML text that are objects.
///
/// # Errors
/// It is no YAML.
pub fn objects(text: &str) -> Result<Vec<Value>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).with_context(|| format!("read YAML: {text}"))?;
    Ok(documents.into_iter().filter(Value::is_object).collect())
}

/// Kind, namespace and name.
pub fn title(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let metadata = &object["metadata"];
    format!("{} {} {}", text(&object["kind"]), text(&metadata["namespace"]), text(&metadata["name"]))
}

/// A shell in which `kubectl` works on the tests' cluster, and `$NS` is a test's namespace.
pub struct Shell {
    namespace: String,
    /// Where `kubectl` lies.
    directory: tempfile::TempDir,
}

impl Shell {
    /// One for a namespace.
    ///
    /// # Errors
    /// Nobody says where kubectl is, or it cannot be put into place.
    pub fn new(namespace: &str) -> Result<Self> {
        let directory = tempfile::tempdir().context("make a directory")?;
        let path = directory.path().join("kubectl");
        let text = format!("#!/bin/sh\nexec '{}' kubectl \"$@\"\n", variable("PERENNIAL_KUBE")?);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
            .with_context(|| format!("make {} a program", path.display()))?;
        Ok(Self { namespace: namespace.to_owned(), directory })
    }

    /// Runs a line, which must end well and say all of that, and answers what it said.
    ///
    /// # Errors
    /// It does not.
    pub fn says(&self, line: &str, wanted: &[&str]) -> Result<String> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let paths = std::iter::once(self.directory.path().to_owned()).chain(std::env::split_paths(&path));
        let output = Command::new("sh")
            .args(["-c", line])
            .env("PATH", std::env::join_paths(paths).context("put kubectl first")?)
            .env("NS", &self.namespace)
            .env("KUBECONFIG", variable("PERENNIAL_E2E_KUBECONFIG")?)
            .current_dir(checkout())
            .output()
            .with_context(|| format!("run {line}"))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`{line}` ended with {}: {said}{complaint}", output.status);
        for word in wanted {
            ensure!(said.contains(word), "`{line}` does not say {word}: {said}{complaint}");
        }
        Ok(said)
    }
}
