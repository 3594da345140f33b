//! How long the packs in the store are.

use codec::digest::{Algorithm, KeyedHash};
use futures::TryStreamExt as _;
use repository::PackId;
use storage::Storage;

use crate::error::IndexError;
use crate::pack::{PackKind, is_pack_name};

/// Domain of the hashes that stand for names.
const HASH_KEY: &[u8] = b"perennial: names of packs";

/// The lengths of all packs that a listing has. Memory: 24 bytes a pack.
#[derive(Debug)]
pub(crate) struct PackSizes {
    hash: KeyedHash,
    /// Hash of the name, and length in bytes; sorted.
    sizes: Vec<([u8; 16], u64)>,
}

impl PackSizes {
    /// Lists all packs; `each` sees every one.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn list(storage: &dyn Storage, mut each: impl FnMut(&PackId, u64)) -> Result<Self, IndexError> {
        let mut listed = Self { hash: name_hash(), sizes: Vec::new() };
        for kind in [PackKind::Data, PackKind::Metadata] {
            let mut listing = storage.list(&kind.prefix().to_string());
            let failed = |source| IndexError::Storage { operation: "list packs".to_owned(), source };
            while let Some(object) = listing.try_next().await.map_err(failed)? {
                if !is_pack_name(object.key.as_str()) {
                    continue;
                }
                let pack = PackId::new(object.key.as_str());
                listed.sizes.push((short(&listed.hash, &pack), object.size_bytes));
                each(&pack, object.size_bytes);
            }
        }
        listed.sizes.sort_unstable();
        Ok(listed)
    }

    /// The length of a pack in bytes, if it is there.
    pub(crate) fn get(&self, pack: &PackId) -> Option<u64> {
        let name = short(&self.hash, pack);
        self.sizes.binary_search_by_key(&name, |(name, _)| *name).ok().map(|at| self.sizes[at].1)
    }

    pub(crate) fn len(&self) -> usize {
        self.sizes.len()
    }
}

/// Names of packs. Memory: 16 bytes a pack.
pub(crate) struct PackSet {
    hash: KeyedHash,
    names: Vec<[u8; 16]>,
}

impl PackSet {
    /// # Errors
    /// The first error of `packs`.
    pub(crate) fn new(packs: impl Iterator<Item = Result<PackId, IndexError>>) -> Result<Self, IndexError> {
        let hash = name_hash();
        let mut names = packs.map(|pack| Ok(short(&hash, &pack?))).collect::<Result<Vec<_>, IndexError>>()?;
        names.sort_unstable();
        Ok(Self { hash, names })
    }

    pub(crate) fn contains(&self, pack: &PackId) -> bool {
        self.names.binary_search(&short(&self.hash, pack)).is_ok()
    }
}

fn name_hash() -> KeyedHash {
    KeyedHash::new(Algorithm::Blake2b256_128, HASH_KEY).expect("the key has a length that this hash takes")
}

fn short(hash: &KeyedHash, pack: &PackId) -> [u8; 16] {
    hash.hash(pack.as_str().as_bytes()).as_bytes().try_into().expect("this hash has 16 bytes")
}
