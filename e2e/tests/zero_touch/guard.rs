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
        protected.delete("data").await?;
        protected.claim("data").await?;
        space.bound("data").await?;
        ensure!(protected.write("data", "ls | wc -l; cat file50").await? == "50\n50\n");
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
