//! What is counted, under a closed list of names, in Prometheus' text form.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use storage::layer::meter::MeterSnapshot;
use tokio::time::Instant;

/// Counters since the start.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    decisions: Mutex<BTreeMap<&'static str, u64>>,
    failures: Mutex<BTreeMap<(Look, &'static str), u64>>,
    opens_count: AtomicU64,
    refreshes_count: AtomicU64,
    last_look_ms: AtomicU64,
    last_good_look: Mutex<Option<Instant>>,
}

/// The two ways to look at a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Look {
    Open,
    Refresh,
}

impl Metrics {
    pub(crate) fn request(&self, route: &'static str, status: u16) {
        *lock(&self.requests).entry((route, status)).or_default() += 1;
    }

    pub(crate) fn decision(&self, decision: &'static str) {
        *lock(&self.decisions).entry(decision).or_default() += 1;
    }

    pub(crate) fn look(&self, look: Look, took: Duration) {
        let counter = match look {
            Look::Open => &self.opens_count,
            Look::Refresh => &self.refreshes_count,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.last_look_ms.store(u64::try_from(took.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// A look that began then found something out.
    pub(crate) fn good_look(&self, began: Instant) {
        *lock(&self.last_good_look) = Some(began);
    }

    pub(crate) fn failure(&self, look: Look, reason: &'static str) {
        *lock(&self.failures).entry((look, reason)).or_default() += 1;
    }

    /// All of it as text.
    pub(crate) fn text(&self, calls: &MeterSnapshot, open_count: usize) -> String {
        let mut text = Text::default();
        text.family("perennial_catalog_requests_total", "counter", "Requests by route and status.");
        for ((route, status), count) in &*lock(&self.requests) {
            text.sample(&format!("route=\"{route}\",status=\"{status}\""), *count);
        }
        text.family("perennial_catalog_decisions_total", "counter", "Decisions given.");
        for (decision, count) in &*lock(&self.decisions) {
            text.sample(&format!("decision=\"{decision}\""), *count);
        }
        text.family("perennial_catalog_opens_total", "counter", "Repositories opened, failed attempts too.");
        text.sample("", self.opens_count.load(Ordering::Relaxed));
        text.family("perennial_catalog_refreshes_total", "counter", "Indexes read anew, failed attempts too.");
        text.sample("", self.refreshes_count.load(Ordering::Relaxed));
        for (look, name) in [
            (Look::Open, "perennial_catalog_open_failures_total"),
            (Look::Refresh, "perennial_catalog_refresh_failures_total"),
        ] {
            text.family(name, "counter", "Looks that failed, by reason.");
            for ((_, reason), count) in lock(&self.failures).iter().filter(|((failed, _), _)| *failed == look) {
                text.sample(&format!("reason=\"{reason}\""), *count);
            }
        }
        text.family("perennial_catalog_last_look_seconds", "gauge", "How long the last look took.");
        let ms = self.last_look_ms.load(Ordering::Relaxed);
        text.line("", &format!("{}.{:03}", ms / 1000, ms % 1000));
        text.family("perennial_catalog_last_good_look_age_seconds", "gauge", "How old is what is known.");
        if let Some(began) = *lock(&self.last_good_look) {
            text.sample("", began.elapsed().as_secs());
        }
        text.family("perennial_catalog_open_repositories", "gauge", "Repositories open now.");
        text.sample("", open_count as u64);
        text.family("perennial_catalog_storage_calls_total", "counter", "Calls that reached the store.");
        for (operation, count) in [
            ("get", calls.get_count),
            ("get_range", calls.get_range_count),
            ("stat", calls.stat_count),
            ("list", calls.list_page_count),
            ("put", calls.put_count),
            ("delete", calls.delete_count),
        ] {
            text.sample(&format!("operation=\"{operation}\""), count);
        }
        text.family("perennial_catalog_storage_failures_total", "counter", "Calls to the store that failed.");
        text.sample("", calls.failed_count);
        text.text
    }
}

/// The text so far, and the family that the next samples belong to.
#[derive(Default)]
struct Text {
    text: String,
    name: &'static str,
}

impl Text {
    fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.name = name;
        writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}").expect("a String takes all text");
    }

    fn sample(&mut self, labels: &str, value: u64) {
        self.line(labels, &value.to_string());
    }

    fn line(&mut self, labels: &str, value: &str) {
        let (open, close) = if labels.is_empty() { ("", "") } else { ("{", "}") };
        writeln!(self.text, "{}{open}{labels}{close} {value}", self.name).expect("a String takes all text");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
