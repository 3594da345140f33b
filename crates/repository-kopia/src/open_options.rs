//! What an open repository may use on this machine.

use std::path::PathBuf;

use crate::index::Places;

/// Where the index is kept on this machine, which is a matter of speed and memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenOptions {
    /// Where a large index is kept for the next time. Without one it is put into the system's temporary directory while it is
    /// open, and if that cannot be written either, held in memory up to 128 MiB.
    pub cache_directory: Option<PathBuf>,
    /// An index up to this size is held in memory, in bytes; one entry takes 44 or 60.
    pub index_memory_bytes: usize,
    /// No file of the index grows past this, nor do all that are kept together, in bytes.
    pub index_file_bytes_max: u64,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self { cache_directory: None, index_memory_bytes: 4 << 20, index_file_bytes_max: 16 << 30 }
    }
}

impl OpenOptions {
    pub(crate) fn places(&self, unique_id: &str) -> Places {
        let directory = self.cache_directory.as_deref();
        Places::new(unique_id, directory, self.index_memory_bytes, self.index_file_bytes_max)
    }
}
