//! What Kopia's listings have no place for, as members that Go's JSON decoder passes over.
//!
//! They appear only where there is something to say, so that any other directory has Kopia's own bytes.
//! Source: Kopia format, "Side record".

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use repository::{DeviceNumber, DirectorySide, HardLink, Side, Special, SpecialKind, UnknownSpecial, Xattr};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::directory::check_name;
use crate::json::{Base64Bytes, is_default};

/// Before the base64 of an attribute's name that is not UTF-8. No namespace of attributes begins so.
const ENCODED_NAME: &str = "base64:";

/// Kinds of special entries.
const FIFO: &str = "fifo";
const SOCKET: &str = "socket";
const CHARACTER_DEVICE: &str = "char";
const BLOCK_DEVICE: &str = "block";

/// Values by the attributes' names.
type XattrsJson = BTreeMap<String, Base64Bytes>;

/// The member of an entry.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct EntrySideJson {
    #[serde(skip_serializing_if = "Base64Bytes::is_empty")]
    name: Base64Bytes,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    xattrs: XattrsJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<LinkJson>,
    #[serde(flatten, skip_serializing)]
    unknown: UnknownJson,
}

/// Members that a newer program wrote.
type UnknownJson = BTreeMap<String, IgnoredAny>;

#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct LinkJson {
    ino: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    fs: u32,
}

/// The member of a directory.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct DirectorySideJson {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    xattrs: XattrsJson,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    special: Vec<SpecialJson>,
    #[serde(flatten, skip_serializing)]
    unknown: UnknownJson,
}

#[derive(Clone, Serialize, Deserialize)]
struct SpecialJson {
    /// As text, with what is not UTF-8 replaced: for people who read the listing.
    name: String,
    /// The name's bytes where they are not UTF-8.
    #[serde(default, skip_serializing_if = "Base64Bytes::is_empty")]
    raw: Base64Bytes,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    major: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    minor: Option<u32>,
    /// POSIX bits in octal.
    mode: String,
    #[serde(default, skip_serializing_if = "is_default")]
    uid: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    gid: u32,
    mtime: Timestamp,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    xattrs: XattrsJson,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    link: Option<LinkJson>,
}

pub(crate) fn entry_to_json(side: &Side) -> EntrySideJson {
    EntrySideJson {
        name: Base64Bytes(side.raw_name.clone().unwrap_or_default()),
        xattrs: xattrs_to_json(&side.xattrs),
        link: side.hard_link.map(LinkJson::from),
        unknown: UnknownJson::new(),
    }
}

/// Nothing when it says nothing.
pub(crate) fn entry_from_json(json: EntrySideJson) -> Result<Option<Box<Side>>, String> {
    let raw_name = Some(json.name.0).filter(|name| !name.is_empty());
    if let Some(name) = &raw_name {
        check_name(name)?;
    }
    let side = Side {
        raw_name,
        xattrs: xattrs_from_json(json.xattrs)?,
        hard_link: json.link.map(HardLink::from),
        unknown: json.unknown.into_keys().collect(),
    };
    Ok((!side.is_empty()).then(|| Box::new(side)))
}

/// Nothing when there is nothing to say.
pub(crate) fn directory_to_json(side: &DirectorySide) -> Option<DirectorySideJson> {
    if *side == DirectorySide::default() {
        return None;
    }
    let special = side.specials.iter().map(special_to_json).collect();
    Some(DirectorySideJson { xattrs: xattrs_to_json(&side.xattrs), special, unknown: UnknownJson::new() })
}

pub(crate) fn directory_from_json(json: DirectorySideJson) -> Result<DirectorySide, String> {
    let mut side = DirectorySide {
        xattrs: xattrs_from_json(json.xattrs)?,
        unknown: json.unknown.into_keys().collect(),
        ..DirectorySide::default()
    };
    for special in json.special {
        match special_from_json(special)? {
            Ok(special) => side.specials.push(special),
            Err(unknown) => side.unknown_specials.push(unknown),
        }
    }
    Ok(side)
}

