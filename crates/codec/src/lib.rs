//! Bytes in, bytes out: splitting, hashing, key derivation, encryption and compression.
//!
//! Everything that Kopia's repository format does to bytes and that needs neither a store nor a clock stands here, an
//! algorithm per file, under the names that the format itself uses. Nothing reads or writes a file; the only outside
//! thing is the operating system's random generator, for nonces and fresh keys.
//!
//! On the way in a file's bytes pass
//!
//! ```text
//! split ─▶ digest ─▶ compress ─▶ cipher::seal (─▶ ecc)
//! ```
//!
//! and on the way out (`ecc`,) `cipher::open`, `compress::decompress`, and `digest` once more as the proof.
//!
//! No value of this crate prints key material with `Debug`.
//!
//! Source: `docs/formats/kopia.md`; section numbers in this crate are that document's.

pub mod cipher;
pub mod compress;
pub mod digest;
pub mod ecc;
mod error;
pub mod key;
pub mod split;

pub use error::Error;
