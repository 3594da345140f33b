//! Brings a cluster up and returns when it can run pods and provision volumes.
//!
//! The whole node lives in namespaces of its own, with `node.sh` as their process 1: whoever kills that one process has
//! taken the cluster away.

use crate::cluster::groups::Hierarchies;
use crate::cluster::settings::{self, Cluster, Network, write};
use crate::cluster::{certificates, down, images, packages, pause, programs, requirements};
use crate::{checkout, elapsed};
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use std::io::{PipeReader, PipeWriter};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What `up` may be told.
#[derive(Args, Clone, Debug, Default)]
pub struct Options {
    /// Take 10.NUMBER.0.0/16 for the cluster; without it the first that is free
    #[arg(long, value_name = "NUMBER")]
    pub network: Option<u8>,
    /// API server and etcd alone, for tests that count calls: no node, no controllers
    #[arg(long)]
    pub control_plane: bool,
    /// Run something else beside Kubernetes as well
    #[arg(long, value_name = "COMPONENT")]
    pub with: Vec<Component>,
}

/// What a cluster can have besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Component {
    /// The real controller, with all of its providers
    ExternalSecrets,
}

/// Longest wait for any one part of the cluster.
const READY_TIMEOUT: Duration = Duration::from_secs(120);

/// CSI drivers that register with the kubelet, as `xtask/cluster/node.sh` calls them.
const DRIVERS: [&str; 2] = ["dirs", "plain"];

/// Everything of the host that the node is shown.
struct Parts {
    programs: PathBuf,
    packages: PathBuf,
    /// The CSI test driver; a control plane needs none.
    driver: Option<PathBuf>,
    external_secrets: Option<PathBuf>,
}

/// Takes a cluster of that name down and brings a new one up, which stays.
pub fn up(root: &Path, cluster: &Cluster, options: &Options) -> Result<()> {
    bring_up(root, cluster, options, None)
}

/// The same for a cluster that ends when the answer is dropped, or our process with it, however that ends. Control groups
/// and files stay until `down`.
pub fn up_for_us(root: &Path, cluster: &Cluster, options: &Options) -> Result<PipeWriter> {
    let (reader, writer) = std::io::pipe().context("make a pipe")?;
    bring_up(root, cluster, options, Some(reader))?;
    Ok(writer)
}

fn bring_up(root: &Path, cluster: &Cluster, options: &Options, owner: Option<PipeReader>) -> Result<()> {
    requirements::check()?;
    let started = Instant::now();
    let parts = Parts {
        programs: programs::ensure(root, &programs::CLUSTER)?,
        packages: packages::ensure(&packages::NODE)?,
        driver: if options.control_plane { None } else { Some(build_driver(root)?) },
        external_secrets: if options.with.contains(&Component::ExternalSecrets) {
            Some(programs::ensure(root, &programs::EXTERNAL_SECRETS)?)
        } else {
            None
        },
    };
    let built = Instant::now();
    let network = prepare(root, cluster, options, &parts)?;
    let node = start(root, cluster, network, &parts, owner)?;
    connect(cluster, network, node)?;
    wait(cluster, node, &parts, built)?;
    println!(
        "cluster {} is up: Kubernetes {}, 10.{}.0.0/16, {} ({} of that getting programs)",
        cluster.name,
        programs::KUBERNETES,
        network.0,
        elapsed::text(started.elapsed()),
        elapsed::text(built - started),
    );
    println!("export KUBECONFIG={}", cluster.kubeconfig().display());
    Ok(())
}

/// Builds the CSI driver of this checkout.
fn build_driver(root: &Path) -> Result<PathBuf> {
    checkout::build(root, ["--bin", "csi-driver"])?;
    Ok(checkout::target_directory(root).join("debug/csi-driver"))
}

