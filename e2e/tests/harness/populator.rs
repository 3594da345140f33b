use anyhow::{Context, Result, ensure};
use e2e::{CLAIM, Claim, JOB, POD, Pod, Space, VOLUME};
use serde_json::json;

#[test]
fn a_claim_of_an_unserved_kind_takes_over_the_volume_of_another() -> Result<()> {
    e2e::test("populator", async |space| {
        let claim = Claim::new("populated").from_object("populate.example.test", "Source", "any");
        space.create_object(&CLAIM, claim.build()).await?;
        let primes = Space::create(&space.cluster, "primes", &[]).await?;
        primes.create_object(&CLAIM, Claim::new("prime").build()).await?;
        let fill = Pod::shell("fill", "echo populated >/data/file").mount("prime", "/data");
        primes.create_object(&JOB, fill.job()).await?;
        primes.complete("fill").await?;

        space.event("populated", "external populator").await?;
        let claim = space.get(&CLAIM, "populated").await?;
        ensure!(claim["status"]["phase"] == "Pending", "{claim:#}");
        let prime = primes.get(&CLAIM, "prime").await?;
        let volume = prime["spec"]["volumeName"].as_str().context("a bound claim has a volume")?;
        let about = &claim["metadata"];
        let reference = json!({
            "namespace": about["namespace"], "name": about["name"], "uid": about["uid"],
            "resourceVersion": about["resourceVersion"],
        });
        space.patch(&VOLUME, volume, json!({"spec": {"claimRef": reference}})).await?;
        space.bound("populated").await?;
        primes.delete().await?;

        space.create_object(&POD, Pod::shell("read", "cat /data/file").mount("populated", "/data").build()).await?;
        let said = space.succeeded("read").await?;
        ensure!(said == "populated\n", "{said}");
        Ok(())
    })
}
