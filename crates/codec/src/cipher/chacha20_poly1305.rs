//! ChaCha20-Poly1305 (RFC 8439).

use ring::aead;

use crate::Error;

/// Prepares a key of 32 bytes.
pub(super) fn prepare(key: &[u8]) -> Result<aead::LessSafeKey, Error> {
    let key = aead::UnboundKey::new(&aead::CHACHA20_POLY1305, key)
        .map_err(|_| Error::KeyParameters { function: "ChaCha20-Poly1305" })?;
    Ok(aead::LessSafeKey::new(key))
}
