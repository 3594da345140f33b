//! Memory and threads as a budget. ARCHITECTURE.md writes the sum down.

use std::num::NonZeroUsize;

/// Bytes that one large chunk may take: no splitter in common use makes longer pieces by default.
pub(crate) const CHUNK_BYTES: usize = 8 << 20;
/// Files are read into segments of so many bytes: short enough to stay in the cache while they are cut.
pub(crate) const SEGMENT_BYTES: usize = 256 << 10;

/// How much a run may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Threads that read files, and threads that hash and encrypt: so many of each.
    pub threads: usize,
    /// Large buffers of [`CHUNK_BYTES`] that are in use at the same time.
    pub chunks: usize,
    /// Packs on their way to the store at the same time.
    pub uploads: usize,
    /// Pack ranges on their way from the store at the same time.
    pub fetches: usize,
}

impl Limits {
    /// The least that works: one of each.
    const LEAST_BYTES: u64 = 64 << 20;

    /// Divides `memory_bytes` among buffers; more memory means more in flight.
    ///
    /// 96 MiB give two threads, three chunks and one upload, which keeps two cores and a local store busy.
    pub fn for_memory(memory_bytes: u64, threads: NonZeroUsize) -> Self {
        const MIB: u64 = 1 << 20;
        let spare = memory_bytes.saturating_sub(Self::LEAST_BYTES) / MIB;
        let spare = usize::try_from(spare).unwrap_or(usize::MAX);
        let threads = threads.get().min(1 + spare / 32).min(16);
        Self {
            threads,
            chunks: (threads + 1 + spare / 128).min(2 * threads + 2),
            uploads: (1 + spare / 64).min(8),
            fetches: (4 + spare / 16).min(32),
        }
    }
}
