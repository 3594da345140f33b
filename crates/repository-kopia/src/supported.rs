//! What a repository must be like to be used here.
//!
//! Whoever writes looks again before each index blob, and at least every quarter of an hour: it may have been replaced, or
//! somebody may upgrade it. Whoever only reads need not: what an upgrade changes is where entries of the index lie, not the
//! packs that a reader's index names, and what another repository in the place does not hold is an error and never empty.
//!
//! Source: Kopia format, "Caching and refresh of the format blob", "Required features", "Upgrade lock", "Compatibility refusals".

use jiff::SignedDuration;
use repository::Clock;
use storage::ObjectKey;

use crate::content::Crypto;
use crate::error::{OpenError, Unsupported, WriteError};
use crate::format_blob::{Configuration, FORMAT_BLOB};
use crate::index::IndexSets;
use crate::repository::Repository;

/// Features that need no understanding beyond what is here.
const KNOWN_FEATURES: [&str; 2] = ["index-v1", "index-v2"];

/// How long a writer may go without a look at the format blob.
pub(crate) const LOOK_AGAIN_AFTER: SignedDuration = SignedDuration::from_mins(15);

impl Repository {
    /// Refuses to go on when another repository is in the place, or this one was changed in a way that matters to what is
    /// being written, or is locked for an upgrade.
    pub(crate) async fn refuse_changes(&self) -> Result<(), WriteError> {
        let read = self.storage().get(&ObjectKey::new(FORMAT_BLOB)).await;
        let operation = || "read kopia.repository again".to_owned();
        let stored = read.map_err(|source| WriteError::Storage { operation: operation(), source })?;
        let replaced = || WriteError::Replaced { address: self.storage().address() };
        let found = self.format().reread(&stored).ok_or_else(replaced)?;
        check_unlocked(&found, &**self.clock()).map_err(|_| WriteError::UpgradeInProgress {
            owner: found.upgrade_lock.as_ref().map(|lock| lock.owner_id.clone()).unwrap_or_default(),
        })?;
        let known = &self.format().configuration;
        let is_same = check_supported(&found).is_ok()
            && found.secret == known.secret
            && found.master_key == known.master_key
            && (found.version, found.index_version) == (known.version, known.index_version)
            && index_sets(&found) == index_sets(known);
        // Packs of old versions carry a copy of these very bytes.
        let is_copied = !known.enable_password_change && stored != self.format().stored;
        if is_same && !is_copied { Ok(()) } else { Err(replaced()) }
    }
}

/// Refuses by name what is unknown here.
pub(crate) fn check_supported(configuration: &Configuration) -> Result<(), OpenError> {
    if !(1..=3).contains(&configuration.version) {
        return Err(Unsupported::new("format version", &configuration.version.to_string()).into());
    }
    if !configuration.splitter.is_empty() && codec::split::Algorithm::from_kopia_name(&configuration.splitter).is_none()
    {
        return Err(Unsupported::new("splitter", &configuration.splitter).into());
    }
    for required in configuration.required_features.iter().flatten() {
        if !KNOWN_FEATURES.contains(&required.feature.as_str()) && !required.if_not_understood.warn {
            return Err(Unsupported::new("required feature", &required.feature).into());
        }
    }
    Crypto::new(configuration).map(|_| ())
}

/// How it keeps its index blobs.
pub(crate) fn index_sets(configuration: &Configuration) -> IndexSets {
    if configuration.epoch_parameters.enabled { IndexSets::Epochs } else { IndexSets::Legacy }
}

/// Refuses while somebody upgrades the repository.
pub(crate) fn check_unlocked(configuration: &Configuration, clock: &dyn Clock) -> Result<(), OpenError> {
    match &configuration.upgrade_lock {
        Some(lock) if lock.is_locked(clock.now()) => Err(OpenError::UpgradeInProgress { owner: lock.owner_id.clone() }),
        _ => Ok(()),
    }
}
