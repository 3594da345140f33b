//! What can be had back from a damaged repository is had back; what cannot is named.
//!
//! ```text
//! examine ─▶ salvage ─▶ take back ─▶ set aside ─▶ again, until nothing more comes back
//! verify     packs' own  publish,     unreadable
//!            indexes     read back    index blobs
//!                           ▼
//!            store anew: contents that error correction had to repair
//!            strike: contents that are gone for good leave the index, so that the next backup stores them again
//!                           ▼
//!            with the loss accepted: records that cannot be read are given up
//!                           ▼
//!            examine: what is left
//! ```
//! No object is deleted: what is damaged is kept under another name. A run that is cut off anywhere leaves a repository that
//! is no worse, and the next run carries on. Nothing else should maintain the repository meanwhile; backups may run.
//!
//! Memory: the entries taken back and the entries that are gone, some 150 bytes each.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use repository::{ContentId, PackId};
use repository_kopia::{IndexEntry, IndexError, ReadError, Repository, Salvage, Search, WriteError};
use storage::{Class, ErrorKind, ObjectKey};

use crate::maintain::MaintainError;
use crate::maintain::relocate::{self, Unreadable};
use crate::restore::chain;
use crate::restore::fetch::{FetchError, wait};
use crate::run::Run;
use crate::verify::{VerifyError, VerifyOptions, VerifyOutcome, Wrong, examine};

/// What comes back may show what else is needed: directories below directories. More rounds than this is no repository.
const ROUNDS_MAX: usize = 64;
/// Content prefix of manifests.
const MANIFEST_PREFIX: u8 = b'm';

/// How to repair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RepairOptions {
    /// Look and tell; write nothing.
    pub dry_run: bool,
    /// Give up what cannot be had back, so that the rest can be used.
    pub accept_loss: bool,
    /// Take back, too, what may have been dropped on purpose.
    pub include_dropped: bool,
    /// Of a hundred contents so many are read and hashed, 0 to 100, to find those whose bytes changed.
    pub read_percent: u8,
}

/// Something that was done; on a dry run, that would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Contents of a pack are in the index again.
    TakenBack {
        /// The pack.
        pack: PackId,
        /// How many of its contents no index listed.
        content_count: u64,
    },
    /// A content was wrong where the index looked, and lies whole in another pack.
    CopyFound {
        /// Which.
        content: ContentId,
    },
    /// A damaged object was moved out of the way.
    SetAside {
        /// Its name.
        object: String,
        /// What is wrong with it.
        detail: String,
    },
    /// Contents that are gone for good left the index: the next backup that meets them stores them again, and heals every
    /// snapshot that shares them.
    Struck {
        /// The pack that should hold them.
        pack: PackId,
        /// How many.
        content_count: u64,
    },
    /// Contents that error correction had to repair were stored anew.
    StoredAnew {
        /// The pack in which they rotted.
        pack: PackId,
        /// How many.
        content_count: u64,
    },
    /// Records of snapshots and policies that cannot be read were given up.
    RecordsGivenUp {
        /// The content that held them.
        content: ContentId,
        /// Why it cannot be read.
        detail: String,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TakenBack { pack, content_count } => {
                write!(f, "back in the index: {content_count} contents of pack {pack}")
            }
            Self::CopyFound { content } => write!(f, "found whole in another pack: content {content}"),
            Self::SetAside { object, detail } => write!(f, "set aside: {object}: {detail}"),
            Self::Struck { pack, content_count } => {
                write!(
                    f,
                    "lost, to be stored again by the next backup that has them: {content_count} contents of pack {pack}"
                )
            }
            Self::StoredAnew { pack, content_count } => {
                write!(f, "stored anew, after error correction repaired them: {content_count} contents of pack {pack}")
            }
            Self::RecordsGivenUp { content, detail } => {
                write!(f, "given up: the snapshots and policies recorded in content {content}: {detail}")
            }
        }
    }
}

/// What was repaired and what is left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairOutcome {
    /// What was done, in order.
    pub actions: Vec<Action>,
    /// What was not done, and why, in words.
    pub left: Vec<String>,
    /// What is wrong now; on a dry run, what is wrong as it is.
    pub after: VerifyOutcome,
}

