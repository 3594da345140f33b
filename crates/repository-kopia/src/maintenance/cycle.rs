//! A cycle of maintenance: who may run it, its start as the store sees it, and its records.
//!
//! There is no lock between machines. What there is: one owner by name; and the schedule blob, which only the owner's
//! programs write, so that one which changes under a running cycle tells of a second one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use storage::{ErrorKind, ObjectKey, PutMode};

use super::error::MaintenanceError;
use super::parameters::{self, MaintenanceParameters};
use super::safety::{PacksDeleted, Safety};
use super::schedule::{KEY_PURPOSE, RunRecord, SCHEDULE_BLOB, Schedule, Task};
use super::stats::TaskStats;
use crate::error::ReadError;
use crate::index::IndexEntry;
use crate::manifest::{Manifest, ManifestRecord};
use crate::repository::Repository;

/// The store's clock and this one may differ by so much and no more.
const CLOCK_SKEW_MAX: SignedDuration = SignedDuration::from_mins(5);

/// Locks last so much longer than full cycles are apart, at least: Kopia's rule.
const LOCK_MARGIN: SignedDuration = SignedDuration::from_hours(24);

/// Which cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CycleKind {
    /// Merges index blobs. Every hour unless said otherwise.
    Quick,
    /// Everything. Every day unless said otherwise.
    Full,
}

/// Set while a cycle runs on one open repository.
#[derive(Debug, Default)]
pub(crate) struct Running(AtomicBool);

struct Guard<'a>(&'a Running);

impl Running {
    fn take(&self) -> Result<Guard<'_>, MaintenanceError> {
        let taken = self.0.compare_exchange(false, true, Ordering::SeqCst, Ordering::SeqCst);
        taken.map(|_| Guard(self)).map_err(|_| MaintenanceError::Running)
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::SeqCst);
    }
}

/// A cycle under way. Made by [`Repository::begin_maintenance`].
pub struct MaintenanceCycle<'a> {
    pub(crate) repository: &'a Repository,
    pub(crate) safety: Safety,
    kind: CycleKind,
    parameters: MaintenanceParameters,
    started: Timestamp,
    written: Mutex<Written>,
    _guard: Guard<'a>,
}

/// The schedule as this cycle wrote it last.
struct Written {
    schedule: Schedule,
    stored: Bytes,
}

impl Repository {
    /// Who maintains this repository, and how often. The defaults, with an empty owner, when nothing was ever said.
    ///
    /// # Errors
    /// When the store fails, or a record that may be the one asked for cannot be read.
    pub async fn maintenance_parameters(&self) -> Result<MaintenanceParameters, MaintenanceError> {
        Ok(latest_parameters(&self.sound_manifests().await?)?)
    }

    /// When the next cycles are due, and what ran before. Empty when nothing ever ran.
    ///
    /// # Errors
    /// When the store fails, or the blob does not open.
    pub async fn maintenance_schedule(&self) -> Result<Schedule, MaintenanceError> {
        Ok(self.read_schedule().await?.0)
    }

    /// This client, as an owner is named.
    pub fn client_name(&self) -> String {
        format!("{}@{}", self.client().username, self.client().hostname)
    }

    /// The cycle that is due, if this client is the owner and one is. After anything that looked at the manifests it costs
    /// the owner one read, of the schedule, and nobody else anything.
    ///
    /// # Errors
    /// When the parameters or the schedule cannot be read.
    pub async fn due_maintenance(&self) -> Result<Option<CycleKind>, MaintenanceError> {
        let parameters = match self.seen_parameters() {
            Some(parameters) => parameters,
            None => self.maintenance_parameters().await?,
        };
        if parameters.owner != self.client_name() {
            return Ok(None);
        }
        let schedule = self.maintenance_schedule().await?;
        let now = self.clock().now();
        if parameters.full.enabled && now >= schedule.next_full {
            Ok(Some(CycleKind::Full))
        } else if parameters.quick.enabled && now >= schedule.next_quick {
            Ok(Some(CycleKind::Quick))
        } else {
            Ok(None)
        }
    }

    /// Names the owner: from now on only `owner` (`user@host`) maintains this repository. Everything else said about
    /// maintenance stays.
    ///
    /// # Errors
    /// When the records cannot be read or written.
    pub async fn set_maintenance_owner(&self, owner: &str) -> Result<(), MaintenanceError> {
        self.change_maintenance(|parameters| owner.clone_into(&mut parameters.owner)).await
    }

    /// Says whether full cycles make object locks longer, so that what is in use never becomes deletable.
    ///
    /// # Errors
    /// When nothing is locked here, or not for a day longer than full cycles are apart; when the records cannot be read or
    /// written.
    pub async fn set_extend_object_locks(&self, extend: bool) -> Result<(), MaintenanceError> {
        if extend {
            let (_, period) = self.locks().period().ok_or(MaintenanceError::NothingLocked)?;
            let interval = self.maintenance_parameters().await?.full.interval();
            if period < interval.checked_add(LOCK_MARGIN).unwrap_or(SignedDuration::MAX) {
                let hours = |span: SignedDuration| span.as_hours();
                return Err(MaintenanceError::LocksTooShort { hours: hours(period), interval_hours: hours(interval) });
            }
        }
        self.change_maintenance(|parameters| parameters.extend_object_locks = extend).await
    }

