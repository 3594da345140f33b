//! Compression of contents.
//!
//! A compressed content is a four-byte header that names the algorithm, then the algorithm's own stream. Any conforming
//! stream is read, whatever level or library wrote it; the level in a name only says how hard the writer tried.
//!
//! Source: kopia.md sections 7.1 to 7.3.

mod crc32c;
mod deflate;
mod lz4;
mod s2;
mod zstd;

use std::fmt;
use std::io::Read;

use crate::Error;

/// Length of the header in front of every compressed stream: the [`Algorithm::header_id`], big-endian.
pub const HEADER_BYTES: usize = 4;

/// A compressor of section 7.1.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(u32)]
pub enum Algorithm {
    /// `gzip`, level 6.
    Gzip = 0x1000,
    /// `gzip-best-speed`, level 1.
    GzipBestSpeed = 0x1001,
    /// `gzip-best-compression`, level 9.
    GzipBestCompression = 0x1002,
    /// `zstd`, level 3.
    Zstd = 0x1100,
    /// `zstd-fastest`, level 1; Kopia's default for metadata.
    ZstdFastest = 0x1101,
    /// `zstd-better-compression`, level 7.
    ZstdBetter = 0x1102,
    /// `zstd-best-compression`, level 15.
    ZstdBest = 0x1103,
    /// `s2-default`.
    S2Default = 0x1200,
    /// `s2-better`.
    S2Better = 0x1201,
    /// `s2-parallel-4`; the same stream as `s2-default`, which Kopia writes with four threads.
    S2Parallel4 = 0x1202,
    /// `s2-parallel-8`; the same with eight.
    S2Parallel8 = 0x1203,
    /// `pgzip`: gzip, which Kopia writes with several threads; level 6.
    Pgzip = 0x1300,
    /// `pgzip-best-speed`, level 1.
    PgzipBestSpeed = 0x1301,
    /// `pgzip-best-compression`, level 9.
    PgzipBestCompression = 0x1302,
    /// `lz4`: LZ4 frames. Kopia dropped it after 0.22.3: read, never written.
    Lz4 = 0x1400,
    /// `deflate-default`: raw DEFLATE, level 6.
    Deflate = 0x1500,
    /// `deflate-best-speed`, level 1.
    DeflateBestSpeed = 0x1501,
    /// `deflate-best-compression`, level 9.
    DeflateBestCompression = 0x1502,
}

impl Algorithm {
    /// All eighteen, in the order of section 7.1.
    pub const ALL: [Self; 18] = [
        Self::Gzip,
        Self::GzipBestSpeed,
        Self::GzipBestCompression,
        Self::Zstd,
        Self::ZstdFastest,
        Self::ZstdBetter,
        Self::ZstdBest,
        Self::S2Default,
        Self::S2Better,
        Self::S2Parallel4,
        Self::S2Parallel8,
        Self::Pgzip,
        Self::PgzipBestSpeed,
        Self::PgzipBestCompression,
        Self::Lz4,
        Self::Deflate,
        Self::DeflateBestSpeed,
        Self::DeflateBestCompression,
    ];

    /// The compressor of a policy's name; none for one that section 7.1 does not list, `none` among them.
    pub fn from_kopia_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.kopia_name() == name)
    }

    /// The name in policies.
    pub fn kopia_name(&self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::GzipBestSpeed => "gzip-best-speed",
            Self::GzipBestCompression => "gzip-best-compression",
            Self::Zstd => "zstd",
            Self::ZstdFastest => "zstd-fastest",
            Self::ZstdBetter => "zstd-better-compression",
            Self::ZstdBest => "zstd-best-compression",
            Self::S2Default => "s2-default",
            Self::S2Better => "s2-better",
            Self::S2Parallel4 => "s2-parallel-4",
            Self::S2Parallel8 => "s2-parallel-8",
            Self::Pgzip => "pgzip",
            Self::PgzipBestSpeed => "pgzip-best-speed",
            Self::PgzipBestCompression => "pgzip-best-compression",
            Self::Lz4 => "lz4",
            Self::Deflate => "deflate-default",
            Self::DeflateBestSpeed => "deflate-best-speed",
            Self::DeflateBestCompression => "deflate-best-compression",
        }
    }

    /// The number in index entries and, big-endian, in front of the stream. Never zero, which means uncompressed.
    pub fn header_id(&self) -> u32 {
        *self as u32
    }

    /// The algorithm of a header id; none for zero and for unknown ones.
    pub fn from_header_id(id: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.header_id() == id)
    }

    /// The reference implementation's level nearest to what Kopia's makes of the name; none for other families.
    fn zstd_level(self) -> Option<i32> {
        match self {
            Self::ZstdFastest => Some(1),
            Self::Zstd => Some(3),
            Self::ZstdBetter => Some(7),
            Self::ZstdBest => Some(15),
            Self::Gzip
            | Self::GzipBestSpeed
            | Self::GzipBestCompression
            | Self::S2Default
            | Self::S2Better
            | Self::S2Parallel4
            | Self::S2Parallel8
            | Self::Pgzip
            | Self::PgzipBestSpeed
            | Self::PgzipBestCompression
            | Self::Lz4
            | Self::Deflate
            | Self::DeflateBestSpeed
            | Self::DeflateBestCompression => None,
        }
    }

    /// Whether [`Compressor::compress`] takes it: all but `lz4`.
    pub fn writable(&self) -> bool {
        !matches!(self, Self::Lz4)
    }
}

