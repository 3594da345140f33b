//! The trees of snapshots: are they whole, and what of them is affected by what is wrong below?

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use futures::{StreamExt as _, stream};
use repository::{ContentId, DataId, Directory, Entry, EntryKind, Snapshot, SnapshotId, Summary};
use repository_kopia::{IndexEntry, IndexView, ObjectId, Piece, ReadError, Repository, Survey};
use storage::Class;

use super::VerifyError;
use super::findings::{Affected, Findings, Subject};
use super::read::is_in_share;
use crate::meter::Counter;
use crate::restore::chain;
use crate::restore::fetch::wait;
use crate::restore::walk::{LOOK_AHEAD, Walk};
use crate::run::Run;

/// Deeper trees are not followed.
const DEPTH_MAX: u32 = 2048;

/// What was gone through.
#[derive(Default)]
pub(super) struct Walked {
    pub(super) directory_count: u64,
    pub(super) file_count: u64,
}

/// Verifies the trees of `snapshots`. A directory that several have is gone through once, or again if something is wrong in
/// it, so that all paths that lead there are named.
pub(super) fn verify(
    repository: &Repository,
    survey: &Survey,
    snapshots: &[&Snapshot],
    run: &Run,
    findings: &mut Findings,
) -> Result<Walked, VerifyError> {
    let index = repository.index();
    let mut verifier = Verifier {
        repository,
        survey,
        run,
        findings,
        index,
        seen: HashMap::new(),
        sound: HashMap::new(),
        suspects: HashMap::new(),
        walked: Walked::default(),
    };
    for snapshot in snapshots {
        verifier.snapshot(snapshot)?;
    }
    Ok(verifier.walked)
}

/// A directory on the way down.
struct Node {
    name: String,
    parent: Option<Rc<Node>>,
    depth: u32,
    data: DataId,
    /// What its entry says it holds.
    stated: Option<Summary>,
    /// Something in it, at any depth, is wrong.
    is_bad: Rc<Cell<bool>>,
}

impl Node {
    fn new(parent: Option<Rc<Self>>, entry: &Entry) -> Rc<Self> {
        Rc::new(Self {
            name: entry.name.clone(),
            depth: parent.as_ref().map_or(0, |parent| parent.depth + 1),
            parent,
            data: entry.data.clone(),
            stated: entry.summary.as_deref().cloned(),
            is_bad: Rc::new(Cell::new(false)),
        })
    }

    fn path(&self) -> String {
        let mut names = Vec::new();
        let mut node = self;
        while let Some(parent) = &node.parent {
            names.push(node.name.as_str());
            node = parent;
        }
        names.reverse();
        if names.is_empty() { ".".to_owned() } else { names.join("/") }
    }

    fn path_of(&self, name: &str) -> String {
        if self.parent.is_none() { name.to_owned() } else { format!("{}/{name}", self.path()) }
    }

    fn mark_bad(&self) {
        let mut node = Some(self);
        while let Some(bad) = node {
            bad.is_bad.set(true);
            node = bad.parent.as_deref();
        }
    }
}

struct Verifier<'a, 'f> {
    repository: &'a Repository,
    survey: &'a Survey,
    run: &'a Run,
    findings: &'f mut Findings,
    index: IndexView,
    /// Directories gone through, and whether something is wrong in them.
    seen: HashMap<DataId, Rc<Cell<bool>>>,
    /// Large files whose pieces are all there, and their bytes.
    sound: HashMap<DataId, u64>,
    /// Contents that are on their way out and needed, and why they cannot be read.
    suspects: HashMap<ContentId, Option<String>>,
    walked: Walked,
}

