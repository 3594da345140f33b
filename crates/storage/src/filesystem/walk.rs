//! Listing: a walk over the directories that can hold the wanted prefix.

use std::io;
use std::path::PathBuf;

use tokio::sync::mpsc::Sender;

use super::layout::{SUFFIX, is_temporary};
use super::{Fault, Inner, Layout, object};
use crate::{Object, ObjectKey};

/// File systems keep this directory at their root, readable by nobody else; it is never ours.
const FOREIGN_DIRECTORY: &str = "lost+found";

/// Directories below directories; the layouts need three.
const DEPTH_MAX: usize = 64;

/// A directory still to be read: its path, what names in it begin with, how deep it lies.
struct Pending {
    path: PathBuf,
    name: String,
    depth: usize,
}

impl Inner {
    /// Sends every object whose name begins with `prefix`; a listing whose reader is gone ends without one.
    pub(super) fn walk(&self, prefix: &str, found: &Sender<Object>) -> Result<(), Fault> {
        let mut pending = vec![Pending { path: self.root.clone(), name: String::new(), depth: 0 }];
        while let Some(directory) = pending.pop() {
            let entries = match std::fs::read_dir(&directory.path) {
                Ok(entries) => entries,
                // Removed since it was seen; the root itself must be there.
                Err(error) if error.kind() == io::ErrorKind::NotFound && directory.depth > 0 => continue,
                Err(error) => return Err(self.fault(&error)),
            };
            for entry in entries {
                let entry = entry.map_err(|error| Fault::of(&error))?;
                // Keys are text: a name that is not cannot be an object.
                let Ok(file_name) = entry.file_name().into_string() else { continue };
                let kind = entry.file_type().map_err(|error| Fault::of(&error))?;
                if kind.is_dir() {
                    let name = self.directory_name(&directory.name, &file_name);
                    let foreign = directory.depth == 0 && file_name == FOREIGN_DIRECTORY;
                    if !foreign && (name.starts_with(prefix) || prefix.starts_with(&name)) {
                        if directory.depth == DEPTH_MAX {
                            return Err(Fault::other(format!("directories lie deeper than {DEPTH_MAX} at {name}")));
                        }
                        pending.push(Pending { path: entry.path(), name, depth: directory.depth + 1 });
                    }
                    continue;
                }
                let Some(name) = self.object_name(&directory.name, &file_name) else { continue };
                if !name.starts_with(prefix) {
                    continue;
                }
                let metadata = match std::fs::metadata(entry.path()) {
                    Ok(metadata) if metadata.is_file() => metadata,
                    Ok(_) => continue,
                    // Deleted since it was seen.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(Fault::of(&error)),
                };
                if found.blocking_send(object(ObjectKey::new(name), &metadata)?).is_err() {
                    return Ok(());
                }
            }
        }
        // The root may have been taken away under the walk, which must not look like a short listing.
        self.root_exists()
    }

    fn directory_name(&self, above: &str, file_name: &str) -> String {
        match self.paths.layout() {
            Layout::Kopia | Layout::KopiaVersion1 => format!("{above}{file_name}"),
            Layout::Plain => format!("{above}{file_name}/"),
        }
    }

    fn object_name(&self, above: &str, file_name: &str) -> Option<String> {
        match self.paths.layout() {
            Layout::Kopia | Layout::KopiaVersion1 => {
                file_name.strip_suffix(SUFFIX).map(|name| format!("{above}{name}"))
            }
            Layout::Plain => (!is_temporary(file_name)).then(|| format!("{above}{file_name}")),
        }
    }
}
