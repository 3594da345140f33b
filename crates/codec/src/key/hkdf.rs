//! HKDF with SHA-256 (RFC 5869).

use ring::hkdf;

use crate::Error;

/// Fills `out` with HKDF-SHA256 of the input key material `ikm`.
///
/// Any length of `ikm`, `salt` and `info`, empty included; `out` at most 8160 bytes, else [`Error::KeyParameters`].
pub fn hkdf_sha256(ikm: &[u8], salt: &[u8], info: &[u8], out: &mut [u8]) -> Result<(), Error> {
    let too_long = |_| Error::KeyParameters { function: "HKDF-SHA256" };
    let key = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(ikm);
    key.expand(&[info], OutputBytes(out.len())).map_err(too_long)?.fill(out).map_err(too_long)
}

struct OutputBytes(usize);

impl hkdf::KeyType for OutputBytes {
    fn len(&self) -> usize {
        self.0
    }
}
