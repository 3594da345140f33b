//! Error correction: parity beside sealed bytes, so that a few that rot can be computed back.
//!
//! The payload, with its length in front, is cut into shards. Every block of `D` data shards gets `R` parity shards, and
//! every shard a CRC-32. A shard whose CRC-32 does not fit counts as lost; up to `R` lost ones of a block come back.
//!
//! ```text
//! stored = parity of all blocks (CRC ‖ shard)… ‖ data of all blocks (CRC ‖ shard)…
//! ```
//! Short payloads use six data and two parity shards; longer ones the shards that the repository's overhead asks for. Where
//! there is more than one block, the padding of the last one is not stored.
//!
//! Guarantees: what [`ReedSolomonCrc32::decode`] returns has the length that was encoded, and every byte of it comes from
//! a shard whose CRC-32 fits or was computed from such shards. That is proof against rot, not against an attacker: the
//! cipher below proves the rest. Memory beyond the stored bytes themselves is bounded by the shards of one block.
//!
//! Source: kopia.md section 9.

mod galois;

use crc32fast::Hasher;

use crate::Error;
use galois::{Matrix, Multiples};

/// The only algorithm's name in a repository's `ecc` field.
pub const KOPIA_NAME: &str = "REED-SOLOMON-CRC32";

/// The most that parity may add, in percent.
pub const OVERHEAD_PERCENT_MAX: u32 = 100;

const CRC_BYTES: usize = 4;

/// In front of the payload: its length, big-endian.
const LENGTH_BYTES: usize = 4;

/// Data and parity shards of a short payload.
const SMALL: (usize, usize) = (6, 2);

/// No shard is longer, in bytes, whatever the overhead.
const SHARD_BYTES_MAX: usize = 1024;

/// Reed–Solomon over GF(2⁸) with a CRC-32 a shard, as a repository with a given overhead uses it.
#[derive(Clone, Debug)]
pub struct ReedSolomonCrc32 {
    small: Code,
    large: Code,
    /// Longest shard of `large`, in bytes.
    shard_bytes_max: usize,
}

/// So many data shards, so many parity shards, and how the ones follow from the others.
#[derive(Clone, Debug)]
struct Code {
    data: usize,
    parity: usize,
    /// A row a parity shard, a column a data shard.
    rows: Matrix,
}

/// How the bytes of one payload lie in shards.
#[derive(Clone, Copy)]
struct Layout<'a> {
    code: &'a Code,
    shard_bytes: usize,
    block_count: usize,
    /// All shards are stored whole.
    padded: bool,
}

impl ReedSolomonCrc32 {
    /// Works out shards for an overhead of 1 to 100 percent. None outside of that.
    pub fn new(overhead_percent: u32) -> Option<Self> {
        if !(1..=OVERHEAD_PERCENT_MAX).contains(&overhead_percent) {
            return None;
        }
        let shard_bytes_max = match overhead_percent {
            1 => SHARD_BYTES_MAX,
            2 => 512,
            3 => 256,
            4..=6 => 128,
            _ => 64,
        };
        let (data, parity) = shard_counts(overhead_percent as f32, shard_bytes_max);
        Some(Self { small: Code::new(SMALL.0, SMALL.1), large: Code::new(data, parity), shard_bytes_max })
    }

    /// Length of what is stored for a payload of so many bytes.
    pub fn encoded_bytes(&self, payload_bytes: usize) -> usize {
        let layout = self.layout_of_stream(payload_bytes + LENGTH_BYTES);
        layout.parity_bytes() + layout.stored_data_bytes(payload_bytes + LENGTH_BYTES)
    }

    /// Appends what is to be stored for `payload` to `out`.
    ///
    /// # Errors
    /// [`Error::PlaintextTooLong`] from 4 GiB on; `out` is then as it was.
    pub fn encode(&self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        let too_long = || Error::PlaintextTooLong { length_bytes: payload.len() };
        let length = u32::try_from(payload.len()).map_err(|_| too_long())?.to_be_bytes();
        let layout = self.layout_of_stream(payload.len() + LENGTH_BYTES);
        let start = out.len();
        out.reserve(self.encoded_bytes(payload.len()));
        out.resize(start + layout.parity_bytes(), 0);
        layout.append_data(&length, payload, out);
        let (parity, data) = out[start..].split_at_mut(layout.parity_bytes());
        layout.write_parity(data, parity);
        Ok(())
    }

