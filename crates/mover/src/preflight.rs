//! From a task to the right repository, open.
//!
//! A restore opens what is there. A backup may create a repository, under every one of these conditions: the listing of
//! the place is complete and empty, nobody has pinned an id, the task allows it, the ledger has no record that something
//! was there, a directory is known to be the right one, and the store has just proven that it keeps what it is given.

use std::path::Path;
use std::sync::Arc;

use api::decide::Creation;
use api::id::RepositoryId;
use api::ledger::STORE_MARKER;
use api::mover::{BackupTask, Layout as Places, RestoreTask};
use api::naming::{ClaimKey, Identity, LEDGER_PREFIX};
use engine::Run;
use futures::{StreamExt as _, TryStreamExt as _};
use repository_kopia::{Client, CreateOptions, OpenError, Repository};
use storage::{ErrorKind, FilesystemStorage, Layout, ObjectKey, Storage};

use crate::environment::Environment;
use crate::ledger::Ledger;
use crate::place::Place;
use crate::report::{Stop, stopped, wait};

/// An open repository, and the ledger that belongs to it if the task wants one.
pub(crate) struct Opened {
    pub(crate) repository: Repository,
    pub(crate) ledger: Option<Ledger>,
}

impl Opened {
    pub(crate) fn id(&self) -> RepositoryId {
        RepositoryId::new(self.repository.unique_id())
    }
}

/// What both tasks say of the repository.
struct Wanted<'a> {
    claim: &'a ClaimKey,
    identity: &'a Identity,
    place: Place,
    ledger: bool,
    id: Option<&'a RepositoryId>,
    environment: &'a Environment,
    run: &'a Run,
}

/// None where there is nothing, that is proven, and the task says that it may be so.
pub(crate) fn for_restore(task: &RestoreTask, environment: &Environment, run: &Run) -> Result<Option<Opened>, Stop> {
    let wanted = Wanted {
        claim: &task.claim,
        identity: &task.identity,
        place: place(environment, task.layout, &task.claim)?,
        ledger: task.ledger,
        id: task.expected_repository_id.as_ref(),
        environment,
        run,
    };
    match wanted.open()? {
        Found::Repository(opened) => Ok(Some(*opened)),
        Found::Nothing if task.may_be_nothing => wanted.was_never_anything().map(|()| None),
        Found::Nothing => Err(wanted.missing("a restore creates none")),
    }
}

pub(crate) fn for_backup(task: &BackupTask, environment: &Environment, run: &Run) -> Result<Opened, Stop> {
    let wanted = Wanted {
        claim: &task.claim,
        identity: &task.identity,
        place: place(environment, task.layout, &task.claim)?,
        ledger: task.ledger,
        id: task.expected_repository_id.as_ref(),
        environment,
        run,
    };
    match wanted.open()? {
        Found::Repository(opened) => Ok(*opened),
        Found::Nothing => wanted.create(task.creation),
    }
}

fn place(environment: &Environment, layout: Places, claim: &ClaimKey) -> Result<Place, Stop> {
    Place::new(&environment.address, layout, claim)
        .map_err(|error| Stop::failed("find the repository's place", &error, error.class(), error.hint()))
}

/// What stands at the repository's place.
enum Found {
    Repository(Box<Opened>),
    /// The listing is complete and empty, or the directory is not there in a store that is.
    Nothing,
}

