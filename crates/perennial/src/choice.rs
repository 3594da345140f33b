//! `SNAPSHOT[:PATH]`: which snapshot is meant, and which entry inside it.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::str::FromStr;

use clap::Args;
use engine::Selection;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use repository::{Entry, EntryKind, Identity, Snapshot};
use repository_kopia::{Client, Listing, ReadError, Repository};

use crate::failure::Failure;
use crate::output;
use crate::runner::Runner;
use crate::source;

const LATEST: &str = "latest";
/// Identities that a message names.
const NAMED_MAX: usize = 10;

/// `latest`, an id or the beginning of one; after a colon, a path inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// `latest`, an id, or the beginning of one.
    pub snapshot: String,
    /// A path inside the snapshot.
    pub path: Option<String>,
}

impl Reference {
    /// Whether the listing decides which snapshot is meant.
    pub fn is_latest(&self) -> bool {
        self.snapshot == LATEST
    }
}

impl FromStr for Reference {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.split_once(':') {
            Some((snapshot, path)) => Self { snapshot: snapshot.to_owned(), path: Some(path.to_owned()) },
            None => Self { snapshot: text.to_owned(), path: None },
        })
    }
}

/// Which of several snapshots.
#[derive(Clone, Debug, Args)]
pub struct Choice {
    /// Look only at snapshots of this source: user@host:/path, or a path of this user and machine
    #[arg(long, value_name = "SOURCE")]
    pub source: Option<String>,

    /// With latest: as things stood at this time, as in 2026-03-01T14:00:00Z, "2026-03-01 14:00" (local), or 2026-03-01
    /// (to the end of that day)
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub as_of: Option<Timestamp>,

    /// With latest: so many snapshots further back
    #[arg(long, value_name = "NUMBER")]
    pub previous: Option<u32>,
}

/// The snapshot that is meant.
pub fn find(listing: &Listing, reference: &Reference, choice: &Choice, client: &Client) -> Result<Snapshot, Failure> {
    let named = choice.source.as_deref().map(|text| source::identity(text, client)).transpose()?;
    if !reference.is_latest() {
        if choice.as_of.is_some() || choice.previous.is_some() {
            let hint = "write latest instead of an id, or leave these options out";
            return Err(Failure::usage("--as-of and --previous go with latest only", hint));
        }
        let selection = Selection::Id(reference.snapshot.clone());
        return Ok(engine::select(&listing.snapshots, named.as_ref(), &selection)?.clone());
    }
    let selection = match (choice.as_of, choice.previous) {
        (None, None) => Selection::Latest,
        (None, Some(previous)) => Selection::Previous(previous),
        (Some(time), previous) => Selection::AsOf { time, previous: previous.unwrap_or(0) },
    };
    let identity = match named {
        Some(identity) => Some(identity),
        None => only_identity(&listing.snapshots)?,
    };
    Ok(engine::select(&listing.snapshots, identity.as_ref(), &selection)?.clone())
}

/// The identity of all snapshots, where there is only one.
fn only_identity(snapshots: &[Snapshot]) -> Result<Option<Identity>, Failure> {
    let identities: BTreeSet<&Identity> = snapshots.iter().map(|snapshot| &snapshot.identity).collect();
    if identities.len() <= 1 {
        return Ok(identities.first().map(|identity| (*identity).clone()));
    }
    let mut names: Vec<String> = identities.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    if identities.len() > NAMED_MAX {
        names.push(format!("and {} more", identities.len() - NAMED_MAX));
    }
    let message = format!("latest of which source? There are {}: {}", identities.len(), names.join(", "));
    Err(Failure::usage(message, "name one of them with --source"))
}

/// Lists the snapshots, with a warning for each record that cannot be read.
pub fn list(repository: &Repository, runner: &Runner) -> Result<Listing, Failure> {
    let listing = runner.wait(repository.snapshots())?;
    for damage in &listing.damage {
        output::warn(&output::chain(damage));
    }
    if !listing.damage.is_empty() {
        output::warn("there may be more snapshots than are listed");
    }
    Ok(listing)
}

