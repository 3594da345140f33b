//! Objects: a file's or a directory's bytes, as one content or as an index of pieces.
//!
//! Source: Kopia format, "Objects".

use std::fmt;
use std::str::FromStr;

use repository::{ContentId, DataId};
use serde::{Deserialize, Serialize};

use crate::error::ReadError;
use crate::json::{self, is_default, null_is_default};

/// Deeper indirection than this is no object of any program.
const INDIRECTION_MAX: u8 = 8;

/// The name of an object: a content, how often it must be followed through index objects, and whether the content itself
/// carries a compressor's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ObjectId {
    /// How many levels of index objects lie above the data.
    pub indirection: u8,
    /// The content is a compressor's header and stream (`Z`, repositories of version 1).
    pub compressed: bool,
    /// The content at the end.
    pub content: ContentId,
}

impl ObjectId {
    /// An object that is one content as it is.
    pub fn direct(content: ContentId) -> Self {
        Self { indirection: 0, compressed: false, content }
    }

    /// The object whose pieces this index object lists.
    pub fn indirect(self) -> Self {
        Self { indirection: self.indirection + 1, ..self }
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (0..self.indirection).try_for_each(|_| f.write_str("I"))?;
        if self.compressed {
            f.write_str("Z")?;
        }
        write!(f, "{}", self.content)
    }
}

/// A text that is no object id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no object id")]
pub struct ObjectIdError(String);

impl FromStr for ObjectId {
    type Err = ObjectIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || ObjectIdError(text.to_owned());
        let rest = text.trim_start_matches('I');
        let indirection = text.len() - rest.len();
        let (rest, compressed) = match rest.strip_prefix('Z') {
            Some(_) if indirection > 0 => return Err(refuse()),
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let rest = rest.strip_prefix('D').unwrap_or(rest);
        let content = rest.parse().map_err(|_| refuse())?;
        let indirection =
            u8::try_from(indirection).ok().filter(|levels| *levels <= INDIRECTION_MAX).ok_or_else(refuse)?;
        Ok(Self { indirection, compressed, content })
    }
}

impl From<ObjectId> for DataId {
    fn from(object: ObjectId) -> Self {
        Self::new(object.to_string())
    }
}

/// One content of a file, in file order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The content.
    pub content: ContentId,
    /// The content carries a compressor's header of its own.
    pub compressed: bool,
    /// Where in the file it begins, in bytes.
    pub offset: u64,
    /// How many bytes of the file it holds. `None` for an object of a single content, whose length the index knows.
    pub length_bytes: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct IndexObjectJson {
    stream: String,
    /// Must be there, if only as `null`: a file whose pieces are unknown is not an empty one.
    #[serde(deserialize_with = "null_is_default")]
    entries: Vec<IndexObjectEntryJson>,
}

#[derive(Serialize, Deserialize)]
struct IndexObjectEntryJson {
    #[serde(rename = "s", default, skip_serializing_if = "is_default")]
    start: u64,
    #[serde(rename = "l", default, skip_serializing_if = "is_default")]
    length: u64,
    #[serde(rename = "o")]
    object: String,
}

/// The bytes of an index object over `pieces`, which follow each other without gaps.
pub(crate) fn write_index_object(pieces: &[(ObjectId, u64)]) -> Vec<u8> {
    let mut start = 0;
    let entries = pieces
        .iter()
        .map(|(object, length)| {
            let entry = IndexObjectEntryJson { start, length: *length, object: object.to_string() };
            start += length;
            entry
        })
        .collect();
    json::to_line(&IndexObjectJson { stream: "kopia:indirect".to_owned(), entries })
}

/// The objects an index object lists, each with its start and length in bytes.
pub(crate) fn read_index_object(object: &ObjectId, bytes: &[u8]) -> Result<Vec<(ObjectId, u64, u64)>, ReadError> {
    let damaged = |detail: String| ReadError::Damaged { what: format!("index object {object}"), detail };
    let first = serde_json::Deserializer::from_slice(bytes).into_iter::<IndexObjectJson>().next();
    let parsed = first.ok_or_else(|| damaged("it is empty".to_owned()))?.map_err(|error| damaged(error.to_string()))?;
    let mut expected_start = 0;
    let mut pieces = Vec::with_capacity(parsed.entries.len());
    for entry in parsed.entries {
        if entry.start != expected_start {
            return Err(damaged(format!("a piece begins at {} instead of {expected_start}", entry.start)));
        }
        expected_start =
            entry.start.checked_add(entry.length).ok_or_else(|| damaged("its lengths overflow".to_owned()))?;
        let piece = entry.object.parse().map_err(|error: ObjectIdError| damaged(error.to_string()))?;
        pieces.push((piece, entry.start, entry.length));
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::{ObjectId, read_index_object, write_index_object};

    /// Source: Kopia format, "Object IDs and sources" vectors.
    #[test]
    fn object_ids_are_parsed_and_written() {
        for (text, written) in [
            ("Df0f0", "f0f0"),
            ("IDf0f0", "If0f0"),
            ("IIDf0f0", "IIf0f0"),
            ("Dxf0f0", "xf0f0"),
            ("IDxf0f0", "Ixf0f0"),
            ("Zabcd", "Zabcd"),
            ("Ikf0f0", "Ikf0f0"),
        ] {
            assert_eq!(text.parse::<ObjectId>().unwrap().to_string(), written, "{text}");
        }
        for text in [
            "Dxf0f",
            "IDxf0f",
            "Da",
            "Daf0f0",
            "B!$@#$!@#$",
            "X",
            "I.",
            "I.af",
            "Ix.ag",
            "Iab.",
            "I1",
            "I1,",
            "I-1,X",
            "Xsomething",
            "IZabcd",
            "",
        ] {
            assert!(text.parse::<ObjectId>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_index_object_has_kopias_bytes() {
        let pieces: Vec<(ObjectId, u64)> = vec![("aabb".parse().unwrap(), 4_000_000), ("ccdd".parse().unwrap(), 123)];
        let written = write_index_object(&pieces);
        assert_eq!(
            String::from_utf8(written.clone()).unwrap(),
            "{\"stream\":\"kopia:indirect\",\"entries\":[{\"l\":4000000,\"o\":\"aabb\"},{\"s\":4000000,\"l\":123,\"o\":\"ccdd\"}]}\n"
        );
        let read = read_index_object(&"Ix00".parse().unwrap(), &written).unwrap();
        assert_eq!(read, vec![(pieces[0].0, 0, 4_000_000), (pieces[1].0, 4_000_000, 123)]);
    }
}
