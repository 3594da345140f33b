//! Which snapshots a retention policy keeps.
//!
//! The result must be Kopia's, quirks included: two programs that expire one history by different rules would each remove
//! what the other keeps. Pure: the zone is an argument, and "now" is the newest snapshot. Source: Kopia format, "Retention".

use std::cmp::Reverse;
use std::collections::HashSet;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan as _};
use repository::{Snapshot, SnapshotId};

/// Incomplete snapshots this much older than the newest one go, unless they are among the first few.
const INCOMPLETE_AGE_MAX: SignedDuration = SignedDuration::from_hours(4);
/// So many incomplete snapshots stay, however old.
const INCOMPLETE_COUNT_MIN: usize = 3;
const HOURS_PER_DAY: i64 = 24;
const DAYS_PER_WEEK: u32 = 7;

/// How many snapshots to keep of each kind; unset keeps none of that kind, as zero does.
///
/// If all six together are zero, every complete snapshot stays. Source: Kopia format, "Retention".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Retention {
    /// The newest ones.
    pub keep_latest: Option<u32>,
    /// The newest of each hour, within so many hours before the newest snapshot.
    pub keep_hourly: Option<u32>,
    /// The newest of each day, within so many days before the newest snapshot.
    pub keep_daily: Option<u32>,
    /// The newest of each ISO week, within so many weeks before the newest snapshot.
    pub keep_weekly: Option<u32>,
    /// The newest of each month, within so many months before the newest snapshot.
    pub keep_monthly: Option<u32>,
    /// The newest of each year, within so many years before the newest snapshot.
    pub keep_annual: Option<u32>,
}

impl Retention {
    /// How many of the newest to keep: without limit if nothing at all is to be kept.
    fn effective_latest(&self) -> Option<u32> {
        let all = [
            self.keep_latest,
            self.keep_hourly,
            self.keep_daily,
            self.keep_weekly,
            self.keep_monthly,
            self.keep_annual,
        ];
        if all.into_iter().flatten().all(|count| count == 0) { Some(u32::MAX) } else { self.keep_latest }
    }
}

/// What retention says about one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Which one.
    pub snapshot: SnapshotId,
    /// Why it stays: `latest-1`, `daily-2`, `incomplete`, … in the order latest, hourly, daily, weekly, monthly, annual.
    pub reasons: Vec<String>,
    /// True if nothing keeps it: it has neither a reason nor a pin.
    pub expired: bool,
}

/// Decides which of the snapshots stay; the verdicts stand in the order of `snapshots`.
///
/// All snapshots must be of one identity. `zone` is the zone of weeks and of calendar arithmetic, where Kopia takes its
/// process's; days, months and years are named in UTC all the same. Running it again on what stays removes nothing.
/// Source: Kopia format, "Retention".
pub fn retain(snapshots: &[Snapshot], retention: &Retention, zone: &TimeZone) -> Vec<Verdict> {
    let mut verdicts: Vec<Verdict> = snapshots
        .iter()
        .map(|snapshot| Verdict { snapshot: snapshot.id.clone(), reasons: Vec::new(), expired: false })
        .collect();
    let newest_first = newest_first(snapshots);
    if let Some(newest_complete) = newest_first.iter().map(|at| &snapshots[*at]).find(|one| one.incomplete.is_none()) {
        let mut periods = periods(retention, newest_complete.start, zone);
        // One set for all kinds: in Kopia the month 2020-01 and the week 2020-01 take each other's place.
        let mut seen = HashSet::new();
        for (position, at) in newest_first.iter().enumerate() {
            let snapshot = &snapshots[*at];
            if snapshot.incomplete.is_none() {
                verdicts[*at].reasons = reasons(position, snapshot.start, zone, &mut periods, &mut seen);
            }
        }
    }
    keep_incomplete(snapshots, &newest_first, &mut verdicts);
    for (snapshot, verdict) in snapshots.iter().zip(&mut verdicts) {
        verdict.expired = verdict.reasons.is_empty() && snapshot.pins.is_empty();
    }
    verdicts
}

/// Positions in `snapshots`. The id decides between equal times, so that the order of the input has no influence.
fn newest_first(snapshots: &[Snapshot]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..snapshots.len()).collect();
    order.sort_by_key(|at| {
        let snapshot = &snapshots[*at];
        (Reverse(snapshot.start), Reverse(snapshot.end), &snapshot.id)
    });
    order
}

