//! A Bloom filter in blocks of one cache line: says without reading anything that a key is surely not there.

/// Bits for each key: about one of a hundred absent keys is not recognised as absent.
const BITS_PER_KEY: usize = 10;
/// 64 bytes: a look-up touches one cache line.
const BLOCK_WORDS: usize = 8;
/// Bits that each key sets in its block.
const BITS_SET: u32 = 6;
/// However many keys there are; beyond some 50 million it recognises fewer of the absent.
const BYTES_MAX: usize = 64 << 20;

/// Which keys may be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    words: Vec<u64>,
}

impl Filter {
    /// One for so many keys at most.
    pub(crate) fn for_keys(count: usize) -> Self {
        let bytes = (count.saturating_mul(BITS_PER_KEY) / 8).min(BYTES_MAX);
        Self { words: vec![0; (bytes / 8).next_multiple_of(BLOCK_WORDS).max(BLOCK_WORDS)] }
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<8>();
        let is_whole = rest.is_empty() && !words.is_empty() && words.len().is_multiple_of(BLOCK_WORDS);
        is_whole.then(|| Self { words: words.iter().map(|word| u64::from_le_bytes(*word)).collect() })
    }

    pub(crate) fn to_bytes(&self) -> impl Iterator<Item = u8> + '_ {
        self.words.iter().flat_map(|word| word.to_le_bytes())
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.words.len() * 8
    }

    pub(crate) fn insert(&mut self, key: &[u8]) {
        let (block, bits) = self.place(key);
        for bit in bits {
            self.words[block + bit / 64] |= 1 << (bit % 64);
        }
    }

    /// False only if the key was never inserted.
    pub(crate) fn may_contain(&self, key: &[u8]) -> bool {
        let (block, mut bits) = self.place(key);
        bits.all(|bit| self.words[block + bit / 64] >> (bit % 64) & 1 == 1)
    }

    /// The first word of a key's block, and its bits there.
    fn place(&self, key: &[u8]) -> (usize, impl Iterator<Item = usize> + use<>) {
        let hash = hash(key);
        let blocks = (self.words.len() / BLOCK_WORDS) as u128;
        let block = ((u128::from(hash) * blocks) >> 64) as usize * BLOCK_WORDS;
        let second = mix(hash);
        (block, (0..BITS_SET).map(move |number| (second >> (number * 9)) as usize % (BLOCK_WORDS * 64)))
    }
}

/// Part of the file's format: the same for ever.
fn hash(key: &[u8]) -> u64 {
    let (words, rest) = key.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    words.iter().chain([&last]).fold(key.len() as u64, |sum, word| mix(sum ^ u64::from_le_bytes(*word)))
}

/// The finaliser of SplitMix64.
fn mix(mut value: u64) -> u64 {
    value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

#[cfg(test)]
mod tests {
    use super::{Filter, hash};

    #[test]
    fn what_was_inserted_is_never_denied_and_most_of_the_rest_is() {
        let key = |number: u32| [&[b'k'][..], &number.to_be_bytes(), &[7; 12]].concat();
        let mut filter = Filter::for_keys(10_000);
        (0..10_000).for_each(|number| filter.insert(&key(number)));
        assert!((0..10_000).all(|number| filter.may_contain(&key(number))));
        let taken_for_there = (10_000..110_000).filter(|number| filter.may_contain(&key(*number))).count();
        assert!(taken_for_there < 3_000, "{taken_for_there} of 100000");
        let bytes: Vec<u8> = filter.to_bytes().collect();
        assert_eq!(Filter::from_bytes(&bytes), Some(filter));
        assert_eq!(Filter::from_bytes(&bytes[1..]), None);
    }

    #[test]
    fn the_hash_is_part_of_the_format() {
        assert_eq!(hash(b""), 0xe220_a839_7b1d_cdaf);
        assert_ne!(hash(&[0; 8]), hash(&[0; 9]));
    }
}
