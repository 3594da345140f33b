use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::{TimeZone, offset};
use proptest::prelude::*;
use repository::{Identity, Snapshot, SnapshotId, Stats};

use super::{Retention, Verdict, at_local, before, retain};

fn snapshot(id: &str, start: Timestamp, incomplete: bool) -> Snapshot {
    Snapshot {
        id: SnapshotId::new(id),
        identity: Identity { user: "u".to_owned(), host: "h".to_owned(), path: "/data".to_owned() },
        description: String::new(),
        start,
        end: start,
        incomplete: incomplete.then(|| "checkpoint".to_owned()),
        root: None,
        stats: Stats::default(),
        tags: BTreeMap::new(),
        pins: Vec::new(),
    }
}

fn policy(text: &str) -> Retention {
    let mut retention = Retention::default();
    for word in text.split_whitespace() {
        let (name, count) = word.split_once('=').unwrap();
        let member = match name {
            "latest" => &mut retention.keep_latest,
            "hourly" => &mut retention.keep_hourly,
            "daily" => &mut retention.keep_daily,
            "weekly" => &mut retention.keep_weekly,
            "monthly" => &mut retention.keep_monthly,
            "annual" => &mut retention.keep_annual,
            other => panic!("{other}"),
        };
        *member = Some(count.parse().unwrap());
    }
    retention
}

fn survivors(snapshots: &[Snapshot], verdicts: &[Verdict]) -> (Vec<Snapshot>, Vec<Verdict>) {
    snapshots.iter().cloned().zip(verdicts.iter().cloned()).filter(|(_, verdict)| !verdict.expired).unzip()
}

/// A line is `MM-DD HH:MM reasons`, with `?` behind the time of an incomplete snapshot and `-` for no reasons.
#[track_caller]
fn check(retention: &str, lines: &[&str]) {
    let retention = policy(retention);
    let mut snapshots: Vec<Snapshot> = lines
        .iter()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let time = words[1].trim_end_matches('?');
            let start = format!("2020-{}T{time}:00Z", words[0]).parse().unwrap();
            snapshot(line, start, words[1].ends_with('?'))
        })
        .collect();
    for _ in 0..2 {
        let verdicts = retain(&snapshots, &retention, &TimeZone::UTC);
        for verdict in &verdicts {
            let expected = verdict.snapshot.as_str().split_whitespace().last().unwrap();
            let reasons = if verdict.reasons.is_empty() { "-".to_owned() } else { verdict.reasons.join(",") };
            assert_eq!(reasons, expected, "{}", verdict.snapshot);
            assert_eq!(verdict.expired, expected == "-");
        }
        let (left, kept) = survivors(&snapshots, &verdicts);
        assert_eq!(retain(&left, &retention, &TimeZone::UTC), kept);
        snapshots.reverse();
    }
}

/// Source: Kopia format, "Retention" vectors.
#[test]
fn keeps_what_kopia_keeps() {
    check("", &["01-01 12:00 latest-4", "01-01 12:01 latest-3", "01-01 12:02 latest-2", "01-01 12:03 latest-1"]);
    check("latest=3", &["01-01 12:00 -", "01-01 12:01 latest-3", "01-01 12:02 latest-2", "01-01 12:03 latest-1"]);
    check(
        "daily=3",
        &[
            "01-01 12:00 -",
            "01-01 15:00 -",
            "01-02 12:00 -",
            "01-02 15:00 daily-3",
            "01-03 12:00 -",
            "01-03 15:00 daily-2",
            "01-04 12:00 -",
            "01-04 15:00 daily-1",
        ],
    );
    check(
        "monthly=3",
        &[
            "01-01 12:00 -",
            "01-01 15:00 -",
            "02-01 12:00 -",
            "02-02 15:00 monthly-3",
            "03-01 12:00 -",
            "03-02 15:00 monthly-2",
            "04-01 12:00 -",
            "04-02 15:00 monthly-1",
        ],
    );
    check(
        "monthly=3",
        &["01-01 12:00 -", "01-01 15:00 -", "03-02 15:00 monthly-2", "04-01 12:00 -", "04-02 15:00 monthly-1"],
    );
    check(
        "weekly=3",
        &["01-01 12:00 -", "01-01 15:00 weekly-3", "01-08 12:00 -", "01-09 12:00 weekly-2", "01-15 12:00 weekly-1"],
    );
    check(
        "latest=3",
        &[
            "04-02 15:00 latest-1",
            "04-02 15:01? -",
            "04-02 16:01? -",
            "04-02 17:01? -",
            "04-02 18:01? incomplete",
            "04-02 19:01? incomplete",
            "04-02 23:50? incomplete",
        ],
    );
}

