//! Is everything there that the snapshots need, and is it what it should be?
//!
//! ```text
//! index blobs, records ─▶ survey of packs ─▶ read a share of the contents ─▶ trees of the chosen snapshots
//! damaged?                missing, cut off,  decrypt, check hash             directories, sums, pieces: which paths
//!                         lost to the index                                  are affected by all of the above
//! ```
//! Damage becomes a [`Finding`]; a store that does not answer is an error, for then nothing is known.
//!
//! Memory: as for a restore, and four bits for each content, so that no directory is gone through twice; and 60 bytes for each
//! file of several pieces.

mod findings;
mod read;
mod share;
mod sums;
mod tree;

use repository::{Identity, Snapshot, SnapshotId};
use repository_kopia::{ContentError, IndexError, IndexView, ReadError, Repository, Survey};
use storage::Class;

pub use findings::{Affected, Finding, Severity, Subject};

use crate::lane::{LaneError, Stopped};
use crate::restore::chain;
use crate::restore::fetch::{FetchError, wait};
use crate::run::Run;
use findings::Findings;
pub(crate) use findings::Wrong;

/// What to verify.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyOptions {
    /// Of a hundred contents so many are read and hashed, 0 to 100; always the same ones, by their id. Directories are always
    /// read.
    pub read_percent: u8,
    /// Only these snapshots; all if empty.
    pub snapshots: Vec<SnapshotId>,
    /// Only snapshots of this identity.
    pub identity: Option<Identity>,
}

/// What was verified, and what was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyOutcome {
    /// What is wrong, damage first: the first thousand.
    pub findings: Vec<Finding>,
    /// Findings beyond those.
    pub left_out_count: u64,
    /// Snapshots gone through.
    pub snapshot_count: u64,
    /// Directories read, each once however many snapshots have it.
    pub directory_count: u64,
    /// Files and links in those.
    pub file_count: u64,
    /// Contents in the index.
    pub content_count: u64,
    /// Packs in the store.
    pub pack_count: u64,
    /// Contents read and hashed.
    pub contents_read_count: u64,
    /// Their bytes, as stored.
    pub bytes_read: u64,
    /// Damaged places that error correction repaired in what was read, from the opening of the repository on; in the store
    /// they stay damaged.
    pub repaired_count: u64,
    /// Contents in which there were such places, of those read and hashed.
    pub contents_repaired_count: u64,
    /// Packs of backups that are running or were killed; no harm.
    pub unfinished_pack_count: u64,
}

impl VerifyOutcome {
    /// True when nothing was found.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// What to do about what was found, if anything was. Warnings do not count.
    pub fn class(&self) -> Option<Class> {
        self.findings.iter().any(|finding| finding.severity == Severity::Damaged).then_some(Class::Damaged)
    }
}

/// Verifying ended early: nothing is known.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The snapshots could not be listed.
    #[error("list the snapshots")]
    List(#[source] ReadError),
    /// There is no such snapshot.
    #[error("there is no snapshot {id}")]
    Unknown {
        /// Which.
        id: SnapshotId,
    },
    /// The packs could not be listed.
    #[error("look for all packs")]
    Survey(#[source] IndexError),
    /// The index could not be searched.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A directory or an index object could not be read.
    #[error("read {path} of snapshot {snapshot}")]
    ReadEntry {
        /// The snapshot.
        snapshot: SnapshotId,
        /// Relative to its root.
        path: String,
        /// Why not.
        #[source]
        source: ReadError,
    },
    /// The store failed.
    #[error(transparent)]
    ReadContent(ContentError),
    /// A reading task broke off.
    #[error("read from the store")]
    Ended(#[source] tokio::task::JoinError),
    /// Asked to stop.
    #[error("stopped on request")]
    Interrupted,
    /// Another step stopped; its own error says why.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl VerifyError {
    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::List(source) | Self::ReadEntry { source, .. } => source.class(),
            Self::Unknown { .. } => Class::Blocked,
            Self::Survey(source) | Self::Index(source) => source.class(),
            Self::ReadContent(source) => source.class(),
            Self::Interrupted => Class::Retry,
            Self::Ended(_) | Self::Stopped(_) => Class::Bug,
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::List(source) | Self::ReadEntry { source, .. } => source.hint(),
            Self::Unknown { .. } => Some("`perennial snapshots --all` shows every id"),
            Self::Survey(source) | Self::Index(source) => source.hint(),
            Self::ReadContent(source) => source.hint(),
            Self::Interrupted | Self::Ended(_) | Self::Stopped(_) => None,
        }
    }
}

impl LaneError for VerifyError {
    fn is_stopped(&self) -> bool {
        matches!(self, Self::Stopped(_))
    }
}

