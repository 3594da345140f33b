//! Where an object's file lies: object key ⇄ path below the root.
//!
//! Kopia's sharded layout is that of its directory repositories; source: Kopia format specification, "Sharded layout".

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;

use super::Fault;
use crate::ErrorKind;

/// How object keys become paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Kopia's: directories by leading characters as the file `.shards` says, names ending in `.f`. A key has no `/`.
    Kopia,
    /// As [`Layout::Kopia`], but a new store gets the directories that format version 1 has.
    KopiaVersion1,
    /// The key is the relative path.
    Plain,
}

/// The name of the file that describes Kopia's sharding.
const SHARDS_FILE: &str = ".shards";

/// What a new repository gets, byte for byte what Kopia writes.
const SHARDS_OF_NEW: &str = "{\"default\":[1,3],\"maxNonShardedLength\":20}\n";

/// What an existing repository without the file has, and a new one of format version 1 gets.
const SHARDS_OF_OLD: &str = "{\"default\":[3,3],\"maxNonShardedLength\":20}\n";

/// The end of an object's file name.
pub(super) const SUFFIX: &str = ".f";

/// Maps keys to paths; reads `.shards` once.
pub(super) struct Paths {
    layout: Layout,
    shards: Mutex<Option<Shards>>,
}

/// What `.shards` says.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shards {
    #[serde(default)]
    default: Vec<usize>,
    #[serde(default)]
    max_non_sharded_length: usize,
    #[serde(default)]
    overrides: Vec<Override>,
}

#[derive(Clone, Debug, Deserialize)]
struct Override {
    prefix: String,
    #[serde(default)]
    shards: Vec<usize>,
}

/// What the root says of its sharding.
enum Found {
    Written(Shards),
    /// A repository is there and the file is not.
    Old,
    /// Nothing is there yet.
    New,
}

impl Paths {
    pub(super) fn new(layout: Layout) -> Self {
        Self { layout, shards: Mutex::new(None) }
    }

    pub(super) fn layout(&self) -> Layout {
        self.layout
    }

    /// The path of one object.
    pub(super) fn path(&self, root: &Path, key: &str) -> Result<PathBuf, Fault> {
        let relative = match self.layout {
            Layout::Kopia | Layout::KopiaVersion1 => {
                if key.contains('/') {
                    return Err(Fault::refused("a name with a slash does not fit Kopia's layout"));
                }
                self.shards(root)?.path(key)
            }
            Layout::Plain => key.to_owned(),
        };
        check_path(key, &relative)?;
        Ok(root.join(relative))
    }

    /// Before a put: a store that holds nothing yet gets its `.shards` through `write`.
    pub(super) fn prepare_put(
        &self,
        root: &Path,
        write: impl FnOnce(&Path, &[u8]) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        if self.layout == Layout::Plain || self.known().is_some() {
            return Ok(());
        }
        match find(root)? {
            Found::Written(_) | Found::Old => {}
            Found::New => match write(&root.join(SHARDS_FILE), self.shards_of_new().as_bytes()) {
                Ok(()) => {}
                // Another writer was first; what it wrote is read below.
                Err(fault) if fault.kind == ErrorKind::AlreadyExists => {}
                Err(fault) => return Err(fault),
            },
        }
        self.shards(root).map(|_| ())
    }

    fn shards_of_new(&self) -> &'static str {
        if self.layout == Layout::KopiaVersion1 { SHARDS_OF_OLD } else { SHARDS_OF_NEW }
    }

    fn shards(&self, root: &Path) -> Result<Shards, Fault> {
        if let Some(shards) = self.known() {
            return Ok(shards);
        }
        let shards = match find(root)? {
            Found::Written(shards) => shards,
            Found::Old => parse(SHARDS_OF_OLD)?,
            // Not remembered: someone may be about to create a repository of another shape here.
            Found::New => return parse(self.shards_of_new()),
        };
        *self.shards.lock().unwrap_or_else(PoisonError::into_inner) = Some(shards.clone());
        Ok(shards)
    }

    fn known(&self) -> Option<Shards> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn find(root: &Path) -> Result<Found, Fault> {
    match std::fs::read_to_string(root.join(SHARDS_FILE)) {
        Ok(text) => parse(&text).map(Found::Written),
        Err(error) if error.kind() == io::ErrorKind::NotFound => find_without_file(root),
        Err(error) => Err(Fault::of(&error)),
    }
}

/// A repository always has objects with short names, which lie in the root itself.
fn find_without_file(root: &Path) -> Result<Found, Fault> {
    let entries = match std::fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Fault::new(ErrorKind::StoreMissing, "the directory does not exist"));
        }
        Err(error) => return Err(Fault::of(&error)),
    };
    for entry in entries {
        let entry = entry.map_err(|error| Fault::of(&error))?;
        if entry.file_name().to_string_lossy().ends_with(SUFFIX) {
            return Ok(Found::Old);
        }
    }
    Ok(Found::New)
}

