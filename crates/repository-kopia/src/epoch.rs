//! Which index blobs count.
//!
//! Index blobs are grouped into numbered epochs. Writers add `xn<epoch>_…` to the current one; markers `xe<n>` move it on;
//! epochs two behind are settled and may be compacted into `xs<epoch>_…`, runs of them into `xr<min>_<max>_…`. Nothing is
//! locked: names make concurrent work harmless. Source: Kopia format, "Epoch manager".
//!
//! Everything here is pure: names in, names out. [`crate::Repository`] lists.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use storage::{Object, ObjectKey};

/// What the names in the store say about epochs.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// New index blobs belong to this epoch.
    pub(crate) write_epoch: u64,
    /// Deleted entries up to this Unix second do not exist.
    pub(crate) deletion_watermark_seconds: Option<u64>,
    /// Blobs as their writers left them, per epoch.
    uncompacted: BTreeMap<u64, Vec<Object>>,
    /// First complete set per compacted epoch.
    singles: BTreeMap<u64, Vec<Object>>,
    /// The longest chain of range sets from epoch 0, ascending.
    chain: Vec<Range>,
    /// Epoch markers and watermarks, each with its number.
    epoch_markers: Vec<(u64, Object)>,
    watermarks: Vec<(u64, Object)>,
    /// Compacted blobs of every set, complete or not.
    compacted: Vec<Object>,
}

/// A set that stands for the epochs `min` to `max`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Range {
    min: u64,
    max: u64,
    blobs: Vec<Object>,
}

impl View {
    /// Reads the view off the listing of all blobs that begin with `x`.
    ///
    /// One listing instead of Kopia's seven: while it runs, markers may be added and blobs compacted, but a blob is deleted
    /// only hours after it was superseded, so any moment's listing leads to a complete index.
    pub(crate) fn new(listing: &[Object]) -> Self {
        let named = |prefix: &'static str| listing.iter().filter(move |object| object.key.as_str().starts_with(prefix));
        let mut uncompacted: BTreeMap<u64, Vec<Object>> = BTreeMap::new();
        for object in named("xn") {
            if let Some(epoch) = epoch_of(object.key.as_str()) {
                uncompacted.entry(epoch).or_default().push(object.clone());
            }
        }
        let numbered = |prefix: &'static str, number: fn(&str) -> Option<u64>| -> Vec<(u64, Object)> {
            named(prefix).filter_map(|object| Some((number(object.key.as_str())?, object.clone()))).collect()
        };
        let epoch_markers = numbered("xe", epoch_of);
        let watermarks = numbered("xw", |name| name["xw".len()..].parse().ok());
        Self {
            write_epoch: epoch_markers.iter().map(|(epoch, _)| *epoch).max().unwrap_or(0),
            deletion_watermark_seconds: watermarks.iter().map(|(seconds, _)| *seconds).max(),
            uncompacted,
            compacted: named("xs").chain(named("xr")).cloned().collect(),
            singles: first_complete_sets(named("xs"), epoch_of),
            chain: longest_chain(
                first_complete_sets(named("xr"), range_of)
                    .into_iter()
                    .map(|((min, max), blobs)| Range { min, max, blobs })
                    .collect(),
            ),
            epoch_markers,
            watermarks,
        }
    }

    /// What to load to know every content.
    pub(crate) fn complete_index(&self) -> Vec<ObjectKey> {
        self.complete_index_of(0, self.write_epoch.saturating_add(1)).map(|object| object.key.clone()).collect()
    }

    /// What to load to know every content of the epochs `first` to `last`. Ranges count whole, so `first` should be 0 or
    /// [`View::first_after_ranges`].
    pub(crate) fn complete_index_of(&self, first: u64, last: u64) -> impl Iterator<Item = &Object> {
        let mut blobs: Vec<&Object> = Vec::new();
        let mut start = first;
        for range in &self.chain {
            if range.max > start {
                blobs.extend(&range.blobs);
                start = range.max.saturating_add(1);
            }
        }
        // By the names there are, not by numbers: a stray marker may name any epoch.
        let named = self.uncompacted.keys().chain(self.singles.keys()).copied();
        let named: BTreeSet<u64> = named.filter(|epoch| (start..=last).contains(epoch)).collect();
        for epoch in named {
            let settled = self.last_settled().is_some_and(|last| epoch <= last);
            let single = self.singles.get(&epoch).filter(|_| settled);
            blobs.extend(single.or_else(|| self.uncompacted.get(&epoch)).into_iter().flatten());
        }
        blobs.into_iter()
    }

    /// The first epoch that no range set stands for.
    pub(crate) fn first_after_ranges(&self) -> u64 {
        self.chain.last().map_or(0, |range| range.max.saturating_add(1))
    }

    /// The last epoch that no writer adds to any more, if there is one.
    pub(crate) fn last_settled(&self) -> Option<u64> {
        self.write_epoch.checked_sub(2)
    }

    /// Epochs of which there are blobs as their writers left them.
    pub(crate) fn uncompacted_epochs(&self) -> impl Iterator<Item = u64> {
        self.uncompacted.keys().copied()
    }

    /// The blobs of an epoch as their writers left them.
    pub(crate) fn uncompacted(&self, epoch: u64) -> &[Object] {
        self.uncompacted.get(&epoch).map_or(&[], Vec::as_slice)
    }

    /// Epochs that have a complete set of their own, and that set.
    pub(crate) fn singles(&self) -> &BTreeMap<u64, Vec<Object>> {
        &self.singles
    }

    /// Epoch markers, each with its epoch.
    pub(crate) fn epoch_markers(&self) -> &[(u64, Object)] {
        &self.epoch_markers
    }

    /// Deletion watermarks, each with its Unix second.
    pub(crate) fn watermarks(&self) -> &[(u64, Object)] {
        &self.watermarks
    }
}

