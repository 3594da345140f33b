//! scrypt (RFC 7914).

use super::check_salt;
use crate::Error;

/// Kopia's `scrypt-65536-8-1`: N = 65536, r = 8, p = 1, 32 bytes out.
///
/// [`Error::KeyLength`] for a salt under [`super::SALT_BYTES_MIN`].
pub fn scrypt_kopia(password: &[u8], salt: &[u8]) -> Result<[u8; 32], Error> {
    check_salt(salt)?;
    let mut key = [0; 32];
    scrypt(password, salt, 16, 8, 1, &mut key)?;
    Ok(key)
}

/// Fills `out` with scrypt of a password; needs 128 · r · 2^log_n bytes of memory.
///
/// [`Error::KeyParameters`] for parameters outside RFC 7914's ranges and for an empty `out`.
pub fn scrypt(password: &[u8], salt: &[u8], log_n: u8, r: u32, p: u32, out: &mut [u8]) -> Result<(), Error> {
    let refused = Error::KeyParameters { function: "scrypt" };
    let params = scrypt::Params::new(log_n, r, p).map_err(|_| refused.clone())?;
    scrypt::scrypt(password, salt, &params, out).map_err(|_| refused)
}
