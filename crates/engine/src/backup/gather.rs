//! A directory that is being put together: its entries as they finish, in any order, and their sums.

use std::borrow::Cow;
use std::io;
use std::mem::size_of;

use codec::compress::Algorithm;
use jiff::Timestamp;
use repository::{DirectorySide, Entry, EntryKind, FailedEntry, Side, Summary, Xattr};
use repository_kopia::{IndexError, Repository, WaitingEntries, stored_order, write_directory};

use super::tree::DirectoryNumber;

/// Failed entries named in one directory's summary; their counts are complete.
const ERRORS_NAMED: usize = 10;

pub(super) struct OpenDirectory {
    pub(super) parent: Option<DirectoryNumber>,
    pub(super) draft: Entry,
    pub(super) side: DirectorySide,
    pub(super) metadata_compression: Option<Algorithm>,
    /// Entries that were announced and have not finished.
    missing_count: usize,
    /// All entries were announced.
    is_listed: bool,
    entries: Vec<Entry>,
    /// What `entries` take in memory.
    held_bytes: usize,
    /// Those that were put away.
    waiting: Option<WaitingEntries>,
    sums: Sums,
}

impl OpenDirectory {
    pub(super) fn new(
        parent: Option<DirectoryNumber>,
        draft: Entry,
        xattrs: Vec<Xattr>,
        metadata_compression: Option<Algorithm>,
    ) -> Self {
        Self {
            parent,
            sums: Sums::new(),
            draft,
            side: DirectorySide { xattrs, ..DirectorySide::default() },
            metadata_compression,
            missing_count: 0,
            is_listed: false,
            entries: Vec::new(),
            held_bytes: 0,
            waiting: None,
        }
    }

    /// So many more entries will finish.
    pub(super) fn announce(&mut self, entry_count: usize, is_last: bool) {
        self.missing_count += entry_count;
        self.is_listed = is_last;
    }

    pub(super) fn is_complete(&self) -> bool {
        self.is_listed && self.missing_count == 0
    }

    /// An entry has finished.
    pub(super) fn add(&mut self, entry: Entry) {
        self.missing_count -= 1;
        self.sums.add(&entry);
        self.held_bytes += memory_bytes(&entry);
        self.entries.push(entry);
    }

