//! AES-256-GCM.

use ring::aead;

use super::{NONCE_BYTES, OVERHEAD_BYTES, open, random_bytes, seal};
use crate::Error;

/// Seals under a random nonce: nonce (12) ‖ ciphertext ‖ tag (16).
///
/// For the format blob, the blob configuration and the maintenance schedule (sections 2.3, 2.6 and 13.2). A key sealed
/// with this many billion times would repeat a nonce; these objects are written a few times in a repository's life.
/// [`Error::Random`] or [`Error::PlaintextTooLong`].
pub fn seal_aes256_gcm(key: &[u8; 32], aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, Error> {
    seal_aes256_gcm_with_nonce(key, random_bytes()?, aad, plaintext)
}

/// [`seal_aes256_gcm`] with a given nonce, for test vectors; never twice with the same key.
pub fn seal_aes256_gcm_with_nonce(
    key: &[u8; 32],
    nonce: [u8; NONCE_BYTES],
    aad: &[u8],
    plaintext: &[u8],
) -> Result<Vec<u8>, Error> {
    let mut sealed = Vec::with_capacity(plaintext.len() + OVERHEAD_BYTES);
    seal(&prepare(key)?, nonce, aad, plaintext, &mut sealed)?;
    Ok(sealed)
}

/// Opens what [`seal_aes256_gcm`] sealed; [`Error::SealedTooShort`] or [`Error::NotAuthentic`].
pub fn open_aes256_gcm(key: &[u8; 32], aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Error> {
    let mut in_place = sealed.to_vec();
    Ok(open(&prepare(key)?, aad, &mut in_place)?.to_vec())
}

/// Expands a key of 32 bytes.
pub(super) fn prepare(key: &[u8]) -> Result<aead::LessSafeKey, Error> {
    let key =
        aead::UnboundKey::new(&aead::AES_256_GCM, key).map_err(|_| Error::KeyParameters { function: "AES-256-GCM" })?;
    Ok(aead::LessSafeKey::new(key))
}
