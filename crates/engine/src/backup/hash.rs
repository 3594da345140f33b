//! Chunks under their names: the hash of their bytes.
//!
//! A processor hashes several inputs side by side for little more than the price of one. So the pieces of large files are
//! hashed in lanes; as one ends the next takes its place. While a lane is empty and the readers still have memory to read
//! into, their next piece is waited for; when they have none, they say so, and hashing is what gives it back.

use repository::ContentId;
use repository_kopia::{ContentHasher, PREFIX_DATA, Repository};

use super::BackupError;
use super::chunk::Chunk;
use crate::lane::{Receiver, Sender, Stopped, TryRecvError};
use crate::pool::Pool;

/// A chunk and its name.
pub(super) struct Hashed {
    pub(super) chunk: Chunk,
    pub(super) content: ContentId,
}

/// What one thread hashes with.
pub(super) struct Hashing<'a> {
    pub(super) repository: &'a Repository,
    pub(super) to_seal: Sender<Vec<Hashed>>,
    pub(super) segments: &'a Pool,
    /// Only a thread that is alone may wait for its lanes to fill: with others, each could wait for what another holds.
    pub(super) is_alone: bool,
}

/// A chunk that is being hashed.
struct Lane {
    chunk: Chunk,
    hasher: ContentHasher,
    /// Which of its parts is next, and from where.
    part: usize,
    offset: usize,
}

pub(super) fn run(chunks: &Receiver<Vec<Chunk>>, hashing: &Hashing<'_>) -> Result<(), BackupError> {
    let width = hashing.repository.hash_lanes();
    let mut lanes: Vec<Lane> = Vec::with_capacity(width);
    loop {
        while lanes.len() < width {
            let may_wait = lanes.is_empty() || (hashing.is_alone && !hashing.segments.is_exhausted());
            let received = if may_wait { chunks.recv().map_err(TryRecvError::from) } else { chunks.try_recv() };
            match received {
                Ok(chunks) => hashing.take(chunks, width, &mut lanes)?,
                Err(TryRecvError::Disconnected) if lanes.is_empty() => return Ok(()),
                Err(TryRecvError::Disconnected | TryRecvError::Empty) => break,
            }
        }
        hashing.step(&mut lanes)?;
    }
}

impl Hashing<'_> {
    /// Many short chunks are hashed at once, others get lanes.
    fn take(&self, chunks: Vec<Chunk>, width: usize, lanes: &mut Vec<Lane>) -> Result<(), BackupError> {
        let (short, long): (Vec<Chunk>, Vec<Chunk>) = match chunks.len() < width {
            true => (Vec::new(), chunks),
            false => chunks.into_iter().partition(|chunk| chunk.whole().is_some()),
        };
        lanes.extend(long.into_iter().map(|chunk| {
            let hasher = self.repository.content_hasher(PREFIX_DATA);
            Lane { chunk, hasher, part: 0, offset: 0 }
        }));
        let bytes: Vec<&[u8]> = short.iter().filter_map(Chunk::whole).collect();
        let mut contents = Vec::with_capacity(bytes.len());
        self.repository.content_ids(PREFIX_DATA, &bytes, &mut contents);
        self.send(short.into_iter().zip(contents).map(|(chunk, content)| Hashed { chunk, content }).collect())
    }

    /// Hashes as much of each lane as the one with the shortest part has.
    fn step(&self, lanes: &mut Vec<Lane>) -> Result<(), BackupError> {
        let length = lanes.iter().map(|lane| lane.part().len()).min().unwrap_or(0);
        ContentHasher::update_many(lanes.iter_mut().map(|lane| {
            let part = lane.chunk.part(lane.part);
            (&mut lane.hasher, &part[lane.offset..lane.offset + length])
        }));
        lanes.iter_mut().for_each(|lane| lane.advance(length));
        let ended = lanes.extract_if(.., |lane| lane.part().is_empty());
        self.send(ended.map(|lane| Hashed { content: lane.hasher.finish(), chunk: lane.chunk }).collect())
    }

    fn send(&self, hashed: Vec<Hashed>) -> Result<(), BackupError> {
        if hashed.is_empty() { Ok(()) } else { self.to_seal.send(hashed).map_err(|_| Stopped.into()) }
    }
}

impl Lane {
    /// What comes next; empty at the end.
    fn part(&self) -> &[u8] {
        &self.chunk.part(self.part)[self.offset..]
    }

    fn advance(&mut self, length: usize) {
        self.offset += length;
        if self.part().is_empty() {
            (self.part, self.offset) = (self.part + 1, 0);
        }
    }
}
