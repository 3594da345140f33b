//! Which index blobs are merged, which epoch begins, and what may go: pure decisions over a listing.
//!
//! Source: Kopia format, "Epoch maintenance operations".

use jiff::{SignedDuration, Timestamp};
use storage::{Object, ObjectKey};

use crate::epoch::View;
use crate::format_blob::EpochParameters;

/// Every settled epoch that has its writers' blobs only and that no range stands for, in Kopia's order.
///
/// Kopia merges the first of them in a run; a settled epoch does not change any more, so merging all is as safe and gets
/// through a backlog at once.
pub(crate) fn epochs_to_merge(view: &View) -> Vec<u64> {
    let Some(last) = view.last_settled() else { return Vec::new() };
    let settled = view.uncompacted_epochs().filter(|epoch| (view.first_after_ranges()..=last).contains(epoch));
    settled.filter(|epoch| !view.singles().contains_key(epoch)).collect()
}

/// Whether a new epoch begins.
///
/// Kopia's rule: the current one spans its least duration and has blobs or bytes enough. Besides, where so many blobs wait
/// in the epoch before that they slow every client down, the current one need not fill up first; it must have stood for its
/// least duration, so that no client still writes to the one before, and hold something, for Kopia stops at an empty one.
pub(crate) fn is_advance_due(view: &View, parameters: &EpochParameters, now: Timestamp) -> bool {
    let current = view.uncompacted(view.write_epoch);
    let duration_min = SignedDuration::from_nanos(parameters.min_epoch_duration);
    let (Some(first), Some(last)) =
        (current.iter().map(|blob| blob.modified).min(), current.iter().map(|blob| blob.modified).max())
    else {
        return false;
    };
    let bytes: u64 = current.iter().map(|blob| blob.size_bytes).sum();
    let is_full = reaches(current.len() as u64, parameters.epoch_advance_on_count_threshold)
        || reaches(bytes, parameters.epoch_advance_on_total_size_bytes_threshold);
    if last.duration_since(first) >= duration_min && is_full {
        return true;
    }
    let Some(before) = view.write_epoch.checked_sub(1) else { return false };
    let waits = reaches(view.uncompacted(before).len() as u64, parameters.epoch_advance_on_count_threshold);
    let begun = view.epoch_markers().iter().filter(|(epoch, _)| *epoch == view.write_epoch);
    let stood = begun.map(|(_, marker)| marker.modified).max();
    waits && stood.is_some_and(|begun| now.duration_since(begun) >= duration_min)
}

fn reaches(count: u64, threshold: i64) -> bool {
    u64::try_from(threshold).is_ok_and(|threshold| count >= threshold)
}

/// The settled epochs that are merged into one range, if they are enough.
pub(crate) fn range_to_merge(view: &View, parameters: &EpochParameters) -> Option<(u64, u64)> {
    let first = view.first_after_ranges();
    let last = view.last_settled()?;
    let frequency = u64::try_from(parameters.full_checkpoint_frequency).ok()?;
    (last.checked_sub(first)? >= frequency).then_some((first, last))
}

/// Blobs older than this may go once something else stands for them: the newest index blob in use less the margin. `None`
/// while there is none to tell the store's time by.
pub(crate) fn cleanup_time(view: &View, parameters: &EpochParameters) -> Option<Timestamp> {
    let in_use = view.write_epoch.saturating_sub(1)..=view.write_epoch.saturating_add(1);
    let newest = in_use.flat_map(|epoch| view.uncompacted(epoch)).map(|blob| blob.modified).max()?;
    newest.checked_sub(SignedDuration::from_nanos(parameters.cleanup_safety_margin)).ok()
}

/// A merged set that is old enough, and the blobs that it stands for.
pub(crate) struct Superseded<'a> {
    pub(crate) by: &'a [Object],
    pub(crate) blobs: &'a [Object],
}

/// Settled epochs whose own blobs are no longer needed.
pub(crate) fn superseded(view: &View, before: Timestamp) -> Vec<Superseded<'_>> {
    let settled = view.singles().iter().filter(|(epoch, _)| view.last_settled().is_some_and(|last| **epoch <= last));
    settled
        .filter(|(_, set)| set.iter().all(|blob| blob.modified < before))
        .map(|(epoch, set)| Superseded { by: set, blobs: view.uncompacted(*epoch) })
        .filter(|superseded| !superseded.blobs.is_empty())
        .collect()
}