    async fn change_maintenance(
        &self,
        change: impl FnOnce(&mut MaintenanceParameters),
    ) -> Result<(), MaintenanceError> {
        let manifests = self.sound_manifests().await?;
        let found: Vec<&Manifest> = parameter_manifests(&manifests).collect();
        let old = parameters::latest(found.iter().copied()).map(MaintenanceParameters::read).transpose()?;
        let mut new = old.clone().unwrap_or_default();
        change(&mut new);
        if old.as_ref() == Some(&new) && found.len() == 1 {
            return Ok(());
        }
        let session = self.begin().await?;
        let now = self.clock().now();
        let gone = found.iter().map(|manifest| ManifestRecord::delete(manifest, now));
        let put = session.record([("type".to_owned(), parameters::TYPE.to_owned())].into(), &new)?;
        session.commit(gone.chain([put]).collect()).await?;
        Ok(self.refresh().await?)
    }

    /// Begins a cycle. The schedule is moved on first, so that a cycle which is killed does not begin again at once.
    ///
    /// # Errors
    /// When this client is not the owner and `force` is false; when anything of the index or the records is unreadable, for
    /// what is unknown is not absent; when the clocks differ by more than five minutes, somebody upgrades the repository, or
    /// the store fails.
    pub async fn begin_maintenance(
        &self,
        kind: CycleKind,
        force: bool,
        safety: Safety,
    ) -> Result<MaintenanceCycle<'_>, MaintenanceError> {
        let guard = self.running().take()?;
        self.refuse_changes().await?;
        self.refresh().await?;
        let parameters = self.maintenance_parameters().await?;
        let client = self.client_name();
        if parameters.owner != client && !force {
            return Err(match parameters.owner.is_empty() {
                true => MaintenanceError::NoOwner,
                false => MaintenanceError::NotOwner { owner: parameters.owner, client },
            });
        }
        let (mut schedule, _) = self.read_schedule().await?;
        let now = self.clock().now();
        let after = |interval: SignedDuration| now.checked_add(interval).unwrap_or(Timestamp::MAX);
        schedule.next_quick = after(parameters.quick.interval());
        if kind == CycleKind::Full {
            schedule.next_full = after(parameters.full.interval());
        }
        let stored = self.write_schedule(&schedule).await?;
        let failed = MaintenanceError::storage("look up kopia.maintenance");
        let started = self.storage().stat(&ObjectKey::new(SCHEDULE_BLOB)).await.map_err(failed)?.modified;
        check_clocks(started, self.clock().now())?;
        let written = Mutex::new(Written { schedule, stored });
        Ok(MaintenanceCycle { repository: self, safety, kind, parameters, started, written, _guard: guard })
    }

    /// All manifests, or an error when any of them, or any of the index, cannot be read.
    pub(crate) async fn sound_manifests(&self) -> Result<Vec<Manifest>, MaintenanceError> {
        let (manifests, damage) = self.manifests().await?;
        let count = damage.len() + self.damage().len();
        let first = damage.iter().map(ToString::to_string).chain(self.damage()).next();
        match first {
            Some(first) => Err(MaintenanceError::Damaged { count, first }),
            None => Ok(manifests),
        }
    }

    async fn read_schedule(&self) -> Result<(Schedule, Option<Bytes>), MaintenanceError> {
        match self.storage().get(&ObjectKey::new(SCHEDULE_BLOB)).await {
            Ok(stored) => {
                let schedule = Schedule::open(&self.derive_key(KEY_PURPOSE), &stored)
                    .map_err(|detail| MaintenanceError::DamagedSchedule { detail })?;
                Ok((schedule, Some(stored)))
            }
            Err(error) if error.kind == ErrorKind::NotFound => Ok((Schedule::default(), None)),
            Err(error) => Err(MaintenanceError::storage("read kopia.maintenance")(error)),
        }
    }

    async fn write_schedule(&self, schedule: &Schedule) -> Result<Bytes, MaintenanceError> {
        let sealed = schedule
            .seal(&self.derive_key(KEY_PURPOSE))
            .map_err(|source| MaintenanceError::Seal { blob: SCHEDULE_BLOB, source })?;
        let stored = Bytes::from(sealed);
        self.storage()
            .put(&ObjectKey::new(SCHEDULE_BLOB), stored.clone(), PutMode::Replace)
            .await
            .map_err(MaintenanceError::storage("write kopia.maintenance"))?;
        Ok(stored)
    }
}

