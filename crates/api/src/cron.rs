//! When a schedule is due, in the dialect of VolSync's `trigger.schedule`.
//!
//! Five fields: minute 0–59, hour 0–23, day of month 1–31, month 1–12, day of week 0–6 with 0 = Sunday; each a list of
//! `*`, `*/step`, `a`, `a/step` (from `a` to the end), `a-b`, `a-b/step`. Or one of `@yearly`, `@annually`, `@monthly`,
//! `@weekly`, `@daily`, `@hourly`. Before it, `CRON_TZ=<zone> ` or `TZ=<zone> ` names a time zone of the IANA's list.
//!
//! Two sharp edges that existing schedules rely on: if both days are restricted, a day matches when either does, and
//! `*/step` restricts unless the step is 1; and times of an hour that the clock skips do not come that day, those of an
//! hour that comes twice come twice. Source: VolSync API §4.2.

use std::fmt;
use std::str::FromStr;

use jiff::civil::Date;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Span, Timestamp};

/// Days that are searched for the next time: a leap day comes every four years, and once in eight around 2100.
const DAYS_SEARCHED: i64 = 366 * 8 + 2;

/// A schedule, ready to be asked.
#[derive(Clone, Debug)]
pub struct Cron {
    text: String,
    zone: Option<TimeZone>,
    minutes: Field,
    hours: Field,
    days: Field,
    months: Field,
    weekdays: Field,
}

/// The values of one field at which the schedule comes, as bits, and whether the field says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Field {
    bits: u64,
    is_star: bool,
}

/// What a field may hold.
struct Range {
    name: &'static str,
    first: u8,
    last: u8,
}

const MINUTE: Range = Range { name: "minute", first: 0, last: 59 };
const HOUR: Range = Range { name: "hour", first: 0, last: 23 };
const DAY: Range = Range { name: "day of month", first: 1, last: 31 };
const MONTH: Range = Range { name: "month", first: 1, last: 12 };
const WEEKDAY: Range = Range { name: "day of week", first: 0, last: 6 };

/// A schedule that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// Not five fields, and no word that stands for them.
    #[error("schedule {text:?} has {count} fields: five are needed, as in \"0 2 * * *\", or a word such as @daily")]
    Fields {
        /// The schedule.
        text: String,
        /// How many there are.
        count: usize,
    },
    /// A word with `@` that is none of ours.
    #[error("schedule {text:?} is none of @yearly, @annually, @monthly, @weekly, @daily, @hourly")]
    Word {
        /// The schedule.
        text: String,
    },
    /// A field that makes no sense.
    #[error("schedule {text:?}: {field} {value:?} is not made of numbers from {first} to {last}, *, ranges and steps")]
    Field {
        /// The schedule.
        text: String,
        /// Which field.
        field: &'static str,
        /// What stands there.
        value: String,
        /// The field's smallest number.
        first: u8,
        /// The field's largest number.
        last: u8,
    },
    /// A time zone that nobody knows.
    #[error("schedule {text:?}: there is no time zone {zone:?}")]
    Zone {
        /// The schedule.
        text: String,
        /// What was named.
        zone: String,
    },
    /// A date that does not exist, such as 31 February.
    #[error("schedule {text:?} never comes: check day and month")]
    Never {
        /// The schedule.
        text: String,
    },
}

impl Cron {
    /// The first time after `after`, strictly, at a whole minute. `zone` counts unless the schedule names its own.
    ///
    /// # Errors
    /// [`CronError::Never`] if none comes within eight years.
    pub fn next_after(&self, after: Timestamp, zone: &TimeZone) -> Result<Timestamp, CronError> {
        let zone = self.zone.as_ref().unwrap_or(zone);
        let first = after.to_zoned(zone.clone()).date();
        let never = || CronError::Never { text: self.text.clone() };
        for day in 0..DAYS_SEARCHED {
            let date = first.checked_add(Span::new().days(day)).map_err(|_| never())?;
            if let Some(found) = self.first_of_day(date, after, zone) {
                return Ok(found);
            }
        }
        Err(never())
    }

