//! What a repository must be like to be used here.
//!
//! Source: Kopia format, "Required features", "Upgrade lock", "Compatibility refusals".

use repository::Clock;

use crate::content::Crypto;
use crate::error::{OpenError, Unsupported};
use crate::format_blob::Configuration;
use crate::index::IndexSets;

/// Features that need no understanding beyond what is here.
const KNOWN_FEATURES: [&str; 2] = ["index-v1", "index-v2"];

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
