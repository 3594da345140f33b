//! Marks contents that no snapshot needs as deleted, and takes back marks on those that are needed after all.

use repository_kopia::{IndexEntry, MaintenanceCycle, PREFIX_MANIFEST, Repository, Session, TaskStats};

use super::relocate::{self, Unreadable};
use super::{MaintainError, mark};
use crate::restore::fetch::wait;
use crate::run::Run;

/// Marks published together.
const MARKS_MAX: usize = 100_000;
/// Marks taken back together: their entries are in memory, some 150 bytes each.
const RECOVERED_MAX: usize = 64 * 1024;

/// How many contents, and how many bytes they take in packs.
#[derive(Default)]
struct Count {
    contents: u64,
    bytes: u64,
}

impl Count {
    fn add(&mut self, entry: &IndexEntry) {
        self.contents += 1;
        self.bytes += u64::from(entry.location.packed_bytes);
    }
}

pub(super) fn run(
    cycle: &MaintenanceCycle<'_>,
    repository: &Repository,
    run: &Run,
) -> Result<TaskStats, MaintainError> {
    let view = repository.index();
    let needed = mark::run(repository, &view, run)?;
    let session = repository.begin_moving()?;
    let [mut unreferenced, mut deleted, mut recent, mut in_use, mut system, mut recovered] =
        std::array::from_fn(|_| Count::default());
    let mut needed_after_all = Vec::new();
    for (at, entry) in view.index().iter().enumerate() {
        let entry = entry?;
        if entry.content.prefix() == PREFIX_MANIFEST {
            system.add(&entry);
        } else if needed.has(at) {
            in_use.add(&entry);
            if entry.deleted {
                recovered.add(&entry);
                needed_after_all.push((entry, false));
                if needed_after_all.len() >= RECOVERED_MAX {
                    take_back(&session, std::mem::take(&mut needed_after_all), run)?;
                }
            }
        } else if !cycle.is_old_enough_to_mark(&entry) {
            recent.add(&entry);
        } else {
            unreferenced.add(&entry);
            if !entry.deleted {
                deleted.add(&entry);
                if session.mark_deleted(&entry) >= MARKS_MAX {
                    wait(run, cycle.check_alone())??;
                    wait(run, session.flush())??;
                }
            }
        }
    }
    take_back(&session, needed_after_all, run)?;
    wait(run, cycle.check_alone())??;
    wait(run, session.finish())??;
    wait(run, repository.refresh())??;
    Ok(TaskStats::SnapshotGc {
        unreferenced_content_count: unreferenced.contents,
        unreferenced_content_size: unreferenced.bytes,
        deleted_content_count: deleted.contents,
        deleted_content_size: deleted.bytes,
        unreferenced_recent_content_count: recent.contents,
        unreferenced_recent_content_size: recent.bytes,
        in_use_content_count: in_use.contents,
        in_use_content_size: in_use.bytes,
        in_use_system_content_count: system.contents,
        in_use_system_content_size: system.bytes,
        recovered_content_count: recovered.contents,
        recovered_content_size: recovered.bytes,
    })
}

/// Writes contents again, so that their new entries beat the marks.
fn take_back(session: &Session<'_>, entries: Vec<(IndexEntry, bool)>, run: &Run) -> Result<(), MaintainError> {
    relocate::run(session, entries, Unreadable::Fails, run).map(|_| ())
}
