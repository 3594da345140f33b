//! The snapshot's tree → directories and large files in the target, and which contents are wanted where.
//!
//! Metadata first: a directory is made when its parent's listing is read, and what the snapshot lacks is removed before
//! anything is written into it. Files are gathered in windows; see [`super::ranges`].

use std::collections::HashSet;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use futures::{StreamExt as _, stream};
use repository::{DirectorySide, Entry, EntryKind, HardLink, Special, UnknownSpecial};
use repository_kopia::{ContentError, DirectoryListing, IndexView, ObjectId, Piece, ReadError};
use rustix::io::Errno;
use storage::Class;

use super::Context;
use super::attributes::Attributes;
use super::error::RestoreError;
use super::fetch::{Fetcher, range_bytes_max, wait};
use super::links::{Linked, Links, Met, Waiting};
use super::names::Names;
use super::ranges::{Wanted, Window};
use super::state::STATE_FILE;
use super::tally::{Problem, Tally};
use super::target::{self, Folder};
use super::walk::{LOOK_AHEAD, Walk};
use super::write::{FileTask, Place, Writer};
use crate::meter::Counter;
use crate::shortfall::{ShortfallKind, not_known};

/// At the root of a file system, and not the user's.
const LOST_AND_FOUND: &str = "lost+found";

/// What is restored: a directory with everything in it, or one file or link.
pub(crate) enum Job {
    Tree(Entry),
    Single(Entry),
}

/// Plans everything, and has it fetched. What is linked when all is written comes back.
pub(crate) fn run(
    context: &Context<'_>,
    job: &Job,
    root: Arc<Folder>,
    fetcher: Fetcher<Vec<Wanted<Place>>>,
) -> Result<Links, RestoreError> {
    let mut planner = Planner {
        context,
        writer: Writer::new(context),
        index: context.repository.index(),
        fetcher,
        window: Window::new(),
        folder_count: 1,
        links: None,
    };
    match job {
        Job::Tree(entry) => {
            planner.links = Some(Links::default());
            planner.tree(entry, root)?;
        }
        Job::Single(entry) => planner.files(&root, &[entry])?,
    }
    planner.fetch_window()?;
    planner.fetcher.finish(context.run)?;
    Ok(planner.links.unwrap_or_default())
}

struct Planner<'a> {
    context: &'a Context<'a>,
    writer: Writer<'a>,
    index: IndexView,
    fetcher: Fetcher<Vec<Wanted<Place>>>,
    window: Window<Place>,
    folder_count: u64,
    /// Nothing where a single entry is restored: a file then, whatever other names it had.
    links: Option<Links>,
}

impl<'a> Planner<'a> {
    fn tree(&mut self, entry: &Entry, root: Arc<Folder>) -> Result<(), RestoreError> {
        let mut walk = Walk::new(self.context.repository, self.context.run);
        walk.push(entry, root);
        while let Some((folder, listing)) = walk.next()? {
            let read = match listing {
                Ok(listing) => self.directory(&folder, &listing, &mut walk)?,
                Err(error) => Err(error),
            };
            if let Err(error) = read {
                let source = of_this_entry(error);
                let problem = source.map_err(|source| RestoreError::ReadDirectory { path: folder.path(), source })?;
                self.context.fail(&folder, b"", &problem)?;
            }
            self.writer.release(&folder)?;
        }
        Ok(())
    }

