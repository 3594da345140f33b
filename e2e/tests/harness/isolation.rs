//! Nothing leaves the node but for the host.

use anyhow::{Result, ensure};
use e2e::{POD, Pod};

#[test]
fn no_name_outside_of_the_cluster_exists() -> Result<()> {
    e2e::test("names", async |space| {
        space.create_object(&POD, Pod::idle("client").build()).await?;
        space.ready("client").await?;
        space
            .retry("names of the cluster are found", async || {
                space.shell("client", "nslookup kubernetes.default.svc.cluster.local.").await
            })
            .await?;
        let outside = space.exec("client", &["nslookup", "example.org."]).await?;
        ensure!(!outside.success, "{outside:?}");
        Ok(())
    })
}
