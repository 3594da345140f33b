//! Contents and packs: pieces of data under their hashes, and the objects that hold many of them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest content hash of any format, in bytes.
pub const HASH_BYTES_MAX: usize = 32;

/// The name of one content: an optional prefix letter that tells what it is for, and the keyed hash of its bytes.
///
/// The text form is the letter, if any, followed by lower-case hexadecimal digits. Order equals that of the text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentId {
    prefix: u8,
    hash: [u8; HASH_BYTES_MAX],
    length: u8,
}

/// Why a text or a byte string is no content id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no content id")]
pub struct ContentIdError(pub String);

impl ContentId {
    /// Builds an id from a prefix (0 for none, else `g`…`z`) and a hash of 1 to 32 bytes.
    ///
    /// # Errors
    /// When prefix or length are out of range.
    pub fn new(prefix: u8, hash: &[u8]) -> Result<Self, ContentIdError> {
        let prefix_is_good = prefix == 0 || (b'g'..=b'z').contains(&prefix);
        if !prefix_is_good || hash.is_empty() || hash.len() > HASH_BYTES_MAX {
            return Err(ContentIdError(hex::encode(hash)));
        }
        let mut padded = [0; HASH_BYTES_MAX];
        padded[..hash.len()].copy_from_slice(hash);
        Ok(Self { prefix, hash: padded, length: hash.len() as u8 })
    }

    /// Reads the binary form of index files: the prefix byte, then the hash.
    ///
    /// # Errors
    /// When prefix or length are out of range.
    pub fn from_key(key: &[u8]) -> Result<Self, ContentIdError> {
        match key.split_first() {
            Some((prefix, hash)) => Self::new(*prefix, hash),
            None => Err(ContentIdError(String::new())),
        }
    }

    /// The prefix letter, or 0.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The hash.
    pub fn hash(&self) -> &[u8] {
        &self.hash[..usize::from(self.length)]
    }

    /// Writes the binary form of index files: the prefix byte, then the hash.
    pub fn write_key(&self, out: &mut Vec<u8>) {
        out.push(self.prefix);
        out.extend_from_slice(self.hash());
    }

    /// The binary form of index files, written into `buffer`.
    pub fn key_in<'a>(&self, buffer: &'a mut [u8; 1 + HASH_BYTES_MAX]) -> &'a [u8] {
        buffer[0] = self.prefix;
        buffer[1..].copy_from_slice(&self.hash);
        &buffer[..self.key_length()]
    }

    /// Length of the binary form in bytes.
    pub fn key_length(&self) -> usize {
        1 + usize::from(self.length)
    }

    /// True for contents that describe (directories, indirect pieces, manifests) rather than hold file data.
    pub fn is_metadata(&self) -> bool {
        self.prefix != 0
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix != 0 {
            write!(f, "{}", char::from(self.prefix))?;
        }
        self.hash().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ContentId {
    type Err = ContentIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || ContentIdError(text.to_owned());
        let (prefix, digits) = match text.len() % 2 {
            0 => (0, text),
            _ => match text.as_bytes().first() {
                Some(letter) if letter.is_ascii_lowercase() && *letter >= b'g' => (*letter, &text[1..]),
                _ => return Err(refuse()),
            },
        };
        let hash = hex::decode(digits).map_err(|_| refuse())?;
        Self::new(prefix, &hash).map_err(|_| refuse())
    }
}

/// The name of an object that holds many sealed contents.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackId(Arc<str>);

impl PackId {
    /// Takes the object's name as it is.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self(name.into())
    }

    /// The object's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::ContentId;

    #[test]
    fn text_order_is_id_order() {
        // Source: Kopia format, "Index files" vectors.
        let sorted = ["0012abcd", "12345678", "ffffffff", "g0123456789", "yffffffff", "z00000000", "z00000001"];
        let ids: Vec<ContentId> = sorted.iter().map(|text| text.parse().unwrap()).collect();
        assert!(ids.is_sorted());
        assert_eq!(ids.iter().map(ToString::to_string).collect::<Vec<_>>(), sorted);
    }

    #[test]
    fn malformed_ids_are_refused() {
        let too_long = format!("x{}", "00".repeat(33));
        for text in ["", "x", "x1", "xx", "A00", "@abcd", "a00", too_long.as_str()] {
            assert!(text.parse::<ContentId>().is_err(), "{text:?}");
        }
    }
}