impl Wanted<'_> {
    fn open(&self) -> Result<Found, Stop> {
        let storage = match self.environment.open(&self.place.repository, Layout::Kopia) {
            Ok(storage) => storage,
            Err(error) if self.is_absent_directory(&error)? => return Ok(Found::Nothing),
            Err(error) => return Err(self.failed("open the store", &error)),
        };
        let Environment { password, clock, index, .. } = self.environment;
        let opening = Repository::open_with(storage, password, self.client(), Arc::clone(clock), index);
        match wait(self.run, opening)? {
            Ok(repository) => self.checked(repository).map(|opened| Found::Repository(Box::new(opened))),
            Err(OpenError::NotInitialized { empty: true, .. }) => Ok(Found::Nothing),
            Err(error) => Err(stopped(self.run, "open the repository", &error, error.class(), error.hint())),
        }
    }

    /// A claim's directory is made by its first backup; the store above it must be there.
    fn is_absent_directory(&self, error: &storage::Error) -> Result<bool, Stop> {
        let is_part = self.place.store != self.place.repository && self.place.directory().is_some();
        if error.kind != ErrorKind::StoreMissing || !is_part {
            return Ok(false);
        }
        self.store().map(|_| true)
    }

    fn store(&self) -> Result<Arc<dyn Storage>, Stop> {
        self.environment.open(&self.place.store, Layout::Plain).map_err(|error| self.failed("open the store", &error))
    }

    fn client(&self) -> Client {
        Client { username: self.identity.username.clone(), hostname: self.identity.hostname.clone() }
    }

    fn checked(&self, repository: Repository) -> Result<Opened, Stop> {
        let there = RepositoryId::new(repository.unique_id());
        if let Some(expected) = self.id.filter(|expected| **expected != there) {
            let reason =
                format!("WrongRepository: repository {there} is at {}, {expected} is expected", self.place.repository);
            let hint = "check bucket and prefix; if this repository is meant, change the pinned id";
            return Err(Stop::blocked(reason, hint));
        }
        let ledger = match self.ledger {
            true => Some(Ledger::open(self.environment, &self.place, &repository)),
            false => None,
        };
        let ledger = ledger.transpose().map_err(|error| self.failed("open the ledger", &error))?;
        Ok(Opened { repository, ledger })
    }

    /// Nothing is there, nothing is expected, and a directory is known to be the right one.
    fn was_never_anything(&self) -> Result<(), Stop> {
        if let Some(expected) = self.id {
            return Err(self.missing(&format!("repository {expected} is expected")));
        }
        self.refuse_expected()?;
        if self.place.directory().is_some() {
            self.refuse_unknown_directory()?;
        }
        Ok(())
    }

    fn create(&self, creation: Creation) -> Result<Opened, Stop> {
        if let Some(expected) = self.id {
            return Err(self.missing(&format!("repository {expected} is expected")));
        }
        match creation {
            Creation::IfEmpty => {}
            Creation::Never => return Err(self.missing("it may not be created")),
        }
        if self.ledger {
            self.refuse_expected()?;
        }
        if let Some(directory) = self.place.directory() {
            self.refuse_unknown_directory()?;
            FilesystemStorage::create(directory, Layout::Kopia)
                .map_err(|error| self.failed("make the repository's directory", &error))?;
        }
        let storage = self
            .environment
            .open(&self.place.repository, Layout::Kopia)
            .map_err(|error| self.failed("open the store", &error))?;
        // To its end, so that the probe leaves nothing behind.
        self.run
            .runtime
            .block_on(storage::probe::probe(&*storage))
            .map_err(|error| self.failed("try whether the store keeps what it is given", &error))?;
        if self.run.cancel.is_cancelled() {
            return Err(Stop::Interrupted);
        }
        let options = CreateOptions::default();
        let creating = Repository::create(
            storage,
            &self.environment.password,
            &options,
            self.client(),
            Arc::clone(&self.environment.clock),
        );
        let repository = self
            .run
            .runtime
            .block_on(creating)
            .map_err(|error| stopped(self.run, "create the repository", &error, error.class(), error.hint()))?;
        tracing::info!(id = %repository.unique_id(), place = %self.place.repository, "repository created");
        self.checked(repository)
    }

    /// Something was there, if the ledger says so: a record of this claim, or of any that shares the repository.
    fn refuse_expected(&self) -> Result<(), Stop> {
        let store = self.store()?;
        let is_shared = self.place.store == self.place.repository;
        let prefix = if is_shared { LEDGER_PREFIX.to_owned() } else { self.claim.ledger_object() };
        let found = wait(self.run, async { store.list(&prefix).next().await.transpose() })?
            .map_err(|error| self.failed("look for a ledger", &error))?;
        match found {
            Some(record) => Err(self.missing(&format!("the ledger has {}", record.key))),
            None => Ok(()),
        }
    }

    /// A directory that nobody vouches for may be a mount point without its file system.
    fn refuse_unknown_directory(&self) -> Result<(), Stop> {
        if self.environment.is_declared {
            return Ok(());
        }
        let store = self.store()?;
        let known = wait(self.run, async {
            match store.stat(&ObjectKey::new(STORE_MARKER)).await {
                Ok(_) => return Ok(true),
                Err(error) if error.kind == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            Ok(store.list(LEDGER_PREFIX).try_next().await?.is_some())
        })?
        .map_err(|error| self.failed("look for the store's marker", &error))?;
        if known {
            return Ok(());
        }
        Err(Stop::blocked(
            format!("{} is empty and nothing says that it is the store: it may not be mounted", self.place.store),
            format!("if it is, make the file {STORE_MARKER} in it"),
        ))
    }

    fn missing(&self, why: &str) -> Stop {
        Stop::blocked(
            format!("RepositoryMissing: {} holds no repository, and {why}", self.place.repository),
            "check bucket, prefix and mount; a repository that was lost must be put back, not made anew",
        )
    }

    fn failed(&self, what: &str, error: &storage::Error) -> Stop {
        stopped(self.run, what, error, error.class(), error.hint())
    }
}

/// Whether a directory holds nothing but what file systems put into their roots.
pub(crate) fn is_empty_directory(path: &Path) -> std::io::Result<bool> {
    for entry in std::fs::read_dir(path)? {
        if entry?.file_name() != "lost+found" {
            return Ok(false);
        }
    }
    Ok(true)
}
