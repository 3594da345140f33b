//! Giving storage back: one cycle of maintenance.
//!
//! ```text
//! quick   merge index blobs of settled epochs ─▶ begin a new epoch
//! full    collect: walk all snapshots, mark what none needs ─▶ merge manifests ─▶ move contents out of short packs
//!         ─▶ drop marks that outlived two collections ─▶ delete packs that nothing names ─▶ index blobs ─▶ logs
//! ```
//! Where the index has no epochs, a quick cycle moves contents out of short metadata packs, deletes packs, and merges index
//! blobs.
//! What may go, and when, is decided in `repository_kopia`; here the steps stand in their order, and the work that needs
//! threads. A step that fails ends the cycle; every step leaves a sound repository wherever it is cut off.
//!
//! Memory: three bits for each content of the index while snapshots are walked; the names of packs; and what a restore takes
//! for contents on their way.

mod collect;
mod error;
mod mark;
pub(crate) mod relocate;
mod rewrite;

use jiff::Timestamp;
use repository_kopia::{CycleKind, MaintenanceCycle, PacksDeleted, Repository, Safety, Task, TaskStats};

pub use error::MaintainError;

use crate::restore::chain;
use crate::restore::fetch::wait;
use crate::run::Run;

/// How to maintain.
#[derive(Clone, Copy, Debug)]
pub struct MaintainOptions {
    /// Which cycle.
    pub cycle: CycleKind,
    /// Also where somebody else is named as the owner.
    pub force: bool,
    /// How long things wait before they go.
    pub safety: Safety,
}

/// What a cycle did.
#[derive(Clone, Debug, PartialEq)]
pub struct MaintainOutcome {
    /// Which cycle.
    pub cycle: CycleKind,
    /// Its steps, in order.
    pub tasks: Vec<TaskOutcome>,
    /// Manifest contents that were merged into one.
    pub manifests_merged_count: usize,
    /// When the next full cycle is due.
    pub next_full: Option<Timestamp>,
    /// When the next quick cycle is due.
    pub next_quick: Option<Timestamp>,
}

/// What came of one step.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskOutcome {
    /// Which.
    pub task: Task,
    /// What it did.
    pub done: Done,
}

/// What a step did.
#[derive(Clone, Debug, PartialEq)]
pub enum Done {
    /// It ran, and counted this.
    Counted(TaskStats),
    /// It ran and found nothing to do.
    Nothing,
    /// It must wait for a later cycle.
    Waits,
}

/// Runs one cycle.
///
/// # Errors
/// When this client is not the owner, anything that decides about deletion cannot be read, somebody else maintains the
/// repository at the same time, the store fails, or the run is cancelled. What was done until then is sound.
pub fn maintain(
    repository: &Repository,
    options: &MaintainOptions,
    run: &Run,
) -> Result<MaintainOutcome, MaintainError> {
    let beginning = repository.begin_maintenance(options.cycle, options.force, options.safety);
    let cycle = wait(run, beginning)??;
    let mut steps = Steps { cycle: &cycle, repository, run, outcomes: Vec::new(), manifests_merged_count: 0 };
    match options.cycle {
        CycleKind::Quick => steps.quick()?,
        CycleKind::Full => steps.full()?,
    }
    let schedule = cycle.schedule();
    Ok(MaintainOutcome {
        cycle: options.cycle,
        tasks: steps.outcomes,
        manifests_merged_count: steps.manifests_merged_count,
        next_full: schedule.next_full(),
        next_quick: schedule.next_quick(),
    })
}

/// Runs the cycle that is due, if one is and this client is the owner, with all waiting times.
///
/// # Errors
/// Those of [`maintain`], and when nobody can tell whether a cycle is due.
pub fn maintain_if_due(repository: &Repository, run: &Run) -> Result<Option<MaintainOutcome>, MaintainError> {
    let Some(cycle) = wait(run, repository.due_maintenance())?? else { return Ok(None) };
    maintain(repository, &MaintainOptions { cycle, force: false, safety: Safety::full() }, run).map(Some)
}

struct Steps<'a> {
    cycle: &'a MaintenanceCycle<'a>,
    repository: &'a Repository,
    run: &'a Run,
    outcomes: Vec<TaskOutcome>,
    manifests_merged_count: usize,
}

