//! What of an entry could not be kept as it is, though the entry itself is there.
//!
//! None is passed over without a word: all are counted by kind, and the first are named.

use std::collections::BTreeMap;

/// Shortfalls that an outcome names; their counts are complete.
const NAMED_MAX: usize = 100;

/// What is missing of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ShortfallKind {
    /// Extended attributes, access control lists and capabilities among them.
    Attributes,
    /// A device, named pipe or socket.
    Special,
    /// That several names are one file.
    HardLink,
    /// A time that the format cannot hold.
    Time,
}

impl ShortfallKind {
    /// Its name for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Attributes => "attributes",
            Self::Special => "special",
            Self::HardLink => "hardLink",
            Self::Time => "time",
        }
    }
}

/// One entry that is not kept as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortfall {
    /// What is missing of it.
    pub kind: ShortfallKind,
    /// Path relative to the root.
    pub path: String,
    /// Why, in words.
    pub reason: String,
}

/// What is said of something in a side record that a newer program wrote.
pub(crate) fn not_known(what: &str) -> String {
    format!("{what}, which a newer program wrote and this one does not know")
}

/// All of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shortfalls {
    /// How many of each kind.
    pub counts: BTreeMap<ShortfallKind, u64>,
    /// The first hundred.
    pub first: Vec<Shortfall>,
}

impl Shortfalls {
    /// All kinds together.
    pub fn count(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Notes one.
    pub(crate) fn note(&mut self, shortfall: Shortfall) {
        *self.counts.entry(shortfall.kind).or_default() += 1;
        if self.first.len() < NAMED_MAX {
            self.first.push(shortfall);
        }
    }
}
