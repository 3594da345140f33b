//! Fetched ranges → contents whose hash was checked.

use bytes::Bytes;
use repository_kopia::{ContentError, Location, Repository, Unsealed};
use storage::{ErrorKind, ObjectKey};

use super::fetch::{FetchError, Fetched, wait};
use super::ranges::Wanted;
use crate::run::Run;

/// Hands every content of a range to `take`, one after the other.
///
/// Errors of the store that are not about this content or its pack end up as [`ContentError::Read`] too: whoever takes them
/// looks at their class.
pub(crate) fn each<P, E: From<FetchError>>(
    repository: &Repository,
    run: &Run,
    fetched: Fetched<Vec<Wanted<P>>>,
    mut take: impl FnMut(Wanted<P>, Result<Unsealed<'_>, ContentError>) -> Result<(), E>,
) -> Result<(), E> {
    let Fetched { range, bytes, permit } = fetched;
    let alone = range.wanted.len() == 1;
    match bytes {
        Ok(bytes) => {
            let mut sealed = Vec::from(bytes);
            for wanted in range.wanted {
                let start = (u64::from(wanted.location.offset) - range.offset) as usize;
                let end = start + wanted.location.packed_bytes as usize;
                // A store that gives fewer bytes than asked for breaks its contract; no bytes do not decrypt.
                let part = sealed.get_mut(start..end).unwrap_or_default();
                let content = repository.unseal(&wanted.content, &wanted.location, part);
                take(wanted, content)?;
            }
        }
        // A pack that is cut off still has its beginning.
        Err(error) if error.kind == ErrorKind::Truncated && !alone => {
            for wanted in range.wanted {
                let mut sealed;
                let content = match wait(run, read(repository, &wanted.location)).map_err(E::from)? {
                    Ok(bytes) => {
                        sealed = Vec::from(bytes);
                        repository.unseal(&wanted.content, &wanted.location, &mut sealed)
                    }
                    Err(error) => Err(unread(&wanted, error)),
                };
                take(wanted, content)?;
            }
        }
        Err(error) => {
            for wanted in range.wanted {
                let content = Err(unread(&wanted, again(&error)));
                take(wanted, content)?;
            }
        }
    }
    drop(permit);
    Ok(())
}

async fn read(repository: &Repository, location: &Location) -> Result<Bytes, storage::Error> {
    let key = ObjectKey::new(location.pack.as_str());
    repository.storage().get_range(&key, u64::from(location.offset), u64::from(location.packed_bytes)).await
}

fn unread<P>(wanted: &Wanted<P>, source: storage::Error) -> ContentError {
    let Location { pack, offset, packed_bytes, .. } = &wanted.location;
    ContentError::Read {
        content: wanted.content,
        pack: pack.clone(),
        offset: u64::from(*offset),
        length_bytes: u64::from(*packed_bytes),
        source,
    }
}

fn again(error: &storage::Error) -> storage::Error {
    storage::Error {
        kind: error.kind,
        operation: error.operation.clone(),
        address: error.address.clone(),
        detail: error.detail.clone(),
        retry_after_seconds: error.retry_after_seconds,
    }
}
