//! What lives in the volumes: a database in use, big media files, ten thousand odd small files, or the user's own.

mod database;
mod files;
mod media;
mod own;

use std::path::Path;

use crate::demo::error::DemoError;

pub use database::Database;
pub use files::Files;
pub use media::Media;
pub use own::Own;

/// An app with its data in one volume.
pub trait App {
    /// The claim's name.
    fn name(&self) -> &'static str;

    /// The first data.
    fn fill(&mut self, volume: &Path) -> Result<(), DemoError>;

    /// A day of use.
    fn edit(&mut self, volume: &Path) -> Result<Edit, DemoError>;

    /// Most of it becomes other than it was, if the app ever does that.
    fn replace(&mut self, _volume: &Path) -> Result<(), DemoError> {
        Ok(())
    }

    /// The app goes away, and does not look back.
    fn stop(&mut self) {}

    /// The app comes back and looks at what was restored: what it says of it, if it has a view of its own.
    fn accept(&mut self, _volume: &Path) -> Result<Option<String>, DemoError> {
        Ok(None)
    }
}

/// What an edit did.
pub struct Edit {
    /// In words.
    pub what: String,
    /// Bytes of files that are new or other than before; none if it cannot be told.
    pub changed_bytes: Option<u64>,
}

/// Bytes that do not compress and are the same in every run.
pub fn noise(seed: &str) -> blake3::OutputReader {
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof()
}
