//! Headers of POSIX tar archives, with pax records for what does not fit.
//!
//! Source: POSIX.1-2017, "pax Interchange Format" and "ustar Interchange Format".

use jiff::Timestamp;
use repository::{Entry, EntryKind};

const BLOCK_BYTES: usize = 512;
/// Two empty blocks.
pub(super) const END: [u8; 2 * BLOCK_BYTES] = [0; 2 * BLOCK_BYTES];
/// Longer names stand in a pax record, in bytes.
const NAME_BYTES_MAX: usize = 100;
/// The greatest owner that seven octal digits hold.
const OWNER_MAX: u32 = 0o7_777_777;
/// The greatest size and time that eleven octal digits hold.
const LONG_MAX: u64 = 0o77_777_777_777;
const NANOSECONDS: i128 = 1_000_000_000;

/// What stands before an entry's data.
pub(super) struct Header<'a> {
    /// Raw; of directories with a slash at its end.
    pub(super) path: &'a [u8],
    /// Where a link leads, raw.
    pub(super) target: &'a [u8],
    pub(super) entry: &'a Entry,
}

impl Header<'_> {
    /// Its blocks: the pax records, if there are any, and the header itself.
    pub(super) fn blocks(&self) -> Vec<u8> {
        let records = self.records();
        let mut blocks = Vec::new();
        if !records.is_empty() {
            blocks.extend_from_slice(&block(b"pax", b"", 0o644, (0, 0), records.len() as u64, 0, b'x'));
            blocks.extend_from_slice(&records);
            blocks.extend_from_slice(padding(records.len() as u64));
        }
        let entry = self.entry;
        let kind = match entry.kind {
            EntryKind::File => b'0',
            EntryKind::Symlink => b'2',
            EntryKind::Directory => b'5',
        };
        let seconds = u64::try_from(entry.mtime.as_second()).unwrap_or(0);
        blocks.extend_from_slice(&block(
            self.path,
            self.target,
            entry.mode,
            (entry.uid, entry.gid),
            self.size_bytes(),
            seconds,
            kind,
        ));
        blocks
    }

    /// Only files have data.
    fn size_bytes(&self) -> u64 {
        if self.entry.kind == EntryKind::File { self.entry.size_bytes } else { 0 }
    }

    fn records(&self) -> Vec<u8> {
        let mut records = Vec::new();
        let names = [("path", self.path), ("linkpath", self.target)];
        if names.iter().any(|(_, name)| std::str::from_utf8(name).is_err()) {
            record("hdrcharset", b"BINARY", &mut records);
        }
        for (key, name) in names {
            if name.len() > NAME_BYTES_MAX || !name.is_ascii() {
                record(key, name, &mut records);
            }
        }
        let Entry { mtime, uid, gid, .. } = self.entry;
        if let Some(time) = time_beyond_header(*mtime) {
            record("mtime", time.as_bytes(), &mut records);
        }
        if self.size_bytes() > LONG_MAX {
            record("size", self.size_bytes().to_string().as_bytes(), &mut records);
        }
        for (key, owner) in [("uid", uid), ("gid", gid)] {
            if *owner > OWNER_MAX {
                record(key, owner.to_string().as_bytes(), &mut records);
            }
        }
        records
    }
}

/// A time that is no whole second or lies outside of what a header holds.
fn time_beyond_header(time: Timestamp) -> Option<String> {
    let nanoseconds = time.as_nanosecond();
    let is_whole = nanoseconds % NANOSECONDS == 0;
    if is_whole && u64::try_from(time.as_second()).is_ok_and(|seconds| seconds <= LONG_MAX) {
        return None;
    }
    let (sign, size) = if nanoseconds < 0 { ("-", -nanoseconds) } else { ("", nanoseconds) };
    let (seconds, rest) = (size / NANOSECONDS, size % NANOSECONDS);
    Some(if rest == 0 { format!("{sign}{seconds}") } else { format!("{sign}{seconds}.{rest:09}") })
}

/// `length key=value\n`, where the length counts itself.
fn record(key: &str, value: &[u8], out: &mut Vec<u8>) {
    let rest = key.len() + value.len() + " =\n".len();
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(format!("{length} {key}=").as_bytes());
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// What follows data of this length up to the next block.
pub(super) fn padding(length_bytes: u64) -> &'static [u8] {
    let used = (length_bytes % BLOCK_BYTES as u64) as usize;
    &END[..(BLOCK_BYTES - used) % BLOCK_BYTES]
}

fn block(
    path: &[u8],
    target: &[u8],
    mode: u32,
    owner: (u32, u32),
    size_bytes: u64,
    seconds: u64,
    kind: u8,
) -> [u8; BLOCK_BYTES] {
    let mut block = [0; BLOCK_BYTES];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &path[..path.len().min(NAME_BYTES_MAX)]);
    put(100, format!("{mode:07o}").as_bytes());
    put(108, format!("{:07o}", owner.0.min(OWNER_MAX)).as_bytes());
    put(116, format!("{:07o}", owner.1.min(OWNER_MAX)).as_bytes());
    put(124, format!("{:011o}", size_bytes.min(LONG_MAX)).as_bytes());
    put(136, format!("{:011o}", seconds.min(LONG_MAX)).as_bytes());
    // Counted as spaces in its own sum.
    put(148, b"        ");
    put(156, &[kind]);
    put(157, &target[..target.len().min(NAME_BYTES_MAX)]);
    put(257, b"ustar\x0000");
    put(329, b"0000000");
    put(337, b"0000000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::{padding, record, time_beyond_header};

    #[test]
    fn a_record_counts_itself() {
        for (value, expected) in [("1", "7 ab=1\n"), ("1234", "11 ab=1234\n"), ("12345", "12 ab=12345\n")] {
            let mut out = Vec::new();
            record("ab", value.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
        for length in 80..110 {
            let mut out = Vec::new();
            record("path", &vec![b'x'; length], &mut out);
            let stated: usize = std::str::from_utf8(&out).unwrap().split(' ').next().unwrap().parse().unwrap();
            assert_eq!(stated, out.len());
        }
    }

    #[test]
    fn times_beyond_a_header_are_decimal() {
        let of = |text: &str| time_beyond_header(text.parse().unwrap());
        assert_eq!(of("2026-01-01T00:00:00Z"), None);
        assert_eq!(of("2026-01-01T00:00:00.5Z").unwrap(), "1767225600.500000000");
        assert_eq!(of("1969-12-31T23:59:58.5Z").unwrap(), "-1.500000000");
        assert_eq!(of("1969-12-31T23:59:59Z").unwrap(), "-1");
        assert_eq!(of("2300-01-01T00:00:00Z").unwrap(), "10413792000");
    }

    #[test]
    fn blocks_are_filled_up() {
        assert_eq!([0, 1, 511, 512, 513].map(|length| padding(length).len()), [0, 511, 1, 0, 511]);
    }
}
