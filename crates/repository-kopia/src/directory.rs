//! Directory listings as JSON.
//!
//! Their bytes depend on the entries alone, so an unchanged directory has the same object id in every backup and from
//! every program. Source: Kopia format, "Snapshots".

mod arriving;

mod listing;

mod waiting;

use std::borrow::Cow;
use std::io::{self, Write};

use jiff::Timestamp;
use repository::{DataId, Directory, DirectorySide, Entry, EntryKind, FailedEntry, Summary};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::ReadError;
use crate::json::{self, is_default, null_is_default};
use crate::object::ObjectId;
use crate::side::{self, DirectorySideJson, EntrySideJson};
use crate::timestamp::{GoTime, Text};

pub(crate) use arriving::Arriving;
pub use listing::{DirectoryListing, Entries};
pub use waiting::{WaitingEntries, stored_order};

/// Marks a listing; anything else is none.
const STREAM: &str = "kopia:directory";
const SETUID: u32 = 1 << 23;
const SETGID: u32 = 1 << 22;
const STICKY: u32 = 1 << 20;

/// A listing as it is read: each entry becomes what it means at once.
#[derive(Deserialize)]
struct ReadDirectory<'a> {
    #[serde(borrow)]
    stream: Cow<'a, str>,
    /// Must be there, if only as `null`: a directory whose entries are unknown is not an empty one.
    #[serde(deserialize_with = "Option::deserialize")]
    entries: Option<Vec<ReadEntry>>,
    #[serde(default)]
    summary: Option<SummaryJson>,
    #[serde(default)]
    perennial: Option<DirectorySideJson>,
}

struct ReadEntry(Entry);

/// Kopia's `DirEntry`.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct EntryJson<'a> {
    #[serde(default, borrow, skip_serializing_if = "str::is_empty")]
    name: Cow<'a, str>,
    #[serde(rename = "type", default, borrow, skip_serializing_if = "str::is_empty")]
    kind: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "is_default")]
    mode: Mode,
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "null_is_default")]
    size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mtime: Option<GoTime>,
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "null_is_default")]
    uid: u32,
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "null_is_default")]
    gid: u32,
    #[serde(default, borrow)]
    obj: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    summ: Option<Box<SummaryJson>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    perennial: Option<Box<EntrySideJson>>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SummaryJson {
    size: u64,
    files: u64,
    #[serde(default)]
    symlinks: u64,
    dirs: u64,
    max_time: GoTime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    incomplete: Option<String>,
    #[serde(default)]
    num_failed: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    num_ignored_errors: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    errors: Vec<FailedEntryJson>,
}

#[derive(Clone, Serialize, Deserialize)]
struct FailedEntryJson {
    path: String,
    error: String,
}

/// Writes a listing: entry by entry, so that a large one needs no memory for all of them. They come in [`stored_order`].
pub(crate) fn write<'a>(
    entries: impl Iterator<Item = io::Result<Cow<'a, Entry>>>,
    summary: &Summary,
    side: &DirectorySide,
    out: &mut dyn Write,
) -> io::Result<()> {
    write!(out, "{{\"stream\":\"{STREAM}\",\"entries\":")?;
    let mut before = b"[";
    for entry in entries {
        out.write_all(before)?;
        json::write_to(&EntryJson::from(&*entry?), out)?;
        before = b",";
    }
    out.write_all(if before == b"[" { b"null" } else { b"]" })?;
    out.write_all(b",\"summary\":")?;
    json::write_to(&SummaryJson::from(summary), out)?;
    if let Some(side) = side::directory_to_json(side) {
        out.write_all(b",\"perennial\":")?;
        json::write_to(&side, out)?;
    }
    out.write_all(b"}\n")
}

/// Reads a listing.
pub(crate) fn read(object: &ObjectId, bytes: &[u8]) -> Result<Directory, ReadError> {
    let damaged = |detail: String| ReadError::Damaged { what: format!("directory {object}"), detail };
    let parsed: ReadDirectory<'_> = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
    if parsed.stream != STREAM {
        return Err(damaged(format!("it is a {:?}", parsed.stream)));
    }
    let entries = parsed.entries.unwrap_or_default().into_iter().map(|entry| entry.0).collect();
    let side = parsed.perennial.map(side::directory_from_json).transpose().map_err(damaged)?;
    Ok(Directory { entries, summary: parsed.summary.map(Summary::from), side: side.unwrap_or_default() })
}

