//! HMAC over SHA-3.

use hmac::{KeyInit, Mac, SimpleHmac};

use crate::Error;

/// HMAC with SHA3-224.
#[derive(Clone)]
pub struct Sha3_224(SimpleHmac<sha3::Sha3_224>);

impl Sha3_224 {
    pub fn new(secret: &[u8]) -> Result<Self, Error> {
        let keyed =
            SimpleHmac::new_from_slice(secret).map_err(|_| Error::KeyParameters { function: "HMAC-SHA3-224" })?;
        Ok(Self(keyed))
    }

    pub fn context(&self) -> SimpleHmac<sha3::Sha3_224> {
        self.0.clone()
    }

    pub fn hash(&self, data: &[u8]) -> [u8; 28] {
        let mut mac = self.0.clone();
        mac.update(data);
        mac.finalize().into_bytes().into()
    }
}

/// HMAC with SHA3-256.
#[derive(Clone)]
pub struct Sha3_256(SimpleHmac<sha3::Sha3_256>);

impl Sha3_256 {
    pub fn new(secret: &[u8]) -> Result<Self, Error> {
        let keyed =
            SimpleHmac::new_from_slice(secret).map_err(|_| Error::KeyParameters { function: "HMAC-SHA3-256" })?;
        Ok(Self(keyed))
    }

    pub fn context(&self) -> SimpleHmac<sha3::Sha3_256> {
        self.0.clone()
    }

    pub fn hash(&self, data: &[u8]) -> [u8; 32] {
        let mut mac = self.0.clone();
        mac.update(data);
        mac.finalize().into_bytes().into()
    }
}
