//! Sealing: authenticated encryption under one key per content.
//!
//! Every content gets its own key, derived from the master key and the content's initialisation vector, so that random
//! nonces cannot collide under one key however large a repository grows.
//!
//! ```text
//! S = HKDF(master key, "encryption")      once
//! K = HMAC-SHA256(S, iv)                  per content
//! sealed = nonce (12) ‖ ciphertext ‖ tag (16), the iv authenticated with it
//! ```
//!
//! Source: kopia.md sections 2.3 and 3.2.

mod aes256_gcm;
mod chacha20_poly1305;

use std::fmt;

use ring::aead;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

use crate::{Error, key};

pub use aes256_gcm::{open_aes256_gcm, seal_aes256_gcm, seal_aes256_gcm_with_nonce};

/// Length of the nonce at the front of sealed bytes.
pub const NONCE_BYTES: usize = aead::NONCE_LEN;

/// By how much sealed bytes are longer than their plaintext: nonce and tag.
pub const OVERHEAD_BYTES: usize = NONCE_BYTES + TAG_BYTES;

/// Shortest master key, in bytes. Kopia itself only demands a non-empty one; it writes 32 bytes.
const MASTER_KEY_BYTES_MIN: usize = 1;

const TAG_BYTES: usize = 16;

/// A content cipher of section 3.2.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Algorithm {
    /// `AES256-GCM-HMAC-SHA256`, Kopia's default.
    Aes256GcmHmacSha256,
    /// `CHACHA20-POLY1305-HMAC-SHA256`.
    ChaCha20Poly1305HmacSha256,
}

impl Algorithm {
    /// Both, the default first.
    pub const ALL: [Self; 2] = [Self::Aes256GcmHmacSha256, Self::ChaCha20Poly1305HmacSha256];

    /// The algorithm of an `encryption` field; none for a name that section 3.2 does not list.
    pub fn from_kopia_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.kopia_name() == name)
    }

    /// The name in a repository's `encryption` field.
    pub fn kopia_name(&self) -> &'static str {
        match self {
            Self::Aes256GcmHmacSha256 => "AES256-GCM-HMAC-SHA256",
            Self::ChaCha20Poly1305HmacSha256 => "CHACHA20-POLY1305-HMAC-SHA256",
        }
    }
}

/// Seals and opens contents and whole blobs under a repository's master key; shared freely between threads.
///
/// The `iv` is what ties sealed bytes to their place: the last 16 bytes of a content's hash, 16 bytes from a blob's
/// name, or the whole hash of a pack's local index (table in section 3.2).
#[derive(Clone)]
pub struct ContentCipher {
    algorithm: Algorithm,
    content_key_source: hmac::Key,
    random: SystemRandom,
}

impl ContentCipher {
    /// Derives the secret from which content keys come. [`Error::KeyLength`] for an empty master key.
    pub fn new(algorithm: Algorithm, master_key: &[u8]) -> Result<Self, Error> {
        if master_key.len() < MASTER_KEY_BYTES_MIN {
            return Err(Error::KeyLength {
                what: "master key",
                length_bytes: master_key.len(),
                min_bytes: MASTER_KEY_BYTES_MIN,
                max_bytes: usize::MAX,
            });
        }
        let mut secret = [0; 32];
        key::hkdf_sha256(master_key, b"encryption", b"", &mut secret)?;
        let content_key_source = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        Ok(Self { algorithm, content_key_source, random: SystemRandom::new() })
    }

    /// The algorithm this was prepared for.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Appends nonce, ciphertext and tag to `out`: `plaintext.len() + OVERHEAD_BYTES` bytes, under a random nonce.
    ///
    /// [`Error::Random`] or [`Error::PlaintextTooLong`]; `out` is then as it was.
    pub fn seal(&self, iv: &[u8], plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        self.seal_with_nonce(iv, random_from(&self.random)?, plaintext, out)
    }

