//! A command that did not do what it was asked: the chain of errors on one line, what to do, and the exit code.

use std::error::Error;
use std::fmt::Display;
use std::process::ExitCode;

use api::exit::Exit;
use serde::Serialize;
use storage::Class;

use crate::output;

const BUG_HINT: &str = "this is a fault of perennial: please report it, with what the same command prints with -vv";

/// Why a command failed.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    message: String,
    hint: Option<String>,
    /// True when nobody reads any more what this program writes: nothing is said then.
    silent: bool,
}

/// Errors that know what to do about them.
pub trait Explained: Error {
    /// What to do, for programs.
    fn class(&self) -> Class;
    /// What to do, for people.
    fn hint(&self) -> Option<&'static str>;
}

/// All of them have the two methods; only a macro can say so once.
macro_rules! explained {
    ($($error:ty),* $(,)?) => {
        $(impl Explained for $error {
            fn class(&self) -> Class {
                <$error>::class(self)
            }

            fn hint(&self) -> Option<&'static str> {
                <$error>::hint(self)
            }
        })*
    };
}

explained!(
    storage::Error,
    repository_kopia::MaintenanceError,
    repository_kopia::OpenError,
    repository_kopia::IndexError,
    repository_kopia::ReadError,
    repository_kopia::WriteError,
    engine::BackupError,
    engine::RestoreError,
    engine::SelectError,
    engine::VerifyError,
    engine::ForgetError,
    engine::MaintainError,
    engine::RepairError,
    engine::BrowseError,
    mover::EnvironmentError,
    crate::demo::DemoError,
);

impl<E: Explained> From<E> for Failure {
    fn from(error: E) -> Self {
        let exit = exit_of(error.class());
        let hint = error.hint().or((exit == Exit::Bug).then_some(BUG_HINT));
        Self { exit, message: output::chain(&error), hint: hint.map(str::to_owned), silent: false }
    }
}

/// The exit code of a class.
pub fn exit_of(class: Class) -> Exit {
    match class {
        Class::Retry => Exit::Retry,
        Class::Blocked => Exit::Blocked,
        Class::Damaged => Exit::Damaged,
        Class::Bug => Exit::Bug,
    }
}

impl Failure {
    /// The arguments make no sense.
    pub fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message, hint)
    }

    /// Someone must act first.
    pub fn blocked(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Exit::Blocked, message, hint)
    }

    /// Stopped by a signal.
    pub fn interrupted(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Exit::Interrupted, message, hint)
    }

    /// What was to be printed could not be; a reader that has gone away is no reason for words.
    pub fn printing(error: &std::io::Error) -> Self {
        let silent = error.kind() == std::io::ErrorKind::BrokenPipe;
        Self { silent, ..Self::blocked(format!("write to standard output: {error}"), "check where the output goes") }
    }

    fn new(exit: Exit, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: Some(hint.into()), silent: false }
    }

    /// Says what was being done.
    pub fn during(self, what: impl Display) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
    }

    /// Whether it was of the kind that a signal causes.
    pub fn may_pass(&self) -> bool {
        self.exit == Exit::Retry
    }

    /// Says it to a person, and with `json` to a program too.
    pub fn print(self, json: bool) -> ExitCode {
        if !self.silent {
            output::say(&format!("error: {}", self.message));
            if let Some(hint) = &self.hint {
                output::say(&format!("hint: {hint}"));
            }
            if json {
                // Whoever cannot take it has the exit code.
                let _ = output::json(&FailureView::of(&self));
            }
        }
        self.exit.into()
    }
}

/// `{"kind":"error"}`: printed on standard output in place of the outcome.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FailureView<'a> {
    kind: &'static str,
    exit_code: u8,
    message: &'a str,
    hint: Option<&'a str>,
}

impl<'a> FailureView<'a> {
    fn of(failure: &'a Failure) -> Self {
        let Failure { exit, message, hint, .. } = failure;
        Self { kind: "error", exit_code: exit.code(), message, hint: hint.as_deref() }
    }
}
