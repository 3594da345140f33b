//! The cluster's own programs: Kubernetes, etcd and CoreDNS as one, the CSI sidecars; and those that judge what is installed
//! in one; each built once from Go modules whose `go.sum` fixes every source byte. They lie outside the checkout, under a hash of all that makes them.

use crate::cluster::image::digest;
use crate::tools;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Kubernetes' version: that of its module in `xtask/tools/cluster/go.mod`.
pub const KUBERNETES: &str = "1.36.3";

/// A module below `xtask/tools` and what is built from it.
pub struct Module {
    /// Its directory there, and in the cache.
    name: &'static str,
    /// Shown, and part of the place in the cache.
    version: &'static str,
    packages: &'static [&'static str],
    linker_flags: &'static str,
    /// Build tags, separated by commas.
    tags: &'static str,
    /// Definitions that lie in a module's sources: module, files in it, or directories of it.
    definitions: &'static [(&'static str, &'static [&'static str])],
    /// Go's number of minutes for it on two cores, for the message.
    minutes: u32,
}

/// Everything that a node runs.
pub const CLUSTER: Module = Module {
    name: "cluster",
    version: KUBERNETES,
    packages: &["./cmd/...", "tool"],
    // A module build leaves the version of Kubernetes unset, and clients parse it.
    linker_flags: "-s -w \
        -X k8s.io/component-base/version.gitVersion=v1.36.3 -X k8s.io/component-base/version.gitMajor=1 \
        -X k8s.io/component-base/version.gitMinor=36 -X k8s.io/component-base/version.gitTreeState=clean \
        -X k8s.io/client-go/pkg/version.gitVersion=v1.36.3 -X k8s.io/client-go/pkg/version.gitMajor=1 \
        -X k8s.io/client-go/pkg/version.gitMinor=36 -X k8s.io/client-go/pkg/version.gitTreeState=clean",
    tags: "",
    definitions: &[
        (
            "github.com/kubernetes-csi/external-snapshotter/client/v8",
            &[
                "config/crd/snapshot.storage.k8s.io_volumesnapshotclasses.yaml",
                "config/crd/snapshot.storage.k8s.io_volumesnapshotcontents.yaml",
                "config/crd/snapshot.storage.k8s.io_volumesnapshots.yaml",
            ],
        ),
        ("sigs.k8s.io/gateway-api", &["config/crd/standard/gateway.networking.k8s.io_referencegrants.yaml"]),
    ],
    minutes: 10,
};

/// External Secrets, as one program with all of its providers. Later versions are split into modules that nobody can get.
pub const EXTERNAL_SECRETS: Module = Module {
    name: "external-secrets",
    version: "0.19.2",
    packages: &["tool"],
    linker_flags: "-s -w",
    tags: "",
    definitions: &[("github.com/external-secrets/external-secrets", &["config/crds/bases"])],
    minutes: 8,
};

/// helm 3.22.0 and promtool 3.15.0 for what is in `deploy`: one module, since half of what they are built from is the same.
/// Ways to find what to scrape are left out, which promtool's checks do not use.
pub const DEPLOY: Module = Module {
    name: "deploy",
    version: "3.22.0",
    packages: &["tool"],
    linker_flags: "-s -w -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=36",
    tags: "remove_all_sd",
    definitions: &[],
    minutes: 4,
};

/// The compiler's own garbage collector and debug information that the linker would drop again take a sixth of the
/// processor time. Without the collector a compiler process takes up to 1.1 GiB.
const COMPILER: [&str; 4] = ["-mod=readonly", "-buildvcs=false", "-trimpath", "-gcflags=all=-dwarf=false"];
const COLLECTOR: &str = "off";

/// Oldest Go that the modules build with.
const GO_OLDEST: (u32, u32) = (1, 26);