/// An entry of a snapshot, and where it is.
pub struct Found {
    /// The entry.
    pub entry: Entry,
    /// Its path inside the snapshot, empty for the root.
    pub path: String,
}

/// Goes down from the snapshot's root to `path`. Links on the way are not followed.
pub async fn entry(repository: &Repository, snapshot: &Snapshot, path: Option<&str>) -> Result<Found, Failure> {
    let root = snapshot
        .root
        .clone()
        .ok_or_else(|| Failure::blocked(format!("snapshot {} has no files", snapshot.id), "choose another snapshot"))?;
    let mut found = Found { entry: root, path: String::new() };
    let parts = path.unwrap_or_default().split('/').filter(|part| !part.is_empty() && *part != ".");
    for part in parts {
        let inside = match found.entry.kind {
            EntryKind::Directory => repository.entry_named(&found.entry.data, part).await,
            kind @ (EntryKind::File | EntryKind::Symlink) => return Err(no_directory(&found, kind)),
        };
        let inside = inside.map_err(|error| reading(error, &found.path))?;
        let path = if found.path.is_empty() { part.to_owned() } else { format!("{}/{part}", found.path) };
        let entry = inside.ok_or_else(|| {
            Failure::blocked(
                format!("there is no /{path} in snapshot {}", snapshot.id),
                format!("`perennial ls {}:{}` shows what is there", snapshot.id, found.path),
            )
        })?;
        found = Found { entry, path };
    }
    Ok(found)
}

/// What could not be read of a snapshot, with its path inside.
pub fn reading(error: ReadError, path: &str) -> Failure {
    Failure::from(error).during(format!("read /{path}"))
}

fn no_directory(found: &Found, kind: EntryKind) -> Failure {
    let (what, place) = (kind_name(kind), if found.path.is_empty() { "the snapshot's root" } else { &found.path });
    Failure::blocked(format!("{place} is a {what}, not a directory"), "name it without what follows")
}

/// What an entry is, in words.
pub fn kind_name(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::File => "file",
        EntryKind::Directory => "directory",
        EntryKind::Symlink => "symlink",
    }
}

/// Reads an instant. Without a zone it is the machine's; a day means its end.
pub fn instant(text: &str) -> Result<Timestamp, String> {
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Ok(instant);
    }
    let zone = TimeZone::system();
    let civil = if text.len() == "2026-03-01".len() {
        text.parse::<Date>().map(|day| day.at(23, 59, 59, 999_999_999))
    } else {
        text.parse::<DateTime>()
    };
    let civil = civil.map_err(|_| "none of 2026-03-01T14:00:00Z, \"2026-03-01 14:00\" and 2026-03-01".to_owned())?;
    zone.to_timestamp(civil).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::{Reference, instant};

    #[test]
    fn a_colon_parts_snapshot_and_path() {
        let parse =
            |text: &str| text.parse::<Reference>().map(|reference| (reference.snapshot, reference.path)).unwrap();
        assert_eq!(parse("latest"), ("latest".to_owned(), None));
        assert_eq!(parse("1a2b:/etc/a:b"), ("1a2b".to_owned(), Some("/etc/a:b".to_owned())));
        assert_eq!(parse("1a2b:"), ("1a2b".to_owned(), Some(String::new())));
    }

    #[test]
    fn times_may_leave_things_out() {
        assert_eq!(instant("2026-03-01T14:00:00Z").unwrap().to_string(), "2026-03-01T14:00:00Z");
        assert_eq!(instant("2026-03-01T14:00:00+02:00").unwrap().to_string(), "2026-03-01T12:00:00Z");
        assert!(instant("2026-03-01").unwrap() > instant("2026-03-01 23:59").unwrap());
        assert!(instant("2026-03-01").unwrap() < instant("2026-03-02 00:00").unwrap());
        assert!(instant("yesterday").is_err());
    }
}
