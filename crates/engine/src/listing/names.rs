//! The names in a directory, and those that are not UTF-8 in a format that writes all names as text.
//!
//! Kopia puts U+FFFD in the place of each byte that is not UTF-8, and so does this program, beside the bytes themselves in
//! the entry's side record. Where two names become the same, or a name longer than file systems take, it is written so that
//! Kopia can restore all of them.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::ffi::CStr;
use std::fmt::Write as _;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Dir, FileType, statat};
use rustix::io::Errno;

/// No file system that Linux has takes a longer name, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// The names in a directory, in the order of a stored listing: directories first, each group by the text that is written.
///
/// Memory: some 20 bytes a name besides its own.
pub(crate) struct Names {
    /// Each with a zero byte behind it.
    bytes: Vec<u8>,
    places: Vec<Place>,
    /// What is written for names that are not UTF-8, by where they begin.
    texts: HashMap<usize, String>,
}

struct Place {
    start: usize,
    length: u16,
    is_directory: bool,
    is_text: bool,
}

/// One of the names.
pub(crate) struct Name<'a> {
    pub(crate) raw: &'a CStr,
    /// As it is written.
    pub(crate) text: &'a str,
    pub(crate) is_directory: bool,
}

impl Names {
    /// Reads the names in an open directory.
    pub(crate) fn read(directory: impl AsFd) -> io::Result<Self> {
        let mut names = Self { bytes: Vec::new(), places: Vec::new(), texts: HashMap::new() };
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            let raw = entry.file_name();
            if matches!(raw.to_bytes(), b"." | b"..") {
                continue;
            }
            let file_type = match entry.file_type() {
                // Some file systems do not tell it on the way.
                FileType::Unknown => match statat(&directory, raw, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                    Err(Errno::NOENT) => continue,
                    Err(_) => FileType::Unknown,
                },
                known => known,
            };
            names.push(raw, file_type == FileType::Directory)?;
        }
        names.sort();
        Ok(names)
    }

    fn push(&mut self, raw: &CStr, is_directory: bool) -> io::Result<()> {
        let (bytes, start) = (raw.to_bytes(), self.bytes.len());
        let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
        self.bytes.extend_from_slice(raw.to_bytes_with_nul());
        self.places.push(Place { start, length, is_directory, is_text: std::str::from_utf8(bytes).is_ok() });
        Ok(())
    }

    fn sort(&mut self) {
        let mut foreign: Vec<Place> = self.places.extract_if(.., |place| !place.is_text).collect();
        self.sort_places();
        if foreign.is_empty() {
            return;
        }
        foreign.sort_by(|a, b| self.raw(a).cmp(self.raw(b)));
        let texts = tell_apart(foreign.iter().map(|place| self.raw(place)), |text| self.has(text));
        self.texts = foreign.iter().map(|place| place.start).zip(texts).collect();
        self.places.extend(foreign);
        self.sort_places();
    }

    fn sort_places(&mut self) {
        let mut places = std::mem::take(&mut self.places);
        places.sort_unstable_by(|a, b| self.order(a, !b.is_directory, self.written(b)));
        self.places = places;
    }

    fn raw(&self, place: &Place) -> &[u8] {
        &self.bytes[place.start..place.start + usize::from(place.length)]
    }

    fn written(&self, place: &Place) -> &[u8] {
        match self.texts.get(&place.start).filter(|_| !place.is_text) {
            Some(text) => text.as_bytes(),
            None => self.raw(place),
        }
    }

    fn order(&self, place: &Place, is_other: bool, text: &[u8]) -> Ordering {
        (!place.is_directory, self.written(place)).cmp(&(is_other, text))
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether something has this name.
    pub(crate) fn has(&self, text: &str) -> bool {
        let has = |is_other| self.places.binary_search_by(|place| self.order(place, is_other, text.as_bytes())).is_ok();
        has(false) || has(true)
    }

    /// Some of them, by their places in the order.
    pub(crate) fn range(&self, range: Range<usize>) -> impl Iterator<Item = Name<'_>> {
        self.places[range].iter().map(|place| {
            let with_end = &self.bytes[place.start..=place.start + usize::from(place.length)];
            Name {
                raw: CStr::from_bytes_with_nul(with_end).expect("a name is kept with the zero byte that ends it"),
                text: std::str::from_utf8(self.written(place)).expect("what is written is text"),
                is_directory: place.is_directory,
            }
        })
    }
}

/// The text of a name as Kopia writes it.
pub(crate) fn as_text(raw: &[u8]) -> String {
    match std::str::from_utf8(raw) {
        Ok(text) => text.to_owned(),
        Err(_) => replaced(raw, |text, _| text.push(char::REPLACEMENT_CHARACTER)),
    }
}

/// The texts of names that are not UTF-8, in their order: all different, and none that `is_taken`.
fn tell_apart<'a>(raw: impl Iterator<Item = &'a [u8]>, is_taken: impl Fn(&str) -> bool) -> Vec<String> {
    let mut given = HashSet::new();
    raw.map(|raw| {
        let is_free = |text: &String| text.len() <= NAME_BYTES_MAX && !is_taken(text) && !given.contains(text);
        let text = candidates(raw).find(is_free).expect("some number is free in a directory of finite length");
        given.insert(text.clone());
        text
    })
    .collect()
}

/// As Kopia writes it; with the bytes in hexadecimal; then with numbers.
fn candidates(raw: &[u8]) -> impl Iterator<Item = String> {
    let numbered = |number: u64| {
        let (text, ending) = (as_text(raw), format!("~{number}"));
        format!("{}{ending}", &text[..text.floor_char_boundary(NAME_BYTES_MAX - ending.len())])
    };
    [as_text(raw), in_hexadecimal(raw)].into_iter().chain((1..).map(numbered))
}

fn in_hexadecimal(raw: &[u8]) -> String {
    replaced(raw, |text, byte| {
        let _ = write!(text, "\\x{byte:02x}");
    })
}

fn replaced(raw: &[u8], replace: impl Fn(&mut String, u8)) -> String {
    let mut text = String::with_capacity(raw.len() * 2);
    for chunk in raw.utf8_chunks() {
        text.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|byte| replace(&mut text, *byte));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{as_text, tell_apart};

    #[test]
    fn each_byte_that_is_not_utf8_is_replaced_as_go_does() {
        assert_eq!(as_text(b"caf\xc3\xa9"), "café");
        assert_eq!(as_text(b"a\xe2\x82b\xff"), "a\u{fffd}\u{fffd}b\u{fffd}");
    }

    #[test]
    fn no_two_names_become_one() {
        let raw: [&[u8]; 4] = [b"a\xfd", b"a\xfe", b"a\xff", b"b\xff"];
        let names = tell_apart(raw.into_iter(), |text| ["a\u{fffd}", "a\\xfe", "c"].contains(&text));
        assert_eq!(names, ["a\\xfd", "a\u{fffd}~1", "a\\xff", "b\u{fffd}"]);
    }

    #[test]
    fn no_name_becomes_longer_than_a_file_system_takes() {
        let (first, second) = ([b"\xff".repeat(128), b"a".to_vec()].concat(), b"\xff".repeat(129));
        let names = tell_apart([first.as_slice(), &second].into_iter(), |_| false);
        let text = "\u{fffd}".repeat(84);
        assert_eq!(names, [format!("{text}~1"), format!("{text}~2")]);
    }
}
