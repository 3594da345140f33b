//! A part of a snapshot as a tar stream.
//!
//! Each directory comes before what is in it. What an archive header cannot hold stands in pax records: names that are long
//! or no ASCII, times to the nanosecond, sizes from 8 GiB, extended attributes and access control lists. Of a file with
//! several names the first is a file and the others are links to it. The archive's end is written only after everything in
//! it: a stream that broke off has none, and tar says so.
//!
//! Memory: what [`crate::restore::walk`] takes, small files read ahead and pieces of a large one: 32 MiB at most; and some 200
//! bytes a file with several names.

mod access_list;
mod tar;

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::io::Write;

use futures::{StreamExt as _, stream};
use repository::{Entry, EntryKind, HardLink, Special, SpecialKind, UnknownSpecial, Xattr};
use repository_kopia::Repository;

use crate::browse::BrowseError;
use crate::meter::Counter;
use crate::restore::Linked;
use crate::restore::fetch::wait;
use crate::restore::walk::{LOOK_AHEAD, Walk};
use crate::run::Run;
use crate::shortfall::{Shortfall, ShortfallKind, Shortfalls, not_known};
use tar::{Header, Kind};

/// Files up to this length are read ahead, [`LOOK_AHEAD`] at a time, in bytes.
const SMALL_BYTES_MAX: u64 = 1 << 20;
/// Pieces of a large file read at the same time: 8 MiB each at most with the default splitter.
const PIECES_IN_FLIGHT: usize = 2;

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DownloadOutcome {
    /// Entries, directories and further names of files among them.
    pub entry_count: u64,
    /// Bytes in files.
    pub file_bytes: u64,
    /// What an archive cannot hold.
    pub shortfalls: Shortfalls,
}

/// Writes `root` and everything below it. A directory's entries have paths relative to it; a file is the one entry of its
/// archive.
///
/// # Errors
/// When anything cannot be read or written, or the run is cancelled; the archive is without its end then.
pub fn download(
    repository: &Repository,
    root: &Entry,
    run: &Run,
    out: &mut dyn Write,
) -> Result<DownloadOutcome, BrowseError> {
    let mut archive = Archive { repository, run, out, links: HashMap::new(), outcome: DownloadOutcome::default() };
    match root.kind {
        EntryKind::Directory => archive.tree(root)?,
        EntryKind::File | EntryKind::Symlink => archive.files(b"", std::slice::from_ref(&root))?,
    }
    archive.out.write_all(&tar::END).and_then(|()| archive.out.flush()).map_err(BrowseError::Output)?;
    Ok(archive.outcome)
}

struct Archive<'a> {
    repository: &'a Repository,
    run: &'a Run,
    out: &'a mut dyn Write,
    /// The first name of each file that has several, and what it is.
    links: HashMap<HardLink, (Vec<u8>, Linked)>,
    outcome: DownloadOutcome,
}

