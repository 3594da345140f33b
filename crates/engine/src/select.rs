//! Which snapshot is meant.

use jiff::Timestamp;
use repository::{Identity, Snapshot};
use storage::Class;

/// Shorter beginnings of an id are refused: they would name another snapshot tomorrow.
const ID_PREFIX_MIN: usize = 4;

/// A way to say which snapshot is meant.
///
/// All but [`Selection::Id`] look at complete snapshots only, newest start first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// The newest.
    Latest,
    /// The one of this id, or whose id alone begins with these four or more characters. May be an incomplete one.
    Id(String),
    /// The newest that had begun at `time`, then `previous` further back.
    AsOf {
        /// The instant, itself included.
        time: Timestamp,
        /// How many to pass over.
        previous: u32,
    },
    /// So many before the newest; 0 is the newest.
    Previous(u32),
}

/// No snapshot is meant, or more than one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// There is none at all.
    #[error("there is no snapshot of {whose}")]
    NoSnapshot {
        /// The identity, or the whole repository.
        whose: String,
    },
    /// There are only incomplete ones.
    #[error("there are only incomplete snapshots of {whose}, {count} in all")]
    OnlyIncomplete {
        /// The identity, or the whole repository.
        whose: String,
        /// How many.
        count: usize,
    },
    /// There are fewer than were to be passed over.
    #[error("there are only {count} complete snapshots of {whose}, and {previous} were to be passed over")]
    TooFew {
        /// The identity, or the whole repository.
        whose: String,
        /// How many there are.
        count: usize,
        /// How many were to be passed over.
        previous: u32,
    },
    /// All of them began later.
    #[error("no complete snapshot of {whose} had begun at {time}: the oldest began at {oldest}")]
    NothingThatOld {
        /// The identity, or the whole repository.
        whose: String,
        /// The instant asked for.
        time: Timestamp,
        /// The start of the oldest complete snapshot.
        oldest: Timestamp,
    },
    /// No id is or begins like this.
    #[error("there is no snapshot {id} of {whose}")]
    UnknownId {
        /// The identity, or the whole repository.
        whose: String,
        /// What was asked for.
        id: String,
    },
    /// Several ids begin like this.
    #[error("{count} snapshots begin with {id}, {first} and {second} among them")]
    AmbiguousId {
        /// What was asked for.
        id: String,
        /// How many.
        count: usize,
        /// One of them.
        first: String,
        /// Another.
        second: String,
    },
    /// So short a beginning is not taken for an id.
    #[error("{id:?} is too short for the beginning of a snapshot's id")]
    ShortId {
        /// What was asked for.
        id: String,
    },
}

impl SelectError {
    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::NoSnapshot { .. }
            | Self::OnlyIncomplete { .. }
            | Self::TooFew { .. }
            | Self::NothingThatOld { .. }
            | Self::UnknownId { .. }
            | Self::AmbiguousId { .. }
            | Self::ShortId { .. } => Class::Blocked,
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoSnapshot { .. } => {
                Some("check user, host and path; `perennial snapshots --all` shows every identity")
            }
            Self::OnlyIncomplete { .. } => {
                Some("let a backup finish, or name an incomplete snapshot by its id to have what it holds")
            }
            Self::TooFew { .. } => Some("pass over fewer"),
            Self::NothingThatOld { .. } => Some("choose a later time"),
            Self::UnknownId { .. } => Some("`perennial snapshots --all` shows every id"),
            Self::AmbiguousId { .. } => Some("give more characters of the id"),
            Self::ShortId { .. } => Some("give at least four characters of the id"),
        }
    }
}

/// Finds the snapshot that is meant among those of `identity`, or among all of them.
///
/// # Errors
/// When none is meant, or several are.
pub fn select<'a>(
    snapshots: &'a [Snapshot],
    identity: Option<&Identity>,
    selection: &Selection,
) -> Result<&'a Snapshot, SelectError> {
    let whose = || identity.map_or_else(|| "this repository".to_owned(), ToString::to_string);
    let own: Vec<&Snapshot> =
        snapshots.iter().filter(|snapshot| identity.is_none_or(|identity| snapshot.identity == *identity)).collect();
    if own.is_empty() {
        return Err(SelectError::NoSnapshot { whose: whose() });
    }
    match selection {
        Selection::Id(id) => by_id(&own, id, &whose),
        Selection::Latest => newest(&own, None, 0, &whose),
        Selection::Previous(previous) => newest(&own, None, *previous, &whose),
        Selection::AsOf { time, previous } => newest(&own, Some(*time), *previous, &whose),
    }
}

fn by_id<'a>(own: &[&'a Snapshot], id: &str, whose: &dyn Fn() -> String) -> Result<&'a Snapshot, SelectError> {
    if let Some(exact) = own.iter().find(|snapshot| snapshot.id.as_str() == id) {
        return Ok(exact);
    }
    if id.chars().count() < ID_PREFIX_MIN {
        return Err(SelectError::ShortId { id: id.to_owned() });
    }
    let mut matching = own.iter().filter(|snapshot| snapshot.id.as_str().starts_with(id));
    match (matching.next(), matching.next()) {
        (None, _) => Err(SelectError::UnknownId { whose: whose(), id: id.to_owned() }),
        (Some(only), None) => Ok(only),
        (Some(first), Some(second)) => Err(SelectError::AmbiguousId {
            id: id.to_owned(),
            count: 2 + matching.count(),
            first: first.id.to_string(),
            second: second.id.to_string(),
        }),
    }
}

