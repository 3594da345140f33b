//! Cutting where a hash over the last 64 bytes has its low bits zero.
//!
//! Whether a byte is a piece's last depends only on the piece's length there and on the 64 bytes up to it. That gives
//! three freedoms, all used here: the first half of a piece, too short to cut, is never hashed; a hash can be taken up
//! anywhere from 64 bytes; and a long stretch is hashed in several lanes side by side, because one hash alone waits for
//! its own last step most of the time.
//!
//! Source: kopia.md section 8.5.

use std::marker::PhantomData;

/// Bytes under the hash.
pub const WINDOW_BYTES: usize = 64;

/// Lanes hashed side by side.
const LANES: usize = 4;

/// Bytes that each lane hashes before the next block; each lane but the first pays [`WINDOW_BYTES`] more.
const LANE_BYTES: usize = 2048;

const BLOCK_BYTES: usize = LANES * LANE_BYTES;

/// A hash over the last [`WINDOW_BYTES`] bytes that moves on by a byte in constant time.
pub trait RollingHash {
    type State: Copy;

    /// The hash of a window of zeros.
    const EMPTY: Self::State;

    fn roll(state: Self::State, leaving: u8, entering: u8) -> Self::State;

    /// The bits that decide.
    fn low_bits(state: Self::State) -> u32;

    /// Moves on from a window that began as zeros.
    #[inline(always)]
    fn enter(state: Self::State, entering: u8) -> Self::State {
        Self::roll(state, 0, entering)
    }
}

/// Cuts after a byte where the hash's low bits are zero and the piece is long enough, and where it is as long as it may.
#[derive(Clone, Debug)]
pub struct Rolling<H> {
    mask: u32,
    min_bytes: usize,
    max_bytes: usize,
    /// Bytes of the unfinished piece; less than `max_bytes`.
    piece_bytes: usize,
    /// The object's last bytes before the next call's; zeros before its first. Pieces do not reset it.
    before: [u8; WINDOW_BYTES],
    hash: PhantomData<H>,
}

impl<H: RollingHash> Rolling<H> {
    /// `mask` is a power of two less one; `min_bytes` is at least one and at most `max_bytes`.
    pub fn new(mask: u32, min_bytes: usize, max_bytes: usize) -> Self {
        Self { mask, min_bytes, max_bytes, piece_bytes: 0, before: [0; WINDOW_BYTES], hash: PhantomData }
    }

    pub fn next_cut(&mut self, bytes: &[u8]) -> Option<usize> {
        let cut = self.find_cut(bytes);
        let consumed = &bytes[..cut.unwrap_or(bytes.len())];
        self.remember(consumed);
        self.piece_bytes = if cut.is_some() { 0 } else { self.piece_bytes + consumed.len() };
        cut
    }

    fn find_cut(&self, bytes: &[u8]) -> Option<usize> {
        let first_tested = self.min_bytes.saturating_sub(self.piece_bytes + 1);
        if first_tested >= bytes.len() {
            return None;
        }
        let forced = self.max_bytes - self.piece_bytes;
        let tested = &bytes[..forced.min(bytes.len())];
        self.find_boundary(tested, first_tested).or((tested.len() == forced).then_some(forced))
    }

    /// Length of `bytes` up to the first boundary at index `first` or later, the boundary included.
    fn find_boundary(&self, bytes: &[u8], first: usize) -> Option<usize> {
        let mut state = self.hash_at(bytes, first);
        if is_boundary::<H>(state, self.mask) {
            return Some(first + 1);
        }
        // As long as the window reaches back into the bytes before.
        for (index, (leaving, entering)) in self.before.iter().zip(bytes).enumerate().skip(first + 1) {
            state = H::roll(state, *leaving, *entering);
            if is_boundary::<H>(state, self.mask) {
                return Some(index + 1);
            }
        }
        let next = (first + 1).max(WINDOW_BYTES);
        let rest = bytes.get(next - WINDOW_BYTES..)?;
        scan::<H>(state, rest, self.mask).map(|length| next + length)
    }

    /// Hash of the window that ends with the byte at `index`.
    fn hash_at(&self, bytes: &[u8], index: usize) -> H::State {
        let end = index + 1;
        let from_before = WINDOW_BYTES.saturating_sub(end);
        let old = &self.before[WINDOW_BYTES - from_before..];
        let new = &bytes[end - (WINDOW_BYTES - from_before)..end];
        old.iter().chain(new).fold(H::EMPTY, |state, byte| H::enter(state, *byte))
    }

    fn remember(&mut self, consumed: &[u8]) {
        match consumed.last_chunk() {
            Some(last) => self.before = *last,
            None => {
                self.before.copy_within(consumed.len().., 0);
                self.before[WINDOW_BYTES - consumed.len()..].copy_from_slice(consumed);
            }
        }
    }
}

#[inline(always)]
fn is_boundary<H: RollingHash>(state: H::State, mask: u32) -> bool {
    H::low_bits(state) & mask == 0
}

/// `bytes` is a window, whose hash is `state`, and what follows it. Length of what follows up to the first boundary, the
/// boundary included.
fn scan<H: RollingHash>(mut state: H::State, bytes: &[u8], mask: u32) -> Option<usize> {
    let mut done = 0;
    while let Some(block) = bytes[done..].first_chunk::<{ WINDOW_BYTES + BLOCK_BYTES }>() {
        match scan_lanes::<H>(state, block, mask) {
            Some(next) => state = next,
            None => return scan_one::<H>(state, block, mask).map(|length| done + length),
        }
        done += BLOCK_BYTES;
    }
    scan_one::<H>(state, &bytes[done..], mask).map(|length| done + length)
}

fn scan_one<H: RollingHash>(mut state: H::State, bytes: &[u8], mask: u32) -> Option<usize> {
    let entering = bytes.get(WINDOW_BYTES..)?;
    for (index, (leaving, entering)) in bytes.iter().zip(entering).enumerate() {
        state = H::roll(state, *leaving, *entering);
        if is_boundary::<H>(state, mask) {
            return Some(index + 1);
        }
    }
    None
}

/// The state behind a block without a boundary; none where there is one somewhere in it.
fn scan_lanes<H: RollingHash>(
    state: H::State,
    block: &[u8; WINDOW_BYTES + BLOCK_BYTES],
    mask: u32,
) -> Option<H::State> {
    let (windows, _) = block.as_chunks::<LANE_BYTES>();
    let (followers, _) = block[WINDOW_BYTES..].as_chunks::<LANE_BYTES>();
    let [leaving0, leaving1, leaving2, leaving3] = windows.first_chunk::<LANES>()?;
    let [entering0, entering1, entering2, entering3] = followers.first_chunk::<LANES>()?;
    let mut state0 = state;
    let [mut state1, mut state2, mut state3] = [H::EMPTY; LANES - 1];
    for index in 0..WINDOW_BYTES {
        state1 = H::enter(state1, leaving1[index]);
        state2 = H::enter(state2, leaving2[index]);
        state3 = H::enter(state3, leaving3[index]);
    }
    for index in 0..LANE_BYTES {
        state0 = H::roll(state0, leaving0[index], entering0[index]);
        state1 = H::roll(state1, leaving1[index], entering1[index]);
        state2 = H::roll(state2, leaving2[index], entering2[index]);
        state3 = H::roll(state3, leaving3[index], entering3[index]);
        if is_boundary::<H>(state0, mask)
            || is_boundary::<H>(state1, mask)
            || is_boundary::<H>(state2, mask)
            || is_boundary::<H>(state3, mask)
        {
            return None;
        }
    }
    Some(state3)
}
