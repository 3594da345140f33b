//! `cargo xtask crds`: the definitions of our kinds, generated from their types.
//!
//! An example of `api` writes them: linked here, Kubernetes' types would be built for every chore.

use crate::checkout;
use anyhow::{Context, Result, bail};
use std::path::Path;

/// Where the definitions are.
const DIRECTORY: &str = "deploy/crds";

/// Writes them all.
pub fn run(root: &Path) -> Result<()> {
    let directory = root.join(DIRECTORY);
    std::fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
    let arguments = ["run", "--quiet", "--package", "api", "--example", "crds", "--", DIRECTORY];
    let status = checkout::cargo(root).args(arguments).status().context("run cargo")?;
    if !status.success() {
        bail!("the example that writes the definitions ended with {status}; what it said stands above");
    }
    println!("{DIRECTORY} holds what the types say");
    Ok(())
}
