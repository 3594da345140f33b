//! A snapshot into a volume.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use api::id::SnapshotId;
use api::ledger::LedgerEntry;
use api::mover::{Available, Outcome, Report, RestoreTask, Selection};
use engine::{RestoreOptions, RestoreOutcome, Run};
use repository::{EntryKind, Snapshot};
use storage::Class;

use crate::backup::{identity_of, within};
use crate::environment::Environment;
use crate::owners;
use crate::preflight::{self, Opened};
use crate::quarantine::is_quarantined;
use crate::report::{Stop, chain, shortfalls, stage, stopped, unreadable, wait};

pub(crate) fn run(
    task: &RestoreTask,
    environment: &Environment,
    run: &Run,
    report: &mut Report,
) -> Result<Outcome, Stop> {
    let clock = &*environment.clock;
    let run = &Run { limits: within(run.limits, task.parallelism), ..run.clone() };
    if run.cancel.is_cancelled() {
        return Err(Stop::Interrupted);
    }
    let Some(opened) = stage("open", clock, report, |_| preflight::for_restore(task, environment, run))? else {
        return Ok(Outcome::Nothing);
    };
    report.repository = Some(opened.id());
    let selected = stage("select", clock, report, |report| selected(task, environment, &opened, run, report))?;
    let Some(snapshot) = selected else {
        return Ok(Outcome::Nothing);
    };
    report.snapshot = Some(SnapshotId::new(snapshot.id.as_str()));
    tracing::info!(snapshot = %snapshot.id, start = %snapshot.start, "restoring");

    let options = RestoreOptions { delete_extra: task.delete_extra, verify: true, ..RestoreOptions::default() };
    let outcome = stage("restore", clock, report, |_| {
        engine::restore(&opened.repository, &snapshot, &task.data, &options, run)
            .map_err(|error| stopped(run, "restore", &error, error.class(), error.hint()))
    })?;
    report.files = outcome.file_count;
    report.bytes = restored_bytes(&outcome);
    report.shortfalls = shortfalls(&outcome.shortfalls);
    report.unreadable = unreadable(outcome.failed_count, &outcome.failed);
    report.owners = owners::of(&task.data);
    if outcome.failed_count > 0 {
        return Ok(Outcome::Partial);
    }
    compare(&snapshot, &outcome)?;
    Ok(Outcome::Complete)
}

/// The snapshot that the task means.
///
/// One that is named is taken as it is. Otherwise only good ones count, and only if all of them are known: a damaged
/// record may have been the newest. None where there are none at all of this identity, nothing says that there ever were,
/// and the task says that it may be so.
fn selected(
    task: &RestoreTask,
    environment: &Environment,
    opened: &Opened,
    run: &Run,
    report: &mut Report,
) -> Result<Option<Snapshot>, Stop> {
    let listing = wait(run, opened.repository.snapshots())?
        .map_err(|error| stopped(run, "list the snapshots", &error, error.class(), error.hint()))?;
    let identity = identity_of(&task.identity);
    let is_named = matches!(task.selection, Selection::Id(_));
    if let Some(error) = listing.damage.first().filter(|_| !is_named) {
        let reason = format!("not all snapshots of {identity} are known: {}", chain(error));
        return Err(Stop::damaged(reason, "name a snapshot by its id, or repair the repository first"));
    }
    let entry = if is_named { None } else { recorded(task, opened, run)? };
    let mut candidates = listing.snapshots;
    if !is_named && candidates.iter().all(|snapshot| snapshot.identity != identity) {
        report.available = available(&candidates);
    }
    let is_unknown = candidates.iter().all(|snapshot| snapshot.identity != identity) && entry.is_none();
    if task.may_be_nothing && is_unknown && !is_named {
        tracing::info!(%identity, snapshots = candidates.len(), "No eligible snapshots found: No data will be restored");
        return Ok(None);
    }
    if !is_named {
        candidates.retain(|snapshot| !is_quarantined(snapshot, entry.as_ref(), &environment.thresholds));
    }
    match engine::select(&candidates, Some(&identity), &selection_of(&task.selection)) {
        Ok(snapshot) => Ok(Some(snapshot.clone())),
        Err(error) => {
            Err(with_record(stopped(run, "nothing to restore", &error, error.class(), error.hint()), entry.as_ref()))
        }
    }
}

