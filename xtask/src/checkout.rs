//! What there is in the checkout: its root, its files as git sees them, its packages as cargo sees them.

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Platforms that the image and the command are built for; dependencies of others are not looked at.
const PLATFORMS: [&str; 2] = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];

/// The checkout's root directory: the parent of this package.
pub fn root() -> Result<PathBuf> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = package.parent().context("xtask lies in the workspace")?;
    if !root.join("Cargo.toml").is_file() {
        bail!("{} is no longer the checkout that xtask was built in: run it as `cargo xtask`", root.display());
    }
    Ok(root.to_owned())
}

/// Where cargo puts what it builds.
pub fn target_directory(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |target| root.join(target))
}

/// The cargo that runs us, so that a pinned toolchain stays the same one.
pub fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    // What cargo tells xtask about itself. Build scripts that look at these, such as that of ring, would run again each time
    // cargo is started by us after it was started by hand, or the other way round, and all that depends on them be built anew.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| OUR_OWN.iter().any(|front| name.starts_with(front))) {
            command.env_remove(name);
        }
    }
    command
}

/// Which packages cargo is told to look at for whatever part of the workspace is built for development. What a dependency
/// is built with follows from all packages that are looked at: with one choice for all, each is built once.
pub const EVERYTHING: [&str; 2] = ["--workspace", "--all-features"];

/// Builds one program or example of the workspace, `--bin NAME` or `--example NAME`.
pub fn build(root: &Path, what: [&str; 2]) -> Result<()> {
    let mut command = cargo(root);
    let status = command.args(["build", "--quiet"]).args(EVERYTHING).args(what).stdin(Stdio::null()).status();
    if !status.context("run cargo build")?.success() {
        bail!("cargo build {}: what it said stands above", what.join(" "));
    }
    Ok(())
}

/// Beginnings of variables that `cargo run` sets for the program that it runs.
const OUR_OWN: [&str; 5] =
    ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_PRIMARY_PACKAGE", "CARGO_CRATE_NAME", "CARGO_BIN_NAME"];

/// Files that git has or would take in, relative to the root, sorted; new files count before they are added.
pub fn files(root: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("run git ls-files")?;
    if !output.status.success() {
        bail!("git ls-files: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let names = String::from_utf8(output.stdout).context("git lists a file name that is not UTF-8")?;
    let files: BTreeSet<PathBuf> = names.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from).collect();
    Ok(files.into_iter().filter(|file| root.join(file).is_file()).collect())
}

/// A package of the resolved graph.
#[derive(Debug, Deserialize)]
pub struct Package {
    pub id: String,
    pub name: String,
    pub version: String,
    pub license: Option<String>,
    /// Absent for our own.
    pub source: Option<String>,
    pub manifest_path: PathBuf,
    pub dependencies: Vec<Dependency>,
    pub targets: Vec<Target>,
}

/// One line of a manifest's dependencies.
#[derive(Debug, Deserialize)]
pub struct Dependency {
    pub name: String,
    pub req: String,
    /// `None` for a normal one, else `dev` or `build`.
    pub kind: Option<String>,
    /// Absent for a path.
    pub source: Option<String>,
}

/// A library, program or test binary of a package.
#[derive(Debug, Deserialize)]
pub struct Target {
    pub name: String,
    pub kind: Vec<String>,
    pub src_path: PathBuf,
    /// It is built only with these features of its package.
    #[serde(default, rename = "required-features")]
    pub required_features: Vec<String>,
}

#[derive(Deserialize)]
struct Raw {
    packages: Vec<Package>,
    workspace_members: BTreeSet<String>,
    resolve: RawResolve,
}

#[derive(Deserialize)]
struct RawResolve {
    nodes: Vec<RawNode>,
}

#[derive(Deserialize)]
struct RawNode {
    id: String,
    deps: Vec<RawEdge>,
}

#[derive(Deserialize)]
struct RawEdge {
    pkg: String,
    dep_kinds: Vec<RawKind>,
}

#[derive(Deserialize)]
struct RawKind {
    kind: Option<String>,
}

/// What `cargo metadata` says.
pub struct Metadata {
    pub packages: BTreeMap<String, Package>,
    members: BTreeSet<String>,
    /// Package id → ids it needs to run or to be built, development dependencies left out.
    needs: BTreeMap<String, Vec<String>>,
}

impl Metadata {
    /// Reads it from the lock file as it is; goes to the registry only for manifests that this machine lacks.
    pub fn load(root: &Path) -> Result<Self> {
        let offline = Self::ask(root, &["--offline"]);
        offline.or_else(|_| Self::ask(root, &[]))
    }

    fn ask(root: &Path, more: &[&str]) -> Result<Self> {
        let mut command = cargo(root);
        command.args(["metadata", "--format-version=1", "--all-features", "--locked"]).args(more);
        for platform in PLATFORMS {
            command.args(["--filter-platform", platform]);
        }
        let output = command.output().context("run cargo metadata")?;
        if !output.status.success() {
            bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let raw: Raw = serde_json::from_slice(&output.stdout).context("decode cargo metadata")?;
        Ok(Self::from_raw(raw))
    }

    fn from_raw(raw: Raw) -> Self {
        let wanted = |edge: &RawEdge| edge.dep_kinds.iter().any(|kind| kind.kind.as_deref() != Some("dev"));
        let needs = raw.resolve.nodes.into_iter().map(|node| {
            let ids = node.deps.into_iter().filter(wanted).map(|edge| edge.pkg);
            (node.id, ids.collect())
        });
        let needs: BTreeMap<String, Vec<String>> = needs.collect();
        let packages = raw.packages.into_iter().map(|package| (package.id.clone(), package)).collect();
        Self { packages, members: raw.workspace_members, needs }
    }

    /// Our own packages.
    pub fn members(&self) -> impl Iterator<Item = &Package> {
        self.members.iter().filter_map(|id| self.packages.get(id))
    }

    /// Everything `package` pulls in, itself left out, development dependencies left out.
    pub fn closure(&self, package: &Package) -> Vec<&Package> {
        let mut seen = BTreeSet::new();
        let mut open = vec![package.id.as_str()];
        while let Some(id) = open.pop() {
            for next in self.needs.get(id).into_iter().flatten() {
                if seen.insert(next.as_str()) {
                    open.push(next);
                }
            }
        }
        seen.into_iter().filter_map(|id| self.packages.get(id)).collect()
    }
}
