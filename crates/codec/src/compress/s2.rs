//! S2 streams: Snappy's framing around blocks with larger sizes and repeated offsets.
//!
//! ```text
//! stream = chunk…      chunk = type (1) ‖ length of body (3, little-endian) ‖ body
//! 0xff        start of a stream: "S2sTwO" or "sNaPpY"
//! 0x00        masked CRC-32C of the plain bytes (4, little-endian) ‖ S2 block
//! 0x01        the same CRC ‖ plain bytes
//! 0x80..0xfe  skipped: indexes and padding
//! ```
//!
//! The framing stands here, so that blocks go straight to their place; the blocks themselves are the `minlz` crate's.

use super::{Problem, crc32c};

const CHUNK_COMPRESSED: u8 = 0x00;
const CHUNK_PLAIN: u8 = 0x01;
const CHUNK_STREAM_START: u8 = 0xff;
const CHUNK_SKIPPABLE_MIN: u8 = 0x80;
const MAGIC_S2: &[u8] = b"S2sTwO";
const MAGIC_SNAPPY: &[u8] = b"sNaPpY";
const CRC_BYTES: usize = 4;

/// Plain bytes in one block as written; Kopia's library writes the same.
const BLOCK_BYTES: usize = 1 << 20;

/// Longest block that S2 allows, in plain bytes.
const BLOCK_BYTES_MAX: usize = 4 << 20;

/// The block encoder's tables, kept between inputs.
#[derive(Default)]
pub struct Encoder {
    tables: minlz::s2::Encoder,
}

impl Encoder {
    pub fn compress(&mut self, input: &[u8], out: &mut Vec<u8>) {
        self.stream(input, out, minlz::s2::Encoder::encode);
    }

    pub fn compress_better(&mut self, input: &[u8], out: &mut Vec<u8>) {
        self.stream(input, out, minlz::s2::Encoder::encode_better);
    }

    fn stream(&mut self, input: &[u8], out: &mut Vec<u8>, encode: fn(&mut minlz::s2::Encoder, &[u8]) -> Vec<u8>) {
        chunk(CHUNK_STREAM_START, &[], MAGIC_S2, out);
        for plain in input.chunks(BLOCK_BYTES) {
            let crc = crc32c::masked(plain).to_le_bytes();
            let block = encode(&mut self.tables, plain);
            if block.len() < plain.len() {
                chunk(CHUNK_COMPRESSED, &crc, &block, out);
            } else {
                chunk(CHUNK_PLAIN, &crc, plain, out);
            }
        }
    }
}

/// Appends a chunk; the body, at most [`BLOCK_BYTES`] and a CRC, always fits into three bytes of length.
fn chunk(kind: u8, crc: &[u8], body: &[u8], out: &mut Vec<u8>) {
    let [low, middle, high, ..] = (crc.len() + body.len()).to_le_bytes();
    out.extend_from_slice(&[kind, low, middle, high]);
    out.extend_from_slice(crc);
    out.extend_from_slice(body);
}

pub fn decompress(stream: &[u8], max_bytes: usize, out: &mut Vec<u8>) -> Result<(), Problem> {
    let start = out.len();
    let mut rest = stream;
    let mut started = false;
    while let Some((&[kind, low, middle, high], after)) = rest.split_first_chunk() {
        let length = u32::from_le_bytes([low, middle, high, 0]) as usize;
        let (body, after) = after.split_at_checked(length).ok_or_else(|| Problem::damaged("chunk ends early"))?;
        rest = after;
        let room = max_bytes - (out.len() - start);
        match kind {
            CHUNK_STREAM_START if body == MAGIC_S2 || body == MAGIC_SNAPPY => started = true,
            CHUNK_STREAM_START => return Err(Problem::damaged("unknown stream start")),
            _ if !started => return Err(Problem::damaged("no stream start")),
            CHUNK_COMPRESSED => decompress_block(body, room, out)?,
            CHUNK_PLAIN => append_plain(body, room, out)?,
            CHUNK_SKIPPABLE_MIN.. => {}
            _ => return Err(Problem::damaged("unknown chunk")),
        }
    }
    if rest.is_empty() { Ok(()) } else { Err(Problem::damaged("chunk ends early")) }
}

fn decompress_block(body: &[u8], room: usize, out: &mut Vec<u8>) -> Result<(), Problem> {
    let (crc, block) = split_crc(body)?;
    let (length, _) = minlz::s2::decode_len(block).map_err(Problem::damaged)?;
    check_length(length, room)?;
    let start = out.len();
    out.resize(start + length, 0);
    minlz::decode_into(&mut out[start..], block).map_err(Problem::damaged)?;
    check_crc(crc, &out[start..])
}

fn append_plain(body: &[u8], room: usize, out: &mut Vec<u8>) -> Result<(), Problem> {
    let (crc, plain) = split_crc(body)?;
    check_length(plain.len(), room)?;
    out.extend_from_slice(plain);
    check_crc(crc, plain)
}

fn split_crc(body: &[u8]) -> Result<(u32, &[u8]), Problem> {
    let (crc, data) = body.split_first_chunk::<CRC_BYTES>().ok_or_else(|| Problem::damaged("chunk without CRC"))?;
    Ok((u32::from_le_bytes(*crc), data))
}

fn check_length(length: usize, room: usize) -> Result<(), Problem> {
    if length > BLOCK_BYTES_MAX {
        return Err(Problem::damaged("block longer than 4 MiB"));
    }
    if length > room { Err(Problem::TooLong) } else { Ok(()) }
}

fn check_crc(expected: u32, plain: &[u8]) -> Result<(), Problem> {
    if crc32c::masked(plain) == expected { Ok(()) } else { Err(Problem::damaged("CRC differs")) }
}
