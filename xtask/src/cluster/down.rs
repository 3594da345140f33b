//! Takes a cluster away, however it was left. Safe when there is none.

use crate::cluster::groups::Hierarchies;
use crate::cluster::pause;
use crate::cluster::settings::Cluster;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A mount of a killed process goes with its namespace, which the kernel takes apart in the background.
const FILES_TIMEOUT: Duration = Duration::from_secs(10);

/// Processes first, then what outlives them: the host's end of the link, control groups, the directory.
pub fn down(cluster: &Cluster) -> Result<()> {
    let hierarchies = Hierarchies::find()?;
    hierarchies.kill(cluster)?;
    remove_link(&cluster.link())?;
    hierarchies.remove(cluster)?;
    remove_files(&cluster.state)
}

/// The namespace of the other end is dismantled in the background, so this end may stay for a moment, or be gone.
fn remove_link(link: &str) -> Result<()> {
    if !Path::new("/sys/class/net").join(link).exists() {
        return Ok(());
    }
    let output = Command::new("ip").args(["link", "delete", link]).stdin(Stdio::null()).output();
    let output = output.context("run ip link delete")?;
    if !output.status.success() && Path::new("/sys/class/net").join(link).exists() {
        bail!("ip link delete {link}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn remove_files(state: &Path) -> Result<()> {
    let started = Instant::now();
    loop {
        match std::fs::remove_dir_all(state) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !state.exists() => return Ok(()),
            Err(error) if started.elapsed() > FILES_TIMEOUT => {
                return Err(error).with_context(|| format!("remove {}", state.display()));
            }
            Err(_) => pause(),
        }
    }
}