impl From<FetchError> for VerifyError {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Interrupted => Self::Interrupted,
            FetchError::Stopped(stopped) => Self::Stopped(stopped),
            FetchError::Ended(source) => Self::Ended(source),
        }
    }
}

/// Verifies the repository: its index and packs as a whole, and the trees of the chosen snapshots.
///
/// # Errors
/// When the store cannot be reached, a chosen snapshot is not there, or the run is cancelled. Damage is in the outcome.
pub fn verify(repository: &Repository, options: &VerifyOptions, run: &Run) -> Result<VerifyOutcome, VerifyError> {
    examine(repository, options, run).map(|(outcome, _)| outcome)
}

/// As [`verify`], and every content that is wrong.
pub(crate) fn examine(
    repository: &Repository,
    options: &VerifyOptions,
    run: &Run,
) -> Result<(VerifyOutcome, Wrong), VerifyError> {
    let listing = wait(run, repository.snapshots())?.map_err(VerifyError::List)?;
    let mut findings = Findings::new();
    for detail in repository.damage() {
        findings.damaged(Subject::Index, detail);
    }
    let index_damage: Vec<String> = repository.damage();
    for error in &listing.damage {
        let is_of_the_index = matches!(error, ReadError::Damaged { detail, .. } if index_damage.contains(detail));
        if !is_of_the_index {
            if let ReadError::Content { source, .. } = error {
                findings.behind(source);
            }
            findings.damaged(Subject::Record, chain(error));
        }
    }
    let chosen = choose(&listing.snapshots, options)?;
    let survey = wait(run, repository.survey())?.map_err(VerifyError::Survey)?;
    let view = repository.index();
    let content_count = note_packs(&view, &survey, &mut findings)?;

    let is_all = chosen.len() == listing.snapshots.len();
    let percent = options.read_percent.min(100);
    let wanted = match percent > 0 && !is_all {
        true => Some(share::contents_of(repository, &view, &chosen, percent, run)?),
        false => None,
    };
    let read = read::contents(repository, &view, &survey, percent, wanted.as_ref(), run, &mut findings)?;
    let walked = tree::verify(repository, &view, &survey, &chosen, run, &mut findings)?;
    let (findings, left_out_count, wrong) = findings.into_sorted();
    let outcome = VerifyOutcome {
        findings,
        left_out_count,
        snapshot_count: chosen.len() as u64,
        directory_count: walked.directory_count,
        file_count: walked.file_count,
        content_count,
        pack_count: survey.pack_count() as u64,
        contents_read_count: read.content_count,
        bytes_read: read.bytes,
        repaired_count: repository.repaired_count(),
        contents_repaired_count: wrong.repaired.len() as u64,
        unfinished_pack_count: survey.unfinished_count,
    };
    Ok((outcome, wrong))
}

fn choose<'a>(snapshots: &'a [Snapshot], options: &VerifyOptions) -> Result<Vec<&'a Snapshot>, VerifyError> {
    let of_identity =
        |snapshot: &&Snapshot| options.identity.as_ref().is_none_or(|identity| snapshot.identity == *identity);
    let own: Vec<&Snapshot> = snapshots.iter().filter(of_identity).collect();
    if let Some(id) = options.snapshots.iter().find(|id| own.iter().all(|snapshot| snapshot.id != **id)) {
        return Err(VerifyError::Unknown { id: id.clone() });
    }
    let is_chosen = |snapshot: &&Snapshot| options.snapshots.is_empty() || options.snapshots.contains(&snapshot.id);
    Ok(own.into_iter().filter(is_chosen).collect())
}

/// Holds the whole index against the packs that are there, and tells how many contents it has.
fn note_packs(view: &IndexView, survey: &Survey, findings: &mut Findings) -> Result<u64, VerifyError> {
    for lost in &survey.lost_to_the_index {
        let count = lost.contents.len();
        let pack = &lost.pack;
        let detail = format!(
            "{count} contents of pack {pack} are in no index: an index blob was lost, and what it listed with it"
        );
        findings.damaged(Subject::Pack(lost.pack.clone()), detail);
    }
    for unreadable in &survey.unreadable {
        let detail = format!("no index names pack {}, and {}", unreadable.pack, unreadable.detail);
        let subject = Subject::Pack(unreadable.pack.clone());
        match unreadable.is_damaged {
            true => findings.damaged(subject, detail),
            false => findings.warning(subject, detail),
        }
    }
    let mut count = 0;
    for entry in view.index().iter() {
        let entry = entry?;
        if entry.deleted {
            continue;
        }
        count += 1;
        if let Some(problem) = survey.problem(&entry) {
            findings.pack(&entry.location.pack, &problem);
        }
    }
    Ok(count)
}
