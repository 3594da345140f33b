//! What can go wrong for one object, and when to look at it again.

use std::time::Duration;

use api::exit::Class;

/// The longest pause before an object is looked at again. Source: zero-touch H28.
const RETRY_MAX: Duration = Duration::from_secs(300);

/// The first pause after an error.
const RETRY_MIN: Duration = Duration::from_secs(1);

/// Why an object could not be brought to where it should be. None of these ends the operator, and none is final.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused, or did not answer.
    #[error("{what}")]
    Kubernetes {
        /// What was tried, with the object's name.
        what: String,
        /// What came back.
        #[source]
        source: Box<kube::Error>,
    },
    /// An object that the operator makes cannot be written as JSON.
    #[error("write {what} as JSON")]
    Encode {
        /// Which one.
        what: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The object as the cluster has it makes no sense.
    #[error("{what}")]
    Object {
        /// What is wrong with which object.
        what: String,
    },
    /// Somebody must act first.
    #[error("{what}")]
    Blocked {
        /// What is wrong, and what to do.
        what: String,
    },
}

impl Error {
    /// For `map_err`: what was tried.
    pub fn kubernetes(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let what = what.into();
        move |source| Self::Kubernetes { what, source: Box::new(source) }
    }

    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Kubernetes { source, .. } => match source.as_ref() {
                kube::Error::Api(status) if matches!(status.code, 400 | 403 | 404 | 422) => Class::Blocked,
                _ => Class::Retry,
            },
            Self::Encode { .. } => Class::Bug,
            Self::Object { .. } | Self::Blocked { .. } => Class::Blocked,
        }
    }

    /// Whether the API server said that the object had changed since it was read: look again at once.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Kubernetes { source, .. } if matches!(source.as_ref(), kube::Error::Api(status) if status.code == 409))
    }

    /// The chain on one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        text
    }
}

/// The pause after so many failures of one object in a row: doubling, from a second to five minutes.
pub fn retry_after(failures: u32) -> Duration {
    RETRY_MIN.saturating_mul(1 << failures.min(16)).min(RETRY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_below_five_minutes() {
        let seconds: Vec<u64> = [0, 1, 2, 8, 9, 100].map(retry_after).iter().map(Duration::as_secs).collect();
        assert_eq!(seconds, [1, 2, 4, 256, 300, 300]);
    }
}
