//! Volumes and snapshots on disk: `volumes/ID/{record.json,data}`, `snapshots/ID/{record.json,data}`, `gates/NAME`. `data` is
//! a directory, or a file for what is seen as a device.
//!
//! Something half done has a name that begins with a dot, and is removed when the driver starts.

use crate::devices;
use crate::knobs::Knobs;
use crate::mounts;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tonic::Status;

/// Capacity of a volume for which nobody asks any.
const CAPACITY_BYTES: i64 = 1 << 30;

const RECORD: &str = "record.json";

/// What a volume is a copy of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    Snapshot(String),
    Volume(String),
}

/// What pods see of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shape {
    Directory,
    Device,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Volume {
    pub id: String,
    pub shape: Shape,
    pub capacity_bytes: i64,
    pub source: Option<Source>,
    pub parameters: HashMap<String, String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Snapshot {
    pub id: String,
    pub volume: String,
    pub size_bytes: i64,
    pub created: Duration,
    gate: Option<String>,
}

/// What somebody asks for: at least, and at most unless that is 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct Range {
    pub required_bytes: i64,
    pub limit_bytes: i64,
}

impl Range {
    fn fits(self, bytes: i64) -> bool {
        bytes >= self.required_bytes && (self.limit_bytes == 0 || bytes <= self.limit_bytes)
    }

    fn choose(self) -> Result<i64, Status> {
        if self.required_bytes < 0 || self.limit_bytes < 0 {
            return Err(Status::invalid_argument("a capacity is not negative"));
        }
        if self.limit_bytes != 0 && self.required_bytes > self.limit_bytes {
            return Err(Status::invalid_argument("more is required than allowed"));
        }
        Ok(match (self.required_bytes, self.limit_bytes) {
            (0, 0) => CAPACITY_BYTES,
            (0, limit) => CAPACITY_BYTES.min(limit),
            (required, _) => required,
        })
    }
}

pub struct Store {
    base: PathBuf,
    capacity_bytes: i64,
    /// Records are read and written by one call at a time.
    lock: Mutex<()>,
}

impl Store {
    pub fn open(base: &Path, capacity_bytes: i64) -> std::io::Result<Self> {
        for kind in ["volumes", "snapshots", "gates"] {
            std::fs::create_dir_all(base.join(kind))?;
            for entry in std::fs::read_dir(base.join(kind))? {
                let entry = entry?;
                if entry.file_name().as_encoded_bytes().starts_with(b".") {
                    mounts::clear(&entry.path().join("data"))?;
                    std::fs::remove_dir_all(entry.path())?;
                }
            }
        }
        Ok(Self { base: base.to_owned(), capacity_bytes, lock: Mutex::new(()) })
    }

    fn locked(&self) -> MutexGuard<'_, ()> {
        // The lock guards files, which a panic leaves as whole as a kill would.
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Is the gate open, or is there none?
    pub fn is_open(&self, gate: Option<&str>) -> bool {
        gate.is_none_or(|name| self.base.join("gates").join(name).exists())
    }

    fn place(&self, kind: &str, id: &str) -> Result<PathBuf, Status> {
        let fits = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
        if id.is_empty() || id.len() > 200 || id.starts_with('.') || !id.chars().all(fits) {
            return Err(Status::invalid_argument(format!("{id:?} cannot be the name of a directory")));
        }
        Ok(self.base.join(kind).join(id))
    }

    /// Where a volume's files are.
    pub fn data(&self, id: &str) -> Result<PathBuf, Status> {
        Ok(self.place("volumes", id)?.join("data"))
    }

    pub fn volume(&self, id: &str) -> Result<Option<Volume>, Status> {
        read(&self.place("volumes", id)?)
    }

    pub fn snapshot(&self, id: &str) -> Result<Option<Snapshot>, Status> {
        read(&self.place("snapshots", id)?)
    }

    /// All volumes, by id.
    pub fn volumes(&self) -> Result<Vec<Volume>, Status> {
        self.list("volumes")
    }

