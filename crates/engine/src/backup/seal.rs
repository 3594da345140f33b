//! Chunks into packs: left out if known, else compressed, encrypted and appended.
//!
//! Filling a pack is a copy under a lock, done by whoever sealed the content; the thread that fills one up hands it on.

use codec::compress::Algorithm;
use repository::ContentId;
use repository_kopia::{FinishedPack, ObjectId, PREFIX_DATA, Packer, Reservation, Sealer, Session};

use super::BackupError;
use super::hash::Hashed;
use super::tree::Finished;
use crate::lane::{Receiver, Sender, Stopped};
use crate::meter::{Counter, Meter};
use crate::pool::Pool;

/// Room in a pack's buffer beyond its contents: padding, local index, postamble.
const PACK_EXTRA_BYTES: usize = 256 << 10;
/// Contents up to this length are sealed in memory that each thread keeps, longer ones in memory that they share.
const SMALL_BYTES: usize = 1 << 20;

/// Everything that turns bytes into stored contents.
#[derive(Clone)]
pub(super) struct Seal<'a> {
    pub(super) session: &'a Session<'a>,
    pub(super) packer: &'a Packer<'a>,
    pub(super) to_upload: Sender<FinishedPack>,
    /// Memory of packs that have been uploaded.
    pub(super) buffers: Receiver<Vec<u8>>,
    /// Memory to seal long contents in.
    pub(super) scratches: &'a Pool,
    pub(super) meter: &'a Meter,
}

/// What one thread needs besides.
pub(super) struct Worker<'a> {
    seal: &'a Seal<'a>,
    sealer: Sealer<'a>,
    scratch: Vec<u8>,
}

impl<'a> Worker<'a> {
    pub(super) fn new(seal: &'a Seal<'a>) -> Self {
        Self { seal, sealer: seal.session.repository().sealer(), scratch: Vec::new() }
    }

    /// Makes sure that a piece of a file is on its way into the repository, and says as which object.
    fn store_piece(
        &mut self,
        content: ContentId,
        parts: &[&[u8]],
        compression: Option<Algorithm>,
    ) -> Result<ObjectId, BackupError> {
        let repository = self.seal.session.repository();
        if let Some(algorithm) = compression.filter(|_| repository.compresses_objects())
            && let Some(compressed) = self.sealer.compress_object(content, parts, algorithm)?
        {
            let content = repository.content_id(PREFIX_DATA, &compressed);
            self.store(content, &[&compressed], None)?;
            return Ok(ObjectId { compressed: true, ..ObjectId::direct(content) });
        }
        self.store(content, parts, compression)?;
        Ok(ObjectId::direct(content))
    }

    /// Makes sure that a content is on its way into the repository.
    pub(super) fn store(
        &mut self,
        content: ContentId,
        parts: &[&[u8]],
        compression: Option<Algorithm>,
    ) -> Result<(), BackupError> {
        let Seal { session, packer, to_upload, buffers, scratches, meter } = self.seal;
        let Reservation::New { replaces, ticket } = session.reserve(&content)? else { return Ok(()) };
        meter.add(Counter::ContentsNew, 1);
        let length: usize = parts.iter().map(|part| part.len()).sum();
        meter.add(Counter::BytesNew, length as u64);
        // A pack of metadata is seldom full: used memory, which the system has given in full, is for those of data.
        let used = || (!content.is_metadata()).then(|| buffers.try_recv().ok()).flatten();
        let capacity = session.repository().max_pack_bytes() as usize + PACK_EXTRA_BYTES;
        let buffer = || used().unwrap_or_else(|| Vec::with_capacity(capacity));
        let mut full = |pack| to_upload.send(pack).map_err(|_| BackupError::from(Stopped));
        let mut shared = (length > SMALL_BYTES).then(|| scratches.take());
        let scratch = shared.as_deref_mut().unwrap_or(&mut self.scratch);
        self.sealer.seal(content, parts, compression, scratch, |sealed, out| {
            packer.push(&sealed, out, replaces, buffer, &mut full)
        })??;
        ticket.end();
        Ok(())
    }
}

pub(super) fn run(
    hashed: &Receiver<Vec<Hashed>>,
    to_tree: &Sender<Finished>,
    seal: &Seal<'_>,
) -> Result<(), BackupError> {
    let mut worker = Worker::new(seal);
    for Hashed { chunk, content } in hashed.into_iter().flatten() {
        let parts: Vec<&[u8]> = chunk.parts().collect();
        let object = worker.store_piece(content, &parts, chunk.file.compression)?;
        let length_bytes = chunk.length_bytes();
        seal.meter.add(Counter::BytesDone, length_bytes);
        if let Some(file) = chunk.file.piece_done(chunk.number, object, length_bytes) {
            to_tree.send(file).map_err(|_| Stopped)?;
        }
    }
    Ok(())
}
