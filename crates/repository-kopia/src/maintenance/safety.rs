//! The spans that make deletion safe next to other clients, and the decisions that rest on what ran before.
//!
//! Pure. Source: Kopia format, "Safety parameters", "Sequence" and "Tasks".

use jiff::{SignedDuration, Timestamp};

use super::schedule::{RunRecord, Schedule, Task};

const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// Which packs that nothing names are deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacksDeleted {
    /// Those of metadata.
    Metadata,
    /// All, and markers of sessions that are over.
    All,
}

/// How long things wait before they may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Safety {
    pub(crate) rewrite_age_min: SignedDuration,
    pub(crate) collected_age_min: SignedDuration,
    pub(crate) margin_between_collections: SignedDuration,
    pub(crate) two_collections: bool,
    pub(crate) drop_margin: SignedDuration,
    pub(crate) pack_age_min: SignedDuration,
    pub(crate) session_age_max: SignedDuration,
    pub(crate) rewrite_to_deletion: SignedDuration,
    pub(crate) index_settle: SignedDuration,
}

impl Safety {
    /// What holds next to other clients, and unless told otherwise.
    pub const fn full() -> Self {
        Self {
            rewrite_age_min: SignedDuration::from_hours(2),
            collected_age_min: SignedDuration::from_hours(24),
            margin_between_collections: SignedDuration::from_hours(4),
            two_collections: true,
            drop_margin: HOUR,
            pack_age_min: SignedDuration::from_hours(24),
            session_age_max: SignedDuration::from_hours(96),
            rewrite_to_deletion: HOUR,
            index_settle: HOUR,
        }
    }

    /// No waiting at all. Destroys the backups of any client that is writing at the same time: for tests, and for a person
    /// who knows that there is none.
    pub const fn none() -> Self {
        Self {
            rewrite_age_min: SignedDuration::ZERO,
            collected_age_min: SignedDuration::ZERO,
            margin_between_collections: SignedDuration::ZERO,
            two_collections: false,
            drop_margin: SignedDuration::ZERO,
            pack_age_min: SignedDuration::ZERO,
            session_age_max: SignedDuration::ZERO,
            rewrite_to_deletion: SignedDuration::ZERO,
            index_settle: SignedDuration::ZERO,
        }
    }

    /// Marks up to this instant have outlived two collections: they may be dropped. `None` while there are none.
    ///
    /// A run dated after `now` says that a clock was wrong, and counts for nothing.
    pub(crate) fn drop_time(&self, schedule: &Schedule, now: Timestamp) -> Option<Timestamp> {
        if !self.two_collections {
            return Some(now);
        }
        let mut collections: Vec<&RunRecord> =
            successes(schedule, &[Task::SnapshotGc]).filter(|run| run.start <= now && run.end <= now).collect();
        collections.sort_by_key(|run| std::cmp::Reverse(run.start));
        let (latest, earlier) = collections.split_first()?;
        let is_apart = |run: &&&RunRecord| latest.start.duration_since(run.end) > self.margin_between_collections;
        let outlived = earlier.iter().find(is_apart)?;
        outlived.start.checked_sub(self.drop_margin).ok()
    }

    /// Whether packs that nothing names may be deleted: readers must have had time to learn of the last rewrite.
    pub(crate) fn may_delete_packs(&self, schedule: &Schedule, now: Timestamp) -> bool {
        latest_end(schedule, &[Task::QuickRewriteContents, Task::FullRewriteContents])
            .is_none_or(|rewritten| now.duration_since(rewritten) >= self.rewrite_to_deletion)
    }

    /// Which packs a quick cycle of a repository without epochs deletes: what a full rewriting left behind goes before there
    /// is another one.
    pub(crate) fn deleted_quickly(schedule: &Schedule) -> PacksDeleted {
        let ended = |task| latest_end(schedule, &[task]);
        match ended(Task::FullRewriteContents) >= ended(Task::QuickRewriteContents) {
            true => PacksDeleted::All,
            false => PacksDeleted::Metadata,
        }
    }

    /// Whether a full cycle may rewrite: what the last one left behind must have been deleted first.
    pub(crate) fn may_rewrite_fully(&self, schedule: &Schedule) -> bool {
        self.may_rewrite(schedule, &[Task::FullRewriteContents])
    }

    /// Whether a quick cycle of a repository without epochs may rewrite.
    pub(crate) fn may_rewrite_quickly(&self, schedule: &Schedule) -> bool {
        self.may_rewrite(schedule, &[Task::QuickRewriteContents, Task::FullRewriteContents])
    }

    fn may_rewrite(&self, schedule: &Schedule, rewrites: &[Task]) -> bool {
        let Some(rewritten) = latest_end(schedule, rewrites) else { return true };
        self.rewrite_to_deletion.is_zero()
            || latest_end(schedule, &[Task::QuickDeleteBlobs, Task::FullDeleteBlobs])
                .is_some_and(|deleted| deleted >= rewritten)
    }
}

fn successes<'a>(schedule: &'a Schedule, tasks: &'a [Task]) -> impl Iterator<Item = &'a RunRecord> {
    tasks.iter().flat_map(|task| schedule.runs_of(*task)).filter(|run| run.success)
}

