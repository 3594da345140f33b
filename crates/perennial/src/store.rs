//! From address and password to an open repository.
//!
//! Layers, from the user to the store: cache (buckets only), retry, limit, meter. The password is read after the store was
//! found and is dropped when the repository is open.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use repository::SystemClock;
use repository_kopia::{Client, ControlRepair, CreateOptions, OpenOptions, Password, RepairMode, Repository};
use storage::layer::cache::{CacheStorage, Immutable};
use storage::layer::limit::LimitStorage;
use storage::layer::meter::{Meter, MeterSnapshot, MeterStorage};
use storage::layer::retry::{RetryOptions, RetryStorage};
use storage::{Address, Credentials, Layout, ObjectKey, Storage};
use tokio::runtime::Handle;

use crate::cli::Shared;
use crate::failure::Failure;
use crate::runner::Runner;
use crate::{output, source};

/// Store calls at a time: as many as index loading asks for at once.
const CALLS_IN_FLIGHT: usize = 64;
/// What one store may keep in the cache directory, in bytes.
const CACHE_BYTES_MAX: u64 = 4 << 30;
/// Objects that are written once: packs of metadata, index blobs. Control objects are never kept, and neither are packs of
/// data, which are read once at most.
const CACHED_PREFIXES: [&str; 5] = ["q", "xn", "xs", "xr", "n"];
/// Longer ones are no passwords, in bytes.
const PASSWORD_BYTES_MAX: u64 = 64 << 10;

/// Whether copies of objects may stand in for the objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// For buckets.
    Use,
    /// What is asked about is the store itself.
    Bypass,
}

/// A store with its layers, and the counters of its calls.
pub struct Store {
    /// Outermost layer.
    pub storage: Arc<dyn Storage>,
    calls: Arc<Meter>,
}

/// An open repository.
pub struct Open {
    /// The repository.
    pub repository: Repository,
    calls: Arc<Meter>,
}

impl Open {
    /// Calls to the store so far, retries and failures among them.
    pub fn calls(&self) -> MeterSnapshot {
        self.calls.snapshot()
    }
}

/// Opens the repository that the options and the environment name.
pub fn open(shared: &Shared, runner: &Runner, cache: Cache) -> Result<Open, Failure> {
    let address = address(shared)?;
    let base = address.open(Layout::Kopia, &credentials())?;
    let Store { storage, calls } = layered(base, &address, shared, runner, cache)?;
    let options = OpenOptions { cache_directory: index_directory(shared, cache), ..OpenOptions::default() };
    let (password, client) = (password(shared)?, source::client(shared));
    let repository = runner.wait(Repository::open_with(storage, &password, client, Arc::new(SystemClock), &options))?;
    if let Some(problem) = repository.index_problem() {
        output::warn(&format!("the index is not kept for the next time: {problem}"));
    }
    for damage in repository.damage() {
        output::warn(&format!("{damage}; what it listed is unknown"));
    }
    Ok(Open { repository, calls })
}

/// Opens a repository that may be damaged. The cache is not asked.
pub fn open_for_repair(
    shared: &Shared,
    runner: &Runner,
    mode: RepairMode,
) -> Result<(Open, Vec<ControlRepair>), Failure> {
    let address = address(shared)?;
    let base = address.open(Layout::Kopia, &credentials())?;
    let Store { storage, calls } = layered(base, &address, shared, runner, Cache::Bypass)?;
    let (password, client) = (password(shared)?, source::client(shared));
    let opening = Repository::open_for_repair(storage, &password, client, Arc::new(SystemClock), mode);
    let (repository, control) = runner.wait(opening)?;
    Ok((Open { repository, calls }, control))
}

/// The place for a new repository; a directory is made.
pub fn place(layout: Layout, shared: &Shared, runner: &Runner) -> Result<Store, Failure> {
    let address = address(shared)?;
    let base = address.create(layout, &credentials())?;
    layered(base, &address, shared, runner, Cache::Bypass)
}

