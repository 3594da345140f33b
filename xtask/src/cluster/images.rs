//! The images that every cluster starts with.

use crate::cluster::image::{self, Item, Start};
use anyhow::{Context, Result};
use std::path::Path;
use std::process::Command;

/// The names of programs in the image are in these directories.
const PATH: &str = "PATH=/bin";

/// Writes `pause.tar` and `busybox.tar` into `directory`. Both hold the same static program: what keeps a pod's
/// namespaces need only wait, and one layer is imported faster than two.
pub fn write(packages: &Path, directory: &Path) -> Result<()> {
    let busybox = packages.join("bin/busybox");
    let output = Command::new(&busybox).arg("--list").output();
    let output = output.with_context(|| format!("run {}", busybox.display()))?;
    let names = String::from_utf8(output.stdout).context("busybox lists its names")?;
    let mut items =
        vec![Item::directory("bin", 0o755), Item::directory("tmp", 0o1777), Item::file("bin/busybox", 0o755, &busybox)];
    let links = names.lines().filter(|name| *name != "busybox");
    items.extend(links.map(|name| Item::Link { path: format!("bin/{name}"), target: "busybox".to_owned() }));
    let environment = &[PATH];
    let pause = Start { entrypoint: &["/bin/tail", "-f", "/dev/null"], command: &[], user: "65535:65535", environment };
    image::write("localhost/pause:1", &items, &pause, &directory.join("pause.tar"))?;
    let shell = Start { entrypoint: &[], command: &["/bin/sh"], user: "", environment };
    image::write("localhost/busybox:1", &items, &shell, &directory.join("busybox.tar"))?;
    Ok(())
}
