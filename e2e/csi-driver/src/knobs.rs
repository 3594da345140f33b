//! What a test can make the driver do, by the parameters of a StorageClass or VolumeSnapshotClass:
//!
//! | parameter | effect |
//! |---|---|
//! | `backing: memory` | the volume is a tmpfs of its capacity: one byte more is "no space left on device" |
//! | `createDelaySeconds: N` | a volume takes that long |
//! | `createError: TEXT` | no volume is ever made |
//! | `createGate: NAME` | no volume is made before the gate is open |
//! | `publishGate: NAME` | no pod gets the volume before the gate is open |
//! | `readOnly: "true"` | pods get the volume read-only |
//! | `snapshotError: TEXT` | no snapshot is ever taken |
//! | `snapshotGate: NAME` | snapshots are taken at once, and ready to use when the gate is open |
//!
//! A gate is open while a file `gates/NAME` lies in the driver's base directory.

use std::collections::HashMap;
use std::time::Duration;
use tonic::Status;

/// A class's parameters, as the calls bring them.
#[derive(Clone, Copy)]
pub struct Knobs<'a>(pub &'a HashMap<String, String>);

impl<'a> Knobs<'a> {
    fn get(self, name: &str) -> Option<&'a str> {
        self.0.get(name).map(String::as_str)
    }

    pub fn in_memory(self) -> Result<bool, Status> {
        match self.get("backing") {
            None | Some("directory") => Ok(false),
            Some("memory") => Ok(true),
            Some(other) => Err(Status::invalid_argument(format!("backing is directory or memory, not {other}"))),
        }
    }

    pub fn create_delay(self) -> Result<Duration, Status> {
        let Some(text) = self.get("createDelaySeconds") else { return Ok(Duration::ZERO) };
        let seconds = text.parse().map_err(|_not_a_number| {
            Status::invalid_argument(format!("createDelaySeconds is a number of seconds, not {text:?}"))
        })?;
        Ok(Duration::from_secs(seconds))
    }

    pub fn create_gate(self) -> Option<&'a str> {
        self.get("createGate")
    }

    pub fn publish_gate(self) -> Option<&'a str> {
        self.get("publishGate")
    }

    pub fn snapshot_gate(self) -> Option<&'a str> {
        self.get("snapshotGate")
    }

    pub fn refuse_create(self) -> Result<(), Status> {
        self.get("createError").map_or(Ok(()), |text| Err(Status::internal(text)))
    }

    pub fn refuse_snapshot(self) -> Result<(), Status> {
        self.get("snapshotError").map_or(Ok(()), |text| Err(Status::internal(text)))
    }

    pub fn is_read_only(self) -> bool {
        self.get("readOnly") == Some("true")
    }
}
