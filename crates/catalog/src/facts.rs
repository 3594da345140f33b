//! What stands there for a claim, as the facts that [`api::decide`] judges.
//!
//! | what happened | location |
//! |---|---|
//! | time-out, name, TLS, 5xx, too many requests; index blobs that keep vanishing; no answer in time | Unreachable |
//! | 401, 403, file permissions; a wrong password | AuthDenied |
//! | the bucket or the directory is not there | StoreMissing |
//! | the place listed to its end without an object; a directory only if somebody or something vouches for it | Empty |
//! | objects, but no `kopia.repository`; a ledger of others in a shared directory | Uninitialised |
//! | opened, listed, and `kopia.repository` still the same after that | Open |
//! | any damage in the listing | Open, not complete |
//! | everything else, damaged format blobs, foreign indexes and empty mount points among it | Unknown |

use std::error::Error;
use std::time::Duration;

use api::decide::{Claim, Decision, Facts, Ledger, Location, Snapshot, Snapshots, decide};
use api::id::SnapshotId;
use api::ledger::{Figures, GuardVerdict, LedgerEntry, guard};
use api::mover::Layout;
use api::naming::{ClaimKey, DATA_PATH, Identity, VolsyncNames, volsync_identity};
use jiff::Timestamp;
use repository_kopia::{ContentError, IndexError, OpenError, ReadError};
use serde::Serialize;
use storage::ErrorKind;

use crate::session::{LookError, Opened, Outcome, Record, Stands, View};
use crate::{Catalog, ledger};

/// Facts, whose they are, and how old.
#[derive(Clone, Debug)]
pub struct Looked {
    /// What was found.
    pub facts: Facts,
    /// The history that was looked for.
    pub identity: Identity,
    /// How long ago the look began. Facts without a snapshot are from a look that began after the question.
    pub age: Duration,
}

/// One snapshot, for people and programs that list them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SnapshotView {
    /// Its id.
    pub id: String,
    /// When it was begun.
    pub start: Timestamp,
    /// When it was finished.
    pub end: Timestamp,
    /// Regular files in it.
    pub files: u64,
    /// Sum of their lengths in bytes.
    pub bytes: u64,
    /// Whether it was finished; only such a one is restored.
    pub complete: bool,
    /// Whether retention must leave it.
    pub pinned: bool,
    /// Why it is held back, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
}

/// Why a snapshot is held back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Held {
    /// The mover's content guard marked it, and says why.
    Marked(String),
    /// It has no mark, but it has collapsed against the last good snapshot: the mover was stopped before the mark.
    Collapsed(String),
}

impl Catalog {
    /// The history that is meant when a question does not name one.
    ///
    /// Shared: `<pvc>@<namespace>:/data`. PerClaim: that of the generated ReplicationSource `<pvc>-backup`; but there any
    /// history in the claim's own repository is the claim's.
    pub fn default_identity(&self, claim: &ClaimKey) -> Identity {
        match self.options.layout {
            Layout::Shared => claim.shared_identity(),
            Layout::PerClaim => volsync_identity(&VolsyncNames {
                name: &claim.backup_name(),
                namespace: claim.namespace(),
                path: DATA_PATH,
                ..VolsyncNames::default()
            }),
        }
    }

    /// What stands there for a claim. Never an error: what could not be found out is a fact, too.
    ///
    /// Without `identity`, as [`default_identity`](Self::default_identity) says.
    pub async fn facts(&self, claim: &ClaimKey, identity: Option<&Identity>) -> Facts {
        self.look(claim, identity).await.facts
    }

    /// The facts, and what they and `expectation` come to.
    pub async fn decide(
        &self,
        claim: &ClaimKey,
        identity: Option<&Identity>,
        expectation: &Claim,
    ) -> (Looked, Decision) {
        let looked = self.look(claim, identity).await;
        let decision = decide(&looked.facts, expectation);
        self.metrics.decision(match &decision {
            Decision::Restore { .. } => "restore",
            Decision::Fresh { .. } => "fresh",
            Decision::Hold { reason, .. } => reason.as_str(),
        });
        (looked, decision)
    }

    /// What stands there for a claim, where an answer from memory will do if it says that there is something.
    pub async fn look(&self, claim: &ClaimKey, identity: Option<&Identity>) -> Looked {
        self.look_for(claim, identity, Wanted::Something).await
    }

    /// The same from a look that began after the question: what is restored must be the newest.
    pub async fn look_now(&self, claim: &ClaimKey, identity: Option<&Identity>) -> Looked {
        self.look_for(claim, identity, Wanted::Newest).await
    }

