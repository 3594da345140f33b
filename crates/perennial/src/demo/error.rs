//! Why the story ends early.

use storage::Class;

use crate::demo::manifest::Difference;

/// What went wrong, and so what this program or this machine does not keep.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// This machine did not let us.
    #[error("{what}")]
    Io {
        what: String,
        #[source]
        source: std::io::Error,
    },
    /// SQLite did not.
    #[error("{what}")]
    Database {
        what: &'static str,
        #[source]
        source: rusqlite::Error,
    },
    /// A step did not end as it must.
    #[error("{step}: {found}, but {expected} was due")]
    Unexpected { step: String, expected: String, found: String },
    /// What came back is not what was there.
    #[error("{claim}: {count} of the restored entries differ, the first: {first}")]
    Differs { claim: String, count: u64, first: Difference },
    /// Ctrl-C.
    #[error("stopped by a signal")]
    Interrupted,
}

impl DemoError {
    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Io { .. } => Class::Blocked,
            Self::Database { .. } | Self::Differs { .. } => Class::Damaged,
            Self::Unexpected { .. } => Class::Bug,
            Self::Interrupted => Class::Retry,
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Io { .. } => Some("the demo works in the directory for temporary files: set TMPDIR to one with room"),
            Self::Database { .. } | Self::Unexpected { .. } => None,
            Self::Differs { .. } => {
                Some("files of your own that were written to meanwhile look like this; else please report it")
            }
            Self::Interrupted => Some("everything that was made is removed"),
        }
    }
}

/// The operation behind an error of the system's.
pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> DemoError {
    let what = what.into();
    move |source| DemoError::Io { what, source }
}

/// The same for SQLite.
pub fn database(what: &'static str) -> impl FnOnce(rusqlite::Error) -> DemoError {
    move |source| DemoError::Database { what, source }
}
