//! A VolSync elsewhere in the cluster: two controllers of the same kinds never serve the same object.

use anyhow::{Result, ensure};
use e2e::{DESTINATION, LEASE, Protected, SOURCE, labelled};
use serde_json::{Value, json};

use crate::{OPERATORS, alone};

#[test]
fn what_people_wrote_is_left_to_a_volsync_that_is_at_work() -> Result<()> {
    alone("neighbours", async |space| {
        let protected = Protected::new(space).await?;
        protected.claim("data").await?;
        space.bound("data").await?;
        protected.write("data", "echo mine >file").await?;
        protected.back_up("data", "one").await?;

        // One works in this namespace, as its Lease says.
        e2e::scale_operator(&space.cluster, 0).await?;
        let held = json!({"holderIdentity": "volsync-0", "leaseDurationSeconds": 3600});
        space.create_object(&LEASE, json!({"metadata": {"name": "b95b3104.backube"}, "spec": held})).await?;
        e2e::scale_operator(&space.cluster, OPERATORS).await?;
        let kopia = json!({"repository": "volsync-data", "copyMethod": "Direct"});
        let source = json!({
            "metadata": {"name": "theirs"},
            "spec": {"sourcePVC": "data", "trigger": {"manual": "one"}, "kopia": kopia},
        });
        space.create_object(&SOURCE, source).await?;
        let kopia = json!({
            "repository": "volsync-data", "copyMethod": "Direct", "capacity": "64Mi", "accessModes": ["ReadWriteOnce"],
            "sourceIdentity": {"sourceName": "data-backup"},
        });
        let destination = json!({
            "metadata": {"name": "theirs"}, "spec": {"trigger": {"manual": "one"}, "kopia": kopia},
        });
        space.create_object(&DESTINATION, destination).await?;

        // Ours are served: one that was there, and one that comes.
        protected.back_up("data", "two").await?;
        space.create_object(&e2e::CLAIM, labelled("more").build()).await?;
        protected.decided("more", "fresh").await?;
        space.bound("more").await?;
        for kind in [SOURCE, DESTINATION] {
            let theirs = space.get(&kind, "theirs").await?;
            ensure!(theirs["status"].is_null(), "{theirs:#}");
        }

        // It stands still: somebody has taken it to no replicas.
        space.patch(&LEASE, "b95b3104.backube", json!({"spec": {"holderIdentity": ""}})).await?;
        for kind in [SOURCE, DESTINATION] {
            let is_done = |object: &Value| Ok(object["status"]["lastManualSync"] == "one");
            space.until(&kind, "theirs", "is served", is_done).await?;
        }
        space.delete_object(&SOURCE, "theirs").await?;
        space.delete_object(&DESTINATION, "theirs").await?;
        space.until_gone(&DESTINATION, "theirs").await?;
        space.until_gone(&e2e::CLAIM, "volsync-theirs-dest").await?;
        protected.remove().await
    })
}
