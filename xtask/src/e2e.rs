//! `cargo xtask e2e`: the tests that need a cluster, on one of their own or on one that exists.

use crate::cluster::settings::Cluster;
use crate::cluster::{self, down, image, images, packages, programs, settings, up};
use crate::product_image::{self, Profile};
use crate::{checkout, deploy, elapsed, tools};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// What `cargo xtask e2e` may be told.
#[derive(Args)]
pub struct Options {
    /// Use this cluster of `cargo xtask cluster`, which is brought up if it is down, and leave it up
    #[arg(long, conflicts_with = "context")]
    name: Option<String>,
    /// Run those tests that need API server and etcd alone, on such a cluster
    #[arg(long, conflicts_with = "context")]
    control_plane: bool,
    /// Measure the product's main job, for docs/benchmarks.md
    #[arg(long, conflicts_with_all = ["context", "control_plane"])]
    measure: bool,
    /// Use the cluster of this context of your kubeconfig; docs/testing.md says what it needs
    #[arg(long)]
    context: Option<String>,
    /// Address at which pods of that cluster reach this machine
    #[arg(long, requires = "context")]
    host_address: Option<String>,
    /// Make the archives of the images that a cluster needs for the tests, say where they are, and run nothing
    #[arg(long, conflicts_with_all = ["name", "context", "control_plane"])]
    images: bool,
    /// Build the product for development: in seconds instead of minutes
    #[arg(long)]
    dev: bool,
    /// No tests whose names contain this; may be given several times
    #[arg(long, value_name = "FILTER")]
    skip: Vec<String>,
    /// Only tests whose names contain one of these
    filters: Vec<String>,
}

/// Tells the product's story on a cluster: `cargo xtask cluster demo`.
pub fn demo(root: &Path, cluster: &Cluster, profile: Profile) -> Result<()> {
    if !cluster.is_up()? {
        up::up(root, cluster, &up::Options::default())?;
    }
    cluster::load(cluster, &product_image::build(root, profile, None)?)?;
    install(root, cluster, &[KINDS, NAMESPACE, PRODUCT])?;
    tell(root, cluster.kubeconfig().as_os_str(), &cluster.context(), &cluster.network()?.host())?;
    println!("the cluster stays: `cargo xtask cluster --name {} down` takes it away", cluster.name);
    Ok(())
}

/// The same on the cluster of a context, which has the product and its image.
pub fn demo_on_context(root: &Path, context: &str, host_address: &str) -> Result<()> {
    tell(root, &foreign_kubeconfig()?, context, host_address)
}

fn tell(root: &Path, kubeconfig: &OsStr, context: &str, host_address: &str) -> Result<()> {
    checkout::build(root, ["--bin", "cluster-demo"])?;
    let mut command = Command::new(checkout::target_directory(root).join("debug/cluster-demo"));
    command
        .current_dir(root)
        .env(tools::VERSITYGW.variable, tools::ensure(root, &tools::VERSITYGW)?)
        .env("PERENNIAL_E2E_KUBECONFIG", kubeconfig)
        .env("PERENNIAL_E2E_CONTEXT", context)
        .env("PERENNIAL_E2E_HOST", host_address);
    let status = command.stdin(Stdio::null()).status().context("run cargo")?;
    if !status.success() {
        bail!("the demo ended with {status}; what it said stands above");
    }
    Ok(())
}

/// Tests that need our own CSI driver or the audit log, or a node that nothing leaves.
const OWN_CLUSTER: [&str; 5] = ["calls::", "devices::", "driver::", "isolation::", "knobs::"];

/// Tests at a time: they wait for the cluster most of the time.
const THREADS: &str = "--test-threads=8";

/// Tests that take the product away from all others: they run after those, one at a time.
const LAST: [&str; 2] = ["--test", "installation"];

/// Builds the tests, finds or makes the cluster, and runs them.
pub fn run(root: &Path, options: &Options) -> Result<()> {
    if options.images {
        let directory = checkout::target_directory(root).join("images");
        std::fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
        images::write(&packages::ensure(&packages::NODE)?, &directory)?;
        println!("{}", directory.join("busybox.tar").display());
        archives(root, options)?.iter().for_each(|archive| println!("{}", archive.display()));
        return Ok(());
    }
    let last: &[&str] = if options.control_plane || options.measure { &[] } else { &LAST };
    let all: Vec<&str> = targets(options).iter().chain(last).copied().collect();
    let built = tests(root, &all, &["--no-run"])?.stdin(Stdio::null()).status().context("run cargo")?;
    if !built.success() {
        bail!("the tests do not build; what cargo said stands above");
    }
    match (&options.context, &options.name) {
        (Some(context), _) => on_foreign(root, options, context),
        (None, Some(name)) => {
            let cluster = Cluster::new(name)?;
            if !cluster.is_up()? {
                up::up(root, &cluster, &wanted(options))?;
            }
            on_own(root, options, &cluster)
        }
        (None, None) => on_new(root, options),
    }
}

