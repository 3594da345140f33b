//! One open repository for all who ask about its location.
//!
//! ```text
//! ask ─┬─ a young enough view ──────────────────────────────────────────────▶ answer, if it holds a backup
//!      └─ live ─ a look that has not begun yet? ─ yes: wait for it with the others
//!                                               └ no: queue one behind the look under way
//! ```
//! A look is its own task: an asker that gives up takes nothing away from the others, and a slow open ends some day.
//! There is at most one look under way and one waiting for each location.
//!
//! An open repository is only as good as its location: where the bytes of `kopia.repository` are other than when it was
//! opened, or gone, it is dropped, and the next look opens what is there. That is compared after the listing, so that a
//! location which is wiped meanwhile is never taken for a repository without history.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::id::RepositoryId;
use api::ledger::{KEY_PURPOSE, QUARANTINE_TAG};
use api::mover::Layout;
use api::naming::ClaimKey;
use api::owner::{Ids, OWNER_TAG};
use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use jiff::Timestamp;
use repository::{EntryKind, Identity, Snapshot};
use repository_kopia::{IndexError, OpenError, ReadError, Repository, Schedule};
use storage::{Address, ErrorKind, ObjectKey, Storage};
use tokio::runtime::Handle;
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::Instant;

use crate::metrics::{Look, Metrics};
use crate::{Options, ledger};

/// The object that makes a location a repository.
const FORMAT_BLOB: &str = "kopia.repository";

/// What a look found, for everyone who waits for it.
pub(crate) type Outcome = Result<Arc<View>, Arc<LookError>>;

/// What a look found.
pub(crate) struct View {
    /// Which look it was, counted from 1.
    pub(crate) number: u64,
    /// When it began, by the machine's clock and by the world's.
    pub(crate) began: Instant,
    pub(crate) checked: Timestamp,
    /// How long it took.
    pub(crate) took: Duration,
    pub(crate) stands: Stands,
    /// Claims with a ledger record, or why they are not known.
    pub(crate) recorded: Result<BTreeSet<ClaimKey>, String>,
    /// Where the ledger is.
    pub(crate) store: Arc<dyn Storage>,
}

/// What stands at a location.
pub(crate) enum Stands {
    Nothing,
    /// Something, but no repository.
    Else,
    Repository(Opened),
}

/// A repository and the snapshots in it.
pub(crate) struct Opened {
    pub(crate) id: RepositoryId,
    pub(crate) ledger_key: [u8; 32],
    /// What keeps the listing from being complete.
    pub(crate) damage: Option<String>,
    pub(crate) index_blob_count: usize,
    /// By identity, ascending by start. Compact: a shared repository has a hundred thousand of them.
    pub(crate) snapshots: BTreeMap<Identity, Vec<Record>>,
}

/// One snapshot, as far as anyone asks.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) start: Timestamp,
    pub(crate) end: Timestamp,
    pub(crate) files: u64,
    pub(crate) bytes: u64,
    /// The mark of the content guard, with its reason.
    pub(crate) marked: Option<String>,
    pub(crate) is_complete: bool,
    pub(crate) is_pinned: bool,
    /// Whose most of the files are, if that was recorded.
    pub(crate) owner: Option<Ids>,
}