/// Files: network, certificates, configuration, images.
fn prepare(root: &Path, cluster: &Cluster, options: &Options, parts: &Parts) -> Result<Network> {
    let lock = settings::lock()?;
    down::down(cluster)?;
    let network = Network::choose(options.network)?;
    for directory in ["pki", "logs", "pods", "kubelet", "containerd", "etcd", "csi", "config/cni", "images"] {
        let directory = cluster.state.join(directory);
        std::fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
    }
    write(&cluster.state.join("network"), &network.0.to_string())?;
    drop(lock);
    certificates::write_all(cluster, network)?;
    if let Some(driver) = &parts.driver {
        images::write(&parts.packages, &cluster.state.join("images"))?;
        // A copy: the next build replaces the program.
        let copy = cluster.state.join("csi-driver");
        std::fs::copy(driver, &copy).with_context(|| format!("copy {}", driver.display()))?;
    }
    configure(root, cluster, network)?;
    Ok(network)
}

/// The files of `xtask/cluster/config` with the cluster's own values in place of `@NAMES@`.
fn configure(root: &Path, cluster: &Cluster, network: Network) -> Result<()> {
    let values = [
        ("@GROUP@", cluster.group()),
        ("@NODE_IP@", network.node()),
        ("@POD_CIDR@", network.pods()),
        ("@DNS_SERVICE_IP@", network.dns_service()),
    ];
    let from = root.join("xtask/cluster/config");
    let to = cluster.state.join("config");
    for entry in std::fs::read_dir(&from).with_context(|| format!("list {}", from.display()))? {
        let path = entry.with_context(|| format!("list {}", from.display()))?.path();
        let name = path.file_name().context("a directory lists files")?.to_string_lossy().into_owned();
        let mut text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        for (place, value) in &values {
            text = text.replace(place, value);
        }
        let directory = if name.ends_with(".conflist") { to.join("cni") } else { to.clone() };
        write(&directory.join(name), &text)?;
    }
    Ok(())
}

/// Starts process 1 of the node and answers its number on the host.
fn start(root: &Path, cluster: &Cluster, network: Network, parts: &Parts, owner: Option<PipeReader>) -> Result<i32> {
    let join = Hierarchies::find()?.create(cluster)?;
    let log = cluster.state.join("logs/node.log");
    let output = std::fs::File::create(&log).with_context(|| format!("write {}", log.display()))?;
    let errors = output.try_clone().context("copy a file handle")?;
    // The shell joins the group by itself, so that there is no moment in which a process of the node is outside.
    let script = r#"echo $$ >"$CLUSTER_JOIN" && exec setsid unshare --pid --mount --net --ipc --uts --fork --propagation private bash "$CLUSTER_NODE""#;
    let mut unshare = Command::new("bash")
        .args(["-c", script])
        .env("CLUSTER_JOIN", &join)
        .env("CLUSTER_NODE", root.join("xtask/cluster/node.sh"))
        .env("CLUSTER_STATE", &cluster.state)
        .env("CLUSTER_PROGRAMS", &parts.programs)
        .env("CLUSTER_PACKAGES", &parts.packages)
        .env("CLUSTER_OBJECTS", root.join("xtask/cluster/objects"))
        .env("CLUSTER_KIND", if parts.driver.is_some() { "node" } else { "control-plane" })
        .env("CLUSTER_EXTERNAL_SECRETS", parts.external_secrets.as_deref().unwrap_or(Path::new("")))
        .env("CLUSTER_NODE_IP", network.node())
        .env("CLUSTER_SERVICE_CIDR", network.services())
        .env("CLUSTER_OWNED", if owner.is_some() { "yes" } else { "no" })
        .current_dir(&cluster.state)
        .stdin(owner.map_or_else(Stdio::null, Stdio::from))
        .stdout(output)
        .stderr(errors)
        .spawn()
        .context("start bash")?;
    let host = std::fs::read_link("/proc/self/ns/net").context("look at our own namespaces")?;
    let started = Instant::now();
    loop {
        if let Some(pid) = child_in_namespaces(unshare.id(), &host) {
            write(&cluster.state.join("pid"), &pid.to_string())?;
            return Ok(pid);
        }
        if unshare.try_wait().context("look after unshare")?.is_some() || started.elapsed() > READY_TIMEOUT {
            bail!("the node did not start: {}", tail(&log));
        }
        pause();
    }
}