/// Source: Kopia format, "Retention" vectors.
#[test]
fn combined_policies_keep_what_kopia_keeps() {
    let kept = [
        "03-02 15:00 monthly-2",
        "04-01 15:00 daily-2",
        "04-02 12:00 latest-3,hourly-3",
        "04-02 13:00 latest-2,hourly-2",
        "04-02 15:00 latest-1,hourly-1,daily-1,monthly-1",
        "04-02 20:01? incomplete",
        "04-02 21:01? incomplete",
        "04-02 22:01? incomplete",
        "04-02 23:01? incomplete",
        "04-02 23:50? incomplete",
    ];
    let complete = (1..=4).flat_map(|month| {
        ["01 12", "01 13", "01 14", "01 15", "02 12", "02 13", "02 15"].map(|at| format!("{month:02}-{at}:00"))
    });
    let checkpoints = (15..=23).map(|hour| format!("04-02 {hour}:01?")).chain(["04-02 23:50?".to_owned()]);
    let rows = |times: Vec<String>| -> Vec<String> {
        times
            .into_iter()
            .map(|time| {
                let row = kept.iter().find(|row| row.starts_with(&format!("{time} ")));
                row.map_or_else(|| format!("{time} -"), |row| (*row).to_owned())
            })
            .collect()
    };
    let with_checkpoints = rows(complete.clone().chain(checkpoints).collect());
    for lines in [rows(complete.collect()), with_checkpoints] {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        check("latest=3 hourly=7 daily=5 monthly=2", &lines);
    }
}

#[test]
fn a_month_and_a_week_of_the_same_text_take_each_others_place() {
    check("monthly=3 weekly=3", &["01-01 12:00 monthly-1"]);
}

#[test]
fn a_pin_keeps_without_a_reason() {
    let mut old = snapshot("old", "2020-01-01T00:00:00Z".parse().unwrap(), false);
    old.pins.push("audit".to_owned());
    let new = snapshot("new", "2020-02-01T00:00:00Z".parse().unwrap(), false);
    let verdicts = retain(&[old, new], &policy("latest=1"), &TimeZone::UTC);
    assert_eq!((verdicts[0].reasons.len(), verdicts[0].expired), (0, false));
}

#[test]
fn days_that_a_month_lacks_run_over_as_in_go() {
    let check = |from: &str, months, days, to: &str| {
        let found = before(from.parse().unwrap(), &TimeZone::UTC, months, days);
        assert_eq!(found, Some(to.parse().unwrap()), "{from} - {months} months - {days} days");
    };
    check("2020-03-31T10:00:00Z", 1, 0, "2020-03-02T10:00:00Z");
    check("2021-03-31T10:00:00.5Z", 1, 0, "2021-03-03T10:00:00.5Z");
    check("2020-02-29T00:00:00Z", 12, 0, "2019-03-01T00:00:00Z");
    check("2020-01-15T00:00:00Z", 1, 0, "2019-12-15T00:00:00Z");
    check("2020-03-01T00:00:00Z", 0, 7, "2020-02-23T00:00:00Z");
    assert_eq!(before("2020-03-01T00:00:00Z".parse().unwrap(), &TimeZone::UTC, 1 << 40, 0), None);
}

#[test]
fn local_times_keep_their_hour_across_clock_changes() {
    let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
    let found = before("2024-04-01T10:00:00Z".parse().unwrap(), &zone, 0, 2);
    assert_eq!(found, Some("2024-03-30T11:00:00Z".parse().unwrap()));
    // 02:30 does not exist that day; Go lands at 03:30 summer time.
    let gap = at_local("2024-03-31T02:30:00".parse().unwrap(), &zone);
    assert_eq!(gap, Some("2024-03-31T01:30:00Z".parse().unwrap()));
}

#[test]
fn weeks_are_local_and_days_are_utc() {
    // Both in the night to Monday, 13 January: one UTC day, two weeks at +02:00, one week in UTC.
    let snapshots = ["2020-01-12T21:30:00Z", "2020-01-12T22:30:00Z"].map(|at| snapshot(at, at.parse().unwrap(), false));
    let kept = |zone: &TimeZone, text| {
        retain(&snapshots, &policy(text), zone).iter().filter(|verdict| !verdict.expired).count()
    };
    let east = TimeZone::fixed(offset(2));
    assert_eq!((kept(&TimeZone::UTC, "weekly=5"), kept(&east, "weekly=5")), (1, 2));
    assert_eq!((kept(&TimeZone::UTC, "daily=5"), kept(&east, "daily=5")), (1, 1));
}

proptest! {
    #[test]
    fn running_it_again_removes_nothing(
        counts in prop::array::uniform6(prop::option::of(0_u32..6)),
        times in prop::collection::vec((0_i64..80_000, prop::bool::weighted(0.2), prop::bool::weighted(0.1)), 0..80),
        hours in -12_i8..=12,
    ) {
        let [keep_latest, keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_annual] = counts;
        let retention = Retention { keep_latest, keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_annual };
        let zone = TimeZone::fixed(offset(hours));
        let snapshots: Vec<Snapshot> = times
            .iter()
            .enumerate()
            .map(|(at, (half_hours, incomplete, pinned))| {
                let start = Timestamp::from_second(1_500_000_000 + half_hours * 1800).unwrap();
                let mut one = snapshot(&at.to_string(), start, *incomplete);
                one.pins.extend(pinned.then(|| "pin".to_owned()));
                one
            })
            .collect();
        let verdicts = retain(&snapshots, &retention, &zone);
        let newest = snapshots.iter().zip(&verdicts).max_by_key(|(one, verdict)| (one.start, verdict.reasons.len()));
        prop_assert!(newest.is_none_or(|(_, verdict)| !verdict.expired));
        let (left, kept) = survivors(&snapshots, &verdicts);
        prop_assert_eq!(retain(&left, &retention, &zone), kept);
    }
}