    /// Turns stored bytes back into the payload, a part of `stored`; shards that changed are computed back on the way.
    ///
    /// The count is that of shards that had changed, among those that were looked at. After an error the content of
    /// `stored` means nothing.
    ///
    /// # Errors
    /// [`Error::BeyondRepair`] when more shards of a block changed than it has parity, or the length is not one that
    /// [`ReedSolomonCrc32::encode`] makes.
    pub fn decode<'a>(&self, stored: &'a mut [u8]) -> Result<(&'a mut [u8], usize), Error> {
        let stored_bytes = stored.len();
        let layout = self.layout_of_stored(stored_bytes)?;
        let (parity, data) = stored.split_at_mut(layout.parity_bytes());
        let repaired = layout.repair(parity, data)?;
        layout.compact(stored);
        let (length, rest) = stored.split_first_chunk_mut::<LENGTH_BYTES>().ok_or(Error::BeyondRepair)?;
        let payload_bytes = u32::from_be_bytes(*length) as usize;
        if payload_bytes > rest.len() || self.encoded_bytes(payload_bytes) != stored_bytes {
            return Err(Error::BeyondRepair);
        }
        Ok((&mut rest[..payload_bytes], repaired))
    }

    /// Longest stream that is laid out as a short one, in bytes.
    fn small_stream_bytes_max(&self) -> usize {
        8 * (self.large.data + self.large.parity)
    }

    fn layout_of_stream(&self, stream_bytes: usize) -> Layout<'_> {
        if stream_bytes <= self.small_stream_bytes_max() {
            return Layout::one_block(&self.small, stream_bytes.div_ceil(self.small.data));
        }
        let block_bytes = self.large.data * self.shard_bytes_max;
        if stream_bytes <= block_bytes {
            return Layout::one_block(&self.large, stream_bytes.div_ceil(self.large.data));
        }
        self.blocks(stream_bytes.div_ceil(block_bytes))
    }

    fn layout_of_stored(&self, stored_bytes: usize) -> Result<Layout<'_>, Error> {
        let stored_max = |code: &Code, shard_bytes| (code.data + code.parity) * (CRC_BYTES + shard_bytes);
        let small_max = stored_max(&self.small, self.small_stream_bytes_max().div_ceil(self.small.data));
        for (code, longest) in [(&self.small, small_max), (&self.large, stored_max(&self.large, self.shard_bytes_max))]
        {
            if stored_bytes > longest {
                continue;
            }
            let shard_count = code.data + code.parity;
            let shard_bytes = (stored_bytes / shard_count).checked_sub(CRC_BYTES).filter(|bytes| *bytes > 0);
            let whole = stored_bytes.is_multiple_of(shard_count);
            return shard_bytes
                .filter(|_| whole)
                .map(|shard_bytes| Layout::one_block(code, shard_bytes))
                .ok_or(Error::BeyondRepair);
        }
        let layout = self.blocks(stored_bytes.div_ceil(stored_max(&self.large, self.shard_bytes_max)));
        if layout.parity_bytes() < stored_bytes { Ok(layout) } else { Err(Error::BeyondRepair) }
    }

    fn blocks(&self, block_count: usize) -> Layout<'_> {
        Layout { code: &self.large, shard_bytes: self.shard_bytes_max, block_count, padded: false }
    }
}

/// Data and parity shards of a block. The arithmetic is Kopia's, single precision included.
fn shard_counts(overhead_percent: f32, shard_bytes_max: usize) -> (usize, usize) {
    const DATA: usize = 128;
    const DATA_MAX: usize = 254;
    /// Kopia's allowance for the checksums, in percent times bytes.
    const CHECKSUM_SHARE: f32 = 400.0;
    let for_parity = (overhead_percent - CHECKSUM_SHARE / shard_bytes_max as f32).max(0.01);
    let parity = (DATA as f64 * f64::from(for_parity / 100.0)).floor() as usize;
    if parity > 1 {
        return (DATA, parity.min(DATA));
    }
    let data = (2.0 * f64::from(100.0 / for_parity)).floor() as usize;
    (data.clamp(DATA, DATA_MAX), 2)
}

impl Code {
    fn new(data: usize, parity: usize) -> Self {
        Self { data, parity, rows: Matrix::parity(data, parity) }
    }
}

impl<'a> Layout<'a> {
    fn one_block(code: &'a Code, shard_bytes: usize) -> Self {
        Self { code, shard_bytes, block_count: 1, padded: true }
    }

    fn unit_bytes(&self) -> usize {
        CRC_BYTES + self.shard_bytes
    }

    fn parity_bytes(&self) -> usize {
        self.block_count * self.code.parity * self.unit_bytes()
    }

    fn stored_data_bytes(&self, stream_bytes: usize) -> usize {
        if self.padded {
            return self.code.data * self.unit_bytes();
        }
        stream_bytes + stream_bytes.div_ceil(self.shard_bytes) * CRC_BYTES
    }

    /// Appends the length and the payload as data shards.
    fn append_data(&self, length: &[u8], payload: &[u8], out: &mut Vec<u8>) {
        let stream_bytes = length.len() + payload.len();
        let shard_count = if self.padded { self.code.data } else { stream_bytes.div_ceil(self.shard_bytes) };
        let (mut length, mut payload) = (length, payload);
        for _ in 0..shard_count {
            let crc_at = out.len();
            out.extend_from_slice(&[0; CRC_BYTES]);
            for part in [&mut length, &mut payload] {
                let room = self.shard_bytes - (out.len() - crc_at - CRC_BYTES);
                let (taken, rest) = part.split_at(room.min(part.len()));
                out.extend_from_slice(taken);
                *part = rest;
            }
            if self.padded {
                out.resize(crc_at + self.unit_bytes(), 0);
            }
            let crc = self.crc(&out[crc_at + CRC_BYTES..]);
            out[crc_at..crc_at + CRC_BYTES].copy_from_slice(&crc.to_be_bytes());
        }
    }