/// A look that found nothing out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookError {
    #[error("{operation}")]
    Store {
        operation: &'static str,
        #[source]
        source: storage::Error,
    },
    #[error(transparent)]
    Open(OpenError),
    #[error("read the index anew")]
    Refresh(#[source] IndexError),
    #[error("list the snapshots")]
    List(#[source] ReadError),
    #[error("{address} is empty, and nothing says that it is the store: it may not be mounted")]
    Unmarked { address: String },
    #[error("the repository at {address} was replaced while it was read")]
    Replaced { address: String },
    #[error("no answer within {seconds} seconds")]
    TimedOut { seconds: u64 },
    #[error("the look itself went wrong: {detail}")]
    Died { detail: String },
}

/// One location.
pub(crate) struct Session {
    options: Arc<Options>,
    metrics: Arc<Metrics>,
    /// One look at a time, over all locations.
    looking: Arc<Semaphore>,
    /// The store's root, opened once for all locations.
    store: Arc<OnceCell<Arc<dyn Storage>>>,
    location: Address,
    begun_count: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The newest look, under way or waiting or over.
    newest: Option<Pending>,
    /// The newest that found something out.
    view: Option<Arc<View>>,
    /// The newest that did not, unless a later one did.
    failure: Option<(Instant, Arc<LookError>)>,
    repository: Option<Known>,
}

#[derive(Clone)]
struct Pending {
    phase: Arc<Phase>,
    outcome: Shared<BoxFuture<'static, Outcome>>,
}

#[derive(Default)]
struct Phase {
    has_begun: AtomicBool,
    is_over: AtomicBool,
}

/// An open repository and what its location looked like then.
#[derive(Clone)]
struct Known {
    repository: Arc<Repository>,
    format: [u8; 32],
}

impl Session {
    /// How many looks have begun so far: a view with a greater number began after this question.
    pub(crate) fn begun_count(&self) -> u64 {
        self.begun_count.load(Ordering::SeqCst)
    }

    /// A view that is young enough to say that there is a backup, or the next one.
    pub(crate) async fn recent(self: &Arc<Self>) -> Outcome {
        let pending = {
            let mut state = lock(&self.state);
            if let Some(view) = state.view.as_ref().filter(|view| view.began.elapsed() < self.options.refresh_every) {
                return Ok(Arc::clone(view));
            }
            match state.newest.clone().filter(|pending| !pending.phase.is_over.load(Ordering::SeqCst)) {
                Some(pending) => pending,
                None => self.queue(&mut state)?,
            }
        };
        pending.outcome.await
    }

    /// What a look finds that begins after this call. A failure a moment ago answers too: it never says "nothing".
    pub(crate) async fn live(self: &Arc<Self>) -> Outcome {
        let pending = {
            let mut state = lock(&self.state);
            match state.newest.clone().filter(|pending| !pending.phase.has_begun.load(Ordering::SeqCst)) {
                Some(pending) => pending,
                None => self.queue(&mut state)?,
            }
        };
        pending.outcome.await
    }

    /// When upkeep is due and what ran before; none without an open repository, or where that cannot be read.
    pub(crate) async fn schedule(&self) -> Option<Schedule> {
        let repository = lock(&self.state).repository.as_ref().map(|known| Arc::clone(&known.repository))?;
        match repository.maintenance_schedule().await {
            Ok(schedule) => Some(schedule),
            Err(error) => {
                tracing::warn!(error = %crate::facts::chain(&error), "how the upkeep is cannot be read");
                None
            }
        }
    }

    /// Whether a repository is held open here.
    fn is_open(&self) -> bool {
        lock(&self.state).repository.is_some()
    }

    /// Queues a look behind the newest one.
    fn queue(self: &Arc<Self>, state: &mut State) -> Result<Pending, Arc<LookError>> {
        let retry_after = self.options.retry_after;
        if let Some((_, error)) = state.failure.as_ref().filter(|(at, _)| at.elapsed() < retry_after) {
            return Err(Arc::clone(error));
        }
        let phase = Arc::<Phase>::default();
        let before = state.newest.take();
        let (session, goes_through) = (Arc::clone(self), Arc::clone(&phase));
        let look = tokio::spawn(async move {
            if let Some(before) = before {
                // Whatever it found: this one looks for itself.
                let _ = before.outcome.await;
            }
            let outcome = session.look(&goes_through.has_begun).await;
            goes_through.is_over.store(true, Ordering::SeqCst);
            outcome
        });
        let outcome = look
            .map(|ended| ended.unwrap_or_else(|error| Err(Arc::new(LookError::Died { detail: error.to_string() }))))
            .boxed()
            .shared();
        let pending = Pending { phase, outcome };
        state.newest = Some(pending.clone());
        Ok(pending)
    }

    async fn look(self: Arc<Self>, has_begun: &AtomicBool) -> Outcome {
        // One at a time: an open needs 64 MiB and a core for its key, and a look has one of the process' two threads for
        // blocking work and asks for another to merge indexes, so that two looks would wait for each other. Whoever waits here
        // has not begun.
        let _permit = self.looking.acquire().await.ok();
        let is_opening = lock(&self.state).repository.is_none();
        let number = self.begun_count.fetch_add(1, Ordering::SeqCst) + 1;
        has_begun.store(true, Ordering::SeqCst);
        let (began, limit) = (Instant::now(), self.options.look_limit);
        let kind = if is_opening { Look::Open } else { Look::Refresh };
        // On a thread: keys are derived, indexes merged and manifests read, which is no work for the network's threads.
        let (session, runtime) = (Arc::clone(&self), Handle::current());
        let thread = tokio::task::spawn_blocking(move || {
            runtime.block_on(async { tokio::time::timeout(limit, session.look_at_all(number, began)).await })
        });
        // A thread that hangs in the system, on a mount that is gone, hears no time-out of its own.
        let looked = match tokio::time::timeout(limit * 2, thread).await {
            Ok(Ok(Ok(looked))) => looked,
            Ok(Err(error)) => Err(LookError::Died { detail: error.to_string() }),
            Ok(Ok(Err(_))) | Err(_) => Err(LookError::TimedOut { seconds: limit.as_secs() }),
        };
        self.metrics.look(kind, began.elapsed());
        let mut state = lock(&self.state);
        match looked {
            Ok(view) => {
                self.metrics.good_look(began);
                let view = Arc::new(view);
                (state.view, state.failure) = (Some(Arc::clone(&view)), None);
                Ok(view)
            }
            Err(error) => {
                self.metrics.failure(kind, error.reason());
                let error = Arc::new(error);
                state.failure = Some((Instant::now(), Arc::clone(&error)));
                Err(error)
            }
        }
    }

    async fn look_at_all(&self, number: u64, began: Instant) -> Result<View, LookError> {
        let checked = self.options.clock.now();
        let open = || self.open_store(&self.options.address, storage::Layout::Plain);
        let store = Arc::clone(self.store.get_or_try_init(open).await?);
        let recorded = ledger::claims(&*store).await;
        let stands = self.look_at_location(&store, recorded.as_ref().ok()).await?;
        let recorded = recorded.map_err(|error| error.to_string());
        Ok(View { number, began, checked, took: began.elapsed(), stands, recorded, store })
    }

    async fn look_at_location(
        &self,
        store: &Arc<dyn Storage>,
        recorded: Option<&BTreeSet<ClaimKey>>,
    ) -> Result<Stands, LookError> {
        let known = lock(&self.state).repository.clone();
        let known = match known {
            Some(known) => {
                known.repository.refresh().await.map_err(LookError::Refresh)?;
                known
            }
            None => match self.open_repository().await {
                Ok(known) => known,
                Err(error) => return self.look_at_nothing(error, store, recorded).await,
            },
        };
        let opened = read(&known).await?;
        if !known.is_still_there().await? {
            // Nothing that was known of it is true any more.
            let mut state = lock(&self.state);
            (state.repository, state.view) = (None, None);
            return Err(LookError::Replaced { address: self.location.to_string() });
        }
        lock(&self.state).repository = Some(known);
        Ok(Stands::Repository(opened))
    }

    /// There is no repository. Is there nothing?
    async fn look_at_nothing(
        &self,
        error: LookError,
        store: &Arc<dyn Storage>,
        recorded: Option<&BTreeSet<ClaimKey>>,
    ) -> Result<Stands, LookError> {
        match &error {
            LookError::Open(OpenError::NotInitialized { empty: false, .. }) => return Ok(Stands::Else),
            LookError::Open(OpenError::NotInitialized { empty: true, .. }) => {}
            // A claim's directory is made by its first backup; the store above it was just opened and listed.
            LookError::Store { source, .. } if self.is_part() && source.kind == ErrorKind::StoreMissing => {}
            LookError::Open(_)
            | LookError::Store { .. }
            | LookError::Refresh(_)
            | LookError::List(_)
            | LookError::Unmarked { .. }
            | LookError::Replaced { .. }
            | LookError::TimedOut { .. }
            | LookError::Died { .. } => return Err(error),
        }
        let has_records = recorded.is_some_and(|claims| !claims.is_empty());
        // In a directory the ledger is no object of the repository's layout; in a bucket it would have been seen.
        if has_records && self.options.layout == Layout::Shared {
            return Ok(Stands::Else);
        }
        if !ledger::needs_marker(&self.location) || self.options.is_declared || has_records {
            return Ok(Stands::Nothing);
        }
        let failed = |source| LookError::Store { operation: "look for the store's marker", source };
        match ledger::is_marked(&**store).await.map_err(failed)? {
            true => Ok(Stands::Nothing),
            false => Err(LookError::Unmarked { address: self.options.address.to_string() }),
        }
    }

    /// Whether the location is a directory below the store's.
    fn is_part(&self) -> bool {
        ledger::needs_marker(&self.location) && self.location != self.options.address
    }

    async fn open_store(&self, address: &Address, layout: storage::Layout) -> Result<Arc<dyn Storage>, LookError> {
        let opened = open_store(&self.options, address, layout).await;
        opened.map_err(|source| LookError::Store { operation: "open the store", source })
    }

    async fn open_repository(&self) -> Result<Known, LookError> {
        let storage = self.open_store(&self.location, storage::Layout::Kopia).await?;
        let format = match storage.get(&ObjectKey::new(FORMAT_BLOB)).await {
            Ok(bytes) => digest(&bytes),
            // The open looks closer and says what is there instead.
            Err(error) if error.kind == ErrorKind::NotFound => digest(&[]),
            Err(source) => return Err(LookError::Store { operation: "read kopia.repository", source }),
        };
        let Options { password, client, clock, .. } = &*self.options;
        let opening = Repository::open(storage, password, client.clone(), Arc::clone(clock));
        Ok(Known { repository: Arc::new(opening.await.map_err(LookError::Open)?), format })
    }
}

impl Known {
    /// Whether the location still holds what was opened.
    async fn is_still_there(&self) -> Result<bool, LookError> {
        match self.repository.storage().get(&ObjectKey::new(FORMAT_BLOB)).await {
            Ok(bytes) => Ok(digest(&bytes) == self.format),
            Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::StoreMissing) => Ok(false),
            Err(source) => Err(LookError::Store { operation: "read kopia.repository again", source }),
        }
    }
}

