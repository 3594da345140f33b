//! Numbers for Prometheus: VolSync's under their names, so that alerts and dashboards go on, and ours.
//!
//! Series go with their objects. Names and labels are a closed list.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use api::naming::ClaimKey;
use api::recorded::Verdict;
use api::volsync::status::SUCCESSFUL;
use api::volsync::{ReplicationSource, ReplicationSourceStatus};
use jiff::Timestamp;
use kube::{Resource, ResourceExt};

use crate::claim::gate::Gate;

/// Durations of a source that its quantiles are made of: a day of hourly backups, and a few by hand.
const DURATIONS_MAX: usize = 32;

/// The quantiles that VolSync's summary has.
const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];

/// The roles of objects, as VolSync's labels have them.
const SOURCE: &str = "source";
const DESTINATION: &str = "destination";

/// All numbers.
#[derive(Debug, Default)]
pub struct Metrics {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Sources and destinations, by role, namespace and name.
    syncs: BTreeMap<(&'static str, String, String), Sync>,
    /// Decisions by repository, word and reason.
    decisions: BTreeMap<(String, &'static str, &'static str), u64>,
    gates: BTreeMap<(String, String), &'static str>,
    errors: BTreeMap<(&'static str, &'static str), u64>,
    loops: BTreeMap<&'static str, Round>,
}

/// When a loop last came to an end, and how often it should.
#[derive(Clone, Copy, Debug)]
struct Round {
    ended: Timestamp,
    period: Duration,
}

#[derive(Debug, Default)]
struct Sync {
    method: String,
    is_out_of_sync: bool,
    is_quarantined: bool,
    is_maintenance_failed: bool,
    /// When the last good backup ended, as far as that is known.
    last_good: Option<Timestamp>,
    /// When the run that is under way began.
    started: Option<Timestamp>,
    /// Between two runs of the schedule.
    interval: Option<Duration>,
    missed: u64,
    count: u64,
    sum: Duration,
    durations: VecDeque<Duration>,
}

impl Metrics {
    /// A source or a destination was looked at.
    pub fn looked_at<K: Resource<DynamicType = ()>>(&self, object: &K, method: &str, is_out_of_sync: bool) {
        self.of(object, |found| {
            method.clone_into(&mut found.method);
            found.is_out_of_sync = is_out_of_sync;
        });
    }

    /// How old the last good backup of a source is, how old it may be, and whether a run is under way, by its status.
    ///
    /// A status does not say when the last good one was if the last was none: then what was known before counts, and
    /// without that the source's whole life.
    pub fn age(&self, source: &ReplicationSource, status: &ReplicationSourceStatus, interval: Option<Duration>) {
        let sync = &status.sync;
        let is_good =
            sync.latest_mover_status.as_ref().is_some_and(|mover| mover.result.as_deref() == Some(SUCCESSFUL));
        let last = sync.last_sync_time.as_ref().map(|time| time.0);
        let created = source.creation_timestamp().map(|time| time.0);
        self.of(source, |found| {
            // While a run is under way the last one's outcome may be overwritten by that of a try.
            let is_first_look = found.last_good.is_none() && sync.last_sync_start_time.is_some();
            let known = last.filter(|_| is_good || is_first_look);
            found.last_good = known.or(found.last_good).or(created);
            found.started = sync.last_sync_start_time.as_ref().map(|time| time.0);
            found.interval = interval;
        });
    }

    /// A run has ended.
    pub fn synchronized<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        method: &str,
        duration: Duration,
        is_late: bool,
    ) {
        self.of(object, |found| {
            method.clone_into(&mut found.method);
            found.missed += u64::from(is_late);
            found.count += 1;
            found.sum += duration;
            if found.durations.len() == DURATIONS_MAX {
                found.durations.pop_front();
            }
            found.durations.push_back(duration);
        });
    }

    /// Whether the last snapshot is held back, and whether upkeep that ran with it has failed.
    pub fn troubled(&self, source: &ReplicationSource, is_quarantined: bool, is_maintenance_failed: bool) {
        self.of(source, |found| {
            found.is_quarantined = is_quarantined;
            found.is_maintenance_failed = is_maintenance_failed;
        });
    }

