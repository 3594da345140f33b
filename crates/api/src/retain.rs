//! How many snapshots to keep, in VolSync's spelling.

use serde::{Deserialize, Serialize};

/// How many snapshots stay, per period; absent means that the period has no say.
///
/// The union of what VolSync's restic and Kopia sections accept: `within` and `last` are restic's, `latest` is Kopia's.
/// Each mover converts the ones it knows. Source: VolSync API, `spec.restic.retain` and `spec.kopia.retain`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retain {
    /// The newest snapshot of each of so many hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hourly: Option<u32>,
    /// The newest snapshot of each of so many days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daily: Option<u32>,
    /// The newest snapshot of each of so many weeks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weekly: Option<u32>,
    /// The newest snapshot of each of so many months.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monthly: Option<u32>,
    /// The newest snapshot of each of so many years.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub yearly: Option<u32>,
    /// restic: everything younger than this span before the newest snapshot, as in `3d12h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
    /// restic: the newest so many; VolSync's field is text, as in `"3"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// Kopia: the newest so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest: Option<u32>,
}

impl Retain {
    /// What a claim with a `backup` label keeps, `hourly` and `daily` alike: 24 hourly, 7 daily, 4 weekly, 2 monthly.
    pub fn of_label() -> Self {
        Self { hourly: Some(24), daily: Some(7), weekly: Some(4), monthly: Some(2), ..Self::default() }
    }

    /// Whether nothing was said at all. What that means is the format's affair, not "delete everything".
    pub fn is_unset(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_volsyncs_spelling() {
        let retain: Retain =
            serde_json::from_str(r#"{"hourly":24,"daily":7,"weekly":4,"monthly":2,"within":"3d","last":"5"}"#).unwrap();
        assert_eq!(retain, Retain { within: Some("3d".into()), last: Some("5".into()), ..Retain::of_label() });
        assert!(serde_json::from_str::<Retain>(r#"{"hurly":24}"#).is_err());
    }

    #[test]
    fn says_only_what_was_said() {
        let text = serde_json::to_string(&Retain::of_label()).unwrap();
        assert_eq!(text, r#"{"hourly":24,"daily":7,"weekly":4,"monthly":2}"#);
        assert!(Retain::default().is_unset());
        assert!(!Retain { daily: Some(0), ..Retain::default() }.is_unset());
    }
}
