//! Packs: many sealed contents in one blob.
//!
//! ```text
//! [copy of the format blob][32 random bytes][content]…[padding to 4096][local index][postamble]
//! ```
//! The local index repeats the pack's index entries, so that a lost index can be rebuilt from the packs. Source: Kopia
//! format, "Pack blob" and "Local index and postamble".

use codec::cipher::random_bytes;
use jiff::Timestamp;
use repository::PackId;

use crate::content::{Crypto, Sealed};
use crate::index::{self, IndexEntry, IndexFile, Location};

/// Hexadecimal digits after the letter in the name of a pack.
const PACK_DIGITS: usize = 32;
/// Random bytes in front of the first content.
const PREAMBLE_BYTES: usize = 32;
/// Contents are padded to a multiple of this, so that their sum cannot be read off the pack's length.
const PADDING_UNIT_BYTES: usize = 4096;
/// First byte of a postamble.
const POSTAMBLE_FORMAT: u64 = 1;

/// Which of the two kinds of packs a content goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackKind {
    /// File data, `p…`.
    Data,
    /// Directories, indirect pieces and manifests, `q…`.
    Metadata,
}

impl PackKind {
    pub(crate) fn prefix(self) -> char {
        match self {
            Self::Data => 'p',
            Self::Metadata => 'q',
        }
    }
}

/// Whether an object is a pack: foreign ones may begin with the same letters, and are neither looked into nor deleted.
pub(crate) fn is_pack_name(name: &str) -> bool {
    let digits = name.strip_prefix(['p', 'q']).and_then(|rest| rest.split('-').next()).unwrap_or_default();
    digits.len() == PACK_DIGITS && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
}

/// What the index is to say of a content besides where it lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    pub(crate) timestamp_seconds: u64,
    pub(crate) deleted: bool,
}

/// A pack that is being filled.
pub(crate) struct OpenPack {
    id: PackId,
    bytes: Vec<u8>,
    entries: Vec<IndexEntry>,
}

impl OpenPack {
    /// Begins a pack in `buffer`, whose memory it uses again.
    pub(crate) fn new(kind: PackKind, session: &str, prefix: &[u8], mut buffer: Vec<u8>) -> Result<Self, codec::Error> {
        buffer.clear();
        buffer.extend_from_slice(prefix);
        buffer.extend_from_slice(&random_bytes::<PREAMBLE_BYTES>()?);
        let name = format!("{}{}-{session}", kind.prefix(), hex::encode(random_bytes::<16>()?));
        Ok(Self { id: PackId::new(name), bytes: buffer, entries: Vec::new() })
    }

    /// Length so far in bytes.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Contents so far.
    pub(crate) fn content_count(&self) -> usize {
        self.entries.len()
    }

    /// Appends one content.
    pub(crate) fn push(&mut self, sealed: &Sealed, bytes: &[u8], stamp: Stamp, format_version: u8) {
        let location = Location {
            pack: self.id.clone(),
            offset: self.bytes.len() as u32,
            packed_bytes: sealed.packed_bytes,
            original_bytes: sealed.original_bytes,
            compression: sealed.compression,
            encryption_key: 0,
        };
        self.bytes.extend_from_slice(bytes);
        self.entries.push(IndexEntry {
            content: sealed.content,
            location,
            timestamp_seconds: stamp.timestamp_seconds,
            deleted: stamp.deleted,
            format_version,
        });
    }

    /// Closes the pack: its name, its bytes, and where its contents lie, in the order of their arrival.
    pub(crate) fn finish(
        mut self,
        crypto: &Crypto,
        index_version: u32,
    ) -> Result<(PackId, Vec<u8>, Vec<IndexEntry>), codec::Error> {
        let padding = PADDING_UNIT_BYTES - self.bytes.len() % PADDING_UNIT_BYTES;
        let random = random_bytes::<PADDING_UNIT_BYTES>()?;
        self.bytes.extend_from_slice(&random[..padding]);

        let mut sorted = self.entries.clone();
        sorted.sort_by_key(|entry| entry.content);
        let mut index = index::write(index_version, &sorted);
        index.extend_from_slice(&random_bytes::<32>()?);
        let iv = crypto.hash(&index);
        let offset = self.bytes.len();
        crypto.seal(iv.as_bytes(), &index, &mut self.bytes)?;
        let length = self.bytes.len() - offset;
        write_postamble(iv.as_bytes(), offset as u64, length as u64, &mut self.bytes);
        Ok((self.id, self.bytes, self.entries))
    }
}

