//! The same throws for the same seed.

pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// One splitmix64 step.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// Half of them compress, half do not.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let plain = self.below(2) == 0;
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            let word = self.next();
            match plain {
                true => bytes.extend_from_slice(format!("line {} of a text\n", word % 100).as_bytes()),
                false => bytes.extend_from_slice(&word.to_le_bytes()),
            }
        }
        bytes.truncate(length);
        bytes
    }
}