async fn read(known: &Known) -> Result<Opened, LookError> {
    let repository = &known.repository;
    let listing = repository.snapshots().await.map_err(LookError::List)?;
    let mut snapshots: BTreeMap<Identity, Vec<Record>> = BTreeMap::new();
    for snapshot in listing.snapshots {
        let record = Record::from(&snapshot);
        snapshots.entry(snapshot.identity).or_default().push(record);
    }
    Ok(Opened {
        id: RepositoryId::new(repository.unique_id()),
        ledger_key: repository.derive_key(KEY_PURPOSE),
        damage: listing.damage.first().map(|error| crate::facts::chain(error)),
        index_blob_count: repository.description().index_blob_count,
        snapshots,
    })
}

impl From<&Snapshot> for Record {
    fn from(snapshot: &Snapshot) -> Self {
        let (files, bytes) = match &snapshot.root {
            None => (0, 0),
            Some(root) => match (&root.summary, root.kind) {
                (Some(summary), _) => (summary.file_count, summary.size_bytes),
                (None, EntryKind::File) => (1, root.size_bytes),
                (None, EntryKind::Directory | EntryKind::Symlink) => (0, 0),
            },
        };
        Self {
            id: snapshot.id.to_string(),
            start: snapshot.start,
            end: snapshot.end,
            files,
            bytes,
            marked: snapshot.tags.get(QUARANTINE_TAG).cloned(),
            is_complete: snapshot.incomplete.is_none(),
            is_pinned: !snapshot.pins.is_empty(),
            owner: snapshot.tags.get(OWNER_TAG).and_then(|ids| ids.parse().ok()),
        }
    }
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    digest
}