/// Repairing ended early. What was done by then is sound.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// Looking for what is wrong failed.
    #[error("look for what is wrong")]
    Examine(#[source] VerifyError),
    /// The packs could not be listed.
    #[error("look for all packs")]
    Survey(#[source] IndexError),
    /// Whether a pack is there could not be found out.
    #[error("look at pack {pack}")]
    Stat {
        /// Which.
        pack: PackId,
        /// The store's answer.
        #[source]
        source: storage::Error,
    },
    /// The records could not be read.
    #[error("read the records")]
    Records(#[source] ReadError),
    /// Looking for what can be taken back failed, or writing it.
    #[error("take back what was lost")]
    TakeBack(#[source] WriteError),
    /// The index could not be written.
    #[error("write into the index what is gone")]
    Strike(#[source] WriteError),
    /// What error correction repaired could not be stored anew.
    #[error("store anew what rotted")]
    StoreAnew(#[source] MaintainError),
    /// Asked to stop.
    #[error("stopped on request; what was repaired so far is sound")]
    Interrupted,
}

impl RepairError {
    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Examine(source) => source.class(),
            Self::Survey(source) => source.class(),
            Self::Stat { source, .. } => source.class(),
            Self::Records(source) => source.class(),
            Self::TakeBack(source) | Self::Strike(source) => source.class(),
            Self::StoreAnew(source) => source.class(),
            Self::Interrupted => Class::Retry,
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Examine(source) => source.hint(),
            Self::Survey(source) => source.hint(),
            Self::Stat { source, .. } => source.hint(),
            Self::Records(source) => source.hint(),
            Self::TakeBack(source) | Self::Strike(source) => source.hint(),
            Self::StoreAnew(source) => source.hint(),
            Self::Interrupted => None,
        }
    }
}

impl From<FetchError> for RepairError {
    fn from(_: FetchError) -> Self {
        Self::Interrupted
    }
}

/// Repairs what can be repaired.
///
/// # Errors
/// When the store fails or the run is cancelled. What cannot be repaired is in the outcome.
pub fn repair(repository: &Repository, options: &RepairOptions, run: &Run) -> Result<RepairOutcome, RepairError> {
    let mut outcome = RepairOutcome::default();
    let mut last = Vec::new();
    for _ in 0..ROUNDS_MAX {
        let (found, wrong) = look(repository, options, run)?;
        let gone = gone_for_good(repository, &wrong, run)?;
        let salvage = salvage(repository, options, &wrong, &gone, run)?;
        let mut actions = actions_of(&salvage, options);
        outcome.left = left_by(&salvage, options);
        outcome.after = found;
        let struck = strikes(repository, gone, &salvage, options, &mut actions, &mut outcome.left, run)?;
        let rotten = rotten(repository, &wrong, &mut actions)?;
        // What did not help the first time does not help the second time.
        let is_done = actions.is_empty() || actions == last;
        last.clone_from(&actions);
        if !options.dry_run && !is_done {
            wait(run, repository.take_back(&salvage, options.accept_loss))?.map_err(RepairError::TakeBack)?;
            wait(run, repository.strike(struck))?.map_err(RepairError::Strike)?;
            store_anew(repository, rotten, run)?;
        }
        if is_done {
            break;
        }
        outcome.actions.append(&mut actions);
        if options.dry_run {
            break;
        }
    }
    Ok(outcome)
}

fn look(repository: &Repository, options: &RepairOptions, run: &Run) -> Result<(VerifyOutcome, Wrong), RepairError> {
    let options = VerifyOptions { read_percent: options.read_percent, ..VerifyOptions::default() };
    examine(repository, &options, run).map_err(|error| match error {
        VerifyError::Interrupted => RepairError::Interrupted,
        error => RepairError::Examine(error),
    })
}

fn salvage(
    repository: &Repository,
    options: &RepairOptions,
    wrong: &Wrong,
    gone: &BTreeMap<ContentId, IndexEntry>,
    run: &Run,
) -> Result<Salvage, RepairError> {
    let search = Search { needed: Some(&wrong.unlisted), gone: Some(gone), include_dropped: options.include_dropped };
    wait(run, repository.salvage(search))?.map_err(RepairError::TakeBack)
}

/// Entries that count and whose bytes are proven not to be where they say: the pack was listed nowhere and is asked for by
/// name, or the bytes were read a second time.
fn gone_for_good(
    repository: &Repository,
    wrong: &Wrong,
    run: &Run,
) -> Result<BTreeMap<ContentId, IndexEntry>, RepairError> {
    let survey = wait(run, repository.survey())?.map_err(RepairError::Survey)?;
    let view = repository.index();
    let mut lengths: HashMap<PackId, Option<u64>> = HashMap::new();
    let mut gone = BTreeMap::new();
    for entry in view.index().iter() {
        let entry = entry.map_err(RepairError::Survey)?;
        if entry.deleted {
            continue;
        }
        if survey.problem(&entry).is_some() {
            let pack = &entry.location.pack;
            let bytes = match lengths.get(pack) {
                Some(bytes) => *bytes,
                None => *lengths.entry(pack.clone()).or_insert(length_of(repository, pack, run)?),
            };
            if bytes.is_none_or(|bytes| entry.location.end() > bytes) {
                gone.insert(entry.content, entry);
            }
        } else if wrong.unreadable.contains(&entry.content)
            && !wait(run, repository.opens(&entry))?.map_err(RepairError::TakeBack)?
        {
            gone.insert(entry.content, entry);
        }
    }
    Ok(gone)
}

fn length_of(repository: &Repository, pack: &PackId, run: &Run) -> Result<Option<u64>, RepairError> {
    match wait(run, repository.storage().stat(&ObjectKey::new(pack.as_str())))? {
        Ok(object) => Ok(Some(object.size_bytes)),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(RepairError::Stat { pack: pack.clone(), source }),
    }
}

/// Contents that error correction had to repair. They wait while part of the index is damaged.
fn rotten(
    repository: &Repository,
    wrong: &Wrong,
    actions: &mut Vec<Action>,
) -> Result<Vec<(IndexEntry, bool)>, RepairError> {
    if !repository.damage().is_empty() {
        return Ok(Vec::new());
    }
    let mut entries = Vec::new();
    let mut counts: BTreeMap<PackId, u64> = BTreeMap::new();
    for content in &wrong.repaired {
        if let Some(entry) = repository.find(content).map_err(RepairError::Survey)? {
            *counts.entry(entry.location.pack.clone()).or_default() += 1;
            let deleted = entry.deleted;
            entries.push((entry, deleted));
        }
    }
    actions.extend(counts.into_iter().map(|(pack, content_count)| Action::StoredAnew { pack, content_count }));
    Ok(entries)
}

/// Into new packs; the old ones stay until nothing has named them for long enough.
fn store_anew(repository: &Repository, rotten: Vec<(IndexEntry, bool)>, run: &Run) -> Result<(), RepairError> {
    if rotten.is_empty() {
        return Ok(());
    }
    let failed = |source| RepairError::StoreAnew(MaintainError::Write(source));
    let session = repository.begin_moving().map_err(failed)?;
    relocate::run(&session, rotten, Unreadable::Stays, run).map_err(RepairError::StoreAnew)?;
    wait(run, session.finish())?.map_err(failed)?;
    wait(run, repository.refresh())?.map_err(RepairError::Survey)
}

fn actions_of(salvage: &Salvage, options: &RepairOptions) -> Vec<Action> {
    let packs = salvage.packs.iter();
    let taken_back = packs.map(|pack| Action::TakenBack { pack: pack.pack.clone(), content_count: pack.content_count });
    let copies = salvage.copies.iter().map(|content| Action::CopyFound { content: *content });
    let leaving = salvage.unreadable.iter().filter(|blob| options.accept_loss || blob.stays.is_none());
    let aside = leaving.map(|blob| Action::SetAside { object: blob.blob.clone(), detail: blob.detail.clone() });
    taken_back.chain(copies).chain(aside).collect()
}

fn left_by(salvage: &Salvage, options: &RepairOptions) -> Vec<String> {
    let mut left: Vec<String> = salvage.signs.clone();
    let staying = salvage.unreadable.iter().filter(|_| !options.accept_loss);
    left.extend(staying.filter_map(|blob| {
        let why = blob.stays.as_ref()?;
        Some(format!("index blob {} stays where it is: {why}", blob.blob))
    }));
    left.extend(
        salvage.blind_packs.iter().map(|pack| {
            format!("what pack {pack} holds is unknown: no index names it, and its own index does not open")
        }),
    );
    if salvage.dropped_count > 0 {
        let count = salvage.dropped_count;
        left.push(format!("{count} contents that were dropped on purpose are still in the packs, and stay dropped"));
    }
    left
}

/// Entries that are to leave the index: those for which no other copy was found. Records only with the loss accepted: while
/// one of them is unreadable, everybody is told that there may be more snapshots than are listed.
fn strikes(
    repository: &Repository,
    mut gone: BTreeMap<ContentId, IndexEntry>,
    salvage: &Salvage,
    options: &RepairOptions,
    actions: &mut Vec<Action>,
    left: &mut Vec<String>,
    run: &Run,
) -> Result<Vec<IndexEntry>, RepairError> {
    let copied: BTreeSet<ContentId> = salvage.copies.iter().copied().collect();
    gone.retain(|content, _| content.prefix() != MANIFEST_PREFIX && !copied.contains(content));
    let mut counts: BTreeMap<PackId, u64> = BTreeMap::new();
    for entry in gone.values() {
        *counts.entry(entry.location.pack.clone()).or_default() += 1;
    }
    actions.extend(counts.into_iter().map(|(pack, content_count)| Action::Struck { pack, content_count }));
    let records = wait(run, repository.unreadable_records())?.map_err(RepairError::Records)?;
    for (entry, error) in records.into_iter().filter(|(entry, _)| !copied.contains(&entry.content)) {
        let (content, detail) = (entry.content, chain(&error));
        if options.accept_loss {
            gone.insert(content, entry);
            actions.push(Action::RecordsGivenUp { content, detail });
        } else {
            left.push(format!("snapshots and policies recorded in content {content} cannot be read: {detail}"));
        }
    }
    Ok(gone.into_values().collect())
}