impl Steps<'_> {
    fn quick(&mut self) -> Result<(), MaintainError> {
        let (cycle, run) = (self.cycle, self.run);
        if !cycle.has_epochs() {
            return self.quick_without_epochs();
        }
        self.step(Task::CompactSingleEpoch, || Ok(wait(run, cycle.compact_epochs())??))?;
        self.step(Task::AdvanceEpoch, || Ok(wait(run, cycle.advance_epoch())??))
    }

    fn quick_without_epochs(&mut self) -> Result<(), MaintainError> {
        let (cycle, run) = (self.cycle, self.run);
        self.rewrite(Task::QuickRewriteContents)?;
        self.delete_packs(match cycle.packs_deleted() {
            PacksDeleted::Metadata => Task::QuickDeleteBlobs,
            PacksDeleted::All => Task::FullDeleteBlobs,
        })?;
        self.step(Task::IndexCompaction, || Ok(wait(run, cycle.compact_legacy_index())??))?;
        self.step(Task::CleanupLogs, || Ok(wait(run, cycle.clean_up_logs())??))
    }

    fn rewrite(&mut self, task: Task) -> Result<(), MaintainError> {
        let (cycle, repository, run) = (self.cycle, self.repository, self.run);
        match cycle.may_rewrite() {
            true => self.step(task, || Ok(Some(rewrite::run(cycle, repository, run)?))),
            false => {
                self.waits(task);
                Ok(())
            }
        }
    }

    fn delete_packs(&mut self, task: Task) -> Result<(), MaintainError> {
        let (cycle, run) = (self.cycle, self.run);
        match cycle.may_delete_packs() {
            true => self.step(task, || Ok(wait(run, cycle.delete_unreferenced_packs())??)),
            false => {
                self.waits(task);
                Ok(())
            }
        }
    }

    fn full(&mut self) -> Result<(), MaintainError> {
        let (cycle, repository, run) = (self.cycle, self.repository, self.run);
        self.step(Task::SnapshotGc, || Ok(Some(collect::run(cycle, repository, run)?)))?;
        self.manifests_merged_count = wait(run, cycle.compact_manifests())??;
        self.rewrite(Task::FullRewriteContents)?;
        match cycle.drop_time() {
            Some(until) => self.step(Task::FullDropDeletedContent, || Ok(wait(run, cycle.drop_deleted(until))??))?,
            None => self.waits(Task::FullDropDeletedContent),
        }
        self.delete_packs(Task::FullDeleteBlobs)?;
        if cycle.extends_locks() {
            self.step(Task::ExtendBlobRetentionTime, || Ok(wait(run, cycle.extend_locks())??))?;
        }
        match cycle.has_epochs() {
            true => self.index_with_epochs()?,
            false => self.step(Task::IndexCompaction, || Ok(wait(run, cycle.compact_legacy_index())??))?,
        }
        self.step(Task::CleanupLogs, || Ok(wait(run, cycle.clean_up_logs())??))
    }

    fn index_with_epochs(&mut self) -> Result<(), MaintainError> {
        let (cycle, run) = (self.cycle, self.run);
        self.step(Task::CompactSingleEpoch, || Ok(wait(run, cycle.compact_epochs())??))?;
        self.step(Task::AdvanceEpoch, || Ok(wait(run, cycle.advance_epoch())??))?;
        self.step(Task::GenerateEpochRangeIndex, || Ok(wait(run, cycle.compact_range())??))?;
        self.step(Task::CleanupEpochMarkers, || Ok(wait(run, cycle.clean_up_markers())??))?;
        self.step(Task::DeleteSupersededEpochIndexes, || Ok(wait(run, cycle.delete_superseded_indexes())??))
    }

    fn waits(&mut self, task: Task) {
        self.outcomes.push(TaskOutcome { task, done: Done::Waits });
    }

    /// Runs one step and remembers in the repository what came of it.
    fn step(
        &mut self,
        task: Task,
        work: impl FnOnce() -> Result<Option<TaskStats>, MaintainError>,
    ) -> Result<(), MaintainError> {
        if self.run.cancel.is_cancelled() {
            return Err(MaintainError::Interrupted);
        }
        let began = self.repository.clock().now();
        let result = work();
        let failure = result.as_ref().err().map(|error| chain(error));
        let stats = result.as_ref().ok().and_then(Option::as_ref);
        let recorded = wait(self.run, self.cycle.record(task, began, failure, stats));
        // The step's own failure says more than that it could not be recorded.
        let done = result.map_err(|error| MaintainError::Task { task: task.kopia_name(), source: Box::new(error) })?;
        recorded??;
        self.outcomes.push(TaskOutcome { task, done: done.map_or(Done::Nothing, Done::Counted) });
        Ok(())
    }
}
