//! A volume into its repository, and what must hold before and after.
//!
//! Order: retention's rules → what a person accepts → snapshot → guard → ledger record → expiry → maintenance, if it is due and ours. So a run that
//! is killed anywhere has removed nothing that the ledger does not know to be replaced by something good.

use api::exit::Class as ReportClass;
use api::id::SnapshotId;
use api::ledger::{FORMAT_VERSION, Figures, GuardVerdict, LedgerEntry, QUARANTINE_TAG, guard};
use api::mover::{BackupTask, Outcome, Owner, Report};
use api::owner::{Ids, OWNER_TAG};
use api::retain::Retain;
use codec::compress::Algorithm;
use engine::{BackupOptions, BackupOutcome, Limits, Run};
use repository::{Identity, Snapshot};
use repository_kopia::{CompressionChoice, Retention, WriteError, retain};
use storage::Class;

use crate::environment::Environment;
use crate::owners;
use crate::preflight::{self, Opened, is_empty_directory};
use crate::quarantine::{figures, hold, is_quarantined, release};
use crate::report::{Stop, chain, shortfalls, stage, stopped, unreadable, wait};

/// The name under which Kopia's policies say "not at all".
const NO_COMPRESSION: &str = "none";

pub(crate) fn run(
    task: &BackupTask,
    environment: &Environment,
    run: &Run,
    report: &mut Report,
) -> Result<Outcome, Stop> {
    let clock = &*environment.clock;
    let run = &Run { limits: within(run.limits, task.parallelism), ..run.clone() };
    if run.cancel.is_cancelled() {
        return Err(Stop::Interrupted);
    }
    if is_empty_directory_of(task)? {
        return Ok(Outcome::Nothing);
    }
    report.owners = owners::of(&task.data);
    let options = options(task, environment, report.owners.first())?;
    let opened = stage("open", clock, report, |_| preflight::for_backup(task, environment, run))?;
    report.repository = Some(opened.id());
    let last_good = stage("ledger", clock, report, |_| last_good(task, &opened, run))?;
    let step = Step { task, opened: &opened, environment, run, identity: &options.identity };
    stage("retention", clock, report, |_| step.set())?;
    let last_good = match &task.accepted {
        Some(accepted) => stage("accept", clock, report, |_| step.accept(accepted, last_good))?,
        None => last_good,
    };
    let is_regarded = |entry: &LedgerEntry| task.disregarded.is_none_or(|moment| entry.time > moment);
    let last_good = last_good.filter(is_regarded);

    let outcome = stage("backup", clock, report, |_| {
        engine::backup(&opened.repository, &task.data, &options, run)
            .map_err(|error| stopped(run, "back up", &error, error.class(), error.hint()))
    })?;
    report.unreadable = unreadable(outcome.unreadable_count, &outcome.unreadable);
    report.shortfalls = shortfalls(&outcome.shortfalls);

    // From here on the snapshot exists: what follows is not interrupted, since it decides what the snapshot counts for.
    let after = stage("check", clock, report, |_| step.look_again(&outcome))?;
    let held = figures(&after.snapshot);
    report.snapshot = Some(SnapshotId::new(after.snapshot.id.as_str()));
    (report.files, report.bytes) = (held.files, held.bytes);

    let previous = after.previous(task, last_good.as_ref(), environment);
    if let Some(GuardVerdict::Quarantine { why }) =
        previous.map(|previous| guard(&previous, &held, &environment.thresholds))
    {
        let id = stage("quarantine", clock, report, |_| step.quarantine(&after, &why.to_string()))?;
        report.snapshot = Some(SnapshotId::new(id.as_str()));
        report.quarantined = true;
        return Ok(Outcome::Failed {
            class: ReportClass::Blocked,
            reason: format!("snapshot {id} is quarantined: {why}"),
            hint: format!(
                "older snapshots are kept and restored; if the data was removed on purpose, accept this one: annotate \
                 the claim with perennial.dev/accept-snapshot={id}"
            ),
        });
    }
    stage("quarantine", clock, report, |_| step.quarantine_unmarked(&after, last_good.as_ref()))?;
    stage("ledger", clock, report, |_| step.record(&after.snapshot, held).map(drop))?;
    stage("retention", clock, report, |_| step.expire(&after, last_good.as_ref()))?;
    let has_failed = stage("maintenance", clock, report, |_| Ok(!step.maintain()))?;
    report.maintenance_failed = has_failed;
    Ok(if outcome.is_complete() { Outcome::Complete } else { Outcome::Partial })
}

