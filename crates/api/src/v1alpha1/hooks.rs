//! What runs in a claim's pods around the copy, so that what is copied is at rest.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::span::Span;

/// What runs around the copy of a claim, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Hooks {
    /// Before the copy is made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub before: Vec<Hook>,
    /// After it was made, whether that worked or not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub after: Vec<Hook>,
}

impl Hooks {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.before.is_empty() && self.after.is_empty()
    }
}

/// A command in a running container that mounts the claim. Where no pod mounts it, there is nothing to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hook {
    /// The program and its arguments; no shell is put around them.
    #[schemars(length(min = 1, max = 64), inner(length(max = 32768)))]
    pub command: Vec<String>,
    /// The container; the first that mounts the claim when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub container: Option<String>,
    /// How long it may take.
    #[serde(default = "timeout")]
    pub timeout: Span,
    /// What happens when it fails or takes too long.
    #[serde(default)]
    pub on_error: OnError,
}

fn timeout() -> Span {
    Span::of_minutes(1)
}

/// What happens when a hook fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnError {
    /// No backup is taken this time.
    #[default]
    Fail,
    /// The backup is taken all the same, and the failure is reported.
    Continue,
}
