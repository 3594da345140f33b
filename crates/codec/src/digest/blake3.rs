//! BLAKE3 in keyed mode.

/// Context of the derivation that lengthens a short secret (section 3.1).
const SHORT_SECRET_CONTEXT: &str = "kopia blake3 derived key v1";

/// BLAKE3 under 32 bytes of key.
#[derive(Clone)]
pub struct Keyed([u8; blake3::KEY_LEN]);

impl Keyed {
    /// Key is the first 32 bytes of the secret, or, where it is shorter, 32 bytes derived from all of it.
    pub fn new(secret: &[u8]) -> Self {
        match secret.first_chunk() {
            Some(key) => Self(*key),
            None => Self(blake3::derive_key(SHORT_SECRET_CONTEXT, secret)),
        }
    }

    pub fn hasher(&self) -> blake3::Hasher {
        blake3::Hasher::new_keyed(&self.0)
    }

    pub fn hash(&self, data: &[u8]) -> [u8; blake3::OUT_LEN] {
        *blake3::keyed_hash(&self.0, data).as_bytes()
    }
}
