//! Headers of POSIX tar archives, with pax records for what does not fit.
//!
//! Source: POSIX.1-2017, "pax Interchange Format" and "ustar Interchange Format"; for `SCHILY.*` the manuals of star and GNU
//! tar.

use jiff::Timestamp;
use repository::{DeviceNumber, Xattr};

use super::access_list;

const BLOCK_BYTES: usize = 512;
/// Two empty blocks.
pub(super) const END: [u8; 2 * BLOCK_BYTES] = [0; 2 * BLOCK_BYTES];
/// Longer names stand in a pax record, in bytes.
const NAME_BYTES_MAX: usize = 100;
/// The greatest owner and device number that seven octal digits hold.
const SHORT_MAX: u32 = 0o7_777_777;
/// The greatest size and time that eleven octal digits hold.
const LONG_MAX: u64 = 0o77_777_777_777;
/// The kind of what is no entry but records of the next one.
const RECORDS: u8 = b'x';
/// Access control lists stand in archives twice: as what Linux has, and as text for `tar --acls` and other systems.
const ACCESS_LISTS: [(&[u8], &str); 2] =
    [(b"system.posix_acl_access", "SCHILY.acl.access"), (b"system.posix_acl_default", "SCHILY.acl.default")];
const NANOSECONDS: i128 = 1_000_000_000;

/// What an entry is, with what only this kind has.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    File {
        size_bytes: u64,
    },
    /// Another name of an earlier file.
    HardLink,
    Symlink,
    CharacterDevice(DeviceNumber),
    BlockDevice(DeviceNumber),
    Directory,
    Fifo,
}

impl Kind {
    fn letter(self) -> u8 {
        match self {
            Self::File { .. } => b'0',
            Self::HardLink => b'1',
            Self::Symlink => b'2',
            Self::CharacterDevice(_) => b'3',
            Self::BlockDevice(_) => b'4',
            Self::Directory => b'5',
            Self::Fifo => b'6',
        }
    }

    /// Of the data that follows.
    fn size_bytes(self) -> u64 {
        if let Self::File { size_bytes } = self { size_bytes } else { 0 }
    }

    fn device(self) -> DeviceNumber {
        match self {
            Self::CharacterDevice(number) | Self::BlockDevice(number) => number,
            Self::File { .. } | Self::HardLink | Self::Symlink | Self::Directory | Self::Fifo => {
                DeviceNumber { major: 0, minor: 0 }
            }
        }
    }

    /// Whether a header has room for its number.
    pub(super) fn fits(self) -> bool {
        self.device().major <= SHORT_MAX && self.device().minor <= SHORT_MAX
    }
}

/// What stands before an entry's data.
pub(super) struct Header<'a> {
    /// Raw; of directories with a slash at its end.
    pub(super) path: &'a [u8],
    /// Where a link leads, raw.
    pub(super) target: &'a [u8],
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Timestamp,
    pub(super) xattrs: &'a [Xattr],
}

