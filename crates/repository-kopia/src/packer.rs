//! Sealed contents into packs, from several threads at once.

use std::sync::Mutex;

use repository::PackId;

use crate::content::Sealed;
use crate::error::WriteError;
use crate::in_flight::Ticket;
use crate::index::IndexEntry;
use crate::manifest::MANIFEST_PREFIX;
use crate::pack::{OpenPack, PackKind, Stamp, content_timestamp};
use crate::session::{Session, lock};

/// A pack with so many contents is full, however short they are: what the index is to say of each is held until the pack is
/// durable, and takes more memory than the shortest of them.
pub const PACK_CONTENTS_MAX: usize = 64 << 10;

/// Fills packs with sealed contents, from several threads at once.
pub struct Packer<'a> {
    session: &'a Session<'a>,
    data: Mutex<Option<OpenPack>>,
    metadata: Mutex<Option<OpenPack>>,
}

/// A pack ready for upload, and the index entries that may be published once it is durable.
pub struct FinishedPack {
    pub(crate) id: PackId,
    pub(crate) bytes: Vec<u8>,
    pub(crate) entries: Vec<IndexEntry>,
    pub(crate) ticket: Ticket,
}

impl FinishedPack {
    /// Its length in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }
}

impl<'a> Packer<'a> {
    pub(crate) fn new(session: &'a Session<'a>) -> Self {
        Self { session, data: Mutex::new(None), metadata: Mutex::new(None) }
    }

    fn close(&self, pack: OpenPack) -> Result<FinishedPack, WriteError> {
        let ticket = self.session.begin_upload();
        let repository = self.session.repository();
        let (id, bytes, entries) = pack
            .finish(repository.crypto(), repository.index_version())
            .map_err(|source| WriteError::SealBlob { blob: "pack", source })?;
        Ok(FinishedPack { id, bytes, entries, ticket })
    }

    /// Appends a sealed content. A pack that would grow past its size or [`PACK_CONTENTS_MAX`] is handed to `full` first, unless it is empty;
    /// `buffer` gives the memory of a new one.
    ///
    /// # Errors
    /// When `full` fails, or the random generator.
    pub fn push<E: From<WriteError>>(
        &self,
        sealed: &Sealed,
        bytes: &[u8],
        replaces: Option<u64>,
        buffer: impl FnOnce() -> Vec<u8>,
        full: &mut dyn FnMut(FinishedPack) -> Result<(), E>,
    ) -> Result<(), E> {
        let timestamp = content_timestamp(self.session.repository().clock().now(), replaces);
        self.append(sealed, bytes, Stamp { timestamp_seconds: timestamp, deleted: false }, buffer, full)
    }

    /// Appends a content that is moved here from elsewhere: `old` is what the index says of it, `deleted` whether it is
    /// marked as deleted from now on.
    ///
    /// # Errors
    /// As [`Packer::push`].
    pub fn push_moved<E: From<WriteError>>(
        &self,
        sealed: &Sealed,
        bytes: &[u8],
        (old, deleted): (&IndexEntry, bool),
        buffer: impl FnOnce() -> Vec<u8>,
        full: &mut dyn FnMut(FinishedPack) -> Result<(), E>,
    ) -> Result<(), E> {
        let timestamp_seconds = if old.content.prefix() == MANIFEST_PREFIX && !old.deleted && !deleted {
            // Other clients replace manifest contents at any time. Their mark on this one must win over its move.
            old.timestamp_seconds + 1
        } else {
            content_timestamp(self.session.repository().clock().now(), Some(old.timestamp_seconds))
        };
        self.append(sealed, bytes, Stamp { timestamp_seconds, deleted }, buffer, full)
    }

    fn append<E: From<WriteError>>(
        &self,
        sealed: &Sealed,
        bytes: &[u8],
        stamp: Stamp,
        buffer: impl FnOnce() -> Vec<u8>,
        full: &mut dyn FnMut(FinishedPack) -> Result<(), E>,
    ) -> Result<(), E> {
        let repository = self.session.repository();
        let (kind, slot) = match sealed.content.is_metadata() {
            true => (PackKind::Metadata, &self.metadata),
            false => (PackKind::Data, &self.data),
        };
        let failed = |source| WriteError::SealBlob { blob: "pack", source };
        let mut open = lock(slot);
        let overflows = |pack: &OpenPack| {
            (pack.len() + bytes.len()) as u64 > repository.max_pack_bytes() || pack.content_count() >= PACK_CONTENTS_MAX
        };
        if let Some(pack) = open.take_if(|pack| overflows(pack)) {
            full(self.close(pack)?)?;
        }
        if open.is_none() {
            let prefix = repository.format().pack_prefix();
            *open = Some(OpenPack::new(kind, self.session.id(), &prefix, buffer()).map_err(failed)?);
        }
        if let Some(pack) = open.as_mut() {
            pack.push(sealed, bytes, stamp, repository.format_version());
        }
        Ok(())
    }

    /// The packs that are not full yet.
    ///
    /// # Errors
    /// When the random generator fails.
    pub fn finish(&self) -> Result<Vec<FinishedPack>, WriteError> {
        [&self.data, &self.metadata]
            .into_iter()
            .filter_map(|slot| lock(slot).take())
            .map(|pack| self.close(pack))
            .collect()
    }
}