impl<'de> Deserialize<'de> for ReadEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entry = EntryJson::deserialize(deserializer)?;
        Entry::try_from(entry).map(Self).map_err(serde::de::Error::custom)
    }
}

impl<'a> From<&'a Entry> for EntryJson<'a> {
    fn from(entry: &'a Entry) -> Self {
        let kind = match entry.kind {
            EntryKind::File => "f",
            EntryKind::Directory => "d",
            EntryKind::Symlink => "s",
        };
        Self {
            name: Cow::Borrowed(&entry.name),
            kind: Cow::Borrowed(kind),
            mode: Mode(entry.mode),
            size: entry.size_bytes,
            mtime: (entry.mtime != Timestamp::UNIX_EPOCH).then_some(GoTime(entry.mtime)),
            uid: entry.uid,
            gid: entry.gid,
            obj: Cow::Borrowed(entry.data.as_str()),
            summ: entry.summary.as_deref().map(|summary| Box::new(SummaryJson::from(summary))),
            perennial: entry
                .side
                .as_ref()
                .filter(|side| !side.is_empty())
                .map(|side| Box::new(side::entry_to_json(side))),
        }
    }
}

impl TryFrom<EntryJson<'_>> for Entry {
    type Error = String;

    fn try_from(entry: EntryJson<'_>) -> Result<Self, String> {
        let kind = match &*entry.kind {
            "f" => EntryKind::File,
            "d" => EntryKind::Directory,
            "s" => EntryKind::Symlink,
            other => return Err(format!("entry {:?} is of unknown type {other:?}", entry.name)),
        };
        check_name(entry.name.as_bytes())?;
        Ok(Self {
            name: entry.name.into_owned(),
            kind,
            mode: entry.mode.0,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime.map_or(Timestamp::UNIX_EPOCH, |time| time.0),
            size_bytes: entry.size,
            data: DataId::new(entry.obj),
            summary: entry.summ.map(|summary| Box::new(Summary::from(*summary))),
            side: entry.perennial.map(|json| side::entry_from_json(*json)).transpose()?.flatten(),
        })
    }
}

/// A name that leads elsewhere is none.
pub(crate) fn check_name(name: &[u8]) -> Result<(), String> {
    if name.contains(&b'/') || name.contains(&0) || matches!(name, b"." | b"..") {
        return Err(format!("{:?} cannot be the name of an entry", String::from_utf8_lossy(name)));
    }
    Ok(())
}

impl EntryJson<'_> {
    /// The root entry of a snapshot may be named by a whole path, or `/`.
    pub(crate) fn into_root(mut self) -> Result<Entry, String> {
        let name = std::mem::take(&mut self.name).into_owned();
        let mut entry = Entry::try_from(self)?;
        entry.name = name;
        Ok(entry)
    }
}

impl From<&Summary> for SummaryJson {
    fn from(summary: &Summary) -> Self {
        Self {
            size: summary.size_bytes,
            files: summary.file_count,
            symlinks: summary.symlink_count,
            dirs: summary.directory_count,
            max_time: GoTime(summary.max_time),
            incomplete: summary.incomplete.clone(),
            num_failed: summary.failed_count,
            num_ignored_errors: summary.ignored_error_count,
            errors: summary
                .errors
                .iter()
                .map(|failed| FailedEntryJson { path: failed.path.clone(), error: failed.error.clone() })
                .collect(),
        }
    }
}

impl From<SummaryJson> for Summary {
    fn from(summary: SummaryJson) -> Self {
        Self {
            size_bytes: summary.size,
            file_count: summary.files,
            symlink_count: summary.symlinks,
            directory_count: summary.dirs,
            max_time: summary.max_time.0,
            incomplete: summary.incomplete.filter(|reason| !reason.is_empty()),
            failed_count: summary.num_failed,
            ignored_error_count: summary.num_ignored_errors,
            errors: summary
                .errors
                .into_iter()
                .map(|failed| FailedEntry { path: failed.path, error: failed.error })
                .collect(),
        }
    }
}

/// Mode bits in Go's spelling: set-id and sticky bits are not where POSIX has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mode(u32);

/// Where POSIX has a bit, and where Go has it.
const MOVED_BITS: [(u32, u32); 3] = [(0o4000, SETUID), (0o2000, SETGID), (0o1000, STICKY)];