    fn of<K: Resource<DynamicType = ()>>(&self, object: &K, change: impl FnOnce(&mut Sync)) {
        let role = if K::kind(&()) == "ReplicationSource" { SOURCE } else { DESTINATION };
        let mut state = self.lock();
        change(state.syncs.entry((role, object.namespace().unwrap_or_default(), object.name_any())).or_default());
    }

    /// A claim was decided about.
    pub fn decided(&self, repository: &str, verdict: &Verdict) {
        let reason = match verdict {
            Verdict::Hold { reason, .. } => reason.as_str(),
            Verdict::Restore { .. } | Verdict::Fresh { .. } | Verdict::Kept { .. } => "",
        };
        let mut state = self.lock();
        *state.decisions.entry((repository.to_owned(), verdict.as_str(), reason)).or_default() += 1;
    }

    /// Where the gate of a claim stands.
    pub fn gate(&self, claim: &ClaimKey, gate: Gate) {
        self.lock().gates.insert(place(claim), gate.as_str());
    }

    /// A claim is ours no more.
    pub fn forget(&self, claim: &ClaimKey) {
        self.lock().gates.remove(&place(claim));
    }

    /// A look at an object of this kind has failed.
    pub fn failed(&self, kind: &'static str, class: &'static str) {
        *self.lock().errors.entry((kind, class)).or_default() += 1;
    }

    /// A loop has looked at something, or at all there is; it does so at least once each `period`.
    pub fn went_round(&self, name: &'static str, period: Duration, now: Timestamp) {
        self.lock().loops.insert(name, Round { ended: now, period });
    }

    /// Drops the series of everything that is not there any more.
    pub fn keep(
        &self,
        has_source: impl Fn(&str, &str) -> bool,
        has_destination: impl Fn(&str, &str) -> bool,
        has_claim: impl Fn(&str, &str) -> bool,
    ) {
        let mut state = self.lock();
        state.syncs.retain(|(role, namespace, name), _| match *role {
            SOURCE => has_source(namespace, name),
            _ => has_destination(namespace, name),
        });
        state.gates.retain(|(namespace, name), _| has_claim(namespace, name));
    }