/// What the manifests say about maintenance; the defaults, with an empty owner, when they say nothing.
pub(crate) fn latest_parameters(manifests: &[Manifest]) -> Result<MaintenanceParameters, ReadError> {
    let found = parameters::latest(parameter_manifests(manifests));
    Ok(found.map(MaintenanceParameters::read).transpose()?.unwrap_or_default())
}

fn parameter_manifests(manifests: &[Manifest]) -> impl Iterator<Item = &Manifest> {
    manifests.iter().filter(|manifest| manifest.labels.get("type").is_some_and(|found| found == parameters::TYPE))
}

fn age(now: Timestamp, entry: &IndexEntry) -> SignedDuration {
    let written = i64::try_from(entry.timestamp_seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    now.duration_since(written.unwrap_or(Timestamp::MAX))
}

fn check_clocks(store: Timestamp, machine: Timestamp) -> Result<(), MaintenanceError> {
    let skew = store.duration_since(machine);
    if skew.abs() > CLOCK_SKEW_MAX {
        return Err(MaintenanceError::ClockSkew { skew_seconds: skew.as_secs() });
    }
    Ok(())
}

impl MaintenanceCycle<'_> {
    /// Which cycle it is.
    pub fn kind(&self) -> CycleKind {
        self.kind
    }

    /// Who maintains the repository, and how often.
    pub fn parameters(&self) -> &MaintenanceParameters {
        &self.parameters
    }

    /// Its start on the store's clock.
    pub fn started(&self) -> Timestamp {
        self.started
    }

    /// The schedule as it is after the last record of this cycle.
    pub fn schedule(&self) -> Schedule {
        self.written().schedule.clone()
    }

    fn written(&self) -> std::sync::MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether contents may be moved out of short packs now.
    pub fn may_rewrite(&self) -> bool {
        let schedule = &self.written().schedule;
        match self.kind {
            CycleKind::Quick => self.safety.may_rewrite_quickly(schedule),
            CycleKind::Full => self.safety.may_rewrite_fully(schedule),
        }
    }

    /// Whether a content that no snapshot needs is old enough to be marked: what was just written may belong to a snapshot
    /// that is still being made.
    pub fn is_old_enough_to_mark(&self, entry: &IndexEntry) -> bool {
        age(self.started, entry) >= self.safety.collected_age_min
    }

    /// Whether a content is old enough to be moved.
    pub fn is_old_enough_to_move(&self, entry: &IndexEntry) -> bool {
        age(self.repository.clock().now(), entry) >= self.safety.rewrite_age_min
    }

    /// Whether packs that nothing names may be deleted now.
    pub fn may_delete_packs(&self) -> bool {
        self.safety.may_delete_packs(&self.written().schedule, self.repository.clock().now())
    }

    /// Which packs that nothing names are deleted by this cycle.
    pub fn packs_deleted(&self) -> PacksDeleted {
        match self.kind {
            CycleKind::Quick => Safety::deleted_quickly(&self.written().schedule),
            CycleKind::Full => PacksDeleted::All,
        }
    }

    /// Marks up to this instant may be dropped now; `None` while there are none.
    pub fn drop_time(&self) -> Option<Timestamp> {
        self.safety.drop_time(&self.written().schedule, self.repository.clock().now())
    }

    /// Looks whether anybody else has begun to maintain the repository, or replaced or locked it. To be called before
    /// anything is removed or marked.
    ///
    /// # Errors
    /// When somebody has, or the store fails.
    pub async fn check_alone(&self) -> Result<(), MaintenanceError> {
        self.repository.refuse_changes().await?;
        let (_, stored) = self.repository.read_schedule().await?;
        if stored.as_ref() == Some(&self.written().stored) { Ok(()) } else { Err(MaintenanceError::Concurrent) }
    }

    /// Remembers a run of a task: later decisions rest on it.
    ///
    /// # Errors
    /// When somebody else changed the schedule meanwhile, or the store fails.
    pub async fn record(
        &self,
        task: Task,
        began: Timestamp,
        error: Option<String>,
        stats: Option<&TaskStats>,
    ) -> Result<(), MaintenanceError> {
        self.check_alone().await?;
        let mut schedule = self.schedule();
        schedule.record(task, RunRecord::new(began, self.repository.clock().now(), error, stats));
        let stored = self.repository.write_schedule(&schedule).await?;
        *self.written() = Written { schedule, stored };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::{CLOCK_SKEW_MAX, check_clocks};

    /// Source: Kopia format, "Index files" vectors.
    #[test]
    fn five_minutes_are_allowed_and_no_more() {
        let now = Timestamp::UNIX_EPOCH;
        let nanosecond = SignedDuration::from_nanos(1);
        for sign in [1, -1] {
            assert!(check_clocks(now + CLOCK_SKEW_MAX * sign, now).is_ok());
            assert!(check_clocks(now + (CLOCK_SKEW_MAX + nanosecond) * sign, now).is_err());
        }
    }
}
