//! Takes a cluster away, however it was left. Safe when there is none.

use crate::cluster::groups::Hierarchies;
use crate::cluster::pause;
use crate::cluster::settings::Cluster;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A mount of a killed process goes with its namespace, which the kernel takes apart in the background.
const FILES_TIMEOUT: Duration = Duration::from_secs(10);

/// Processes first, then what outlives them: the host's end of the link, control groups, loop devices, the directory.
pub fn down(cluster: &Cluster) -> Result<()> {
    let hierarchies = Hierarchies::find()?;
    hierarchies.kill(cluster)?;
    remove_link(&cluster.link())?;
    hierarchies.remove(cluster)?;
    detach_devices(&cluster.state)?;
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

/// Loop devices outlive whoever made them. Those of the CSI driver are over files of volumes, the kubelet's over those.
fn detach_devices(state: &Path) -> Result<()> {
    let entries = |directory: PathBuf| std::fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    let volumes = entries(state.join("csi")).flat_map(|driver| entries(driver.path().join("volumes")));
    for file in volumes.map(|volume| volume.path().join("data")).filter(|data| data.is_file()) {
        for device in devices_over(&file)? {
            for above in devices_over(&device)? {
                losetup(&["--detach"], &above)?;
            }
            losetup(&["--detach"], &device)?;
        }
    }
    Ok(())
}

fn devices_over(file: &Path) -> Result<Vec<PathBuf>> {
    let said = losetup(&["--noheadings", "--output", "NAME", "--associated"], file)?;
    Ok(said.lines().map(|line| PathBuf::from(line.trim())).collect())
}

fn losetup(arguments: &[&str], path: &Path) -> Result<String> {
    let output = Command::new("losetup").args(arguments).arg(path).stdin(Stdio::null()).output();
    let output = output.context("run losetup")?;
    if !output.status.success() {
        bail!("losetup {}: {}", path.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
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
