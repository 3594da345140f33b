//! Instants in JSON as Go writes them: RFC 3339 in UTC, with as many digits of the second as are not zero.
//!
//! Every entry of every listing has one, so both directions are written out for the years that file systems know; what lies
//! outside, or is spelt in another way, goes to the calendar library.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const DAY_SECONDS: u64 = 86_400;
/// `2006-01-02T15:04:05.000000000Z`.
const TEXT_BYTES_MAX: usize = 30;
/// From 0000-03-01, where the reckoning below begins, to 1970-01-01.
const DAYS_BEFORE_1970: u64 = 719_468;
/// 400 years.
const ERA_DAYS: u64 = 146_097;

/// An instant that is read and written as Go does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GoTime(pub(crate) Timestamp);

impl Serialize for GoTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut buffer = [0; TEXT_BYTES_MAX];
        match write(self.0, &mut buffer) {
            Some(text) => serializer.serialize_str(text),
            None => self.0.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for GoTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Text::deserialize(deserializer)?.0;
        match read(text.as_bytes()) {
            Some(time) => Ok(Self(time)),
            None => text.parse().map(Self).map_err(serde::de::Error::custom),
        }
    }
}

/// A string that is borrowed wherever nothing in it is escaped.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

/// The text of an instant from 1970 on; none for earlier ones.
fn write(time: Timestamp, buffer: &mut [u8; TEXT_BYTES_MAX]) -> Option<&str> {
    let seconds = u64::try_from(time.as_second()).ok()?;
    let nanoseconds = u32::try_from(time.subsec_nanosecond()).ok()?;
    let (year, month, day) = civil(seconds / DAY_SECONDS);
    let of_day = seconds % DAY_SECONDS;
    let fields = [(year, 4, b'-'), (month, 2, b'-'), (day, 2, b'T')];
    let clock = [(of_day / 3600, 2, b':'), (of_day / 60 % 60, 2, b':'), (of_day % 60, 2, b'.')];
    let mut at = 0;
    for (number, digits, after) in fields.into_iter().chain(clock) {
        digits_into(number, &mut buffer[at..at + digits]);
        buffer[at + digits] = after;
        at += digits + 1;
    }
    digits_into(u64::from(nanoseconds), &mut buffer[at..at + 9]);
    let fraction = &buffer[at..at + 9];
    let kept = fraction.iter().rposition(|digit| *digit != b'0').map_or(0, |last| last + 1);
    // Without digits there is no point either.
    let end = if kept == 0 { at - 1 } else { at + kept };
    buffer[end] = b'Z';
    std::str::from_utf8(&buffer[..=end]).ok()
}

fn digits_into(mut number: u64, out: &mut [u8]) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// The instant of a text of that form from 1970 on; none for every other text.
fn read(text: &[u8]) -> Option<Timestamp> {
    let (clock, rest) = text.split_at_checked(19)?;
    let number = |range: std::ops::Range<usize>| digits(&clock[range]);
    let marks = [clock[4], clock[7], clock[10], clock[13], clock[16]];
    if marks != *b"--T::" {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    if year < 1970 || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = days(year, month, day)?;
    let nanoseconds = match rest {
        [b'Z'] => 0,
        [b'.', fraction @ .., b'Z'] if (1..=9).contains(&fraction.len()) => {
            digits(fraction)? * 10_u64.pow(9 - fraction.len() as u32)
        }
        _ => return None,
    };
    let seconds = days * DAY_SECONDS + hour * 3600 + minute * 60 + second;
    Timestamp::new(i64::try_from(seconds).ok()?, i32::try_from(nanoseconds).ok()?).ok()
}

fn digits(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0')))
}

/// Year, month and day of a day counted from 1970-01-01.
///
/// Years are counted from March, so that the leap day is the last of its year. Source: "Euclidean affine functions and their
/// application to calendar algorithms", Neri and Schneider, section on the Gregorian calendar.
fn civil(days_since_1970: u64) -> (u64, u64, u64) {
    let days = days_since_1970 + DAYS_BEFORE_1970;
    let (era, day_of_era) = (days / ERA_DAYS, days % ERA_DAYS);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// Days from 1970-01-01 to that day; none for a day that does not exist.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year_from_march = year - u64::from(month <= 2);
    let (era, year_of_era) = (year_from_march / 400, year_from_march % 400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = (era * ERA_DAYS + day_of_era).checked_sub(DAYS_BEFORE_1970)?;
    (civil(days) == (year, month, day)).then_some(days)
}

#[cfg(test)]
mod tests {
    use super::{GoTime, TEXT_BYTES_MAX, read, write};
    use jiff::Timestamp;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn both_directions_are_the_calendars(second in -1_000_000_i64..253_402_207_200, nanosecond in prop_oneof![
            Just(0), 0..1_000_000_000_i32, (0..1000_i32).prop_map(|millisecond| millisecond * 1_000_000)
        ]) {
            let time = Timestamp::new(second, nanosecond).unwrap();
            let text = time.to_string();
            let mut buffer = [0; TEXT_BYTES_MAX];
            let written = write(time, &mut buffer);
            if second >= 0 {
                prop_assert_eq!(written, Some(text.as_str()));
                prop_assert_eq!(read(text.as_bytes()), Some(time));
            }
            let json = serde_json::to_string(&GoTime(time)).unwrap();
            prop_assert_eq!(&json, &serde_json::to_string(&time).unwrap());
            prop_assert_eq!(serde_json::from_str::<GoTime>(&json).unwrap(), GoTime(time));
        }

        /// Whatever is read here, the calendar reads alike.
        #[test]
        fn damaged_texts_are_no_other_instants(at in 0_usize..31, byte in any::<u8>(), nanosecond in 0..1_000_000_000_i32) {
            let mut text = Timestamp::new(1_700_000_000, nanosecond).unwrap().to_string().into_bytes();
            let at = at % text.len();
            text[at] = byte;
            if let (Some(time), Ok(text)) = (read(&text), std::str::from_utf8(&text)) {
                prop_assert_eq!(text.parse::<Timestamp>().ok(), Some(time));
            }
        }
    }

    #[test]
    fn other_spellings_go_to_the_calendar() {
        for (text, same) in [
            ("2023-11-14T23:13:20+01:00", "2023-11-14T22:13:20Z"),
            ("2023-11-14t22:13:20.50z", "2023-11-14T22:13:20.5Z"),
            ("1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59.5Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ] {
            let read = |text: &str| serde_json::from_str::<GoTime>(&format!("{text:?}")).unwrap();
            assert_eq!(read(text).0, same.parse().unwrap(), "{text}");
        }
        for wrong in ["2023-02-30T00:00:00Z", "2023-13-01T00:00:00Z", "2023-11-14", "", "2023-11-14T24:00:00Z"] {
            assert!(serde_json::from_str::<GoTime>(&format!("{wrong:?}")).is_err(), "{wrong}");
        }
    }
}
