//! How many movers may run at a time: for each repository, of those for each node and each storage class, restores before
//! backups.
//!
//! What runs is counted from the Jobs that are there. A Job that was just created is not in the cache yet, so each start is
//! remembered until whoever looks after it has seen it there: it may have come and gone before anybody asks for a slot again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use api::v1alpha1::repository::Limits;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Node, Pod, PodSpec};
use kube::ResourceExt;

use crate::apply;
use crate::caches::{Caches, key};
use crate::consumers;
use crate::context::Context;
use crate::error::Error;
use crate::job::Direction;
use crate::names::{CLASS, DIRECTION, REPOSITORY};

/// Whoever waits asks every few seconds, and a Job that was made is in the cache soon. What has not been heard of for so long
/// is gone, and nobody stands back for it any more.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// How long a pod that the scheduler finds no room for counts as one that will be somewhere soon: most wait for their volume.
/// One that waits longer must not keep all others from running.
const PLACED_SOON: Duration = Duration::from_secs(60);

/// Starts a mover, if there is room. Answers whether it was: who gets no slot, or whose predecessor is still there, asks
/// again later.
///
/// # Errors
/// The API server refuses, or does not answer.
pub async fn start(job: &Job, limits: &Limits, context: &Context) -> Result<bool, Error> {
    let now = context.now();
    let mover = Mover::of(job, None, now);
    let Some(full) = context.slots.take(&mover, limits, &context.caches, now) else { return Ok(false) };
    let mut job = job.clone();
    if let Some(pod) = pod_of(&mut job)
        && !full.is_empty()
    {
        pod.affinity = Some(consumers::rather_not_on(pod.affinity.take(), &full));
    }
    let created = apply::create(&context.client, &job).await;
    if !matches!(created, Ok(true)) {
        context.slots.give_back(&mover.job);
    }
    created
}

fn pod_of(job: &mut Job) -> Option<&mut PodSpec> {
    job.spec.as_mut()?.template.spec.as_mut()
}

/// Who has just started, by `namespace/name` of the Job, and who waits.
#[derive(Debug, Default)]
pub struct Slots {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    started: HashMap<String, (Mover, Timestamp)>,
    /// Restores that were turned away, by Job, and when they last asked: backups of the same repository stand back until
    /// they run.
    waiting: HashMap<String, (Mover, Timestamp)>,
}

/// A mover that runs, or wants to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mover {
    /// `namespace/name` of the Job.
    job: String,
    /// The repository.
    repository: String,
    /// The storage class of the volume.
    class: String,
    /// Which way.
    direction: Direction,
    /// Where.
    site: Site,
}

/// Where a mover runs.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Site {
    /// On this node, or on none.
    Node(String),
    /// Wherever the scheduler will find room.
    Open,
    /// The scheduler has not found room anywhere for a while.
    Nowhere,
}

