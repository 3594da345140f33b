use anyhow::{Result, ensure};
use e2e::{CLAIM, CONFIG_MAP, Claim};
use kube::api::{Patch, PatchParams};
use serde_json::json;

#[test]
fn a_write_is_counted_once() -> Result<()> {
    e2e::test_on_control_plane("counted", async |space| {
        let ours = space.agent(&space.name)?;
        let mark = ours.cluster.mark().await?;
        ours.create_object(&CLAIM, Claim::new("data").build()).await?;
        // Applied twice: the second time nothing changes, and it is a call all the same.
        let map =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "map"}, "data": {"key": "value"}});
        let apply = PatchParams::apply("counted");
        let first = ours.api(&CONFIG_MAP).patch("map", &apply, &Patch::Apply(&map)).await?;
        let second = ours.api(&CONFIG_MAP).patch("map", &apply, &Patch::Apply(&map)).await?;
        ensure!(first.metadata.resource_version == second.metadata.resource_version);
        let calls = ours.cluster.calls(mark).await?.of_agent(&space.name);
        let told: Vec<String> = calls.iter().map(|call| format!("{call} {} {}", call.name, call.code)).collect();
        let expected =
            ["create persistentvolumeclaims data 201", "patch configmaps map 201", "patch configmaps map 200"];
        ensure!(told == expected, "{told:#?}");
        Ok(())
    })
}
