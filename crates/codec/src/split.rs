//! Cutting an object's bytes into pieces.
//!
//! Where the cuts are decides only what is deduplicated: readers need no splitter. To share pieces with what Kopia wrote
//! they must be the same cuts, byte for byte.
//!
//! Source: kopia.md sections 8.4 and 8.5.

mod buzhash;
mod fixed;
mod rabin_karp;
mod rolling;

use buzhash::Buzhash;
use fixed::Fixed;
use rabin_karp::RabinKarp;
use rolling::Rolling;

/// Largest average piece that a rolling splitter takes, in bytes; its mask has one bit less.
const AVERAGE_BYTES_MAX: u32 = 1 << 31;

/// How an object is cut into pieces.
///
/// The lengths are free, so that tests can use small ones; a repository only ever names those of section 8.4.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Algorithm {
    /// Pieces of `bytes` bytes, the last one shorter. Zero counts as one.
    Fixed {
        /// Length of a piece in bytes.
        bytes: u32,
    },
    /// Cuts by a 32-bit cyclic polynomial hash.
    Buzhash {
        /// Average piece in bytes, from 2 to 2³¹; counts as the next power of two.
        average_bytes: u32,
    },
    /// Cuts by a 53-bit Rabin-Karp fingerprint.
    RabinKarp {
        /// Average piece in bytes, from 2 to 2³¹; counts as the next power of two.
        average_bytes: u32,
    },
}

const KIB: u32 = 1 << 10;
const MIB: u32 = 1 << 20;

/// The names of section 8.4. The aliases stand behind the names they stand for, so that those are found first.
const NAMES: [(&str, Algorithm); 23] = [
    ("FIXED-128K", Algorithm::Fixed { bytes: 128 * KIB }),
    ("FIXED-256K", Algorithm::Fixed { bytes: 256 * KIB }),
    ("FIXED-512K", Algorithm::Fixed { bytes: 512 * KIB }),
    ("FIXED-1M", Algorithm::Fixed { bytes: MIB }),
    ("FIXED-2M", Algorithm::Fixed { bytes: 2 * MIB }),
    ("FIXED-4M", Algorithm::Fixed { bytes: 4 * MIB }),
    ("FIXED-8M", Algorithm::Fixed { bytes: 8 * MIB }),
    ("DYNAMIC-128K-BUZHASH", Algorithm::Buzhash { average_bytes: 128 * KIB }),
    ("DYNAMIC-256K-BUZHASH", Algorithm::Buzhash { average_bytes: 256 * KIB }),
    ("DYNAMIC-512K-BUZHASH", Algorithm::Buzhash { average_bytes: 512 * KIB }),
    ("DYNAMIC-1M-BUZHASH", Algorithm::Buzhash { average_bytes: MIB }),
    ("DYNAMIC-2M-BUZHASH", Algorithm::Buzhash { average_bytes: 2 * MIB }),
    ("DYNAMIC-4M-BUZHASH", Algorithm::Buzhash { average_bytes: 4 * MIB }),
    ("DYNAMIC-8M-BUZHASH", Algorithm::Buzhash { average_bytes: 8 * MIB }),
    ("DYNAMIC-128K-RABINKARP", Algorithm::RabinKarp { average_bytes: 128 * KIB }),
    ("DYNAMIC-256K-RABINKARP", Algorithm::RabinKarp { average_bytes: 256 * KIB }),
    ("DYNAMIC-512K-RABINKARP", Algorithm::RabinKarp { average_bytes: 512 * KIB }),
    ("DYNAMIC-1M-RABINKARP", Algorithm::RabinKarp { average_bytes: MIB }),
    ("DYNAMIC-2M-RABINKARP", Algorithm::RabinKarp { average_bytes: 2 * MIB }),
    ("DYNAMIC-4M-RABINKARP", Algorithm::RabinKarp { average_bytes: 4 * MIB }),
    ("DYNAMIC-8M-RABINKARP", Algorithm::RabinKarp { average_bytes: 8 * MIB }),
    ("FIXED", Algorithm::Fixed { bytes: 4 * MIB }),
    ("DYNAMIC", Algorithm::Buzhash { average_bytes: 4 * MIB }),
];

