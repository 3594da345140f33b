//! Files into the repository.
//!
//! ```text
//!          entries            batches of chunks          full packs
//! walk ───────────────▶ chunk ─────────────────▶ seal ───────────────▶ upload
//!  │ └ reuse              │ read, split           │ hash, dedup,         │ store
//!  │   unchanged files    │                       │ compress, encrypt,   │
//!  │                      │                       │ fill packs           ▼
//!  └──────────────────────┴───────────▶ tree ◀────┘                    commit
//!    listings, unchanged, failed         finished directories,          index, then snapshot:
//!                                        deepest first                  the last write makes it visible
//! ```
//! While it goes on, `checkpoint` publishes what is finished every 45 minutes.
//!
//! Files are read and cut by threads, hashed and encrypted by others; every channel is bounded, and large buffers come from
//! pools of fixed size, so memory does not depend on what is backed up. A run that ends anywhere before its commit leaves
//! packs that nothing refers to.

mod walk;

mod names;

mod side;

mod reuse;

mod chunk;

mod seal;

mod upload;

mod tree;

mod checkpoint;

mod commit;

mod error;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicU64;

use repository::{Entry, FailedEntry, Identity, SnapshotId, Stats};
use repository_kopia::{CompressionChoice, Policy, Repository};

pub use error::BackupError;

use crate::lane;
use crate::limits::{BATCH_BYTES, CHUNK_BYTES};
use crate::pool::Pool;
use crate::run::Run;
use crate::shortfall::Shortfalls;

/// Files waiting to be read.
const FILES_WAITING: usize = 256;
/// Batches waiting to be hashed, beyond those that the pools allow.
const BATCHES_WAITING: usize = 2;
/// Messages waiting for the tree.
const FINISHED_WAITING: usize = 1024;
/// Small batches of files in use at the same time, per thread.
const BATCHES_PER_THREAD: usize = 3;

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

    let limits = &run.limits;
    let threads = limits.threads;
    let chunk_bytes = splitter.max_piece_bytes().max(CHUNK_BYTES.min(BATCH_BYTES));
    let chunk_pool = Pool::new(limits.chunks, chunk_bytes);
    let batch_pool = Pool::new(threads * BATCHES_PER_THREAD, BATCH_BYTES);

    let finished = lane::scope(|lanes| {
        let (to_chunk, files) = lane::channel(FILES_WAITING);
        let (to_seal, batches) = lane::channel(BATCHES_WAITING);
        let (to_tree, finished) = lane::channel(FINISHED_WAITING);
        let (to_upload, packs) = lane::channel(0);
        let (spent, buffers) = lane::channel(limits.uploads + 2);
        let seal = seal::Seal { session: &session, packer: &packer, to_upload, buffers, meter: &run.meter };

        for _ in 0..limits.uploads {
            let (packs, spent, session) = (packs.clone(), spent.clone(), &session);
            lanes.spawn("upload", move || upload::run(&packs, &spent, session, run));
        }
        for _ in 0..threads {
            let (batches, sealed, seal) = (batches.clone(), to_tree.clone(), seal.clone());
            lanes.spawn("seal", move || seal::run(&batches, &sealed, &seal));
            let (files, to_seal, to_tree) = (files.clone(), to_seal.clone(), to_tree.clone());
            let pools = chunk::Pools { chunks: &chunk_pool, batches: &batch_pool };
            lanes.spawn("chunk", move || chunk::run(&files, &to_seal, &to_tree, splitter, pools, run));
        }
        drop((files, batches, to_seal, packs, spent));
        let (source, session, parents) = (&source, &session, &parents);
        lanes.spawn("walk", move || {
            walk::Walk::new(source, session, run, to_chunk, to_tree, &next_directory).run(parents)
        });
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
