//! Spans of time as Kubernetes writes them: `90s`, `2h`, `1h30m`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// What a span may be: hours, minutes and seconds in this order, each whole and at most five digits.
pub const SPAN_PATTERN: &str = "^([0-9]{1,5}h)?([0-9]{1,5}m)?([0-9]{1,5}s)?$";

/// Digits of one part: whatever the pattern lets through is far from any overflow.
const DIGITS_MAX: usize = 5;

/// A whole number of seconds, written as in `90s`, `2h` or `1h30m`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    seconds: u64,
}

/// A text that is no span.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no span of time: write hours, minutes and seconds, as in 2h, 1h30m or 10s")]
pub struct SpanError {
    /// What was given.
    pub text: String,
}

impl Span {
    /// So many seconds.
    pub const fn of_seconds(seconds: u64) -> Self {
        Self { seconds }
    }

    /// So many minutes.
    pub const fn of_minutes(minutes: u64) -> Self {
        Self { seconds: minutes.saturating_mul(60) }
    }

    /// So many hours.
    pub const fn of_hours(hours: u64) -> Self {
        Self { seconds: hours.saturating_mul(3600) }
    }

    /// The same, in seconds.
    pub const fn seconds(self) -> u64 {
        self.seconds
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        Self::from_secs(span.seconds)
    }
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, SpanError> {
        parse(text).map(Self::of_seconds).ok_or_else(|| SpanError { text: text.to_owned() })
    }
}

/// The seconds of [`SPAN_PATTERN`]; nothing for any other text.
fn parse(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut seconds = 0;
    for (unit, factor) in [('h', 3600), ('m', 60), ('s', 1)] {
        let Some((number, after)) = rest.split_once(unit) else { continue };
        let is_number = (1..=DIGITS_MAX).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
        seconds += number.parse::<u64>().ok().filter(|_| is_number)? * factor;
        rest = after;
    }
    (rest.is_empty() && !text.is_empty()).then_some(seconds)
}

impl fmt::Display for Span {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hours, minutes, seconds) = (self.seconds / 3600, self.seconds / 60 % 60, self.seconds % 60);
        if hours > 0 {
            write!(out, "{hours}h")?;
        }
        if minutes > 0 {
            write!(out, "{minutes}m")?;
        }
        if seconds > 0 || self.seconds == 0 {
            write!(out, "{seconds}s")?;
        }
        Ok(())
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // The longest bounds what a rule about it may cost the API server.
        json_schema!({ "type": "string", "minLength": 1, "maxLength": 18, "pattern": SPAN_PATTERN })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<(u64, &str)>) {
        let parsed = text.parse::<Span>().ok();
        assert_eq!(
            parsed.map(|span| (span.seconds(), span.to_string())),
            expected.map(|(s, text)| (s, text.to_owned()))
        );
        // Whatever the schema's pattern lets through is read, and nothing else.
        let pattern = regex::Regex::new(SPAN_PATTERN).unwrap();
        assert_eq!(!text.is_empty() && pattern.is_match(text), parsed.is_some(), "{text:?}");
    }

    #[test]
    fn texts_and_seconds() {
        check("10s", Some((10, "10s")));
        check("2h", Some((7200, "2h")));
        check("120m", Some((7200, "2h")));
        check("1h30m", Some((5400, "1h30m")));
        check("90s", Some((90, "1m30s")));
        check("0s", Some((0, "0s")));
        check("1h0m1s", Some((3601, "1h1s")));
        check("99999h99999m99999s", Some((366_096_339, "101693h25m39s")));
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "10", "s", "-1s", "1.5h", "1d", "1m1h", "1h ", " 1h", "100000s", "1h1h", "+1s", "1ms"] {
            check(text, None);
        }
    }
}
