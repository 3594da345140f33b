//! The operator is killed at each step of a restore: it goes on, and no claim gets a volume that is not complete.

use anyhow::{Result, ensure};
use e2e::{CLAIM, Protected, SOURCE, STORAGE_CLASS, labelled, leaks};
use serde_json::json;

use crate::{OPERATORS, alone};

/// Claims by how far their restore is when the operator goes: nobody has seen it; its volume is being made; its mover is about
/// to begin; its mover has ended.
const CLAIMS: [&str; 4] = ["marked", "prime", "job", "done"];

/// How the operator goes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// It is told to, and stays away until all movers have ended.
    Scaled,
    /// Without a word, and it is back as soon as it can be.
    Killed,
}

#[test]
fn a_restore_goes_on_wherever_it_was() -> Result<()> {
    alone("steps", async |space| {
        let protected = Protected::new(space).await?;
        let trees = protected.backed_up_trees(&CLAIMS).await?;
        for end in [End::Scaled, End::Killed] {
            for claim in CLAIMS {
                protected.delete(claim).await?;
            }
            let gate = |of: &str| space.unique(&format!("{of}-{end:?}").to_lowercase());
            let made = space
                .storage_class(&format!("made-{end:?}").to_lowercase(), json!({"createGate": gate("prime")}))
                .await?;
            let job = space
                .storage_class(&format!("job-{end:?}").to_lowercase(), json!({"publishGate": gate("job")}))
                .await?;
            let done = space
                .storage_class(&format!("done-{end:?}").to_lowercase(), json!({"publishGate": gate("done")}))
                .await?;
            for (claim, class) in [("prime", &made), ("job", &job), ("done", &done)] {
                space.create_object(&CLAIM, labelled(claim).class(class).build()).await?;
            }
            protected.prime("prime").await?;
            protected.restorer("job", "Pending").await?;
            protected.restorer("done", "Pending").await?;
            if end == End::Killed {
                space.cluster.open_gate(&gate("done"))?;
                space.complete("volsync-dst-done-backup").await?;
            }
            go(&protected, end).await?;
            protected.claim("marked").await?;
            if end == End::Scaled {
                space.cluster.open_gate(&gate("done"))?;
                space.complete("volsync-dst-done-backup").await?;
                is_not_bound(&protected, "done").await?;
            }
            for claim in ["prime", "job"] {
                is_not_bound(&protected, claim).await?;
                space.cluster.open_gate(&gate(claim))?;
            }
            e2e::scale_operator(&space.cluster, OPERATORS).await?;
            protected.hold_trees(&CLAIMS, &trees).await?;
            leaks::nothing_left_over(space).await?;
            for class in [made, job, done] {
                space.delete_object(&STORAGE_CLASS, &class).await?;
            }
        }
        for claim in CLAIMS {
            protected.verified_by_kopia(claim)?;
        }
        protected.remove().await
    })
}

async fn go(protected: &Protected<'_>, end: End) -> Result<()> {
    match end {
        End::Scaled => e2e::scale_operator(&protected.space.cluster, 0).await,
        End::Killed => e2e::kill_operators(&protected.space.cluster).await,
    }
}

/// No volume, and no backup of what is not there yet.
async fn is_not_bound(protected: &Protected<'_>, name: &str) -> Result<()> {
    let claim = protected.space.get(&CLAIM, name).await?;
    ensure!(claim["status"]["phase"] == "Pending", "{claim:#}");
    let source = protected.space.get(&SOURCE, &format!("{name}-backup")).await?;
    ensure!(source.is_null(), "{source:#}");
    Ok(())
}