impl Serialize for Mode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let moved = MOVED_BITS.into_iter().filter(|(posix, _)| self.0 & posix != 0);
        let go = moved.fold(self.0 & 0o777, |go, (_, bit)| go | bit);
        serializer.collect_str(&format_args!("0{go:o}"))
    }
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Text::deserialize(deserializer)?.0;
        read_mode(&text).map(Self).ok_or_else(|| serde::de::Error::custom(format!("{text:?} is no mode")))
    }
}

fn read_mode(text: &str) -> Option<u32> {
    let go = match text {
        "" | "0" => 0,
        _ if text.starts_with("0x") => u32::from_str_radix(&text[2..], 16).ok()?,
        _ if text.starts_with("0o") => u32::from_str_radix(&text[2..], 8).ok()?,
        _ if text.starts_with('0') => u32::from_str_radix(text, 8).ok()?,
        _ => text.parse().ok()?,
    };
    let moved = MOVED_BITS.into_iter().filter(|(_, bit)| go & bit != 0);
    Some(moved.fold(go & 0o777, |mode, (posix, _)| mode | posix))
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::io;

    use repository::{Directory, DirectorySide, Entry, UnknownSpecial};

    use super::{Mode, is_default, read, read_mode, write};
    use crate::object::ObjectId;

    /// Source: Kopia format, "JSON byte forms" vectors.
    pub(super) const EMPTY: &str = "{\"stream\":\"kopia:directory\",\"entries\":null,\"summary\":{\"size\":0,\"files\":0,\"symlinks\":0,\"dirs\":1,\"maxTime\":\"2023-11-14T22:13:20Z\",\"numFailed\":0}}\n";
    pub(super) const FULL: &str = "{\"stream\":\"kopia:directory\",\"entries\":[{\"name\":\"sub\",\"type\":\"d\",\"mode\":\"0755\",\"mtime\":\"2023-11-14T22:13:20.5Z\",\"uid\":1000,\"gid\":1000,\"obj\":\"k00112233445566778899aabbccddeeff\",\"summ\":{\"size\":0,\"files\":0,\"symlinks\":0,\"dirs\":1,\"maxTime\":\"2023-11-14T22:13:20.5Z\",\"numFailed\":0}},{\"name\":\"a\\u003cb\\u003e\\u0026.txt\",\"type\":\"f\",\"mode\":\"0644\",\"size\":11,\"mtime\":\"2023-11-14T22:13:20.123456789Z\",\"uid\":1000,\"gid\":1000,\"obj\":\"e284e5ae9e9ee34777499c886c42fce0\"},{\"name\":\"link\",\"type\":\"s\",\"mode\":\"0777\",\"size\":3,\"mtime\":\"2023-11-14T22:13:20Z\",\"uid\":1000,\"gid\":1000,\"obj\":\"ffeeddccbbaa99887766554433221100\"},{\"name\":\"setuid\",\"type\":\"f\",\"mode\":\"040000755\",\"mtime\":\"1970-01-01T00:00:01Z\",\"obj\":\"4e51e7a913fc80137da52880fecca175\"}],\"summary\":{\"size\":11,\"files\":2,\"symlinks\":1,\"dirs\":2,\"maxTime\":\"2023-11-14T22:13:20.5Z\",\"numFailed\":0}}\n";

    fn all(listing: &Directory) -> impl Iterator<Item = io::Result<Cow<'_, Entry>>> {
        listing.entries.iter().map(|entry| Ok(Cow::Borrowed(entry)))
    }

    #[test]
    fn listings_have_kopias_bytes() {
        let object: ObjectId = "kaabb".parse().unwrap();
        for listing in [EMPTY, FULL] {
            let read = read(&object, listing.as_bytes()).unwrap();
            let mut written = Vec::new();
            write(all(&read), read.summary.as_ref().unwrap(), &read.side, &mut written).unwrap();
            assert_eq!(String::from_utf8(written).unwrap(), listing);
        }
    }

    /// As described in the Kopia format's section "Side record".
    pub(super) const BEYOND: &str = "{\"stream\":\"kopia:directory\",\"entries\":[{\"name\":\"caf\u{fffd}\",\"type\":\"f\",\"mode\":\"0644\",\"mtime\":\"2023-11-14T22:13:20Z\",\"obj\":\"aabb\",\"perennial\":{\"name\":\"Y2Fm6Q==\",\"xattrs\":{\"base64:dXNlci7/\":\"\",\"user.a\":\"AQI=\"},\"link\":{\"ino\":7,\"fs\":2}}}],\"summary\":{\"size\":0,\"files\":1,\"symlinks\":0,\"dirs\":1,\"maxTime\":\"2023-11-14T22:13:20Z\",\"numFailed\":0},\"perennial\":{\"xattrs\":{\"system.posix_acl_default\":\"AgA=\"},\"special\":[{\"name\":\"disk\",\"type\":\"block\",\"major\":8,\"minor\":0,\"mode\":\"0660\",\"gid\":6,\"mtime\":\"2023-11-14T22:13:20Z\"},{\"name\":\"pipe\u{fffd}\",\"raw\":\"cGlwZf8=\",\"type\":\"fifo\",\"mode\":\"0600\",\"mtime\":\"2023-11-14T22:13:20Z\",\"link\":{\"ino\":9}}]}}\n";

    #[test]
    fn side_records_are_read_and_written_again() {
        let object: ObjectId = "kaabb".parse().unwrap();
        let listing = read(&object, BEYOND.as_bytes()).unwrap();
        assert_eq!(listing.entries[0].raw_name(), b"caf\xe9");
        assert_eq!(listing.entries[0].xattrs()[1].name, b"user.\xff");
        assert_eq!(listing.side.specials[1].name, b"pipe\xff");
        let mut written = Vec::new();
        write(all(&listing), listing.summary.as_ref().unwrap(), &listing.side, &mut written).unwrap();
        assert_eq!(String::from_utf8(written).unwrap(), BEYOND);
    }

    #[test]
    fn what_a_newer_program_wrote_beside_is_passed_over_and_named() {
        let object: ObjectId = "kaabb".parse().unwrap();
        let newer = BEYOND
            .replace(
                "\"link\":{\"ino\":7,\"fs\":2}",
                "\"link\":{\"ino\":7,\"fs\":2,\"on\":1},\"flags\":[\"immutable\"]",
            )
            .replace("\"type\":\"block\",\"major\":8,\"minor\":0", "\"type\":\"door\",\"leads\":\"out\"")
            .replace("\"special\":[", "\"quota\":{\"bytes\":1},\"special\":[");
        let (known, listing) = (read(&object, BEYOND.as_bytes()).unwrap(), read(&object, newer.as_bytes()).unwrap());
        let mut entry = listing.entries[0].clone();
        let unknown = std::mem::take(&mut entry.side.as_mut().unwrap().unknown);
        assert_eq!((unknown.as_slice(), &entry), (&["flags".to_owned()][..], &known.entries[0]));
        let DirectorySide { xattrs, specials, unknown_specials, unknown } = listing.side;
        assert_eq!((&xattrs, &specials[..]), (&known.side.xattrs, &known.side.specials[1..]));
        let door = UnknownSpecial { name: b"disk".to_vec(), kind: "door".to_owned() };
        assert_eq!((unknown_specials, unknown), (vec![door], vec!["quota".to_owned()]));
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let object: ObjectId = "kaabb".parse().unwrap();
        for name in ["..", ".", "a/b", "/etc", "a\\u0000"] {
            let listing = format!(
                "{{\"stream\":\"kopia:directory\",\"entries\":[{{\"name\":\"{name}\",\"type\":\"f\",\"obj\":\"aa\"}}]}}"
            );
            assert!(read(&object, listing.as_bytes()).is_err(), "{name}");
            let special = format!(
                "{{\"stream\":\"kopia:directory\",\"perennial\":{{\"special\":[{{\"name\":\"{name}\",\"type\":\"fifo\",\"mode\":\"0\",\"mtime\":\"2023-11-14T22:13:20Z\"}}]}}}}"
            );
            assert!(read(&object, special.as_bytes()).is_err(), "{name}");
        }
        let raw = "{\"stream\":\"kopia:directory\",\"entries\":[{\"name\":\"a\",\"type\":\"f\",\"obj\":\"aa\",\"perennial\":{\"name\":\"Li4=\"}}]}";
        assert!(read(&object, raw.as_bytes()).is_err());
    }

    #[test]
    fn modes_are_gos() {
        for (mode, text) in
            [(0o644, "0644"), (0o4755, "040000755"), (0o2755, "020000755"), (0o1777, "04000777"), (0, "00")]
        {
            assert_eq!(serde_json::to_string(&Mode(mode)).unwrap(), format!("{text:?}"));
            assert_eq!(read_mode(text), Some(mode));
        }
        assert_eq!(read_mode(""), Some(0));
        assert!(is_default(&Mode(0)), "it is left out");
    }
}
