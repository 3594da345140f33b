//! From a password or a master key to the key for one purpose.
//!
//! Source: kopia.md sections 2.2, 2.3 and 2.5.

mod hkdf;
mod pbkdf2;
mod scrypt;

use crate::Error;

pub use hkdf::hkdf_sha256;
pub use pbkdf2::pbkdf2_sha256;
pub use scrypt::{scrypt, scrypt_kopia};

/// Shortest salt that Kopia takes with a password, in bytes (section 2.2).
pub const SALT_BYTES_MIN: usize = 16;

/// HMAC-SHA-256 of `data` under `key`, which may have any length.
///
/// Also the checksum of the format copy inside packs (section 2.4) and the per-content key (section 3.2).
pub fn hmac_sha256(key: &[u8], data: &[u8]) -> [u8; 32] {
    let tag = ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key), data);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(tag.as_ref());
    bytes
}

/// A function from password to format key (`keyAlgo`, section 2.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Kdf {
    /// `scrypt-65536-8-1`, Kopia's default; takes 64 MiB of memory.
    Scrypt65536_8_1,
    /// `pbkdf2-sha256-600000`.
    Pbkdf2Sha256_600000,
}

impl Kdf {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Scrypt65536_8_1, Self::Pbkdf2Sha256_600000];

    /// The function of a `keyAlgo` field; none for others, `testing-only-insecure` among them, and for an empty name.
    pub fn from_kopia_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kdf| kdf.kopia_name() == name)
    }

    /// The name in a format blob's `keyAlgo` field.
    pub fn kopia_name(&self) -> &'static str {
        match self {
            Self::Scrypt65536_8_1 => "scrypt-65536-8-1",
            Self::Pbkdf2Sha256_600000 => "pbkdf2-sha256-600000",
        }
    }

    /// The format key of a password; the salt is the repository's unique id.
    ///
    /// Meant to be slow: some tenths of a second. [`Error::KeyLength`] for a salt under [`SALT_BYTES_MIN`].
    pub fn derive(&self, password: &[u8], salt: &[u8]) -> Result<[u8; 32], Error> {
        match self {
            Self::Scrypt65536_8_1 => scrypt_kopia(password, salt),
            Self::Pbkdf2Sha256_600000 => {
                check_salt(salt)?;
                let mut key = [0; 32];
                pbkdf2_sha256(password, salt, 600_000, &mut key)?;
                Ok(key)
            }
        }
    }
}

fn check_salt(salt: &[u8]) -> Result<(), Error> {
    if salt.len() < SALT_BYTES_MIN {
        return Err(Error::KeyLength {
            what: "salt",
            length_bytes: salt.len(),
            min_bytes: SALT_BYTES_MIN,
            max_bytes: usize::MAX,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
