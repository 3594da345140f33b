//! What distinguishes one cluster from another: a name, a directory, a network.

use crate::cluster::groups::Hierarchies;
use crate::cluster::pause;
use anyhow::{Context, Result, bail};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The name's longest form is that of the host's end of the link, which Linux limits to 15 characters.
const NAME_LENGTH_MAX: usize = 12;

/// What the names of all clusters' control groups begin with.
pub const GROUP_PREFIX: &str = "perennial-";

/// Second numbers of the networks that clusters may take: 10.201.0.0/16 is the first.
const NETWORKS: std::ops::RangeInclusive<u8> = 201..=239;

/// Longest wait for another `up` or `down` to be done with what only one may do at a time.
const LOCK_TIMEOUT: Duration = Duration::from_secs(60);

/// A cluster on this machine, up or not.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub name: String,
    /// Everything that the cluster writes lies below.
    pub state: PathBuf,
}

impl Cluster {
    /// The cluster of that name; nothing is looked at yet.
    pub fn new(name: &str) -> Result<Self> {
        let fits = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
        if name.is_empty() || name.len() > NAME_LENGTH_MAX || name.starts_with('-') || !name.chars().all(fits) {
            bail!("a cluster's name has 1 to {NAME_LENGTH_MAX} characters a-z, 0-9 and -, and {name:?} does not");
        }
        Ok(Self { name: name.to_owned(), state: directory()?.join(name) })
    }

    /// The group's name in every hierarchy of control groups.
    pub fn group(&self) -> String {
        format!("{GROUP_PREFIX}{}", self.name)
    }

    /// The host's end of the link to the node.
    pub fn link(&self) -> String {
        format!("pn-{}", self.name)
    }

    /// The administrator's way in.
    pub fn kubeconfig(&self) -> PathBuf {
        self.state.join("config/admin.kubeconfig")
    }

    /// Where kubectl keeps what it knows of the cluster's kinds; left to itself it fills the home directory.
    pub fn kubectl_cache(&self) -> PathBuf {
        self.state.join("kubectl")
    }

    /// Name of the context in the administrator's kubeconfig.
    pub fn context(&self) -> String {
        self.group()
    }

    /// The addresses that a cluster which is up has taken.
    pub fn network(&self) -> Result<Network> {
        let path = self.state.join("network");
        let Ok(text) = std::fs::read_to_string(&path) else { bail!("cluster {} is not up", self.name) };
        Ok(Network(text.trim().parse().with_context(|| format!("{} is damaged", path.display()))?))
    }

    /// Does any process of it run? A directory alone may be the remains of one that was killed.
    pub fn is_up(&self) -> Result<bool> {
        Ok(self.network().is_ok() && !Hierarchies::find()?.processes(self).is_empty())
    }

    /// Process 1 of the node, as the host numbers it.
    pub fn pid(&self) -> Result<i32> {
        let path = self.state.join("pid");
        let Ok(text) = std::fs::read_to_string(&path) else { bail!("cluster {} is not up", self.name) };
        text.trim().parse().with_context(|| format!("{} is damaged", path.display()))
    }
}

/// Where the directories of all clusters lie.
fn directory() -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = variable("PERENNIAL_CLUSTERS")
        .or_else(|| variable("XDG_STATE_HOME").map(|state| state.join("perennial/clusters")))
        .or_else(|| variable("HOME").map(|home| home.join(".local/state/perennial/clusters")))
        .context("nowhere to put clusters: set PERENNIAL_CLUSTERS, XDG_STATE_HOME or HOME")?;
    std::path::absolute(&base).with_context(|| format!("make {} absolute", base.display()))
}

/// The clusters that have a directory or a control group.
pub fn all() -> Result<Vec<Cluster>> {
    let entries = std::fs::read_dir(directory()?).into_iter().flatten().filter_map(Result::ok);
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.extend(Hierarchies::find()?.names());
    names.sort();
    names.dedup();
    Ok(names.iter().filter_map(|name| Cluster::new(name).ok()).collect())
}

/// Held while a cluster is taken down or takes its network. The directory itself is locked, so no file is left over.
pub fn lock() -> Result<File> {
    let directory = directory()?;
    std::fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
    let file = File::open(&directory).with_context(|| format!("open {}", directory.display()))?;
    let started = Instant::now();
    while rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
        if started.elapsed() > LOCK_TIMEOUT {
            bail!("another `cargo xtask cluster` has held {} for a minute", directory.display());
        }
        pause();
    }
    Ok(file)
}

/// A /16 of its own for each cluster: link, pods and Services are parts of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(pub u8);

impl Network {
    /// The host's end of the link; a test's own servers listen there, for pods to reach.
    pub fn host(self) -> String {
        format!("10.{}.0.1", self.0)
    }

    /// The node's end of the link; the API server is there.
    pub fn node(self) -> String {
        format!("10.{}.0.2", self.0)
    }

    pub fn pods(self) -> String {
        format!("10.{}.1.0/24", self.0)
    }

    pub fn services(self) -> String {
        format!("10.{}.128.0/17", self.0)
    }

    /// The first address of the Services is always the API server's.
    pub fn api_service(self) -> String {
        format!("10.{}.128.1", self.0)
    }

    pub fn dns_service(self) -> String {
        format!("10.{}.128.10", self.0)
    }

    /// The wanted one, or the first that neither a route of this machine nor another cluster has.
    pub fn choose(wanted: Option<u8>) -> Result<Self> {
        let routes = std::fs::read_to_string("/proc/net/route").context("read the machine's routes")?;
        let taken: Vec<u8> =
            all()?.iter().filter_map(|cluster| cluster.network().ok()).map(|network| network.0).collect();
        let free = |number: u8| !taken.contains(&number) && !is_routed(&routes, number);
        match wanted {
            Some(number) if free(number) => Ok(Self(number)),
            Some(number) => bail!("10.{number}.0.0/16 is in use: a route of this machine or another cluster has it"),
            None => NETWORKS.clone().find(|number| free(*number)).map(Self).context("no free network is left"),
        }
    }
}

/// Does a route, the default one aside, touch 10.`number`.0.0/16? Addresses stand there as hexadecimal numbers whose
/// lowest byte is the first one.
fn is_routed(routes: &str, number: u8) -> bool {
    let ours = u32::from_le_bytes([10, number, 0, 0]);
    let within = u32::from_le_bytes([255, 255, 0, 0]);
    routes.lines().skip(1).any(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let number = |index: usize| columns.get(index).and_then(|text| u32::from_str_radix(text, 16).ok());
        let (Some(destination), Some(mask)) = (number(1), number(7)) else { return false };
        let both = mask & within;
        mask != 0 && destination & both == ours & both
    })
}

/// Writes a small file of the state directory.
pub fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_a_network_interface() {
        assert_eq!(Cluster::new("dev").unwrap().link(), "pn-dev");
        for name in ["", "a/b", "..", "-x", "Dev", "thirteen-long"] {
            assert!(Cluster::new(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_route_takes_the_networks_that_it_touches() {
        let routes = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n\
                      eth0 00000000 0100A8C0 0003 0 0 0 00000000 0 0 0\n\
                      eth0 0000C90A 00000000 0001 0 0 0 00FFFFFF 0 0 0\n\
                      eth0 0080CA0A 00000000 0001 0 0 0 0080FFFF 0 0 0\n";
        assert!(is_routed(routes, 201));
        assert!(is_routed(routes, 202));
        assert!(!is_routed(routes, 203));
        assert!(is_routed("\neth0 0000000A 00000000 0001 0 0 0 000000FF 0 0 0\n", 203));
    }
}