/// Makes a repository in an empty place.
pub fn create(store: Store, options: &CreateOptions, shared: &Shared, runner: &Runner) -> Result<Open, Failure> {
    let (password, client): (Password, Client) = (password(shared)?, source::client(shared));
    let clock = Arc::new(SystemClock);
    let repository = runner.wait(Repository::create(store.storage, &password, options, client, clock))?;
    Ok(Open { repository, calls: store.calls })
}

/// Replaces the password of the repository that the options and the environment name; gives its address.
pub fn change_password(new_file: Option<&Path>, shared: &Shared, runner: &Runner) -> Result<String, Failure> {
    let address = address(shared)?;
    let base = address.open(Layout::Kopia, &credentials())?;
    let Store { storage, .. } = layered(base, &address, shared, runner, Cache::Bypass)?;
    let old = password(shared)?;
    let new = match new_file {
        Some(path) => password_of_file(path)?,
        None => {
            Password::new(variable("PERENNIAL_NEW_PASSWORD").filter(|value| !value.is_empty()).ok_or_else(|| {
                Failure::usage(
                    "no new password is given",
                    "name a file with --new-password-file, or set PERENNIAL_NEW_PASSWORD",
                )
            })?)
        }
    };
    runner.wait(repository_kopia::change_password(&storage, &old, &new, &SystemClock))?;
    Ok(storage.address())
}

/// Where the repository is.
pub fn address(shared: &Shared) -> Result<Address, Failure> {
    let Some(text) = shared.store.as_deref().filter(|text| !text.is_empty()) else {
        return Address::from_env(&variable)?.ok_or_else(|| {
            Failure::usage("no repository is named", "set PERENNIAL_STORE or --store, for instance to file:/srv/repo")
        });
    };
    // A path from here is what people mean by one with dots.
    if text.starts_with("./") || text.starts_with("../") || text == "." {
        return Ok(Address::Filesystem(source::absolute(Path::new(text))?));
    }
    Ok(Address::parse(text)?)
}

fn credentials() -> Credentials {
    Credentials::from_env(&variable)
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn layered(
    base: Arc<dyn Storage>,
    address: &Address,
    shared: &Shared,
    runner: &Runner,
    cache: Cache,
) -> Result<Store, Failure> {
    let calls = Arc::new(Meter::default());
    let storage = sturdy(base, &calls, RetryOptions::default());
    let storage = match cache {
        Cache::Use => cached(storage, address, shared, runner.run.runtime.clone())?,
        Cache::Bypass => storage,
    };
    Ok(Store { storage, calls })
}

/// The layers that every store has: calls are retried, limited, and counted.
pub fn sturdy(base: Arc<dyn Storage>, calls: &Arc<Meter>, retry: RetryOptions) -> Arc<dyn Storage> {
    let metered = MeterStorage::over(base, calls.clone());
    let limited = LimitStorage::over(Arc::new(metered), CALLS_IN_FLIGHT);
    let jitter = RetryOptions { seed: u64::from(std::process::id()), ..retry };
    Arc::new(RetryStorage::over(Arc::new(limited), jitter))
}

/// A bucket behind a cache; a directory is as near as a cache would be. One that cannot be had is only slow, unless
/// somebody asked for this very one. Must not be called from inside `runtime`.
pub fn cached(
    storage: Arc<dyn Storage>,
    address: &Address,
    shared: &Shared,
    runtime: Handle,
) -> Result<Arc<dyn Storage>, storage::Error> {
    let parent = cache_directory(shared);
    let (Address::S3(_), Some(parent)) = (address, parent) else { return Ok(storage) };
    let directory = parent.join(store_name(address));
    let opened = runtime.block_on(CacheStorage::open(storage.clone(), &directory, CACHE_BYTES_MAX, immutable()));
    match opened {
        Ok(cache) => {
            mark_as_cache(&parent);
            Ok(Arc::new(cache))
        }
        Err(failure) if shared.cache_dir.is_some() => Err(failure),
        Err(failure) => {
            tracing::info!(directory = %directory.display(), %failure, "no cache");
            Ok(storage)
        }
    }
}

/// Where a large index is kept from run to run.
pub fn index_directory(shared: &Shared, cache: Cache) -> Option<PathBuf> {
    match cache {
        Cache::Use => cache_directory(shared).map(|parent| parent.join("indexes")),
        Cache::Bypass => None,
    }
}

/// The cache directory of all stores.
pub fn cache_directory(shared: &Shared) -> Option<PathBuf> {
    shared.cache_dir.clone().or_else(default_cache_directory)
}

fn default_cache_directory() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // Where VolSync mounts a mover's cache volume.
    if let Some(kopias) = set("KOPIA_CACHE_DIRECTORY") {
        return Some(kopias.join("perennial"));
    }
    let base = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")))?;
    Some(base.join("perennial/stores"))
}

