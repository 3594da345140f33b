//! Reads contents and checks their hashes, some packs at a time.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use repository::{ContentId, PackId};
use repository_kopia::{ContentError, IndexEntry, IndexError, IndexView, Repository, Survey, Unsealed};
use storage::Class;

use super::VerifyError;
use super::findings::{Findings, Subject};
use crate::bits::Bits;
use crate::lane;
use crate::restore::chain;
use crate::restore::fetch::{Beside, Fetcher, range_bytes_max};
use crate::restore::ranges::Window;
use crate::restore::unseal;
use crate::run::Run;

/// Contents planned together. The index is gone through once for each so many, about 100 bytes each.
const BATCH_CONTENTS: u64 = 128 * 1024;

/// What was read.
#[derive(Default)]
pub(super) struct Read {
    pub(super) content_count: u64,
    pub(super) bytes: u64,
}

/// Whether a content is among the share that is read: always the same ones.
pub(super) fn is_in_share(content: &ContentId, percent: u8) -> bool {
    let number = content.hash().iter().take(4).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    number % 100 < u64::from(percent)
}

/// Reads the contents at the positions of the index that are `wanted`, or the share of all there are.
pub(super) fn contents(
    repository: &Repository,
    view: &IndexView,
    survey: &Survey,
    percent: u8,
    wanted: Option<&Bits>,
    run: &Run,
    findings: &mut Findings,
) -> Result<Read, VerifyError> {
    if percent == 0 {
        return Ok(Read::default());
    }
    let is_chosen = |at: usize, entry: &IndexEntry| {
        let asked_for = match wanted {
            Some(wanted) => wanted.has(at),
            None => !entry.deleted && is_in_share(&entry.content, percent),
        };
        asked_for && survey.problem(entry).is_none()
    };
    let chosen = || {
        // An index that cannot be read is to come out.
        let is_chosen = |(at, entry): &(usize, Result<IndexEntry, IndexError>)| {
            entry.as_ref().map_or(true, |entry| is_chosen(*at, entry))
        };
        view.index().iter().enumerate().filter(is_chosen).map(|(_, entry)| entry)
    };
    let (content_count, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
    let failed = Mutex::new(Vec::new());
    let repaired = Mutex::new(Vec::new());
    let check = |content: ContentId, unsealed: Result<Unsealed<'_>, ContentError>, packed_bytes: u32| {
        content_count.fetch_add(1, Ordering::Relaxed);
        bytes.fetch_add(u64::from(packed_bytes), Ordering::Relaxed);
        match unsealed {
            Ok(unsealed) => {
                if unsealed.is_repaired {
                    repaired.lock().unwrap_or_else(PoisonError::into_inner).push(content);
                }
                Ok(())
            }
            Err(error) if is_about_the_store(&error) => Err(VerifyError::ReadContent(error)),
            Err(error) => {
                failed.lock().unwrap_or_else(PoisonError::into_inner).push((content, error));
                Ok(())
            }
        }
    };
    let (mut fetcher, fetched, budget) = Fetcher::new(repository.storage(), run, Beside::Nothing);
    lane::scope(|lanes| {
        for _ in 0..run.limits.threads.max(1) {
            let (fetched, budget, check) = (fetched.clone(), Arc::clone(&budget), &check);
            lanes.spawn("unseal", move || {
                let _closes = budget.closer();
                fetched.iter().try_for_each(|fetched| {
                    unseal::each(repository, run, fetched, |wanted, content| {
                        if run.cancel.is_cancelled() {
                            return Err(VerifyError::Interrupted);
                        }
                        check(wanted.content, content, wanted.location.packed_bytes)
                    })
                })
            });
        }
        drop(fetched);
        for packs in batches(chosen())? {
            let mut window: Window<()> = Window::new();
            for entry in chosen() {
                let entry = entry?;
                if packs.contains(&entry.location.pack) {
                    window.push(entry, false, ());
                }
            }
            for range in window.take_ranges(range_bytes_max(run)) {
                fetcher.fetch(range)?;
            }
        }
        Ok::<(), VerifyError>(fetcher.finish(run)?)
    })?;
    let mut failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.sort_by_key(|(content, _)| *content);
    for (content, error) in failed {
        match error.class() {
            Class::Damaged => {
                findings.behind(&error);
                findings.damaged(Subject::Content(content), chain(&error));
            }
            Class::Retry | Class::Blocked | Class::Bug => findings.warning(Subject::Content(content), chain(&error)),
        }
    }
    for content in repaired.into_inner().unwrap_or_else(PoisonError::into_inner) {
        findings.repaired(content);
    }
    Ok(Read { content_count: content_count.into_inner(), bytes: bytes.into_inner() })
}

fn is_about_the_store(error: &ContentError) -> bool {
    matches!(error, ContentError::Read { .. }) && error.class() != Class::Damaged
}

/// Packs whose chosen contents are planned together.
fn batches(chosen: impl Iterator<Item = Result<IndexEntry, IndexError>>) -> Result<Vec<HashSet<PackId>>, VerifyError> {
    let mut counts: HashMap<PackId, u64> = HashMap::new();
    for entry in chosen {
        *counts.entry(entry?.location.pack).or_default() += 1;
    }
    let mut counts: Vec<(PackId, u64)> = counts.into_iter().collect();
    counts.sort();
    let mut batches: Vec<HashSet<PackId>> = Vec::new();
    let mut in_last = 0;
    for (pack, count) in counts {
        match batches.last_mut() {
            Some(last) if in_last + count <= BATCH_CONTENTS => {
                last.insert(pack);
                in_last += count;
            }
            _ => {
                batches.push(HashSet::from([pack]));
                in_last = count;
            }
        }
    }
    Ok(batches)
}