/// VolSync's rule: a source without anything in it makes no snapshot and is no failure.
fn is_empty_directory_of(task: &BackupTask) -> Result<bool, Stop> {
    is_empty_directory(&task.data).map_err(|error| {
        let what = format!("read {}", task.data.display());
        Stop::failed(&what, &error, Class::Blocked, Some("check that the volume is mounted there and may be read"))
    })
}

fn options(task: &BackupTask, environment: &Environment, owner: Option<&Owner>) -> Result<BackupOptions, Stop> {
    let owner = owner.map(|owner| (OWNER_TAG.to_owned(), Ids { uid: owner.uid, gid: owner.gid }.to_string()));
    Ok(BackupOptions {
        identity: identity_of(&task.identity),
        description: String::new(),
        tags: owner.into_iter().collect(),
        compression: task.compression.as_deref().map(compression).transpose()?,
        read_all: false,
        cache_directory: environment.cache_directory.clone(),
    })
}

fn compression(name: &str) -> Result<CompressionChoice, Stop> {
    if name == NO_COMPRESSION {
        return Ok(CompressionChoice::always(None));
    }
    match Algorithm::from_kopia_name(name).filter(Algorithm::writable) {
        Some(algorithm) => Ok(CompressionChoice::always(Some(algorithm))),
        None => Err(Stop::blocked(
            format!("compression {name:?} is not known, or only readable"),
            "choose one of Kopia's, as in zstd-fastest, or none",
        )),
    }
}

/// The same name in the repository's words.
pub(crate) fn identity_of(identity: &api::naming::Identity) -> Identity {
    Identity { user: identity.username.clone(), host: identity.hostname.clone(), path: identity.path.clone() }
}

/// As many transfers at a time as the task asks for, but never more than memory allows.
pub(crate) fn within(limits: Limits, parallelism: Option<u32>) -> Limits {
    let asked = parallelism.map_or(usize::MAX, |count| usize::try_from(count.max(1)).unwrap_or(usize::MAX));
    Limits { uploads: limits.uploads.min(asked), fetches: limits.fetches.min(asked), ..limits }
}

/// The ledger's record of the last good snapshot.
///
/// A record that is damaged stops the backup unless the repository's id is pinned: without a pin, the record is the only
/// witness of which repository this should be, and a new record would remove it.
fn last_good(task: &BackupTask, opened: &Opened, run: &Run) -> Result<Option<LedgerEntry>, Stop> {
    let Some(ledger) = &opened.ledger else { return Ok(None) };
    match wait(run, ledger.read(&task.claim))? {
        Ok(Some(entry)) if entry.repository_id == opened.id() => Ok(Some(entry)),
        Ok(Some(entry)) if task.expected_repository_id.is_none() => Err(Stop::blocked(
            format!("WrongRepository: the ledger names {}, {} is there", entry.repository_id, opened.id()),
            "check bucket and prefix; if this repository is meant, pin its id",
        )),
        Ok(_) => Ok(None),
        Err(error) if error.class() == Class::Damaged && task.expected_repository_id.is_some() => {
            tracing::warn!(error = %chain(&error), "the ledger's record is not to be believed and is written anew");
            Ok(None)
        }
        Err(error) => Err(stopped(run, "look into the ledger", &error, error.class(), error.hint())),
    }
}

/// What the steps after a snapshot share.
struct Step<'a> {
    task: &'a BackupTask,
    opened: &'a Opened,
    environment: &'a Environment,
    run: &'a Run,
    identity: &'a Identity,
}

/// The repository as it is with the new snapshot in it.
struct After {
    snapshot: Snapshot,
    /// All snapshots of the identity, the new one too, ascending.
    history: Vec<Snapshot>,
    /// Why nothing may be removed, if so.
    damage: Option<String>,
}

