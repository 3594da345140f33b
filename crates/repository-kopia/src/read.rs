//! Objects and directories, read by way of their contents.

use std::borrow::Cow;

use repository::{ContentId, DataId};

use crate::error::{ReadError, Unsupported};
use crate::object::{ObjectId, Piece, read_index_object};
use crate::repository::Repository;

impl Repository {
    /// The contents of an object, in order. Index objects on the way are read.
    ///
    /// # Errors
    /// When an index object cannot be read or makes no sense.
    pub async fn pieces(&self, data: &DataId) -> Result<Vec<Piece>, ReadError> {
        let object = parse_object(data)?;
        let mut pieces = Vec::new();
        let mut open = vec![(object, 0, None)];
        while let Some((object, offset, length_bytes)) = open.pop() {
            if object.indirection == 0 {
                let ObjectId { content, compressed, .. } = object;
                pieces.push(Piece { content, compressed, offset, length_bytes });
                continue;
            }
            let index_object = ObjectId { indirection: object.indirection - 1, ..object };
            let bytes = Box::pin(self.object(&index_object.into())).await?;
            let inner = read_index_object(&object, &bytes)?;
            open.extend(inner.into_iter().rev().map(|(piece, start, length)| (piece, offset + start, Some(length))));
        }
        Ok(pieces)
    }

    /// Every content that an object needs: of its data, and of its index objects on all levels.
    ///
    /// # Errors
    /// When an index object cannot be read or makes no sense.
    pub async fn contents_of(&self, data: &DataId) -> Result<Vec<ContentId>, ReadError> {
        let mut contents = Vec::new();
        let mut open = vec![parse_object(data)?];
        while let Some(object) = open.pop() {
            if object.indirection == 0 {
                contents.push(object.content);
                continue;
            }
            let index_object = ObjectId { indirection: object.indirection - 1, ..object };
            let bytes = self.object(&index_object.into()).await?;
            open.push(index_object);
            open.extend(read_index_object(&object, &bytes)?.into_iter().map(|(piece, ..)| piece));
        }
        Ok(contents)
    }

    /// Reads an object whole. For directories, links and other small things; files go piece by piece.
    ///
    /// # Errors
    /// When a content behind it cannot be read or has another length than it should.
    pub async fn object(&self, data: &DataId) -> Result<Vec<u8>, ReadError> {
        let mut bytes = Vec::new();
        for piece in self.pieces(data).await? {
            bytes.extend_from_slice(&self.piece(data, &piece).await?);
        }
        Ok(bytes)
    }

    /// Reads one piece of an object.
    ///
    /// # Errors
    /// When its content cannot be read or has another length than it should.
    pub async fn piece(&self, data: &DataId, piece: &Piece) -> Result<Vec<u8>, ReadError> {
        let content = self
            .content(&piece.content)
            .await
            .map_err(|source| ReadError::Content { what: format!("read object {data}"), source })?;
        let opened = self.open_piece(piece, Cow::Owned(content));
        opened.map(Cow::into_owned).map_err(|detail| ReadError::Damaged { what: format!("object {data}"), detail })
    }

    /// Turns a content into the piece of the file that it holds.
    ///
    /// # Errors
    /// In words, when it does not decompress or has another length than the file says.
    pub fn open_piece<'a>(&self, piece: &Piece, content: Cow<'a, [u8]>) -> Result<Cow<'a, [u8]>, String> {
        let bytes = if piece.compressed { Cow::Owned(decompress_object(&content)?) } else { content };
        match piece.length_bytes {
            Some(expected) if expected != bytes.len() as u64 => {
                Err(format!("content {} has {} bytes instead of {expected}", piece.content, bytes.len()))
            }
            _ => Ok(bytes),
        }
    }
}

pub(crate) fn parse_object(data: &DataId) -> Result<ObjectId, ReadError> {
    data.as_str().parse().map_err(|error: crate::object::ObjectIdError| ReadError::Damaged {
        what: format!("object {data}"),
        detail: error.to_string(),
    })
}

/// Opens an object of version 1: the header of a compressor, then its stream.
pub(crate) fn decompress_object(content: &[u8]) -> Result<Vec<u8>, String> {
    /// No splitter makes larger pieces, in bytes.
    const PIECE_BYTES_MAX: usize = 1 << 28;
    let header = content.first_chunk::<4>().ok_or("its compression header is cut off")?;
    let header_id = u32::from_be_bytes(*header);
    let algorithm = codec::compress::Algorithm::from_header_id(header_id)
        .ok_or_else(|| Unsupported::new("compressor", &format!("{header_id:#x}")).to_string())?;
    let mut out = Vec::new();
    codec::compress::decompress(algorithm, content, PIECE_BYTES_MAX, &mut out).map_err(|error| error.to_string())?;
    Ok(out)
}