fn latest_end(schedule: &Schedule, tasks: &[Task]) -> Option<Timestamp> {
    successes(schedule, tasks).map(|run| run.end).max()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::{PacksDeleted, Safety};
    use crate::maintenance::schedule::{RunRecord, Schedule, Task};

    fn at(time: &str) -> Timestamp {
        format!("2026-01-01T{time}:00Z").parse().unwrap()
    }

    /// `task start end` each; `!` in front of a run that failed.
    fn schedule(runs: &[(&str, Task, &str, &str)]) -> Schedule {
        let mut schedule = Schedule::default();
        for (success, task, start, end) in runs {
            let error = if *success == "ok" { None } else { Some("no".to_owned()) };
            schedule.record(*task, RunRecord::new(at(start), at(end), error, None));
        }
        schedule
    }

    // Source of the cases: Kopia format, "Maintenance decisions" vectors.

    #[test]
    fn marks_are_dropped_after_two_collections_far_enough_apart() {
        use Task::SnapshotGc as Gc;
        let early = ("ok", Gc, "07:00", "07:15");
        let middle = ("ok", Gc, "09:00", "09:15");
        let late = ("ok", Gc, "13:00", "13:15");
        for (runs, expected) in [
            (vec![], None),
            (vec![early], None),
            (vec![early, middle], None),
            (vec![early, late], Some("06:00")),
            (vec![early, middle, late], Some("06:00")),
            (vec![("no", Gc, "07:00", "07:15"), middle, late], None),
        ] {
            let found = Safety::full().drop_time(&schedule(&runs), at("13:15"));
            assert_eq!(found, expected.map(at), "{runs:?}");
        }
        assert_eq!(Safety::none().drop_time(&schedule(&[]), at("13:15")), Some(at("13:15")));
    }

    #[test]
    fn a_collection_dated_in_the_future_counts_for_nothing() {
        use Task::SnapshotGc as Gc;
        let runs = [("ok", Gc, "07:00", "07:15"), ("ok", Gc, "09:00", "09:15"), ("ok", Gc, "23:00", "23:15")];
        assert_eq!(Safety::full().drop_time(&schedule(&runs), at("10:00")), None);
        assert_eq!(Safety::full().drop_time(&schedule(&runs), at("23:15")), Some(at("08:00")));
    }

    #[test]
    fn packs_are_deleted_an_hour_after_a_rewrite() {
        let quick = ("ok", Task::QuickRewriteContents, "08:45", "09:00");
        let full = ("ok", Task::FullRewriteContents, "12:45", "13:00");
        for (runs, expected) in [(vec![], true), (vec![quick], true), (vec![full], false)] {
            assert_eq!(Safety::full().may_delete_packs(&schedule(&runs), at("13:15")), expected, "{runs:?}");
            assert!(Safety::none().may_delete_packs(&schedule(&runs), at("13:15")));
        }
    }

    #[test]
    fn a_quick_cycle_deletes_what_the_last_rewrite_left() {
        let quick = |end| ("ok", Task::QuickRewriteContents, "06:00", end);
        let full = |end| ("ok", Task::FullRewriteContents, "06:00", end);
        for (runs, expected) in [
            (vec![], PacksDeleted::All),
            (vec![quick("09:00")], PacksDeleted::Metadata),
            (vec![full("09:00")], PacksDeleted::All),
            (vec![quick("09:00"), full("09:00")], PacksDeleted::All),
            (vec![quick("09:00"), full("08:59")], PacksDeleted::Metadata),
        ] {
            assert_eq!(Safety::deleted_quickly(&schedule(&runs)), expected, "{runs:?}");
        }
    }

    #[test]
    fn what_a_rewrite_left_behind_goes_before_the_next_rewrite() {
        use Task::{FullDeleteBlobs, FullRewriteContents, QuickDeleteBlobs, QuickRewriteContents};
        for (runs, full, quick) in [
            (vec![], true, true),
            (vec![("ok", QuickDeleteBlobs, "06:45", "07:00"), ("ok", FullDeleteBlobs, "07:00", "07:15")], true, true),
            (
                vec![("ok", FullDeleteBlobs, "06:45", "07:00"), ("ok", FullRewriteContents, "07:00", "07:15")],
                false,
                false,
            ),
            (
                vec![("ok", FullDeleteBlobs, "06:45", "07:00"), ("ok", QuickRewriteContents, "07:00", "07:15")],
                true,
                false,
            ),
            (
                vec![("ok", FullDeleteBlobs, "07:00", "07:15"), ("ok", FullRewriteContents, "06:45", "07:00")],
                true,
                true,
            ),
        ] {
            let schedule = schedule(&runs);
            assert_eq!(Safety::full().may_rewrite_fully(&schedule), full, "{runs:?}");
            assert_eq!(Safety::full().may_rewrite_quickly(&schedule), quick, "{runs:?}");
            assert!(Safety::none().may_rewrite_fully(&schedule) && Safety::none().may_rewrite_quickly(&schedule));
        }
    }
}
