//! Text for people and JSON for programs.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, Write as _};
use std::time::Duration;

use engine::{Shortfall, ShortfallKind, Shortfalls};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use repository::FailedEntry;
use serde::Serialize;
use storage::layer::meter::MeterSnapshot;

use crate::failure::Failure;

/// Characters of a snapshot's id that tables show: enough to tell thousands apart, and taken by every command.
const SHORT_ID_LENGTH: usize = 10;

/// Prints on standard output.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| Failure::printing(&error))
}

/// Prints one JSON document on standard output.
pub fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).expect("views hold only text, numbers and lists");
    print(&format!("{text}\n"))
}

/// Says one line on standard error.
pub fn say(line: &str) {
    // Where even that is closed there is nobody to tell.
    let _ = writeln!(io::stderr().lock(), "{}", visible(line));
}

/// Warns on standard error.
pub fn warn(message: &str) {
    say(&format!("warning: {message}"));
}

/// An error and its sources on one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

/// Text without control characters: names of files come from anywhere and must not steer a terminal.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() { shown.extend(char.escape_default()) } else { shown.push(char) }
    }
    shown
}

/// `1.5 GiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut size = count as f64;
    let mut unit = "";
    for next in UNITS {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = next;
    }
    format!("{size:.1} {unit}")
}

/// `1 234 567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.char_indices() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// `1 file`, `2 files`.
pub fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// `0.4 s`, `3 min 12 s`, `2 h 5 min`.
pub fn duration(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..60 => format!("{:.1} s", span.as_secs_f64()),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// `2026-03-01 14:05:09 CET`, in the machine's zone.
pub fn time(instant: Timestamp) -> String {
    instant.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
}

/// The beginning of an id.
pub fn short_id(id: &str) -> &str {
    id.char_indices().nth(SHORT_ID_LENGTH).map_or(id, |(end, _)| &id[..end])
}

/// How a column stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// Rows under their headings; every cell is made visible.
pub fn table(columns: &[(&str, Align)], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = std::iter::once(columns.iter().map(|(heading, _)| (*heading).to_owned()).collect())
        .chain(rows.iter().map(|row| row.iter().map(|cell| visible(cell)).collect()))
        .collect();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for ((cell, width), (_, align)) in row.iter().zip(&widths).zip(columns) {
            match align {
                Align::Left => line.push_str(&format!("{cell:<width$}  ")),
                Align::Right => line.push_str(&format!("{cell:>width$}  ")),
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Lines of a name and a value, indented by two.
pub fn block(lines: &[(&str, String)]) -> String {
    let width = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    lines.iter().map(|(name, value)| format!("  {name:<width$}  {}\n", visible(value))).collect()
}

/// Entries that a text names; JSON has all that are known.
const FAILED_NAMED_MAX: usize = 20;

/// A heading with a count, and the first of the entries behind it; nothing when there are none.
pub fn failed(heading: &str, count: u64, entries: &[FailedView]) -> String {
    if count == 0 {
        return String::new();
    }
    let mut text = format!("{heading}: {}\n", counted(count, "entry", "entries"));
    for entry in entries.iter().take(FAILED_NAMED_MAX) {
        text.push_str(&format!("  {}: {}\n", visible(&entry.path), visible(&entry.error)));
    }
    let named = entries.len().min(FAILED_NAMED_MAX) as u64;
    if named < count {
        text.push_str(&format!("  and {} more\n", self::count(count - named)));
    }
    text
}

/// A span in whole milliseconds.
pub fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// An entry that could not be read or written.
#[derive(Serialize)]
pub struct FailedView {
    /// Relative to the root.
    pub path: String,
    /// Why.
    pub error: String,
}

impl FailedView {
    /// The views of entries.
    pub fn all(entries: &[FailedEntry]) -> Vec<Self> {
        entries.iter().map(|entry| Self { path: entry.path.clone(), error: entry.error.clone() }).collect()
    }
}

/// What of an entry is not kept.
#[derive(Serialize)]
pub struct ShortfallView {
    kind: &'static str,
    path: String,
    error: String,
}

impl ShortfallView {
    /// The views of all that are named.
    pub fn all(shortfalls: &Shortfalls) -> Vec<Self> {
        let view = |one: &Shortfall| Self { kind: one.kind.name(), path: one.path.clone(), error: one.reason.clone() };
        shortfalls.first.iter().map(view).collect()
    }
}

/// How many there are of each kind.
pub fn shortfall_kinds(shortfalls: &Shortfalls) -> BTreeMap<&'static str, u64> {
    shortfalls.counts.iter().map(|(kind, count)| (kind.name(), *count)).collect()
}

/// One paragraph a kind, or nothing.
pub fn shortfalls(ending: &str, shortfalls: &Shortfalls) -> String {
    let mut text = String::new();
    for (kind, count) in &shortfalls.counts {
        let of_kind = shortfalls.first.iter().filter(|one| one.kind == *kind);
        let named: Vec<FailedView> =
            of_kind.map(|one| FailedView { path: one.path.clone(), error: one.reason.clone() }).collect();
        let what = match kind {
            ShortfallKind::Attributes => "extended attributes",
            ShortfallKind::Special => "devices, pipes and sockets",
            ShortfallKind::HardLink => "hard links",
            ShortfallKind::Time => "times",
        };
        text.push_str(&failed(&format!("{what} not {ending}"), *count, &named));
    }
    text
}

/// Calls to the store.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StorageView {
    calls: u64,
    puts: u64,
    gets: u64,
    ranges: u64,
    stats: u64,
    list_pages: u64,
    deletes: u64,
    failed: u64,
    bytes_up: u64,
    bytes_down: u64,
}

impl StorageView {
    /// The view of what was counted.
    pub fn of(calls: &MeterSnapshot) -> Self {
        Self {
            calls: calls.call_count(),
            puts: calls.put_count,
            gets: calls.get_count,
            ranges: calls.get_range_count,
            stats: calls.stat_count,
            list_pages: calls.list_page_count,
            deletes: calls.delete_count,
            failed: calls.failed_count,
            bytes_up: calls.up_bytes,
            bytes_down: calls.down_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Align, block, bytes, count, duration, short_id, table, visible};

    #[test]
    fn numbers_are_for_people() {
        assert_eq!([0, 1023, 1024, 1536, 5 << 30].map(bytes), ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "5.0 GiB"]);
        assert_eq!(bytes(u64::MAX), "16.0 EiB");
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1 000", "1 234 567"]);
        assert_eq!(
            [400, 59_900, 192_000, 7_500_000].map(Duration::from_millis).map(duration),
            ["0.4 s", "59.9 s", "3 min 12 s", "2 h 5 min"]
        );
        assert_eq!(short_id("0123456789abcdef"), "0123456789");
        assert_eq!(short_id("ab"), "ab");
    }

    #[test]
    fn columns_line_up_and_nothing_steers_the_terminal() {
        let rows = [vec!["a".to_owned(), "1".to_owned()], vec!["b\u{1b}[2J".to_owned(), "1000".to_owned()]];
        let text = table(&[("NAME", Align::Left), ("SIZE", Align::Right)], &rows);
        assert_eq!(text, "NAME        SIZE\na              1\nb\\u{1b}[2J  1000\n");
        assert_eq!(block(&[("a", "1".to_owned()), ("long", "2".to_owned())]), "  a     1\n  long  2\n");
        assert_eq!(visible("ä\nb"), "ä\\nb");
    }
}
