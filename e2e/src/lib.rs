//! Tests against a real cluster: a handle on it, a namespace for each test, builders for what tests create, and waits
//! that end with a deadline and tell what they saw.
//!
//! `cargo xtask e2e` brings a cluster up and runs them; `--context NAME` takes one that exists.

mod builders;
mod cluster;
mod kinds;
mod protected;
mod report;
pub mod s3;
mod space;
pub mod webhook;

pub use builders::{Claim, Pod, snapshot};
pub use cluster::Cluster;
pub use kinds::*;
pub use protected::{PASSWORD, Protected, labelled, scale_operator};
pub use s3::SECRET_KEY;
pub use space::{Output, Space};

use anyhow::{Context, Result};
use futures::FutureExt;
use std::panic::AssertUnwindSafe;

/// The image with a shell that every cluster of ours has.
pub const BUSYBOX: &str = "localhost/busybox:1";

/// The product's image, which `cargo xtask image` makes.
pub const PRODUCT_IMAGE: &str = "localhost/perennial:test";

/// The image of the program `webhook`, which `cargo xtask e2e` makes.
pub const WEBHOOK_IMAGE: &str = "localhost/webhook:1";

/// Runs one test in a namespace of its own. When it fails, what lies in the namespace is printed: objects, events, logs.
pub fn test(name: &str, body: impl AsyncFnOnce(&Space) -> Result<()>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.context("start a runtime")?.block_on(async {
        let cluster = Cluster::connect().await?;
        let space = Space::create(&cluster, name, &[]).await?;
        let outcome = AssertUnwindSafe(body(&space)).catch_unwind().await;
        if !matches!(outcome, Ok(Ok(()))) {
            report::print(&space).await;
        }
        let deleted = space.delete().await;
        match outcome {
            Ok(outcome) => outcome.and(deleted),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