/// Epochs that a marker may be ahead of all blobs before it is a stray rather than a sign that blobs are gone.
const EPOCHS_AHEAD_MAX: u64 = 1000;

impl View {
    /// Index blobs that are in the store and do not count, other than those that a compaction stands for: of sets that are
    /// not complete, and beyond the current epoch.
    pub(crate) fn inactive(&self) -> Vec<ObjectKey> {
        let active: HashSet<ObjectKey> = self.complete_index().into_iter().collect();
        let beyond = self.uncompacted.range(self.write_epoch.saturating_add(2)..).flat_map(|(_, blobs)| blobs);
        let all = self.compacted.iter().chain(beyond).map(|blob| &blob.key);
        all.filter(|blob| !active.contains(*blob)).cloned().collect()
    }

    /// Signs that index blobs are gone, in words. A set that a session is still writing, as `is_open` says of a blob's name,
    /// is none.
    pub(crate) fn signs_of_loss(&self, is_open: &dyn Fn(&str) -> bool) -> Vec<String> {
        let mut signs = Vec::new();
        for (epoch, blobs) in &self.uncompacted {
            if *epoch > self.write_epoch.saturating_add(1) {
                signs.push(format!("epoch {epoch} has index blobs, and the marker that began it is gone"));
            }
            let is_superseded =
                self.singles.contains_key(epoch) || self.chain.last().is_some_and(|range| *epoch <= range.max);
            if !is_superseded {
                signs.extend(incomplete_sets(blobs.iter().filter(|blob| !is_open(blob.key.as_str()))));
            }
        }
        let covered = self.chain.last().map_or(0, |range| range.max.saturating_add(1));
        let has_blobs = |epoch: &u64| self.uncompacted.contains_key(epoch) || self.singles.contains_key(epoch);
        if self.write_epoch.saturating_sub(covered) <= EPOCHS_AHEAD_MAX {
            let empty = (covered..self.write_epoch).filter(|epoch| !has_blobs(epoch));
            signs.extend(empty.map(|epoch| format!("epoch {epoch} was closed, and no index blob of it is there")));
        }
        signs
    }
}

fn incomplete_sets<'a>(blobs: impl Iterator<Item = &'a Object>) -> Vec<String> {
    let mut sets: BTreeMap<(String, usize), usize> = BTreeMap::new();
    for blob in blobs {
        *sets.entry(set_of(blob.key.as_str())).or_default() += 1;
    }
    sets.into_iter()
        .filter(|((_, count), found)| found < count)
        .map(|((set, count), found)| format!("of the {count} index blobs of set {set} only {found} are there"))
        .collect()
}

/// The epoch in a name: the text before the first `_`, without leading letters.
fn epoch_of(name: &str) -> Option<u64> {
    number(name.split('_').next()?)
}

/// The first and last epoch in the name of a range set.
fn range_of(name: &str) -> Option<(u64, u64)> {
    let mut parts = name.split('_');
    let (first, second) = (parts.next()?, parts.next()?);
    parts.next()?;
    Some((number(first)?, second.parse().ok()?))
}

fn number(text: &str) -> Option<u64> {
    text.trim_start_matches(|letter: char| !letter.is_ascii_digit()).parse().ok()
}

/// The set a blob belongs to and that set's size; a name that does not say is a set of its own.
fn set_of(name: &str) -> (String, usize) {
    let mut parts = name.split('-').skip(1);
    let set = parts.next().filter(|part| part.starts_with('s'));
    let count = parts.next().and_then(|part| part.strip_prefix('c')?.parse().ok());
    match (set, count) {
        (Some(set), Some(count)) => (set.to_owned(), count),
        _ => (name.to_owned(), 1),
    }
}

/// The first set that is complete in listing order.
fn first_complete_set<'a>(blobs: impl IntoIterator<Item = &'a Object>) -> Option<Vec<Object>> {
    let mut sets: HashMap<String, Vec<Object>> = HashMap::new();
    for blob in blobs {
        let (set, count) = set_of(blob.key.as_str());
        let members = sets.entry(set).or_default();
        members.push(blob.clone());
        if members.len() == count {
            return Some(std::mem::take(members));
        }
    }
    None
}

