//! Inputs made from inputs, the same every time.

/// Longest input made, in bytes.
pub const INPUT_BYTES_MAX: usize = 8 << 10;

/// Numbers at which decoders tend to go wrong.
const NUMBERS: [&str; 10] = [
    "0",
    "-1",
    "4294967296",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e400",
    "0.5",
    "253402300800",
];

/// Pieces of the formats, so that a mutation may make sense.
const WORDS: [&str; 26] = [
    "null",
    "{}",
    "[]",
    "[[[[[[[[",
    "{\"a\":",
    "\"\"",
    "\\u0000",
    "\u{fffd}",
    "**/",
    "[!a-",
    "*",
    "\\",
    "!",
    "I",
    "Z",
    "D",
    "k",
    "xn0_",
    "xs1_",
    "xr0_9_",
    "xe7",
    "-s0-c2",
    "\n",
    "..",
    "/",
    "0001-01-01T00:00:00Z",
];

/// Makes inputs, one after the other.
pub struct Mutator {
    state: u64,
}

impl Mutator {
    /// The same seed makes the same inputs.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    /// A change of one of `corpus`, a few steps away from it; `corpus` is not empty.
    pub fn mutate(&mut self, corpus: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = corpus[self.below(corpus.len())].clone();
        // Every second time one step, after which a document is still one more often than not.
        let further_count = self.below(2) * self.below(5);
        for _ in 0..=further_count {
            self.step(&mut bytes, corpus);
        }
        bytes.truncate(INPUT_BYTES_MAX);
        bytes
    }

    fn step(&mut self, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let at = self.below(bytes.len() + 1);
        let end = at + self.below((bytes.len() - at + 1).min(40));
        match self.below(9) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            1 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'0'][self.below(7)],
            2 => drop(bytes.drain(at..end)),
            3 => {
                let again = bytes[at..end].repeat(1 + self.below(8));
                drop(bytes.splice(at..at, again));
            }
            4 => {
                let word = WORDS[self.below(WORDS.len())];
                drop(bytes.splice(at..end, word.bytes()));
            }
            5 => self.change_number(bytes, at),
            6 => {
                let other = &corpus[self.below(corpus.len())];
                let from = self.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            7 => bytes.truncate(at),
            _ => {
                let noise: Vec<u8> = (0..=self.below(8)).map(|_| self.next() as u8).collect();
                drop(bytes.splice(at..at, noise));
            }
        }
    }

    /// The first run of digits behind `at` becomes another number.
    fn change_number(&mut self, bytes: &mut Vec<u8>, at: usize) {
        let Some(start) = bytes[at..].iter().position(u8::is_ascii_digit).map(|found| at + found) else { return };
        let length = bytes[start..].iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(bytes.len() - start);
        let number = NUMBERS[self.below(NUMBERS.len())];
        drop(bytes.splice(start..start + length, number.bytes()));
    }
}
