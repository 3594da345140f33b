//! Access control lists as archives have them: the text of POSIX 1003.1e draft 17, with numeric owners.

/// The version of the form in which Linux keeps them in an extended attribute.
const VERSION: [u8; 4] = [2, 0, 0, 0];
/// Bytes of one entry: tag, rights, and whose, little-endian.
const ENTRY_BYTES: usize = 8;

/// The text of an access control list, one entry a line; nothing for bytes that are none.
pub(super) fn text(value: &[u8]) -> Option<String> {
    let entries = value.strip_prefix(&VERSION)?;
    let is_whole = entries.len().is_multiple_of(ENTRY_BYTES) && !entries.is_empty();
    is_whole.then(|| entries.chunks_exact(ENTRY_BYTES).map(entry).collect::<Option<String>>())?
}

fn entry(bytes: &[u8]) -> Option<String> {
    let (tag, rights) = (u16::from_le_bytes([bytes[0], bytes[1]]), bytes[2]);
    let id = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
    let whose = match tag {
        0x01 => "user:".to_owned(),
        0x02 => format!("user:{id}"),
        0x04 => "group:".to_owned(),
        0x08 => format!("group:{id}"),
        0x10 => "mask:".to_owned(),
        0x20 => "other:".to_owned(),
        _ => return None,
    };
    let right = |bit: u8, letter: char| if rights & bit == 0 { '-' } else { letter };
    Some(format!("{whose}:{}{}{}\n", right(4, 'r'), right(2, 'w'), right(1, 'x')))
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn lists_are_lines() {
        let list = testkit::hostile::ACCESS_LIST;
        assert_eq!(text(list).unwrap(), "user::rw-\nuser:1:rwx\ngroup::r--\nmask::rwx\nother::r--\n");
        let damaged = [&list[..list.len() - 1], &list[..4], b"", b"\x03\0\0\0\x01\0\x06\0\xff\xff\xff\xff"];
        assert!(damaged.into_iter().all(|bytes| text(bytes).is_none()));
    }
}