    /// In Prometheus' text format.
    pub fn text(&self) -> String {
        let state = self.lock();
        let mut out = String::new();
        syncs(&state, &mut out);
        family(&mut out, "perennial_decisions_total", "counter", "Decisions about claims.");
        for ((repository, decision, reason), count) in &state.decisions {
            let labels = [("repository", repository.as_str()), ("decision", *decision), ("reason", *reason)];
            line(&mut out, "perennial_decisions_total", &labels, count);
        }
        family(
            &mut out,
            "perennial_source_gate",
            "gauge",
            "Whether backups of a claim may run, by where the gate stands.",
        );
        for ((namespace, name), gate) in &state.gates {
            line(
                &mut out,
                "perennial_source_gate",
                &[("namespace", namespace), ("persistentvolumeclaim", name), ("state", gate)],
                1,
            );
        }
        family(&mut out, "perennial_reconcile_errors_total", "counter", "Looks at objects that have failed.");
        for ((kind, class), count) in &state.errors {
            line(&mut out, "perennial_reconcile_errors_total", &[("kind", kind), ("class", class)], count);
        }
        family(&mut out, "perennial_loop_last_run_timestamp_seconds", "gauge", "When a loop last came to an end.");
        for (name, round) in &state.loops {
            let labels = [("loop", *name)];
            line(&mut out, "perennial_loop_last_run_timestamp_seconds", &labels, round.ended.as_second());
        }
        family(&mut out, "perennial_loop_period_seconds", "gauge", "How often a loop comes to an end at least.");
        for (name, round) in &state.loops {
            line(&mut out, "perennial_loop_period_seconds", &[("loop", *name)], round.period.as_secs());
        }
        out
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place(claim: &ClaimKey) -> (String, String) {
    (claim.namespace().to_owned(), claim.pvc().to_owned())
}

fn syncs(state: &State, out: &mut String) {
    let labelled = |(role, namespace, name): &(&'static str, String, String), method: &str| {
        [
            ("obj_name", name.clone()),
            ("obj_namespace", namespace.clone()),
            ("role", (*role).to_owned()),
            ("method", method.to_owned()),
        ]
    };
    let some = |out: &mut String, name: &str, value: &dyn Fn(&Sync) -> Option<f64>| {
        for (place, source) in &state.syncs {
            let Some(value) = value(source) else { continue };
            let labels = labelled(place, &source.method);
            line(out, name, &labels.each_ref().map(|(key, value)| (*key, value.as_str())), value);
        }
    };
    let each = |out: &mut String, name: &str, value: &dyn Fn(&Sync) -> f64| {
        some(out, name, &|source| Some(value(source)));
    };
    let of_sources = |out: &mut String, name: &str, value: &dyn Fn(&Sync) -> f64| {
        for (place, source) in state.syncs.iter().filter(|((role, ..), _)| *role == SOURCE) {
            let labels = labelled(place, &source.method);
            line(out, name, &labels.each_ref().map(|(key, value)| (*key, value.as_str())), value(source));
        }
    };
    family(out, "volsync_volume_out_of_sync", "gauge", "Whether the last backup is older than it should be.");
    each(out, "volsync_volume_out_of_sync", &|source| f64::from(u8::from(source.is_out_of_sync)));
    family(out, "volsync_missed_intervals_total", "counter", "Backups that ended after the next one was due.");
    each(out, "volsync_missed_intervals_total", &|source| source.missed as f64);
    family(out, "perennial_snapshot_quarantined", "gauge", "Whether the last snapshot is held back.");
    of_sources(out, "perennial_snapshot_quarantined", &|source| f64::from(u8::from(source.is_quarantined)));
    family(out, "perennial_maintenance_failed", "gauge", "Whether upkeep that ran with the last backup has failed.");
    of_sources(out, "perennial_maintenance_failed", &|source| f64::from(u8::from(source.is_maintenance_failed)));
    family(out, "perennial_last_good_backup_timestamp_seconds", "gauge", "When the last good backup ended.");
    let seconds = |time: Option<Timestamp>| time.map(|time| time.as_second() as f64);
    some(out, "perennial_last_good_backup_timestamp_seconds", &|source| seconds(source.last_good));
    family(out, "perennial_backup_started_timestamp_seconds", "gauge", "When the backup that is under way began.");
    some(out, "perennial_backup_started_timestamp_seconds", &|source| seconds(source.started));
    family(out, "perennial_backup_interval_seconds", "gauge", "Between two backups of the schedule.");
    some(out, "perennial_backup_interval_seconds", &|source| source.interval.map(|interval| interval.as_secs_f64()));
    family(out, "volsync_sync_duration_seconds", "summary", "How long backups took.");
    for (place, source) in &state.syncs {
        let labels = labelled(place, &source.method);
        let labels = labels.each_ref().map(|(key, value)| (*key, value.as_str()));
        let mut sorted: Vec<Duration> = source.durations.iter().copied().collect();
        sorted.sort_unstable();
        for quantile in QUANTILES {
            let value = at(&sorted, quantile).map_or(f64::NAN, |duration| duration.as_secs_f64());
            let text = quantile.to_string();
            let all: Vec<(&str, &str)> = labels.into_iter().chain([("quantile", text.as_str())]).collect();
            line(out, "volsync_sync_duration_seconds", &all, value);
        }
        line(out, "volsync_sync_duration_seconds_sum", &labels, source.sum.as_secs_f64());
        line(out, "volsync_sync_duration_seconds_count", &labels, source.count);
    }
}

/// The smallest value that so large a part of all does not exceed.
fn at(sorted: &[Duration], quantile: f64) -> Option<Duration> {
    let rank = (quantile * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

/// Begins the lines of one name.
pub fn family(out: &mut String, name: &str, kind: &str, help: &str) {
    let _fits = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
}

/// One line.
pub fn line(out: &mut String, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
    let labels =
        labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect::<Vec<_>>().join(",");
    let _fits = writeln!(out, "{name}{{{labels}}} {value}");
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volsyncs_series_keep_their_names_and_labels() {
        let metrics = Metrics::default();
        let mut source = ReplicationSource::new("data-backup", Default::default());
        source.metadata.namespace = Some("media".to_owned());
        metrics.looked_at(&source, "kopia", true);
        for seconds in [1, 2, 30] {
            metrics.synchronized(&source, "kopia", Duration::from_secs(seconds), seconds > 20);
        }
        let text = metrics.text();
        let labels = r#"{obj_name="data-backup",obj_namespace="media",role="source",method="kopia"}"#;
        assert!(text.contains(&format!("volsync_volume_out_of_sync{labels} 1\n")), "{text}");
        assert!(text.contains(&format!("volsync_missed_intervals_total{labels} 1\n")), "{text}");
        assert!(text.contains(&format!("volsync_sync_duration_seconds_sum{labels} 33\n")), "{text}");
        assert!(text.contains(r#"method="kopia",quantile="0.5"} 2"#), "{text}");
        assert!(text.contains(r#"method="kopia",quantile="0.99"} 30"#), "{text}");
        metrics.looked_at(
            &api::volsync::ReplicationDestination::new("data-backup", Default::default()),
            "kopia",
            false,
        );
        let labels = r#"{obj_name="data-backup",obj_namespace="",role="destination",method="kopia"}"#;
        assert!(metrics.text().contains(&format!("volsync_volume_out_of_sync{labels} 0\n")), "{}", metrics.text());
        metrics.keep(|_, _| false, |_, _| true, |_, _| true);
        assert!(!metrics.text().contains(r#"role="source""#), "{}", metrics.text());
    }

    #[test]
    fn a_loop_says_when_it_last_came_to_an_end() {
        let metrics = Metrics::default();
        for now in ["1970-01-01T00:01:00Z", "1970-01-01T00:02:00Z"] {
            metrics.went_round("claim", Duration::from_secs(60), now.parse().unwrap());
        }
        let text = metrics.text();
        assert!(text.contains("perennial_loop_last_run_timestamp_seconds{loop=\"claim\"} 120\n"), "{text}");
        assert!(text.contains("perennial_loop_period_seconds{loop=\"claim\"} 60\n"), "{text}");
    }

    /// The status after a run, as far as ages rest on it.
    fn status(result: &str, last: &str, started: Option<&str>) -> ReplicationSourceStatus {
        serde_json::from_value(serde_json::json!({
            "lastSyncTime": last, "lastSyncStartTime": started, "latestMoverStatus": {"result": result},
        }))
        .unwrap()
    }

    #[test]
    fn the_last_good_backup_is_remembered_while_later_ones_fail() {
        let metrics = Metrics::default();
        let mut source = ReplicationSource::new("data-backup", Default::default());
        source.metadata.namespace = Some("media".to_owned());
        source.metadata.creation_timestamp = Some(serde_json::from_str(r#""1970-01-01T00:00:01Z""#).unwrap());
        let check = |status: ReplicationSourceStatus, expected: &str| {
            metrics.looked_at(&source, "kopia", false);
            metrics.age(&source, &status, Some(Duration::from_secs(3600)));
            let text = metrics.text();
            let found = text.lines().find(|line| line.starts_with("perennial_last_good_backup_timestamp_seconds{"));
            assert!(found.is_some_and(|line| line.ends_with(expected)), "{text}");
            text
        };
        // After a restart all that is known of a source whose last run was none is how old it is.
        check(status("Failed", "1970-01-01T00:01:00Z", None), "} 1");
        check(status("Successful", "1970-01-01T00:02:00Z", None), "} 120");
        let text = check(status("Failed", "1970-01-01T00:03:00Z", Some("1970-01-01T00:04:00Z")), "} 120");
        assert!(text.contains(r#"perennial_backup_started_timestamp_seconds{obj_name="data-backup""#), "{text}");
        assert!(text.contains("perennial_backup_interval_seconds{"), "{text}");
        check(status("Failed", "1970-01-01T00:05:00Z", None), "} 120");
        metrics.troubled(&source, false, true);
        assert!(metrics.text().contains("perennial_maintenance_failed{"));
    }
}
