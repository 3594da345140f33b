//! What is wrong, and whom it concerns.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use repository::{ContentId, DataId, PackId, SnapshotId};
use repository_kopia::ContentError;

/// Findings that are listed; all are counted.
const FINDINGS_MAX: usize = 1000;
/// Affected paths that are listed for one finding; all are counted.
const AFFECTED_MAX: usize = 100;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Something is lost.
    Damaged,
    /// Something is not as it should be, and nothing is lost by it.
    Warning,
}

/// What a finding is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// The index: one of its blobs, which the detail names.
    Index,
    /// A record of snapshots or policies, which the detail names.
    Record,
    /// A pack.
    Pack(PackId),
    /// A content.
    Content(ContentId),
    /// A directory's listing.
    Directory(DataId),
    /// A file's or link's data.
    File(DataId),
    /// A snapshot.
    Snapshot(SnapshotId),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index => f.write_str("the index"),
            Self::Record => f.write_str("a record"),
            Self::Pack(pack) => write!(f, "pack {pack}"),
            Self::Content(content) => write!(f, "content {content}"),
            Self::Directory(data) => write!(f, "directory {data}"),
            Self::File(data) => write!(f, "object {data}"),
            Self::Snapshot(id) => write!(f, "snapshot {id}"),
        }
    }
}

/// A path that cannot be restored because of a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Affected {
    /// In which snapshot.
    pub snapshot: SnapshotId,
    /// Relative to its root; `.` is the root.
    pub path: String,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about.
    pub subject: Subject,
    /// What is wrong: a sentence that names the subject.
    pub detail: String,
    /// Contents concerned, for packs.
    pub content_count: u64,
    /// Paths concerned, in the snapshots that were verified: the first hundred.
    pub affected: Vec<Affected>,
    /// All of them.
    pub affected_count: u64,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

/// Collects findings, each object once however often it is met.
pub(super) struct Findings {
    findings: Vec<Finding>,
    known: HashMap<Subject, usize>,
    left_out_count: u64,
    wrong: Wrong,
}

/// Every content that is not what it should be, beyond any limit of what is listed.
#[derive(Debug, Default)]
pub(crate) struct Wrong {
    /// In no index, and something needs it.
    pub(crate) unlisted: BTreeSet<ContentId>,
    /// In the index, and its bytes are not there or not right.
    pub(crate) unreadable: BTreeSet<ContentId>,
    /// In the index and readable only because error correction repaired what was read.
    pub(crate) repaired: BTreeSet<ContentId>,
}

impl Findings {
    pub(super) fn new() -> Self {
        Self { findings: Vec::new(), known: HashMap::new(), left_out_count: 0, wrong: Wrong::default() }
    }

    /// Damage, not yet known to concern any path.
    pub(super) fn damaged(&mut self, subject: Subject, detail: String) {
        self.add(Severity::Damaged, subject, detail);
    }

    /// No damage.
    pub(super) fn warning(&mut self, subject: Subject, detail: String) {
        self.add(Severity::Warning, subject, detail);
    }

    /// One more content that is not in its pack.
    pub(super) fn pack(&mut self, pack: &PackId, detail: &str) {
        let subject = Subject::Pack(pack.clone());
        if !self.known.contains_key(&subject) {
            self.damaged(subject.clone(), detail.to_owned());
        }
        if let Some(finding) = self.known.get(&subject).and_then(|at| self.findings.get_mut(*at)) {
            finding.content_count += 1;
        }
    }

    /// A content that something needs and no index lists.
    pub(super) fn unlisted(&mut self, content: ContentId) {
        self.wrong.unlisted.insert(content);
    }

    /// A content whose bytes were asked for and are not there or not right.
    pub(super) fn unreadable(&mut self, content: ContentId) {
        self.wrong.unreadable.insert(content);
    }

    /// A content whose bytes have changed in the store, and which error correction repaired.
    pub(super) fn repaired(&mut self, content: ContentId) {
        self.wrong.repaired.insert(content);
    }

    /// What an error says about the content behind it.
    pub(super) fn behind(&mut self, error: &ContentError) {
        match error {
            ContentError::Unknown { content } => self.unlisted(*content),
            ContentError::Read { content, .. } | ContentError::Damaged { content, .. } => self.unreadable(*content),
            ContentError::Unsupported { .. } | ContentError::LookUp { .. } => {}
        }
    }

    /// Whether anything is known of `subject`.
    pub(super) fn knows(&self, subject: &Subject) -> bool {
        self.known.contains_key(subject)
    }

    /// A path that is concerned by what is known of `subject`; nothing happens if nothing is known of it.
    pub(super) fn affects(&mut self, subject: &Subject, affected: impl FnOnce() -> Affected) {
        let Some(at) = self.known.get(subject) else { return };
        if let Some(finding) = self.findings.get_mut(*at) {
            finding.affected_count += 1;
            if finding.affected.len() < AFFECTED_MAX {
                finding.affected.push(affected());
            }
        }
    }

    fn add(&mut self, severity: Severity, subject: Subject, detail: String) {
        let is_one_object = !matches!(subject, Subject::Index | Subject::Record);
        if is_one_object && self.known.contains_key(&subject) {
            return;
        }
        if is_one_object {
            self.known.insert(subject.clone(), self.findings.len());
        }
        if self.findings.len() >= FINDINGS_MAX {
            // Known by a place that there is not: it counts once, and no path of it is listed.
            self.left_out_count += 1;
            return;
        }
        let (content_count, affected_count, affected) = (0, 0, Vec::new());
        self.findings.push(Finding { severity, subject, detail, content_count, affected, affected_count });
    }

    /// Damage first, in the order in which it was found; how many there were beyond the limit; and all contents concerned.
    pub(super) fn into_sorted(mut self) -> (Vec<Finding>, u64, Wrong) {
        self.findings.sort_by_key(|finding| finding.severity);
        (self.findings, self.left_out_count, self.wrong)
    }
}
