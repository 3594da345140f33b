use crate::compress;

/// What can go wrong with bytes.
///
/// The same variant means different things to different callers (a wrong password or a damaged pack), so the class,
/// and with it the advice to a person, is given by the caller, which knows what the bytes were.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A key, secret or salt has a length outside of what its algorithm takes.
    #[error("{what} of {length_bytes} bytes, allowed are {min_bytes} to {max_bytes}")]
    KeyLength {
        /// Which input, in words.
        what: &'static str,
        /// Its length in bytes.
        length_bytes: usize,
        /// Shortest allowed length in bytes.
        min_bytes: usize,
        /// Longest allowed length in bytes.
        max_bytes: usize,
    },
    /// Parameters that a key derivation function does not define: cost, block size, parallelism or output length.
    #[error("key derivation parameters out of range for {function}")]
    KeyParameters {
        /// The function's name.
        function: &'static str,
    },
    /// Sealed bytes are shorter than nonce and tag together, [`crate::cipher::OVERHEAD_BYTES`].
    #[error("sealed bytes of {length_bytes} bytes are shorter than nonce and tag")]
    SealedTooShort {
        /// Length found, in bytes.
        length_bytes: usize,
    },
    /// The authentication tag does not fit: another key, another initialisation vector, or changed bytes.
    #[error("sealed bytes do not authenticate: wrong key or changed bytes")]
    NotAuthentic,
    /// Plaintext is longer than the cipher can seal under one nonce (64 GiB for AES-GCM).
    #[error("plaintext of {length_bytes} bytes is too long to seal")]
    PlaintextTooLong {
        /// Length in bytes.
        length_bytes: usize,
    },
    /// More changed than the parity can make up for, or the length is not one that error correction makes.
    #[error("more bytes changed than error correction can repair")]
    BeyondRepair,
    /// The operating system gave no random bytes.
    #[error("no random bytes from the operating system")]
    Random,
    /// Compressed bytes are shorter than their four-byte header, or the header names another algorithm.
    #[error("compressed bytes start with header {found:?}, expected that of {expected}", expected = .algorithm.kopia_name())]
    CompressionHeader {
        /// The algorithm that the caller expected.
        algorithm: compress::Algorithm,
        /// The header found; none where there are fewer than four bytes.
        found: Option<u32>,
    },
    /// The stream behind the header is not valid for the algorithm, or ends early.
    #[error("damaged {algorithm} stream: {reason}", algorithm = .algorithm.kopia_name())]
    CompressedDamaged {
        /// The stream's algorithm.
        algorithm: compress::Algorithm,
        /// What the decoder found, in its own words.
        reason: String,
    },
    /// The stream decompresses to more than the caller allows.
    #[error("{algorithm} stream holds more than {max_bytes} bytes", algorithm = .algorithm.kopia_name())]
    DecompressedTooLong {
        /// The stream's algorithm.
        algorithm: compress::Algorithm,
        /// The caller's limit, in bytes.
        max_bytes: usize,
    },
    /// The algorithm can be read but not written (`lz4`).
    #[error("{algorithm} can be read but not written", algorithm = .algorithm.kopia_name())]
    CompressionReadOnly {
        /// The algorithm.
        algorithm: compress::Algorithm,
    },
    /// The encoder refused; the input is longer than it takes, or memory ran out.
    #[error("compress {length_bytes} bytes with {algorithm}: {reason}", algorithm = .algorithm.kopia_name())]
    Compress {
        /// The algorithm.
        algorithm: compress::Algorithm,
        /// Length of the input in bytes.
        length_bytes: usize,
        /// What the encoder said, in its own words.
        reason: String,
    },
}
