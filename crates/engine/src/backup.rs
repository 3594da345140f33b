//! Files into the repository.
//!
//! ```text
//!       entries       chunks        names                  full packs
//! walk ─────────▶ chunk ─────▶ hash ─────▶ seal ──────────────────────▶ upload
//!  │ └ reuse        │ read, split           │ dedup, compress,            │ store
//!  │   unchanged    │                       │ encrypt, fill packs         │
//!  │   files        │                       │                             ▼
//!  └────────────────┴───────────▶ tree ◀────┘                          commit
//!    listings, unchanged, failed   finished directories,                 index, then snapshot:
//!                                  deepest first                         the last write makes it visible
//! ```
//! While it goes on, `checkpoint` publishes what is finished every 45 minutes.
//!
//! Files are read and cut by threads, hashed and encrypted by others; every channel is bounded, and large buffers come from
//! pools of fixed size, so memory does not depend on what is backed up. A run that ends anywhere before its commit leaves
//! packs that nothing refers to.

mod walk;

mod bare;

pub(crate) mod side;

mod reuse;

mod chunk;

mod holes;

mod hash;

mod seal;

mod upload;

mod tree;

mod gather;

mod checkpoint;

mod commit;

mod error;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

use repository::{Entry, FailedEntry, Identity, SnapshotId, Stats};
use repository_kopia::{CompressionChoice, Policy, Repository};

pub use error::BackupError;

use crate::lane;
use crate::limits::CHUNK_BYTES;
use crate::pool::Pool;
use crate::run::Run;
use crate::shortfall::Shortfalls;

/// Files waiting to be read.
const FILES_WAITING: usize = 256;
/// Batches of chunks waiting to be hashed. Those that are hashed do not wait: they would keep memory from hashing.
const BATCHES_WAITING: usize = 2;
/// Messages waiting for the tree; one may hold some dozens of entries.
const FINISHED_WAITING: usize = 128;
/// What compression and encryption may add to a longest piece.
const SCRATCH_EXTRA_BYTES: usize = 128 << 10;
/// What a compressor, and a decompressor that checks it, take themselves.
const COMPRESSOR_BYTES: usize = 1280 << 10;
/// Threads that read and seal, for each one that hashes: hashing side by side is that much faster.
const THREADS_PER_HASHING_THREAD: usize = 3;

/// What to back up as.
#[derive(Clone, Debug)]
pub struct BackupOptions {
    /// Whose history the snapshot joins.
    pub identity: Identity,
    /// Free text.
    pub description: String,
    /// Free labels; keys carry the prefix `tag:`.
    pub tags: BTreeMap<String, String>,
    /// How files are compressed, instead of what the policy says.
    pub compression: Option<CompressionChoice>,
    /// Read every file, also those that look unchanged.
    pub read_all: bool,
    /// Where this machine keeps what makes the next backup of the same source quicker; nothing there is needed or trusted.
    pub cache_directory: Option<PathBuf>,
}

/// What a backup did.
#[derive(Clone, Debug)]
pub struct BackupOutcome {
    /// The new snapshot.
    pub snapshot: SnapshotId,
    /// Its root, with the summary of everything inside.
    pub root: Entry,
    /// Counts of the run.
    pub stats: Stats,
    /// The snapshot whose unchanged files were taken over.
    pub parent: Option<SnapshotId>,
    /// Entries that could not be read and are missing from the snapshot.
    pub unreadable_count: u64,
    /// The first of them.
    pub unreadable: Vec<FailedEntry>,
    /// What of the entries in the snapshot is not kept as it is.
    pub shortfalls: Shortfalls,
}

impl BackupOutcome {
    /// True when everything that should be in the snapshot is.
    pub fn is_complete(&self) -> bool {
        self.unreadable_count == 0
    }
}