/// Different stores never share a directory: half a hash of the address is never the same twice.
fn store_name(address: &Address) -> String {
    hex::encode(&blake3::hash(address.to_string().as_bytes()).as_bytes()[..16])
}

fn immutable() -> Immutable {
    Arc::new(|key: &ObjectKey| CACHED_PREFIXES.iter().any(|prefix| key.as_str().starts_with(prefix)))
}

/// So that backups of a home directory leave it out.
fn mark_as_cache(directory: &Path) {
    let tag = directory.join("CACHEDIR.TAG");
    if !tag.exists() {
        // Only a convenience.
        let _ = std::fs::write(tag, repository_kopia::CACHEDIR_TAG_SIGNATURE);
    }
}

/// From the file, else the variables.
fn password(shared: &Shared) -> Result<Password, Failure> {
    if let Some(path) = &shared.password_file {
        return password_of_file(path);
    }
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    match set("PERENNIAL_PASSWORD").or_else(|| set("KOPIA_PASSWORD")) {
        Some(text) => Ok(Password::new(text)),
        None => {
            Err(Failure::usage("no password is given", "set PERENNIAL_PASSWORD, or name a file with --password-file"))
        }
    }
}

fn password_of_file(path: &Path) -> Result<Password, Failure> {
    let unreadable = |detail: String| {
        Failure::usage(
            format!("read the password file {}: {detail}", path.display()),
            "check the path and the rights on it",
        )
    };
    let file = std::fs::File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let mut text = String::new();
    file.take(PASSWORD_BYTES_MAX + 1).read_to_string(&mut text).map_err(|error| unreadable(error.to_string()))?;
    if text.len() as u64 > PASSWORD_BYTES_MAX {
        return Err(unreadable("it is too long for a password".to_owned()));
    }
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(Password::new(text.strip_suffix('\r').unwrap_or(text)))
}

#[cfg(test)]
mod tests {
    use super::{immutable, store_name};
    use storage::{Address, ObjectKey};

    #[test]
    fn control_objects_are_never_cached() {
        let keeps = |name: &str| immutable()(&ObjectKey::new(name));
        for name in ["q0123-s1", "n0123-s1", "xn0_abc", "xs3_abc", "xr0_4_abc"] {
            assert!(keeps(name), "{name}");
        }
        for name in [
            "kopia.repository",
            "kopia.blobcfg",
            "kopia.maintenance",
            "p0123-s1",
            "xe4",
            "xw1",
            "s0123",
            "_log_1",
            "m1",
        ] {
            assert!(!keeps(name), "{name}");
        }
    }

    #[test]
    fn each_store_has_its_own_cache() {
        let name = |text: &str| store_name(&Address::parse(text).unwrap());
        assert_eq!(name("s3://bucket/a"), name("s3://bucket/a/"));
        let others = ["s3://bucket/b", "s3://bucket2/a", "s3://bucket/a?endpoint=http://127.0.0.1:9000"];
        assert!(others.iter().all(|other| name(other) != name("s3://bucket/a")));
    }
}
