//! `perennial demo`: backup, loss and recovery of three volumes, on one machine, in less than a minute.
//!
//! ```text
//! story      the nine steps, in order; each says what it finds, and ends the story if that is not what must be
//! world      bucket, catalog, claims and movers, in one directory that goes afterwards
//! child      movers and catalogs as processes of their own
//! app        what lives in the volumes
//! manifest   what was there, what is there, and what differs
//! keep       --keep: the repositories as directories that kopia opens
//! narrator   how it is told
//! ```
//! The steps take the way that a cluster takes: facts from the catalog, `api::decide`, a task, a mover, its report.

mod app;
mod child;
mod error;
mod keep;
mod manifest;
mod narrator;
mod story;
mod world;

use std::path::PathBuf;
use std::time::Instant;

use api::exit::Exit;
use serde::Serialize;

pub use error::DemoError;

use crate::cli::Shared;
use crate::failure::Failure;
use crate::output;
use crate::runner::Runner;
use keep::KeptView;
use narrator::Narrator;
use story::Story;
use world::{Claim, World};

/// How it is told.
pub struct Options {
    /// The user's own files, as one more claim.
    pub path: Option<PathBuf>,
    /// Whether the repositories stay.
    pub keep: bool,
}

/// Tells the story, to its end or to the first thing that is not as it must be.
pub fn run(options: Options, shared: &Shared) -> Result<Exit, Failure> {
    let begun = Instant::now();
    if let Some(path) = options.path.as_deref().filter(|path| !path.is_dir()) {
        return Err(Failure::usage(format!("{} is no directory", path.display()), "name a directory with --path"));
    }
    let narrator = Narrator::new(shared.json || shared.quiet);
    let world = World::start(Runner::start(shared)?)?;
    let cancel = world.runner.run.cancel.clone();
    let mut story = Story::new(world, narrator, options.path)?;
    let told = story.tell().and_then(|()| if options.keep { story.keep() } else { Ok(Vec::new()) });
    match told {
        Ok(kept) if shared.json => output::json(&DemoView::of(&story.claims, kept, begun))?,
        Ok(_) => story.close(begun.elapsed(), shared.quiet)?,
        Err(_) if cancel.is_cancelled() => {
            return Err(Failure::interrupted("stopped by a signal", "everything that was made is removed"));
        }
        Err(failure) => {
            story.last_words().iter().for_each(|line| output::say(&format!("log: {line}")));
            return Err(failure);
        }
    }
    Ok(Exit::Success)
}

/// What `--json` prints.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DemoView {
    kind: &'static str,
    equal: bool,
    duration_ms: u64,
    claims: Vec<ClaimView>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kept: Vec<KeptView>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ClaimView {
    claim: String,
    files: u64,
    bytes: u64,
    first_backup_ms: u64,
    first_bytes: u64,
    second_bytes: u64,
    restore_ms: u64,
    compared: u64,
}

impl DemoView {
    fn of(claims: &[Claim], kept: Vec<KeptView>, begun: Instant) -> Self {
        let view = |claim: &Claim| ClaimView {
            claim: claim.key.to_string(),
            files: claim.figures.files,
            bytes: claim.figures.bytes,
            first_backup_ms: output::milliseconds(claim.figures.first_backup),
            first_bytes: claim.figures.first_bytes,
            second_bytes: claim.figures.second_bytes,
            restore_ms: output::milliseconds(claim.figures.restore),
            compared: claim.figures.compared,
        };
        let claims = claims.iter().map(view).collect();
        Self { kind: "demo", equal: true, duration_ms: output::milliseconds(begun.elapsed()), claims, kept }
    }
}