fn write_postamble(iv: &[u8], offset: u64, length: u64, out: &mut Vec<u8>) {
    let start = out.len();
    write_uvarint(POSTAMBLE_FORMAT, out);
    write_uvarint(iv.len() as u64, out);
    out.extend_from_slice(iv);
    write_uvarint(offset, out);
    write_uvarint(length, out);
    let checksum = crc32fast::hash(&out[start..]);
    out.extend_from_slice(&checksum.to_be_bytes());
    out.push((out.len() - start) as u8);
}

/// Where a pack's local index lies.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Postamble {
    pub(crate) iv: Vec<u8>,
    pub(crate) offset: u64,
    pub(crate) length_bytes: u64,
}

impl Postamble {
    /// Finds the postamble at the end of a pack's last bytes. `None` when there is no sound one.
    pub(crate) fn find(tail: &[u8]) -> Option<Self> {
        let (length, rest) = tail.split_last()?;
        let body = rest.get(rest.len().checked_sub(usize::from(*length))?..)?;
        let (fields, checksum) = body.split_at_checked(body.len().checked_sub(4)?)?;
        if crc32fast::hash(fields).to_be_bytes() != checksum {
            return None;
        }
        let mut fields = fields;
        if read_uvarint(&mut fields)? != POSTAMBLE_FORMAT {
            return None;
        }
        let iv_length = usize::try_from(read_uvarint(&mut fields)?).ok()?;
        let (iv, mut fields) = fields.split_at_checked(iv_length)?;
        let offset = read_uvarint(&mut fields)?;
        let length_bytes = read_uvarint(&mut fields)?;
        Some(Self { iv: iv.to_vec(), offset, length_bytes })
    }

    /// Decrypts the local index.
    ///
    /// # Errors
    /// In words.
    pub(crate) fn open_index(&self, crypto: &Crypto, sealed: &mut [u8]) -> Result<Vec<IndexEntry>, String> {
        let plain = crypto.open(&self.iv, sealed).map_err(|_| "its local index does not decrypt")?;
        let index = IndexFile::parse(plain.to_vec())?;
        (0..index.len()).map(|at| index.entry(at)).collect()
    }
}

fn write_uvarint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn read_uvarint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Content timestamps are whole Unix seconds, and strictly greater than that of an entry they replace.
pub(crate) fn content_timestamp(now: Timestamp, replaced: Option<u64>) -> u64 {
    let now = u64::try_from(now.as_second()).unwrap_or(0);
    replaced.map_or(now, |replaced| now.max(replaced + 1))
}

#[cfg(test)]
mod tests {
    use super::{Postamble, write_postamble};

    /// Source: Kopia format, "Index files" vectors.
    #[test]
    fn postambles_are_written_and_found() {
        for (iv_bytes, offset, length_bytes, expected) in [
            (16u8, 4096, 300, "0110000102030405060708090a0b0c0d0e0f8020ac0248f26e221a"),
            (
                32,
                20_975_616,
                70_000,
                "0120000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f80a0800af0a2049e417dc82d",
            ),
        ] {
            let iv: Vec<u8> = (0..iv_bytes).collect();
            let mut written = b"something before".to_vec();
            write_postamble(&iv, offset, length_bytes, &mut written);
            assert_eq!(hex::encode(&written[16..]), expected);
            assert_eq!(Postamble::find(&written), Some(Postamble { iv, offset, length_bytes }));
            written[20] ^= 1;
            assert_eq!(Postamble::find(&written), None);
        }
        assert_eq!(Postamble::find(b""), None);
        assert_eq!(Postamble::find(&[9]), None);
    }
}
