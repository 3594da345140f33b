//! What to do about an error, and the exit code that says it: one table for all programs.
//!
//! | code | [`Exit`] | meaning |
//! |---|---|---|
//! | 0 | `Success` | done, or nothing to do |
//! | 1 | `Bug` | a fault of this program, or a failure of no known class |
//! | 2 | `Usage` | the arguments or the task make no sense (also what the argument parser uses) |
//! | 3 | `Partial` | done, but some files could not be read or written |
//! | 4 | `Blocked` | someone must act first |
//! | 5 | `Damaged` | repository bytes are wrong |
//! | 6 | `Retry` | may pass by itself: run again later |
//! | 130 | `Interrupted` | stopped by a signal; what is in the repository is valid |

use std::fmt;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

/// What to do about an error. It gives the exit code, the requeue time, the condition's reason and the metric label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Class {
    /// May pass by itself: try again later.
    Retry,
    /// Someone must act first.
    Blocked,
    /// Repository bytes are wrong: never retried, never silent.
    Damaged,
    /// A fault of this program.
    Bug,
}

impl Class {
    /// The word for labels and logs, lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Blocked => "blocked",
            Self::Damaged => "damaged",
            Self::Bug => "bug",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// How a program ended; the module's table has the codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done, or nothing to do.
    Success,
    /// A fault of this program, or a failure of no known class.
    Bug,
    /// The arguments or the task make no sense.
    Usage,
    /// Done, but some files could not be read or written.
    Partial,
    /// Someone must act first.
    Blocked,
    /// Repository bytes are wrong.
    Damaged,
    /// May pass by itself.
    Retry,
    /// Stopped by a signal.
    Interrupted,
}

impl Exit {
    /// The process exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Bug => 1,
            Self::Usage => 2,
            Self::Partial => 3,
            Self::Blocked => 4,
            Self::Damaged => 5,
            Self::Retry => 6,
            // 128 + SIGINT, which shells and schedulers read as "stopped from outside".
            Self::Interrupted => 130,
        }
    }
}

impl From<Class> for Exit {
    fn from(class: Class) -> Self {
        match class {
            Class::Retry => Self::Retry,
            Class::Blocked => Self::Blocked,
            Class::Damaged => Self::Damaged,
            Class::Bug => Self::Bug,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_documented_ones() {
        let codes = [Class::Retry, Class::Blocked, Class::Damaged, Class::Bug].map(|class| Exit::from(class).code());
        assert_eq!(codes, [6, 4, 5, 1]);
        let others = [Exit::Success, Exit::Usage, Exit::Partial, Exit::Interrupted].map(Exit::code);
        assert_eq!(others, [0, 2, 3, 130]);
    }
}