/// The locations that were asked for, the open ones among them bounded.
pub(crate) struct Sessions {
    options: Arc<Options>,
    metrics: Arc<Metrics>,
    looking: Arc<Semaphore>,
    store: Arc<OnceCell<Arc<dyn Storage>>>,
    used: Mutex<Used>,
}

#[derive(Default)]
struct Used {
    count: u64,
    /// By claim; by nothing in a shared repository. With the number of the last question.
    sessions: HashMap<Option<ClaimKey>, (u64, Arc<Session>)>,
}

impl Sessions {
    pub(crate) fn new(options: Arc<Options>, metrics: Arc<Metrics>) -> Self {
        Self { options, metrics, looking: Arc::new(Semaphore::new(1)), store: Arc::default(), used: Mutex::default() }
    }

    /// The session for a claim.
    pub(crate) fn of(&self, claim: &ClaimKey) -> Result<Arc<Session>, storage::Error> {
        match self.options.layout {
            Layout::Shared => Ok(self.at(None, self.options.address.clone())),
            Layout::PerClaim => {
                let location = self.options.address.join(&claim.repository_prefix())?;
                Ok(self.at(Some(claim.clone()), location))
            }
        }
    }

    /// The store's root, if it was ever reached, and the way to reach it.
    pub(crate) async fn store_is_listed(&self) -> Result<(), storage::Error> {
        let open = || open_store(&self.options, &self.options.address, storage::Layout::Plain);
        ledger::claims(&**self.store.get_or_try_init(open).await?).await.map(|_| ())
    }

