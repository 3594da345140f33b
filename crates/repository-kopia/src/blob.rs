//! Blobs that are encrypted whole, and the names that carry their key.
//!
//! The name is a prefix, the hash of the plaintext, and a suffix; the last 16 bytes of that hash derive the key. Source:
//! Kopia format, "Whole-blob encryption and naming" and "Sessions".

use codec::cipher::random_bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use storage::ObjectKey;

use crate::content::{Crypto, iv_of};
use crate::json;

/// Digits of the key-deriving part of a blob's hash.
const IV_DIGITS: usize = 32;
/// 2000-01-01T00:00:00Z in Unix seconds.
const SESSION_ORIGIN_SECONDS: i64 = 946_684_800;
/// A session id tells its start in units of 30 days.
const SESSION_UNIT_SECONDS: i64 = 30 * 24 * 3600;

/// Encrypts a whole blob. The name is `prefix`, the hash, and the suffix if any.
pub(crate) fn seal(
    crypto: &Crypto,
    prefix: &str,
    suffix: Option<&str>,
    plain: &[u8],
) -> Result<(ObjectKey, Vec<u8>), codec::Error> {
    let hash = crypto.hash(plain);
    let mut name = format!("{prefix}{}", hex::encode(hash.as_bytes()));
    if let Some(suffix) = suffix {
        name.push('-');
        name.push_str(suffix);
    }
    let mut sealed = Vec::with_capacity(plain.len() + codec::cipher::OVERHEAD_BYTES);
    crypto.seal(iv_of(hash.as_bytes()), plain, &mut sealed)?;
    Ok((ObjectKey::new(name), sealed))
}

/// Decrypts a whole blob with the key in its name, and checks the hash there.
///
/// # Errors
/// In words.
pub(crate) fn open(crypto: &Crypto, name: &str, mut sealed: Vec<u8>) -> Result<Vec<u8>, String> {
    let stem = name.split('-').next().unwrap_or(name);
    let digits = stem.len().checked_sub(IV_DIGITS).and_then(|at| stem.get(at..)).ok_or("its name carries no hash")?;
    let iv = hex::decode(digits).map_err(|_| "its name carries no hash")?;
    let plain = crypto
        .open(&iv, &mut sealed)
        .map_err(|_| "it does not decrypt: its bytes changed, or it belongs to another repository".to_owned())?
        .to_vec();
    let hash = hex::encode(crypto.hash(&plain).as_bytes());
    if !stem.ends_with(&hash) {
        return Err("it decrypts, but its name carries another hash".to_owned());
    }
    Ok(plain)
}

/// A new session id: random, and dated to the month.
pub(crate) fn new_session_id(now: Timestamp) -> Result<String, codec::Error> {
    let unit = (now.as_second() - SESSION_ORIGIN_SECONDS).div_euclid(SESSION_UNIT_SECONDS);
    Ok(format!("s{}{unit:x}", hex::encode(random_bytes::<8>()?)))
}

/// The session that wrote a blob: the first part after a `-` that begins with `s`.
pub(crate) fn session_of(name: &str) -> Option<&str> {
    name.split('-').skip(1).find(|part| part.starts_with('s'))
}

/// What a session marker says: these packs are being written, keep them.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SessionMarker {
    pub(crate) id: String,
    pub(crate) start_time: Timestamp,
    pub(crate) checkpoint_time: Timestamp,
    pub(crate) username: String,
    pub(crate) hostname: String,
}

impl SessionMarker {
    pub(crate) fn seal(&self, crypto: &Crypto) -> Result<(ObjectKey, Vec<u8>), codec::Error> {
        seal(crypto, "s", Some(&self.id), &json::to_vec(self))
    }
}

#[cfg(test)]
mod tests {
    use super::{new_session_id, session_of};

    #[test]
    fn sessions_are_found_in_names() {
        for (name, session) in [
            ("pdeadbeef", None),
            ("pdeadbeef-", None),
            ("pdeadbeef-whatever", None),
            ("pdeadbeef-s01", Some("s01")),
            ("sdeadbeef-s01", Some("s01")),
            ("xn0_abc-s7-c1", Some("s7")),
        ] {
            assert_eq!(session_of(name), session, "{name}");
        }
    }

    #[test]
    fn session_ids_tell_their_month() {
        for (day, unit) in [
            ("2020-01-01T00:00:00Z", "f3"),
            ("2023-11-14T00:00:00Z", "122"),
            ("2026-08-01T00:00:00Z", "143"),
            ("2026-11-21T00:00:00Z", "147"),
        ] {
            let id = new_session_id(day.parse().unwrap()).unwrap();
            assert_eq!(&id[17..], unit, "{day}");
        }
    }
}