/// What the tests want of a cluster.
fn wanted(options: &Options) -> up::Options {
    match options.control_plane {
        true => up::Options { control_plane: true, ..Default::default() },
        false => up::Options { with: vec![up::Component::ExternalSecrets], ..Default::default() },
    }
}

/// On a cluster that exists only for this.
fn on_new(root: &Path, options: &Options) -> Result<()> {
    // Named after the checkout, so that two of them do not take each other's away.
    let key: String = image::digest(root.as_os_str().as_encoded_bytes()).chars().take(6).collect();
    let kind = if options.control_plane { "cp" } else { "e2e" };
    let cluster = Cluster::new(&format!("{kind}-{key}"))?;
    let brought_up = up::up_for_us(root, &cluster, &wanted(options));
    let outcome = brought_up.and_then(|_alive| on_own(root, options, &cluster));
    if outcome.is_err() {
        keep_logs(root, &cluster)?;
    }
    let _lock = settings::lock()?;
    let started = Instant::now();
    let taken_down = down::down(&cluster);
    println!("cluster {} is down, {}", cluster.name, elapsed::text(started.elapsed()));
    outcome.and(taken_down)
}

/// Where the tests keep what they leave behind when they fail. What an earlier run kept is removed.
fn kept(root: &Path) -> Result<PathBuf> {
    let directory = checkout::target_directory(root).join("xtask-logs/e2e");
    match std::fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", directory.display()))
        }
        _ => Ok(directory),
    }
}

fn on_own(root: &Path, options: &Options, cluster: &Cluster) -> Result<()> {
    let profile = profile(options);
    match options.control_plane {
        // Nothing runs pods there.
        true => {
            product_image::program(root, profile)?;
            install(root, cluster, &[KINDS])?;
        }
        false => {
            for archive in archives(root, options)? {
                cluster::load(cluster, &archive)?;
            }
            install(root, cluster, &[KINDS, NAMESPACE, PRODUCT])?;
        }
    }
    let logs = kept(root)?;
    let threads = if options.measure { "--test-threads=1" } else { THREADS };
    let first = run_on(root, options, (cluster, &logs), targets(options), threads);
    if options.control_plane || options.measure {
        return first;
    }
    first.and(run_on(root, options, (cluster, &logs), &LAST, "--test-threads=1"))
}

/// Runs tests on a cluster of ours; what failing ones leave behind goes to `logs`.
fn run_on(
    root: &Path,
    options: &Options,
    (cluster, logs): (&Cluster, &Path),
    targets: &[&str],
    threads: &str,
) -> Result<()> {
    let started = Instant::now();
    let mut command = tests(root, targets, &[])?;
    if !options.control_plane && !options.measure {
        deploy::show_tools(root, &mut command)?;
    }
    command
        .args(["--", threads])
        .args(chosen(options))
        .env("PERENNIAL_E2E_KUBECONFIG", cluster.kubeconfig())
        .env("PERENNIAL_E2E_CONTEXT", cluster.context())
        .env("PERENNIAL_E2E_LOGS", logs)
        .env("PERENNIAL_E2E_HOST", cluster.network()?.host())
        .env("PERENNIAL_E2E_PROGRAM", product_image::program_path(root, profile(options)))
        .env("PERENNIAL_E2E_AUDIT", cluster.state.join("logs"))
        .env("PERENNIAL_E2E_CSI", cluster.state.join("csi/dirs"))
        .env("PERENNIAL_E2E_CSI_DRIVER", cluster.state.join("csi-driver"))
        .env("PERENNIAL_E2E_CSI_SANITY", programs::ensure(root, &programs::CLUSTER)?.join("csi-sanity"));
    finish(command, started)
}

/// What is installed, as kubectl is told.
const KINDS: [&str; 2] = ["--filename", "deploy/crds"];
const NAMESPACE: [&str; 2] = ["--kustomize", "deploy/kustomize/namespace"];
const PRODUCT: [&str; 2] = ["--kustomize", "deploy/kustomize/base"];