impl After {
    /// What the new snapshot is held against: the ledger's last good one, else the newest that is not held.
    fn previous(
        &self,
        task: &BackupTask,
        last_good: Option<&LedgerEntry>,
        environment: &Environment,
    ) -> Option<Figures> {
        if let Some(entry) = last_good {
            return Some(Figures { files: entry.files, bytes: entry.bytes });
        }
        let is_good = |snapshot: &&Snapshot| {
            snapshot.incomplete.is_none()
                && !is_quarantined(snapshot, None, &environment.thresholds)
                && task.disregarded.is_none_or(|moment| snapshot.start > moment)
        };
        self.history.iter().rev().filter(|one| one.id != self.snapshot.id).find(is_good).map(figures)
    }
}

impl Step<'_> {
    /// Writes the task's retention into the path's policy, where other programs keep to it too.
    fn set(&self) -> Result<(), Stop> {
        if self.task.retain.is_unset() {
            return Ok(());
        }
        let retention = retention_of(&self.task.retain);
        let set = self.run.runtime.block_on(self.opened.repository.set_retention(self.identity, &retention));
        set.map_err(|error| stopped(self.run, "set the retention", &error, error.class(), error.hint()))
    }

    /// Takes the mark from the snapshot that a person accepts; the last good one is the newer of the two. One that is not
    /// there was accepted before.
    fn accept(&self, accepted: &SnapshotId, last_good: Option<LedgerEntry>) -> Result<Option<LedgerEntry>, Stop> {
        let repository = &self.opened.repository;
        let runtime = &self.run.runtime;
        let what = format!("accept snapshot {accepted}");
        let listing = runtime
            .block_on(repository.snapshots())
            .map_err(|error| Stop::failed(&what, &error, error.class(), error.hint()))?;
        let is_meant = |snapshot: &&Snapshot| {
            snapshot.id.as_str() == accepted.as_str()
                && snapshot.identity == *self.identity
                && snapshot.tags.contains_key(QUARANTINE_TAG)
        };
        let Some(held) = listing.snapshots.iter().find(is_meant) else { return Ok(last_good) };
        let good = runtime
            .block_on(release(repository, held))
            .map_err(|error| Stop::failed(&what, &error, error.class(), error.hint()))?;
        tracing::info!(snapshot = good.id.as_str(), "accepted: it counts as good from now on");
        match last_good {
            Some(last_good) if last_good.time > good.start => Ok(Some(last_good)),
            Some(_) | None => self.record(&good, figures(&good)).map(Some),
        }
    }

    /// Reads the index anew and finds in it what was just written: a snapshot that others cannot see is none.
    fn look_again(&self, outcome: &BackupOutcome) -> Result<After, Stop> {
        let repository = &self.opened.repository;
        let runtime = &self.run.runtime;
        let what = "look for the new snapshot";
        runtime
            .block_on(repository.refresh())
            .map_err(|error| Stop::failed(what, &error, error.class(), error.hint()))?;
        let listing = runtime
            .block_on(repository.snapshots())
            .map_err(|error| Stop::failed(what, &error, error.class(), error.hint()))?;
        let damage = listing.damage.first().map(|error| chain(error));
        let history: Vec<Snapshot> =
            listing.snapshots.into_iter().filter(|snapshot| snapshot.identity == *self.identity).collect();
        let found = history.iter().find(|snapshot| snapshot.id == outcome.snapshot).cloned();
        let snapshot = found.ok_or_else(|| {
            let reason = format!("snapshot {} was written and is not there", outcome.snapshot);
            Stop::damaged(reason, "check that the store keeps what it acknowledges")
        })?;
        Ok(After { snapshot, history, damage })
    }

    fn quarantine(&self, after: &After, why: &str) -> Result<repository::SnapshotId, Stop> {
        let history: Vec<&Snapshot> = after.history.iter().collect();
        let held = hold(&self.opened.repository, &after.snapshot, &history, why);
        let what = format!("quarantine snapshot {}: {why}", after.snapshot.id);
        self.run.runtime.block_on(held).map_err(|error| Stop::failed(&what, &error, error.class(), error.hint()))
    }

    /// Marks what an earlier run was stopped before it could mark. The ledger's next record is newer than these, so that
    /// nothing else would tell them from good ones any more.
    fn quarantine_unmarked(&self, after: &After, last_good: Option<&LedgerEntry>) -> Result<(), Stop> {
        let history: Vec<&Snapshot> = after.history.iter().collect();
        for unmarked in &history {
            let is_marked = unmarked.tags.contains_key(QUARANTINE_TAG) || unmarked.id == after.snapshot.id;
            if is_marked || !is_quarantined(unmarked, last_good, &self.environment.thresholds) {
                continue;
            }
            let held = hold(&self.opened.repository, unmarked, &history, "collapsed, and found without a mark");
            let what = format!("quarantine snapshot {}", unmarked.id);
            let held = self.run.runtime.block_on(held);
            held.map_err(|error| Stop::failed(&what, &error, error.class(), error.hint()))?;
        }
        Ok(())
    }

    /// Makes a snapshot the last good one.
    fn record(&self, snapshot: &Snapshot, held: Figures) -> Result<LedgerEntry, Stop> {
        let entry = LedgerEntry {
            format_version: FORMAT_VERSION,
            repository_id: self.opened.id(),
            claim: self.task.claim.clone(),
            snapshot_id: SnapshotId::new(snapshot.id.as_str()),
            time: snapshot.start,
            files: held.files,
            bytes: held.bytes,
            cluster: self.task.cluster.clone(),
        };
        let Some(ledger) = &self.opened.ledger else { return Ok(entry) };
        let written = self.run.runtime.block_on(ledger.write(&entry));
        let what = format!("write the ledger record of snapshot {}", snapshot.id);
        written.map_err(|error| Stop::failed(&what, &error, error.class(), error.hint()))?;
        Ok(entry)
    }

    /// Forgets what the policy does not keep. Held snapshots neither go nor take another's place.
    ///
    /// A store that does not answer now will do so for the next run, so that alone makes no failure of a good backup.
    fn expire(&self, after: &After, last_good: Option<&LedgerEntry>) -> Result<(), Stop> {
        if self.task.retain.is_unset() || self.run.cancel.is_cancelled() {
            return Ok(());
        }
        if let Some(damage) = &after.damage {
            let reason = format!("snapshot {} is good, but nothing is expired: {damage}", after.snapshot.id);
            return Err(Stop::damaged(reason, "run `perennial verify` to learn what is affected"));
        }
        match self.run.runtime.block_on(self.expire_counted(after, last_good)) {
            Ok(count) => tracing::info!(count, "snapshots expired"),
            Err((error, Class::Retry)) => tracing::warn!(%error, "snapshots are expired by the next run"),
            Err((error, class)) => {
                let reason = format!("snapshot {} is good, but expire the older ones: {error}", after.snapshot.id);
                return Err(Stop::Failed { class, reason, hint: String::new() });
            }
        }
        Ok(())
    }

    /// Runs the cycle of maintenance that is due, as Kopia's own mover does where it is the owner. The backup is good
    /// whatever comes of it, and the next run tries again. Answers whether it came to its end, or was not due.
    fn maintain(&self) -> bool {
        if self.task.no_maintenance || self.run.cancel.is_cancelled() {
            return true;
        }
        match engine::maintain_if_due(&self.opened.repository, self.run) {
            Ok(None) => true,
            Ok(Some(done)) => {
                tracing::info!(cycle = ?done.cycle, "the maintenance that was due is done");
                true
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "the maintenance that is due did not come to its end");
                false
            }
        }
    }

    async fn expire_counted(&self, after: &After, last_good: Option<&LedgerEntry>) -> Result<usize, (String, Class)> {
        let repository = &self.opened.repository;
        let policy = repository.policy(self.identity).await.map_err(|error| (chain(&error), error.class()))?;
        let is_counted = |snapshot: &&Snapshot| {
            snapshot.id == after.snapshot.id || !is_quarantined(snapshot, last_good, &self.environment.thresholds)
        };
        let counted: Vec<Snapshot> = after.history.iter().filter(is_counted).cloned().collect();
        let verdicts = retain(&counted, &policy.retention, &repository.retention_zone());
        let expired: Vec<_> =
            verdicts.into_iter().filter(|verdict| verdict.expired).map(|verdict| verdict.snapshot).collect();
        let forgotten: Result<(), WriteError> = repository.forget(&expired).await;
        forgotten.map_err(|error| (chain(&error), error.class()))?;
        Ok(expired.len())
    }
}

/// Kopia's part of the fields; `within` and `last` are restic's.
fn retention_of(retain: &Retain) -> Retention {
    Retention {
        keep_latest: retain.latest,
        keep_hourly: retain.hourly,
        keep_daily: retain.daily,
        keep_weekly: retain.weekly,
        keep_monthly: retain.monthly,
        keep_annual: retain.yearly,
    }
}