/// Markers of epochs long past, and watermarks below the one that counts.
pub(crate) fn stale_markers(view: &View, before: Timestamp) -> (Vec<ObjectKey>, Vec<ObjectKey>) {
    let epochs = view.epoch_markers().iter().filter(|(epoch, _)| *epoch < view.write_epoch.saturating_sub(1));
    let watermarks = view
        .watermarks()
        .iter()
        .filter(|(seconds, marker)| Some(*seconds) != view.deletion_watermark_seconds && marker.modified < before);
    let keys = |markers: &mut dyn Iterator<Item = &(u64, Object)>| markers.map(|(_, blob)| blob.key.clone()).collect();
    (keys(&mut { epochs }), keys(&mut { watermarks }))
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};
    use storage::{Object, ObjectKey};

    use super::{cleanup_time, epochs_to_merge, is_advance_due, range_to_merge, stale_markers, superseded};
    use crate::epoch::View;
    use crate::format_blob::EpochParameters;

    const DAY: SignedDuration = SignedDuration::from_hours(24);

    fn object(name: &str, hours: i64, size_bytes: u64) -> Object {
        let modified = Timestamp::from_second(1_767_225_600 + hours * 3600).unwrap();
        Object { key: ObjectKey::new(name), size_bytes, modified }
    }

    fn view(names: &str) -> View {
        let objects: Vec<Object> = names.split_whitespace().map(|name| object(name, 0, 1)).collect();
        View::new(&objects)
    }

    // Source of the cases: Kopia format, "Epochs" vectors.

    #[test]
    fn the_next_epoch_to_merge() {
        let check = |ranges: &str, merged: &[u64], expected: u64| {
            let names: Vec<String> = (0..30).map(|epoch| format!("xn{epoch}_a")).collect();
            let merged: Vec<String> = merged.iter().map(|epoch| format!("xs{epoch}_a")).collect();
            let view = view(&format!("xe31 {ranges} {} {}", names.join(" "), merged.join(" ")));
            assert_eq!(epochs_to_merge(&view)[0], expected, "{ranges} {merged:?}");
        };
        check("", &[], 0);
        check("", &[0], 1);
        check("", &[0, 1], 2);
        check("", &[1], 0);
        check("", &[23], 0);
        check("", &[0, 2], 1);
        check("", &[0, 1, 3], 2);
        check("", &[0, 1, 2, 4, 6, 9], 3);
        check("xr0_2_a", &[], 3);
        check("xr0_2_a", &[1, 2], 3);
        check("xr0_2_a", &[4, 5], 3);
        check("xr0_2_a", &[2, 3], 4);
        check("xr0_2_a", &[3, 4], 5);
        check("xr0_2_a", &[3, 5], 4);
        check("xr0_7_a", &[0, 1, 2, 4, 6, 9], 8);
        check("xr0_7_a", &[0, 1, 2, 4, 6, 8, 9], 10);
        check("xr0_7_a", &[0, 1, 2, 4, 6, 8, 10], 9);
        check("xr0_7_a", &[8, 10], 9);
        check("xr0_7_a", &[8, 9, 12], 10);
    }

    #[test]
    fn a_stray_marker_of_a_far_epoch_is_no_reason_to_hang() {
        let view = view(&format!("xe{} xn0_a xn{}_b", u64::MAX, u64::MAX));
        assert_eq!(epochs_to_merge(&view), [0]);
        let parameters = EpochParameters::standard();
        assert_eq!(range_to_merge(&view, &parameters), Some((0, u64::MAX - 2)));
        assert!(stale_markers(&view, Timestamp::UNIX_EPOCH).0.is_empty());
        assert!(cleanup_time(&view, &parameters).is_some());
    }

    /// Kopia calls a chain that does not begin at 0 an error; here it is no chain.
    #[test]
    fn a_range_that_does_not_begin_at_0_stands_for_nothing() {
        let view = view("xe9 xr1_2_a-s0-c1 xs3_a-s0-c1 xs4_a-s0-c1 xn0_a-s0-c1 xn1_a-s0-c1");
        assert_eq!(epochs_to_merge(&view), [0, 1]);
    }

    #[test]
    fn a_backlog_is_merged_at_once_up_to_the_last_settled_epoch() {
        let view = view("xe6 xn0_a xn1_a xs1_a xn2_a xn4_a xn5_a xn6_a");
        assert_eq!(epochs_to_merge(&view), [0, 2, 4]);
    }

    #[test]
    fn an_epoch_ends_when_it_is_old_and_full() {
        let parameters = EpochParameters::standard();
        let blob = |number: usize, at: SignedDuration, size_bytes| Object {
            key: ObjectKey::new(format!("xn0_{number}")),
            size_bytes,
            modified: Timestamp::UNIX_EPOCH + at,
        };
        let mib10 = 10_485_760;
        let nanosecond = SignedDuration::from_nanos(1);
        for (blobs, expected) in [
            (vec![], false),
            (vec![blob(0, SignedDuration::ZERO, mib10)], false),
            (vec![blob(0, SignedDuration::ZERO, 1), blob(1, DAY - nanosecond, mib10)], false),
            (vec![blob(0, SignedDuration::ZERO, 1), blob(1, DAY, mib10)], true),
            (vec![blob(0, SignedDuration::ZERO, mib10 - 2), blob(1, DAY, 1)], false),
            (vec![blob(0, SignedDuration::ZERO, 1), blob(1, DAY, 1)], false),
            ((0..21).map(|number| blob(number, DAY / 20 * number as i32, 1)).collect(), true),
        ] {
            let now = Timestamp::UNIX_EPOCH + DAY;
            assert_eq!(is_advance_due(&View::new(&blobs), &parameters, now), expected, "{blobs:?}");
        }
    }

    #[test]
    fn an_epoch_ends_early_only_for_a_backlog_and_after_it_stood_long_enough() {
        let parameters = EpochParameters::standard();
        let backlog = |count: usize| (0..count).map(|number| object(&format!("xn0_{number}"), 0, 1));
        let at = |hours| object("", hours, 0).modified;
        let check = |count, rest: &[Object], hours| {
            let objects: Vec<Object> = backlog(count).chain(rest.iter().cloned()).collect();
            is_advance_due(&View::new(&objects), &parameters, at(hours))
        };
        let (marker, blob) = (object("xe1", 1, 1), object("xn1_a", 2, 1));
        assert!(check(20, &[marker.clone(), blob.clone()], 25));
        assert!(!check(20, &[marker.clone(), blob.clone()], 24));
        assert!(!check(19, &[marker.clone(), blob.clone()], 25));
        assert!(!check(20, &[marker], 25));
        assert!(!check(20, &[], 25));
    }

    #[test]
    fn ranges_wait_for_enough_epochs() {
        let parameters = EpochParameters::standard();
        assert_eq!(range_to_merge(&view(""), &parameters), None);
        assert_eq!(range_to_merge(&view("xe8"), &parameters), None);
        assert_eq!(range_to_merge(&view("xe9"), &parameters), Some((0, 7)));
        assert_eq!(range_to_merge(&view("xe16 xr0_7_a-s0-c1"), &parameters), None);
        assert_eq!(range_to_merge(&view("xe17 xr0_7_a-s0-c1"), &parameters), Some((8, 15)));
    }

    #[test]
    fn what_is_superseded_goes_after_the_margin_and_only_by_a_complete_set() {
        let parameters = EpochParameters::standard();
        let objects = [
            object("xe3", 0, 1),
            object("xn0_a", 0, 1),
            object("xs0_b-s1-c2", 1, 1),
            object("xn1_a", 0, 1),
            object("xs1_b-s1-c2", 1, 1),
            object("xs1_c-s1-c2", 6, 1),
            object("xn2_a", 7, 1),
            object("xs2_a", 1, 1),
            object("xn3_a", 10, 1),
        ];
        let view = View::new(&objects);
        assert_eq!(cleanup_time(&view, &parameters), Some(object("", 6, 0).modified));
        let names = |before: Timestamp| -> Vec<String> {
            superseded(&view, before).iter().flat_map(|one| one.blobs).map(|blob| blob.key.to_string()).collect()
        };
        assert!(names(object("", 6, 0).modified).is_empty());
        assert_eq!(names(object("", 7, 0).modified), ["xn1_a"]);
        assert_eq!(cleanup_time(&View::new(&[object("xe3", 0, 1), object("xn0_a", 9, 1)]), &parameters), None);
    }

    #[test]
    fn markers_go_when_nobody_can_need_them() {
        let objects = [
            object("xe1", 9, 1),
            object("xe2", 9, 1),
            object("xe3", 9, 1),
            object("xw100", 1, 1),
            object("xw200", 5, 1),
            object("xw300", 0, 1),
            object("xwhat", 0, 1),
        ];
        let (epochs, watermarks) = stale_markers(&View::new(&objects), object("", 5, 0).modified);
        assert_eq!(epochs, [ObjectKey::new("xe1")]);
        assert_eq!(watermarks, [ObjectKey::new("xw100")]);
    }
}
