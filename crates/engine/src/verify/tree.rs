//! The trees of snapshots: are they whole, and what of them is affected by what is wrong below?

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use futures::{StreamExt as _, stream};
use repository::{ContentId, DataId, Entry, EntryKind, Snapshot, SnapshotId};
use repository_kopia::{
    DirectoryListing, IndexEntry, IndexError, IndexView, ObjectId, Piece, ReadError, Repository, Survey,
};
use storage::Class;

use super::VerifyError;
use super::findings::{Affected, Findings, Subject};
use super::sums::{Counts, sums_problem};
use crate::bits::{Objects, Place};
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
    view: &IndexView,
    survey: &Survey,
    snapshots: &[&Snapshot],
    run: &Run,
    findings: &mut Findings,
) -> Result<Walked, VerifyError> {
    let length = view.index().len();
    let mut verifier = Verifier {
        repository,
        survey,
        run,
        findings,
        view,
        seen: Objects::new(length),
        bad: Objects::new(length),
        unknown: HashSet::new(),
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
    /// Nothing if no index knows it.
    place: Option<Place>,
    /// What its entry says it holds.
    stated: Option<Counts>,
}

impl Node {
    fn new(parent: Option<Rc<Self>>, entry: &Entry, place: Option<Place>) -> Rc<Self> {
        Rc::new(Self {
            name: entry.name.clone(),
            depth: parent.as_ref().map_or(0, |parent| parent.depth + 1),
            parent,
            data: entry.data.clone(),
            place,
            stated: entry.summary.as_deref().map(Counts::from),
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
}

struct Verifier<'a, 'f> {
    repository: &'a Repository,
    survey: &'a Survey,
    run: &'a Run,
    findings: &'f mut Findings,
    view: &'a IndexView,
    /// Directories gone through.
    seen: Objects,
    /// Directories in which something, at any depth, is wrong.
    bad: Objects,
    /// Directories that no index knows.
    unknown: HashSet<DataId>,
    /// Large files whose pieces are all there, and their bytes.
    sound: HashMap<Place, u64>,
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
            let above = Node::new(None, &Entry { name: String::new(), ..root.clone() }, None);
            return self.files(&snapshot.id, &above, &[root]);
        }
        let mut walk = Walk::new(self.repository, self.run);
        let place = place_of(&root.data, self.view)?;
        if !self.is_sound(place) {
            walk.push(root, Node::new(None, root, place));
        }
        while let Some((node, listing)) = walk.next()? {
            // It may have been met again between being put on the stack and now.
            if self.is_sound(node.place) {
                continue;
            }
            let is_first = match node.place {
                Some(place) => self.seen.insert(place),
                None => self.unknown.insert(node.data.clone()),
            };
            self.walked.directory_count += u64::from(is_first);
            let read = match listing {
                Ok(listing) => self.directory(&snapshot.id, &node, &listing, &mut walk)?,
                Err(error) => Err(error),
            };
            if let Err(error) = read {
                self.unreadable(&snapshot.id, &node, node.path(), Subject::Directory(node.data.clone()), error)?;
            }
        }
        Ok(())
    }

    /// Whether a directory was gone through, and nothing is wrong in it.
    fn is_sound(&self, place: Option<Place>) -> bool {
        place.is_some_and(|place| self.seen.has(place) && !self.bad.has(place))
    }

    fn mark_bad(&mut self, node: &Node) {
        let mut node = Some(node);
        while let Some(bad) = node {
            if let Some(place) = bad.place {
                self.bad.insert(place);
            }
            node = bad.parent.as_deref();
        }
    }

    /// The inner error is that the entries, which were all read before, could not be read again.
    fn directory(
        &mut self,
        snapshot: &SnapshotId,
        node: &Rc<Node>,
        listing: &DirectoryListing,
        walk: &mut Walk<'_, Rc<Node>>,
    ) -> Result<Result<(), ReadError>, VerifyError> {
        let mut sums = Some(Counts { directory_count: 1, ..Counts::default() });
        let mut entries = listing.entries(self.repository);
        loop {
            let some = match wait(self.run, entries.next())? {
                Ok(Some(some)) => some,
                Ok(None) => break,
                Err(error) => return Ok(Err(error)),
            };
            sums = some.iter().fold(sums, |sums, entry| sums?.with(entry));
            let (directories, files): (Vec<&Entry>, Vec<&Entry>) =
                some.iter().partition(|entry| entry.kind == EntryKind::Directory);
            for entry in directories {
                let place = place_of(&entry.data, self.view)?;
                if self.is_sound(place) {
                    continue;
                }
                if node.depth >= DEPTH_MAX {
                    let subject = Subject::Directory(entry.data.clone());
                    self.findings.warning(subject, format!("directory {} lies too deep to be restored", entry.data));
                    continue;
                }
                walk.push(entry, Node::new(Some(Rc::clone(node)), entry, place));
            }
            self.files(snapshot, node, &files)?;
        }
        if let Some(problem) = sums.and_then(|sums| sums_problem(listing, node.stated, sums)) {
            let subject = Subject::Directory(node.data.clone());
            self.findings.warning(subject.clone(), format!("directory {}: {problem}", node.data));
            self.findings.affects(&subject, || Affected { snapshot: snapshot.clone(), path: node.path() });
        }
        Ok(Ok(()))
    }

    /// Whether a large file was gone through, nothing is wrong with it, and this entry says of it what that one said.
    fn is_sound_file(&self, entry: &Entry) -> Result<bool, IndexError> {
        let place = place_of(&entry.data, self.view)?;
        Ok(place.is_some_and(|place| self.sound.get(&place) == Some(&entry.size_bytes)))
    }

    fn files(&mut self, snapshot: &SnapshotId, node: &Node, entries: &[&Entry]) -> Result<(), VerifyError> {
        self.walked.file_count += entries.len() as u64;
        self.run.meter.add(Counter::FilesDone, entries.len() as u64);
        let mut indirect = Vec::new();
        for entry in entries {
            match direct_piece(&entry.data) {
                Some(piece) => self.pieces(snapshot, node, entry, &[piece])?,
                None if self.is_sound_file(entry)? => {}
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
        if subjects.is_empty()
            && pieces.len() > 1
            && let Some(place) = place_of(&entry.data, self.view)?
        {
            self.sound.insert(place, entry.size_bytes);
        }
        for subject in &subjects {
            self.findings.affects(subject, affected);
            self.mark_bad(node);
        }
        Ok(())
    }

    /// What is wrong with a piece, and how long it is as far as that is known without reading it.
    fn piece(&mut self, piece: &Piece) -> Result<(Option<Subject>, Option<u64>), VerifyError> {
        let subject = Subject::Content(piece.content);
        let Some(found) = self.view.index().find(&piece.content)? else {
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
        self.mark_bad(node);
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
pub(super) fn direct_piece(data: &DataId) -> Option<Piece> {
    let ObjectId { indirection, compressed, content } = data.as_str().parse().ok()?;
    (indirection == 0).then_some(Piece { content, compressed, offset: 0, length_bytes: None })
}

/// Nothing if no index knows it, or it is no object.
pub(super) fn place_of(data: &DataId, view: &IndexView) -> Result<Option<Place>, IndexError> {
    data.as_str().parse().map_or(Ok(None), |object| Place::of(&object, view))
}
