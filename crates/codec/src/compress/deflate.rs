//! gzip (RFC 1952, one or several members) and raw DEFLATE (RFC 1951).

use std::io::Write;

use flate2::bufread::MultiGzDecoder;
use flate2::write::{DeflateEncoder, GzEncoder};
use flate2::{Compression, Decompress, FlushDecompress, Status};

use super::{Problem, read_all};

/// By how much the output grows at a time where the stream does not say its length.
const GROWTH_BYTES: usize = 256 << 10;

pub fn compress_gzip(level: u32, input: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    let mut encoder = GzEncoder::new(out, Compression::new(level));
    encoder.write_all(input).and_then(|()| encoder.try_finish()).map_err(|error| error.to_string())
}

pub fn compress_raw(level: u32, input: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    let mut encoder = DeflateEncoder::new(out, Compression::new(level));
    encoder.write_all(input).and_then(|()| encoder.try_finish()).map_err(|error| error.to_string())
}

pub fn decompress_gzip(stream: &[u8], max_bytes: usize, out: &mut Vec<u8>) -> Result<(), Problem> {
    // The last member ends with its length, which is all there is in a stream of one member.
    let length = stream.last_chunk().map_or(0, |length| u32::from_le_bytes(*length) as usize);
    out.reserve(length.min(max_bytes) + 1);
    read_all(MultiGzDecoder::new(stream), max_bytes, out)
}

/// Bytes behind the end of the DEFLATE stream are ignored, as Kopia does.
pub fn decompress_raw(stream: &[u8], max_bytes: usize, out: &mut Vec<u8>) -> Result<(), Problem> {
    let start = out.len();
    let mut inflate = Decompress::new(false);
    let mut rest = stream;
    loop {
        out.reserve(GROWTH_BYTES);
        let (before_in, before_out) = (inflate.total_in(), inflate.total_out());
        let status = inflate.decompress_vec(rest, out, FlushDecompress::None).map_err(Problem::damaged)?;
        rest = &rest[(inflate.total_in() - before_in) as usize..];
        if out.len() - start > max_bytes {
            return Err(Problem::TooLong);
        }
        match status {
            Status::StreamEnd => return Ok(()),
            Status::Ok | Status::BufError => {
                if inflate.total_in() == before_in && inflate.total_out() == before_out {
                    return Err(Problem::damaged("ends early"));
                }
            }
        }
    }
}
