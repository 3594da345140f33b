//! Moves contents out of short packs, so that many small ones become a few of full size.
//!
//! The short packs stay until nothing has named them for long enough.

use std::collections::{BTreeMap, HashSet};

use repository::PackId;
use repository_kopia::{CycleKind, IndexEntry, MaintenanceCycle, PACK_CONTENTS_MAX, Repository, TaskStats};

use super::MaintainError;
use super::relocate::{self, Unreadable};
use crate::restore::fetch::wait;
use crate::run::Run;

/// A pack that holds less than this share of a full one, in bytes and in contents, is short.
const SHORT_PERCENT: u64 = 60;
/// Contents moved together. The index is gone through once for each so many, some 150 bytes each.
const BATCH_CONTENTS: u64 = 64 * 1024;

/// Prefix of the packs that a quick cycle rewrites.
const METADATA_PACK: char = 'q';

/// What the index places in one pack, deleted contents included.
#[derive(Default)]
struct Held {
    bytes: u64,
    contents: u64,
}

pub(super) fn run(
    cycle: &MaintenanceCycle<'_>,
    repository: &Repository,
    run: &Run,
) -> Result<TaskStats, MaintainError> {
    let view = repository.index();
    let mut short = short_packs(view.index().iter(), repository.max_pack_bytes())?;
    if cycle.kind() == CycleKind::Quick {
        short.retain(|(pack, _)| pack.as_str().starts_with(METADATA_PACK));
    }
    let session = repository.begin_moving()?;
    let (mut found, mut retained, mut moved) = ((0, 0), (0, 0), (0, 0));
    for packs in batches(short) {
        let mut entries: Vec<(IndexEntry, bool)> = Vec::new();
        for entry in view.index().iter() {
            let entry = entry?;
            if !packs.contains(&entry.location.pack) {
                continue;
            }
            let bytes = u64::from(entry.location.packed_bytes);
            found = (found.0 + 1, found.1 + bytes);
            if cycle.is_old_enough_to_move(&entry) {
                let deleted = entry.deleted;
                entries.push((entry, deleted));
            } else {
                retained = (retained.0 + 1, retained.1 + bytes);
            }
        }
        let asked = entries.len() as u64;
        let asked_bytes = entries.iter().map(|(entry, _)| u64::from(entry.location.packed_bytes)).sum::<u64>();
        let done = relocate::run(&session, entries, Unreadable::Stays, run)?;
        moved = (moved.0 + done.content_count, moved.1 + done.bytes);
        retained = (retained.0 + asked - done.content_count, retained.1 + asked_bytes - done.bytes);
        wait(run, cycle.check_alone())??;
        wait(run, session.flush())??;
    }
    wait(run, session.finish())??;
    if moved.0 > 0 {
        wait(run, repository.refresh())??;
    }
    Ok(TaskStats::RewriteContents {
        to_rewrite_content_count: found.0,
        to_rewrite_content_size: found.1,
        rewritten_content_count: moved.0,
        rewritten_content_size: moved.1,
        retained_content_count: retained.0,
        retained_content_size: retained.1,
    })
}

/// Short packs with their number of contents. A kind of which there is one only is left alone.
fn short_packs<E>(
    entries: impl Iterator<Item = Result<IndexEntry, E>>,
    pack_bytes_max: u64,
) -> Result<Vec<(PackId, u64)>, E> {
    let mut packs: BTreeMap<PackId, Held> = BTreeMap::new();
    for entry in entries {
        let location = entry?.location;
        let held = packs.entry(location.pack).or_default();
        held.bytes += u64::from(location.packed_bytes);
        held.contents += 1;
    }
    let contents_max = PACK_CONTENTS_MAX as u64;
    packs.retain(|_, held| {
        held.bytes < pack_bytes_max * SHORT_PERCENT / 100 && held.contents < contents_max * SHORT_PERCENT / 100
    });
    let kind = |pack: &PackId| pack.as_str().chars().next();
    let mut of_kind: BTreeMap<Option<char>, usize> = BTreeMap::new();
    for pack in packs.keys() {
        *of_kind.entry(kind(pack)).or_default() += 1;
    }
    let several = |pack: &PackId| of_kind.get(&kind(pack)).is_some_and(|count| *count > 1);
    Ok(packs.into_iter().filter(|(pack, _)| several(pack)).map(|(pack, held)| (pack, held.contents)).collect())
}

/// Packs whose contents are moved together.
fn batches(packs: Vec<(PackId, u64)>) -> Vec<HashSet<PackId>> {
    let mut batches: Vec<HashSet<PackId>> = Vec::new();
    let mut in_last = 0;
    for (pack, count) in packs {
        match batches.last_mut() {
            Some(last) if in_last + count <= BATCH_CONTENTS => {
                last.insert(pack);
                in_last += count;
            }
            _ => {
                batches.push(HashSet::from([pack]));
                in_last = count;
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use repository::PackId;
    use repository_kopia::{IndexEntry, Location};

    use super::{BATCH_CONTENTS, PACK_CONTENTS_MAX, batches, short_packs};

    fn entry(pack: &str, packed_bytes: u32) -> Result<IndexEntry, Infallible> {
        let location = Location {
            pack: PackId::new(pack),
            offset: 0,
            packed_bytes,
            original_bytes: packed_bytes,
            compression: 0,
            encryption_key: 0,
        };
        let content = "aa".parse().unwrap();
        Ok(IndexEntry { content, location, timestamp_seconds: 0, deleted: false, format_version: 3 })
    }

    #[test]
    fn packs_below_sixty_percent_are_short_unless_alone_of_their_kind() {
        let entries =
            || [entry("p1", 30), entry("p1", 29), entry("p2", 59), entry("p3", 60), entry("q1", 1)].into_iter();
        let names = |found: Vec<(PackId, u64)>| -> Vec<String> {
            found.into_iter().map(|(pack, count)| format!("{pack} {count}")).collect()
        };
        assert_eq!(names(short_packs(entries(), 100).unwrap()), ["p1 2", "p2 1"]);
        assert_eq!(names(short_packs(entries().chain([entry("q2", 1)]), 100).unwrap()).len(), 4);
    }

    #[test]
    fn packs_full_of_tiny_contents_are_not_short() {
        let tiny = |pack: &'static str, count| std::iter::repeat_with(move || entry(pack, 1)).take(count);
        let entries = tiny("p1", PACK_CONTENTS_MAX).chain(tiny("p2", PACK_CONTENTS_MAX / 2)).chain(tiny("p3", 1));
        let short = short_packs(entries, 20 << 20).unwrap();
        assert_eq!(short.iter().map(|(pack, _)| pack.as_str()).collect::<Vec<_>>(), ["p2", "p3"]);
    }

    #[test]
    fn batches_have_a_bound_and_hold_at_least_one_pack() {
        let packs = |counts: &[u64]| counts.iter().map(|count| (PackId::new(format!("p{count}")), *count)).collect();
        let sizes = |counts: &[u64]| batches(packs(counts)).iter().map(|batch| batch.len()).collect::<Vec<_>>();
        assert_eq!(sizes(&[1, 2, BATCH_CONTENTS, 3, BATCH_CONTENTS + 1]), [2, 1, 1, 1]);
    }
}
