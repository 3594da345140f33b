//! The ledger's objects: one sealed record per claim.
//!
//! Records lie at the store's prefix under [`api::naming::LEDGER_PREFIX`] and are the only objects of ours that are
//! written over. In a directory the names are plain paths, whatever the repository's own layout is. The key is derived
//! from the repository's secrets: where every claim has its own repository, each record opens with its own one only.

use std::sync::Arc;

use api::ledger::{KEY_PURPOSE, LedgerEntry, LedgerError, open, seal};
use api::naming::{ClaimKey, LEDGER_PREFIX};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use repository_kopia::Repository;
use storage::{Class, ErrorKind, Layout, ObjectKey, PutMode, Storage};

use crate::environment::Environment;
use crate::place::Place;

/// Records read at the same time.
const READS_IN_FLIGHT: usize = 16;

/// The ledger of one store, as far as one repository's key goes.
pub struct Ledger {
    storage: Arc<dyn Storage>,
    key: [u8; 32],
}

/// A record that could not be had. That is never the same as no record.
#[derive(Debug, thiserror::Error)]
pub enum LedgerReadError {
    /// The store failed.
    #[error("read ledger record {name}")]
    Storage {
        /// The object.
        name: String,
        /// The store's answer.
        #[source]
        source: storage::Error,
    },
    /// It cannot be believed.
    #[error("ledger record {name}")]
    Record {
        /// The object.
        name: String,
        /// Why not.
        #[source]
        source: LedgerError,
    },
    /// It is about another claim than its name says: somebody moved it.
    #[error("ledger record {name} is that of {claim}")]
    OtherClaim {
        /// The object.
        name: String,
        /// Whose it is.
        claim: ClaimKey,
    },
}

impl LedgerReadError {
    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Storage { source, .. } => source.class(),
            Self::Record { source, .. } => match source.class() {
                api::exit::Class::Retry => Class::Retry,
                api::exit::Class::Blocked => Class::Blocked,
                api::exit::Class::Damaged => Class::Damaged,
                api::exit::Class::Bug => Class::Bug,
            },
            Self::OtherClaim { .. } => Class::Damaged,
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Storage { source, .. } => source.hint(),
            Self::Record { source: LedgerError::Newer { .. }, .. } => {
                Some("use the version that wrote it, or a newer one")
            }
            Self::Record { .. } | Self::OtherClaim { .. } => Some(
                "check who changed it and whether this is the right repository; then pin the repository's id, \
                 and the next backup writes the record anew",
            ),
        }
    }
}

impl Ledger {
    /// The ledger at `place`, with the key of `repository`.
    ///
    /// # Errors
    /// When the store's root cannot be opened.
    pub fn open(environment: &Environment, place: &Place, repository: &Repository) -> Result<Self, storage::Error> {
        Ok(Self { storage: environment.open(&place.store, Layout::Plain)?, key: repository.derive_key(KEY_PURPOSE) })
    }

    /// The claim's record; none if there is none.
    ///
    /// # Errors
    /// When the store fails, or the record cannot be believed.
    pub async fn read(&self, claim: &ClaimKey) -> Result<Option<LedgerEntry>, LedgerReadError> {
        let name = claim.ledger_object();
        let sealed = match self.storage.get(&ObjectKey::new(name.as_str())).await {
            Ok(sealed) => sealed,
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(LedgerReadError::Storage { name, source }),
        };
        let entry = match open(&sealed, &self.key) {
            Ok(entry) => entry,
            Err(source) => return Err(LedgerReadError::Record { name, source }),
        };
        if entry.claim != *claim {
            return Err(LedgerReadError::OtherClaim { name, claim: entry.claim });
        }
        Ok(Some(entry))
    }

    /// Writes the record of its claim, over the old one.
    ///
    /// # Errors
    /// When the store fails; then the old record stands.
    pub async fn write(&self, entry: &LedgerEntry) -> Result<(), storage::Error> {
        let key = ObjectKey::new(entry.claim.ledger_object());
        self.storage.put(&key, Bytes::from(seal(entry, &self.key)), PutMode::Replace).await
    }

    /// Every record by claim, those that cannot be had with the reason. Names that are no record's are left out.
    ///
    /// # Errors
    /// When the listing does not reach its end.
    pub async fn read_all(
        &self,
    ) -> Result<Vec<(ClaimKey, Result<Option<LedgerEntry>, LedgerReadError>)>, storage::Error> {
        let objects: Vec<_> = self.storage.list(LEDGER_PREFIX).try_collect().await?;
        let mut claims: Vec<ClaimKey> =
            objects.iter().filter_map(|object| ClaimKey::of_ledger_object(object.key.as_str())).collect();
        claims.sort();
        Ok(futures::stream::iter(claims)
            .map(|claim| async move {
                let read = self.read(&claim).await;
                (claim, read)
            })
            .buffered(READS_IN_FLIGHT)
            .collect()
            .await)
    }
}
