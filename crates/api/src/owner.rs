//! Who owns a volume's files: recorded with each snapshot, so that whoever restores it can be that user.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The tag of a snapshot that says whose most of its files are, as `uid:gid`.
pub const OWNER_TAG: &str = "tag:perennial-owner";

/// A user and a group, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ids {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// What is no pair of numbers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not uid:gid")]
pub struct IdsError {
    /// What was given.
    pub text: String,
}

impl fmt::Display for Ids {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.uid, self.gid)
    }
}

impl FromStr for Ids {
    type Err = IdsError;

    fn from_str(text: &str) -> Result<Self, IdsError> {
        let parts = text.split_once(':').and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
        let (uid, gid) = parts.ok_or_else(|| IdsError { text: text.to_owned() })?;
        Ok(Self { uid, gid })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_they_stand_in_a_tag() {
        let ids = Ids { uid: 1234, gid: 568 };
        assert_eq!((ids.to_string().as_str(), "1234:568".parse()), ("1234:568", Ok(ids)));
        for text in ["", "1234", "a:b", "1:2:3", "-1:0"] {
            assert!(text.parse::<Ids>().is_err(), "{text}");
        }
    }
}
