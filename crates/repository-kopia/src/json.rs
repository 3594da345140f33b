//! JSON as Go's `encoding/json` writes it.
//!
//! Directory listings and indirect objects are named by the hash of these bytes, so two programs store one tree once only
//! if both write it alike. Source: Kopia format, "JSON dialect".

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Compact JSON with Go's extra escapes: `<`, `>`, `&`, U+2028 and U+2029.
struct GoFormatter;

impl serde_json::ser::Formatter for GoFormatter {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let special = rest[at..].chars().next().unwrap_or_default();
            writer.write_all(&rest.as_bytes()[..at])?;
            write!(writer, "\\u{:04x}", u32::from(special))?;
            rest = &rest[at + special.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }
}

/// Appends `value` as compact JSON.
pub(crate) fn write<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    let mut serializer = serde_json::Serializer::with_formatter(out, GoFormatter);
    value.serialize(&mut serializer).expect("records have string keys and a Vec takes all bytes");
}

/// Writes `value` as compact JSON.
pub(crate) fn write_to<T: Serialize>(value: &T, out: &mut dyn io::Write) -> io::Result<()> {
    Ok(value.serialize(&mut serde_json::Serializer::with_formatter(out, GoFormatter))?)
}

/// `value` as compact JSON.
pub(crate) fn to_vec<T: Serialize>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    write(value, &mut out);
    out
}

/// `value` as compact JSON and a newline, the form of values that Kopia writes through an encoder stream.
pub(crate) fn to_line<T: Serialize>(value: &T) -> Vec<u8> {
    let mut out = to_vec(value);
    out.push(b'\n');
    out
}

/// Reads `null` as the default, as Go does for every type.
pub(crate) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Bytes that stand in JSON as padded standard base64.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Base64Bytes(pub(crate) Vec<u8>);

impl Base64Bytes {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Base64Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
        STANDARD.decode(text).map(Self).map_err(serde::de::Error::custom)
    }
}

/// True for values that Go leaves out under `omitempty`.
pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    #[test]
    fn strings_are_escaped_as_go_does() {
        let written = super::to_vec(&"a<b>&\u{2028}\u{2029}\n\r\t\u{8}\u{c}\u{1}\u{7f}ä\"\\/");
        assert_eq!(
            String::from_utf8(written).unwrap(),
            "\"a\\u003cb\\u003e\\u0026\\u2028\\u2029\\n\\r\\t\\b\\f\\u0001\u{7f}ä\\\"\\\\/\""
        );
    }
}
