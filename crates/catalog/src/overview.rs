//! The store as a whole, for the status of its BackupRepository. It names no claim.

use std::time::Duration;

use api::overview::{Figures, Overview, Upkeep};
use repository_kopia::Schedule;
use tokio::time::Instant;

use crate::Catalog;
use crate::facts::chain;
use crate::session::{Opened, Stands};

impl Catalog {
    /// What a look finds that begins after this call.
    ///
    /// # Errors
    /// In words, when nothing can be found out in time.
    pub async fn overview(&self) -> Result<Overview, String> {
        let deadline = self.options.deadline;
        let looked = tokio::time::timeout(deadline, self.overview_in_time()).await;
        looked.unwrap_or_else(|_| Err(format!("no answer within {} seconds", deadline.as_secs())))
    }

    async fn overview_in_time(&self) -> Result<Overview, String> {
        let Some(session) = self.sessions.shared() else {
            let (began, checked) = (Instant::now(), self.options.clock.now());
            self.sessions.store_is_listed().await.map_err(|error| error.to_string())?;
            return Ok(Overview { checked, latency_ms: milliseconds(began.elapsed()), repository: None });
        };
        let view = session.live().await.map_err(|error| chain(&*error))?;
        let repository = match &view.stands {
            Stands::Nothing | Stands::Else => None,
            Stands::Repository(opened) => {
                Some(figures(opened, session.schedule().await.map(|schedule| upkeep(&schedule))))
            }
        };
        Ok(Overview { checked: view.checked, latency_ms: milliseconds(view.took), repository })
    }
}

fn figures(opened: &Opened, upkeep: Option<Upkeep>) -> Figures {
    let finished = opened.snapshots.values().flatten().filter(|record| record.is_complete);
    Figures {
        snapshots: u64::try_from(finished.count()).unwrap_or(u64::MAX),
        index_blobs: u64::try_from(opened.index_blob_count).unwrap_or(u64::MAX),
        upkeep,
    }
}

/// What the records of earlier runs say. A step that failed and was done since is no failure.
fn upkeep(schedule: &Schedule) -> Upkeep {
    let good = schedule.runs().flat_map(|(_, runs)| runs).filter(|run| run.success);
    let latest = schedule.runs().filter_map(|(task, runs)| Some((task, runs.first()?)));
    let failed = latest.filter(|(_, run)| !run.success).max_by_key(|(_, run)| run.end);
    Upkeep {
        last_good: good.map(|run| run.end).max(),
        next_full: schedule.next_full(),
        failure: failed.map(|(task, run)| format!("{task} at {}: {}", run.end, run.error)),
    }
}

fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
