//! Chunks into packs: hashed, left out if known, else compressed, encrypted and appended.
//!
//! Filling a pack is a copy under a lock, done by whoever sealed the content; the thread that fills one up hands it on.

use codec::compress::Algorithm;
use repository::ContentId;
use repository_kopia::{FinishedPack, ObjectId, PREFIX_DATA, Packer, Reservation, Sealer, Session};

use super::BackupError;
use super::chunk::Batch;
use super::tree::Finished;
use crate::lane::{Receiver, Sender, Stopped};
use crate::meter::{Counter, Meter};

/// Room in a pack's buffer beyond its contents: padding, local index, postamble.
const PACK_EXTRA_BYTES: usize = 256 << 10;

/// Everything that turns bytes into stored contents.
#[derive(Clone)]
pub(super) struct Seal<'a> {
    pub(super) session: &'a Session<'a>,
    pub(super) packer: &'a Packer<'a>,
    pub(super) to_upload: Sender<FinishedPack>,
    /// Memory of packs that have been uploaded.
    pub(super) buffers: Receiver<Vec<u8>>,
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
        bytes: &[u8],
        compression: Option<Algorithm>,
    ) -> Result<ObjectId, BackupError> {
        let repository = self.seal.session.repository();
        if let Some(algorithm) = compression.filter(|_| repository.compresses_objects())
            && let Some(compressed) = self.sealer.compress_object(content, bytes, algorithm)?
        {
            let content = repository.content_id(PREFIX_DATA, &compressed);
            self.store(content, &compressed, None)?;
            return Ok(ObjectId { compressed: true, ..ObjectId::direct(content) });
        }
        self.store(content, bytes, compression)?;
        Ok(ObjectId::direct(content))
    }

    /// Makes sure that a content is on its way into the repository.
    pub(super) fn store(
        &mut self,
        content: ContentId,
        bytes: &[u8],
        compression: Option<Algorithm>,
    ) -> Result<(), BackupError> {
        let Seal { session, packer, to_upload, buffers, meter } = self.seal;
        let Reservation::New { replaces, ticket } = session.reserve(&content)? else { return Ok(()) };
        meter.add(Counter::ContentsNew, 1);
        meter.add(Counter::BytesNew, bytes.len() as u64);
        let buffer = || match buffers.try_recv() {
            Ok(buffer) => buffer,
            Err(_) => Vec::with_capacity(session.repository().max_pack_bytes() as usize + PACK_EXTRA_BYTES),
        };
        let mut full = |pack| to_upload.send(pack).map_err(|_| BackupError::from(Stopped));
        self.sealer.seal(content, bytes, compression, &mut self.scratch, |sealed, out| {
            packer.push(&sealed, out, replaces, buffer, &mut full)
        })??;
        ticket.end();
        Ok(())
    }
}

pub(super) fn run(batches: &Receiver<Batch>, to_tree: &Sender<Finished>, seal: &Seal<'_>) -> Result<(), BackupError> {
    let mut worker = Worker::new(seal);
    let mut contents = Vec::new();
    for batch in batches {
        let bytes: Vec<&[u8]> = batch.chunks.iter().map(|chunk| &batch.buffer[chunk.range.clone()]).collect();
        seal.session.repository().content_ids(PREFIX_DATA, &bytes, &mut contents);
        for ((chunk, bytes), content) in batch.chunks.iter().zip(&bytes).zip(contents.drain(..)) {
            let object = worker.store_piece(content, bytes, chunk.file.compression)?;
            let length_bytes = bytes.len() as u64;
            seal.meter.add(Counter::BytesDone, length_bytes);
            if let Some(file) = chunk.file.piece_done(chunk.number, object, length_bytes) {
                to_tree.send(file).map_err(|_| Stopped)?;
            }
        }
    }
    Ok(())
}