fn first_complete_sets<'a, K: Ord>(
    blobs: impl Iterator<Item = &'a Object>,
    group_of: impl Fn(&str) -> Option<K>,
) -> BTreeMap<K, Vec<Object>> {
    let mut groups: BTreeMap<K, Vec<&Object>> = BTreeMap::new();
    let mut sorted: Vec<&Object> = blobs.collect();
    sorted.sort_by(|a, b| a.key.cmp(&b.key));
    for blob in sorted {
        if let Some(group) = group_of(blob.key.as_str()) {
            groups.entry(group).or_default().push(blob);
        }
    }
    groups.into_iter().filter_map(|(group, blobs)| Some((group, first_complete_set(blobs)?))).collect()
}

/// The chain of ranges from epoch 0 that reaches furthest; of equals the one with fewer links.
fn longest_chain(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.retain(|range| (1..u64::MAX).contains(&range.max) && range.min <= range.max);
    ranges.sort_by_key(|range| (range.min, range.max));
    // Best chain that ends right before an epoch: reached in ascending order, since every link leads to a greater one.
    let mut best: BTreeMap<u64, Vec<Range>> = BTreeMap::from([(0, Vec::new())]);
    for range in ranges {
        let Some(chain) = best.get(&range.min) else { continue };
        let links = chain.len() + 1;
        let next = range.max + 1;
        if best.get(&next).is_none_or(|known| known.len() > links) {
            let longer = chain.iter().cloned().chain([range]).collect();
            best.insert(next, longer);
        }
    }
    best.pop_last().map(|(_, chain)| chain).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{Range, View, epoch_of, first_complete_set, longest_chain};
    use jiff::Timestamp;
    use storage::{Object, ObjectKey};

    // Source of all cases: Kopia format, "Epochs" vectors.

    #[test]
    fn epoch_numbers() {
        for (name, epoch) in [
            ("pppp9", Some(9)),
            ("x7", Some(7)),
            ("x01234_1235", Some(1234)),
            ("x0_1235", Some(0)),
            ("abc01234_", Some(1234)),
            ("abc1234_xxxx-sadfasd", Some(1234)),
            ("_", None),
            ("a_", None),
            ("x123x_", None),
        ] {
            assert_eq!(epoch_of(name), epoch, "{name}");
        }
    }

    #[test]
    fn complete_sets() {
        for (blobs, first) in [
            ("", None),
            ("a-s0-c2 b-s0-c2", Some("a-s0-c2 b-s0-c2")),
            ("a-s0-c2 malformed b-s0-c2", Some("malformed")),
            ("a-s0-c2 malformed-s0-x2 b-s0-c2", Some("malformed-s0-x2")),
            ("a-s0-c2 malformed-s0-cNAN b-s0-c2", Some("malformed-s0-cNAN")),
            ("foo-s0-c2 aaa-s1-c2 bar-s0-c2 bbb-s1-c2", Some("foo-s0-c2 bar-s0-c2")),
            ("foo-s0-c3 aaa-s1-c3 bar-s0-c3 bbb-s1-c3", None),
        ] {
            let object =
                |name: &str| Object { key: ObjectKey::new(name), size_bytes: 0, modified: jiff::Timestamp::UNIX_EPOCH };
            let objects: Vec<Object> = blobs.split_whitespace().map(object).collect();
            let found = first_complete_set(&objects)
                .map(|set| set.iter().map(|object| object.key.as_str()).collect::<Vec<_>>().join(" "));
            assert_eq!(found.as_deref(), first, "{blobs}");
        }
    }

    #[test]
    fn a_stray_name_with_an_absurd_epoch_neither_hangs_nor_hides_others() {
        let names = [
            "xe18446744073709551615",
            "xn0_aa-s1-c1",
            "xn18446744073709551615_bb-s2-c1",
            "xr0_18446744073709551615_cc-s3-c1",
            "xs18446744073709551615_dd-s4-c1",
        ];
        let object = |name| Object { key: ObjectKey::new(name), size_bytes: 1, modified: Timestamp::UNIX_EPOCH };
        let complete = View::new(&names.map(object)).complete_index();
        assert_eq!(complete, [names[1], names[2]].map(ObjectKey::new));
    }

    #[test]
    fn longest_chains() {
        for (ranges, chain) in [
            ("", ""),
            ("0-9 10-19 20-29", "0-9 10-19 20-29"),
            ("0-9 10-19 20-29 50-59", "0-9 10-19 20-29"),
            ("0-9 20-29 50-59", "0-9"),
            ("0-29 20-29 30-39", "0-29 30-39"),
            ("0-9 0-29 10-19 30-39", "0-29 30-39"),
            ("0-9 0-29 10-59 30-39", "0-9 10-59"),
            ("10-59 30-39 50-59 40-49 0-9 0-29", "0-9 10-59"),
        ] {
            let parsed = ranges
                .split_whitespace()
                .map(|text| text.split_once('-').unwrap())
                .map(|(min, max)| Range { min: min.parse().unwrap(), max: max.parse().unwrap(), blobs: Vec::new() })
                .collect();
            let found: Vec<String> =
                longest_chain(parsed).iter().map(|range| format!("{}-{}", range.min, range.max)).collect();
            assert_eq!(found.join(" "), chain, "{ranges}");
        }
    }
}
