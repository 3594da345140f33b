//! Hashes under way, whose input comes in parts; several of them move on side by side.

use ::hmac::{Hmac, Mac, SimpleHmac};

use super::{Digest, KeyedHash, State};

/// One hash under way. Made by [`KeyedHash::hasher`].
pub struct Hasher {
    state: HasherState,
    length_bytes: usize,
}

enum HasherState {
    // The states lie on the heap: they differ much in size, and there are few of them at a time.
    Blake2b(Box<blake2b_simd::State>),
    Blake2s(Box<blake2s_simd::State>),
    Blake3(Box<::blake3::Hasher>),
    HmacSha256(Box<ring::hmac::Context>),
    HmacSha224(Box<Hmac<sha2::Sha224>>),
    HmacSha3_224(Box<SimpleHmac<sha3::Sha3_224>>),
    HmacSha3_256(Box<SimpleHmac<sha3::Sha3_256>>),
}

impl KeyedHash {
    /// Begins a hash whose input comes in parts.
    pub fn hasher(&self) -> Hasher {
        let state = match &self.state {
            State::Blake2b(keyed) => HasherState::Blake2b(Box::new(keyed.state())),
            State::Blake2s(keyed) => HasherState::Blake2s(Box::new(keyed.state())),
            State::Blake3(keyed) => HasherState::Blake3(Box::new(keyed.hasher())),
            State::HmacSha256(keyed) => HasherState::HmacSha256(Box::new(keyed.context())),
            State::HmacSha224(keyed) => HasherState::HmacSha224(Box::new(keyed.context())),
            State::HmacSha3_224(keyed) => HasherState::HmacSha3_224(Box::new(keyed.context())),
            State::HmacSha3_256(keyed) => HasherState::HmacSha3_256(Box::new(keyed.context())),
        };
        Hasher { state, length_bytes: self.algorithm.output_bytes() }
    }

    /// How many hashes move on side by side at the price of hardly more than one; with fewer each costs more.
    pub fn lanes(&self) -> usize {
        match &self.state {
            State::Blake2b(_) => blake2b_simd::many::degree(),
            State::Blake2s(_) => blake2s_simd::many::degree(),
            State::Blake3(_)
            | State::HmacSha256(_)
            | State::HmacSha224(_)
            | State::HmacSha3_224(_)
            | State::HmacSha3_256(_) => 1,
        }
    }
}

impl HasherState {
    fn update(&mut self, part: &[u8]) {
        match self {
            Self::Blake2b(state) => {
                state.update(part);
            }
            Self::Blake2s(state) => {
                state.update(part);
            }
            Self::Blake3(state) => {
                state.update(part);
            }
            Self::HmacSha256(state) => state.update(part),
            Self::HmacSha224(state) => state.update(part),
            Self::HmacSha3_224(state) => state.update(part),
            Self::HmacSha3_256(state) => state.update(part),
        }
    }
}

impl Hasher {
    /// Feeds the next part.
    pub fn update(&mut self, part: &[u8]) {
        self.state.update(part);
    }

    /// Feeds each hash its own next part. Those of one BLAKE2 algorithm are fed in the lanes of one vector register, best
    /// with as many as [`KeyedHash::lanes`] says and parts of one length.
    pub fn update_many<'a>(pairs: impl Iterator<Item = (&'a mut Self, &'a [u8])>) {
        let (mut blake2b, mut blake2s) = (Vec::new(), Vec::new());
        for (hasher, part) in pairs {
            match &mut hasher.state {
                HasherState::Blake2b(state) => blake2b.push((&mut **state, part)),
                HasherState::Blake2s(state) => blake2s.push((&mut **state, part)),
                state @ (HasherState::Blake3(_)
                | HasherState::HmacSha256(_)
                | HasherState::HmacSha224(_)
                | HasherState::HmacSha3_224(_)
                | HasherState::HmacSha3_256(_)) => state.update(part),
            }
        }
        blake2b_simd::many::update_many(blake2b);
        blake2s_simd::many::update_many(blake2s);
    }

    /// The hash of all parts, one after the other.
    pub fn finish(self) -> Digest {
        let first_of = |bytes: &[u8]| Digest::first_of(bytes, self.length_bytes);
        match self.state {
            HasherState::Blake2b(state) => first_of(state.finalize().as_bytes()),
            HasherState::Blake2s(state) => first_of(state.finalize().as_bytes()),
            HasherState::Blake3(state) => first_of(state.finalize().as_bytes()),
            HasherState::HmacSha256(state) => first_of(state.sign().as_ref()),
            HasherState::HmacSha224(state) => first_of(&state.finalize().into_bytes()),
            HasherState::HmacSha3_224(state) => first_of(&state.finalize().into_bytes()),
            HasherState::HmacSha3_256(state) => first_of(&state.finalize().into_bytes()),
        }
    }
}

impl std::fmt::Debug for Hasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hasher").finish_non_exhaustive()
    }
}
