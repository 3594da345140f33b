//! Keyed hashes that name contents.
//!
//! The hash of a content's plain bytes under the repository's secret is the content's name; equal bytes get equal
//! names, and without the secret nobody can test whether a repository holds known bytes.
//!
//! Source: kopia.md section 3.1.

mod blake2b;
mod blake2s;
mod blake3;
mod hasher;
mod hmac_sha2;
mod hmac_sha3;

use std::fmt;

use crate::Error;

pub use hasher::Hasher;

/// Longest hash of any algorithm, in bytes (section 3.1).
pub const OUTPUT_BYTES_MAX: usize = 32;

/// A content hash of section 3.1.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Algorithm {
    /// `BLAKE2B-256-128`, Kopia's default: keyed BLAKE2b-256, first 16 bytes.
    Blake2b256_128,
    /// `BLAKE2B-256`: keyed BLAKE2b-256.
    Blake2b256,
    /// `BLAKE2S-128`: keyed BLAKE2s with a digest length of 16 bytes, not a truncation.
    Blake2s128,
    /// `BLAKE2S-256`: keyed BLAKE2s-256.
    Blake2s256,
    /// `BLAKE3-256`: BLAKE3 in keyed mode.
    Blake3_256,
    /// `BLAKE3-256-128`: the same, first 16 bytes.
    Blake3_256_128,
    /// `HMAC-SHA256`.
    HmacSha256,
    /// `HMAC-SHA256-128`: HMAC-SHA-256, first 16 bytes.
    HmacSha256_128,
    /// `HMAC-SHA224`.
    HmacSha224,
    /// `HMAC-SHA3-224`.
    HmacSha3_224,
    /// `HMAC-SHA3-256`.
    HmacSha3_256,
}

impl Algorithm {
    /// All eleven, in the order of section 3.1.
    pub const ALL: [Self; 11] = [
        Self::Blake2b256_128,
        Self::Blake2b256,
        Self::Blake2s128,
        Self::Blake2s256,
        Self::Blake3_256,
        Self::Blake3_256_128,
        Self::HmacSha256,
        Self::HmacSha256_128,
        Self::HmacSha224,
        Self::HmacSha3_224,
        Self::HmacSha3_256,
    ];

    /// The algorithm of a `hash` field; none for a name that section 3.1 does not list. Names are case-sensitive.
    pub fn from_kopia_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.kopia_name() == name)
    }

    /// The name in a repository's `hash` field.
    pub fn kopia_name(&self) -> &'static str {
        match self {
            Self::Blake2b256_128 => "BLAKE2B-256-128",
            Self::Blake2b256 => "BLAKE2B-256",
            Self::Blake2s128 => "BLAKE2S-128",
            Self::Blake2s256 => "BLAKE2S-256",
            Self::Blake3_256 => "BLAKE3-256",
            Self::Blake3_256_128 => "BLAKE3-256-128",
            Self::HmacSha256 => "HMAC-SHA256",
            Self::HmacSha256_128 => "HMAC-SHA256-128",
            Self::HmacSha224 => "HMAC-SHA224",
            Self::HmacSha3_224 => "HMAC-SHA3-224",
            Self::HmacSha3_256 => "HMAC-SHA3-256",
        }
    }

    /// Length of the hash in bytes: 16, 28 or 32.
    pub fn output_bytes(&self) -> usize {
        match self {
            Self::Blake2b256_128 | Self::Blake2s128 | Self::Blake3_256_128 | Self::HmacSha256_128 => 16,
            Self::HmacSha224 | Self::HmacSha3_224 => 28,
            Self::Blake2b256 | Self::Blake2s256 | Self::Blake3_256 | Self::HmacSha256 | Self::HmacSha3_256 => 32,
        }
    }
}

/// A hash of up to [`OUTPUT_BYTES_MAX`] bytes.
///
/// Ordered as its bytes are; printed as lower-case hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    // Zeros behind the length: so that comparing bytes first and length second is the order of the slices.
    bytes: [u8; OUTPUT_BYTES_MAX],
    length_bytes: u8,
}

impl Digest {
    /// A digest of these bytes; none where there are more than [`OUTPUT_BYTES_MAX`].
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        (bytes.len() <= OUTPUT_BYTES_MAX).then(|| Self::first_of(bytes, bytes.len()))
    }

    /// The hash itself, as long as its algorithm's [`Algorithm::output_bytes`].
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length_bytes)]
    }

    /// The first `length_bytes` bytes, at most 32 and at most as many as there are.
    fn first_of(bytes: &[u8], length_bytes: usize) -> Self {
        let length = length_bytes.min(bytes.len()).min(OUTPUT_BYTES_MAX);
        let mut padded = [0; OUTPUT_BYTES_MAX];
        padded[..length].copy_from_slice(&bytes[..length]);
        Self { bytes: padded, length_bytes: length as u8 }
    }
}

