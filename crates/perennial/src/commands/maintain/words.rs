//! What came of a cycle, in words.

use std::time::Duration;

use engine::{Done, MaintainOutcome};
use repository_kopia::{CycleKind, Task, TaskStats};

use crate::output::{block, bytes, count, counted, duration, time};

pub fn outcome(outcome: &MaintainOutcome, took: Duration) -> String {
    let mut lines: Vec<(&'static str, String)> =
        outcome.tasks.iter().map(|found| (title(found.task), done(found.task, &found.done))).collect();
    if outcome.manifests_merged_count > 0 {
        let merged = counted(outcome.manifests_merged_count as u64, "content", "contents");
        lines.push(("records", format!("{merged} of records merged into one")));
    }
    lines.push(("time", duration(took)));
    if let (CycleKind::Full, Some(next)) = (outcome.cycle, outcome.next_full) {
        lines.push(("next full run", time(next)));
    }
    let head = match outcome.cycle {
        CycleKind::Quick => "quick maintenance",
        CycleKind::Full => "full maintenance",
    };
    format!("{head}\n{}", block(&lines))
}

fn title(task: Task) -> &'static str {
    match task {
        Task::SnapshotGc => "garbage",
        Task::QuickRewriteContents | Task::FullRewriteContents => "short packs",
        Task::QuickDeleteBlobs | Task::FullDeleteBlobs => "unused packs",
        Task::FullDropDeletedContent => "marked garbage",
        Task::IndexCompaction | Task::CompactSingleEpoch => "index",
        Task::AdvanceEpoch => "epoch",
        Task::GenerateEpochRangeIndex => "index range",
        Task::CleanupEpochMarkers => "markers",
        Task::DeleteSupersededEpochIndexes => "old index",
        Task::ExtendBlobRetentionTime => "object locks",
        Task::CleanupLogs => "logs",
    }
}

fn done(task: Task, done: &Done) -> String {
    match (done, task) {
        (Done::Counted(_), Task::IndexCompaction) => "small index blobs merged".to_owned(),
        (Done::Counted(stats), _) => counts(stats),
        (Done::Waits, Task::FullRewriteContents | Task::QuickRewriteContents) => {
            "left for a later run: what the last rewriting left behind goes first".to_owned()
        }
        (Done::Waits, Task::FullDropDeletedContent) => {
            "nothing dropped: that takes two earlier full runs, more than 4 hours apart".to_owned()
        }
        (Done::Waits, _) => "left for a later run: an hour after the last rewriting at least".to_owned(),
        (Done::Nothing, _) => "nothing to do".to_owned(),
    }
}

fn sized(number: u64, size: u64, one: &str, many: &str) -> String {
    format!("{} ({})", counted(number, one, many), bytes(size))
}

fn counts(stats: &TaskStats) -> String {
    match stats {
        TaskStats::SnapshotGc {
            deleted_content_count,
            deleted_content_size,
            unreferenced_recent_content_count,
            unreferenced_recent_content_size,
            in_use_content_count,
            in_use_content_size,
            recovered_content_count,
            ..
        } => {
            let marked = match deleted_content_count {
                0 => "nothing new".to_owned(),
                _ => format!("{} marked", sized(*deleted_content_count, *deleted_content_size, "content", "contents")),
            };
            let young = match unreferenced_recent_content_count {
                0 => String::new(),
                number => format!(
                    ", {} unused but younger than a day",
                    sized(*number, *unreferenced_recent_content_size, "content", "contents")
                ),
            };
            let back = match recovered_content_count {
                0 => String::new(),
                number => format!(", {} in use again", count(*number)),
            };
            let used = sized(*in_use_content_count, *in_use_content_size, "content", "contents");
            format!("{marked}{young}{back}; {used} in use")
        }
        TaskStats::RewriteContents {
            rewritten_content_count, rewritten_content_size, retained_content_count, ..
        } => {
            let moved = sized(*rewritten_content_count, *rewritten_content_size, "content", "contents");
            format!("{moved} moved to full ones, {} left where they are", count(*retained_content_count))
        }
        TaskStats::DeleteUnreferencedPacks {
            deleted_pack_count,
            deleted_total_size,
            retained_pack_count,
            retained_total_size,
            ..
        } => {
            let gone = sized(*deleted_pack_count, *deleted_total_size, "object", "objects");
            let kept = sized(*retained_pack_count, *retained_total_size, "object", "objects");
            format!("{gone} deleted, {kept} too young or being written")
        }
        TaskStats::CompactIndexes { dropped_contents_deleted_before } => {
            format!("dropped what was marked before {}", time(*dropped_contents_deleted_before))
        }
        TaskStats::AdvanceEpoch { current_epoch, was_advanced } => match was_advanced {
            true => format!("epoch {current_epoch} begins"),
            false => format!("epoch {current_epoch} goes on"),
        },
        TaskStats::CompactSingleEpoch { superseded_index_blob_count, superseded_index_total_size, .. } => {
            let merged = sized(*superseded_index_blob_count, *superseded_index_total_size, "blob", "blobs");
            format!("{merged} merged")
        }
        TaskStats::GenerateRangeCheckpoint { range_min_epoch, range_max_epoch } => {
            format!("epochs {range_min_epoch} to {range_max_epoch} merged")
        }
        TaskStats::CleanupMarkers { deleted_epoch_marker_blob_count, deleted_watermark_blob_count } => {
            format!("{} deleted", count(deleted_epoch_marker_blob_count + deleted_watermark_blob_count))
        }
        TaskStats::CleanupSupersededIndexes { deleted_blob_count, deleted_total_size, .. } => {
            format!("{} deleted", sized(*deleted_blob_count, *deleted_total_size, "merged blob", "merged blobs"))
        }
        TaskStats::ExtendBlobRetention { extended_blob_count, retention_period, .. } => {
            let locked = counted(*extended_blob_count, "object", "objects");
            format!("{locked} locked for {retention_period} from now")
        }
        TaskStats::CleanupLogs { deleted_blob_count, deleted_blob_size, retained_blob_count, .. } => {
            let gone = sized(*deleted_blob_count, *deleted_blob_size, "log", "logs");
            format!("{gone} deleted, {} kept", count(*retained_blob_count))
        }
    }
}