    /// The inner error is that the entries, which were all read before, could not be read again.
    fn directory(
        &mut self,
        folder: &Arc<Folder>,
        listing: &DirectoryListing,
        walk: &mut Walk<'a, Arc<Folder>>,
    ) -> Result<Result<(), ReadError>, RestoreError> {
        let Context { repository, run, delete_extra, .. } = *self.context;
        let _ = folder.xattrs.set(listing.side.xattrs.clone());
        let mut names = match wait(run, Names::read(repository, listing))? {
            Ok(names) => names,
            Err(error) => return Ok(Err(error)),
        };
        if folder.existed && delete_extra {
            self.delete_extras(folder, &names, &listing.side)?;
        }
        let mut entries = listing.entries(repository);
        let mut beside = Some(&listing.side);
        loop {
            let some = match wait(run, entries.next())? {
                Ok(Some(some)) => some,
                Ok(None) => break,
                Err(error) => return Ok(Err(error)),
            };
            let is_old_note = |entry: &Entry| folder.is_root() && entry.name == STATE_FILE;
            let (directories, files): (Vec<&Entry>, Vec<&Entry>) = some
                .iter()
                .filter(|entry| names.is_last(entry.raw_name()) && !is_old_note(entry))
                .partition(|entry| entry.kind == EntryKind::Directory);
            self.directories(folder, &directories, walk)?;
            if !files.is_empty() {
                self.specials(folder, beside.take())?;
            }
            self.files(folder, &files)?;
        }
        self.specials(folder, beside)?;
        Ok(Ok(()))
    }

    fn directories(
        &mut self,
        folder: &Arc<Folder>,
        entries: &[&Entry],
        walk: &mut Walk<'a, Arc<Folder>>,
    ) -> Result<(), RestoreError> {
        for entry in entries {
            match self.make_directory(folder, entry.raw_name()) {
                Ok(existed) => {
                    self.folder_count += 1;
                    Tally::add(&self.context.tally.directory_count, 1);
                    walk.push(
                        entry,
                        folder.child(self.folder_count, entry.raw_name(), existed, Attributes::from(*entry)),
                    );
                }
                Err(problem) => self.context.fail(folder, entry.raw_name(), &problem)?,
            }
        }
        Ok(())
    }

    /// What a directory has beside its entries, after its directories and before its files.
    fn specials(&mut self, folder: &Arc<Folder>, side: Option<&DirectorySide>) -> Result<(), RestoreError> {
        let Some(side) = side else { return Ok(()) };
        for special in &side.specials {
            self.special(folder, special)?;
        }
        for UnknownSpecial { name, kind } in &side.unknown_specials {
            self.context.falls_short(ShortfallKind::Special, folder, name, not_known(kind), false);
        }
        for member in &side.unknown {
            self.context.falls_short(ShortfallKind::Attributes, folder, b"", not_known(member), false);
        }
        Ok(())
    }

    fn special(&mut self, folder: &Arc<Folder>, special: &Special) -> Result<(), RestoreError> {
        let met = self.meet(special.hard_link, folder, &special.name, || Linked::of_special(special));
        let Some(waiting) = met else { return Ok(()) };
        let made = self.writer.handles.get(folder).and_then(|handle| {
            target::create_special(&*handle, &special.name, special.kind)?;
            self.writer.give_by_name(&Attributes::from(special), &special.xattrs, folder, &special.name)
        });
        match made {
            Ok(()) => {
                Tally::add(&self.context.tally.special_count, 1);
                waiting.end();
                Ok(())
            }
            Err(Problem { call: Some((target::SPECIAL, errno)), text, .. }) if is_impossible(errno) => {
                let for_rights = matches!(errno, Errno::PERM | Errno::ACCESS);
                self.context.falls_short(ShortfallKind::Special, folder, &special.name, text, for_rights);
                Ok(())
            }
            Err(problem) => self.context.fail(folder, &special.name, &problem),
        }
    }

    /// Who waits for it to be restored; nothing if the name is one that is linked later.
    fn meet(
        &mut self,
        link: Option<HardLink>,
        folder: &Arc<Folder>,
        name: &[u8],
        file: impl FnOnce() -> Linked,
    ) -> Option<Waiting> {
        let (Some(links), Some(link)) = (&mut self.links, link) else { return Some(Waiting::default()) };
        match links.meet(link, folder, name, file()) {
            Met::First(waiting) => Some(waiting),
            Met::Other => None,
            Met::Apart => {
                let reason = "a file of its own: it was changed while it was backed up".to_owned();
                self.context.falls_short(ShortfallKind::HardLink, folder, name, reason, false);
                Some(Waiting::default())
            }
        }
    }