    /// [`ContentCipher::seal`] with a given nonce, for test vectors.
    ///
    /// Two plaintexts sealed with the same iv and nonce reveal both; everything else calls `seal`.
    pub fn seal_with_nonce(
        &self,
        iv: &[u8],
        nonce: [u8; NONCE_BYTES],
        plaintext: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        seal(&self.content_key(iv)?, nonce, iv, plaintext, out)
    }

    /// [`ContentCipher::seal`] of what `fill` appends to `out`, encrypted where it lies: no copy of it is made.
    ///
    /// The errors of `fill`, or those of `seal`; `out` is then as it was.
    pub fn seal_with<E: From<Error>>(
        &self,
        iv: &[u8],
        out: &mut Vec<u8>,
        fill: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        seal_with(&self.content_key(iv)?, random_from(&self.random)?, iv, out, fill)
    }

    /// Opens sealed bytes in place and returns the plaintext, a part of `sealed`.
    ///
    /// [`Error::SealedTooShort`] under [`OVERHEAD_BYTES`]; [`Error::NotAuthentic`] for another master key, another iv or
    /// changed bytes. After an error the content of `sealed` means nothing.
    pub fn open<'a>(&self, iv: &[u8], sealed: &'a mut [u8]) -> Result<&'a [u8], Error> {
        open(&self.content_key(iv)?, iv, sealed)
    }

    fn content_key(&self, iv: &[u8]) -> Result<aead::LessSafeKey, Error> {
        let key = hmac::sign(&self.content_key_source, iv);
        match self.algorithm {
            Algorithm::Aes256GcmHmacSha256 => aes256_gcm::prepare(key.as_ref()),
            Algorithm::ChaCha20Poly1305HmacSha256 => chacha20_poly1305::prepare(key.as_ref()),
        }
    }
}

impl fmt::Debug for ContentCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContentCipher").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// Fresh random bytes from the operating system, fit for keys, salts and names.
pub fn random_bytes<const N: usize>() -> Result<[u8; N], Error> {
    random_from(&SystemRandom::new())
}

fn random_from<const N: usize>(random: &SystemRandom) -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    random.fill(&mut bytes).map_err(|_| Error::Random)?;
    Ok(bytes)
}

fn seal(
    key: &aead::LessSafeKey,
    nonce: [u8; NONCE_BYTES],
    aad: &[u8],
    plaintext: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    out.reserve(plaintext.len() + OVERHEAD_BYTES);
    seal_with(key, nonce, aad, out, |out| {
        out.extend_from_slice(plaintext);
        Ok(())
    })
}

fn seal_with<E: From<Error>>(
    key: &aead::LessSafeKey,
    nonce: [u8; NONCE_BYTES],
    aad: &[u8],
    out: &mut Vec<u8>,
    fill: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let start = out.len();
    out.extend_from_slice(&nonce);
    let result = fill(out).and_then(|()| {
        let plaintext = &mut out[start + NONCE_BYTES..];
        let length_bytes = plaintext.len();
        let nonce = aead::Nonce::assume_unique_for_key(nonce);
        let tag = key.seal_in_place_separate_tag(nonce, aead::Aad::from(aad), plaintext);
        tag.map_err(|_| Error::PlaintextTooLong { length_bytes }.into())
    });
    match result {
        Ok(tag) => {
            out.extend_from_slice(tag.as_ref());
            Ok(())
        }
        Err(error) => {
            out.truncate(start);
            Err(error)
        }
    }
}

fn open<'a>(key: &aead::LessSafeKey, aad: &[u8], sealed: &'a mut [u8]) -> Result<&'a [u8], Error> {
    let length_bytes = sealed.len();
    if length_bytes < OVERHEAD_BYTES {
        return Err(Error::SealedTooShort { length_bytes });
    }
    let (nonce, ciphertext_and_tag) = sealed.split_at_mut(NONCE_BYTES);
    let nonce = aead::Nonce::try_assume_unique_for_key(nonce).map_err(|_| Error::SealedTooShort { length_bytes })?;
    match key.open_in_place(nonce, aead::Aad::from(aad), ciphertext_and_tag) {
        Ok(plaintext) => Ok(plaintext),
        Err(_) => Err(Error::NotAuthentic),
    }
}

#[cfg(test)]
mod tests;
