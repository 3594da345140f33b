//! Rabin-Karp fingerprint, 53 bits: the window as a polynomial over GF(2), modulo an irreducible one.

use super::rolling::{RollingHash, WINDOW_BYTES};

/// Rabin-Karp as Kopia's library computes it.
#[derive(Clone, Debug)]
pub enum RabinKarp {}

impl RollingHash for RabinKarp {
    type State = u64;

    const EMPTY: u64 = 0;

    #[inline(always)]
    fn roll(state: u64, leaving: u8, entering: u8) -> u64 {
        append(state ^ LEAVING[usize::from(leaving)], entering)
    }

    #[inline(always)]
    fn low_bits(state: u64) -> u32 {
        state as u32
    }
}

/// x^53 + x^51 + … + x^2 + 1, found by the library with seed 1 (kopia.md section 17.3).
const POLYNOMIAL: u64 = 0x2e_3e3e_4a30_5605;

const DEGREE: u32 = 53;

/// For the byte that gets shifted out above the polynomial's degree: what to add so that it vanishes and its remainder
/// stays.
static REDUCE: [u64; 256] = reduce_table();

/// For the byte that is as old as the window is long: its part of the fingerprint, b · x^(8·63).
static LEAVING: [u64; 256] = leaving_table();

#[inline(always)]
const fn append(state: u64, byte: u8) -> u64 {
    let top = (state >> (DEGREE - 8)) as u8;
    (state << 8 | byte as u64) ^ REDUCE[top as usize]
}

const fn reduce_table() -> [u64; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let shifted = (byte as u64) << DEGREE;
        let mut remainder = shifted;
        let mut bit = 8;
        while bit > 0 {
            bit -= 1;
            if remainder >> (DEGREE + bit) & 1 == 1 {
                remainder ^= POLYNOMIAL << bit;
            }
        }
        table[byte] = remainder | shifted;
        byte += 1;
    }
    table
}

const fn leaving_table() -> [u64; 256] {
    let reduce = reduce_table();
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut state = byte as u64;
        let mut step = 1;
        while step < WINDOW_BYTES {
            let top = (state >> (DEGREE - 8)) as u8;
            state = state << 8 ^ reduce[top as usize];
            step += 1;
        }
        table[byte] = state;
        byte += 1;
    }
    table
}