/// Installs the product or parts of it, as a user would.
fn install(root: &Path, cluster: &Cluster, parts: &[[&str; 2]]) -> Result<()> {
    let kube = programs::ensure(root, &programs::CLUSTER)?.join("kube");
    let apply = ["kubectl", "apply", "--server-side", "--force-conflicts"];
    for what in parts {
        let output = Command::new(&kube)
            .args(apply)
            .args(what)
            .env("KUBECONFIG", cluster.kubeconfig())
            .env("KUBECACHEDIR", cluster.kubectl_cache())
            .current_dir(root)
            .stdin(Stdio::null())
            .output()
            .context("run kubectl")?;
        if !output.status.success() {
            bail!("kubectl apply {}: {}", what.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
    }
    Ok(())
}

fn on_foreign(root: &Path, options: &Options, context: &str) -> Result<()> {
    println!("left out, for they are about what a cluster of ours has: {}", OWN_CLUSTER.join(", "));
    println!(
        "that cluster has to have the images of `cargo xtask e2e --images`, deploy/crds, deploy/kustomize/namespace and \
         deploy/kustomize/base"
    );
    let started = Instant::now();
    let mut command = tests(root, targets(options), &[])?;
    command
        .args(["--", THREADS])
        .args(OWN_CLUSTER.iter().flat_map(|name| ["--skip", *name]))
        .args(chosen(options))
        .env("PERENNIAL_E2E_KUBECONFIG", foreign_kubeconfig()?)
        .env("PERENNIAL_E2E_CONTEXT", context)
        .env("PERENNIAL_E2E_LOGS", kept(root)?)
        .envs(options.host_address.as_ref().map(|address| ("PERENNIAL_E2E_HOST", address)));
    finish(command, started)
}

fn foreign_kubeconfig() -> Result<OsString> {
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".kube/config").into_os_string());
    let given = std::env::var_os("KUBECONFIG").filter(|paths| !paths.is_empty());
    given.or(home).context("set KUBECONFIG or HOME")
}

/// The test runner's own arguments for what was asked for.
fn chosen(options: &Options) -> Vec<&str> {
    let skipped = options.skip.iter().flat_map(|filter| ["--skip", filter]);
    skipped.chain(options.filters.iter().map(String::as_str)).collect()
}

fn profile(options: &Options) -> Profile {
    if options.dev { Profile::Dev } else { Profile::Release }
}

/// Archives of the images that the tests start, besides those that every cluster of ours has.
fn archives(root: &Path, options: &Options) -> Result<Vec<PathBuf>> {
    let profile = profile(options);
    let target = checkout::target_directory(root);
    checkout::build(root, ["--bin", "webhook"])?;
    let archive = target.join("images/webhook.tar");
    images::write_webhook(&target.join("debug/webhook"), &archive)?;
    let tools = target.join("images/tools.tar");
    images::write_tools(&packages::ensure(&packages::NODE)?, &packages::ensure(&packages::ATTRIBUTES)?, &tools)?;
    Ok(vec![archive, tools, product_image::build(root, profile, None)?])
}

/// The tests that need no order.
fn targets(options: &Options) -> &'static [&'static str] {
    match (options.control_plane, options.measure) {
        (true, _) => &["--test", "control_plane"],
        (false, true) => &["--test", "measured"],
        (false, false) => &["--test", "harness", "--test", "zero_touch", "--test", "without_us"],
    }
}

fn tests(root: &Path, targets: &[&str], more: &[&str]) -> Result<Command> {
    let mut command = checkout::cargo(root);
    command.arg("test").args(checkout::EVERYTHING).arg("--no-fail-fast").args(targets).args(more);
    for tool in [&tools::VERSITYGW, &tools::KOPIA] {
        command.env(tool.variable, tools::ensure(root, tool)?);
    }
    // An error says what it waited for; where in the program that was is noise of two pages.
    command.env("RUST_BACKTRACE", "0");
    Ok(command)
}

fn finish(mut command: Command, started: Instant) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().context("run cargo test")?;
    println!("the tests took {}", elapsed::text(started.elapsed()));
    if !status.success() {
        bail!("cargo test ended with {status}; what it said stands above");
    }
    Ok(())
}

/// The components' logs outlive the cluster of a test that has failed.
fn keep_logs(root: &Path, cluster: &Cluster) -> Result<()> {
    let to = checkout::target_directory(root).join("xtask-logs").join("cluster");
    // Older parts of a log have other names each time.
    if to.exists() {
        std::fs::remove_dir_all(&to).with_context(|| format!("remove {}", to.display()))?;
    }
    std::fs::create_dir_all(&to).with_context(|| format!("make {}", to.display()))?;
    let count = cluster::copy_logs(cluster, &to)?;
    println!("{count} logs of the cluster's components: {}", to.display());
    Ok(())
}
