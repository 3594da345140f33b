//! Numbers that nobody can foresee and everybody can have again: from a seed that is printed.

use crate::say;
use std::time::Duration;

/// The seed of an earlier run, to have its numbers again.
const SEED: &str = "PERENNIAL_E2E_SEED";

/// Steele, Lea and Flood's splitmix64.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Seeded with what makes this run different, unless somebody gives a seed.
    pub fn of_run(what: &str) -> Self {
        let given = std::env::var(SEED).ok().and_then(|text| text.parse().ok());
        let seed =
            given.unwrap_or_else(|| what.bytes().fold(0, |seed: u64, byte| seed.wrapping_mul(257) + u64::from(byte)));
        say(&format!("{what}: {SEED}={seed}"));
        Self(seed)
    }

    /// A number below `end`, which is not zero.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed % u64::try_from(end).unwrap_or(u64::MAX)) as usize
    }

    /// One of them; none if there is none.
    pub fn one_of<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        if of.is_empty() { None } else { of.get(self.below(of.len())) }
    }

    /// A pause between the two.
    pub fn pause(&mut self, from: Duration, to: Duration) -> Duration {
        let span = to.saturating_sub(from).as_millis().max(1);
        from + Duration::from_millis(self.below(usize::try_from(span).unwrap_or(usize::MAX)) as u64)
    }
}
