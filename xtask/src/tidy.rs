//! `cargo xtask tidy`: what must stay true of the checkout and no compiler sees. Each finding is one line.
//!
//! Advisories are checked only where cargo-deny and its database are installed, since the database is a git repository
//! that not every machine can reach; elsewhere the run says so.

mod arrows;
mod attributes;
mod duplicates;
mod length;
mod licenses;
mod links;
mod listed;
mod modules;
mod pins;
mod words;

use crate::{checkout, elapsed};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// The checkout as the checks see it.
struct Checkout {
    root: PathBuf,
    /// Files of git, relative to the root.
    files: Vec<PathBuf>,
    metadata: checkout::Metadata,
}

impl Checkout {
    fn files_with_extension<'a>(&'a self, extension: &'a str) -> impl Iterator<Item = &'a Path> {
        let fits = move |file: &&PathBuf| file.extension().is_some_and(|found| found == extension);
        self.files.iter().filter(fits).map(PathBuf::as_path)
    }

    fn read(&self, file: impl AsRef<Path>) -> Result<String> {
        let file = file.as_ref();
        std::fs::read_to_string(self.root.join(file)).with_context(|| format!("read {}", file.display()))
    }
}

/// What is wrong, with the place and what to do.
type Findings = Vec<String>;

/// A check's name and the check.
type Check = (&'static str, fn(&Checkout) -> Result<Findings>);

const CHECKS: [Check; 10] = [
    ("arrows", arrows::check),
    ("licenses", licenses::check),
    ("duplicates", duplicates::check),
    ("pins", pins::check),
    ("length", length::check),
    ("words", words::check),
    ("modules", modules::check),
    ("attributes", attributes::check),
    ("links", links::check),
    ("records", links::check_records),
];

/// Runs all checks, prints all findings, and fails when there is one.
pub fn run(root: &Path) -> Result<()> {
    let started = Instant::now();
    let checkout =
        Checkout { root: root.to_owned(), files: checkout::files(root)?, metadata: checkout::Metadata::load(root)? };
    let mut findings_count = 0;
    for (name, check) in CHECKS {
        let findings = check(&checkout).with_context(|| format!("tidy {name}"))?;
        findings_count += findings.len();
        for finding in findings {
            println!("tidy {name}: {finding}");
        }
    }
    deny(root)?;
    if findings_count > 0 {
        bail!("tidy: {findings_count} findings, listed above");
    }
    println!(
        "tidy: {} checks, {} files, {} packages, {}",
        CHECKS.len(),
        checkout.files.len(),
        checkout.metadata.packages.len(),
        elapsed::text(started.elapsed())
    );
    Ok(())
}

/// cargo-deny knows the advisories as well; it is asked where it is installed.
fn deny(root: &Path) -> Result<()> {
    let installed = Command::new("cargo-deny").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !installed.is_ok_and(|status| status.success()) {
        println!("tidy: cargo-deny is not installed here, so advisories were not checked");
        return Ok(());
    }
    let status = checkout::cargo(root)
        .args(["deny", "--offline", "check", "advisories", "licenses", "bans", "sources"])
        .status()
        .context("run cargo deny")?;
    if !status.success() {
        bail!("cargo deny ended with {status}");
    }
    Ok(())
}