    async fn look_for(&self, claim: &ClaimKey, identity: Option<&Identity>, wanted: Wanted) -> Looked {
        let deadline = self.options.deadline;
        let looked = match tokio::time::timeout(deadline, self.look_in_time(claim, identity, wanted)).await {
            Ok(looked) => looked,
            Err(_) => {
                let detail = format!("no answer within {} seconds", deadline.as_secs());
                self.without_answer(claim, identity, Location::Unreachable { detail })
            }
        };
        self.sessions.trim();
        looked
    }

    async fn look_in_time(&self, claim: &ClaimKey, identity: Option<&Identity>, wanted: Wanted) -> Looked {
        let outcome = match self.view(claim, identity, wanted).await {
            Ok(outcome) => outcome,
            Err(location) => return self.without_answer(claim, identity, location),
        };
        match outcome {
            Err(error) => self.without_answer(claim, identity, error.location()),
            Ok(view) => self.facts_of(&view, claim, identity).await,
        }
    }

    /// A view that may answer: one that began after the question, or a young one that has what is wanted.
    async fn view(&self, claim: &ClaimKey, identity: Option<&Identity>, wanted: Wanted) -> Result<Outcome, Location> {
        let session = self.sessions.of(claim).map_err(|error| Location::Unknown { detail: error.to_string() })?;
        let begun_before = session.begun_count();
        let recent = session.recent().await;
        let may_answer = match (&recent, wanted) {
            // What has just failed says nothing that a cache must not say.
            (Err(_), _) => true,
            (Ok(view), Wanted::Something) => view.number > begun_before || self.has_unmarked(view, claim, identity),
            (Ok(view), Wanted::Newest) => view.number > begun_before,
        };
        Ok(if may_answer { recent } else { session.live().await })
    }

    fn has_unmarked(&self, view: &View, claim: &ClaimKey, identity: Option<&Identity>) -> bool {
        match &view.stands {
            Stands::Nothing | Stands::Else => false,
            Stands::Repository(opened) => {
                let own = self.records(opened, claim, identity);
                opened.damage.is_none() && own.iter().any(|record| record.is_complete && record.marked.is_none())
            }
        }
    }

    async fn facts_of(&self, view: &View, claim: &ClaimKey, identity: Option<&Identity>) -> Looked {
        let (location, ledger) = match &view.stands {
            Stands::Nothing => (Location::Empty, self.ledger(view, claim, None).await),
            Stands::Else => (Location::Uninitialised, self.ledger(view, claim, None).await),
            Stands::Repository(opened) => {
                let ledger = self.ledger(view, claim, Some(&opened.ledger_key)).await;
                (self.open(opened, claim, identity, &ledger), ledger)
            }
        };
        Looked {
            facts: Facts { secret_present: true, location, ledger, declared_new: self.options.declared_new },
            identity: identity.cloned().unwrap_or_else(|| self.default_identity(claim)),
            age: view.began.elapsed(),
        }
    }

    fn without_answer(&self, claim: &ClaimKey, identity: Option<&Identity>, location: Location) -> Looked {
        let ledger = Ledger::Unreadable { detail: "it was not reached".to_owned() };
        Looked {
            facts: Facts { secret_present: true, location, ledger, declared_new: self.options.declared_new },
            identity: identity.cloned().unwrap_or_else(|| self.default_identity(claim)),
            age: Duration::ZERO,
        }
    }

    async fn ledger(&self, view: &View, claim: &ClaimKey, key: Option<&[u8; 32]>) -> Ledger {
        let recorded = match &view.recorded {
            Ok(recorded) => recorded,
            Err(detail) => return Ledger::Unreadable { detail: detail.clone() },
        };
        if recorded.is_empty() {
            return Ledger::Absent;
        }
        let entries = u64::try_from(recorded.len()).unwrap_or(u64::MAX);
        if !recorded.contains(claim) {
            return Ledger::Present { entry: None, entries };
        }
        match ledger::read(&*view.store, claim, key).await {
            Ok(entry) => Ledger::Present { entry: Some(entry), entries },
            Err(detail) => Ledger::Unreadable { detail },
        }
    }

