//! Old diagnostic logs of Kopia's programs.

use futures::TryStreamExt as _;
use jiff::Timestamp;
use storage::Object;

use super::cycle::MaintenanceCycle;
use super::error::MaintenanceError;
use super::parameters::LogRetention;
use super::stats::TaskStats;

const LOG_PREFIX: &str = "_log_";

/// How many of `logs`, newest first, stay: all up to the first that is too old, or too many, or too much.
fn kept_count(logs: &[Object], retention: LogRetention, now: Timestamp) -> usize {
    let mut bytes = 0_u64;
    let is_beyond = |(at, log): (usize, &Object)| {
        bytes = bytes.saturating_add(log.size_bytes);
        u64::try_from(retention.total_bytes_max).is_ok_and(|max| bytes > max)
            || i64::try_from(at).is_ok_and(|at| at >= retention.count_max)
            || now.duration_since(log.modified) > retention.age_max()
    };
    logs.iter().enumerate().position(is_beyond).unwrap_or(logs.len())
}

impl MaintenanceCycle<'_> {
    /// Deletes diagnostic logs beyond what the parameters keep.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn clean_up_logs(&self) -> Result<Option<TaskStats>, MaintenanceError> {
        let failed = MaintenanceError::storage("list logs");
        let mut logs: Vec<Object> = self.repository.storage().list(LOG_PREFIX).try_collect().await.map_err(failed)?;
        logs.sort_by(|a, b| b.modified.cmp(&a.modified).then_with(|| b.key.cmp(&a.key)));
        let retention = self.parameters().log_retention.or_standard();
        let kept = kept_count(&logs, retention, self.repository.clock().now());
        let bytes = |logs: &[Object]| logs.iter().map(|log| log.size_bytes).sum::<u64>();
        let doomed = logs.split_off(kept);
        self.delete_all(doomed.iter().map(|log| log.key.clone()).collect()).await?;
        Ok(Some(TaskStats::CleanupLogs {
            to_delete_blob_count: doomed.len() as u64,
            to_delete_blob_size: bytes(&doomed),
            deleted_blob_count: doomed.len() as u64,
            deleted_blob_size: bytes(&doomed),
            retained_blob_count: logs.len() as u64,
            retained_blob_size: bytes(&logs),
        }))
    }
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};
    use storage::{Object, ObjectKey};

    use super::kept_count;
    use crate::maintenance::parameters::LogRetention;

    fn retention(text: &str) -> LogRetention {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_first_log_beyond_a_limit_and_all_older_ones_go() {
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(100);
        let logs: Vec<Object> = (0..10)
            .map(|hours| Object {
                key: ObjectKey::new(format!("_log_{hours}")),
                size_bytes: 10,
                modified: now - SignedDuration::from_hours(hours),
            })
            .collect();
        for (text, expected) in [
            (r#"{"maxTotalSize":1000,"maxCount":100,"maxAge":360000000000000}"#, 10),
            (r#"{"maxTotalSize":30,"maxCount":100,"maxAge":360000000000000}"#, 3),
            (r#"{"maxTotalSize":1000,"maxCount":4,"maxAge":360000000000000}"#, 4),
            (r#"{"maxTotalSize":1000,"maxCount":100,"maxAge":7200000000000}"#, 3),
        ] {
            assert_eq!(kept_count(&logs, retention(text), now), expected, "{text}");
        }
    }
}
