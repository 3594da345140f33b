//! Zstandard frames (RFC 8878).

use std::cell::RefCell;
use std::io::Cursor;

use zstd::zstd_safe::{
    CCtx, CParameter, DCtx, DParameter, InBuffer, OutBuffer, ResetDirective, compress_bound,
    find_frame_compressed_size, get_error_name, get_frame_content_size,
};

use super::{Problem, starts_with_all};

/// Largest window of a stream that is decoded piece by piece, as a power of two: 128 MiB. Kopia writes at most 8 MiB.
const WINDOW_LOG_MAX: u32 = 27;

/// By how much the output grows at a time where a frame does not say its length.
const GROWTH_BYTES: usize = 256 << 10;

/// A stated length up to this is believed, in bytes: contents are 8 MiB long at most but for a few.
const RESERVED_BYTES_MAX: u64 = 16 << 20;

/// A longer one only where the stream would have to be compressed no better than this.
const RATIO_MAX: u64 = 256;

thread_local! {
    /// Making a context takes longer than decompressing a few KiB. One that decompresses in one call keeps no window.
    static WHOLE_FRAMES: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };

    /// The same for one that decompresses piece by piece and keeps a window.
    static STREAMS: RefCell<Option<DCtx<'static>>> = const { RefCell::new(None) };
}

/// A compression context, allocated when first used and kept between inputs.
#[derive(Default)]
pub struct Encoder {
    context: Option<CCtx<'static>>,
}

impl Encoder {
    pub fn compress(&mut self, level: i32, input: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        let context = self.context()?;
        let start = out.len();
        out.reserve(compress_bound(input.len()));
        let mut rest = Cursor::new(out);
        rest.set_position(start as u64);
        context.compress(&mut rest, input, level).map_err(|code| get_error_name(code).to_owned())?;
        Ok(())
    }

    pub fn compress_parts(&mut self, level: i32, parts: &[&[u8]], out: &mut Vec<u8>) -> Result<(), String> {
        let refused = |code: usize| get_error_name(code).to_owned();
        let context = self.context()?;
        let length: usize = parts.iter().map(|part| part.len()).sum();
        context.reset(ResetDirective::SessionOnly).map_err(refused)?;
        context.set_parameter(CParameter::CompressionLevel(level)).map_err(refused)?;
        context.set_pledged_src_size(Some(length as u64)).map_err(refused)?;
        out.reserve_exact(compress_bound(length));
        let start = out.len();
        let mut output = OutBuffer::around_pos(out, start);
        for part in parts {
            let mut input = InBuffer::around(part);
            while input.pos() < part.len() {
                context.compress_stream(&mut output, &mut input).map_err(refused)?;
            }
        }
        match context.end_stream(&mut output).map_err(refused)? {
            0 => Ok(()),
            left => Err(format!("{left} bytes more than the bound")),
        }
    }

    fn context(&mut self) -> Result<&mut CCtx<'static>, String> {
        match &mut self.context {
            Some(context) => Ok(context),
            none => Ok(none.insert(CCtx::try_create().ok_or("no memory for a context")?)),
        }
    }
}

pub fn decompress(stream: &[u8], max_bytes: usize, out: &mut Vec<u8>) -> Result<(), Problem> {
    match content_bytes(stream)? {
        Some(length) if length > max_bytes as u64 => Err(Problem::TooLong),
        Some(length) if is_plausible(length, stream) => decompress_known(stream, length as usize, out),
        _ => decompress_unknown(stream, max_bytes, out),
    }
}

/// Whether memory is taken on the word of the frames' headers.
fn is_plausible(length: u64, stream: &[u8]) -> bool {
    length <= RESERVED_BYTES_MAX || length / RATIO_MAX <= stream.len() as u64
}

/// Sum of the lengths that the frames' headers state; none where a frame states none.
fn content_bytes(stream: &[u8]) -> Result<Option<u64>, Problem> {
    let mut sum = 0_u64;
    let mut rest = stream;
    while !rest.is_empty() {
        match get_frame_content_size(rest) {
            Ok(Some(length)) => sum = sum.saturating_add(length),
            Ok(None) => return Ok(None),
            Err(_) => return Err(Problem::damaged("not a frame")),
        }
        let frame = find_frame_compressed_size(rest).map_err(damaged)?;
        rest = rest.get(frame..).ok_or_else(|| Problem::damaged("frame ends early"))?;
    }
    Ok(Some(sum))
}

/// Compares piece by piece, and keeps one piece and the window.
pub fn decompresses_to(stream: &[u8], parts: &[&[u8]]) -> bool {
    STREAMS.with_borrow_mut(|kept| {
        let context = match kept {
            Some(context) => context,
            none => match context() {
                Ok(context) => none.insert(context),
                Err(_) => return false,
            },
        };
        context.reset(ResetDirective::SessionOnly).is_ok() && equals(context, stream, parts)
    })
}

fn equals(context: &mut DCtx<'static>, stream: &[u8], parts: &[&[u8]]) -> bool {
    let mut expected = parts.iter().copied();
    let mut part: &[u8] = &[];
    let mut piece = Vec::with_capacity(GROWTH_BYTES);
    let mut input = InBuffer::around(stream);
    loop {
        piece.clear();
        let before = input.pos();
        let Ok(missing) = context.decompress_stream(&mut OutBuffer::around(&mut piece), &mut input) else {
            return false;
        };
        if !starts_with_all(&mut expected, &mut part, &piece) {
            return false;
        }
        if missing == 0 && input.pos() == stream.len() {
            return part.is_empty() && expected.all(<[u8]>::is_empty);
        }
        if input.pos() == before && piece.is_empty() {
            return false;
        }
    }
}

/// All frames in one call, straight into place: no window, no copy.
fn decompress_known(stream: &[u8], length: usize, out: &mut Vec<u8>) -> Result<(), Problem> {
    let start = out.len();
    out.reserve(length);
    let mut rest = Cursor::new(out);
    rest.set_position(start as u64);
    let decompressed = WHOLE_FRAMES.with_borrow_mut(|kept| {
        let context = match kept {
            Some(context) => context,
            none => none.insert(context()?),
        };
        context.decompress(&mut rest, stream).map_err(damaged)
    })?;
    if decompressed != length {
        return Err(Problem::damaged("frame has another length than stated"));
    }
    Ok(())
}

fn decompress_unknown(stream: &[u8], max_bytes: usize, out: &mut Vec<u8>) -> Result<(), Problem> {
    let mut context = context()?;
    context.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX)).map_err(damaged)?;
    let start = out.len();
    let mut input = InBuffer::around(stream);
    loop {
        out.reserve(GROWTH_BYTES);
        let (before_in, before_out) = (input.pos(), out.len());
        let mut output = OutBuffer::around_pos(&mut *out, before_out);
        let missing = context.decompress_stream(&mut output, &mut input).map_err(damaged)?;
        if out.len() - start > max_bytes {
            return Err(Problem::TooLong);
        }
        if missing == 0 && input.pos() == stream.len() {
            return Ok(());
        }
        if input.pos() == before_in && out.len() == before_out {
            return Err(Problem::damaged("ends early"));
        }
    }
}

fn context() -> Result<DCtx<'static>, Problem> {
    DCtx::try_create().ok_or_else(|| Problem::damaged("no memory for a context"))
}

fn damaged(code: usize) -> Problem {
    Problem::damaged(get_error_name(code))
}