impl AsRef<[u8]> for Digest {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// An algorithm with a repository's secret, its key schedule prepared once; shared freely between threads.
#[derive(Clone)]
pub struct KeyedHash {
    algorithm: Algorithm,
    state: State,
}

#[derive(Clone)]
enum State {
    Blake2b(blake2b::Keyed),
    Blake2s(blake2s::Keyed),
    Blake3(blake3::Keyed),
    HmacSha256(hmac_sha2::Sha256),
    HmacSha224(hmac_sha2::Sha224),
    HmacSha3_224(hmac_sha3::Sha3_224),
    HmacSha3_256(hmac_sha3::Sha3_256),
}

impl KeyedHash {
    /// Prepares `algorithm` with `secret`.
    ///
    /// [`Error::KeyLength`] where a BLAKE2 algorithm does not take the secret's length: at most 64 bytes for BLAKE2b, 32
    /// for BLAKE2s, and at least one for `BLAKE2S-128`. The others take any length.
    pub fn new(algorithm: Algorithm, secret: &[u8]) -> Result<Self, Error> {
        let state = match algorithm {
            Algorithm::Blake2b256_128 | Algorithm::Blake2b256 => State::Blake2b(blake2b::Keyed::new(secret)?),
            Algorithm::Blake2s128 => State::Blake2s(blake2s::Keyed::new_128(secret)?),
            Algorithm::Blake2s256 => State::Blake2s(blake2s::Keyed::new_256(secret)?),
            Algorithm::Blake3_256 | Algorithm::Blake3_256_128 => State::Blake3(blake3::Keyed::new(secret)),
            Algorithm::HmacSha256 | Algorithm::HmacSha256_128 => State::HmacSha256(hmac_sha2::Sha256::new(secret)),
            Algorithm::HmacSha224 => State::HmacSha224(hmac_sha2::Sha224::new(secret)?),
            Algorithm::HmacSha3_224 => State::HmacSha3_224(hmac_sha3::Sha3_224::new(secret)?),
            Algorithm::HmacSha3_256 => State::HmacSha3_256(hmac_sha3::Sha3_256::new(secret)?),
        };
        Ok(Self { algorithm, state })
    }

    /// The algorithm this was prepared for.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The hash of `data`, [`Algorithm::output_bytes`] long.
    pub fn hash(&self, data: &[u8]) -> Digest {
        let length_bytes = self.algorithm.output_bytes();
        match &self.state {
            State::Blake2b(keyed) => Digest::first_of(keyed.hash(data).as_bytes(), length_bytes),
            State::Blake2s(keyed) => Digest::first_of(keyed.hash(data).as_bytes(), length_bytes),
            State::Blake3(keyed) => Digest::first_of(&keyed.hash(data), length_bytes),
            State::HmacSha256(keyed) => Digest::first_of(keyed.hash(data).as_ref(), length_bytes),
            State::HmacSha224(keyed) => Digest::first_of(&keyed.hash(data), length_bytes),
            State::HmacSha3_224(keyed) => Digest::first_of(&keyed.hash(data), length_bytes),
            State::HmacSha3_256(keyed) => Digest::first_of(&keyed.hash(data), length_bytes),
        }
    }

    /// Appends to `out` the hash of each input, in order: what [`KeyedHash::hash`] gives for each.
    ///
    /// The BLAKE2 algorithms hash several inputs at once in the lanes of one vector register, which is about twice
    /// as fast or better; it pays most for inputs of similar length.
    pub fn hash_many(&self, inputs: &[&[u8]], out: &mut Vec<Digest>) {
        let length_bytes = self.algorithm.output_bytes();
        match &self.state {
            State::Blake2b(keyed) => keyed.hash_many(inputs, |hash| out.push(Digest::first_of(hash, length_bytes))),
            State::Blake2s(keyed) => keyed.hash_many(inputs, |hash| out.push(Digest::first_of(hash, length_bytes))),
            State::Blake3(_)
            | State::HmacSha256(_)
            | State::HmacSha224(_)
            | State::HmacSha3_224(_)
            | State::HmacSha3_256(_) => out.extend(inputs.iter().map(|input| self.hash(input))),
        }
    }
}

impl fmt::Debug for KeyedHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedHash").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