    fn make_directory(&mut self, folder: &Folder, name: &[u8]) -> Result<bool, Problem> {
        if folder.is_too_deep() {
            return Err(Problem::blocked("its directories are too deep"));
        }
        let handle = self.writer.handles.get(folder)?;
        target::make_directory(&*handle, name)
    }

    fn delete_extras(&mut self, folder: &Folder, names: &Names, side: &DirectorySide) -> Result<(), RestoreError> {
        let mut known = HashSet::new();
        known.extend(side.specials.iter().map(|special| special.name.as_slice()));
        known.extend(side.unknown_specials.iter().map(|special| special.name.as_slice()));
        if folder.is_root() {
            known.extend([LOST_AND_FOUND.as_bytes(), STATE_FILE.as_bytes()]);
        }
        let handle = match self.writer.handles.get(folder) {
            Ok(handle) => handle,
            Err(problem) => return self.context.fail(folder, b"", &problem),
        };
        let extras = match target::extra_names(handle.as_fd(), |name| known.contains(name) || names.has(name)) {
            Ok(extras) => extras,
            Err(errno) => return self.context.fail(folder, b"", &Problem::target("list the directory")(errno)),
        };
        for name in extras {
            match target::remove(handle.as_fd(), &name) {
                Ok(count) => Tally::add(&self.context.tally.deleted_count, count),
                Err(problem) => self.context.fail(folder, &name, &problem)?,
            }
        }
        Ok(())
    }

    /// Files and links of one folder. Index objects of large files are read some at a time.
    fn files(&mut self, folder: &Arc<Folder>, entries: &[&Entry]) -> Result<(), RestoreError> {
        let mut indirect = Vec::new();
        for entry in entries {
            if self.context.run.cancel.is_cancelled() {
                return Err(RestoreError::Interrupted);
            }
            for member in entry.side.iter().flat_map(|side| &side.unknown) {
                let reason = not_known(member);
                self.context.falls_short(ShortfallKind::Attributes, folder, entry.raw_name(), reason, false);
            }
            let met = self.meet(entry.hard_link(), folder, entry.raw_name(), || Linked::of_entry(entry));
            let Some(waiting) = met else { continue };
            if self.is_finished(folder, entry) {
                waiting.end();
                continue;
            }
            match direct_piece(entry) {
                Some(piece) => self.file(folder, entry, &[piece], waiting)?,
                None if entry.kind == EntryKind::File && entry.size_bytes == 0 => {
                    self.file(folder, entry, &[], waiting)?;
                }
                None => indirect.push((*entry, waiting)),
            }
        }
        while !indirect.is_empty() {
            let some: Vec<_> = indirect.drain(..indirect.len().min(LOOK_AHEAD)).collect();
            let repository = self.context.repository;
            let read = stream::iter(&some).map(|(entry, _)| repository.pieces(&entry.data)).buffered(LOOK_AHEAD);
            let read: Vec<Result<Vec<Piece>, ReadError>> = wait(self.context.run, read.collect())?;
            for ((entry, waiting), pieces) in some.into_iter().zip(read) {
                match pieces.map_err(of_this_entry) {
                    Ok(pieces) => self.file(folder, entry, &pieces, waiting)?,
                    Err(Ok(problem)) => self.context.fail(folder, entry.raw_name(), &problem)?,
                    Err(Err(source)) => {
                        return Err(RestoreError::ReadPieces { path: folder.path_of(entry.raw_name()), source });
                    }
                }
            }
        }
        Ok(())
    }

    fn is_finished(&mut self, folder: &Folder, entry: &Entry) -> bool {
        if !self.context.resumes || !folder.existed {
            return false;
        }
        let Ok(handle) = self.writer.handles.get(folder) else { return false };
        let Ok(Some(stat)) = target::look_up(&*handle, entry.raw_name()) else { return false };
        if !Attributes::from(entry).are_those_of(&stat, entry.size_bytes, self.context.owners) {
            return false;
        }
        let xattrs = entry.xattrs();
        if !xattrs.is_empty() && self.writer.give_again(xattrs, folder, entry.raw_name()).is_err() {
            return false;
        }
        let tally = &self.context.tally;
        match entry.kind {
            EntryKind::Symlink => Tally::add(&tally.symlink_count, 1),
            EntryKind::File | EntryKind::Directory => {
                Tally::add(&tally.file_count, 1);
                Tally::add(&tally.resumed_file_count, 1);
                Tally::add(&tally.resumed_bytes, entry.size_bytes);
                self.context.run.meter.add(Counter::FilesDone, 1);
                self.context.run.meter.add(Counter::BytesDone, entry.size_bytes);
            }
        }
        true
    }