impl Algorithm {
    /// Every name of section 8.4, aliases last.
    pub fn kopia_names() -> impl Iterator<Item = &'static str> {
        NAMES.into_iter().map(|(name, _)| name)
    }

    /// The splitter of a name of section 8.4, the aliases `FIXED` and `DYNAMIC` included; none for others.
    ///
    /// An unknown name in a policy means the repository's splitter; in a repository it is an error.
    pub fn from_kopia_name(name: &str) -> Option<Self> {
        NAMES.into_iter().find(|(known, _)| *known == name).map(|(_, algorithm)| algorithm)
    }

    /// The name of section 8.4, never an alias; none for lengths that have no name.
    pub fn kopia_name(&self) -> Option<&'static str> {
        NAMES.into_iter().find(|(_, algorithm)| algorithm == self).map(|(name, _)| name)
    }

    /// Longest piece in bytes: the room that a buffer for one piece needs.
    pub fn max_piece_bytes(&self) -> usize {
        match self {
            Self::Fixed { bytes } => (*bytes).max(1) as usize,
            Self::Buzhash { average_bytes } | Self::RabinKarp { average_bytes } => average(*average_bytes) as usize * 2,
        }
    }

    /// Shortest piece in bytes, an object's last one apart.
    pub fn min_piece_bytes(&self) -> usize {
        match self {
            Self::Fixed { bytes } => (*bytes).max(1) as usize,
            Self::Buzhash { average_bytes } | Self::RabinKarp { average_bytes } => average(*average_bytes) as usize / 2,
        }
    }

    fn rolling<H: rolling::RollingHash>(&self, average_bytes: u32) -> Rolling<H> {
        Rolling::new(average(average_bytes) - 1, self.min_piece_bytes(), self.max_piece_bytes())
    }
}

fn average(average_bytes: u32) -> u32 {
    average_bytes.clamp(2, AVERAGE_BYTES_MAX).next_power_of_two()
}

/// Cuts one object's bytes, given in slices of any lengths; the cuts do not depend on the slicing.
#[derive(Clone, Debug)]
pub struct Splitter {
    algorithm: Algorithm,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Fixed(Fixed),
    Buzhash(Rolling<Buzhash>),
    RabinKarp(Rolling<RabinKarp>),
}

impl Splitter {
    /// A splitter at the beginning of an object.
    pub fn new(algorithm: Algorithm) -> Self {
        let state = match algorithm {
            Algorithm::Fixed { .. } => State::Fixed(Fixed::new(algorithm.max_piece_bytes())),
            Algorithm::Buzhash { average_bytes } => State::Buzhash(algorithm.rolling(average_bytes)),
            Algorithm::RabinKarp { average_bytes } => State::RabinKarp(algorithm.rolling(average_bytes)),
        };
        Self { algorithm, state }
    }

    /// Feeds the object's next bytes.
    ///
    /// `Some(n)`: a piece ends after the n-th of `bytes`, n from 1; those n are consumed and the caller feeds the others
    /// again. `None`: all are consumed and the piece goes on. What is unfinished at the object's end is its last piece.
    ///
    /// Fastest with slices of some KiB and more, since each call takes up the hash anew from 64 bytes.
    pub fn next_cut(&mut self, bytes: &[u8]) -> Option<usize> {
        match &mut self.state {
            State::Fixed(state) => state.next_cut(bytes),
            State::Buzhash(state) => state.next_cut(bytes),
            State::RabinKarp(state) => state.next_cut(bytes),
        }
    }

    /// Back to the beginning, for the next object.
    pub fn reset(&mut self) {
        *self = Self::new(self.algorithm);
    }
}

#[cfg(test)]
mod tests;
