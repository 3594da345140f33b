//! An empty or collapsed volume never pushes a good snapshot out.

use anyhow::{Result, ensure};
use e2e::Protected;

#[test]
fn what_was_there_before_everything_was_removed_comes_back() -> Result<()> {
    e2e::test("guard", async |space| {
        let protected = Protected::new(space).await?;
        protected.claim("data").await?;
        space.bound("data").await?;
        protected.write("data", "for i in $(seq 50); do echo $i >file$i; done").await?;
        let list = "find . -mindepth 1 | sort | xargs stat -c '%n %F %a %u:%g %Y %s'; sha256sum file*";
        let before = protected.write("data", list).await?;
        protected.back_up("data", "good").await?;
        protected.write("data", "rm -rf ./* ; echo marker >setup-done").await?;
        for tag in ["bad-1", "bad-2", "bad-3"] {
            let source = protected.back_up_somehow("data", tag).await?;
            let mover = &source["status"]["latestMoverStatus"];
            ensure!(
                mover["result"] == "Failed" && mover["logs"].as_str().is_some_and(|logs| logs.contains("quarantined")),
                "{mover}"
            );
        }
        space.event("data-backup", "quarantined").await?;
        let series =
            format!("perennial_snapshot_quarantined{{obj_name=\"data-backup\",obj_namespace=\"{}\"", space.name);
        let metrics = e2e::metrics(&space.cluster).await?;
        ensure!(metrics.lines().any(|line| line.starts_with(&series) && line.ends_with(" 1")), "{metrics}");
        protected.delete("data").await?;
        protected.claim("data").await?;
        space.bound("data").await?;
        ensure!(protected.write("data", list).await? == before);
        protected.verified_by_kopia("data")?;
        protected.remove().await
    })
}

#[test]
fn a_volume_without_any_file_is_no_backup() -> Result<()> {
    e2e::test("empty", async |space| {
        let protected = Protected::new(space).await?;
        protected.claim("data").await?;
        space.bound("data").await?;
        protected.write("data", "echo mine >file").await?;
        protected.back_up("data", "good").await?;
        protected.write("data", "rm file").await?;
        let source = protected.back_up_somehow("data", "bad").await?;
        ensure!(source["status"]["latestMoverStatus"]["result"] == "Failed", "{}", source["status"]);
        space.event("data-backup", "the volume is empty").await?;
        protected.delete("data").await?;
        protected.claim("data").await?;
        space.bound("data").await?;
        ensure!(protected.read("data", "file").await? == "mine\n");
        protected.remove().await
    })
}
