//! Which index blobs count: those of the epochs, or in repositories without epochs all that no compaction replaced.

use std::collections::HashSet;

use storage::{Object, ObjectKey, Storage};

use super::legacy;
use crate::content::Crypto;
use crate::epoch::View;
use crate::error::IndexError;

/// How a repository keeps its index blobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IndexSets {
    /// `xn…`, `xs…` and `xr…` by epoch.
    Epochs,
    /// `n…`, less those that compaction logs `m…` replace.
    Legacy,
}

/// The index blobs that count at one moment.
pub(crate) struct Active {
    /// Without epochs: write epoch 0 and no deletion watermark.
    pub(crate) view: View,
    pub(crate) blobs: Vec<Object>,
    /// Compaction logs that could not be read: more blobs than necessary count for them.
    pub(crate) damage: Vec<IndexError>,
}

/// The index blobs that count, or would if those in `without` were not there.
pub(crate) async fn active(
    storage: &dyn Storage,
    crypto: &Crypto,
    sets: IndexSets,
    without: &HashSet<ObjectKey>,
) -> Result<Active, IndexError> {
    match sets {
        IndexSets::Epochs => {
            let mut blobs = list(storage, "x").await?;
            blobs.retain(|blob| !without.contains(&blob.key));
            let view = View::new(&blobs);
            let keys: HashSet<ObjectKey> = view.complete_index().into_iter().collect();
            blobs.retain(|blob| keys.contains(&blob.key));
            Ok(Active { view, blobs, damage: Vec::new() })
        }
        IndexSets::Legacy => {
            let mut set = legacy::read(storage, crypto).await?;
            set.blobs.retain(|object| !without.contains(&object.key));
            let blobs = set.active().cloned().collect();
            Ok(Active { view: View::default(), blobs, damage: set.damage })
        }
    }
}

pub(crate) async fn read_view(storage: &dyn Storage) -> Result<View, IndexError> {
    Ok(View::new(&list(storage, "x").await?))
}

pub(super) async fn list(storage: &dyn Storage, prefix: &str) -> Result<Vec<Object>, IndexError> {
    use futures::TryStreamExt as _;
    storage
        .list(prefix)
        .try_collect()
        .await
        .map_err(|source| IndexError::Storage { operation: format!("list objects {prefix}…"), source })
}
