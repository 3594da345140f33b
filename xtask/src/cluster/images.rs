//! The images that every cluster starts with, and that of the tests' tools.

use crate::cluster::image::{self, Item, Start};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The names of programs in the image are in these directories.
const PATH: &str = "PATH=/bin";

/// Writes `pause.tar` and `busybox.tar` into `directory`. Both hold the same static program: what keeps a pod's
/// namespaces need only wait, and one layer is imported faster than two.
pub fn write(packages: &Path, directory: &Path) -> Result<()> {
    let items = shell(packages)?;
    let environment = &[PATH];
    let pause = Start { entrypoint: &["/bin/tail", "-f", "/dev/null"], command: &[], user: "65535:65535", environment };
    image::write("localhost/pause:1", &items, &pause, &directory.join("pause.tar"))?;
    image::write("localhost/busybox:1", &items, &SHELL, &directory.join("busybox.tar"))
}

/// Writes the archive of `localhost/tools:1`: busybox, and programs for files' attributes with their libraries.
pub fn write_tools(packages: &Path, attributes: &Path, archive: &Path) -> Result<()> {
    let mut items = shell(packages)?;
    for program in ["getfattr", "setfattr", "getfacl", "setfacl"] {
        let places = ["bin", "usr/bin"].map(|directory| attributes.join(directory).join(program));
        let source = places.iter().find(|place| place.exists());
        let source = source.with_context(|| format!("{} has no {program}", attributes.display()))?;
        items.push(Item::file(&format!("bin/{program}"), 0o755, source));
    }
    let (loader, loader_place) = LOADER;
    items.extend([Item::directory("lib", 0o755), Item::directory("lib64", 0o755)]);
    items.push(Item::file(loader_place, 0o755, &library(attributes, loader)?));
    for name in ["libc.so.6", "libattr.so.1", "libacl.so.1"] {
        items.push(Item::file(&format!("lib/{name}"), 0o755, &library(attributes, name)?));
    }
    image::write("localhost/tools:1", &items, &SHELL, archive)
}

/// Writes the archive of `localhost/webhook:1`: a program that was built here, with those of this machine's libraries that
/// it was linked with.
pub fn write_webhook(program: &Path, archive: &Path) -> Result<()> {
    let mut items = vec![Item::directory("lib", 0o755), Item::directory("lib64", 0o755)];
    let output = Command::new("ldd").arg(program).output().context("run ldd")?;
    ensure!(output.status.success(), "ldd {}: {}", program.display(), String::from_utf8_lossy(&output.stderr).trim());
    let text = String::from_utf8(output.stdout).context("ldd names files")?;
    // `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)`, and the loader by its path alone.
    for line in text.lines() {
        let (name, rest) = line.trim().split_once(" => ").unwrap_or(("", line.trim()));
        let Some(source) = rest.split(' ').next().filter(|path| path.starts_with('/')) else { continue };
        let place = if name.is_empty() { source.trim_start_matches('/').to_owned() } else { format!("lib/{name}") };
        items.push(Item::file(&place, 0o755, Path::new(source)));
    }
    items.push(Item::file("webhook", 0o755, program));
    let environment = &["LD_LIBRARY_PATH=/lib"];
    let start = Start { entrypoint: &["/webhook"], command: &[], user: "65532:65532", environment };
    image::write("localhost/webhook:1", &items, &start, archive)
}

/// What a program is started by: its file, and where programs have it in their heads.
const LOADER: (&str, &str) = if cfg!(target_arch = "aarch64") {
    ("ld-linux-aarch64.so.1", "lib/ld-linux-aarch64.so.1")
} else {
    ("ld-linux-x86-64.so.2", "lib64/ld-linux-x86-64.so.2")
};

const SHELL: Start<'_> = Start { entrypoint: &[], command: &["/bin/sh"], user: "", environment: &[PATH] };

/// Libraries lie in directories named after the machine's architecture.
fn library(packages: &Path, name: &str) -> Result<PathBuf> {
    let tops = ["lib", "usr/lib"].map(|top| packages.join(top));
    let directories = tops.iter().filter_map(|top| std::fs::read_dir(top).ok()).flatten().filter_map(Result::ok);
    let mut found = directories.map(|directory| directory.path().join(name)).filter(|path| path.exists());
    found.next().with_context(|| format!("{} has no {name}", packages.display()))
}

/// busybox under all of its names.
fn shell(packages: &Path) -> Result<Vec<Item>> {
    let busybox = packages.join("bin/busybox");
    let output = Command::new(&busybox).arg("--list").output();
    let output = output.with_context(|| format!("run {}", busybox.display()))?;
    let names = String::from_utf8(output.stdout).context("busybox lists its names")?;
    let mut items =
        vec![Item::directory("bin", 0o755), Item::directory("tmp", 0o1777), Item::file("bin/busybox", 0o755, &busybox)];
    let links = names.lines().filter(|name| *name != "busybox");
    items.extend(links.map(|name| Item::Link { path: format!("bin/{name}"), target: "busybox".to_owned() }));
    Ok(items)
}
