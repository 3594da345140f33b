//! What two snapshots have and have not in common.
//!
//! Both trees are gone through side by side. Directories with equal data are equal to the last byte below, so they are
//! passed over without being read. Memory: the listings on the way down.

use std::collections::BTreeMap;

use repository::{Directory, Entry, EntryKind};
use repository_kopia::Repository;

use crate::browse::BrowseError;
use crate::restore::fetch::wait;
use crate::run::Run;

/// What is different at one path.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Relative to the roots; `.` is the root.
    pub path: String,
    /// What the first has there.
    pub before: Option<Entry>,
    /// What the second has there.
    pub after: Option<Entry>,
}

/// A member of an entry that differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aspect {
    /// File, directory or link.
    Kind,
    /// Length in bytes.
    Size,
    /// Modification time.
    Time,
    /// Permission bits.
    Mode,
    /// User or group.
    Owner,
    /// Bytes.
    Content,
}

impl Difference {
    /// What changed, where both have an entry. What is inside directories is differences of its own.
    pub fn aspects(&self) -> Vec<Aspect> {
        let (Some(before), Some(after)) = (&self.before, &self.after) else { return Vec::new() };
        let is_directory = before.kind == EntryKind::Directory && after.kind == EntryKind::Directory;
        let differs = [
            (Aspect::Kind, before.kind != after.kind),
            (Aspect::Size, before.size_bytes != after.size_bytes),
            (Aspect::Time, before.mtime != after.mtime),
            (Aspect::Mode, before.mode != after.mode),
            (Aspect::Owner, (before.uid, before.gid) != (after.uid, after.gid)),
            (Aspect::Content, before.data != after.data && !is_directory),
        ];
        differs.into_iter().filter_map(|(aspect, differs)| differs.then_some(aspect)).collect()
    }
}

/// Tells of every difference between two trees, sorted by path within each directory.
///
/// # Errors
/// When a directory cannot be read, `tell` fails, or the run is cancelled.
pub fn diff(
    repository: &Repository,
    before: &Entry,
    after: &Entry,
    run: &Run,
    tell: &mut dyn FnMut(Difference) -> std::io::Result<()>,
) -> Result<(), BrowseError> {
    let mut differ = Differ { repository, run, tell, open: Vec::new() };
    differ.entries(".".to_owned(), Some(before.clone()), Some(after.clone()))?;
    while let Some((path, before, after)) = differ.open.pop() {
        differ.directories(&path, before.as_ref(), after.as_ref())?;
    }
    Ok(())
}

struct Differ<'a> {
    repository: &'a Repository,
    run: &'a Run,
    tell: &'a mut dyn FnMut(Difference) -> std::io::Result<()>,
    /// Directories to be gone through; the last is next.
    open: Vec<(String, Option<Entry>, Option<Entry>)>,
}

impl Differ<'_> {
    fn entries(&mut self, path: String, before: Option<Entry>, after: Option<Entry>) -> Result<(), BrowseError> {
        let is_same = |a: &Entry, b: &Entry| a.kind == b.kind && a.data == b.data;
        let goes_on = !matches!((&before, &after), (Some(a), Some(b)) if is_same(a, b));
        let inside =
            |entry: &Option<Entry>| entry.clone().filter(|entry| goes_on && entry.kind == EntryKind::Directory);
        let (left, right) = (inside(&before), inside(&after));
        let difference = Difference { path, before, after };
        let path = difference.path.clone();
        if difference.before.is_none() || difference.after.is_none() || !difference.aspects().is_empty() {
            (self.tell)(difference).map_err(BrowseError::Output)?;
        }
        if left.is_some() || right.is_some() {
            self.open.push((path, left, right));
        }
        Ok(())
    }

    fn directories(&mut self, path: &str, before: Option<&Entry>, after: Option<&Entry>) -> Result<(), BrowseError> {
        let mut names: BTreeMap<String, (Option<Entry>, Option<Entry>)> = BTreeMap::new();
        for entry in self.list(path, before)? {
            let pair = names.entry(entry.name.clone()).or_default();
            pair.0 = Some(entry);
        }
        for entry in self.list(path, after)? {
            let pair = names.entry(entry.name.clone()).or_default();
            pair.1 = Some(entry);
        }
        let first = self.open.len();
        for (name, (before, after)) in names {
            let path = if path == "." { name } else { format!("{path}/{name}") };
            self.entries(path, before, after)?;
        }
        self.open[first..].reverse();
        Ok(())
    }

    fn list(&self, path: &str, directory: Option<&Entry>) -> Result<Vec<Entry>, BrowseError> {
        let Some(directory) = directory else { return Ok(Vec::new()) };
        let Directory { entries, .. } =
            wait(self.run, self.repository.directory(&directory.data))?.map_err(BrowseError::read(path))?;
        Ok(entries)
    }
}