/// Whose snapshots these are, those with the newest first.
fn available(snapshots: &[Snapshot]) -> Vec<Available> {
    let mut found: BTreeMap<String, Available> = BTreeMap::new();
    for snapshot in snapshots {
        let identity = snapshot.identity.to_string();
        let first = Available { identity: identity.clone(), snapshots: 0, latest: snapshot.start };
        let known = found.entry(identity).or_insert(first);
        known.snapshots = known.snapshots.saturating_add(1);
        known.latest = known.latest.max(snapshot.start);
    }
    let mut found: Vec<Available> = found.into_values().collect();
    found.sort_by_key(|available| Reverse(available.latest));
    found
}

/// What the ledger says. A record that cannot be believed is no reason to leave an app without its data.
fn recorded(task: &RestoreTask, opened: &Opened, run: &Run) -> Result<Option<LedgerEntry>, Stop> {
    let Some(ledger) = &opened.ledger else { return Ok(None) };
    match wait(run, ledger.read(&task.claim))? {
        Ok(entry) => Ok(entry.filter(|entry| entry.repository_id == opened.id())),
        Err(error) if error.class() == Class::Damaged => {
            tracing::warn!(error = %chain(&error), "the ledger's record is not to be believed");
            Ok(None)
        }
        Err(error) => Err(stopped(run, "look into the ledger", &error, error.class(), error.hint())),
    }
}

fn with_record(stop: Stop, entry: Option<&LedgerEntry>) -> Stop {
    match (stop, entry) {
        (Stop::Failed { class, reason, hint }, Some(entry)) => Stop::Failed {
            class,
            reason: format!("{reason}, but the ledger records {} of {}", entry.snapshot_id, entry.time),
            hint,
        },
        (stop, _) => stop,
    }
}

fn selection_of(selection: &Selection) -> engine::Selection {
    match selection {
        Selection::Latest => engine::Selection::Latest,
        Selection::Id(id) => engine::Selection::Id(id.as_str().to_owned()),
        Selection::AsOf { time, previous } => engine::Selection::AsOf { time: *time, previous: *previous },
        Selection::Previous(previous) => engine::Selection::Previous(*previous),
    }
}

fn restored_bytes(outcome: &RestoreOutcome) -> u64 {
    outcome.bytes.saturating_add(outcome.resumed_bytes).saturating_add(outcome.linked_bytes)
}

/// What was restored must be what the snapshot says it holds.
fn compare(snapshot: &Snapshot, outcome: &RestoreOutcome) -> Result<(), Stop> {
    let Some(root) = &snapshot.root else { return Ok(()) };
    let Some(summary) = root.summary.as_ref().filter(|_| root.kind == EntryKind::Directory) else { return Ok(()) };
    let bytes = restored_bytes(outcome);
    // The target itself is no part of what was restored.
    let directory_count = outcome.directory_count.saturating_add(1);
    let pairs = [
        ("files", outcome.file_count, summary.file_count),
        ("bytes", bytes, summary.size_bytes),
        ("directories", directory_count, summary.directory_count),
        ("symbolic links", outcome.symlink_count, summary.symlink_count),
    ];
    for (what, restored, recorded) in pairs {
        if restored != recorded {
            let reason = format!("{restored} {what} were restored, snapshot {} has {recorded}", snapshot.id);
            return Err(Stop::damaged(reason, "run `perennial verify` to learn what is affected"));
        }
    }
    Ok(())
}
