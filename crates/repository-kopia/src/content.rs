//! Contents: hashed, compressed, encrypted, in some repositories with parity against rot, and back.
//!
//! Source: Kopia format, "Content hashing and encryption", "Packing one content", "Reading a content", "ECC".

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};

use codec::cipher::{self, ContentCipher};
use codec::compress::{self, Compressor};
use codec::digest::{self, KeyedHash};
use codec::ecc::{self, ReedSolomonCrc32};
use repository::ContentId;

use crate::error::{ContentError, OpenError, Unsupported, WriteError};
use crate::format_blob::Configuration;
use crate::index::Location;

/// The AEAD's key is bound to the last so many bytes of the content hash.
const IV_BYTES: usize = 16;
/// Lengths in an index are below this.
const CONTENT_LIMIT_BYTES: u64 = 1 << 28;
/// Memory taken on the word of an index for a content to be decompressed; more only as it comes, in bytes.
const RESERVED_BYTES_MAX: usize = 16 << 20;

/// The hash and the cipher of one repository, with their secrets.
pub(crate) struct Crypto {
    hash: KeyedHash,
    cipher: ContentCipher,
    correction: Option<ReedSolomonCrc32>,
    /// Shards that had changed and were computed back.
    repaired: AtomicU64,
    /// Version 1 indexes cannot name a compressor.
    compresses: bool,
}

impl Crypto {
    pub(crate) fn new(configuration: &Configuration) -> Result<Self, OpenError> {
        let hash = digest::Algorithm::from_kopia_name(&configuration.hash)
            .ok_or_else(|| Unsupported::new("content hash", &configuration.hash))?;
        let cipher = cipher::Algorithm::from_kopia_name(&configuration.encryption)
            .ok_or_else(|| Unsupported::new("content encryption", &configuration.encryption))?;
        Ok(Self {
            hash: KeyedHash::new(hash, &configuration.secret.0).map_err(OpenError::DeriveKey)?,
            cipher: ContentCipher::new(cipher, &configuration.master_key.0).map_err(OpenError::DeriveKey)?,
            correction: correction(configuration)?,
            repaired: AtomicU64::new(0),
            compresses: configuration.index_version >= 2,
        })
    }

    /// The id of a content with this prefix (0 for file data) and these bytes.
    pub(crate) fn content_id(&self, prefix: u8, bytes: &[u8]) -> ContentId {
        ContentId::new(prefix, self.hash.hash(bytes).as_bytes()).expect("every hash of the format fits an id")
    }

    /// The ids of several contents at once.
    pub(crate) fn content_ids(&self, prefix: u8, contents: &[&[u8]], ids: &mut Vec<ContentId>) {
        let mut hashes = Vec::with_capacity(contents.len());
        self.hash.hash_many(contents, &mut hashes);
        let id = |hash: &digest::Digest| ContentId::new(prefix, hash.as_bytes());
        ids.clear();
        ids.extend(hashes.iter().map(|hash| id(hash).expect("every hash of the format fits an id")));
    }

    /// How many contents are hashed side by side at little more than the price of one.
    pub(crate) fn hash_lanes(&self) -> usize {
        self.hash.lanes()
    }

    /// The hash of a whole blob's plaintext.
    pub(crate) fn hash(&self, bytes: &[u8]) -> digest::Digest {
        self.hash.hash(bytes)
    }

    /// Encrypts `plain` and appends the result, with parity where the repository wants it.
    pub(crate) fn seal(&self, iv: &[u8], plain: &[u8], out: &mut Vec<u8>) -> Result<(), codec::Error> {
        self.seal_with(iv, out, |out| {
            out.extend_from_slice(plain);
            Ok(())
        })
    }

    /// [`Crypto::seal`] of what `fill` appends, encrypted where it lies.
    fn seal_with(
        &self,
        iv: &[u8],
        out: &mut Vec<u8>,
        fill: impl FnOnce(&mut Vec<u8>) -> Result<(), codec::Error>,
    ) -> Result<(), codec::Error> {
        let Some(correction) = &self.correction else { return self.cipher.seal_with(iv, out, fill) };
        let mut sealed = Vec::new();
        self.cipher.seal_with(iv, &mut sealed, fill)?;
        correction.encode(&sealed, out)
    }

