//! `cargo xtask image`: the product's image, of one static program and what it cannot do without.
//!
//! The Dockerfile in the root directory builds the same layout for those who have an engine.

use crate::cluster::image::{self, Item, Start};
use crate::cluster::packages;
use crate::{checkout, elapsed};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

/// What `cargo xtask image` may be told.
#[derive(Args)]
pub struct Options {
    /// Where the archive goes; without it into the target directory
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// The image's name in tests: not `latest`, so that a cluster does not try to pull it.
pub const REFERENCE: &str = "localhost/perennial:test";

/// Whom the program runs as: nobody that a machine has.
const USER: &str = "65532:65532";

/// Users and groups, for programs that want names.
const PASSWD: &str = "root:x:0:0:root:/:/sbin/nologin\nperennial:x:65532:65532:perennial:/tmp:/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nperennial:x:65532:\n";

/// Certificate authorities, where every program looks for them.
const AUTHORITIES: &str = "etc/ssl/certs/ca-certificates.crt";

/// Builds the program and writes the archive.
pub fn run(root: &Path, options: &Options) -> Result<()> {
    let started = Instant::now();
    let archive = build(root, options.output.as_deref())?;
    let size_bytes = std::fs::metadata(&archive).with_context(|| format!("look at {}", archive.display()))?.len();
    println!(
        "{REFERENCE}: {}, {:.1} MB, {}",
        archive.display(),
        size_bytes as f64 / 1e6,
        elapsed::text(started.elapsed())
    );
    Ok(())
}

/// The archive's place; it is written anew.
pub fn build(root: &Path, output: Option<&Path>) -> Result<PathBuf> {
    let target = checkout::target_directory(root);
    let archive = output.map_or_else(|| target.join("images/perennial.tar"), |output| root.join(output));
    let program = program(root, &target)?;
    let items = [
        Item::directory("etc", 0o755),
        Item::text("etc/group", 0o644, GROUP),
        Item::text("etc/passwd", 0o644, PASSWD),
        Item::directory("etc/ssl", 0o755),
        Item::directory("etc/ssl/certs", 0o755),
        Item::text(AUTHORITIES, 0o644, &authorities(&packages::ensure()?)?),
        Item::file("perennial", 0o755, &program),
        Item::directory("tmp", 0o1777),
    ];
    let start = Start { entrypoint: &["/perennial"], command: &["--help"], user: USER, environment: &["HOME=/tmp"] };
    image::write(REFERENCE, &items, &start, &archive)?;
    Ok(archive)
}

/// Links the C library into the program, which then needs nothing of the image. Only the last step of a release build
/// differs: all crates below are those of any other one.
fn program(root: &Path, target: &Path) -> Result<PathBuf> {
    let arguments = ["rustc", "--package", "perennial", "--bin", "perennial", "--"];
    let flags = ["-Ctarget-feature=+crt-static", "-Cstrip=symbols"];
    let status = checkout::cargo(root).args(arguments).args(flags).stdin(Stdio::null()).status();
    if !status.context("run cargo rustc")?.success() {
        bail!("the program does not build; what cargo said stands above");
    }
    Ok(target.join("debug/perennial"))
}

/// All authorities that the distribution trusts, one after the other, as its own tool would write them.
fn authorities(packages: &Path) -> Result<String> {
    let directory = packages.join("usr/share/ca-certificates/mozilla");
    let entries = std::fs::read_dir(&directory).with_context(|| format!("list {}", directory.display()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    files.sort();
    let mut text = String::new();
    for file in files {
        let certificate = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        text.push_str(certificate.trim_end());
        text.push('\n');
    }
    Ok(text)
}