impl Slots {
    /// Takes a slot, if there is one: then answers the nodes that have enough to do already. Who gets none asks again later.
    fn take(&self, mover: &Mover, limits: &Limits, caches: &Caches, now: Timestamp) -> Option<Vec<String>> {
        let pods = caches.pods.state();
        let pods: HashMap<&str, &Pod> = pods.iter().filter_map(|pod| Some((job_of(pod)?, &**pod))).collect();
        let jobs = caches.jobs.state_filter(is_running);
        let pod_of = |job: &Job| job.metadata.uid.as_deref().and_then(|uid| pods.get(uid).copied());
        let of_job = |job: &Job| Mover::of(job, pod_of(job), now);
        let running: Vec<Mover> = jobs.iter().map(|job| of_job(job)).collect();
        let nodes = caches.nodes.state_filter(is_open);
        let nodes: Vec<String> = nodes.iter().map(|node| node.name_any()).collect();
        let is_known = |job: &str| {
            let place = job.split_once('/');
            place.is_some_and(|(namespace, name)| caches.jobs.get(&key(name, Some(namespace.to_owned()))).is_some())
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.started.retain(|job, _| !is_known(job));
        state.waiting.retain(|job, _| !is_known(job));
        state.forget_the_gone(now);
        let full = state.room(mover, limits, &running, &nodes);
        match (&full, mover.direction) {
            (Some(_), _) => {
                state.waiting.remove(&mover.job);
                state.started.insert(mover.job.clone(), (mover.clone(), now));
            }
            (None, Direction::Restore) => {
                state.waiting.insert(mover.job.clone(), (mover.clone(), now));
            }
            (None, Direction::Backup) => {}
        }
        full
    }

    /// The Job is in the cache, and counted there from now on. Whoever looks after it says so before it goes.
    pub fn seen(&self, job: &Job) {
        self.give_back(&place(job));
    }

    /// Gives a slot back whose Job was never made, or the place of somebody who waits no more.
    fn give_back(&self, job: &str) {
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

    /// None if there is no room; else the nodes that have none. `nodes` are those that take pods.
    fn room(&self, mover: &Mover, limits: &Limits, running: &[Mover], nodes: &[String]) -> Option<Vec<String>> {
        let started = self.started.values().map(|(started, _)| started);
        let is_other = |other: &&Mover| other.repository == mover.repository && other.job != mover.job;
        let others: Vec<&Mover> = running.iter().chain(started).filter(is_other).collect();
        let of_class = others.iter().filter(|other| other.class == mover.class).count();
        let stands_back = mover.direction == Direction::Backup
            && self.waiting.values().any(|(waiting, _)| waiting.repository == mover.repository);
        if stands_back || others.len() >= limit(limits.movers) || of_class >= limit(limits.per_class) {
            return None;
        }
        let per_node = limit(limits.per_node);
        let left = |node: &str| {
            let is_there = |other: &&&Mover| matches!(&other.site, Site::Node(name) if name == node);
            per_node.saturating_sub(others.iter().filter(is_there).count())
        };
        let has_node = match &mover.site {
            Site::Node(node) => left(node) > 0,
            // Nobody takes pods at all: the scheduler says so, and why.
            Site::Open if nodes.is_empty() => true,
            Site::Open => {
                let on_their_way = others.iter().filter(|other| other.site == Site::Open).count();
                nodes.iter().map(|node| left(node)).sum::<usize>() > on_their_way
            }
            Site::Nowhere => true,
        };
        has_node.then(|| nodes.iter().filter(|node| left(node) == 0).cloned().collect())
    }
}

fn limit(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn is_running(job: &Job) -> bool {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    !conditions.iter().any(|found| matches!(found.type_.as_str(), "Complete" | "Failed") && found.status == "True")
}

/// Whether a node takes pods that put up with nothing.
fn is_open(node: &Node) -> bool {
    let spec = node.spec.as_ref();
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let is_ready = conditions.iter().any(|found| found.type_ == "Ready" && found.status == "True");
    let mut taints = spec.and_then(|spec| spec.taints.as_deref()).unwrap_or_default().iter();
    let is_cordoned = spec.and_then(|spec| spec.unschedulable).unwrap_or_default();
    is_ready && !is_cordoned && !taints.any(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"))
}

/// The UID of the Job whose pod this is.
fn job_of(pod: &Pod) -> Option<&str> {
    pod.owner_references().iter().find(|owner| owner.kind == "Job").map(|owner| owner.uid.as_str())
}

fn place(job: &Job) -> String {
    format!("{}/{}", job.namespace().unwrap_or_default(), job.name_any())
}

impl Mover {
    /// The mover of a Job, and where it is by its pod, if there is one.
    fn of(job: &Job, pod: Option<&Pod>, now: Timestamp) -> Self {
        let label = |key: &str| job.labels().get(key).cloned().unwrap_or_default();
        let is_restore = label(DIRECTION) == Direction::Restore.as_str();
        Self {
            job: place(job),
            repository: label(REPOSITORY),
            class: label(CLASS),
            direction: if is_restore { Direction::Restore } else { Direction::Backup },
            site: site(job, pod, now),
        }
    }
}

fn site(job: &Job, pod: Option<&Pod>, now: Timestamp) -> Site {
    if let Some(node) = pod.and_then(|pod| pod.spec.as_ref()?.node_name.as_ref()) {
        return Site::Node(node.clone());
    }
    let conditions = pod.and_then(|pod| pod.status.as_ref()?.conditions.as_deref()).unwrap_or_default();
    let unplaced = conditions.iter().find(|found| found.type_ == "PodScheduled" && found.status == "False");
    let since = unplaced.and_then(|found| found.last_transition_time.as_ref());
    if since.and_then(|since| since.0.checked_add(PLACED_SOON).ok()).is_some_and(|until| until <= now) {
        return Site::Nowhere;
    }
    let affinity = job.spec.as_ref().and_then(|spec| spec.template.spec.as_ref()?.affinity.as_ref());
    affinity.and_then(consumers::node_of).map_or(Site::Open, Site::Node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const LIMITS: Limits = Limits { movers: 100, per_node: 100, per_class: 100 };

    fn mover(job: &str, class: &str, direction: Direction) -> Mover {
        let (job, repository, class) = (format!("ns/{job}"), "default".to_owned(), class.to_owned());
        Mover { job, repository, class, direction, site: Site::Open }
    }

    fn at(job: &str, site: Site) -> Mover {
        Mover { site, ..mover(job, "", Direction::Backup) }
    }

    fn on(node: &str) -> Site {
        Site::Node(node.to_owned())
    }

    #[test]
    fn restores_come_first_and_limits_hold() {
        let limits = Limits { movers: 2, per_class: 1, ..LIMITS };
        let mut state = State::default();
        let running = [mover("a", "fast", Direction::Backup)];
        let has_room = |state: &State, mover: &Mover| state.room(mover, &limits, &running, &[]).is_some();
        assert!(!has_room(&state, &mover("b", "fast", Direction::Backup)), "the class is taken");
        assert!(has_room(&state, &mover("b", "slow", Direction::Backup)));
        assert!(has_room(&state, &running[0]), "nobody stands in his own way");
        let asked: Timestamp = "2026-11-22T06:00:00Z".parse().unwrap();
        state.waiting.insert("ns/r".to_owned(), (mover("r", "fast", Direction::Restore), asked));
        assert!(!has_room(&state, &mover("b", "slow", Direction::Backup)), "a restore waits");
        assert!(has_room(&state, &mover("r", "slow", Direction::Restore)));
        // Its claim was deleted: it asks no more, and nobody waits for it.
        state.forget_the_gone("2026-11-22T06:00:29Z".parse().unwrap());
        assert_eq!(state.waiting.len(), 1);
        state.forget_the_gone("2026-11-22T06:00:30Z".parse().unwrap());
        assert!(has_room(&state, &mover("b", "slow", Direction::Backup)));
        state.started.insert("ns/c".to_owned(), (mover("c", "slow", Direction::Restore), asked));
        assert!(!has_room(&state, &mover("r", "other", Direction::Restore)), "both slots are taken");
    }

    /// Its Job has come and gone before anybody else asked for a slot.
    #[test]
    fn a_slot_does_not_go_with_its_job() {
        let slots = Slots::default();
        let limits = Limits { movers: 1, ..LIMITS };
        let first = mover("first", "fast", Direction::Backup);
        let now: Timestamp = "2026-11-22T06:00:00Z".parse().unwrap();
        slots.state.lock().unwrap().started.insert(first.job.clone(), (first, now));
        let second = mover("second", "fast", Direction::Backup);
        assert_eq!(slots.state.lock().unwrap().room(&second, &limits, &[], &[]), None);
        let job = serde_json::from_value(json!({"metadata": {"namespace": "ns", "name": "first"}})).unwrap();
        slots.seen(&job);
        assert!(slots.state.lock().unwrap().room(&second, &limits, &[], &[]).is_some());
    }

    #[track_caller]
    fn check_nodes(running: &[Mover], wants: Site, nodes: &[&str], expected: Option<&[&str]>) {
        let limits = Limits { per_node: 2, ..LIMITS };
        let owned = |nodes: &[&str]| nodes.iter().map(|node| (*node).to_owned()).collect::<Vec<String>>();
        let full = State::default().room(&at("new", wants), &limits, running, &owned(nodes));
        assert_eq!(full, expected.map(owned));
    }

    #[test]
    fn a_node_has_so_many_and_no_more() {
        let one = [at("a", on("one"))];
        let two = [at("a", on("one")), at("b", on("one"))];
        check_nodes(&one, on("one"), &["one"], Some(&[]));
        check_nodes(&two, on("one"), &["one"], None);
        check_nodes(&two, on("other"), &["one", "other"], Some(&["one"]));
        check_nodes(&two, Site::Open, &["one"], None);
        check_nodes(&two, Site::Open, &["one", "other"], Some(&["one"]));
        // One that was just made will be on the one or on the other.
        let and_more = [at("a", on("one")), at("b", on("one")), at("c", Site::Open)];
        check_nodes(&and_more, Site::Open, &["one", "other"], Some(&["one"]));
        let full = [at("a", on("one")), at("b", on("one")), at("c", Site::Open), at("d", Site::Open)];
        check_nodes(&full, Site::Open, &["one", "other"], None);
        check_nodes(&full, on("other"), &["one", "other"], Some(&["one"]));
        // One that finds no place keeps nobody from another.
        let lost = [at("a", Site::Nowhere), at("b", Site::Nowhere)];
        check_nodes(&lost, Site::Open, &["one"], Some(&[]));
        check_nodes(&two, Site::Open, &[], Some(&[]));
    }

    #[test]
    fn another_repositorys_movers_do_not_count() {
        let mut others = [at("a", on("one")), at("b", on("one"))];
        others.iter_mut().for_each(|other| "other".clone_into(&mut other.repository));
        check_nodes(&others, on("one"), &["one"], Some(&[]));
    }

    #[test]
    fn where_a_mover_is() {
        let pinned = consumers::on_node(None, "one");
        let job = |affinity: Value| {
            let pod = json!({"containers": [], "affinity": affinity});
            serde_json::from_value::<Job>(json!({"spec": {"template": {"spec": pod}}})).unwrap()
        };
        let pod = |pod: Value| serde_json::from_value::<Pod>(pod).unwrap();
        let site = |job: &Job, pod: Option<&Pod>| super::site(job, pod, "2026-11-22T06:01:00Z".parse().unwrap());
        let (free, pinned) = (job(json!(null)), job(json!(pinned)));
        assert_eq!(site(&free, None), Site::Open);
        assert_eq!(site(&pinned, None), on("one"));
        let scheduled = pod(json!({"spec": {"containers": [], "nodeName": "two"}}));
        assert_eq!(site(&free, Some(&scheduled)), on("two"));
        let unplaced = |since: &str| {
            let condition = json!({"type": "PodScheduled", "status": "False", "lastTransitionTime": since});
            pod(json!({"status": {"conditions": [condition]}}))
        };
        assert_eq!(site(&free, Some(&unplaced("2026-11-22T06:00:01Z"))), Site::Open, "its volume is on its way");
        assert_eq!(site(&pinned, Some(&unplaced("2026-11-22T06:00:01Z"))), on("one"));
        assert_eq!(site(&pinned, Some(&unplaced("2026-11-22T06:00:00Z"))), Site::Nowhere);
    }

    #[test]
    fn nodes_that_take_pods() {
        let node = |ready: &str, spec: Value| {
            let status = json!({"conditions": [{"type": "Ready", "status": ready}]});
            is_open(&serde_json::from_value(json!({"spec": spec, "status": status})).unwrap())
        };
        assert!(node("True", json!({})));
        assert!(node("True", json!({"taints": [{"key": "a", "effect": "PreferNoSchedule"}]})));
        assert!(!node("Unknown", json!({})));
        assert!(!node("True", json!({"unschedulable": true})));
        assert!(!node("True", json!({"taints": [{"key": "a", "effect": "NoSchedule"}]})));
    }
}