    /// Decrypts what [`Crypto::seal`] made, in place. Bytes that rotted are repaired first, as far as parity reaches.
    pub(crate) fn open<'a>(&self, iv: &[u8], stored: &'a mut [u8]) -> Result<&'a [u8], codec::Error> {
        self.open_telling(iv, stored).map(|(plain, _)| plain)
    }

    /// As [`Crypto::open`], and whether bytes had to be repaired.
    fn open_telling<'a>(&self, iv: &[u8], stored: &'a mut [u8]) -> Result<(&'a [u8], bool), codec::Error> {
        let Some(correction) = &self.correction else { return Ok((self.cipher.open(iv, stored)?, false)) };
        let (sealed, repaired) = correction.decode(stored)?;
        self.repaired.fetch_add(repaired as u64, Ordering::Relaxed);
        Ok((self.cipher.open(iv, sealed)?, repaired > 0))
    }

    /// How many shards of contents and blobs were found changed and repaired so far.
    pub(crate) fn repaired_count(&self) -> u64 {
        self.repaired.load(Ordering::Relaxed)
    }

    /// Turns the bytes found at `location` into the content, and checks that they are it.
    pub(crate) fn unseal<'a>(
        &self,
        content: &ContentId,
        location: &Location,
        sealed: &'a mut [u8],
    ) -> Result<Unsealed<'a>, ContentError> {
        let damaged = |detail: String| ContentError::Damaged { content: *content, pack: location.pack.clone(), detail };
        let unsupported = |source| ContentError::Unsupported { content: *content, source };
        if location.encryption_key != 0 {
            return Err(unsupported(Unsupported::new("encryption key", &location.encryption_key.to_string())));
        }
        let (payload, is_repaired) = self
            .open_telling(iv_of(content.hash()), sealed)
            .map_err(|_| damaged("it does not decrypt: its bytes changed".to_owned()))?;
        let bytes = match location.compression {
            0 => Cow::Borrowed(payload),
            header_id => {
                let algorithm = compress::Algorithm::from_header_id(header_id)
                    .ok_or_else(|| unsupported(Unsupported::new("compressor", &format!("{header_id:#x}"))))?;
                let mut out = Vec::with_capacity((location.original_bytes as usize).min(RESERVED_BYTES_MAX));
                compress::decompress(algorithm, payload, location.original_bytes as usize, &mut out)
                    .map_err(|error| damaged(format!("it does not decompress: {error}")))?;
                Cow::Owned(out)
            }
        };
        if self.content_id(content.prefix(), &bytes) != *content {
            return Err(damaged("it decrypts, but has another hash".to_owned()));
        }
        Ok(Unsealed { bytes, is_repaired })
    }
}

/// The error correction that a configuration asks for, if any.
fn correction(configuration: &Configuration) -> Result<Option<ReedSolomonCrc32>, Unsupported> {
    let Configuration { ecc, ecc_overhead_percent: percent, .. } = configuration;
    if ecc.is_empty() || *percent == 0 {
        return Ok(None);
    }
    if ecc != ecc::KOPIA_NAME {
        return Err(Unsupported::new("error correction", ecc));
    }
    let correction = ReedSolomonCrc32::new(*percent);
    correction.map(Some).ok_or_else(|| Unsupported::new("error correction overhead", &format!("{percent} %")))
}

/// The part of a hash that the content's key is derived with.
pub(crate) fn iv_of(hash: &[u8]) -> &[u8] {
    &hash[hash.len().saturating_sub(IV_BYTES)..]
}

/// A content that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsealed<'a> {
    /// Its bytes, which have its hash; where they lay sealed, unless they were compressed.
    pub bytes: Cow<'a, [u8]>,
    /// Error correction had to repair it: in the store its bytes have changed.
    pub is_repaired: bool,
}

/// A content ready for a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Its id.
    pub content: ContentId,
    /// Its own length in bytes.
    pub original_bytes: u32,
    /// Its sealed length in bytes.
    pub packed_bytes: u32,
    /// Header id of the compressor used, 0 for none.
    pub compression: u32,
}

/// Compresses and encrypts contents, one after the other. One per thread: it keeps the compressors' working memory.
pub struct Sealer<'a> {
    crypto: &'a Crypto,
    compressor: Compressor,
}

impl<'a> Sealer<'a> {
    pub(crate) fn new(crypto: &'a Crypto) -> Self {
        Self { crypto, compressor: Compressor::new() }
    }

