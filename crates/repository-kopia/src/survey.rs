//! What lies in the store, held against what the index says.
//!
//! Two losses are invisible to anyone who only follows references: an index blob that is gone takes its contents and
//! snapshots with it in silence, and a pack that is gone is noticed when it is needed. Listing all packs finds both.

use futures::TryStreamExt as _;
use repository::{ContentId, PackId};
use storage::ObjectKey;

use crate::blob::session_of;
use crate::error::IndexError;
use crate::index::IndexEntry;
use crate::pack::Postamble;
use crate::pack_sizes::{PackSet, PackSizes};
use crate::repository::Repository;

/// A postamble with the longest hash is shorter, in bytes.
const TAIL_BYTES: u64 = 8192;

/// All packs there are.
#[derive(Debug)]
pub struct Survey {
    packs: PackSizes,
    /// Packs that hold contents which no index lists although their session has ended: an index blob was lost.
    pub lost_to_the_index: Vec<LostPack>,
    /// Packs that no index names, and that do not say what is in them: contents may have been lost to the index.
    pub unreadable: Vec<UnreadablePack>,
    /// Packs of sessions that have not ended: running, or killed. Garbage until their index is written.
    pub unfinished_count: u64,
}

/// A pack that no index names and whose own index cannot be read.
#[derive(Debug)]
pub struct UnreadablePack {
    /// Which.
    pub pack: PackId,
    /// Why not, in words.
    pub detail: String,
    /// It has a local index, which is damaged. Kopia writes packs without one where all contents were deleted at once.
    pub is_damaged: bool,
}

/// A pack with contents that no index lists.
#[derive(Debug)]
pub struct LostPack {
    /// Which.
    pub pack: PackId,
    /// The contents that no index lists.
    pub contents: Vec<ContentId>,
}

impl Survey {
    /// Why a content cannot be where its entry says, if it cannot.
    pub fn problem(&self, entry: &IndexEntry) -> Option<String> {
        let pack = &entry.location.pack;
        match self.packs.get(pack) {
            None => Some(format!("pack {pack} is missing")),
            Some(bytes) if entry.location.end() > bytes => {
                Some(format!("pack {pack} is cut off: {bytes} bytes, {} needed", entry.location.end()))
            }
            Some(_) => None,
        }
    }

    /// How many packs there are.
    pub fn pack_count(&self) -> usize {
        self.packs.len()
    }
}

impl Repository {
    /// Lists all packs, and looks into those that no index entry names.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn survey(&self) -> Result<Survey, IndexError> {
        let failed = |source| IndexError::Storage { operation: "list packs".to_owned(), source };
        let view = self.index();
        let named = PackSet::new(view.index().packs())?;
        let mut unnamed = Vec::new();
        let packs = PackSizes::list(&**self.storage(), |pack, bytes| {
            if !named.contains(pack) {
                unnamed.push((pack.clone(), bytes));
            }
        })
        .await?;
        drop(named);
        let mut survey = Survey { packs, lost_to_the_index: Vec::new(), unreadable: Vec::new(), unfinished_count: 0 };
        let mut sessions = Vec::new();
        let mut markers = self.storage().list("s");
        while let Some(marker) = markers.try_next().await.map_err(failed)? {
            sessions.extend(session_of(marker.key.as_str()).map(str::to_owned));
        }
        for (pack, bytes) in unnamed {
            if session_of(pack.as_str()).is_some_and(|session| sessions.iter().any(|open| open == session)) {
                survey.unfinished_count += 1;
                continue;
            }
            let contents = match self.contents_of_pack(&pack, bytes).await? {
                Ok(contents) => contents,
                Err((is_damaged, detail)) => {
                    survey.unreadable.push(UnreadablePack { pack, detail, is_damaged });
                    continue;
                }
            };
            let mut unlisted = Vec::new();
            for entry in contents {
                let is_dropped =
                    view.deletion_watermark_seconds().is_some_and(|dropped| entry.timestamp_seconds <= dropped);
                if !entry.deleted && !is_dropped && view.index().position(&entry.content)?.is_none() {
                    unlisted.push(entry.content);
                }
            }
            if !unlisted.is_empty() {
                survey.lost_to_the_index.push(LostPack { pack, contents: unlisted });
            }
        }
        survey.lost_to_the_index.sort_by(|a, b| a.pack.cmp(&b.pack));
        survey.unreadable.sort_by(|a, b| a.pack.cmp(&b.pack));
        Ok(survey)
    }

    /// What a pack's own local index says; or whether it is damaged, and in words why it cannot be read.
    async fn contents_of_pack(
        &self,
        pack: &PackId,
        bytes: u64,
    ) -> Result<Result<Vec<IndexEntry>, (bool, String)>, IndexError> {
        let key = ObjectKey::new(pack.as_str());
        let failed = |source| IndexError::Storage { operation: format!("read the end of pack {pack}"), source };
        let tail_bytes = bytes.min(TAIL_BYTES);
        let tail = self.storage().get_range(&key, bytes - tail_bytes, tail_bytes).await.map_err(failed)?;
        let Some(postamble) = Postamble::find(&tail) else {
            return Ok(Err((false, "it does not end in a local index".to_owned())));
        };
        if postamble.offset.checked_add(postamble.length_bytes).is_none_or(|end| end > bytes) {
            return Ok(Err((true, "its local index is said to lie outside of it".to_owned())));
        }
        let sealed = self.storage().get_range(&key, postamble.offset, postamble.length_bytes).await.map_err(failed)?;
        Ok(postamble.open_index(self.crypto(), &mut Vec::from(sealed)).map_err(|detail| (true, detail)))
    }
}
