//! Volumes that pods see as raw devices.

use anyhow::{Result, ensure};
use e2e::{CLAIM, Claim, POD, Pod, SNAPSHOT, snapshot};

#[test]
fn a_raw_device_keeps_what_is_written_and_so_does_its_copy() -> Result<()> {
    e2e::test("device", async |space| {
        space.create_object(&CLAIM, Claim::new("disk").device().size("8Mi").build()).await?;
        let write = "dd if=/dev/urandom of=/dev/disk bs=1M count=8 conv=fsync 2>/dev/null && sha256sum </dev/disk";
        space.create_object(&POD, Pod::shell("write", write).device("disk", "/dev/disk").build()).await?;
        let written = space.succeeded("write").await?;
        space.create_object(&SNAPSHOT, snapshot("disk", "disk", None)).await?;
        space.create_object(&CLAIM, Claim::new("copy").device().size("8Mi").from_snapshot("disk").build()).await?;
        let read = "sha256sum </dev/copy && sha256sum </dev/disk";
        let reader = Pod::shell("read", read).device("copy", "/dev/copy").device("disk", "/dev/disk");
        space.create_object(&POD, reader.build()).await?;
        let read = space.succeeded("read").await?;
        ensure!(read == written.repeat(2), "{written} {read}");
        Ok(())
    })
}