/// Incomplete snapshots stay only while no complete one is newer, and then the young or the first few.
fn keep_incomplete(snapshots: &[Snapshot], newest_first: &[usize], verdicts: &mut [Verdict]) {
    let Some(newest) = newest_first.first().map(|at| snapshots[*at].start) else { return };
    for (position, at) in newest_first.iter().enumerate() {
        let snapshot = &snapshots[*at];
        let young = newest.duration_since(snapshot.start) < INCOMPLETE_AGE_MAX;
        if snapshot.incomplete.is_none() || !(young || position < INCOMPLETE_COUNT_MIN) {
            return;
        }
        verdicts[*at].reasons.push("incomplete".to_owned());
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Latest,
    Annual,
    Monthly,
    Weekly,
    Daily,
    Hourly,
}

/// One kind of period while the snapshots are gone through.
struct Period {
    kind: Kind,
    name: &'static str,
    /// Place of its reason among those of one snapshot.
    rank: u8,
    limit: u32,
    used: u32,
    cutoff: Timestamp,
}

/// The kinds that are set, in the order in which they claim snapshots.
fn periods(retention: &Retention, newest: Timestamp, zone: &TimeZone) -> Vec<Period> {
    let limits = [
        (Kind::Latest, "latest", 1, retention.effective_latest()),
        (Kind::Annual, "annual", 6, retention.keep_annual),
        (Kind::Monthly, "monthly", 5, retention.keep_monthly),
        (Kind::Weekly, "weekly", 4, retention.keep_weekly),
        (Kind::Daily, "daily", 3, retention.keep_daily),
        (Kind::Hourly, "hourly", 2, retention.keep_hourly),
    ];
    limits
        .into_iter()
        .filter_map(|(kind, name, rank, limit)| {
            let limit = limit?;
            // Farther back than times go is no limit at all.
            let cutoff = cutoff(kind, limit, newest, zone).unwrap_or(Timestamp::MIN);
            Some(Period { kind, name, rank, limit, used: 0, cutoff })
        })
        .collect()
}

fn cutoff(kind: Kind, count: u32, newest: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    match kind {
        Kind::Latest => None,
        Kind::Annual => before(newest, zone, i64::from(count) * 12, 0),
        Kind::Monthly => before(newest, zone, i64::from(count), 0),
        Kind::Weekly => before(newest, zone, 0, i64::from(count) * i64::from(DAYS_PER_WEEK)),
        Kind::Daily => before(newest, zone, 0, i64::from(count)),
        Kind::Hourly => newest.checked_sub(SignedDuration::from_hours(i64::from(count))).ok(),
    }
}

/// The same local time of day so many months and days earlier, as Go computes it.
///
/// A day that the month does not have runs over into the next one: a month before 31 March is 2 or 3 March. None where
/// the result is out of the range of times.
fn before(time: Timestamp, zone: &TimeZone, months: i64, days: i64) -> Option<Timestamp> {
    let local = zone.to_datetime(time);
    let month = i64::from(local.year()) * 12 + i64::from(local.month()) - 1 - months;
    let year = i16::try_from(month.div_euclid(12)).ok()?;
    let month = i8::try_from(month.rem_euclid(12) + 1).ok()?;
    let days = i64::from(local.day()) - 1 - days;
    let date = jiff::civil::Date::new(year, month, 1).ok()?;
    let date = date.checked_add(SignedDuration::from_hours(days.checked_mul(HOURS_PER_DAY)?)).ok()?;
    at_local(date.to_datetime(local.time()), zone)
}

/// The instant of a local time. Where the clock was turned, Go's choice: the offset that holds at the instant which the
/// offset at the local time read as UTC leads to.
fn at_local(local: DateTime, zone: &TimeZone) -> Option<Timestamp> {
    let as_utc = TimeZone::UTC.to_timestamp(local).ok()?;
    let guess = as_utc.checked_sub(i64::from(zone.to_offset(as_utc).seconds()).seconds()).ok()?;
    as_utc.checked_sub(i64::from(zone.to_offset(guess).seconds()).seconds()).ok()
}

/// Why the complete snapshot at `position` stays.
fn reasons(
    position: usize,
    start: Timestamp,
    zone: &TimeZone,
    periods: &mut [Period],
    seen: &mut HashSet<String>,
) -> Vec<String> {
    let mut reasons = Vec::new();
    for period in periods {
        if start < period.cutoff
            || period.used >= period.limit
            || !seen.insert(bucket(period.kind, position, start, zone))
        {
            continue;
        }
        period.used += 1;
        reasons.push((period.rank, format!("{}-{}", period.name, period.used)));
    }
    reasons.sort();
    reasons.into_iter().map(|(_, reason)| reason).collect()
}

fn bucket(kind: Kind, position: usize, start: Timestamp, zone: &TimeZone) -> String {
    let utc = TimeZone::UTC.to_datetime(start);
    let (year, month, day) = (utc.year(), utc.month(), utc.day());
    match kind {
        Kind::Latest => position.to_string(),
        Kind::Annual => format!("{year:04}"),
        Kind::Monthly => format!("{year:04}-{month:02}"),
        Kind::Weekly => {
            let week = zone.to_datetime(start).date().iso_week_date();
            format!("{:04}-{:02}", week.year(), week.week())
        }
        Kind::Daily => format!("{year:04}-{month:02}-{day:02}"),
        Kind::Hourly => format!("{year:04}-{month:02}-{day:02} {:02}", utc.hour()),
    }
}

#[cfg(test)]
mod tests;