/// Compresses one input after the other, keeping the encoders' tables between them; one for each thread.
#[derive(Default)]
pub struct Compressor {
    zstd: zstd::Encoder,
    s2: s2::Encoder,
}

impl Compressor {
    /// A compressor that has allocated nothing yet; each family allocates when first used and then keeps its tables,
    /// the more, the higher the level.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends header and stream of `input` to `out`.
    ///
    /// The result may be longer than the input; the caller then keeps the input instead (section 7.3).
    /// [`Error::CompressionReadOnly`] for `lz4`, [`Error::Compress`] where the encoder refuses; `out` is then as it was.
    pub fn compress(&mut self, algorithm: Algorithm, input: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        let start = out.len();
        out.extend_from_slice(&algorithm.header_id().to_be_bytes());
        let result = self.stream(algorithm, input, out);
        if result.is_err() {
            out.truncate(start);
        }
        result
    }

    /// [`Compressor::compress`] of `parts`, one after the other, as one input.
    pub fn compress_parts(&mut self, algorithm: Algorithm, parts: &[&[u8]], out: &mut Vec<u8>) -> Result<(), Error> {
        let level = match (algorithm.zstd_level(), parts) {
            (_, [whole]) => return self.compress(algorithm, whole, out),
            (None, _) => return self.compress(algorithm, &parts.concat(), out),
            (Some(level), _) => level,
        };
        let start = out.len();
        out.extend_from_slice(&algorithm.header_id().to_be_bytes());
        self.zstd.compress_parts(level, parts, out).map_err(|reason| {
            out.truncate(start);
            let length_bytes = parts.iter().map(|part| part.len()).sum();
            Error::Compress { algorithm, length_bytes, reason }
        })
    }

    fn stream(&mut self, algorithm: Algorithm, input: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        let refused = |reason: String| Error::Compress { algorithm, length_bytes: input.len(), reason };
        match algorithm {
            Algorithm::Gzip | Algorithm::Pgzip => deflate::compress_gzip(6, input, out).map_err(refused),
            Algorithm::GzipBestSpeed | Algorithm::PgzipBestSpeed => {
                deflate::compress_gzip(1, input, out).map_err(refused)
            }
            Algorithm::GzipBestCompression | Algorithm::PgzipBestCompression => {
                deflate::compress_gzip(9, input, out).map_err(refused)
            }
            Algorithm::ZstdFastest | Algorithm::Zstd | Algorithm::ZstdBetter | Algorithm::ZstdBest => {
                let level = algorithm.zstd_level().unwrap_or_default();
                self.zstd.compress(level, input, out).map_err(refused)
            }
            Algorithm::S2Default | Algorithm::S2Parallel4 | Algorithm::S2Parallel8 => {
                self.s2.compress(input, out);
                Ok(())
            }
            Algorithm::S2Better => {
                self.s2.compress_better(input, out);
                Ok(())
            }
            Algorithm::Lz4 => Err(Error::CompressionReadOnly { algorithm }),
            Algorithm::Deflate => deflate::compress_raw(6, input, out).map_err(refused),
            Algorithm::DeflateBestSpeed => deflate::compress_raw(1, input, out).map_err(refused),
            Algorithm::DeflateBestCompression => deflate::compress_raw(9, input, out).map_err(refused),
        }
    }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor").finish_non_exhaustive()
    }
}