    /// The CRC-32 of a shard, filled up with zeros.
    fn crc(&self, shard: &[u8]) -> u32 {
        const ZEROS: [u8; SHARD_BYTES_MAX] = [0; SHARD_BYTES_MAX];
        let mut hasher = Hasher::new();
        hasher.update(shard);
        hasher.update(&ZEROS[..self.shard_bytes - shard.len()]);
        hasher.finalize()
    }

    fn write_parity(&self, data: &[u8], parity: &mut [u8]) {
        let mut multiples = Multiples::new();
        for (block, parity) in parity.chunks_mut(self.code.parity * self.unit_bytes()).enumerate() {
            for column in 0..self.code.data {
                let Some(shard) = self.stored_shard(data, block, column) else { break };
                multiples.of(shard);
                for (row, unit) in parity.chunks_mut(self.unit_bytes()).enumerate() {
                    multiples.add(self.code.rows.at(row, column), &mut unit[CRC_BYTES..]);
                }
            }
            for unit in parity.chunks_mut(self.unit_bytes()) {
                let crc = self.crc(&unit[CRC_BYTES..]);
                unit[..CRC_BYTES].copy_from_slice(&crc.to_be_bytes());
            }
        }
    }

    /// Where a data shard and its CRC-32 lie. Empty when it is padding that is not stored.
    fn unit_range(&self, data: &[u8], block: usize, column: usize) -> std::ops::Range<usize> {
        let start = (block * self.code.data + column) * self.unit_bytes();
        start.min(data.len())..(start + self.unit_bytes()).min(data.len())
    }

    /// The stored part of a data shard, if any.
    fn stored_shard<'d>(&self, data: &'d [u8], block: usize, column: usize) -> Option<&'d [u8]> {
        data[self.unit_range(data, block, column)].get(CRC_BYTES..).filter(|shard| !shard.is_empty())
    }

    fn fits(&self, unit: &[u8]) -> bool {
        unit.split_first_chunk().is_some_and(|(crc, shard)| u32::from_be_bytes(*crc) == self.crc(shard))
    }

    /// Computes every lost data shard back, in place. How many there were.
    fn repair(&self, parity: &[u8], data: &mut [u8]) -> Result<usize, Error> {
        let mut repaired = 0;
        for block in 0..self.block_count {
            let lost: Vec<usize> = (0..self.code.data)
                .filter(|column| {
                    let unit = &data[self.unit_range(data, block, *column)];
                    !unit.is_empty() && !self.fits(unit)
                })
                .collect();
            if !lost.is_empty() {
                let block_bytes = self.code.parity * self.unit_bytes();
                self.repair_block(block, &lost, &parity[block * block_bytes..][..block_bytes], data)?;
                repaired += lost.len();
            }
        }
        Ok(repaired)
    }

    /// Solves for the lost shards: what a parity shard lacks once all others are taken off is the lost ones' share.
    fn repair_block(&self, block: usize, lost: &[usize], parity: &[u8], data: &mut [u8]) -> Result<(), Error> {
        let (rows, mut shares): (Vec<usize>, Vec<Vec<u8>>) = parity
            .chunks(self.unit_bytes())
            .enumerate()
            .filter(|(_, unit)| self.fits(unit))
            .take(lost.len())
            .map(|(row, unit)| (row, unit[CRC_BYTES..].to_vec()))
            .unzip();
        if rows.len() < lost.len() {
            return Err(Error::BeyondRepair);
        }
        let mut multiples = Multiples::new();
        for column in (0..self.code.data).filter(|column| !lost.contains(column)) {
            let Some(shard) = self.stored_shard(data, block, column) else { break };
            multiples.of(shard);
            for (row, share) in rows.iter().zip(&mut shares) {
                multiples.add(self.code.rows.at(*row, column), share);
            }
        }
        let solution = self.code.rows.part(&rows, lost).inverse().ok_or(Error::BeyondRepair)?;
        let mut found = vec![vec![0; self.shard_bytes]; lost.len()];
        for (column, share) in shares.iter().enumerate() {
            multiples.of(share);
            for (row, shard) in found.iter_mut().enumerate() {
                multiples.add(solution.at(row, column), shard);
            }
        }
        for (column, shard) in lost.iter().zip(&found) {
            let unit = self.unit_range(data, block, *column);
            let stored = data[unit].get_mut(CRC_BYTES..).ok_or(Error::BeyondRepair)?;
            stored.copy_from_slice(&shard[..stored.len()]);
        }
        Ok(())
    }

    /// Moves the data shards to the front, without their checksums.
    fn compact(&self, stored: &mut [u8]) {
        let first = self.parity_bytes() + CRC_BYTES;
        for (shard, from) in (first..stored.len()).step_by(self.unit_bytes()).enumerate() {
            let to = (from + self.shard_bytes).min(stored.len());
            stored.copy_within(from..to, shard * self.shard_bytes);
        }
    }
}

#[cfg(test)]
mod tests;