    /// Seals the content that is `parts`, one after the other, and hands the result to `take`, then opens it again and
    /// compares.
    ///
    /// A compressor is used only where it makes the content smaller. `scratch` is working memory to be used again. What
    /// `take` got may be written to a pack, but not to an index before this returns without an error.
    ///
    /// # Errors
    /// When sealing fails, or when what was handed to `take` does not open to the same bytes.
    pub fn seal<T>(
        &mut self,
        content: ContentId,
        parts: &[&[u8]],
        compression: Option<compress::Algorithm>,
        scratch: &mut Vec<u8>,
        take: impl FnOnce(Sealed, &[u8]) -> T,
    ) -> Result<T, WriteError> {
        let failed = |source| WriteError::Seal { content, source };
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if length as u64 >= CONTENT_LIMIT_BYTES {
            return Err(WriteError::TooLong { content, length_bytes: length as u64 });
        }
        let mut used = compression.filter(|_| self.crypto.compresses);
        scratch.clear();
        scratch.reserve_exact(length + cipher::OVERHEAD_BYTES);
        let fill = |out: &mut Vec<u8>| {
            let start = out.len();
            if let Some(algorithm) = used {
                self.compressor.compress_parts(algorithm, parts, out)?;
            }
            if used.is_none() || out.len() - start >= length {
                used = None;
                out.truncate(start);
                parts.iter().for_each(|part| out.extend_from_slice(part));
            }
            Ok(())
        };
        self.crypto.seal_with(iv_of(content.hash()), scratch, fill).map_err(failed)?;
        let sealed = Sealed {
            content,
            original_bytes: length as u32,
            packed_bytes: scratch.len() as u32,
            compression: used.map_or(0, |algorithm| algorithm.header_id()),
        };
        let taken = take(sealed, scratch);
        self.check(content, parts, used, scratch)?;
        Ok(taken)
    }

    /// A piece of a file, given in parts, as an object of its own: its compressor's header and stream. None where that is not smaller.
    ///
    /// For repositories where [`Repository::compresses_objects`](crate::Repository::compresses_objects). `content` is the
    /// piece's own, for messages.
    ///
    /// # Errors
    /// When compressing fails, or the result does not decompress to the same bytes.
    pub fn compress_object(
        &mut self,
        content: ContentId,
        parts: &[&[u8]],
        algorithm: compress::Algorithm,
    ) -> Result<Option<Vec<u8>>, WriteError> {
        let mut compressed = Vec::new();
        let failed = |source| WriteError::Seal { content, source };
        self.compressor.compress_parts(algorithm, parts, &mut compressed).map_err(failed)?;
        if compressed.len() >= parts.iter().map(|part| part.len()).sum() {
            return Ok(None);
        }
        match compress::decompresses_to(algorithm, &compressed, parts) {
            true => Ok(Some(compressed)),
            false => Err(WriteError::ReadsBackDifferently { content }),
        }
    }

    fn check(
        &self,
        content: ContentId,
        parts: &[&[u8]],
        compression: Option<compress::Algorithm>,
        sealed: &mut [u8],
    ) -> Result<(), WriteError> {
        let differs = WriteError::ReadsBackDifferently { content };
        let Ok(payload) = self.crypto.open(iv_of(content.hash()), sealed) else {
            return Err(differs);
        };
        let same = match compression {
            None => is_joined(payload, parts),
            Some(algorithm) => compress::decompresses_to(algorithm, payload, parts),
        };
        if same { Ok(()) } else { Err(differs) }
    }
}

/// Whether `bytes` are `parts`, one after the other.
fn is_joined(bytes: &[u8], parts: &[&[u8]]) -> bool {
    let mut rest = bytes;
    let all = parts.iter().all(|part| match rest.split_at_checked(part.len()) {
        Some((start, end)) => {
            rest = end;
            start == *part
        }
        None => false,
    });
    all && rest.is_empty()
}

/// The id of a content whose bytes come in parts. Made by [`crate::Repository::content_hasher`].
pub struct ContentHasher {
    prefix: u8,
    hasher: digest::Hasher,
}

impl ContentHasher {
    pub(crate) fn new(crypto: &Crypto, prefix: u8) -> Self {
        Self { prefix, hasher: crypto.hash.hasher() }
    }

    /// Feeds each content its own next part; several at a time cost little more than one.
    pub fn update_many<'a>(pairs: impl Iterator<Item = (&'a mut Self, &'a [u8])>) {
        digest::Hasher::update_many(pairs.map(|(content, part)| (&mut content.hasher, part)));
    }

    /// The id.
    pub fn finish(self) -> ContentId {
        let hash = self.hasher.finish();
        ContentId::new(self.prefix, hash.as_bytes()).expect("every hash of the format fits an id")
    }
}