/// Appends to `out` what `input`, header and stream, was before compression.
///
/// At most `max_bytes` are appended and little more is ever allocated, so that a damaged or hostile stream cannot fill
/// the memory. [`Error::CompressionHeader`] where the header is not `algorithm`'s, [`Error::CompressedDamaged`],
/// [`Error::DecompressedTooLong`]; `out` is then as it was.
pub fn decompress(algorithm: Algorithm, input: &[u8], max_bytes: usize, out: &mut Vec<u8>) -> Result<(), Error> {
    let Some((header, stream)) = input.split_first_chunk::<HEADER_BYTES>() else {
        return Err(Error::CompressionHeader { algorithm, found: None });
    };
    let found = u32::from_be_bytes(*header);
    if found != algorithm.header_id() {
        return Err(Error::CompressionHeader { algorithm, found: Some(found) });
    }
    let start = out.len();
    decompress_stream(algorithm, stream, max_bytes, out).map_err(|problem| {
        out.truncate(start);
        match problem {
            Problem::TooLong => Error::DecompressedTooLong { algorithm, max_bytes },
            Problem::Damaged(reason) => Error::CompressedDamaged { algorithm, reason },
        }
    })
}

/// Whether `input`, header and stream, decompresses to `parts`, one after the other, and to nothing else.
///
/// Zstandard is compared while it is decompressed, so that no room for all of it is needed.
pub fn decompresses_to(algorithm: Algorithm, input: &[u8], parts: &[&[u8]]) -> bool {
    if algorithm.zstd_level().is_some() {
        let Some((header, stream)) = input.split_first_chunk::<HEADER_BYTES>() else { return false };
        return u32::from_be_bytes(*header) == algorithm.header_id() && zstd::decompresses_to(stream, parts);
    }
    let length_bytes = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(length_bytes);
    decompress(algorithm, input, length_bytes, &mut out).is_ok()
        && out.len() == length_bytes
        && starts_with_all(&mut parts.iter().copied(), &mut &[][..], &out)
}

fn decompress_stream(algorithm: Algorithm, stream: &[u8], max_bytes: usize, out: &mut Vec<u8>) -> Result<(), Problem> {
    match algorithm {
        Algorithm::Gzip
        | Algorithm::GzipBestSpeed
        | Algorithm::GzipBestCompression
        | Algorithm::Pgzip
        | Algorithm::PgzipBestSpeed
        | Algorithm::PgzipBestCompression => deflate::decompress_gzip(stream, max_bytes, out),
        Algorithm::Zstd | Algorithm::ZstdFastest | Algorithm::ZstdBetter | Algorithm::ZstdBest => {
            zstd::decompress(stream, max_bytes, out)
        }
        Algorithm::S2Default | Algorithm::S2Better | Algorithm::S2Parallel4 | Algorithm::S2Parallel8 => {
            s2::decompress(stream, max_bytes, out)
        }
        Algorithm::Lz4 => lz4::decompress(stream, max_bytes, out),
        Algorithm::Deflate | Algorithm::DeflateBestSpeed | Algorithm::DeflateBestCompression => {
            deflate::decompress_raw(stream, max_bytes, out)
        }
    }
}

/// Whether `bytes` are what comes next: the rest of `part`, then of `parts`. Moves both on.
fn starts_with_all<'a>(parts: &mut impl Iterator<Item = &'a [u8]>, part: &mut &'a [u8], bytes: &[u8]) -> bool {
    let mut bytes = bytes;
    while !bytes.is_empty() {
        if part.is_empty() {
            match parts.next() {
                Some(next) => *part = next,
                None => return false,
            }
        }
        let length = part.len().min(bytes.len());
        if part[..length] != bytes[..length] {
            return false;
        }
        (*part, bytes) = (&part[length..], &bytes[length..]);
    }
    true
}

/// Why a stream was not decompressed; [`decompress`] adds which algorithm's.
enum Problem {
    TooLong,
    Damaged(String),
}

impl Problem {
    fn damaged(reason: impl ToString) -> Self {
        Self::Damaged(reason.to_string())
    }
}

/// Appends all of `reader`, unless it holds more than `max_bytes`.
fn read_all(reader: impl Read, max_bytes: usize, out: &mut Vec<u8>) -> Result<(), Problem> {
    let start = out.len();
    // One byte more tells a stream that ends at the limit from one that goes on.
    let limit = (max_bytes as u64).saturating_add(1);
    reader.take(limit).read_to_end(out).map_err(Problem::damaged)?;
    if out.len() - start > max_bytes {
        return Err(Problem::TooLong);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
