//! The few programs of the distribution that a node needs. Their packages are unpacked into the cache, not installed:
//! no maintainer script runs, and the host stays as it is.

use crate::cluster::image::digest;
use crate::tools;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Packages that are unpacked together, into a directory of their own. Upstream versions are pinned; the distribution's own
/// revisions, which fix security holes, may follow. A `*` is apt's.
pub struct Set(&'static [&'static str]);

/// What a node runs, and the product's image has.
pub const NODE: Set = Set(&[
    "containerd=1.6.20*",
    "runc=1.1.5*",
    "containernetworking-plugins=1.1.1*",
    "nftables=1.0.6*",
    "busybox-static=1:1.35.0*",
    // Authorities for the product's image; they change with the distribution, and should.
    "ca-certificates",
    // What those need besides. All but a bare host has most of them, which would do; unpacked they are the same everywhere.
    "libnftables1=1.0.6*",
    "libnftnl11",
    "libjansson4",
    "libedit2",
    "libbsd0",
    "libmd0",
    "libxtables12",
    "libmnl0",
    "libseccomp2",
    "libgmp10",
    "libtinfo6",
]);

/// Programs for files' attributes, which busybox has none of, with the C library that they need: for an image of the tests.
/// Not among the node's, whose libraries the host's programs see as well.
pub const ATTRIBUTES: Set = Set(&["attr=1:2.5.1*", "acl=2.3.1*", "libattr1", "libacl1", "libc6"]);

/// The distribution that has these versions.
const DISTRIBUTION: &str = "Debian 12";

/// The root directory of the unpacked packages; they are fetched first where they are missing.
pub fn ensure(set: &Set) -> Result<PathBuf> {
    let wanted = set.0;
    let key: String = digest(wanted.join(" ").as_bytes()).chars().take(12).collect();
    let directory = tools::cache_directory()?.join("cluster-packages").join(key);
    if !directory.is_dir() {
        let unfinished = directory.with_extension(format!("{}.unfinished", std::process::id()));
        fetch(wanted, &unfinished).with_context(|| {
            format!("fetch packages of {DISTRIBUTION} (on another distribution, test against a cluster that exists)")
        })?;
        std::fs::rename(&unfinished, &directory).with_context(|| format!("rename to {}", directory.display()))?;
    }
    Ok(directory)
}

fn fetch(wanted: &[&str], directory: &Path) -> Result<()> {
    let archives = directory.join("archives");
    std::fs::create_dir_all(&archives).with_context(|| format!("make {}", archives.display()))?;
    println!("cluster: fetching {} packages", wanted.len());
    if !download(wanted, &archives, Stdio::null())? {
        // The lists of a fresh machine are missing or out of date.
        let status = Command::new("apt-get").args(["update", "-qq"]).stdin(Stdio::null()).status();
        let status = status.context("run apt-get update")?;
        if !status.success() || !download(wanted, &archives, Stdio::inherit())? {
            bail!("apt-get download {}: what it said stands above", wanted.join(" "));
        }
    }
    let entries = std::fs::read_dir(&archives).with_context(|| format!("list {}", archives.display()))?;
    for archive in entries {
        let archive = archive.with_context(|| format!("list {}", archives.display()))?.path();
        let status =
            Command::new("dpkg-deb").arg("--extract").arg(&archive).arg(directory).stdin(Stdio::null()).status();
        if !status.context("run dpkg-deb")?.success() {
            bail!("unpack {}", archive.display());
        }
    }
    std::fs::remove_dir_all(&archives).with_context(|| format!("remove {}", archives.display()))
}

fn download(wanted: &[&str], directory: &Path, errors: Stdio) -> Result<bool> {
    let status = Command::new("apt-get")
        .args(["download", "-qq", "-o", "APT::Sandbox::User=root"])
        .args(wanted)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(errors)
        .status();
    Ok(status.context("run apt-get download")?.success())
}
