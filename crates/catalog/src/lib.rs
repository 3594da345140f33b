//! The read side of a repository over HTTP: what stands there for a claim, and what a new claim should get.
//!
//! ```text
//! askers ─ routes ─ facts ─┬─ session ─ one look for all who wait ─ open or refresh, list, check ─ repository
//!                          └─ ledger  ─ this claim's record
//! ```
//! Guarantees: nothing is written; one location is opened once, however many ask; "there is nothing" is never said from
//! memory, but only after a look that began after the question; every error has its row in [`facts`], and what has none
//! is unknown. A question that takes too long is answered with "unknown".
//!
//! Limits: open repositories ([`Options::open_count_max`]), one key derivation at a time (64 MiB each), requests at a time
//! ([`routes::REQUESTS_MAX`]), one look at a time per location.

use std::sync::Arc;
use std::time::Duration;

use api::decide::Claim;
use api::exists::Backend;
use api::ledger::Thresholds;
use api::mover::Layout;
use repository::Clock;
use repository_kopia::{Client, Password};
use storage::layer::meter::Meter;
use storage::{Address, Storage};

pub mod facts;
mod ledger;
mod metrics;
mod overview;
pub mod routes;
mod session;

pub use facts::{Held, Looked, SnapshotView};
pub use routes::{router, serve};

use metrics::Metrics;
use session::Sessions;

/// Opens a store, with whatever layers the program wants over it.
pub type OpenStore = Arc<dyn Fn(&Address, storage::Layout) -> Result<Arc<dyn Storage>, storage::Error> + Send + Sync>;

/// One `BackupRepository`, and how it is asked.
#[derive(Clone)]
pub struct Options {
    /// The store's root. Layout PerClaim: repositories lie at `{namespace}/{pvc}` below it. Shared: the repository.
    pub address: Address,
    /// How repositories lie in it.
    pub layout: Layout,
    /// The password of all of them.
    pub password: Password,
    /// Under which name sessions would be written, if any were.
    pub client: Client,
    /// Opens stores, [`calls`](Self::calls) among their layers. A cache among them must let listings, `kopia.repository`
    /// and ledger records through: they are what makes an answer live.
    pub open_store: OpenStore,
    /// Counts the calls that reach the store.
    pub calls: Arc<Meter>,
    /// Where "now" comes from.
    pub clock: Arc<dyn Clock>,
    /// What kind of repository this is, for `/exists`.
    pub backend: Backend,
    /// Whether a person says that an empty directory at this address is the right one (zero-touch H17). Without that, and
    /// without a marker or a ledger in it, an empty directory is unknown. Buckets need no such word.
    pub is_declared: bool,
    /// Whether a person declared this repository new.
    pub declared_new: bool,
    /// What is expected of a claim when the question does not say: `/exists` has no way to.
    pub expectation: Claim,
    /// Below which share of the last good snapshot one that nobody has marked is taken for collapsed.
    pub thresholds: Thresholds,
    /// So long a look answers "there is a backup" without another.
    pub refresh_every: Duration,
    /// So long a failed look answers for the next ones.
    pub retry_after: Duration,
    /// After so long a question is answered with "unknown".
    pub deadline: Duration,
    /// After so long one look is given up, although others may wait for it.
    pub look_limit: Duration,
    /// After so long without a repository the catalog is not ready.
    pub ready_within: Duration,
    /// So many repositories stay open, in layout PerClaim.
    pub open_count_max: usize,
    /// What callers must show, if anything, as `Authorization: Bearer …`.
    pub bearer: Option<String>,
}

impl Options {
    /// The usual spans and limits around what has no default.
    pub fn new(
        address: Address,
        layout: Layout,
        password: Password,
        open_store: OpenStore,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let backend = match address {
            Address::Filesystem(_) => Backend::KopiaFs,
            Address::S3(_) => Backend::KopiaS3,
        };
        Self {
            address,
            layout,
            password,
            client: Client { username: "catalog".to_owned(), hostname: "perennial".to_owned() },
            open_store,
            calls: Arc::default(),
            clock,
            backend,
            is_declared: false,
            declared_new: false,
            expectation: Claim::default(),
            thresholds: Thresholds::default(),
            refresh_every: Duration::from_secs(30),
            retry_after: Duration::from_secs(2),
            deadline: Duration::from_secs(20),
            look_limit: Duration::from_secs(120),
            ready_within: Duration::from_secs(5),
            open_count_max: 16,
            bearer: None,
        }
    }
}

/// Holds secrets and closures: only the address is shown.
impl std::fmt::Debug for Options {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Options").field("address", &self.address).finish_non_exhaustive()
    }
}

/// One repository's, or one store's, read side.
#[derive(Debug)]
pub struct Catalog {
    options: Arc<Options>,
    sessions: Sessions,
    metrics: Arc<Metrics>,
}

impl Catalog {
    /// Opens nothing yet.
    pub fn new(options: Options) -> Arc<Self> {
        let (options, metrics) = (Arc::new(options), Arc::<Metrics>::default());
        Arc::new(Self { sessions: Sessions::new(Arc::clone(&options), Arc::clone(&metrics)), options, metrics })
    }

    /// How it is asked.
    pub fn options(&self) -> &Options {
        &self.options
    }
}
