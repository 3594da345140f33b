//! PBKDF2 with HMAC-SHA-256 (RFC 8018).

use std::num::NonZeroU32;

use crate::Error;

/// Fills `out` with PBKDF2-HMAC-SHA256 of a password.
///
/// [`Error::KeyParameters`] for zero iterations.
pub fn pbkdf2_sha256(password: &[u8], salt: &[u8], iterations: u32, out: &mut [u8]) -> Result<(), Error> {
    let iterations = NonZeroU32::new(iterations).ok_or(Error::KeyParameters { function: "PBKDF2-HMAC-SHA256" })?;
    ring::pbkdf2::derive(ring::pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, password, out);
    Ok(())
}
