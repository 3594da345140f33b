//! `cargo xtask deploy`: what we ship for clusters. It writes what follows from types and lists; `--check` has other
//! people's tools judge all of it: helm, kustomize, promtool.
//!
//! An example of `api` writes: linked here, Kubernetes' types would be built for every chore.

use crate::checkout;
use crate::cluster::programs;
use anyhow::{Context, Result, bail};
use clap::Args;
use std::path::Path;
use std::process::{Command, Stdio};

/// What is shipped.
const DIRECTORY: &str = "deploy";

/// Where the tests look for helm, promtool and kubectl.
const HELM: &str = "PERENNIAL_HELM";
const PROMTOOL: &str = "PERENNIAL_PROMTOOL";
const KUBE: &str = "PERENNIAL_KUBE";

/// What `cargo xtask deploy` may be told.
#[derive(Args)]
pub struct Options {
    /// Write nothing: build helm, promtool and kubectl where they are missing, and run the tests that use them
    #[arg(long)]
    check: bool,
    /// With `--check`, only tests whose names contain one of these
    #[arg(requires = "check")]
    filters: Vec<String>,
}

/// Writes, or checks.
pub fn run(root: &Path, options: &Options) -> Result<()> {
    if options.check { check(root, &options.filters) } else { write(root) }
}

fn write(root: &Path) -> Result<()> {
    checkout::build(root, ["--example", "deploy"])?;
    let example = checkout::target_directory(root).join("debug/examples/deploy");
    let status = Command::new(&example).arg(DIRECTORY).current_dir(root).status();
    let status = status.with_context(|| format!("run {}", example.display()))?;
    if !status.success() {
        bail!("the example that writes ended with {status}; what it said stands above");
    }
    println!("{DIRECTORY} holds what the types and lists say");
    Ok(())
}

fn check(root: &Path, filters: &[String]) -> Result<()> {
    let mut command = checkout::cargo(root);
    command.arg("test").args(checkout::EVERYTHING).args(["--test", "deploy", "--"]).args(filters);
    show_tools(root, &mut command)?;
    // An error says what differs; where in the program that was is noise of two pages.
    command.env("RUST_BACKTRACE", "0");
    let status = command.stdin(Stdio::null()).status().context("run cargo test")?;
    if !status.success() {
        bail!("cargo test ended with {status}; what it said stands above");
    }
    Ok(())
}

/// Tells tests where the tools are; they are built first where they are missing.
pub fn show_tools(root: &Path, command: &mut Command) -> Result<()> {
    let tools = programs::ensure(root, &programs::DEPLOY)?;
    command.env(HELM, tools.join("helm")).env(PROMTOOL, tools.join("promtool"));
    command.env(KUBE, programs::ensure(root, &programs::CLUSTER)?.join("kube"));
    Ok(())
}