impl Header<'_> {
    /// Its blocks: the pax records, if there are any, and the header itself.
    pub(super) fn blocks(&self) -> Vec<u8> {
        let records = self.records();
        let mut blocks = Vec::new();
        if !records.is_empty() {
            let kind = Kind::File { size_bytes: records.len() as u64 };
            let (mtime, nothing) = (Timestamp::UNIX_EPOCH, b"".as_slice());
            let of_records =
                Header { path: b"pax", target: nothing, kind, mode: 0o644, uid: 0, gid: 0, mtime, xattrs: &[] };
            blocks.extend_from_slice(&of_records.block(RECORDS));
            blocks.extend_from_slice(&records);
            blocks.extend_from_slice(padding(records.len() as u64));
        }
        blocks.extend_from_slice(&self.block(self.kind.letter()));
        blocks
    }

    fn records(&self) -> Vec<u8> {
        let mut records = Vec::new();
        let names = [("path", self.path), ("linkpath", self.target)];
        if names.iter().any(|(_, name)| std::str::from_utf8(name).is_err()) {
            record(b"hdrcharset", b"BINARY", &mut records);
        }
        for (key, name) in names {
            if name.len() > NAME_BYTES_MAX || !name.is_ascii() {
                record(key.as_bytes(), name, &mut records);
            }
        }
        if let Some(time) = time_beyond_header(self.mtime) {
            record(b"mtime", time.as_bytes(), &mut records);
        }
        if self.kind.size_bytes() > LONG_MAX {
            record(b"size", self.kind.size_bytes().to_string().as_bytes(), &mut records);
        }
        for (key, owner) in [("uid", self.uid), ("gid", self.gid)] {
            if owner > SHORT_MAX {
                record(key.as_bytes(), owner.to_string().as_bytes(), &mut records);
            }
        }
        for xattr in self.xattrs {
            let list = ACCESS_LISTS.iter().find(|(attribute, _)| *attribute == xattr.name);
            if let Some(((_, key), text)) = list.zip(access_list::text(&xattr.value)) {
                record(key.as_bytes(), text.as_bytes(), &mut records);
            }
            record(&xattr_key(&xattr.name), &xattr.value, &mut records);
        }
        records
    }

    fn block(&self, letter: u8) -> [u8; BLOCK_BYTES] {
        let mut block = [0; BLOCK_BYTES];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        let seconds = u64::try_from(self.mtime.as_second()).unwrap_or(0);
        let DeviceNumber { major, minor } = self.kind.device();
        put(0, &self.path[..self.path.len().min(NAME_BYTES_MAX)]);
        put(100, short(self.mode).as_bytes());
        put(108, short(self.uid).as_bytes());
        put(116, short(self.gid).as_bytes());
        put(124, long(self.kind.size_bytes()).as_bytes());
        put(136, long(seconds).as_bytes());
        // Counted as spaces in its own sum.
        put(148, b"        ");
        put(156, &[letter]);
        put(157, &self.target[..self.target.len().min(NAME_BYTES_MAX)]);
        put(257, b"ustar\x0000");
        put(329, short(major).as_bytes());
        put(337, short(minor).as_bytes());
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        block
    }
}

fn short(number: u32) -> String {
    format!("{:07o}", number.min(SHORT_MAX))
}

fn long(number: u64) -> String {
    format!("{:011o}", number.min(LONG_MAX))
}

/// The key of an extended attribute's record. A key ends at the first `=`, so that GNU tar writes one in a name as a URL has
/// it.
fn xattr_key(name: &[u8]) -> Vec<u8> {
    let mut key = b"SCHILY.xattr.".to_vec();
    for byte in name {
        match byte {
            b'=' => key.extend_from_slice(b"%3D"),
            b'%' => key.extend_from_slice(b"%25"),
            byte => key.push(*byte),
        }
    }
    key
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
fn record(key: &[u8], value: &[u8], out: &mut Vec<u8>) {
    let rest = key.len() + value.len() + " =\n".len();
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(format!("{length} ").as_bytes());
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// What follows data of this length up to the next block.
pub(super) fn padding(length_bytes: u64) -> &'static [u8] {
    let used = (length_bytes % BLOCK_BYTES as u64) as usize;
    &END[..(BLOCK_BYTES - used) % BLOCK_BYTES]
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::{Header, Kind, padding, record, time_beyond_header, xattr_key};

    #[test]
    fn a_record_counts_itself() {
        for (value, expected) in [("1", "7 ab=1\n"), ("1234", "11 ab=1234\n"), ("12345", "12 ab=12345\n")] {
            let mut out = Vec::new();
            record(b"ab", value.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
        for length in 80..110 {
            let mut out = Vec::new();
            record(b"path", &vec![b'x'; length], &mut out);
            let stated: usize = std::str::from_utf8(&out).unwrap().split(' ').next().unwrap().parse().unwrap();
            assert_eq!(stated, out.len());
        }
    }

    #[test]
    fn the_key_of_an_attribute_has_no_equals_sign() {
        assert_eq!(xattr_key(b"user.a=b%\xff"), b"SCHILY.xattr.user.a%3Db%25\xff");
    }

    #[test]
    fn what_a_header_has_no_room_for_stands_in_records() {
        let mtime = Timestamp::new(-2, 5).unwrap();
        let (kind, target) = (Kind::File { size_bytes: 8 << 30 }, b"".as_slice());
        let path = b"caf\xe9".as_slice();
        let header = Header { path, target, kind, mode: 0o644, uid: 2_097_152, gid: 2_097_151, mtime, xattrs: &[] };
        let records =
            "21 hdrcharset=BINARY\n13 path=caf\u{fffd}\n22 mtime=-1.999999995\n19 size=8589934592\n15 uid=2097152\n";
        assert_eq!(String::from_utf8_lossy(&header.records()), records);
        assert_eq!(Header { kind: Kind::File { size_bytes: (8 << 30) - 1 }, uid: 0, ..header }.blocks().len(), 3 * 512);
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
