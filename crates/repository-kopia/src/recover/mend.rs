//! Undoing one changed character.
//!
//! The control objects are authenticated, and small: every change of a single character can be tried, and only the right
//! one opens. A repository without its format blob is lost whole, so a minute of trying is well spent.

use std::collections::HashSet;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use codec::cipher::open_aes256_gcm;
use codec::key::Kdf;

use crate::format_blob::{FormatBlob, FormatBlobJson, Password, blob_keys};

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const LOCKED_PART: &[u8] = b"\"encryptedBlockFormat\"";
/// Longer format blobs are none, in bytes.
const FORMAT_BYTES_MAX: usize = 64 << 10;
/// Longer control objects are not searched byte by byte, in bytes.
const SEALED_BYTES_MAX: usize = 1024;

/// The bytes of `kopia.repository` as they were before one character of its locked part changed.
pub(super) fn locked_part(stored: &[u8], password: &Password) -> Option<Vec<u8>> {
    let range = locked_range(stored)?;
    let mut blank = stored.to_vec();
    blank.splice(range.clone(), []);
    let record: FormatBlobJson = serde_json::from_slice(&blank).ok()?;
    let kdf = Kdf::from_kopia_name(&record.key_algo)?;
    for form in password.forms() {
        let format_key = kdf.derive(form.as_bytes(), &record.unique_id.0).ok()?;
        let (key, associated_data) = blob_keys(&format_key, &record.unique_id.0);
        let mut text = stored[range.clone()].to_vec();
        for at in 0..text.len() {
            let found = text[at];
            for letter in ALPHABET {
                text[at] = *letter;
                let opens = |sealed: Vec<u8>| open_aes256_gcm(&key, &associated_data, &sealed).is_ok();
                if STANDARD.decode(&text).is_ok_and(opens) {
                    let mut mended = stored.to_vec();
                    mended[range.start + at] = *letter;
                    return Some(mended);
                }
            }
            text[at] = found;
        }
    }
    None
}

/// Where the text of the locked part stands.
fn locked_range(stored: &[u8]) -> Option<Range<usize>> {
    let name = stored.windows(LOCKED_PART.len()).position(|window| window == LOCKED_PART)?;
    let after = name + LOCKED_PART.len();
    let start = after + stored[after..].iter().position(|byte| *byte == b'"')? + 1;
    let length = stored[start..].iter().position(|byte| *byte == b'"')?;
    Some(start..start + length)
}

/// The bytes of `kopia.repository` as they were before one bit outside its locked part changed. A changed bit of the unique
/// id costs a key derivation for each that is tried: up to a minute.
pub(super) fn clear_part(stored: &[u8], password: &Password) -> Option<Vec<u8>> {
    if stored.len() > FORMAT_BYTES_MAX {
        return None;
    }
    let locked = locked_range(stored).unwrap_or(0..0);
    // As it is, it does not open.
    let mut tried: HashSet<KeyParts> = key_parts(stored).into_iter().collect();
    let mut mended = stored.to_vec();
    for at in (0..stored.len()).filter(|at| !locked.contains(at)) {
        for bit in 0..8 {
            mended[at] = stored[at] ^ 1 << bit;
            let is_new = key_parts(&mended).is_some_and(|parts| tried.insert(parts));
            if is_new && FormatBlob::open(&mended, password).is_ok() {
                return Some(mended);
            }
        }
        mended[at] = stored[at];
    }
    None
}

/// What decides whether a format blob opens: unique id, key derivation, encryption, locked part.
type KeyParts = (Vec<u8>, String, String, Vec<u8>);

fn key_parts(stored: &[u8]) -> Option<KeyParts> {
    let record: FormatBlobJson = serde_json::from_slice(stored).ok()?;
    let locked = record.encrypted_block_format.0;
    (!locked.is_empty()).then_some((record.unique_id.0, record.key_algo, record.encryption, locked))
}

/// A sealed control object as it was before one of its bytes changed.
pub(super) fn sealed(stored: &[u8], opens: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
    if stored.len() > SEALED_BYTES_MAX {
        return None;
    }
    let mut mended = stored.to_vec();
    for at in 0..stored.len() {
        for change in 1..=u8::MAX {
            mended[at] = stored[at] ^ change;
            if opens(&mended) {
                return Some(mended);
            }
        }
        mended[at] = stored[at];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{clear_part, locked_part};
    use crate::format_blob::Password;

    const VECTOR: &str = include_str!("../../tests/vectors/kopia.repository.json");

    #[test]
    fn one_changed_character_is_undone() {
        let password = Password::new("correct horse");
        let locked = VECTOR.find("encryptedBlockFormat").unwrap();
        for at in [locked + 24, locked + 400, VECTOR.len() - 10] {
            for wrong in [b'!', b'A', b'+'] {
                let mut damaged = VECTOR.as_bytes().to_vec();
                if damaged[at] == wrong {
                    continue;
                }
                damaged[at] = wrong;
                assert_eq!(locked_part(&damaged, &password).unwrap(), VECTOR.as_bytes(), "at {at}");
            }
        }
    }

    #[test]
    fn one_changed_bit_around_it_is_undone() {
        let password = Password::new("correct horse");
        for (word, bit) in [("{", 0), ("scrypt", 3), ("encryption\"", 1), ("uniqueID", 2)] {
            let at = VECTOR.find(word).unwrap();
            let mut damaged = VECTOR.as_bytes().to_vec();
            damaged[at] ^= 1 << bit;
            assert_eq!(clear_part(&damaged, &password).unwrap(), VECTOR.as_bytes(), "{word}");
        }
    }

    #[test]
    fn two_changed_characters_are_not_guessed() {
        let mut damaged = VECTOR.as_bytes().to_vec();
        let locked = VECTOR.find("encryptedBlockFormat").unwrap();
        damaged[locked + 40] ^= 1;
        damaged[locked + 80] ^= 1;
        assert_eq!(locked_part(&damaged, &Password::new("correct horse")), None);
    }
}