    /// An hour that comes twice makes the order of instants differ from that of the clock, so all of a day are looked at.
    fn first_of_day(&self, date: Date, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        if !self.is_day(date) {
            return None;
        }
        let hours = (0..24).filter(|hour| self.hours.has(*hour));
        let times =
            hours.flat_map(|hour| (0..60).filter(|minute| self.minutes.has(*minute)).map(move |minute| (hour, minute)));
        times
            .flat_map(|(hour, minute)| instants(date, hour, minute, zone))
            .flatten()
            .filter(|found| *found > after)
            .min()
    }

    fn is_day(&self, date: Date) -> bool {
        let day = self.days.has(date.day());
        let weekday = self.weekdays.has(date.weekday().to_sunday_zero_offset());
        let is_either = !self.days.is_star && !self.weekdays.is_star;
        self.months.has(date.month()) && if is_either { day || weekday } else { day && weekday }
    }
}

/// The moments at which a clock shows that time on that day: none, one or two.
fn instants(date: Date, hour: i8, minute: i8, zone: &TimeZone) -> [Option<Timestamp>; 2] {
    let time = date.at(hour, minute, 0, 0);
    let at = |offset: jiff::tz::Offset| offset.to_timestamp(time).ok();
    match zone.to_ambiguous_timestamp(time).offset() {
        AmbiguousOffset::Unambiguous { offset } => [at(offset), None],
        AmbiguousOffset::Gap { .. } => [None, None],
        AmbiguousOffset::Fold { before, after } => [at(before), at(after)],
    }
}

impl Field {
    fn has(self, value: i8) -> bool {
        u8::try_from(value).is_ok_and(|value| self.bits >> value & 1 == 1)
    }

    fn read(text: &str, range: &Range) -> Option<Self> {
        let mut field = Self { bits: 0, is_star: false };
        for part in text.split(',') {
            let (span, step) = match part.split_once('/') {
                Some((span, step)) => (span, Some(number(step)?)),
                None => (part, None),
            };
            let (first, last) = match span.split_once('-') {
                _ if span == "*" => (range.first, range.last),
                Some((first, last)) => (number(first)?, number(last)?),
                // A start with a step goes on to the end.
                None => (number(span)?, if step.is_some() { range.last } else { number(span)? }),
            };
            let step = step.unwrap_or(1);
            if step == 0 || first < range.first || last > range.last || first > last {
                return None;
            }
            field.is_star |= span == "*" && step == 1;
            field.bits |= (first..=last).step_by(usize::from(step)).fold(0, |bits, value| bits | 1 << value);
        }
        Some(field)
    }
}

/// Digits only: no sign.
fn number(text: &str) -> Option<u8> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

impl FromStr for Cron {
    type Err = CronError;

    fn from_str(text: &str) -> Result<Self, CronError> {
        let prefixed = text.strip_prefix("CRON_TZ=").or_else(|| text.strip_prefix("TZ="));
        let (zone, fields) = match prefixed.map(|rest| rest.split_once(' ').unwrap_or((rest, ""))) {
            Some((name, fields)) => (Some(zone(text, name)?), fields),
            None => (None, text),
        };
        let fields = match fields.trim() {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            word if word.starts_with('@') => return Err(CronError::Word { text: text.to_owned() }),
            fields => fields,
        };
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(CronError::Fields { text: text.to_owned(), count: fields.len() });
        };
        let field = |value: &str, range: &Range| {
            Field::read(value, range).ok_or_else(|| CronError::Field {
                text: text.to_owned(),
                field: range.name,
                value: value.to_owned(),
                first: range.first,
                last: range.last,
            })
        };
        Ok(Self {
            text: text.to_owned(),
            zone,
            minutes: field(minute, &MINUTE)?,
            hours: field(hour, &HOUR)?,
            days: field(day, &DAY)?,
            months: field(month, &MONTH)?,
            weekdays: field(weekday, &WEEKDAY)?,
        })
    }
}

fn zone(text: &str, name: &str) -> Result<TimeZone, CronError> {
    TimeZone::get(name).map_err(|_| CronError::Zone { text: text.to_owned(), zone: name.to_owned() })
}

impl fmt::Display for Cron {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests;
