//! What a task counted, in the form in which Kopia remembers it.

use jiff::Timestamp;
use serde::Serialize;

/// Counts of one run of a task. Sizes are in bytes, packed.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", content = "data")]
#[expect(missing_docs, reason = "the members are Kopia's words, explained in the format's table of tasks")]
pub enum TaskStats {
    #[serde(rename = "snapshotGCStats", rename_all = "camelCase")]
    SnapshotGc {
        unreferenced_content_count: u64,
        unreferenced_content_size: u64,
        deleted_content_count: u64,
        deleted_content_size: u64,
        unreferenced_recent_content_count: u64,
        unreferenced_recent_content_size: u64,
        in_use_content_count: u64,
        in_use_content_size: u64,
        in_use_system_content_count: u64,
        in_use_system_content_size: u64,
        recovered_content_count: u64,
        recovered_content_size: u64,
    },
    #[serde(rename = "rewriteContentsStats", rename_all = "camelCase")]
    RewriteContents {
        to_rewrite_content_count: u64,
        to_rewrite_content_size: u64,
        rewritten_content_count: u64,
        rewritten_content_size: u64,
        retained_content_count: u64,
        retained_content_size: u64,
    },
    #[serde(rename = "deleteUnreferencedPacksStats", rename_all = "camelCase")]
    DeleteUnreferencedPacks {
        unreferenced_pack_count: u64,
        unreferenced_total_size: u64,
        deleted_pack_count: u64,
        deleted_total_size: u64,
        retained_pack_count: u64,
        retained_total_size: u64,
    },
    #[serde(rename = "compactIndexesStats", rename_all = "camelCase")]
    CompactIndexes { dropped_contents_deleted_before: Timestamp },
    #[serde(rename = "advanceEpochStats", rename_all = "camelCase")]
    AdvanceEpoch { current_epoch: u64, was_advanced: bool },
    #[serde(rename = "compactSingleEpochStats", rename_all = "camelCase")]
    CompactSingleEpoch { superseded_index_blob_count: u64, superseded_index_total_size: u64, epoch: u64 },
    #[serde(rename = "generateRangeCheckpointStats", rename_all = "camelCase")]
    GenerateRangeCheckpoint { range_min_epoch: u64, range_max_epoch: u64 },
    #[serde(rename = "cleanupMarkersStats", rename_all = "camelCase")]
    CleanupMarkers { deleted_epoch_marker_blob_count: u64, deleted_watermark_blob_count: u64 },
    #[serde(rename = "cleanupSupersededIndexesStats", rename_all = "camelCase")]
    CleanupSupersededIndexes { max_replacement_time: Timestamp, deleted_blob_count: u64, deleted_total_size: u64 },
    #[serde(rename = "extendBlobRetentionStats", rename_all = "camelCase")]
    ExtendBlobRetention { to_extend_blob_count: u64, extended_blob_count: u64, retention_period: String },
    #[serde(rename = "cleanupLogsStats", rename_all = "camelCase")]
    CleanupLogs {
        to_delete_blob_count: u64,
        to_delete_blob_size: u64,
        deleted_blob_count: u64,
        deleted_blob_size: u64,
        retained_blob_count: u64,
        retained_blob_size: u64,
    },
}
