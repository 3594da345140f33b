//! Tests against a real cluster: a handle on it, a namespace for each test, builders for what tests create, and waits
//! that end with a deadline and tell what they saw.
//!
//! `cargo xtask e2e` brings a cluster up and runs them; `--context NAME` takes one that exists.

mod builders;
mod calls;
mod cluster;
mod kinds;
pub mod leaks;
mod operator;
mod protected;
mod random;
pub mod report;
pub mod s3;
pub mod shipped;
mod space;
mod stock;
mod system;
mod tree;
pub mod webhook;

pub use builders::{Claim, Pod, snapshot};
pub use calls::{Call, Calls, Mark, Right};
pub use cluster::Cluster;
pub use kinds::*;
pub use operator::{OPERATOR_AGENT, Operator, program};
pub use protected::{PASSWORD, Protected, decision, labelled};
pub use random::Random;
pub use s3::SECRET_KEY;
pub use space::{Output, Space};
pub use system::{
    SYSTEM, forget_everything, kill_operators, metrics, operators, restart_operator, scale_operator, system,
};
pub use tree::same_trees;

use anyhow::{Context, Result};
use futures::FutureExt;
use std::io::Write;
use std::panic::AssertUnwindSafe;
use std::path::Path;

/// The image with a shell that every cluster of ours has.
pub const BUSYBOX: &str = "localhost/busybox:1";

/// The image with a shell and programs for files' attributes, which `cargo xtask e2e` makes.
pub const TOOLS_IMAGE: &str = "localhost/tools:1";

/// The product's image, which `cargo xtask image` makes.
pub const PRODUCT_IMAGE: &str = "localhost/perennial:test";

/// The image of the program `webhook`, which `cargo xtask e2e` makes.
pub const WEBHOOK_IMAGE: &str = "localhost/webhook:1";

/// Runs one test in a namespace of its own. When it fails, what lies in the namespaces it has made is kept and printed:
/// objects, events, logs.
pub fn test(name: &str, body: impl AsyncFnOnce(&Space) -> Result<()>) -> Result<()> {
    run(async || Space::create(&Cluster::connect().await?, name, &[]).await, body)
}

/// The same where API server and etcd are alone: `cargo xtask e2e --control-plane`.
pub fn test_on_control_plane(name: &str, body: impl AsyncFnOnce(&Space) -> Result<()>) -> Result<()> {
    run(async || Space::bare(&Cluster::connect().await?, name, &[]).await, body)
}

fn run(make: impl AsyncFnOnce() -> Result<Space>, body: impl AsyncFnOnce(&Space) -> Result<()>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.context("start a runtime")?.block_on(async {
        let space = make().await?;
        let outcome = AssertUnwindSafe(body(&space)).catch_unwind().await;
        if !matches!(outcome, Ok(Ok(()))) {
            report(&space).await;
        }
        let deleted = space.delete().await;
        match outcome {
            Ok(outcome) => outcome.and(deleted),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

async fn report(space: &Space) {
    let remains = report::remains(space).await;
    eprintln!("\n--- {} ---", space.cluster.namespaces().join(", "));
    remains.print();
    // Names of spaces need not differ, those of tests do.
    let test = std::thread::current().name().unwrap_or(&space.name).replace("::", ".");
    if let Some(directory) = std::env::var_os(report::DIRECTORY) {
        let directory = Path::new(&directory).join(test);
        match remains.keep(&directory) {
            Ok(()) => eprintln!("all of it: {}", directory.display()),
            Err(error) => eprintln!("could not be kept: {error:#}"),
        }
    }
}

/// Says something that is to be seen although the test passes, such as how long something took.
pub fn say(text: &str) {
    // Written, not printed: what a test prints is shown only when it fails. That nobody listens is no failure.
    let _nobody_listens = writeln!(std::io::stderr(), "{text}");
}