impl Archive<'_> {
    fn tree(&mut self, root: &Entry) -> Result<(), BrowseError> {
        let mut walk = Walk::new(self.repository, self.run);
        walk.push(root, (Vec::new(), Entry { summary: None, ..root.clone() }));
        while let Some(((path, directory), listing)) = walk.next()? {
            let listing = listing.map_err(BrowseError::read(named(&path)))?;
            let side = &listing.side;
            let name = if path.is_empty() { b"./".to_vec() } else { [path.as_slice(), b"/"].concat() };
            self.header(&Header::of_entry(&name, &directory, &side.xattrs))?;
            for special in &side.specials {
                self.special(&below(&path, &special.name), special)?;
            }
            for UnknownSpecial { name, kind } in &side.unknown_specials {
                self.falls_short(ShortfallKind::Special, &below(&path, name), &not_known(kind));
            }
            for member in &side.unknown {
                self.falls_short(ShortfallKind::Attributes, &path, &not_known(member));
            }
            let mut entries = listing.entries(self.repository);
            while let Some(some) = wait(self.run, entries.next())?.map_err(BrowseError::read(named(&path)))? {
                let (directories, files): (Vec<&Entry>, Vec<&Entry>) =
                    some.iter().partition(|entry| entry.kind == EntryKind::Directory);
                for entry in directories {
                    let header = Entry { summary: None, ..entry.clone() };
                    walk.push(entry, (below(&path, entry.raw_name()), header));
                }
                self.files(&path, &files)?;
            }
        }
        Ok(())
    }

    fn special(&mut self, path: &[u8], special: &Special) -> Result<(), BrowseError> {
        let kind = match special.kind {
            SpecialKind::Fifo => Kind::Fifo,
            SpecialKind::CharacterDevice(number) => Kind::CharacterDevice(number),
            SpecialKind::BlockDevice(number) => Kind::BlockDevice(number),
            SpecialKind::Socket => {
                self.falls_short(ShortfallKind::Special, path, "a socket, which no archive can hold");
                return Ok(());
            }
        };
        if !kind.fits() {
            self.falls_short(ShortfallKind::Special, path, "a device with a greater number than an archive can hold");
            return Ok(());
        }
        let first = self.first_name(special.hard_link, path, || Linked::of_special(special));
        let header = Header::of_special(path, kind, special);
        self.header(&match &first {
            Some(first) => header.linked_to(first),
            None => header,
        })
    }

    /// Files and links of one directory.
    fn files(&mut self, directory: &[u8], entries: &[&Entry]) -> Result<(), BrowseError> {
        for group in entries.chunks(LOOK_AHEAD) {
            let (mut files, mut links) = (Vec::with_capacity(group.len()), Vec::new());
            for entry in group {
                // The root of a snapshot of one file may be named by a whole path.
                let name = entry.raw_name().rsplit(|byte| *byte == b'/').next().unwrap_or_default();
                let path = below(directory, name);
                for member in entry.side.iter().flat_map(|side| &side.unknown) {
                    self.falls_short(ShortfallKind::Attributes, &path, &not_known(member));
                }
                match self.first_name(entry.hard_link(), &path, || Linked::of_entry(entry)) {
                    Some(first) => links.push((*entry, path, first)),
                    None => files.push((*entry, path)),
                }
            }
            self.data_of(&files)?;
            for (entry, path, first) in links {
                self.header(&Header::of_entry(&path, entry, &[]).linked_to(&first))?;
                self.run.meter.add(Counter::FilesDone, 1);
            }
        }
        Ok(())
    }

    /// The earlier name of the same file, if it has one in this archive.
    fn first_name(&mut self, link: Option<HardLink>, path: &[u8], file: impl FnOnce() -> Linked) -> Option<Vec<u8>> {
        let (link, file) = (link?, file());
        match self.links.entry(link) {
            Slot::Occupied(first) if first.get().1 == file => Some(first.get().0.clone()),
            Slot::Occupied(_) => {
                let reason = "a file of its own: it was changed while it was backed up";
                self.falls_short(ShortfallKind::HardLink, path, reason);
                None
            }
            Slot::Vacant(slot) => {
                slot.insert((path.to_vec(), file));
                None
            }
        }
    }

    fn data_of(&mut self, entries: &[(&Entry, Vec<u8>)]) -> Result<(), BrowseError> {
        let repository = self.repository;
        let is_small = |entry: &Entry| entry.kind == EntryKind::Symlink || entry.size_bytes <= SMALL_BYTES_MAX;
        let read = stream::iter(entries)
            .map(async |(entry, _)| match is_small(entry) {
                true => Some(repository.object(&entry.data).await),
                false => None,
            })
            .buffered(LOOK_AHEAD);
        let read: Vec<_> = wait(self.run, read.collect())?;
        for ((entry, path), bytes) in entries.iter().zip(read) {
            match bytes {
                Some(bytes) => self.small(path, entry, &bytes.map_err(BrowseError::read(named(path)))?)?,
                None => self.large(path, entry)?,
            }
            self.run.meter.add(Counter::FilesDone, 1);
        }
        Ok(())
    }

    fn small(&mut self, path: &[u8], entry: &Entry, bytes: &[u8]) -> Result<(), BrowseError> {
        let header = Header::of_entry(path, entry, entry.xattrs());
        if entry.kind == EntryKind::Symlink {
            return self.header(&Header { target: bytes, ..header });
        }
        check_length(path, entry, bytes.len() as u64)?;
        self.header(&header)?;
        self.data(bytes)?;
        self.padding(entry)
    }

    fn large(&mut self, path: &[u8], entry: &Entry) -> Result<(), BrowseError> {
        let pieces = wait(self.run, self.repository.pieces(&entry.data))?.map_err(BrowseError::read(named(path)))?;
        self.header(&Header::of_entry(path, entry, entry.xattrs()))?;
        let (repository, data) = (self.repository, &entry.data);
        let mut read =
            Box::pin(stream::iter(&pieces).map(|piece| repository.piece(data, piece)).buffered(PIECES_IN_FLIGHT));
        let mut found_bytes = 0;
        while let Some(piece) = wait(self.run, read.next())? {
            let piece = piece.map_err(BrowseError::read(named(path)))?;
            found_bytes += piece.len() as u64;
            if found_bytes > entry.size_bytes {
                break;
            }
            self.data(&piece)?;
        }
        check_length(path, entry, found_bytes)?;
        self.padding(entry)
    }

    fn header(&mut self, header: &Header<'_>) -> Result<(), BrowseError> {
        self.outcome.entry_count += 1;
        self.out.write_all(&header.blocks()).map_err(BrowseError::Output)
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), BrowseError> {
        self.outcome.file_bytes += bytes.len() as u64;
        self.run.meter.add(Counter::BytesDone, bytes.len() as u64);
        self.out.write_all(bytes).map_err(BrowseError::Output)
    }

    fn padding(&mut self, entry: &Entry) -> Result<(), BrowseError> {
        self.out.write_all(tar::padding(entry.size_bytes)).map_err(BrowseError::Output)
    }

    fn falls_short(&mut self, kind: ShortfallKind, path: &[u8], reason: &str) {
        let shortfall = Shortfall { kind, path: named(path), reason: reason.to_owned() };
        self.outcome.shortfalls.note(shortfall);
    }
}