fn special_to_json(special: &Special) -> SpecialJson {
    let (kind, device) = match special.kind {
        SpecialKind::Fifo => (FIFO, None),
        SpecialKind::Socket => (SOCKET, None),
        SpecialKind::CharacterDevice(number) => (CHARACTER_DEVICE, Some(number)),
        SpecialKind::BlockDevice(number) => (BLOCK_DEVICE, Some(number)),
    };
    let is_text = std::str::from_utf8(&special.name).is_ok();
    SpecialJson {
        name: String::from_utf8_lossy(&special.name).into_owned(),
        raw: Base64Bytes(if is_text { Vec::new() } else { special.name.clone() }),
        kind: kind.to_owned(),
        major: device.map(|number| number.major),
        minor: device.map(|number| number.minor),
        mode: format!("0{:o}", special.mode),
        uid: special.uid,
        gid: special.gid,
        mtime: special.mtime,
        xattrs: xattrs_to_json(&special.xattrs),
        link: special.hard_link.map(LinkJson::from),
    }
}

/// The inner error is for a kind that is not known.
fn special_from_json(json: SpecialJson) -> Result<Result<Special, UnknownSpecial>, String> {
    let name = if json.raw.is_empty() { json.name.into_bytes() } else { json.raw.0 };
    check_name(&name)?;
    let device = || match (json.major, json.minor) {
        (Some(major), Some(minor)) => Ok(DeviceNumber { major, minor }),
        _ => Err(format!("device {:?} has no number", String::from_utf8_lossy(&name))),
    };
    let kind = match json.kind.as_str() {
        FIFO => SpecialKind::Fifo,
        SOCKET => SpecialKind::Socket,
        CHARACTER_DEVICE => SpecialKind::CharacterDevice(device()?),
        BLOCK_DEVICE => SpecialKind::BlockDevice(device()?),
        _ => return Ok(Err(UnknownSpecial { name, kind: json.kind })),
    };
    let mode = u32::from_str_radix(&json.mode, 8).map_err(|_| format!("{:?} is no mode", json.mode))?;
    Ok(Ok(Special {
        kind,
        name,
        mode: mode & 0o7777,
        uid: json.uid,
        gid: json.gid,
        mtime: json.mtime,
        xattrs: xattrs_from_json(json.xattrs)?,
        hard_link: json.link.map(HardLink::from),
    }))
}

fn xattrs_to_json(xattrs: &[Xattr]) -> XattrsJson {
    let name = |name: &[u8]| match std::str::from_utf8(name) {
        Ok(text) => text.to_owned(),
        Err(_) => format!("{ENCODED_NAME}{}", STANDARD.encode(name)),
    };
    xattrs.iter().map(|xattr| (name(&xattr.name), Base64Bytes(xattr.value.clone()))).collect()
}

fn xattrs_from_json(json: XattrsJson) -> Result<Vec<Xattr>, String> {
    let read = |(name, value): (String, Base64Bytes)| {
        let name = match name.strip_prefix(ENCODED_NAME) {
            Some(encoded) => STANDARD.decode(encoded).map_err(|error| format!("attribute {name:?}: {error}"))?,
            None => name.into_bytes(),
        };
        if name.is_empty() || name.contains(&0) {
            return Err(format!("{:?} cannot be the name of an attribute", String::from_utf8_lossy(&name)));
        }
        Ok(Xattr { name, value: value.0 })
    };
    let mut xattrs: Vec<Xattr> = json.into_iter().map(read).collect::<Result<_, _>>()?;
    xattrs.sort();
    // A name that needs no base64 may have been written with and without.
    xattrs.dedup_by(|one, other| one.name == other.name);
    Ok(xattrs)
}

impl From<HardLink> for LinkJson {
    fn from(link: HardLink) -> Self {
        Self { ino: link.inode, fs: link.file_system }
    }
}

impl From<LinkJson> for HardLink {
    fn from(link: LinkJson) -> Self {
        Self { inode: link.ino, file_system: link.fs }
    }
}