impl Verifier<'_, '_> {
    fn snapshot(&mut self, snapshot: &Snapshot) -> Result<(), VerifyError> {
        let Some(root) = &snapshot.root else {
            self.findings
                .damaged(Subject::Snapshot(snapshot.id.clone()), format!("snapshot {} has no root", snapshot.id));
            return Ok(());
        };
        if root.kind != EntryKind::Directory {
            let above = Node::new(None, &Entry { name: String::new(), ..root.clone() });
            return self.files(&snapshot.id, &above, &[root]);
        }
        let mut walk = Walk::new(self.repository, self.run);
        if !self.is_sound(root) {
            walk.push(root, Node::new(None, root));
        }
        while let Some((node, listing)) = walk.next()? {
            // It may have been met again between being put on the stack and now.
            if self.seen.get(&node.data).is_some_and(|is_bad| !is_bad.get()) {
                continue;
            }
            if self.seen.insert(node.data.clone(), Rc::clone(&node.is_bad)).is_none() {
                self.walked.directory_count += 1;
            }
            match listing {
                Ok(listing) => self.directory(&snapshot.id, &node, &listing, &mut walk)?,
                Err(error) => {
                    self.unreadable(&snapshot.id, &node, node.path(), Subject::Directory(node.data.clone()), error)?
                }
            }
        }
        Ok(())
    }

    fn is_sound(&self, directory: &Entry) -> bool {
        self.seen.get(&directory.data).is_some_and(|is_bad| !is_bad.get())
    }

    fn directory(
        &mut self,
        snapshot: &SnapshotId,
        node: &Rc<Node>,
        listing: &Directory,
        walk: &mut Walk<'_, Rc<Node>>,
    ) -> Result<(), VerifyError> {
        if let Some(problem) = sums_problem(listing, node.stated.as_ref()) {
            let subject = Subject::Directory(node.data.clone());
            self.findings.warning(subject.clone(), format!("directory {}: {problem}", node.data));
            self.findings.affects(&subject, || Affected { snapshot: snapshot.clone(), path: node.path() });
        }
        let (directories, files): (Vec<&Entry>, Vec<&Entry>) =
            listing.entries.iter().partition(|entry| entry.kind == EntryKind::Directory);
        for entry in directories.into_iter().rev().filter(|entry| !self.is_sound(entry)).collect::<Vec<_>>() {
            if node.depth >= DEPTH_MAX {
                let subject = Subject::Directory(entry.data.clone());
                self.findings.warning(subject, format!("directory {} lies too deep to be restored", entry.data));
                continue;
            }
            walk.push(entry, Node::new(Some(Rc::clone(node)), entry));
        }
        self.files(snapshot, node, &files)
    }

