//! The directories of a snapshot, depth first, read some way ahead.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use repository::{DataId, Entry};
use repository_kopia::{DirectoryListing, ReadError, Repository};

use super::fetch::{FetchError, wait};
use crate::run::Run;

/// Directories read at the same time.
pub(crate) const LOOK_AHEAD: usize = 16;
/// Directories are read ahead only while they are sure to hold no more entries than this, all together.
const LOOK_AHEAD_ENTRIES: u64 = 20_000;

type Answer = (u64, Result<DirectoryListing, ReadError>);
/// What the caller knows of a directory, and its listing or why there is none.
pub(crate) type Listed<T> = (T, Result<DirectoryListing, ReadError>);

/// Directories still to be read; `T` is what the caller knows of each.
///
/// Memory: 20,000 entries of directories read ahead, 300 bytes each, and 100 bytes and a `T` for each directory that waits.
pub(crate) struct Walk<'a, T> {
    repository: &'a Repository,
    run: &'a Run,
    stack: Vec<Pending<T>>,
    /// How many waited when the last one was given out: what is above has come since.
    waiting_count: usize,
    next_id: u64,
    in_flight: FuturesUnordered<Pin<Box<dyn Future<Output = Answer> + Send + 'a>>>,
    read: HashMap<u64, Result<DirectoryListing, ReadError>>,
    ahead_entries: u64,
}

struct Pending<T> {
    id: u64,
    data: DataId,
    entry_count_max: u64,
    asked: bool,
    tag: T,
}

impl<'a, T> Walk<'a, T> {
    pub(crate) fn new(repository: &'a Repository, run: &'a Run) -> Self {
        Self {
            repository,
            run,
            stack: Vec::new(),
            waiting_count: 0,
            next_id: 0,
            in_flight: FuturesUnordered::new(),
            read: HashMap::new(),
            ahead_entries: 0,
        }
    }

    /// Puts a directory before all that waited when the last one was given out, and behind those put there since.
    pub(crate) fn push(&mut self, entry: &Entry, tag: T) {
        let inside = entry.summary.as_ref();
        let entry_count_max = inside.map_or(LOOK_AHEAD_ENTRIES, |summary| {
            summary.file_count.saturating_add(summary.symlink_count).saturating_add(summary.directory_count)
        });
        let id = self.next_id;
        self.next_id += 1;
        self.stack.push(Pending { id, data: entry.data.clone(), entry_count_max, asked: false, tag });
    }

    /// The next directory.
    pub(crate) fn next(&mut self) -> Result<Option<Listed<T>>, FetchError> {
        if self.run.cancel.is_cancelled() {
            return Err(FetchError::Interrupted);
        }
        self.stack[self.waiting_count..].reverse();
        self.look_ahead();
        let Some(top) = self.stack.pop() else { return Ok(None) };
        self.waiting_count = self.stack.len();
        while !self.read.contains_key(&top.id) {
            match wait(self.run, self.in_flight.next())? {
                Some((id, listing)) => {
                    self.read.insert(id, listing);
                }
                None => break,
            }
        }
        self.ahead_entries -= top.entry_count_max;
        let listing = self.read.remove(&top.id).expect("look_ahead always asks for the top of the stack");
        Ok(Some((top.tag, listing)))
    }

    fn look_ahead(&mut self) {
        let ahead = self.stack.iter_mut().rev().take(LOOK_AHEAD);
        for (depth, pending) in ahead.enumerate() {
            if pending.asked {
                continue;
            }
            if depth > 0 && self.ahead_entries.saturating_add(pending.entry_count_max) > LOOK_AHEAD_ENTRIES {
                break;
            }
            pending.asked = true;
            // Far below the limit of the type, and what is added here is what is subtracted later.
            pending.entry_count_max = pending.entry_count_max.min(u64::from(u32::MAX));
            self.ahead_entries += pending.entry_count_max;
            let (repository, id, data) = (self.repository, pending.id, pending.data.clone());
            self.in_flight.push(Box::pin(async move { (id, repository.listing(&data).await) }));
        }
    }
}
