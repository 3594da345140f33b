//! The values of the `backup` label and the times they stand for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The label on a claim that asks for backups; its value is a [`Schedule`].
pub const LABEL: &str = "backup";

/// How often a labelled claim is backed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// At minute 0 of every hour.
    Hourly,
    /// At 02:00 every day.
    Daily,
}

/// A label value that names no schedule.
///
/// Such a claim is protected all the same and needs a person: a misspelt label must not mean "no backup".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("label {LABEL} has the value {value:?}: it must be hourly or daily")]
pub struct ScheduleError {
    /// What stands on the claim.
    pub value: String,
}

impl Schedule {
    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hourly => "hourly",
            Self::Daily => "daily",
        }
    }

    /// The cron expression in VolSync's dialect: minute, hour, day of month, month, day of week.
    pub fn cron(self) -> &'static str {
        match self {
            Self::Hourly => "0 * * * *",
            Self::Daily => "0 2 * * *",
        }
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

impl FromStr for Schedule {
    type Err = ScheduleError;

    fn from_str(value: &str) -> Result<Self, ScheduleError> {
        match value {
            "hourly" => Ok(Self::Hourly),
            "daily" => Ok(Self::Daily),
            other => Err(ScheduleError { value: other.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &str, cron: Option<&str>) {
        assert_eq!(value.parse::<Schedule>().ok().map(Schedule::cron), cron);
    }

    #[test]
    fn label_values() {
        check("hourly", Some("0 * * * *"));
        check("daily", Some("0 2 * * *"));
        check("", None);
        check("Hourly", None);
        check("daily ", None);
        check("weekly", None);
        let text = "weekly".parse::<Schedule>().unwrap_err().to_string();
        assert_eq!(text, r#"label backup has the value "weekly": it must be hourly or daily"#);
    }
}
