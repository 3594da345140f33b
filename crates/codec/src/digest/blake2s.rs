//! Keyed BLAKE2s with 16 or 32 bytes.

use blake2s_simd::{Hash, Params, State, many};

use crate::Error;

const KEY_BYTES_MAX: usize = blake2s_simd::KEYBYTES;

/// BLAKE2s with the secret as native key.
#[derive(Clone)]
pub struct Keyed(Params);

impl Keyed {
    /// Digest length 16, which is a different function than the first half of 32. Kopia's library demands a key here.
    pub fn new_128(secret: &[u8]) -> Result<Self, Error> {
        Self::new(secret, 16, 1)
    }

    /// Digest length 32; an empty secret means unkeyed.
    pub fn new_256(secret: &[u8]) -> Result<Self, Error> {
        Self::new(secret, 32, 0)
    }

    fn new(secret: &[u8], hash_bytes: usize, min_bytes: usize) -> Result<Self, Error> {
        if secret.len() < min_bytes || secret.len() > KEY_BYTES_MAX {
            return Err(Error::KeyLength {
                what: "BLAKE2s secret",
                length_bytes: secret.len(),
                min_bytes,
                max_bytes: KEY_BYTES_MAX,
            });
        }
        let mut params = Params::new();
        params.hash_length(hash_bytes).key(secret);
        Ok(Self(params))
    }

    pub fn hash(&self, data: &[u8]) -> Hash {
        self.0.hash(data)
    }

    pub fn state(&self) -> State {
        self.0.to_state()
    }

    pub fn hash_many(&self, inputs: &[&[u8]], mut take: impl FnMut(&[u8])) {
        let mut jobs: Vec<_> = inputs.iter().map(|input| many::HashManyJob::new(&self.0, input)).collect();
        many::hash_many(jobs.iter_mut());
        jobs.iter().for_each(|job| take(job.to_hash().as_bytes()));
    }
}