fn newest<'a>(
    own: &[&'a Snapshot],
    until: Option<Timestamp>,
    previous: u32,
    whose: &dyn Fn() -> String,
) -> Result<&'a Snapshot, SelectError> {
    let mut complete: Vec<&Snapshot> = own.iter().copied().filter(|snapshot| snapshot.incomplete.is_none()).collect();
    complete.sort_by(|a, b| (b.start, b.end, &b.id).cmp(&(a.start, a.end, &a.id)));
    let Some(oldest) = complete.last() else {
        return Err(SelectError::OnlyIncomplete { whose: whose(), count: own.len() });
    };
    let oldest = oldest.start;
    if let Some(time) = until {
        complete.retain(|snapshot| snapshot.start <= time);
        if complete.is_empty() {
            return Err(SelectError::NothingThatOld { whose: whose(), time, oldest });
        }
    }
    let count = complete.len();
    let at = usize::try_from(previous).unwrap_or(usize::MAX);
    complete.get(at).copied().ok_or_else(|| SelectError::TooFew { whose: whose(), count, previous })
}

#[cfg(test)]
mod tests {
    use super::{Selection, select};
    use repository::{Identity, Snapshot, SnapshotId, Stats};

    fn snapshot(id: &str, identity: &str, start: &str, incomplete: bool) -> Snapshot {
        Snapshot {
            id: SnapshotId::new(id),
            identity: identity.parse().unwrap(),
            description: String::new(),
            start: start.parse().unwrap(),
            end: start.parse().unwrap(),
            incomplete: incomplete.then(|| "checkpoint".to_owned()),
            root: None,
            stats: Stats::default(),
            tags: Default::default(),
            pins: Vec::new(),
        }
    }

    fn history() -> Vec<Snapshot> {
        vec![
            snapshot("aaaa1111", "u@h:/data", "2026-01-01T00:00:00Z", false),
            snapshot("aaaa2222", "u@h:/data", "2026-01-03T00:00:00Z", false),
            snapshot("bbbb1111", "u@h:/data", "2026-01-02T00:00:00Z", false),
            snapshot("cccc1111", "u@h:/data", "2026-01-04T00:00:00Z", true),
            snapshot("dddd1111", "v@h:/data", "2026-01-05T00:00:00Z", false),
            snapshot("eeee1111", "w@h:/data", "2026-01-05T00:00:00Z", true),
        ]
    }

    #[track_caller]
    fn check(identity: &str, selection: &Selection, expected: &str) {
        let history = history();
        let identity: Option<Identity> =
            Some(identity).filter(|text| !text.is_empty()).map(|text| text.parse().unwrap());
        let found = match select(&history, identity.as_ref(), selection) {
            Ok(snapshot) => snapshot.id.to_string(),
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn only_complete_ones_of_the_identity_count_and_start_decides() {
        check("u@h:/data", &Selection::Latest, "aaaa2222");
        check("", &Selection::Latest, "dddd1111");
        check("u@h:/data", &Selection::Previous(0), "aaaa2222");
        check("u@h:/data", &Selection::Previous(1), "bbbb1111");
        let complaint = "there are only 3 complete snapshots of u@h:/data, and 3 were to be passed over";
        check("u@h:/data", &Selection::Previous(3), complaint);
        check("x@h:/data", &Selection::Latest, "there is no snapshot of x@h:/data");
        check("w@h:/data", &Selection::Latest, "there are only incomplete snapshots of w@h:/data, 1 in all");
    }

    #[test]
    fn a_time_includes_itself() {
        let as_of = |time: &str, previous| Selection::AsOf { time: time.parse().unwrap(), previous };
        check("u@h:/data", &as_of("2026-01-02T00:00:00Z", 0), "bbbb1111");
        check("u@h:/data", &as_of("2026-01-02T23:00:00Z", 1), "aaaa1111");
        let complaint = "no complete snapshot of u@h:/data had begun at 2025-01-01T00:00:00Z: the oldest began at 2026-01-01T00:00:00Z";
        check("u@h:/data", &as_of("2025-01-01T00:00:00Z", 0), complaint);
    }

    #[test]
    fn an_id_may_be_cut_short_but_must_mean_one() {
        let id = |text: &str| Selection::Id(text.to_owned());
        check("u@h:/data", &id("cccc1111"), "cccc1111");
        check("", &id("cccc"), "cccc1111");
        check("", &id("aaaa"), "2 snapshots begin with aaaa, aaaa1111 and aaaa2222 among them");
        check("", &id("aaa"), "\"aaa\" is too short for the beginning of a snapshot's id");
        check("v@h:/data", &id("aaaa1111"), "there is no snapshot aaaa1111 of v@h:/data");
    }
}
