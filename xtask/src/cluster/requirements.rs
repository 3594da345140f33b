//! Can this machine hold a cluster? Everything that is missing is said at once, each with what to do.

use crate::cluster::groups::Hierarchies;
use anyhow::{Result, bail};
use std::path::Path;

/// Programs of the host that bring a node up, and the Debian package of each.
const PROGRAMS: [(&str, &str); 11] = [
    ("bash", "bash"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("setsid", "util-linux"),
    ("mount", "mount"),
    ("losetup", "mount"),
    ("ip", "iproute2"),
    ("sysctl", "procps"),
    ("curl", "curl"),
    ("apt-get", "apt"),
    ("dpkg-deb", "dpkg"),
];

const INSTEAD: &str = "or test against a cluster that exists: `cargo xtask e2e --context NAME` (docs/testing.md)";

/// An error that lists what is missing.
pub fn check() -> Result<()> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = missing.iter().map(|what| format!("\n  - {what}")).collect();
    bail!("this machine cannot hold a cluster:{}\nhint: {INSTEAD}", list.concat())
}

fn missing() -> Vec<String> {
    if !cfg!(target_os = "linux") {
        return vec!["it does not run Linux".to_owned()];
    }
    let mut missing = Vec::new();
    if !rustix::process::geteuid().is_root() {
        missing.push("root: namespaces, mounts and control groups are made".to_owned());
    }
    let absent = PROGRAMS.iter().filter(|(program, _)| !is_on_path(program));
    missing.extend(absent.map(|(program, package)| format!("the program {program} (Debian package {package})")));
    let filesystems = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !filesystems.split_whitespace().any(|name| name == "overlay") {
        missing.push("overlayfs in the kernel (`modprobe overlay`)".to_owned());
    }
    if !Path::new("/proc/sys/net/bridge").exists() {
        missing.push("br_netfilter in the kernel (`modprobe br_netfilter`)".to_owned());
    }
    if !Hierarchies::find().is_ok_and(|hierarchies| hierarchies.are_enough()) {
        missing.push("control groups with cpu, cpuset, memory and pids, mounted below /sys/fs/cgroup".to_owned());
    }
    missing
}

fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}