    fn file(
        &mut self,
        folder: &Arc<Folder>,
        entry: &Entry,
        pieces: &[Piece],
        waiting: Waiting,
    ) -> Result<(), RestoreError> {
        let pieces: Vec<&Piece> = pieces.iter().filter(|piece| piece.length_bytes != Some(0)).collect();
        let known_bytes: Option<u64> = pieces.iter().map(|piece| piece.length_bytes).sum();
        if let Some(bytes) = known_bytes.filter(|bytes| *bytes != entry.size_bytes) {
            let text = format!("object {} has {bytes} bytes where the snapshot wants {}", entry.data, entry.size_bytes);
            return self.context.fail(folder, entry.raw_name(), &Problem::damaged(text));
        }
        let is_whole = pieces.len() <= 1;
        if entry.kind == EntryKind::Symlink && !is_whole {
            return self.context.fail(folder, entry.raw_name(), &Problem::damaged("its target is longer than any"));
        }
        // One more than there are pieces, for the plan itself: nothing is finished before all of it is planned.
        let task = FileTask::new(folder, entry, is_whole, pieces.len() + 1, waiting);
        let begun = match pieces.len() {
            0 => self.writer.write_whole(&task, &[]),
            1 => Ok(()),
            _ => self.writer.create_large(&task),
        };
        let failed = begun.is_err();
        self.writer.piece_done(&task, begun)?;
        for piece in pieces {
            let found = self.index.index().find(&piece.content);
            let found = found
                .map_err(|source| RestoreError::ReadContent(ContentError::LookUp { content: piece.content, source }))?;
            match found {
                _ if failed => self.writer.piece_done(&task, Ok(()))?,
                None => {
                    let error = ContentError::Unknown { content: piece.content };
                    self.writer.piece_done(&task, Err(Problem::from(&error)))?;
                }
                Some(found) => {
                    let length_bytes = piece.length_bytes.unwrap_or(entry.size_bytes);
                    let place = Place { task: Arc::clone(&task), offset: piece.offset, length_bytes };
                    self.window.push(found, piece.compressed, place);
                }
            }
            if self.window.is_full() {
                self.fetch_window()?;
            }
        }
        Ok(())
    }

    fn fetch_window(&mut self) -> Result<(), RestoreError> {
        for range in self.window.take_ranges(range_bytes_max(self.context.run)) {
            self.fetcher.fetch(range)?;
        }
        Ok(())
    }
}

/// Answers of the system that are about all special files of a kind, and not about this one.
fn is_impossible(errno: Errno) -> bool {
    [Errno::PERM, Errno::ACCESS, Errno::OPNOTSUPP, Errno::INVAL, Errno::NOSYS].contains(&errno)
}

/// The only piece of a small file, without asking anyone.
fn direct_piece(entry: &Entry) -> Option<Piece> {
    let object: ObjectId = entry.data.as_str().parse().ok()?;
    let ObjectId { indirection, compressed, content } = object;
    let is_direct = indirection == 0 && (entry.kind == EntryKind::Symlink || entry.size_bytes > 0);
    is_direct.then_some(Piece { content, compressed, offset: 0, length_bytes: None })
}

/// What is wrong with one record concerns what it describes; the error comes back when it is the store that failed.
fn of_this_entry(error: ReadError) -> Result<Problem, ReadError> {
    match error.class() {
        Class::Damaged => Ok(Problem::from(&error)),
        Class::Blocked if matches!(error, ReadError::Content { source: ContentError::Unsupported { .. }, .. }) => {
            Ok(Problem::from(&error))
        }
        Class::Retry | Class::Blocked | Class::Bug => Err(error),
    }
}