    fn open(&self, opened: &Opened, claim: &ClaimKey, identity: Option<&Identity>, ledger: &Ledger) -> Location {
        let own = self.records(opened, claim, identity);
        let is_own = self.options.layout == Layout::PerClaim;
        if let Some(other) = opened.snapshots.keys().next().filter(|_| own.is_empty() && is_own) {
            let count = opened.snapshots.len();
            let detail = format!("the claim's own repository holds other histories, {count}, {other} among them");
            return Location::Unknown { detail };
        }
        let last_good = last_good(opened, ledger);
        let mut snapshots = Snapshots::default();
        for record in own {
            match (record.is_complete, self.held(record, last_good)) {
                (false, _) => snapshots.unfinished += 1,
                (true, None) => snapshots.good.push(snapshot(record)),
                (true, Some(_)) => snapshots.quarantined.push(snapshot(record)),
            }
        }
        if let Some(damage) = &opened.damage {
            tracing::warn!(%damage, "the listing of snapshots is not complete");
        }
        Location::Open { id: opened.id.clone(), listing_complete: opened.damage.is_none(), snapshots }
    }

    /// The records of one history; of all where the repository is the claim's own and none is named.
    fn records<'a>(&self, opened: &'a Opened, claim: &ClaimKey, identity: Option<&Identity>) -> Vec<&'a Record> {
        if identity.is_none() && self.options.layout == Layout::PerClaim {
            return opened.snapshots.values().flatten().collect();
        }
        let identity = identity.cloned().unwrap_or_else(|| self.default_identity(claim));
        let key = repository::Identity { user: identity.username, host: identity.hostname, path: identity.path };
        opened.snapshots.get(&key).into_iter().flatten().collect()
    }

    fn held(&self, record: &Record, last_good: Option<&LedgerEntry>) -> Option<Held> {
        if let Some(why) = &record.marked {
            return Some(Held::Marked(why.clone()));
        }
        let good = last_good.filter(|good| record.start > good.time && record.id != good.snapshot_id.as_str())?;
        let previous = Figures { files: good.files, bytes: good.bytes };
        let current = Figures { files: record.files, bytes: record.bytes };
        match guard(&previous, &current, &self.options.thresholds) {
            GuardVerdict::Good => None,
            GuardVerdict::Quarantine { why } => Some(Held::Collapsed(why.to_string())),
        }
    }

    /// The snapshots of a claim, newest first, from a view that may be as old as [`refresh_every`].
    ///
    /// [`refresh_every`]: crate::Options::refresh_every
    ///
    /// # Errors
    /// In the words of facts, when there is no complete listing.
    pub async fn snapshots(
        &self,
        claim: &ClaimKey,
        identity: Option<&Identity>,
    ) -> Result<(Vec<SnapshotView>, Duration), Location> {
        let deadline = self.options.deadline;
        let listed = tokio::time::timeout(deadline, self.snapshots_in_time(claim, identity)).await;
        self.sessions.trim();
        listed.unwrap_or_else(|_| {
            Err(Location::Unreachable { detail: format!("no answer within {} seconds", deadline.as_secs()) })
        })
    }

    async fn snapshots_in_time(
        &self,
        claim: &ClaimKey,
        identity: Option<&Identity>,
    ) -> Result<(Vec<SnapshotView>, Duration), Location> {
        let view = self.view(claim, identity, Wanted::Something).await?.map_err(|error| error.location())?;
        let opened = match &view.stands {
            Stands::Nothing => return Err(Location::Empty),
            Stands::Else => return Err(Location::Uninitialised),
            Stands::Repository(opened) => opened,
        };
        if let Some(damage) = &opened.damage {
            return Err(Location::Unknown { detail: format!("not all snapshots are known: {damage}") });
        }
        let ledger = self.ledger(&view, claim, Some(&opened.ledger_key)).await;
        let last_good = last_good(opened, &ledger);
        let mut views: Vec<SnapshotView> = self
            .records(opened, claim, identity)
            .into_iter()
            .map(|record| SnapshotView {
                id: record.id.clone(),
                start: record.start,
                end: record.end,
                files: record.files,
                bytes: record.bytes,
                complete: record.is_complete,
                pinned: record.is_pinned,
                held: self.held(record, last_good),
            })
            .collect();
        views.sort_by(|one, other| (other.start, &other.id).cmp(&(one.start, &one.id)));
        Ok((views, view.began.elapsed()))
    }

    /// Whether questions can be answered: the shared repository's place was looked at, or the store was listed.
    ///
    /// # Errors
    /// In the words of facts, when not.
    pub async fn ready(&self) -> Result<(), Location> {
        let within = self.options.ready_within;
        let looked = async {
            match self.sessions.shared() {
                Some(session) => session.recent().await.map(|_| ()).map_err(|error| error.location()),
                None => self.sessions.store_is_listed().await.map_err(|error| of_store(error.kind, error.to_string())),
            }
        };
        let in_time = tokio::time::timeout(within, looked).await;
        in_time.unwrap_or_else(|_| {
            Err(Location::Unreachable { detail: format!("no repository within {} seconds", within.as_secs()) })
        })
    }
}

