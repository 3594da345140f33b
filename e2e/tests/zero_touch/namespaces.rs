//! A namespace is deleted at each step of a backup and of a restore: it ends, nothing is left of it, and one of the same name
//! gets its data back.

use anyhow::{Context, Result};
use e2e::{CLAIM, JOB, NAMESPACE, Protected, SNAPSHOT, SOURCE, Space, labelled, leaks};
use futures::future::try_join_all;
use serde_json::{Value, json};

/// What a namespace has reached when it is deleted.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The volume that is to be filled is being made.
    Prime,
    /// The mover of a restore waits for its volume.
    Restorer,
    /// The mover of a restore runs, or has just ended.
    Restoring,
    /// The claim has its volume, and what was needed for it is being cleared up.
    Bound,
    /// A VolumeSnapshot was asked for.
    Snapshot,
    /// A claim of it was asked for.
    Copy,
    /// The mover of a backup was asked for.
    Backup,
}

const STEPS: [Step; 7] =
    [Step::Prime, Step::Restorer, Step::Restoring, Step::Bound, Step::Snapshot, Step::Copy, Step::Backup];

#[test]
fn a_namespace_ends_at_every_step_and_comes_back() -> Result<()> {
    e2e::test("namespaces", async |space| {
        let spaces: Vec<Space> = STEPS
            .iter()
            .map(|step| {
                let name = space.unique(&format!("{step:?}").to_lowercase());
                Space { cluster: space.cluster.clone(), name }
            })
            .collect();
        let names: Vec<&str> = spaces.iter().map(|space| space.name.as_str()).collect();
        let policy = json!({"claims": {"namespaces": {"names": names}}});
        let protected = Protected::with(space, json!({}), policy).await?;
        let each = STEPS.iter().zip(&spaces).map(async |(step, place)| {
            let outcome = ends_and_comes_back(&protected, place, *step).await;
            outcome.with_context(|| format!("deleted at the step {step:?}"))
        });
        try_join_all(each).await?;
        protected.remove().await
    })
}

async fn ends_and_comes_back(protected: &Protected<'_>, space: &Space, step: Step) -> Result<()> {
    let gate = space.unique("gate");
    let gates = match step {
        Step::Prime => json!({"createGate": gate}),
        Step::Restorer => json!({"publishGate": gate}),
        Step::Restoring | Step::Bound | Step::Snapshot | Step::Copy | Step::Backup => json!({}),
    };
    let class = space.storage_class("class", gates).await?;
    let elevated = json!({"volsync.backube/privileged-movers": "true"});
    let here = Protected::beside(protected, space);
    space.again().await?;
    space.patch(&NAMESPACE, &space.name, json!({"metadata": {"annotations": elevated}})).await?;
    here.claim("data").await?;
    space.bound("data").await?;
    space.fill_tree("data").await?;
    let tree = space.tree("data", ".").await?;
    here.back_up("data", "one").await?;
    if !matches!(step, Step::Snapshot | Step::Copy | Step::Backup) {
        here.delete("data").await?;
        space.create_object(&CLAIM, labelled("data").class(&class).build()).await?;
    }
    reach(&here, step).await?;
    space.delete().await?;
    space.cluster.open_gate(&gate)?;
    space.until_gone(&NAMESPACE, &space.name).await?;
    leaks::nothing_left_over(space).await?;

    space.again().await?;
    space.patch(&NAMESPACE, &space.name, json!({"metadata": {"annotations": elevated}})).await?;
    here.claim("data").await?;
    here.decided("data", "restore").await?;
    here.hold_trees(&["data"], &[tree]).await?;
    here.verified_by_kopia("data")?;
    space.delete_object(&e2e::STORAGE_CLASS, &class).await?;
    space.delete().await
}

async fn reach(here: &Protected<'_>, step: Step) -> Result<()> {
    let space = here.space;
    let is_there = |object: &Value| Ok(!object.is_null());
    if matches!(step, Step::Snapshot | Step::Copy | Step::Backup) {
        here.idle("data").await?;
        space.patch(&SOURCE, "data-backup", json!({"spec": {"trigger": {"manual": "two"}}})).await?;
    }
    match step {
        Step::Prime => here.prime("data").await.map(drop),
        Step::Restorer => here.restorer("data", "Pending").await.map(drop),
        Step::Restoring => here.restore_begun("data").await.map(drop),
        Step::Bound => space.bound("data").await.map(drop),
        Step::Snapshot => space.until(&SNAPSHOT, "volsync-data-backup-src", "is there", is_there).await.map(drop),
        Step::Copy => space.until(&CLAIM, "volsync-data-backup-src", "is there", is_there).await.map(drop),
        Step::Backup => space.until(&JOB, "volsync-src-data-backup", "is there", is_there).await.map(drop),
    }
}
