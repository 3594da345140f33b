//! How many movers may run at a time: for each repository and for each storage class, restores before backups.
//!
//! What runs is counted from the Jobs that are there. A Job that was just created is not in the cache yet, so each start is
//! remembered until whoever looks after it has seen it there: it may have come and gone before anybody asks for a slot again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use api::naming::label_value;
use api::v1alpha1::repository::Limits;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;

use crate::caches::Caches;
use crate::job::Direction;
use crate::names::{CLASS, DIRECTION, REPOSITORY};

/// Whoever waits asks every few seconds, and a Job that was made is in the cache soon. What has not been heard of for so long
/// is gone, and nobody stands back for it any more.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Who has just started, by `namespace/name` of the Job, and who waits.
#[derive(Debug, Default)]
pub struct Slots {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    started: HashMap<String, (Start, Timestamp)>,
    /// Restores that were turned away, by Job, and when they last asked: backups of the same repository stand back until
    /// they run.
    waiting: HashMap<String, (Start, Timestamp)>,
}

/// Somebody who wants to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// `namespace/name` of the Job.
    pub job: String,
    /// The repository.
    pub repository: String,
    /// The storage class of the volume.
    pub class: String,
    /// Which way.
    pub direction: Direction,
}

impl Slots {
    /// Takes a slot, if there is one. Who gets none asks again later.
    pub fn take(&self, start: &Start, limits: &Limits, caches: &Caches, now: Timestamp) -> bool {
        let running: Vec<Start> = caches.jobs.state_filter(is_running).iter().map(|job| of_job(job)).collect();
        let is_known = |job: &str| caches.jobs.find(|known| place(known) == job).is_some();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.started.retain(|job, _| !is_known(job));
        state.waiting.retain(|job, _| !is_known(job));
        state.forget_the_gone(now);
        let is_granted = state.has_room(start, limits, &running);
        match (is_granted, start.direction) {
            (true, _) => {
                state.waiting.remove(&start.job);
                state.started.insert(start.job.clone(), (start.clone(), now));
            }
            (false, Direction::Restore) => {
                state.waiting.insert(start.job.clone(), (start.clone(), now));
            }
            (false, Direction::Backup) => {}
        }
        is_granted
    }

    /// The Job is in the cache, and counted there from now on. Whoever looks after it says so before it goes.
    pub fn seen(&self, job: &Job) {
        self.give_back(&place(job));
    }

    /// Gives a slot back whose Job was never made, or the place of somebody who waits no more.
    pub fn give_back(&self, job: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.started.remove(job);
        state.waiting.remove(job);
    }
}

impl State {
    fn forget_the_gone(&mut self, now: Timestamp) {
        let is_heard_of = |since: &Timestamp| since.checked_add(SILENCE_MAX).is_ok_and(|until| until > now);
        self.waiting.retain(|_, (_, asked)| is_heard_of(asked));
        self.started.retain(|_, (_, started)| is_heard_of(started));
    }

    fn has_room(&self, start: &Start, limits: &Limits, running: &[Start]) -> bool {
        let started = || self.started.values().map(|(start, _)| start);
        let others = || running.iter().chain(started()).filter(|other| other.job != start.job);
        let in_all = others().filter(|other| other.repository == start.repository).count();
        let of_class =
            others().filter(|other| other.repository == start.repository && other.class == start.class).count();
        let stands_back = start.direction == Direction::Backup
            && self.waiting.values().any(|(waiting, _)| waiting.repository == start.repository);
        !stands_back && in_all < limit(limits.movers) && of_class < limit(limits.per_class)
    }
}

fn limit(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn is_running(job: &Job) -> bool {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    !conditions.iter().any(|found| matches!(found.type_.as_str(), "Complete" | "Failed") && found.status == "True")
}

fn of_job(job: &Job) -> Start {
    let label = |key: &str| job.labels().get(key).cloned().unwrap_or_default();
    let is_restore = label(DIRECTION) == Direction::Restore.as_str();
    Start {
        job: place(job),
        repository: label(REPOSITORY),
        class: label(CLASS),
        direction: if is_restore { Direction::Restore } else { Direction::Backup },
    }
}

fn place(job: &Job) -> String {
    format!("{}/{}", job.namespace().unwrap_or_default(), job.name_any())
}

impl Start {
    /// Somebody who wants to start this Job.
    pub fn new(namespace: &str, job: &str, repository: &str, class: &str, direction: Direction) -> Self {
        Self {
            job: format!("{namespace}/{job}"),
            repository: label_value(repository),
            class: label_value(class),
            direction,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn start(job: &str, class: &str, direction: Direction) -> Start {
        Start::new("ns", job, "default", class, direction)
    }

    #[test]
    fn restores_come_first_and_limits_hold() {
        let limits = Limits { movers: 2, per_node: 2, per_class: 1 };
        let mut state = State::default();
        let running = [start("a", "fast", Direction::Backup)];
        assert!(!state.has_room(&start("b", "fast", Direction::Backup), &limits, &running), "the class is taken");
        assert!(state.has_room(&start("b", "slow", Direction::Backup), &limits, &running));
        assert!(state.has_room(&running[0], &limits, &running), "nobody stands in his own way");
        let asked: Timestamp = "2026-11-22T06:00:00Z".parse().unwrap();
        state.waiting.insert("ns/r".to_owned(), (start("r", "fast", Direction::Restore), asked));
        assert!(!state.has_room(&start("b", "slow", Direction::Backup), &limits, &running), "a restore waits");
        assert!(state.has_room(&start("r", "slow", Direction::Restore), &limits, &running));
        // Its claim was deleted: it asks no more, and nobody waits for it.
        state.forget_the_gone("2026-11-22T06:00:29Z".parse().unwrap());
        assert_eq!(state.waiting.len(), 1);
        state.forget_the_gone("2026-11-22T06:00:30Z".parse().unwrap());
        assert!(state.has_room(&start("b", "slow", Direction::Backup), &limits, &running));
        state.started.insert("ns/c".to_owned(), (start("c", "slow", Direction::Restore), asked));
        assert!(!state.has_room(&start("r", "other", Direction::Restore), &limits, &running), "both slots are taken");
    }

    /// Its Job has come and gone before anybody else asked for a slot.
    #[test]
    fn a_slot_does_not_go_with_its_job() {
        let slots = Slots::default();
        let limits = Limits { movers: 1, per_node: 1, per_class: 1 };
        let first = start("first", "fast", Direction::Backup);
        let now: Timestamp = "2026-11-22T06:00:00Z".parse().unwrap();
        slots.state.lock().unwrap().started.insert(first.job.clone(), (first, now));
        let second = start("second", "fast", Direction::Backup);
        assert!(!slots.state.lock().unwrap().has_room(&second, &limits, &[]));
        let job = serde_json::from_value(json!({"metadata": {"namespace": "ns", "name": "first"}})).unwrap();
        slots.seen(&job);
        assert!(slots.state.lock().unwrap().has_room(&second, &limits, &[]));
    }
}
