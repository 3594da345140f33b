//! Keyed BLAKE2b-256.

use blake2b_simd::{Hash, Params, State, many};

use crate::Error;

const KEY_BYTES_MAX: usize = blake2b_simd::KEYBYTES;

/// BLAKE2b with digest length 32 and the secret as native key; an empty secret means unkeyed.
#[derive(Clone)]
pub struct Keyed(Params);

impl Keyed {
    pub fn new(secret: &[u8]) -> Result<Self, Error> {
        if secret.len() > KEY_BYTES_MAX {
            return Err(Error::KeyLength {
                what: "BLAKE2b secret",
                length_bytes: secret.len(),
                min_bytes: 0,
                max_bytes: KEY_BYTES_MAX,
            });
        }
        let mut params = Params::new();
        params.hash_length(32).key(secret);
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
