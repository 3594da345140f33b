//! The names of a directory's entries, in 16 bytes each.
//!
//! A name is known by two hashes of 64 bits under keys that nobody knows: that any two of a million names have both alike is
//! as likely as to guess 88 bits.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

use repository_kopia::{DirectoryListing, ReadError, Repository};

/// Which names there are, and which of those that occur several times comes last.
pub(crate) struct Names {
    keys: [RandomState; 2],
    /// Sorted.
    hashes: Vec<u128>,
    /// How many entries are still to come of each name that occurs several times.
    repeated: HashMap<u128, u64>,
}

impl Names {
    pub(crate) async fn read(repository: &Repository, listing: &DirectoryListing) -> Result<Self, ReadError> {
        let entry_count = usize::try_from(listing.entry_count).unwrap_or(0);
        let mut names = Self::with_capacity(entry_count);
        let mut entries = listing.entries(repository);
        while let Some(some) = entries.next().await? {
            some.iter().for_each(|entry| names.push(entry.raw_name()));
        }
        Ok(names.sorted())
    }

    fn with_capacity(entry_count: usize) -> Self {
        let keys = [RandomState::new(), RandomState::new()];
        Self { keys, hashes: Vec::with_capacity(entry_count), repeated: HashMap::new() }
    }

    fn push(&mut self, name: &[u8]) {
        self.hashes.push(self.hash(name));
    }

    fn sorted(mut self) -> Self {
        self.hashes.sort_unstable();
        for alike in self.hashes.chunk_by(|a, b| a == b).filter(|alike| alike.len() > 1) {
            self.repeated.insert(alike[0], alike.len() as u64);
        }
        self
    }

    fn hash(&self, name: &[u8]) -> u128 {
        let [high, low] = self.keys.each_ref().map(|key| key.hash_one(name));
        u128::from(high) << 64 | u128::from(low)
    }

    pub(crate) fn has(&self, name: &[u8]) -> bool {
        self.hashes.binary_search(&self.hash(name)).is_ok()
    }

    /// Whether no further entry has this name; to be asked once for each entry. A name occurs once; should it occur again,
    /// the last counts, as in Kopia.
    pub(crate) fn is_last(&mut self, name: &[u8]) -> bool {
        if self.repeated.is_empty() {
            return true;
        }
        let hash = self.hash(name);
        let Some(left) = self.repeated.get_mut(&hash) else { return true };
        *left -= 1;
        *left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::Names;

    #[test]
    fn of_names_that_occur_again_the_last_counts() {
        let all: Vec<String> = ["b", "a", "c", "a", "b", "a"].map(str::to_owned).into();
        let mut names = Names::with_capacity(all.len());
        all.iter().for_each(|name| names.push(name.as_bytes()));
        let mut names = names.sorted();
        let last: Vec<bool> = all.iter().map(|name| names.is_last(name.as_bytes())).collect();
        assert_eq!(last, [false, false, true, false, true, true]);
        assert!(["a", "b", "c"].iter().all(|name| names.has(name.as_bytes())));
        assert!(!names.has(b"d") && !names.has(b""));
    }
}