    /// An entry could not be read.
    pub(super) fn fail(&mut self, failed: &FailedEntry, is_ignored: bool) {
        self.missing_count -= 1;
        self.sums.fail(failed, is_ignored);
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Puts what has finished out of memory.
    pub(super) fn put_away(&mut self, repository: &Repository) -> Result<(), IndexError> {
        self.entries.sort_by(stored_order);
        self.waiting.get_or_insert_with(|| repository.waiting_entries()).put(&self.entries)?;
        (self.entries, self.held_bytes) = (Vec::new(), 0);
        Ok(())
    }

    /// Writes the listing as it is if nothing but `unfinished` is to come; gives its summary.
    ///
    /// # Errors
    /// Those of `out`, or when what was put away cannot be read again.
    pub(super) fn write(
        &mut self,
        unfinished: Vec<Entry>,
        incomplete: Option<&str>,
        out: &mut dyn io::Write,
    ) -> io::Result<Summary> {
        let mut sums = self.sums.clone();
        unfinished.iter().for_each(|entry| sums.add(entry));
        let summary = Summary { incomplete: incomplete.map(str::to_owned), ..sums.summary(&self.draft) };
        self.side.specials.sort_by(|a, b| a.name.cmp(&b.name));
        self.entries.sort_by(stored_order);
        let mut held = Cow::Borrowed(self.entries.as_slice());
        if !unfinished.is_empty() {
            held.to_mut().extend(unfinished);
            held.to_mut().sort_by(stored_order);
        }
        match &self.waiting {
            Some(waiting) => write_directory(waiting.with(&held), &summary, &self.side, out)?,
            None => write_directory(held.iter().map(|entry| Ok(Cow::Borrowed(entry))), &summary, &self.side, out)?,
        }
        Ok(summary)
    }

    /// The root of a snapshot of one file: the file, with a summary of its own.
    pub(super) fn into_single_file(mut self) -> Entry {
        let summary = self.sums.summary(&self.draft);
        match self.entries.pop() {
            Some(entry) => Entry { summary: Some(Box::new(Summary { directory_count: 0, ..summary })), ..entry },
            None => Entry { kind: EntryKind::File, summary: Some(Box::new(summary)), ..self.draft },
        }
    }
}

/// What an entry takes in memory, about.
fn memory_bytes(entry: &Entry) -> usize {
    let of_attribute = |xattr: &Xattr| size_of::<Xattr>() + xattr.name.len() + xattr.value.len();
    let of_side = |side: &Side| {
        let raw_name = side.raw_name.as_ref().map_or(0, Vec::len);
        size_of::<Side>() + raw_name + side.xattrs.iter().map(of_attribute).sum::<usize>()
    };
    let of_error = |failed: &FailedEntry| size_of::<FailedEntry>() + failed.path.len() + failed.error.len();
    let of_summary = |summary: &Summary| size_of::<Summary>() + summary.errors.iter().map(of_error).sum::<usize>();
    size_of::<Entry>()
        + entry.name.len()
        + entry.data.as_str().len()
        + entry.side.as_deref().map_or(0, of_side)
        + entry.summary.as_deref().map_or(0, of_summary)
}

/// What the entries of a directory add up to.
#[derive(Clone)]
struct Sums {
    summary: Summary,
    /// Of the entries themselves and what is in them.
    max_time: Option<Timestamp>,
}

impl Sums {
    fn new() -> Self {
        let summary = Summary {
            size_bytes: 0,
            file_count: 0,
            symlink_count: 0,
            directory_count: 1,
            max_time: Timestamp::UNIX_EPOCH,
            incomplete: None,
            failed_count: 0,
            ignored_error_count: 0,
            errors: Vec::new(),
        };
        Self { summary, max_time: None }
    }

    fn add(&mut self, entry: &Entry) {
        let sum = &mut self.summary;
        self.max_time = self.max_time.max(Some(entry.mtime));
        match (entry.kind, &entry.summary) {
            (EntryKind::File, _) => {
                sum.file_count += 1;
                sum.size_bytes += entry.size_bytes;
            }
            (EntryKind::Symlink, _) => sum.symlink_count += 1,
            (EntryKind::Directory, None) => sum.directory_count += 1,
            (EntryKind::Directory, Some(inner)) => {
                sum.size_bytes += inner.size_bytes;
                sum.file_count += inner.file_count;
                sum.symlink_count += inner.symlink_count;
                sum.directory_count += inner.directory_count;
                self.max_time = self.max_time.max(Some(inner.max_time));
                sum.failed_count += inner.failed_count;
                sum.ignored_error_count += inner.ignored_error_count;
                inner.errors.iter().for_each(|failed| name_first(&mut sum.errors, failed));
            }
        }
    }

    fn fail(&mut self, failed: &FailedEntry, is_ignored: bool) {
        match is_ignored {
            true => self.summary.ignored_error_count += 1,
            false => self.summary.failed_count += 1,
        }
        name_first(&mut self.summary.errors, failed);
    }

    fn summary(&self, directory: &Entry) -> Summary {
        Summary { max_time: self.max_time.unwrap_or(directory.mtime), ..self.summary.clone() }
    }
}

/// Keeps the first by path.
fn name_first(errors: &mut Vec<FailedEntry>, failed: &FailedEntry) {
    let at = errors.partition_point(|known| known.path <= failed.path);
    if at < ERRORS_NAMED {
        errors.insert(at, failed.clone());
        errors.truncate(ERRORS_NAMED);
    }
}