/// What an asker wants of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// That there is something, if there is: memory will do.
    Something,
    /// The newest of it.
    Newest,
}

/// The ledger's last good snapshot, if it is one of this repository.
fn last_good<'a>(opened: &Opened, ledger: &'a Ledger) -> Option<&'a LedgerEntry> {
    match ledger {
        Ledger::Present { entry: Some(entry), .. } if entry.repository_id == opened.id => Some(entry),
        Ledger::Present { .. } | Ledger::Absent | Ledger::Unreadable { .. } => None,
    }
}

fn snapshot(record: &Record) -> Snapshot {
    Snapshot {
        id: SnapshotId::new(record.id.as_str()),
        time: record.start,
        files: record.files,
        bytes: record.bytes,
        owner: record.owner,
    }
}

impl LookError {
    /// The row of the module's table.
    pub(crate) fn location(&self) -> Location {
        let detail = chain(self);
        match self {
            Self::Store { source, .. } => of_store(source.kind, detail),
            Self::Open(error) => of_open(error, detail),
            Self::Refresh(error) => of_index(error, detail),
            Self::List(error) => of_read(error, detail),
            Self::TimedOut { .. } => Location::Unreachable { detail },
            Self::Unmarked { .. } | Self::Replaced { .. } | Self::Died { .. } => Location::Unknown { detail },
        }
    }

    /// The label in metrics, from a closed list.
    pub(crate) fn reason(&self) -> &'static str {
        match self.location() {
            Location::Unreachable { .. } => "unreachable",
            Location::AuthDenied { .. } => "auth",
            Location::StoreMissing { .. } => "store_missing",
            Location::Unknown { .. } => "unknown",
            // Not failures of a look.
            Location::Empty | Location::Uninitialised | Location::Open { .. } => "none",
        }
    }
}

fn of_store(kind: ErrorKind, detail: String) -> Location {
    match kind {
        ErrorKind::Unreachable => Location::Unreachable { detail },
        ErrorKind::AccessDenied => Location::AuthDenied { detail },
        ErrorKind::StoreMissing => Location::StoreMissing { detail },
        ErrorKind::NotFound
        | ErrorKind::AlreadyExists
        | ErrorKind::Truncated
        | ErrorKind::Full
        | ErrorKind::CannotLock
        | ErrorKind::Misconfigured
        | ErrorKind::Lies
        | ErrorKind::Other => Location::Unknown { detail },
    }
}

fn of_open(error: &OpenError, detail: String) -> Location {
    match error {
        OpenError::Storage { source, .. } => of_store(source.kind, detail),
        OpenError::Index(error) => of_index(error, detail),
        OpenError::WrongPassword => Location::AuthDenied { detail },
        // Whether an uninitialised place is empty was judged before it came here: what is left of it is unknown.
        OpenError::NotInitialized { .. }
        | OpenError::NotEmpty { .. }
        | OpenError::BadPassword
        | OpenError::BadOption(_)
        | OpenError::PasswordFixed
        | OpenError::ParseFormatBlob(_)
        | OpenError::DamagedBlobcfg(_)
        | OpenError::ParseBlobcfg(_)
        | OpenError::DeriveKey(_)
        | OpenError::Unsupported(_)
        | OpenError::UpgradeInProgress { .. }
        | OpenError::ForeignIndex { .. }
        | OpenError::FirstRecords(_) => Location::Unknown { detail },
    }
}

fn of_index(error: &IndexError, detail: String) -> Location {
    match error {
        IndexError::Storage { source, .. } => of_store(source.kind, detail),
        IndexError::Vanishing { .. } => Location::Unreachable { detail },
        IndexError::Damaged { .. } | IndexError::DamagedLog { .. } | IndexError::Table { .. } => {
            Location::Unknown { detail }
        }
    }
}

fn of_read(error: &ReadError, detail: String) -> Location {
    match error {
        ReadError::Content { source: ContentError::Read { source, .. }, .. } => of_store(source.kind, detail),
        ReadError::Index(error) | ReadError::Content { source: ContentError::LookUp { source: error, .. }, .. } => {
            of_index(error, detail)
        }
        ReadError::Content {
            source: ContentError::Unknown { .. } | ContentError::Damaged { .. } | ContentError::Unsupported { .. },
            ..
        }
        | ReadError::Damaged { .. } => Location::Unknown { detail },
    }
}

/// An error and its sources on one line, each said once.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let more = source.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = source.source();
    }
    text.replace(['\n', '\r'], " ")
}
