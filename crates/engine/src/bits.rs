//! Sets of contents and objects that an index knows, a bit for each.

use std::collections::HashMap;

use repository_kopia::{IndexError, IndexView, ObjectId};

/// One bit for each position of an index.
pub(crate) struct Bits(Vec<u64>);

impl Bits {
    pub(crate) fn new(length: usize) -> Self {
        Self(vec![0; length.div_ceil(64)])
    }

    /// True when it was not set before.
    pub(crate) fn insert(&mut self, at: usize) -> bool {
        let (word, bit) = (&mut self.0[at / 64], 1 << (at % 64));
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    /// Whether it is set.
    pub(crate) fn has(&self, at: usize) -> bool {
        self.0.get(at / 64).is_some_and(|word| word & (1 << (at % 64)) != 0)
    }
}

/// An object: where in an index the content stands that it begins with, and how it is read from there.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) at: usize,
    indirection: u8,
    compressed: bool,
}

impl Place {
    /// Nothing if the index does not know the content.
    pub(crate) fn of(object: &ObjectId, view: &IndexView) -> Result<Option<Self>, IndexError> {
        let ObjectId { indirection, compressed, content } = *object;
        let at = view.index().position(&content)?;
        Ok(at.map(|at| Self { at, indirection, compressed }))
    }
}

/// Objects: for each way of reading them that occurs, one bit for each position of an index.
pub(crate) struct Objects {
    length: usize,
    ways: HashMap<(u8, bool), Bits>,
}

impl Objects {
    /// None, of an index of this length.
    pub(crate) fn new(length: usize) -> Self {
        Self { length, ways: HashMap::new() }
    }

    /// True when it was not among them before.
    pub(crate) fn insert(&mut self, Place { at, indirection, compressed }: Place) -> bool {
        let length = self.length;
        self.ways.entry((indirection, compressed)).or_insert_with(|| Bits::new(length)).insert(at)
    }

    /// Whether it is among them.
    pub(crate) fn has(&self, Place { at, indirection, compressed }: Place) -> bool {
        self.ways.get(&(indirection, compressed)).is_some_and(|bits| bits.has(at))
    }
}

#[cfg(test)]
mod tests {
    use super::{Bits, Objects, Place};

    #[test]
    fn bits_are_set_one_by_one() {
        let mut bits = Bits::new(130);
        assert!([0, 63, 64, 129].iter().all(|at| bits.insert(*at) && !bits.insert(*at)));
        let set: Vec<usize> = (0..200).filter(|at| bits.has(*at)).collect();
        assert_eq!(set, [0, 63, 64, 129]);
    }

    #[test]
    fn objects_that_are_read_in_another_way_are_others() {
        let ways = [(0, false), (0, true), (1, false)];
        let places = ways.map(|(indirection, compressed)| Place { at: 7, indirection, compressed });
        let mut objects = Objects::new(8);
        for (count, place) in places.into_iter().enumerate() {
            assert!(!objects.has(place) && objects.insert(place) && !objects.insert(place));
            assert_eq!(places.iter().filter(|place| objects.has(**place)).count(), count + 1);
        }
    }
}