    /// The one session of a shared repository.
    pub(crate) fn shared(&self) -> Option<Arc<Session>> {
        match self.options.layout {
            Layout::Shared => Some(self.at(None, self.options.address.clone())),
            Layout::PerClaim => None,
        }
    }

    fn at(&self, key: Option<ClaimKey>, location: Address) -> Arc<Session> {
        let mut used = lock(&self.used);
        used.count += 1;
        let count = used.count;
        let new = || {
            let session = Session {
                options: Arc::clone(&self.options),
                metrics: Arc::clone(&self.metrics),
                looking: Arc::clone(&self.looking),
                store: Arc::clone(&self.store),
                location,
                begun_count: AtomicU64::new(0),
                state: Mutex::default(),
            };
            (count, Arc::new(session))
        };
        let (last, session) = used.sessions.entry(key).or_insert_with(new);
        *last = count;
        Arc::clone(session)
    }

    /// Closes what nobody is asking about and what was not asked about for longest, down to the limit.
    pub(crate) fn trim(&self) {
        let mut used = lock(&self.used);
        while used.sessions.len() > self.options.open_count_max.max(1) {
            let idle = used.sessions.iter().filter(|(_, (_, session))| Arc::strong_count(session) == 1);
            let Some(oldest) = idle.min_by_key(|(_, (last, _))| *last).map(|(key, _)| key.clone()) else { return };
            used.sessions.remove(&oldest);
        }
    }

    pub(crate) fn open_count(&self) -> usize {
        lock(&self.used).sessions.values().filter(|(_, session)| session.is_open()).count()
    }
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Sessions").field("open_count", &self.open_count()).finish_non_exhaustive()
    }
}

/// Looking at a directory may block, for a mount that hangs even for long.
async fn open_store(
    options: &Options,
    address: &Address,
    layout: storage::Layout,
) -> Result<Arc<dyn Storage>, storage::Error> {
    let (open, place) = (Arc::clone(&options.open_store), address.clone());
    match tokio::task::spawn_blocking(move || open(&place, layout)).await {
        Ok(opened) => opened,
        Err(error) => Err(storage::Error {
            kind: ErrorKind::Other,
            operation: "open the store".to_owned(),
            address: address.to_string(),
            detail: error.to_string(),
            retry_after_seconds: 0,
        }),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