    fn files(&mut self, snapshot: &SnapshotId, node: &Node, entries: &[&Entry]) -> Result<(), VerifyError> {
        self.walked.file_count += entries.len() as u64;
        self.run.meter.add(Counter::FilesDone, entries.len() as u64);
        let mut indirect = Vec::new();
        for entry in entries {
            match direct_piece(&entry.data) {
                Some(piece) => self.pieces(snapshot, node, entry, &[piece])?,
                None if self.sound.get(&entry.data) == Some(&entry.size_bytes) => {}
                None => indirect.push(*entry),
            }
        }
        for entries in indirect.chunks(LOOK_AHEAD) {
            let repository = self.repository;
            let read = stream::iter(entries).map(|entry| repository.pieces(&entry.data)).buffered(LOOK_AHEAD);
            let read: Vec<_> = wait(self.run, read.collect())?;
            for (entry, pieces) in entries.iter().zip(read) {
                match pieces {
                    Ok(pieces) => self.pieces(snapshot, node, entry, &pieces)?,
                    Err(error) => {
                        let subject = Subject::File(entry.data.clone());
                        self.unreadable(snapshot, node, node.path_of(&entry.name), subject, error)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn pieces(
        &mut self,
        snapshot: &SnapshotId,
        node: &Node,
        entry: &Entry,
        pieces: &[Piece],
    ) -> Result<(), VerifyError> {
        let affected = || Affected { snapshot: snapshot.clone(), path: node.path_of(&entry.name) };
        let mut bytes = Some(0_u64);
        let mut subjects = HashSet::new();
        for piece in pieces {
            let (subject, piece_bytes) = self.piece(piece)?;
            subjects.extend(subject);
            bytes = bytes.zip(piece.length_bytes.or(piece_bytes)).and_then(|(sum, more)| sum.checked_add(more));
        }
        if bytes.is_some_and(|bytes| bytes != entry.size_bytes) {
            let subject = Subject::File(entry.data.clone());
            let (data, bytes) = (&entry.data, bytes.unwrap_or(0));
            let detail = format!("object {data} holds {bytes} bytes, and its entry says {}", entry.size_bytes);
            self.findings.damaged(subject.clone(), detail);
            subjects.insert(subject);
        }
        if subjects.is_empty() && pieces.len() > 1 {
            self.sound.insert(entry.data.clone(), entry.size_bytes);
        }
        for subject in &subjects {
            self.findings.affects(subject, affected);
            node.mark_bad();
        }
        Ok(())
    }

    /// What is wrong with a piece, and how long it is as far as that is known without reading it.
    fn piece(&mut self, piece: &Piece) -> Result<(Option<Subject>, Option<u64>), VerifyError> {
        let subject = Subject::Content(piece.content);
        let Some(found) = self.index.index().find(&piece.content)? else {
            self.findings.unlisted(piece.content);
            self.findings.damaged(subject.clone(), format!("content {} is in no index", piece.content));
            return Ok((Some(subject), None));
        };
        if let Some(problem) = self.survey.problem(&found) {
            let pack = Subject::Pack(found.location.pack.clone());
            self.findings.damaged(pack.clone(), problem);
            return Ok((Some(pack), None));
        }
        if found.deleted
            && let Some(detail) = self.why_unreadable(&found)?
        {
            self.findings.unreadable(piece.content);
            self.findings.damaged(subject.clone(), detail);
            return Ok((Some(subject), None));
        }
        let length_bytes = (!piece.compressed).then_some(u64::from(found.location.original_bytes));
        if let (Some(stated), Some(known)) = (piece.length_bytes, length_bytes)
            && stated != known
        {
            let detail = format!("content {} has {known} bytes, and a file says {stated}", piece.content);
            self.findings.damaged(subject.clone(), detail);
        }
        let is_known_bad = self.findings.knows(&subject);
        Ok((is_known_bad.then_some(subject), length_bytes))
    }

    /// A content that is on its way out although a snapshot needs it is suspect: repairing marks those that are gone. There
    /// are few, so each is read, once.
    fn why_unreadable(&mut self, found: &IndexEntry) -> Result<Option<String>, VerifyError> {
        if let Some(known) = self.suspects.get(&found.content) {
            return Ok(known.clone());
        }
        let detail = match wait(self.run, self.repository.content(&found.content))? {
            Ok(_) => None,
            Err(error) if error.class() == Class::Damaged => Some(chain(&error)),
            Err(error) => return Err(VerifyError::ReadContent(error)),
        };
        self.suspects.insert(found.content, detail.clone());
        Ok(detail)
    }

    fn unreadable(
        &mut self,
        snapshot: &SnapshotId,
        node: &Node,
        path: String,
        subject: Subject,
        error: ReadError,
    ) -> Result<(), VerifyError> {
        if error.class() != Class::Damaged {
            return Err(VerifyError::ReadEntry { snapshot: snapshot.clone(), path, source: error });
        }
        self.findings.damaged(subject.clone(), chain(&error));
        self.findings.affects(&subject, || Affected { snapshot: snapshot.clone(), path: path.clone() });
        node.mark_bad();
        // The pack or the content behind it is a finding of its own.
        if let ReadError::Content { source, .. } = &error {
            self.findings.behind(source);
            for subject in subjects_behind(source) {
                self.findings.affects(&subject, || Affected { snapshot: snapshot.clone(), path: path.clone() });
            }
        }
        Ok(())
    }
}

fn subjects_behind(error: &repository_kopia::ContentError) -> Vec<Subject> {
    use repository_kopia::ContentError::{Damaged, LookUp, Read, Unknown, Unsupported};
    match error {
        Unknown { content } | Unsupported { content, .. } | LookUp { content, .. } => vec![Subject::Content(*content)],
        Read { content, pack, .. } | Damaged { content, pack, .. } => {
            vec![Subject::Content(*content), Subject::Pack(pack.clone())]
        }
    }
}

/// The only piece of a small file, without asking anyone.
fn direct_piece(data: &DataId) -> Option<Piece> {
    let ObjectId { indirection, compressed, content } = data.as_str().parse().ok()?;
    (indirection == 0).then_some(Piece { content, compressed, offset: 0, length_bytes: None })
}

/// A listing whose summary, or whose parent's copy of it, is not what its entries add up to.
fn sums_problem(listing: &Directory, stated: Option<&Summary>) -> Option<String> {
    let own = listing.summary.as_ref()?;
    // Of checkpoints and cut-off backups.
    if own.incomplete.is_some() {
        return None;
    }
    let mut sums = (0_u64, 0_u64, 1_u64);
    for entry in &listing.entries {
        let more = match (&entry.kind, &entry.summary) {
            (EntryKind::File, _) => (entry.size_bytes, 1, 0),
            (EntryKind::Symlink, _) => (0, 0, 0),
            (EntryKind::Directory, Some(inside)) => (inside.size_bytes, inside.file_count, inside.directory_count),
            (EntryKind::Directory, None) => return None,
        };
        sums = (sums.0.saturating_add(more.0), sums.1.saturating_add(more.1), sums.2.saturating_add(more.2));
    }
    let counts = |summary: &Summary| (summary.size_bytes, summary.file_count, summary.directory_count);
    let text = |(bytes, files, directories)| format!("{bytes} bytes in {files} files and {directories} directories");
    if counts(own) != sums {
        return Some(format!("its summary says {}, its entries add up to {}", text(counts(own)), text(sums)));
    }
    let stated = stated.map(counts).filter(|stated| *stated != sums)?;
    Some(format!("the directory above says that it holds {}, it holds {}", text(stated), text(sums)))
}

/// The contents of files and links in the trees of `snapshots` that are in the share to be read. What cannot be read is left
/// to [`verify`].
pub(super) fn contents_of(
    repository: &Repository,
    snapshots: &[&Snapshot],
    percent: u8,
    run: &Run,
) -> Result<HashSet<ContentId>, VerifyError> {
    let mut wanted = HashSet::new();
    let mut seen = HashSet::new();
    for snapshot in snapshots {
        let Some(root) = &snapshot.root else { continue };
        let mut walk = Walk::new(repository, run);
        if root.kind == EntryKind::Directory {
            seen.insert(root.data.clone());
            walk.push(root, ());
        } else {
            wanted.extend(contents_of_file(repository, root, percent, run)?);
        }
        while let Some(((), listing)) = walk.next()? {
            for entry in listing.iter().flat_map(|listing| &listing.entries) {
                match entry.kind {
                    EntryKind::Directory if seen.insert(entry.data.clone()) => walk.push(entry, ()),
                    EntryKind::Directory => {}
                    EntryKind::File | EntryKind::Symlink => {
                        wanted.extend(contents_of_file(repository, entry, percent, run)?);
                    }
                }
            }
        }
    }
    Ok(wanted)
}

fn contents_of_file(
    repository: &Repository,
    entry: &Entry,
    percent: u8,
    run: &Run,
) -> Result<Vec<ContentId>, VerifyError> {
    let pieces = match direct_piece(&entry.data) {
        Some(piece) => vec![piece],
        None => wait(run, repository.pieces(&entry.data))?.unwrap_or_default(),
    };
    Ok(pieces.iter().map(|piece| piece.content).filter(|content| is_in_share(content, percent)).collect())
}
