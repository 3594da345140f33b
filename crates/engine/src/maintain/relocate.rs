//! Contents into new packs: read, checked, sealed again.
//!
//! ```text
//! entries, by pack and offset ─▶ fetch ranges ─▶ unseal, seal ─▶ fill packs ─▶ upload
//! ```
//! The new entries wait in the session for its flush. The old packs are not touched.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use codec::compress::Algorithm;
use repository_kopia::{FinishedPack, IndexEntry, Packer, Sealer, Session};
use storage::Class;

use super::MaintainError;
use crate::lane::{self, Sender, Stopped};
use crate::meter::Counter;
use crate::restore::fetch::{Beside, Fetcher, range_bytes_max, wait};
use crate::restore::ranges::Window;
use crate::restore::unseal;
use crate::run::Run;

/// What happens to a content whose bytes are damaged.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// It is needed: everything stops.
    Fails,
    /// It stays where it is, and its pack with it.
    Stays,
}

/// How many contents were moved, and how many bytes they took in packs.
#[derive(Default)]
pub(crate) struct Moved {
    pub(crate) content_count: u64,
    pub(crate) bytes: u64,
}

/// Moves contents; each comes with whether it is to be marked as deleted from now on.
pub(crate) fn run(
    session: &Session<'_>,
    entries: Vec<(IndexEntry, bool)>,
    unreadable: Unreadable,
    run: &Run,
) -> Result<Moved, MaintainError> {
    if entries.is_empty() {
        return Ok(Moved::default());
    }
    let repository = session.repository();
    let packer = session.packer();
    let (content_count, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
    let (mut fetcher, fetched, budget) = Fetcher::new(repository.storage(), run, Beside::Packs);
    lane::scope(|lanes| {
        let (to_upload, packs) = lane::channel::<FinishedPack>(0);
        for _ in 0..run.limits.uploads.max(1) {
            let packs = packs.clone();
            lanes.spawn("upload", move || packs.iter().try_for_each(|pack| upload(session, pack, run)));
        }
        for _ in 0..run.limits.threads.max(1) {
            let (fetched, budget, to_upload) = (fetched.clone(), Arc::clone(&budget), to_upload.clone());
            let (packer, counts) = (&packer, (&content_count, &bytes));
            lanes.spawn("move", move || {
                let _closes = budget.closer();
                let mut worker = Worker { packer, sealer: repository.sealer(), scratch: Vec::new(), to_upload };
                fetched.iter().try_for_each(|fetched| {
                    unseal::each(repository, run, fetched, |wanted, content| {
                        if run.cancel.is_cancelled() {
                            return Err(MaintainError::Interrupted);
                        }
                        let plain = match content {
                            Err(error) if unreadable == Unreadable::Stays && error.class() == Class::Damaged => {
                                return Ok(());
                            }
                            content => content?.bytes,
                        };
                        for (entry, deleted) in &wanted.places {
                            worker.store(entry, *deleted, &plain)?;
                            counts.0.fetch_add(1, Ordering::Relaxed);
                            counts.1.fetch_add(u64::from(entry.location.packed_bytes), Ordering::Relaxed);
                        }
                        Ok(())
                    })
                })
            });
        }
        drop((fetched, packs, to_upload));
        let mut window = Window::new();
        let mut entries = entries.into_iter().peekable();
        while let Some((entry, deleted)) = entries.next() {
            window.push(entry.clone(), false, (entry, deleted));
            if window.is_full() || entries.peek().is_none() {
                for range in window.take_ranges(range_bytes_max(run)) {
                    fetcher.fetch(range)?;
                }
            }
        }
        Ok::<(), MaintainError>(fetcher.finish(run)?)
    })?;
    for pack in packer.finish()? {
        upload(session, pack, run)?;
    }
    Ok(Moved { content_count: content_count.into_inner(), bytes: bytes.into_inner() })
}

fn upload(session: &Session<'_>, pack: FinishedPack, run: &Run) -> Result<(), MaintainError> {
    let bytes = pack.size_bytes();
    wait(run, session.upload(pack))??;
    run.meter.add(Counter::BytesUploaded, bytes);
    Ok(())
}

struct Worker<'a> {
    packer: &'a Packer<'a>,
    sealer: Sealer<'a>,
    scratch: Vec<u8>,
    to_upload: Sender<FinishedPack>,
}

impl Worker<'_> {
    fn store(&mut self, old: &IndexEntry, deleted: bool, plain: &[u8]) -> Result<(), MaintainError> {
        let Self { packer, sealer, scratch, to_upload } = self;
        let mut full = |pack| to_upload.send(pack).map_err(|_| MaintainError::from(Stopped));
        sealer.seal(old.content, &[plain], compression(old), scratch, |sealed, out| {
            packer.push_moved(&sealed, out, (old, deleted), Vec::new, &mut full)
        })?
    }
}

/// A content keeps its compressor; one that is only read here becomes Kopia's fastest.
fn compression(old: &IndexEntry) -> Option<Algorithm> {
    match old.location.compression {
        0 => None,
        header_id => {
            let algorithm = Algorithm::from_header_id(header_id).filter(Algorithm::writable);
            Some(algorithm.unwrap_or(Algorithm::ZstdFastest))
        }
    }
}