/// The directory with a module's programs; they are built first where they are missing.
pub fn ensure(root: &Path, module: &Module) -> Result<PathBuf> {
    let sources = root.join("xtask/tools").join(module.name);
    let key = key(module, &sources)?;
    let directory = tools::cache_directory()?.join(module.name).join(format!("{}-{key}", module.version));
    if !directory.is_dir() {
        build(module, &sources, &directory).with_context(|| format!("build {} {}", module.name, module.version))?;
    }
    Ok(directory)
}

/// Hash of the module's files and of the flags.
fn key(module: &Module, sources: &Path) -> Result<String> {
    let mut text = format!("{COMPILER:?} {COLLECTOR} {} {:?}\n", module.linker_flags, module.definitions);
    if !module.tags.is_empty() {
        text.push_str(&format!("tags {}\n", module.tags));
    }
    for file in files(sources)? {
        let content = std::fs::read(&file).with_context(|| format!("read {}", file.display()))?;
        text.push_str(&format!("{} {}\n", file.strip_prefix(sources).unwrap_or(&file).display(), digest(&content)));
    }
    Ok(digest(text.as_bytes()).chars().take(12).collect())
}

fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        let entries = std::fs::read_dir(&directory).with_context(|| format!("list {}", directory.display()))?;
        for entry in entries {
            let path = entry.with_context(|| format!("list {}", directory.display()))?.path();
            if path.is_dir() { open.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    Ok(files)
}

/// Builds beside the final place and renames, so that half of the programs are never found there.
fn build(module: &Module, sources: &Path, directory: &Path) -> Result<()> {
    let go = tools::find_go(GO_OLDEST)?;
    let unfinished = directory.with_extension(format!("{}.unfinished", std::process::id()));
    std::fs::create_dir_all(&unfinished).with_context(|| format!("make {}", unfinished.display()))?;
    println!(
        "{} {}: building with {} (about {} minutes on a fresh machine with two cores)",
        module.name,
        module.version,
        go.display(),
        module.minutes
    );
    let child = command(&go, sources)
        .arg("build")
        .args(COMPILER)
        .args(["-tags", module.tags, "-ldflags", module.linker_flags, "-o"])
        .arg(format!("{}/", unfinished.display()))
        .args(module.packages)
        .env("GOGC", COLLECTOR)
        .spawn()
        .with_context(|| format!("start {}", go.display()))?;
    let status = tools::wait_aloud(child, &format!("{} {}: still building", module.name, module.version))?;
    if !status.success() {
        bail!("go build ended with {status}; what it said stands above");
    }
    let definitions = unfinished.join("definitions");
    std::fs::create_dir_all(&definitions).with_context(|| format!("make {}", definitions.display()))?;
    for (source, names) in module.definitions {
        let place = place(&go, sources, source)?;
        for name in *names {
            let path = place.join(name);
            let found = if path.is_dir() { files(&path)? } else { vec![path] };
            // A list of the others lies beside them.
            for file in found.iter().filter(|file| !file.ends_with("kustomization.yaml")) {
                copy(file, &definitions.join(file.file_name().context("a definition is a file")?))?;
            }
        }
    }
    std::fs::rename(&unfinished, directory).with_context(|| format!("rename to {}", directory.display()))
}

/// Read and written, not copied: the module cache is read-only, and a copy would be as well.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let content = std::fs::read(from).with_context(|| format!("read {}", from.display()))?;
    std::fs::write(to, content).with_context(|| format!("write {}", to.display()))
}

/// Where Go has unpacked a module that ours requires.
fn place(go: &Path, sources: &Path, module: &str) -> Result<PathBuf> {
    let output = command(go, sources).args(["list", "-m", "-f", "{{.Dir}}", module]).output().context("run go list")?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !output.status.success() || said.is_empty() {
        bail!("go list {module}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(PathBuf::from(said))
}

fn command(go: &Path, sources: &Path) -> Command {
    let mut command = Command::new(go);
    command.current_dir(sources).stdin(Stdio::null());
    command.env("CGO_ENABLED", "0").env("GOTOOLCHAIN", "local").env("GOWORK", "off");
    command
}