/// The only child of `unshare`, once it has left the host's network.
fn child_in_namespaces(unshare: u32, host: &Path) -> Option<i32> {
    let children = std::fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).ok()?;
    let pid: i32 = children.trim().parse().ok()?;
    let network = std::fs::read_link(format!("/proc/{pid}/ns/net")).ok()?;
    (network != host).then_some(pid)
}

/// The link between host and node, and the host's routes to pods and Services.
fn connect(cluster: &Cluster, network: Network, node: i32) -> Result<()> {
    let (link, node) = (cluster.link(), node.to_string());
    let host_end = format!("{}/30", network.host());
    let node_end = format!("{}/30", network.node());
    ip(&["link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &node])?;
    ip(&["address", "add", &host_end, "dev", &link])?;
    ip(&["link", "set", &link, "up"])?;
    let inside = ["--target", &node, "--net", "ip"];
    succeed("nsenter", &[&inside[..], &["address", "add", &node_end, "dev", "eth0"]].concat())?;
    succeed("nsenter", &[&inside[..], &["link", "set", "eth0", "up"]].concat())?;
    ip(&["route", "add", &network.pods(), "via", &network.node()])?;
    ip(&["route", "add", &network.services(), "via", &network.node()])?;
    write(&cluster.state.join("linked"), "")
}

fn ip(arguments: &[&str]) -> Result<()> {
    succeed("ip", arguments)
}

fn succeed(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("run {program}"))?;
    if !output.status.success() {
        bail!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// What has to be there before a test may begin, in the order in which it comes.
fn wait(cluster: &Cluster, node: i32, parts: &Parts, started: Instant) -> Result<()> {
    let step = |what: &str| println!("{:>8}  {what}", elapsed::text(started.elapsed()));
    wait_for_file(cluster, node, "ready/api-server")?;
    step("API server ready");
    if parts.driver.is_none() {
        wait_for_file(cluster, node, "ready/node")?;
        step("definitions established");
        return Ok(());
    }
    let kubectl = Kubectl { program: &parts.programs, cluster };
    kubectl.wait(&["--for=create", "node/node"])?;
    kubectl.wait(&["--for=condition=Ready", "node/node"])?;
    step("node Ready");
    // Pods are refused until the controller manager has made the account.
    kubectl.wait(&["--for=create", "serviceaccount/default"])?;
    wait_for_file(cluster, node, "ready/node")?;
    step("names and storage classes made");
    for driver in DRIVERS {
        wait_for_file(cluster, node, &format!("ready/csi-{driver}"))?;
    }
    step("CSI drivers registered");
    Ok(())
}

/// `node.sh` leaves files where it has come to.
fn wait_for_file(cluster: &Cluster, node: i32, name: &str) -> Result<()> {
    let started = Instant::now();
    let log = cluster.state.join("logs/node.log");
    while !cluster.state.join(name).exists() {
        if !Path::new(&format!("/proc/{node}")).exists() {
            bail!("the node ended: {}", tail(&log));
        }
        if started.elapsed() > READY_TIMEOUT {
            bail!("no {name} after {}: {}", elapsed::text(started.elapsed()), tail(&log));
        }
        pause();
    }
    Ok(())
}

/// Kubernetes' own client, which is one of the cluster's programs.
pub struct Kubectl<'a> {
    program: &'a Path,
    cluster: &'a Cluster,
}

impl Kubectl<'_> {
    /// One process that watches costs less than many that ask.
    fn wait(&self, arguments: &[&str]) -> Result<()> {
        let timeout = format!("--timeout={}s", READY_TIMEOUT.as_secs());
        let output = Command::new(self.program.join("kube"))
            .args(["kubectl", "wait", &timeout])
            .args(arguments)
            .env("KUBECONFIG", self.cluster.kubeconfig())
            .env("KUBECACHEDIR", self.cluster.kubectl_cache())
            .stdin(Stdio::null())
            .output()
            .context("run kubectl")?;
        if !output.status.success() {
            let logs = self.cluster.state.join("logs");
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("no {}: {}; see {}", arguments.join(" "), said.trim(), logs.display());
        }
        Ok(())
    }
}

/// The end of a log, for an error.
fn tail(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(20)..];
    format!("{} says\n{}", path.display(), last.join("\n"))
}
