//! LZ4 frames, read only.

use lz4_flex::frame::FrameDecoder;

use super::{Problem, read_all};

pub fn decompress(stream: &[u8], max_bytes: usize, out: &mut Vec<u8>) -> Result<(), Problem> {
    read_all(FrameDecoder::new(stream), max_bytes, out)
}