impl<'a> Header<'a> {
    fn of_entry(path: &'a [u8], entry: &Entry, xattrs: &'a [Xattr]) -> Self {
        let kind = match entry.kind {
            EntryKind::File => Kind::File { size_bytes: entry.size_bytes },
            EntryKind::Symlink => Kind::Symlink,
            EntryKind::Directory => Kind::Directory,
        };
        let Entry { mode, uid, gid, mtime, .. } = *entry;
        Self { path, target: b"", kind, mode, uid, gid, mtime, xattrs }
    }

    fn of_special(path: &'a [u8], kind: Kind, special: &'a Special) -> Self {
        let Special { mode, uid, gid, mtime, .. } = *special;
        Self { path, target: b"", kind, mode, uid, gid, mtime, xattrs: &special.xattrs }
    }

    /// The same as another name of the file of that path.
    fn linked_to(self, first: &'a [u8]) -> Self {
        Self { target: first, kind: Kind::HardLink, xattrs: &[], ..self }
    }
}

fn check_length(path: &[u8], entry: &Entry, found_bytes: u64) -> Result<(), BrowseError> {
    let stated_bytes = entry.size_bytes;
    match found_bytes == stated_bytes {
        true => Ok(()),
        false => Err(BrowseError::Length { path: named(path), found_bytes, stated_bytes }),
    }
}

/// For people.
fn named(path: &[u8]) -> String {
    if path.is_empty() { ".".to_owned() } else { String::from_utf8_lossy(path).into_owned() }
}

fn below(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}