    /// All snapshots, by id.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>, Status> {
        self.list("snapshots")
    }

    fn list<T: DeserializeOwned>(&self, kind: &str) -> Result<Vec<T>, Status> {
        let directory = self.base.join(kind);
        let entries = std::fs::read_dir(&directory).map_err(|error| failed("list", &directory, &error))?;
        let mut ids: Vec<String> =
            entries.filter_map(Result::ok).filter_map(|entry| entry.file_name().into_string().ok()).collect();
        ids.retain(|id| !id.starts_with('.'));
        ids.sort();
        ids.iter().filter_map(|id| read(&directory.join(id)).transpose()).collect()
    }

    pub fn is_ready(&self, snapshot: &Snapshot) -> bool {
        self.is_open(snapshot.gate.as_deref())
    }

    /// Bytes that are not promised to a volume yet.
    pub fn free_bytes(&self) -> Result<i64, Status> {
        let taken: i64 = self.volumes()?.iter().map(|volume| volume.capacity_bytes).sum();
        Ok((self.capacity_bytes - taken).max(0))
    }

    pub fn create_volume(
        &self,
        name: &str,
        shape: Shape,
        range: Range,
        source: Option<Source>,
        parameters: HashMap<String, String>,
    ) -> Result<Volume, Status> {
        let _locked = self.locked();
        if let Some(volume) = self.volume(name)? {
            if volume.shape != shape || volume.source != source || !range.fits(volume.capacity_bytes) {
                return Err(Status::already_exists(format!("{name} exists, and is another volume")));
            }
            return Ok(volume);
        }
        let mut capacity_bytes = range.choose()?;
        let origin = source.as_ref().map(|source| self.origin(source)).transpose()?;
        if let Some((from, least_bytes)) = &origin {
            let least_bytes = *least_bytes;
            if from.is_dir() != (shape == Shape::Directory) {
                return Err(Status::invalid_argument("a device is no copy of a directory, nor the other way round"));
            }
            capacity_bytes = capacity_bytes.max(least_bytes);
            if !range.fits(capacity_bytes) {
                return Err(Status::out_of_range(format!("the source has {least_bytes} bytes, which are not allowed")));
            }
        }
        if capacity_bytes > self.free_bytes()? {
            return Err(Status::out_of_range(format!("{} bytes are free, not {capacity_bytes}", self.free_bytes()?)));
        }
        let volume = Volume { id: name.to_owned(), shape, capacity_bytes, source, parameters };
        let place = self.place("volumes", name)?;
        let unfinished = unfinished(&place)?;
        let data = unfinished.join("data");
        let from = origin.as_ref().map(|(from, _)| from.as_path());
        let copied = match shape {
            Shape::Directory => directory(&volume, &data, from),
            Shape::Device => device(&volume, &data, from),
        };
        if let Err(error) = copied.and_then(|()| finish(&unfinished, &place, &volume)) {
            let _best_effort = mounts::clear(&data).and_then(|()| std::fs::remove_dir_all(&unfinished));
            return Err(error);
        }
        Ok(volume)
    }

    /// The files and the least capacity that a source has.
    fn origin(&self, source: &Source) -> Result<(PathBuf, i64), Status> {
        match source {
            Source::Snapshot(id) => {
                let snapshot =
                    self.snapshot(id)?.ok_or_else(|| Status::not_found(format!("there is no snapshot {id}")))?;
                Ok((self.place("snapshots", id)?.join("data"), snapshot.size_bytes))
            }
            Source::Volume(id) => {
                let volume = self.volume(id)?.ok_or_else(|| Status::not_found(format!("there is no volume {id}")))?;
                Ok((self.data(id)?, volume.capacity_bytes))
            }
        }
    }

    /// Success when there is none.
    pub fn delete_volume(&self, id: &str) -> Result<(), Status> {
        let _locked = self.locked();
        let place = self.place("volumes", id)?;
        let data = place.join("data");
        mounts::clear(&data).map_err(|error| failed("unmount", &data, &error))?;
        if data.is_file() {
            devices::detach(&data).map_err(|error| failed("detach", &data, &error))?;
        }
        remove(&place)
    }

    pub fn expand_volume(&self, id: &str, range: Range) -> Result<Volume, Status> {
        let _locked = self.locked();
        let mut volume = self.volume(id)?.ok_or_else(|| Status::not_found(format!("there is no volume {id}")))?;
        if volume.shape == Shape::Device {
            return Err(Status::invalid_argument("a device does not grow"));
        }
        let wanted_bytes = range.choose()?.max(volume.capacity_bytes);
        if wanted_bytes - volume.capacity_bytes > self.free_bytes()? {
            return Err(Status::out_of_range(format!("{wanted_bytes} bytes are more than there are")));
        }
        volume.capacity_bytes = wanted_bytes;
        let place = self.place("volumes", id)?;
        if Knobs(&volume.parameters).in_memory()? {
            let data = place.join("data");
            mounts::resize(&data, wanted_bytes).map_err(|error| failed("resize", &data, &error))?;
        }
        write(&place, &volume)?;
        Ok(volume)
    }

    pub fn create_snapshot(&self, name: &str, volume: &str, gate: Option<&str>) -> Result<Snapshot, Status> {
        let _locked = self.locked();
        if let Some(snapshot) = self.snapshot(name)? {
            if snapshot.volume != volume {
                return Err(Status::already_exists(format!("{name} exists, and is of another volume")));
            }
            return Ok(snapshot);
        }
        let size_bytes = self.origin(&Source::Volume(volume.to_owned()))?.1;
        let place = self.place("snapshots", name)?;
        let unfinished = unfinished(&place)?;
        std::fs::create_dir_all(&unfinished).map_err(|error| failed("make", &unfinished, &error))?;
        let made = std::fs::metadata(&unfinished).and_then(|made| made.modified());
        let made = made.map_err(|error| failed("look at", &unfinished, &error))?;
        let data = unfinished.join("data");
        copy(&self.data(volume)?, &data)?;
        let snapshot = Snapshot {
            id: name.to_owned(),
            volume: volume.to_owned(),
            size_bytes,
            created: made.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default(),
            gate: gate.map(str::to_owned),
        };
        finish(&unfinished, &place, &snapshot)?;
        Ok(snapshot)
    }

    /// Success when there is none.
    pub fn delete_snapshot(&self, id: &str) -> Result<(), Status> {
        let _locked = self.locked();
        remove(&self.place("snapshots", id)?)
    }
}

