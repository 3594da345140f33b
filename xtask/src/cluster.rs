//! `cargo xtask cluster`: a real Kubernetes of one node on this machine.
//!
//! API server, etcd, controller manager, scheduler, kubelet, containerd and kube-proxy, all in namespaces of their own:
//! the host sees a directory, control groups, one network interface and two routes, and loses them with `down`.

mod certificates;
pub mod down;
mod groups;
pub mod image;
pub mod images;
pub mod packages;
pub mod programs;
mod requirements;
pub mod settings;
pub mod up;

use crate::e2e;
use crate::product_image::Profile;
use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use settings::Cluster;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// What `cargo xtask cluster` may be told.
#[derive(Args)]
pub struct Options {
    /// Which cluster: several stand side by side under different names
    #[arg(long, default_value = "dev", global = true)]
    name: String,
    #[command(subcommand)]
    command: ClusterCommand,
}

#[derive(Subcommand)]
enum ClusterCommand {
    /// Bring a new cluster up; one of the same name is taken down first
    Up(up::Options),
    /// Take the cluster away, however it was left
    Down,
    /// Say which clusters are up
    Status,
    /// Print the path of the administrator's kubeconfig
    Kubeconfig,
    /// Run kubectl as the administrator
    Kubectl {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Load image archives (`docker save`, OCI) into the cluster
    Image {
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Print a component's log, or the names of all
    Logs { component: Option<String> },
    /// Tell the product's story with real claims, on this cluster, which is brought up if it is down
    Demo(Demo),
}

#[derive(Args)]
struct Demo {
    /// Use the cluster of this context of your kubeconfig, which has the product installed
    #[arg(long, requires = "host_address")]
    context: Option<String>,
    /// Address at which pods of that cluster reach this machine
    #[arg(long, requires = "context")]
    host_address: Option<String>,
    /// Build the product for development: in seconds instead of minutes
    #[arg(long)]
    dev: bool,
}

/// Runs one of them.
pub fn run(root: &Path, options: &Options) -> Result<()> {
    let cluster = Cluster::new(&options.name)?;
    match &options.command {
        ClusterCommand::Up(options) => up::up(root, &cluster, options),
        ClusterCommand::Down => {
            let _lock = settings::lock()?;
            down::down(&cluster)
        }
        ClusterCommand::Status => status(),
        ClusterCommand::Kubeconfig => {
            cluster.network()?;
            println!("{}", cluster.kubeconfig().display());
            Ok(())
        }
        ClusterCommand::Kubectl { arguments } => kubectl(root, &cluster, arguments),
        ClusterCommand::Image { files } => files.iter().try_for_each(|file| load(&cluster, file)),
        ClusterCommand::Logs { component } => logs(&cluster, component.as_deref()),
        ClusterCommand::Demo(Demo { context: Some(context), host_address: Some(address), .. }) => {
            e2e::demo_on_context(root, context, address)
        }
        ClusterCommand::Demo(demo) => e2e::demo(root, &cluster, if demo.dev { Profile::Dev } else { Profile::Release }),
    }
}

/// The pause between two looks at something that no file handle tells about.
const PAUSE: Duration = Duration::from_millis(10);

/// Waits that long: on a channel that nobody writes to.
fn pause() {
    let (_never, nothing) = mpsc::channel::<()>();
    let _timeout = nothing.recv_timeout(PAUSE);
}

fn status() -> Result<()> {
    let hierarchies = groups::Hierarchies::find()?;
    let clusters = settings::all()?;
    if clusters.is_empty() {
        println!("no cluster");
    }
    for cluster in clusters {
        let count = hierarchies.processes(&cluster).len();
        let network =
            cluster.network().map_or_else(|_| "no network".to_owned(), |network| format!("10.{}.0.0/16", network.0));
        let state = if count > 0 { format!("up, {count} processes") } else { "down, remains are left".to_owned() };
        println!("{:<12}  {state}, {network}, {}", cluster.name, cluster.state.display());
    }
    Ok(())
}

fn kubectl(root: &Path, cluster: &Cluster, arguments: &[String]) -> Result<()> {
    cluster.network()?;
    let kube = programs::ensure(root, &programs::CLUSTER)?.join("kube");
    let mut command = Command::new(kube);
    command.arg("kubectl").args(arguments).env("KUBECONFIG", cluster.kubeconfig());
    let status = command.env("KUBECACHEDIR", cluster.kubectl_cache()).status();
    match status.context("run kubectl")?.code() {
        Some(0) => Ok(()),
        code => bail!("kubectl ended with {code:?}"),
    }
}

/// Imports an archive. It is opened out here: the node need not see its directory.
pub fn load(cluster: &Cluster, archive: &Path) -> Result<()> {
    let pid = cluster.pid()?.to_string();
    let file = std::fs::File::open(archive).with_context(|| format!("open {}", archive.display()))?;
    let output = Command::new("nsenter")
        .args([
            "--target",
            &pid,
            "--mount",
            "/run/packages/usr/bin/ctr",
            "--namespace",
            "k8s.io",
            "images",
            "import",
            "-",
        ])
        .stdin(file)
        .stderr(Stdio::inherit())
        .output()
        .context("run nsenter")?;
    print!("{}", String::from_utf8_lossy(&output.stdout));
    if !output.status.success() {
        bail!("import {}: ctr ended with {}", archive.display(), output.status);
    }
    Ok(())
}

/// Copies the components' logs into a directory and answers how many there are.
pub fn copy_logs(cluster: &Cluster, to: &Path) -> Result<usize> {
    let entries = std::fs::read_dir(cluster.state.join("logs")).into_iter().flatten().filter_map(Result::ok);
    let mut count = 0;
    for entry in entries {
        let copied = std::fs::copy(entry.path(), to.join(entry.file_name()));
        copied.with_context(|| format!("copy {}", entry.path().display()))?;
        count += 1;
    }
    Ok(count)
}

fn logs(cluster: &Cluster, component: Option<&str>) -> Result<()> {
    let directory = cluster.state.join("logs");
    if let Some(component) = component {
        let path = directory.join(format!("{component}.log"));
        let mut file = std::fs::File::open(&path).with_context(|| format!("open {}", path.display()))?;
        std::io::copy(&mut file, &mut std::io::stdout().lock()).context("write to standard output")?;
        return Ok(());
    }
    let entries = std::fs::read_dir(&directory).with_context(|| format!("cluster {} is not up", cluster.name))?;
    let names = entries.filter_map(Result::ok).filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter_map(|name| name.strip_suffix(".log").map(str::to_owned)).collect();
    names.sort();
    names.iter().for_each(|name| println!("{name}"));
    Ok(())
}
