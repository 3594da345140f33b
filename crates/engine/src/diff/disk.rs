//! A directory of this machine, as a backup would see it: without what the policies exclude.
//!
//! A file's bytes are compared with what is stored by their hashes, cut where the stored file is: nothing of it is fetched but
//! the list of its pieces.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::iter;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use repository::{DataId, Identity, Xattr};
use repository_kopia::{ContentHasher, PREFIX_DATA, Piece, Policy, Repository, Rules};
use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, openat, readlinkat};

use super::node::{Node, NodeKind};
use super::{Data, Item, Others};
use crate::backup::side::{FileSystems, SideReader};
use crate::browse::BrowseError;
use crate::listing::folder::Folder;
use crate::listing::{self, BadRules, Chosen, Listed, Location, Opened, Reading, join, mtime, names};
use crate::meter::Counter;
use crate::restore::fetch::wait;
use crate::run::Run;
use crate::xattr::Place;

/// Bytes of a file read at once.
const READ_BYTES: usize = 256 << 10;

/// A directory or file of this machine, and as what it is backed up.
#[derive(Clone, Copy, Debug)]
pub struct OnDisk<'a> {
    /// Where it is.
    pub path: &'a Path,
    /// Whose policies say what does not belong to it.
    pub identity: &'a Identity,
    /// Where in the source it stands; empty for its root.
    pub inside: &'a str,
    /// Read every file, also those whose length and time are equal.
    pub read_all: bool,
}

/// The side of the comparison that is on disk.
pub(super) struct Disk<'a> {
    repository: &'a Repository,
    run: &'a Run,
    side: SideReader,
    policies_below: BTreeMap<String, Arc<Policy>>,
    read_all: bool,
    buffer: Vec<u8>,
}

/// Something on disk, and how it is opened.
pub(super) struct Found {
    parent: Arc<Folder>,
    name: CString,
    /// Of a directory.
    below: Option<Box<Below>>,
}

/// What is known of a directory before it is listed.
struct Below {
    /// From the source's root.
    path: String,
    policy: Arc<Policy>,
    rules: Rules,
    stat: Stat,
}