/// Makes the directory of a volume, with what `from` has.
fn directory(volume: &Volume, data: &Path, from: Option<&Path>) -> Result<(), Status> {
    std::fs::create_dir_all(data).map_err(|error| failed("make", data, &error))?;
    if Knobs(&volume.parameters).in_memory()? {
        mounts::memory(data, volume.capacity_bytes).map_err(|error| failed("mount", data, &error))?;
    }
    let everybody = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(data, everybody).map_err(|error| failed("open up", data, &error))?;
    from.map_or(Ok(()), |from| copy(from, data))
}

/// Makes the file of a volume that is seen as a device, with what `from` has.
fn device(volume: &Volume, data: &Path, from: Option<&Path>) -> Result<(), Status> {
    if Knobs(&volume.parameters).in_memory()? {
        return Err(Status::invalid_argument("a device is not kept in memory"));
    }
    if !devices::exist() {
        return Err(Status::failed_precondition("this machine has no loop devices"));
    }
    let place = data.parent().unwrap_or(data);
    std::fs::create_dir_all(place).map_err(|error| failed("make", place, &error))?;
    from.map_or(Ok(()), |from| copy(from, data))?;
    devices::make(data, volume.capacity_bytes).map_err(|error| failed("make", data, &error))
}

/// An empty place beside the final one.
fn unfinished(place: &Path) -> Result<PathBuf, Status> {
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    let unfinished = place.with_file_name(format!(".{name}"));
    mounts::clear(&unfinished.join("data")).map_err(|error| failed("unmount", &unfinished, &error))?;
    remove(&unfinished)?;
    Ok(unfinished)
}

fn finish(unfinished: &Path, place: &Path, record: &impl Serialize) -> Result<(), Status> {
    write(unfinished, record)?;
    std::fs::rename(unfinished, place).map_err(|error| failed("rename to", place, &error))
}

fn write(directory: &Path, record: &impl Serialize) -> Result<(), Status> {
    let text = serde_json::to_vec(record).map_err(|error| Status::internal(format!("encode a record: {error}")))?;
    let (path, beside) = (directory.join(RECORD), directory.join(".record.json"));
    let written = std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, &path));
    written.map_err(|error| failed("write", &path, &error))
}

fn read<T: DeserializeOwned>(directory: &Path) -> Result<Option<T>, Status> {
    let path = directory.join(RECORD);
    match std::fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|error| Status::internal(format!("{} is damaged: {error}", path.display()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", &path, &error)),
    }
}

fn remove(directory: &Path) -> Result<(), Status> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed("remove", directory, &error)),
        _ => Ok(()),
    }
}

/// Every attribute, holes and hard links; the file system's own way of sharing blocks where it has one.
fn copy(from: &Path, to: &Path) -> Result<(), Status> {
    let output = Command::new("cp")
        .args(["--archive", "--reflink=auto", "--sparse=auto", "--no-target-directory"])
        .args([from, to])
        .output()
        .map_err(|error| failed("run cp for", to, &error))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let full = said.contains("No space left on device");
        let text = format!("copy {} to {}: {}", from.display(), to.display(), said.trim());
        return Err(if full { Status::out_of_range(text) } else { Status::internal(text) });
    }
    Ok(())
}

fn failed(what: &str, path: &Path, error: &std::io::Error) -> Status {
    Status::internal(format!("{what} {}: {error}", path.display()))
}
