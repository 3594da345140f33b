//! Names that are not UTF-8, in a format that writes all names as text.
//!
//! Kopia puts U+FFFD in the place of each byte that is not UTF-8, and so does this program, beside the bytes themselves in
//! the entry's side record. Where two names become the same, or a name longer than file systems take, it is written so that
//! Kopia can restore all of them.

use std::collections::HashSet;
use std::fmt::Write as _;

/// No file system that Linux has takes a longer name, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// The text of a name as Kopia writes it.
pub(crate) fn as_text(raw: &[u8]) -> String {
    match std::str::from_utf8(raw) {
        Ok(text) => text.to_owned(),
        Err(_) => replaced(raw, |text, _| text.push(char::REPLACEMENT_CHARACTER)),
    }
}

/// The texts of names that are not UTF-8, in their order: all different, and none of `others`.
pub(crate) fn tell_apart<'a>(
    raw: impl Iterator<Item = &'a [u8]>,
    others: impl Iterator<Item = &'a str>,
) -> Vec<String> {
    let mut taken: HashSet<String> = others.map(str::to_owned).collect();
    raw.map(|raw| {
        let text = candidates(raw).find(|text| text.len() <= NAME_BYTES_MAX && !taken.contains(text));
        let text = text.expect("some number is free in a directory of finite length");
        taken.insert(text.clone());
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
        let names = tell_apart(raw.into_iter(), ["a\u{fffd}", "a\\xfe", "c"].into_iter());
        assert_eq!(names, ["a\\xfd", "a\u{fffd}~1", "a\\xff", "b\u{fffd}"]);
    }

    #[test]
    fn no_name_becomes_longer_than_a_file_system_takes() {
        let (first, second) = ([b"\xff".repeat(128), b"a".to_vec()].concat(), b"\xff".repeat(129));
        let names = tell_apart([first.as_slice(), &second].into_iter(), [].into_iter());
        let text = "\u{fffd}".repeat(84);
        assert_eq!(names, [format!("{text}~1"), format!("{text}~2")]);
    }
}