impl<'a> Disk<'a> {
    /// Opens the root; a link in its place is followed.
    pub(super) fn open(
        repository: &'a Repository,
        place: OnDisk<'_>,
        run: &'a Run,
    ) -> Result<(Self, Item), BrowseError> {
        let failed = |source: io::Error| BrowseError::Source { path: place.path.to_owned(), source };
        let policies = wait(run, repository.policies(place.identity))?;
        let (policy, policies_below) =
            policies.map_err(BrowseError::read(format!("the policies of {}", place.identity)))?;
        let rules =
            Rules::root(&policy.files.ignore).map_err(|source| BrowseError::Ignore { path: "/".to_owned(), source })?;
        let policies_below: BTreeMap<String, Arc<Policy>> =
            policies_below.into_iter().map(|(path, policy)| (path, Arc::new(policy))).collect();
        let above = place.inside.match_indices('/').map(|(at, _)| &place.inside[..at]);
        let policy = above.filter_map(|path| policies_below.get(path).cloned()).next_back().unwrap_or(Arc::new(policy));

        let path = place.path.canonicalize().map_err(failed)?;
        let stat = rustix::fs::stat(&path).map_err(|errno| failed(errno.into()))?;
        // The root of all has no name in another directory, and `.` is as good.
        let (parent, name) = match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => (parent, name.as_bytes()),
            _ => (path.as_path(), b".".as_slice()),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = openat(CWD, parent, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
        let name = CString::new(name).map_err(|error| failed(io::Error::other(error)))?;
        let mut disk = Self {
            repository,
            run,
            side: SideReader::new(FileSystems::new(stat.st_dev)),
            policies_below,
            read_all: place.read_all,
            buffer: vec![0; READ_BYTES],
        };
        let file_type = FileType::from_raw_mode(stat.st_mode);
        let root = Listed { name: names::as_text(name.as_bytes()), raw: name, stat, file_type };
        let folder = Folder::root(parent);
        let fd = folder.open().map_err(failed)?;
        let item = disk.item(&Opened { fd, folder }, root, place.inside, &policy, &rules);
        let item = item.ok_or_else(|| failed(io::Error::other("a kind of file that is not known")))?;
        Ok((disk, item))
    }

    /// Nothing for what no backup can hold.
    fn item(
        &mut self,
        parent: &Opened,
        listed: Listed,
        path: &str,
        policy: &Arc<Policy>,
        rules: &Rules,
    ) -> Option<Item> {
        let kind = match listed.file_type {
            FileType::RegularFile => NodeKind::File,
            FileType::Directory => NodeKind::Directory,
            FileType::Symlink => NodeKind::Symlink,
            _ => NodeKind::Special(listing::special_kind(&listed)?),
        };
        let Listed { raw, stat, .. } = listed;
        // A directory's are read when it is listed.
        let xattrs = match kind {
            NodeKind::Directory => Vec::new(),
            _ => self.xattrs(Place::In(parent.fd.as_fd(), &raw), &stat),
        };
        let has_size = matches!(kind, NodeKind::File | NodeKind::Symlink);
        let node = Node {
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime: mtime(&stat),
            size_bytes: if has_size { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 },
            xattrs,
        };
        let below = (kind == NodeKind::Directory).then(|| {
            let policy = self.policies_below.get(path).unwrap_or(policy).clone();
            Box::new(Below { path: path.to_owned(), policy, rules: rules.clone(), stat })
        });
        Some(Item { node, data: Data::Found(Found { parent: parent.folder.clone(), name: raw, below }) })
    }

    fn xattrs(&mut self, place: Place<'_>, stat: &Stat) -> Vec<Xattr> {
        self.side.xattrs(place, stat.st_dev).xattrs
    }

    /// A directory's own attributes, and what is in it.
    pub(super) fn inside(&mut self, found: &Found) -> Result<io::Result<(Vec<Xattr>, Others)>, BrowseError> {
        let Some(Below { path, policy, rules, stat }) = found.below.as_deref() else {
            return Ok(Ok(Default::default()));
        };
        let place = Location::In { parent: found.parent.clone(), name: found.name.clone() };
        let mut reading = match Reading::open(place) {
            Ok(reading) => reading,
            Err(error) => return Ok(Err(error)),
        };
        let exclusions = reading
            .exclusions(path, policy, rules.clone())
            .map_err(|BadRules { path, source }| BrowseError::Ignore { path, source })?;
        self.side.begin_directory();
        let xattrs = self.xattrs(Place::Open(reading.opened.fd.as_fd()), stat);
        let mut inside = Others::new();
        while !reading.is_finished() {
            let Chosen { entries, specials, failed } = reading.more(path, policy, &exclusions, stat.st_dev);
            if let Some(unanswered) = failed.into_iter().next() {
                return Ok(Err(unanswered.error));
            }
            for listed in entries.into_iter().chain(specials) {
                let (raw, name) = (listed.raw.as_bytes().to_vec(), listed.name.clone());
                let path = join(path, &name);
                if let Some(item) = self.item(&reading.opened, listed, &path, policy, &exclusions.rules) {
                    inside.insert(raw, (name, item));
                }
            }
        }
        Ok(Ok((xattrs, inside)))
    }

    /// Whether a file or link has other bytes than what is stored. Of a file that has the stored length and time that is
    /// taken to be not so, unless all are to be read.
    pub(super) fn differs(
        &mut self,
        path: &str,
        stored: &Node,
        data: &DataId,
        node: &Node,
        found: &Found,
    ) -> Result<io::Result<bool>, BrowseError> {
        if stored.size_bytes != node.size_bytes {
            return Ok(Ok(true));
        }
        if node.kind == NodeKind::Symlink {
            let read = |parent: Arc<OwnedFd>| Ok(readlinkat(&*parent, found.name.as_c_str(), Vec::new())?);
            return match found.parent.open().and_then(read) {
                Ok(target) => self.compare(path, data, node.size_bytes, &mut target.as_bytes()),
                Err(error) => Ok(Err(error)),
            };
        }
        if node.size_bytes == 0 || (stored.mtime == node.mtime && !self.read_all) {
            return Ok(Ok(false));
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let open = |parent: Arc<OwnedFd>| Ok(openat(&*parent, found.name.as_c_str(), flags, Mode::empty())?);
        match found.parent.open().and_then(open) {
            Ok(file) => self.compare(path, data, node.size_bytes, &mut File::from(file)),
            Err(error) => Ok(Err(error)),
        }
    }

    fn compare(
        &mut self,
        path: &str,
        data: &DataId,
        size_bytes: u64,
        file: &mut dyn Read,
    ) -> Result<io::Result<bool>, BrowseError> {
        let pieces = wait(self.run, self.repository.pieces(data))?.map_err(BrowseError::read(path))?;
        for piece in pieces {
            if self.run.cancel.is_cancelled() {
                return Err(BrowseError::Interrupted);
            }
            let length_bytes = piece.length_bytes.unwrap_or(size_bytes);
            let is_same = match piece.compressed {
                true => {
                    let bytes = wait(self.run, self.repository.piece(data, &piece))?;
                    self.has_bytes(file, &bytes.map_err(BrowseError::read(path))?)
                }
                false => self.has_hash(file, &piece, length_bytes),
            };
            match is_same {
                Ok(true) => self.run.meter.add(Counter::BytesRead, length_bytes),
                Ok(false) => return Ok(Ok(true)),
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(false))
    }

    fn has_hash(&mut self, file: &mut dyn Read, piece: &Piece, length_bytes: u64) -> io::Result<bool> {
        let mut hasher = self.repository.content_hasher(PREFIX_DATA);
        let mut left = length_bytes;
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(READ_BYTES).min(READ_BYTES);
            match file.read(&mut self.buffer[..wanted]) {
                Ok(0) => return Ok(false),
                Ok(read) => {
                    ContentHasher::update_many(iter::once((&mut hasher, &self.buffer[..read])));
                    left -= read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(hasher.finish() == piece.content)
    }

    /// Of a piece that is stored compressed the hash is not that of its bytes.
    fn has_bytes(&mut self, file: &mut dyn Read, bytes: &[u8]) -> io::Result<bool> {
        for part in bytes.chunks(READ_BYTES) {
            let read = &mut self.buffer[..part.len()];
            match file.read_exact(read) {
                Ok(()) if read == part => {}
                Ok(()) => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}
