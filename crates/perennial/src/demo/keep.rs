//! `--keep`: each claim's repository as a directory in Kopia's own layout, which needs no server to be opened.

use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use serde::Serialize;
use storage::{FilesystemStorage, Layout, PutMode, Storage};

use super::narrator::Narrator;
use super::world::{Claim, World, remove};
use crate::demo::error::io;
use crate::failure::Failure;

/// Objects that are copied at the same time, of about 20 MiB each.
const COPIES_IN_FLIGHT: usize = 2;
/// Objects of ours beside the repository: no part of it.
const OURS: &str = "_perennial";

/// A repository that stays.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeptView {
    claim: String,
    path: String,
    password: String,
    /// The history in it.
    source: String,
}

/// Copies every repository out of the bucket, and leaves nothing else.
pub fn keep(world: &World, claims: &[Claim]) -> Result<Vec<KeptView>, Failure> {
    let mut kept = Vec::new();
    for claim in claims {
        let path = world.root().join("repositories").join(claim.key.pvc());
        let from = world.storage(&claim.key)?;
        let to: Arc<dyn Storage> = Arc::new(FilesystemStorage::create(&path, Layout::Kopia)?);
        world.runner.wait(copy(&*from, &*to))?;
        kept.push(KeptView {
            claim: claim.key.to_string(),
            path: path.display().to_string(),
            password: world.keys.password.clone(),
            source: claim.key.shared_identity().to_string(),
        });
    }
    for part in ["store", "volumes", "log"] {
        let path = world.root().join(part);
        let removed = if path.is_dir() { remove(&path) } else { std::fs::remove_file(&path) };
        removed.map_err(io(format!("remove {}", path.display())))?;
    }
    Ok(kept)
}

async fn copy(from: &dyn Storage, to: &dyn Storage) -> Result<(), storage::Error> {
    from.list("")
        .try_filter(|object| std::future::ready(!object.key.as_str().starts_with(OURS)))
        .map(|object| async move {
            let key = object?.key;
            to.put(&key, from.get(&key).await?, PutMode::Replace).await
        })
        .buffer_unordered(COPIES_IN_FLIGHT)
        .try_collect()
        .await
}

/// How they are opened.
pub fn text(kept: &[KeptView], narrator: &Narrator) -> String {
    let Some(first) = kept.first() else { return String::new() };
    let mut text = format!("\n{}\n", narrator.bold("The repositories stay, as Kopia repositories in directories:"));
    for view in kept {
        text.push_str(&format!("  {:<16}{}\n", view.claim, view.path));
    }
    text.push_str(&format!(
        "
With perennial:
  export PERENNIAL_PASSWORD={password} PERENNIAL_STORE=file:{path}
  perennial snapshots --all
  perennial restore latest /tmp/restored --source {source}
With kopia:
  export KOPIA_PASSWORD={password}
  kopia repository connect filesystem --path={path} --config-file=/tmp/demo.config
  kopia snapshot list --all --config-file=/tmp/demo.config
  kopia snapshot verify --verify-files-percent=100 --config-file=/tmp/demo.config
",
        password = first.password,
        path = first.path,
        source = first.source,
    ));
    text
}