fn parse(text: &str) -> Result<Shards, Fault> {
    serde_json::from_str(text).map_err(|error| Fault {
        kind: ErrorKind::Misconfigured,
        detail: format!("the file {SHARDS_FILE} does not parse: {error}"),
    })
}

impl Shards {
    fn path(&self, key: &str) -> String {
        let mut path = String::with_capacity(key.len() + 8);
        let mut rest = key;
        if key.len() > self.max_non_sharded_length {
            for &length in self.lengths(key) {
                // A name that cannot be split here is not ASCII: it stays whole.
                if rest.len() <= length || !rest.is_char_boundary(length) {
                    break;
                }
                if length == 0 {
                    continue;
                }
                path.push_str(&rest[..length]);
                path.push('/');
                rest = &rest[length..];
            }
        }
        path.push_str(rest);
        path.push_str(SUFFIX);
        path
    }

    fn lengths(&self, key: &str) -> &[usize] {
        self.overrides.iter().find(|entry| key.starts_with(&entry.prefix)).map_or(&self.default, |entry| &entry.shards)
    }
}

/// Refuses what would leave the root, and what a listing would not show again under the same name.
fn check_path(key: &str, relative: &str) -> Result<(), Fault> {
    if key.is_empty() || relative.contains('\0') {
        return Err(Fault::refused("the name is empty or holds a zero byte"));
    }
    if relative.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(Fault::refused("the name has an empty part, `.` or `..`"));
    }
    if is_temporary(relative) {
        return Err(Fault::refused("the name looks like an unfinished file"));
    }
    Ok(())
}

/// Whether a file name is that of a put which has not finished: `….tmp.<16 hex>`.
pub(super) fn is_temporary(name: &str) -> bool {
    name.rsplit_once(".tmp.")
        .is_some_and(|(_, end)| end.len() == 16 && end.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(shards: &str, key: &str, path: &str) {
        assert_eq!(parse(shards).map_err(|fault| fault.detail).unwrap().path(key), path);
    }

    #[test]
    fn sharded_paths_are_kopias() {
        check(SHARDS_OF_OLD, "foobarbaz12345678910123213123", "foo/bar/baz12345678910123213123.f");
        check(SHARDS_OF_NEW, "foobarbaz12345678910123213123", "f/oob/arbaz12345678910123213123.f");
        check(SHARDS_OF_NEW, "p0123456789abcdef0123456789abcdef-sX", "p/012/3456789abcdef0123456789abcdef-sX.f");
        check(SHARDS_OF_NEW, "kopia.repository", "kopia.repository.f");
        check(SHARDS_OF_NEW, "xe5", "xe5.f");
        check(SHARDS_OF_NEW, "xw1700000000", "xw1700000000.f");
    }

    #[test]
    fn overrides_replace_the_default() {
        let shards = r#"{"default":[3,2,1],"maxNonShardedLength":2,
            "overrides":[{"prefix":"p","shards":[2,2]},{"prefix":"x","shards":[1,1,1]}]}"#;
        check(shards, "ab", "ab.f");
        check(shards, "defaultsharded", "def/au/l/tsharded.f");
        check(shards, "phello", "ph/el/lo.f");
        check(shards, "pgoodbye", "pg/oo/dbye.f");
        check(shards, "xhello", "x/h/e/llo.f");
        check(shards, "xbye", "x/b/y/e.f");
        check(shards, "xo", "xo.f");
    }

    #[test]
    fn short_rests_are_not_split() {
        let ten = r#"{"default":[3,3],"maxNonShardedLength":10}"#;
        check(ten, "foobarbar", "foobarbar.f");
        check(ten, "foobarbarbar", "foo/bar/barbar.f");
        let none = r#"{"default":[3,3],"maxNonShardedLength":0}"#;
        check(none, "fo", "fo.f");
        check(none, "foo", "foo.f");
        check(none, "foob", "foo/b.f");
        check(none, "foobar", "foo/bar.f");
        check(none, "foobar2", "foo/bar/2.f");
        check(
            r#"{"default":[],"maxNonShardedLength":20}"#,
            "foobarbaz12345678910123213123",
            "foobarbaz12345678910123213123.f",
        );
        check(r#"{"default":[0,2],"maxNonShardedLength":0}"#, "foobar", "fo/obar.f");
    }

    #[test]
    fn unfinished_files_are_told_by_their_names() {
        assert!(is_temporary("x/y.f.tmp.0123456789abcdef"));
        assert!(!is_temporary("y.f.tmp.0123456789abcde"));
        assert!(!is_temporary("y.f.tmp.0123456789abcdeX"));
        assert!(!is_temporary("y.f"));
    }
}
