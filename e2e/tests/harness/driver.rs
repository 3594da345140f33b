//! The CSI test driver by itself, under the suite that drivers are judged by.

use anyhow::{Context, Result, ensure};
use std::process::Command;

/// In a mount namespace of its own, so that whatever is left mounted ends with it.
const SCRIPT: &str = r#"
    mount -t tmpfs tmpfs "$ROOM" && mkdir "$ROOM/base" && cd "$ROOM" || exit
    "$DRIVER" --base "$ROOM/base" --endpoint "$ROOM/csi.sock" "$@" &
    "$SANITY" --csi.endpoint="$ROOM/csi.sock" --csi.mountdir="$ROOM/mount" --csi.stagingdir="$ROOM/stage" --ginkgo.no-color
    status=$?
    kill %1
    exit $status
"#;

fn check(arguments: &[&str]) -> Result<()> {
    let variable =
        |name: &str| std::env::var(name).with_context(|| format!("{name} is not set: `cargo xtask e2e` does"));
    let room = tempfile::tempdir().context("make a directory")?;
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "bash", "-c", SCRIPT, "bash"])
        .args(arguments)
        .env("ROOM", room.path())
        .env("DRIVER", variable("PERENNIAL_E2E_CSI_DRIVER")?)
        .env("SANITY", variable("PERENNIAL_E2E_CSI_SANITY")?)
        .output()
        .context("run unshare")?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "csi-sanity: {said}{}", String::from_utf8_lossy(&output.stderr));
    ensure!(said.contains("SUCCESS!") && said.contains("0 Failed"), "csi-sanity ran nothing: {said}");
    Ok(())
}

#[test]
fn the_suite_passes() -> Result<()> {
    check(&[])
}

#[test]
fn the_suite_passes_without_snapshots() -> Result<()> {
    check(&["--without-snapshots"])
}
