//! When a synchronization runs.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a schedule may be. VolSync's expression, oddities included: the alternatives are anchored at one end only.
pub const SCHEDULE_PATTERN: &str =
    r"^(@(annually|yearly|monthly|weekly|daily|hourly))|((((\d+,)*\d+|(\d+(\/|-)\d+)|\*(\/\d+)?)\s?){5})$";

/// When a synchronization runs. Without it one follows the other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Trigger {
    /// At these times: five fields of cron, or one of the names that begin with `@`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = SCHEDULE_PATTERN))]
    pub schedule: Option<String>,
    /// Any tag: once whenever it differs from `status.lastManualSync`. Outweighs a schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manual: Option<String>,
}

/// What a trigger asks for. Source: VolSync API §4.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When<'a> {
    /// Once for this tag.
    Manual(&'a str),
    /// At the times of this cron expression.
    Schedule(&'a str),
    /// One synchronization after the other.
    Always,
}

impl When<'_> {
    /// What an object with this trigger asks for; empty text counts as not said.
    pub fn of(trigger: Option<&Trigger>) -> When<'_> {
        match trigger {
            Some(Trigger { manual: Some(tag), .. }) if !tag.is_empty() => When::Manual(tag),
            Some(Trigger { schedule: Some(schedule), .. }) if !schedule.is_empty() => When::Schedule(schedule),
            Some(_) | None => When::Always,
        }
    }
}

/// A moment that a person writes, RFC 3339.
///
/// Kept as text: the API server takes more spellings for a `date-time` than RFC 3339 has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Moment(#[schemars(extend("format" = "date-time"))] pub String);

/// A moment that is not RFC 3339.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is no moment: write it as in 2025-01-15T10:30:00Z")]
pub struct MomentError {
    /// What was written.
    pub text: String,
    /// What is wrong with it.
    #[source]
    pub source: jiff::Error,
}

impl Moment {
    /// The moment. Errors: the text is not RFC 3339; a zone must be said.
    pub fn timestamp(&self) -> Result<Timestamp, MomentError> {
        self.0.parse().map_err(|source| MomentError { text: self.0.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(trigger: &str, expected: When<'_>) {
        let trigger: Trigger = serde_json::from_str(trigger).unwrap();
        assert_eq!(When::of(Some(&trigger)), expected);
    }

    #[test]
    fn a_tag_outweighs_a_schedule_and_empty_text_is_nothing() {
        check(r#"{"manual":"once","schedule":"@daily"}"#, When::Manual("once"));
        check(r#"{"manual":"","schedule":"@daily"}"#, When::Schedule("@daily"));
        check(r#"{"schedule":""}"#, When::Always);
        check("{}", When::Always);
        assert_eq!(When::of(None), When::Always);
    }

    #[test]
    fn a_moment_is_read_when_it_is_needed() {
        let moment = |text: &str| Moment(text.to_owned()).timestamp();
        assert_eq!(moment("2025-01-15T10:30:00+01:00").unwrap().to_string(), "2025-01-15T09:30:00Z");
        // Both pass the API server as a date-time.
        let error = moment("2025-01-15 10:30:00").unwrap_err().to_string();
        assert_eq!(error, r#""2025-01-15 10:30:00" is no moment: write it as in 2025-01-15T10:30:00Z"#);
    }
}
