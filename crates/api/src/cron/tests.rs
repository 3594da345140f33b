use std::collections::BTreeSet;

use jiff::civil::DateTime;
use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn utc(text: &str) -> Timestamp {
    at(&format!("{text}:00Z"))
}

#[track_caller]
fn check(schedule: &str, after: &str, expected: &[&str]) {
    let cron: Cron = schedule.parse().unwrap();
    let mut now = utc(after);
    for expected in expected {
        now = cron.next_after(now, &TimeZone::UTC).unwrap();
        assert_eq!(now, utc(expected), "{schedule}");
    }
}

#[track_caller]
fn refused(schedule: &str, said: &str) {
    assert_eq!(schedule.parse::<Cron>().unwrap_err().to_string(), said);
}

#[test]
fn the_labels_schedules() {
    check("0 * * * *", "2026-11-22T00:00", &["2026-11-22T01:00", "2026-11-22T02:00"]);
    check("0 2 * * *", "2026-11-22T01:59", &["2026-11-22T02:00", "2026-11-23T02:00"]);
    check("0 2 * * *", "2026-12-31T02:00", &["2027-01-01T02:00"]);
}

#[test]
fn words() {
    check("@yearly", "2026-11-22T00:00", &["2027-01-01T00:00"]);
    check("@annually", "2026-11-22T00:00", &["2027-01-01T00:00"]);
    check("@monthly", "2026-11-22T00:00", &["2026-12-01T00:00"]);
    check("@weekly", "2026-11-22T00:00", &["2026-11-29T00:00"]);
    check("@daily ", "2026-11-22T00:00", &["2026-11-23T00:00"]);
    check("@hourly", "2026-11-22T00:00", &["2026-11-22T01:00"]);
}

#[test]
fn lists_ranges_and_steps() {
    check("*/20 8-9 * * *", "2026-11-22T08:30", &["2026-11-22T08:40", "2026-11-22T09:00", "2026-11-22T09:20"]);
    check("50/5 1,3 * * *", "2026-11-22T00:00", &["2026-11-22T01:50", "2026-11-22T01:55", "2026-11-22T03:50"]);
    check("0 0-12/6 * * *", "2026-11-22T00:00", &["2026-11-22T06:00", "2026-11-22T12:00", "2026-11-23T00:00"]);
}

#[test]
fn two_restricted_days_are_either() {
    // The 22nd is a Sunday.
    check("0 0 25 * 1", "2026-11-22T00:00", &["2026-11-23T00:00", "2026-11-25T00:00", "2026-11-30T00:00"]);
    // A step restricts, unless it is 1.
    check("0 0 */30 * 1", "2026-11-22T00:00", &["2026-11-23T00:00", "2026-11-30T00:00", "2026-12-01T00:00"]);
    check("0 0 */1 * 1", "2026-11-22T00:00", &["2026-11-23T00:00", "2026-11-30T00:00"]);
    check("0 0 * * 1", "2026-11-22T00:00", &["2026-11-23T00:00", "2026-11-30T00:00"]);
}

#[test]
fn a_leap_day_comes_and_the_31st_of_february_never() {
    check("0 0 29 2 *", "2096-03-01T00:00", &["2104-02-29T00:00"]);
    let never: Cron = "0 0 31 2 *".parse().unwrap();
    let error = never.next_after(utc("2026-11-22T00:00"), &TimeZone::UTC).unwrap_err();
    assert_eq!(error.to_string(), "schedule \"0 0 31 2 *\" never comes: check day and month");
}

#[test]
fn an_hour_that_is_skipped_does_not_come_and_one_that_is_repeated_comes_twice() {
    let berlin = TimeZone::get("Europe/Berlin").unwrap();
    let daily: Cron = "30 2 * * *".parse().unwrap();
    let next = |after: &str| daily.next_after(at(after), &berlin).unwrap();
    assert_eq!(next("2026-03-28T12:00:00+01:00"), at("2026-03-30T02:30:00+02:00"));
    assert_eq!(next("2026-10-25T00:00:00+02:00"), at("2026-10-25T02:30:00+02:00"));
    assert_eq!(next("2026-10-25T02:30:00+02:00"), at("2026-10-25T02:30:00+01:00"));
    assert_eq!(next("2026-10-25T02:30:00+01:00"), at("2026-10-26T02:30:00+01:00"));
}

