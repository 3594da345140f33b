//! Entries by name, size, time or kind, over many snapshots at once.
//!
//! The trees are gone through side by side: a directory that several snapshots have alike is read once, and each version of a
//! file is told of once, with all snapshots that have it.
//!
//! Memory: of each version of the directory that is gone through, what [`crate::by_name`] says; and some 200 bytes for each
//! directory that waits.

use futures::{StreamExt as _, stream};
use repository::{DataId, Entry, EntryKind, Snapshot};
use repository_kopia::{ReadError, Repository};
use storage::Class;

use crate::browse::BrowseError;
use crate::by_name::{ByName, Name};
use crate::restore::chain;
use crate::restore::fetch::wait;
use crate::restore::walk::LOOK_AHEAD;
use crate::run::Run;

/// One version of an entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Version {
    /// Relative to the root; `.` is the root.
    pub path: String,
    /// What it is.
    pub entry: Entry,
    /// Which of the given snapshots have it, by their places, ascending.
    pub snapshots: Vec<usize>,
}

/// What came of a search.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FindOutcome {
    /// Versions told of.
    pub version_count: u64,
    /// Directories that could not be read, and why not.
    pub unreadable: Vec<(String, String)>,
}

/// Tells of every version of every entry that `is_wanted`, of snapshots of one source.
///
/// # Errors
/// When the store fails, `tell` fails, or the run is cancelled. A damaged directory is in the outcome.
pub fn find(
    repository: &Repository,
    snapshots: &[&Snapshot],
    is_wanted: &dyn Fn(&str, &Entry) -> bool,
    run: &Run,
    tell: &mut dyn FnMut(Version) -> std::io::Result<()>,
) -> Result<FindOutcome, BrowseError> {
    let mut outcome = FindOutcome::default();
    let roots = snapshots.iter().enumerate();
    let roots = roots.filter_map(|(at, snapshot)| Some((snapshot.root.clone()?, vec![at]))).collect();
    let mut open = vec![];
    let mut met = |path: String, versions: Vec<(Entry, Vec<usize>)>, open: &mut Vec<Node>| {
        let mut inside: Vec<(DataId, Vec<usize>)> = Vec::new();
        for (entry, snapshots) in versions {
            if entry.kind == EntryKind::Directory {
                match inside.iter_mut().find(|(data, _)| *data == entry.data) {
                    Some((_, all)) => all.extend(&snapshots),
                    None => inside.push((entry.data.clone(), snapshots.clone())),
                }
            }
            if is_wanted(&path, &entry) {
                outcome.version_count += 1;
                tell(Version { path: path.clone(), entry, snapshots }).map_err(BrowseError::Output)?;
            }
        }
        if !inside.is_empty() {
            inside.sort();
            open.push(Node { path, inside });
        }
        Ok::<(), BrowseError>(())
    };
    met(".".to_owned(), alike(roots), &mut open)?;
    let mut unreadable = Vec::new();
    while let Some(Node { path, inside }) = open.pop() {
        let read = stream::iter(inside)
            .map(async |(data, snapshots)| {
                let listing = repository.listing(&data).await?;
                Ok((ByName::open(repository, &data, listing, Name::Text).await?, snapshots))
            })
            .buffered(LOOK_AHEAD);
        let mut read_or = |read: Result<Option<Entry>, ReadError>| match read {
            Err(error) if error.class() == Class::Damaged => {
                unreadable.push((path.clone(), chain(&error)));
                Ok(None)
            }
            read => read.map_err(BrowseError::read(path.as_str())),
        };
        let mut versions = Vec::new();
        for opened in wait(run, read.collect::<Vec<Result<_, ReadError>>>())? {
            match opened {
                Ok((mut entries, snapshots)) => {
                    let next = read_or(wait(run, entries.next())?)?;
                    versions.push(Directory { entries, next, snapshots });
                }
                Err(error) => drop(read_or(Err(error))?),
            }
        }
        let first = open.len();
        while let Some(name) = versions.iter().filter_map(|version| Some(&version.next.as_ref()?.name)).min().cloned() {
            let mut of_name = Vec::new();
            for Directory { entries, next, snapshots } in &mut versions {
                while let Some(entry) = next.take_if(|entry| entry.name == name) {
                    of_name.push((entry, snapshots.clone()));
                    *next = read_or(wait(run, entries.next())?)?;
                }
            }
            let path = if path == "." { name } else { format!("{path}/{name}") };
            met(path, alike(of_name), &mut open)?;
        }
        open[first..].reverse();
    }
    outcome.unreadable = unreadable;
    Ok(outcome)
}

/// Directories at one path, and the snapshots that have each.
struct Node {
    path: String,
    inside: Vec<(DataId, Vec<usize>)>,
}

/// A version of a directory that is gone through, and which snapshots have it.
struct Directory<'a> {
    entries: ByName<'a>,
    next: Option<Entry>,
    snapshots: Vec<usize>,
}

/// Equal entries become one, with the snapshots of all; in the order of the first that has each.
fn alike(versions: Vec<(Entry, Vec<usize>)>) -> Vec<(Entry, Vec<usize>)> {
    let mut distinct: Vec<(Entry, Vec<usize>)> = Vec::new();
    for (entry, snapshots) in versions {
        match distinct.iter_mut().find(|(known, _)| *known == entry) {
            Some((_, all)) => all.extend(snapshots),
            None => distinct.push((entry, snapshots)),
        }
    }
    for (_, snapshots) in &mut distinct {
        snapshots.sort_unstable();
    }
    distinct.sort_by_key(|(_, snapshots)| snapshots.first().copied());
    distinct
}