/// Backs `path` up: a directory with everything below it, or one file.
///
/// # Errors
/// When the root cannot be read, the store fails, the repository is damaged where it is needed, or the run is cancelled.
/// Then no snapshot was made, and what the repository held before is untouched. An unreadable entry below the root is no
/// error: it is named in the outcome.
pub fn backup(
    repository: &Repository,
    path: &Path,
    options: &BackupOptions,
    run: &Run,
) -> Result<BackupOutcome, BackupError> {
    let (policy, policies_below) = run.runtime.block_on(repository.policies(&options.identity))?;
    let policy = Policy { compression: options.compression.clone().unwrap_or(policy.compression.clone()), ..policy };
    let parents = if options.read_all { Vec::new() } else { reuse::parents(repository, &options.identity, run)? };
    let session = run.runtime.block_on(repository.begin())?;
    let packer = session.packer();
    let source = walk::Source::open(path, policy, policies_below)?;
    let splitter = source.splitter(repository);
    let next_directory = AtomicU64::new(0);
    let frontier = walk::Walk::frontier(&source, &parents);

    let limits = &run.limits;
    let threads = limits.threads;
    let hashing_threads = match repository.hash_lanes() {
        1 => threads,
        _ => threads.div_ceil(THREADS_PER_HASHING_THREAD),
    };
    // Sealing without compression is quick, so that half of the threads may do it to long contents at the same time.
    let sealing_long = if source.compresses() { threads } else { threads.div_ceil(2) };
    let scratches = Pool::new(sealing_long, splitter.max_piece_bytes() + SCRATCH_EXTRA_BYTES);
    let compressing_bytes = if source.compresses() { threads * COMPRESSOR_BYTES } else { 0 };
    let read_bytes = ((limits.chunks + threads - sealing_long) * CHUNK_BYTES).saturating_sub(compressing_bytes);
    let memory = chunk::Memory::new(read_bytes, threads, splitter);

    let (memory, scratches) = (&memory, &scratches);
    let finished = lane::scope(|lanes| {
        let (to_chunk, files) = lane::channel(FILES_WAITING);
        let (to_hash, chunks) = lane::channel(BATCHES_WAITING);
        let (to_seal, hashed) = lane::channel(0);
        let (to_tree, finished) = lane::channel(FINISHED_WAITING);
        let (to_upload, packs) = lane::channel(0);
        let (spent, buffers) = lane::channel(limits.uploads);
        let seal = seal::Seal { session: &session, packer: &packer, to_upload, buffers, scratches, meter: &run.meter };

        for _ in 0..limits.uploads {
            let (packs, spent, session) = (packs.clone(), spent.clone(), &session);
            lanes.spawn("upload", move || upload::run(&packs, &spent, session, run));
        }
        for _ in 0..threads {
            let (hashed, sealed, seal) = (hashed.clone(), to_tree.clone(), seal.clone());
            lanes.spawn("seal", move || seal::run(&hashed, &sealed, &seal));
            let (files, to_hash, to_tree) = (files.clone(), to_hash.clone(), to_tree.clone());
            lanes.spawn("chunk", move || chunk::run(&files, &to_hash, &to_tree, splitter, memory, run));
        }
        for _ in 0..hashing_threads {
            let (chunks, to_seal, is_alone) = (chunks.clone(), to_seal.clone(), hashing_threads == 1);
            let hashing = hash::Hashing { repository, to_seal, segments: &memory.segments, is_alone };
            lanes.spawn("hash", move || hash::run(&chunks, &hashing));
        }
        drop((files, chunks, hashed, to_hash, to_seal, packs, spent));
        let (source, session, frontier) = (&source, &session, &frontier);
        let (file_systems, next_directory) = (source.file_systems(), &next_directory);
        let cache = options.cache_directory.as_deref().filter(|_| !options.read_all);
        let bare = bare::BareDirectories::open(cache, path);
        for _ in 0..threads {
            let (to_chunk, to_tree) = (to_chunk.clone(), to_tree.clone());
            let side = side::SideReader::new(file_systems.clone());
            let bare = bare.clone();
            let walk = walk::Walk { source, session, run, to_chunk, to_tree, next_directory, side, bare };
            lanes.spawn("walk", move || walk.run(frontier));
        }
        drop((to_chunk, to_tree));
        let last = session.started();
        let checkpoints = checkpoint::Checkpoints { session, packer: &packer, options, run, last, made: Vec::new() };
        tree::run(&finished, &seal, source, checkpoints)
    });
    let finished = match finished {
        Err(BackupError::Interrupted) => {
            // What was uploaded is published, so that the next run finds it. Should that fail too, it is uploaded again.
            let _ = run.runtime.block_on(session.flush());
            return Err(BackupError::Interrupted);
        }
        finished => finished?,
    };
    commit::run(&session, &packer, options, parents.first().map(|parent| parent.snapshot.clone()), finished, run)
}
