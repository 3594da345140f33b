//! HMAC over SHA-256 (ring) and SHA-224 (RustCrypto, since ring lacks it).

use hmac::{Hmac, KeyInit, Mac};

use crate::Error;

/// HMAC-SHA-256 with its two key blocks hashed once.
#[derive(Clone)]
pub struct Sha256(ring::hmac::Key);

impl Sha256 {
    pub fn new(secret: &[u8]) -> Self {
        Self(ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret))
    }

    pub fn context(&self) -> ring::hmac::Context {
        ring::hmac::Context::with_key(&self.0)
    }

    pub fn hash(&self, data: &[u8]) -> ring::hmac::Tag {
        ring::hmac::sign(&self.0, data)
    }
}

/// HMAC-SHA-224 with its two key blocks hashed once.
#[derive(Clone)]
pub struct Sha224(Hmac<sha2::Sha224>);

impl Sha224 {
    pub fn new(secret: &[u8]) -> Result<Self, Error> {
        let keyed = Hmac::new_from_slice(secret).map_err(|_| Error::KeyParameters { function: "HMAC-SHA224" })?;
        Ok(Self(keyed))
    }

    pub fn context(&self) -> Hmac<sha2::Sha224> {
        self.0.clone()
    }

    pub fn hash(&self, data: &[u8]) -> [u8; 28] {
        let mut mac = self.0.clone();
        mac.update(data);
        mac.finalize().into_bytes().into()
    }
}
