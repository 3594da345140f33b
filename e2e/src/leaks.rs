//! What is left of ours in a namespace although nobody needs it any more, and of the cluster's objects that belong to it.
//!
//! | belongs | for each claim that is protected or waits for a destination |
//! |---|---|
//! | Secrets `volsync-<pvc>` and `volsync-<pvc>-ca`, ReplicationSource and ReplicationDestination `<pvc>-backup` | yes |
//! | of a destination that somebody wrote: its claim `volsync-<name>-dest`, and the VolumeSnapshot that is its image | yes |
//! | Jobs, pods of movers, VolumeSnapshots and their contents, claims that are filled or read for a while, ConfigMaps | no |
//! | volumes whose claim is gone | no |

use crate::kinds::{
    CLAIM, CONFIG_MAP, DESTINATION, JOB, Kind, POD, SECRET, SNAPSHOT, SNAPSHOT_CONTENT, SOURCE, VOLUME,
};
use crate::space::Space;
use anyhow::{Result, ensure};
use serde_json::Value;

/// Labels by which objects of ours are known.
const OURS: [(&str, &str); 2] =
    [("app.kubernetes.io/managed-by", "perennial"), ("app.kubernetes.io/created-by", "volsync")];

/// What names of ours begin with.
const PREFIXES: [&str; 2] = ["volsync-", "vs-prime-"];

/// Waits until nothing is left over, and fails with what stays. A namespace that is gone has nothing.
pub async fn nothing_left_over(space: &Space) -> Result<()> {
    space
        .retry("nothing of ours is left over", async || {
            let left = left_over(space).await?;
            ensure!(left.is_empty(), "{}", left.join(", "));
            Ok(())
        })
        .await
}

/// What is left over now, as `Kind name`.
async fn left_over(space: &Space) -> Result<Vec<String>> {
    let claims = space.list(&CLAIM).await?;
    let protected: Vec<&str> = claims.iter().filter(|claim| is_protected(claim)).map(name).collect();
    let destinations = space.list(&DESTINATION).await?;
    let written: Vec<&Value> = destinations.iter().filter(|found| !is_generated(found)).collect();
    let is_result = |kind: &Kind, wanted: &str| {
        written.iter().any(|found| match kind {
            kind if *kind == CLAIM => wanted == format!("volsync-{}-dest", name(found)),
            // Who goes over to Direct keeps the image there was.
            kind => {
                let is_image = found["status"]["latestImage"]["name"] == wanted;
                let is_kept = found["spec"]["kopia"]["copyMethod"] == "Direct"
                    && wanted.starts_with(&format!("volsync-{}-dest-", name(found)));
                *kind == SNAPSHOT && (is_image || is_kept)
            }
        })
    };
    let belongs = |kind: &Kind, name: &str| {
        let is_of = |claim: &&str| match kind {
            kind if *kind == SECRET => name == format!("volsync-{claim}") || name == format!("volsync-{claim}-ca"),
            kind if *kind == SOURCE || *kind == DESTINATION => name == format!("{claim}-backup"),
            kind => *kind == CLAIM && name == *claim,
        };
        protected.iter().any(is_of) || is_result(kind, name)
    };
    let mut left = Vec::new();
    for kind in [CLAIM, SECRET, SOURCE, DESTINATION, JOB, POD, SNAPSHOT, CONFIG_MAP] {
        let found = space.list(&kind).await?;
        let found = found.iter().filter(|object| is_ours(object)).map(name);
        left.extend(found.filter(|name| !belongs(&kind, name)).map(|name| format!("{} {name}", kind.kind)));
    }
    let is_here = |reference: &Value| reference["namespace"] == space.name.as_str();
    for volume in space.list(&VOLUME).await?.iter().filter(|volume| is_here(&volume["spec"]["claimRef"])) {
        let holder = &volume["spec"]["claimRef"]["uid"];
        if !claims.iter().any(|claim| claim["metadata"]["uid"] == *holder) {
            left.push(format!("PersistentVolume {} ({})", name(volume), volume["status"]["phase"]));
        }
    }
    let snapshots = space.list(&SNAPSHOT).await?;
    for content in space.list(&SNAPSHOT_CONTENT).await?.iter() {
        let reference = &content["spec"]["volumeSnapshotRef"];
        if is_here(reference) && !snapshots.iter().any(|snapshot| snapshot["metadata"]["uid"] == reference["uid"]) {
            left.push(format!("VolumeSnapshotContent {}", name(content)));
        }
    }
    Ok(left)
}

/// Whether objects of a claim may stay: it is labelled, a policy has picked it without a label, or it names its destination,
/// which it does for ever.
fn is_protected(claim: &Value) -> bool {
    let is_helper = claim["metadata"]["labels"]["volsync.backube/populator-pvc-for"].is_string();
    let is_labelled = claim["metadata"]["labels"]["backup"].is_string();
    let is_decided = claim["metadata"]["annotations"]["perennial.dev/decision"].is_string();
    !is_helper && (is_labelled || is_decided || claim["spec"]["dataSourceRef"]["kind"] == "ReplicationDestination")
}

fn is_generated(object: &Value) -> bool {
    object["metadata"]["labels"][OURS[0].0] == OURS[0].1
}

fn is_ours(object: &Value) -> bool {
    let labels = &object["metadata"]["labels"];
    OURS.iter().any(|(key, value)| labels[*key] == *value)
        || PREFIXES.iter().any(|prefix| name(object).starts_with(prefix))
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}
