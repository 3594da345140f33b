//! Which part of a store is the claim's repository, and where the ledger stands.
//!
//! | layout | the address is | repository | ledger |
//! |---|---|---|---|
//! | Shared | the repository's own | the address | inside it |
//! | PerClaim | the store's | `{namespace}/{pvc}` below it | at the address |
//! | PerClaim | that of a generated Secret, which ends in `{namespace}/{pvc}` | the address | at what stands above |
//!
//! A Secret that somebody wrote for VolSync names one repository, whatever its prefix: its tasks say Shared.

use api::mover::Layout;
use api::naming::ClaimKey;
use storage::{Address, S3Address};

/// Where a claim's things are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The store: what the ledger's names are relative to.
    pub store: Address,
    /// The repository.
    pub repository: Address,
}

impl Place {
    /// By the module's table.
    ///
    /// # Errors
    /// None for names that a [`ClaimKey`] can hold; the store's answer otherwise.
    pub fn new(address: &Address, layout: Layout, claim: &ClaimKey) -> Result<Self, storage::Error> {
        let (store, repository) = match layout {
            Layout::Shared => (address.clone(), address.clone()),
            Layout::PerClaim => match above(address, claim) {
                Some(store) => (store, address.clone()),
                None => (address.clone(), address.join(&claim.repository_prefix())?),
            },
        };
        Ok(Self { store, repository })
    }

    /// The directory of the repository, for a store in a directory.
    pub(crate) fn directory(&self) -> Option<&std::path::Path> {
        match &self.repository {
            Address::Filesystem(path) => Some(path),
            Address::S3(_) => None,
        }
    }
}

/// The address without the claim's own part at its end, if it has it there.
fn above(address: &Address, claim: &ClaimKey) -> Option<Address> {
    let own = claim.repository_prefix();
    match address {
        Address::Filesystem(path) => {
            path.ends_with(&own).then(|| path.ancestors().nth(2))?.map(|path| Address::Filesystem(path.to_owned()))
        }
        Address::S3(address) => {
            let prefix = address.prefix.trim_end_matches('/').strip_suffix(&own)?;
            let is_whole = prefix.is_empty() || prefix.ends_with('/');
            is_whole.then(|| Address::S3(S3Address { prefix: prefix.to_owned(), ..address.clone() }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(address: &str, layout: Layout, store: &str, repository: &str) {
        let claim = ClaimKey::new("media", "photos.1").unwrap();
        let place = Place::new(&Address::parse(address).unwrap(), layout, &claim).unwrap();
        assert_eq!((place.store.to_string(), place.repository.to_string()), (store.to_owned(), repository.to_owned()));
    }

    #[test]
    fn places() {
        check("s3://bucket/x", Layout::Shared, "s3://bucket/x/", "s3://bucket/x/");
        check("s3://bucket", Layout::PerClaim, "s3://bucket", "s3://bucket/media/photos.1/");
        check("s3://bucket/x", Layout::PerClaim, "s3://bucket/x/", "s3://bucket/x/media/photos.1/");
        check("s3://bucket/media/photos.1", Layout::PerClaim, "s3://bucket", "s3://bucket/media/photos.1/");
        check("s3://bucket/x/media/photos.1", Layout::PerClaim, "s3://bucket/x/", "s3://bucket/x/media/photos.1/");
        let other = "s3://bucket/multimedia/photos.1/";
        check(other, Layout::PerClaim, other, "s3://bucket/multimedia/photos.1/media/photos.1/");
        check("/srv", Layout::PerClaim, "file:/srv", "file:/srv/media/photos.1");
        check("/srv/media/photos.1", Layout::PerClaim, "file:/srv", "file:/srv/media/photos.1");
        check("/srv/media/photos.1", Layout::Shared, "file:/srv/media/photos.1", "file:/srv/media/photos.1");
    }
}