#[test]
fn a_schedule_may_name_its_zone() {
    for prefix in ["CRON_TZ=Europe/Paris", "TZ=Europe/Paris"] {
        let cron: Cron = format!("{prefix} 0 2 * * *").parse().unwrap();
        let next = cron.next_after(at("2026-11-22T00:30:00Z"), &TimeZone::UTC).unwrap();
        assert_eq!(next, at("2026-11-22T01:00:00Z"));
    }
    refused("TZ=Mars/Base 0 2 * * *", "schedule \"TZ=Mars/Base 0 2 * * *\": there is no time zone \"Mars/Base\"");
}

#[test]
fn what_the_schema_lets_through_and_makes_no_sense() {
    refused("@dailyx", "schedule \"@dailyx\" is none of @yearly, @annually, @monthly, @weekly, @daily, @hourly");
    refused(
        "junk 0 2 * * *",
        "schedule \"junk 0 2 * * *\" has 6 fields: five are needed, as in \"0 2 * * *\", or a word such as @daily",
    );
    refused("12345", "schedule \"12345\" has 1 fields: five are needed, as in \"0 2 * * *\", or a word such as @daily");
    refused(
        "0 25 * * *",
        "schedule \"0 25 * * *\": hour \"25\" is not made of numbers from 0 to 23, *, ranges and steps",
    );
    refused(
        "0 2 * * 7",
        "schedule \"0 2 * * 7\": day of week \"7\" is not made of numbers from 0 to 6, *, ranges and steps",
    );
    for bad in ["*/0 * * * *", "5-1 * * * *", "+5 * * * *", ", * * * *", "1- * * * *", "60 * * * *", "256 * * * *"] {
        assert!(bad.parse::<Cron>().is_err(), "{bad}");
    }
    assert!("".parse::<Cron>().is_err());
}

/// A field's text and the values it means.
fn field(first: u8, last: u8) -> impl Strategy<Value = (String, BTreeSet<u8>)> {
    let part = (first..=last, first..=last, 1..=10_u8, 0..4_u8).prop_map(move |(a, b, step, kind)| {
        let (low, high) = (a.min(b), a.max(b));
        match kind {
            0 => (format!("{a}"), BTreeSet::from([a])),
            1 => (format!("{low}-{high}/{step}"), (low..=high).step_by(step.into()).collect()),
            2 => (format!("{a}/{step}"), (a..=last).step_by(step.into()).collect()),
            _ => (format!("*/{step}"), (first..=last).step_by(step.into()).collect()),
        }
    });
    prop::collection::vec(part, 1..3).prop_map(|parts| {
        let text = parts.iter().map(|(text, _)| text.as_str()).collect::<Vec<_>>().join(",");
        (text, parts.into_iter().flat_map(|(_, values)| values).collect())
    })
}

proptest! {
    /// Minute by minute, as nobody would do it.
    #[test]
    fn agrees_with_a_walk_through_every_minute(
        (minute, minutes) in field(0, 59), (hour, hours) in field(0, 23), start in 0..500_000_i64,
    ) {
        let cron: Cron = format!("{minute} {hour} * * *").parse().unwrap();
        let after = Timestamp::from_second(1_790_000_000 + start).unwrap();
        let next = cron.next_after(after, &TimeZone::UTC).unwrap();
        let found = (1..=2 * 24 * 60).map(|minute| Timestamp::from_second((after.as_second() / 60 + minute) * 60).unwrap());
        let expected = found.into_iter().find(|time| {
            let time: DateTime = TimeZone::UTC.to_datetime(*time);
            minutes.contains(&u8::try_from(time.minute()).unwrap()) && hours.contains(&u8::try_from(time.hour()).unwrap())
        });
        prop_assert_eq!(Some(next), expected);
    }

    #[test]
    fn no_text_makes_it_panic(text in "[0-9*/,@ a-z=-]{0,20}") {
        let _ = text.parse::<Cron>().map(|cron| cron.next_after(utc("2026-11-22T00:00"), &TimeZone::UTC));
    }
}
