//! Who owns the data, so that the next run can be given the right uid.

use std::collections::{BTreeMap, VecDeque};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use api::mover::Owner;

/// Entries looked at: enough to see whose a volume is, and few enough to cost nothing beside a backup.
const LOOKED_AT_MAX: usize = 4096;

/// The owners of the first so many entries below `root`, nearest to the root first; most files first.
///
/// What cannot be looked at is passed over: the run itself will say so.
pub(crate) fn of(root: &Path) -> Vec<Owner> {
    let mut counts: BTreeMap<(u32, u32), u64> = BTreeMap::new();
    let mut pending = VecDeque::from([root.to_owned()]);
    let mut looked_at = 0;
    while let Some(directory) = pending.pop_front() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            looked_at += 1;
            if looked_at > LOOKED_AT_MAX {
                return sorted(counts);
            }
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                pending.push_back(entry.path());
            } else {
                *counts.entry((metadata.uid(), metadata.gid())).or_default() += 1;
            }
        }
    }
    sorted(counts)
}

fn sorted(counts: BTreeMap<(u32, u32), u64>) -> Vec<Owner> {
    let mut owners: Vec<Owner> = counts.into_iter().map(|((uid, gid), files)| Owner { uid, gid, files }).collect();
    owners.sort_by_key(|owner| std::cmp::Reverse(owner.files));
    owners
}
