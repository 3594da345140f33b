//! Where "now" comes from.

use jiff::Timestamp;

/// A source of the current instant. Formats write it into records, so tests must be able to set it.
pub trait Clock: Send + Sync {
    /// The current instant.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place where programs read the machine's clock")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}
