//! An operator that runs beside a test, as a process of this machine.

use crate::cluster::variable;
use anyhow::{Context, Result, ensure};
use std::process::{Child, Command, Stdio};

/// The product's program.
const PROGRAM: &str = "PERENNIAL_E2E_PROGRAM";
/// The kubeconfig that the tests use; the program takes it from `KUBECONFIG`.
const KUBECONFIG: &str = "PERENNIAL_E2E_KUBECONFIG";

/// By this name the API server's log knows its calls.
pub const OPERATOR_AGENT: &str = concat!("perennial-operator/", env!("CARGO_PKG_VERSION"));

/// The product's program, to be told what it is to do.
pub fn program() -> Result<Command> {
    Ok(Command::new(variable(PROGRAM)?))
}

/// A running operator; dropping it ends it at once.
pub struct Operator {
    process: Child,
}

impl Operator {
    /// Starts one that works in this namespace.
    pub fn start(namespace: &str) -> Result<Self> {
        let process = program()?
            .args(["operator", "--listen", "127.0.0.1:0", "--image", "localhost/perennial:test"])
            .args(["--namespace", namespace, "--pod", "beside-a-test"])
            .env("KUBECONFIG", variable(KUBECONFIG)?)
            .stdin(Stdio::null())
            .spawn()
            .context("start the operator")?;
        Ok(Self { process })
    }

    /// The most memory it has had so far, in KiB.
    pub fn peak_memory_kib(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        line.trim().trim_end_matches(" kB").parse().with_context(|| format!("VmHWM is {line:?}"))
    }

    /// Asks it to end, and waits until it has.
    pub fn stop(mut self) -> Result<()> {
        let asked = Command::new("kill").arg(self.process.id().to_string()).status().context("run kill")?;
        ensure!(asked.success(), "kill {}: {asked}", self.process.id());
        let ended = self.process.wait().context("wait for the operator")?;
        ensure!(ended.success(), "the operator ended with {ended}");
        Ok(())
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        // One that has ended is as good.
        let _ended = self.process.kill().and_then(|()| self.process.wait());
    }
}
