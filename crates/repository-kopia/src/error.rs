//! What can go wrong with a Kopia repository.

use repository::{ContentId, PackId};
use storage::Class;

/// Something in a repository that this program does not implement. It is refused by name, never guessed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {name:?} is not supported")]
pub struct Unsupported {
    what: &'static str,
    name: String,
}

impl Unsupported {
    pub(crate) fn new(what: &'static str, name: &str) -> Self {
        Self { what, name: name.to_owned() }
    }
}

/// A choice for a new repository that the format does not have, or not together with another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadOption {
    /// Not a percentage.
    #[error("error correction may add 0 to 100 percent")]
    EccOverhead,
    /// An index of version 1 cannot tell the lengths that error correction makes.
    #[error("format version 1 has no error correction")]
    EccInVersion1,
    /// Kopia refuses others.
    #[error("a pack may be 10 to 120 MiB long")]
    PackSize,
    /// Kopia refuses others.
    #[error("new objects are locked for a day at least")]
    RetentionPeriod,
}

/// Opening or creating a repository went wrong.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store failed.
    #[error("{operation}")]
    Storage {
        /// What was being done.
        operation: &'static str,
        /// The store's answer.
        #[source]
        source: storage::Error,
    },
    /// The store is there and holds no format blob.
    #[error("no Kopia repository at {address}: there is no kopia.repository")]
    NotInitialized {
        /// The store.
        address: String,
        /// True when the store holds nothing at all.
        empty: bool,
    },
    /// A new repository needs an empty place.
    #[error("{address} is not empty: it holds {found}")]
    NotEmpty {
        /// The store.
        address: String,
        /// One of the objects found.
        found: String,
    },
    /// The password does not open the format blob, or that blob is damaged: the two cannot be told apart.
    #[error("kopia.repository does not open with this password")]
    WrongPassword,
    /// The password cannot be used for a new repository.
    #[error("a password must not be empty and must not begin or end with white space")]
    BadPassword,
    /// The repository's keys hang on its password.
    #[error("the password of this repository cannot be changed: its keys are derived from it (format version 1)")]
    PasswordFixed,
    /// The new repository cannot be what was asked for.
    #[error(transparent)]
    BadOption(#[from] BadOption),
    /// `kopia.repository` is no format blob.
    #[error("kopia.repository is damaged: it does not parse")]
    ParseFormatBlob(#[source] serde_json::Error),
    /// `kopia.blobcfg` does not open with the key of `kopia.repository`.
    #[error("kopia.blobcfg is damaged, or belongs to another repository")]
    DamagedBlobcfg(#[source] codec::Error),
    /// `kopia.blobcfg` opens, but is not what it should be.
    #[error("kopia.blobcfg is damaged: it does not parse")]
    ParseBlobcfg(#[source] serde_json::Error),
    /// Deriving a key failed.
    #[error("derive the repository's keys")]
    DeriveKey(#[source] codec::Error),
    /// The repository uses something unknown here.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// Someone else is upgrading the repository.
    #[error("the repository is being upgraded by {owner}")]
    UpgradeInProgress {
        /// Who holds the lock.
        owner: String,
    },
    /// No index blob opens with the keys of `kopia.repository`.
    #[error("none of {count} index blobs opens with the keys of kopia.repository: it belongs to another repository")]
    ForeignIndex {
        /// How many were tried.
        count: usize,
    },
    /// Loading the index failed.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// Writing the first records failed.
    #[error("write the first policies")]
    FirstRecords(#[source] Box<WriteError>),
}

impl OpenError {
    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Storage { source, .. } => source.class(),
            Self::NotInitialized { .. }
            | Self::NotEmpty { .. }
            | Self::WrongPassword
            | Self::BadPassword
            | Self::PasswordFixed
            | Self::BadOption(_) => Class::Blocked,
            Self::ParseFormatBlob(_) | Self::DamagedBlobcfg(_) | Self::ParseBlobcfg(_) => Class::Damaged,
            Self::DeriveKey(_) => Class::Bug,
            Self::Unsupported(_) => Class::Blocked,
            Self::UpgradeInProgress { .. } => Class::Retry,
            Self::ForeignIndex { .. } => Class::Damaged,
            Self::Index(error) => error.class(),
            Self::FirstRecords(error) => error.class(),
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Storage { source, .. } => source.hint(),
            Self::NotInitialized { .. } => {
                Some("check the address and the prefix; `perennial repository create` makes a new repository there")
            }
            Self::NotEmpty { .. } => Some("choose an empty place, or open what is there"),
            Self::WrongPassword => Some(
                "check the password; if it is right, kopia.repository is damaged: `perennial repair` looks for copies of it",
            ),
            Self::BadPassword => Some("choose another password"),
            Self::BadOption(BadOption::EccInVersion1) => Some("choose version 2 or 3, or leave error correction out"),
            Self::BadOption(_) => Some("choose another value"),
            Self::PasswordFixed => Some("make a new repository and back up to that one"),
            Self::DamagedBlobcfg(_) => Some(
                "if a change of the password was cut off, run `perennial repository password` again with the same two \
                 passwords; else put a copy of this object back, from a replica or an older version of the bucket",
            ),
            Self::ParseFormatBlob(_) | Self::ParseBlobcfg(_) => Some(
                "put a copy of this object back, from a replica or an older version of the bucket; without one, try `perennial repair`",
            ),
            Self::DeriveKey(_) => None,
            Self::Unsupported(_) => Some("open this repository with kopia"),
            Self::UpgradeInProgress { .. } => Some("wait until the upgrade has ended"),
            Self::ForeignIndex { .. } => Some(
                "the place was probably wiped and created anew while another program still held the old keys; \
                 put the old kopia.repository and kopia.blobcfg back to read what it wrote",
            ),
            Self::Index(error) => error.hint(),
            Self::FirstRecords(error) => error.hint(),
        }
    }
}

/// The index could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The store failed.
    #[error("{operation}")]
    Storage {
        /// What was being done.
        operation: String,
        /// The store's answer.
        #[source]
        source: storage::Error,
    },
    /// An index blob does not decrypt or its bytes make no sense.
    #[error("index blob {blob} is damaged: {detail}")]
    Damaged {
        /// The object.
        blob: String,
        /// What is wrong with it.
        detail: String,
    },
    /// A compaction log does not decrypt or makes no sense: which index blobs it replaced is unknown.
    #[error("compaction log {blob} is damaged: {detail}")]
    DamagedLog {
        /// The object.
        blob: String,
        /// What is wrong with it.
        detail: String,
    },
    /// Index blobs kept disappearing while they were read.
    #[error("index blob {blob} was listed but is gone, {attempts} times in a row")]
    Vanishing {
        /// The object.
        blob: String,
        /// How often the list was read anew.
        attempts: u32,
    },
    /// The merged index, or what else waits in files on this machine, could not be kept or read.
    #[error("{operation}")]
    Table {
        /// What was being done, and with which file.
        operation: String,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
}

impl IndexError {
    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Storage { source, .. } => source.class(),
            Self::Damaged { .. } | Self::DamagedLog { .. } => Class::Damaged,
            Self::Vanishing { .. } => Class::Retry,
            Self::Table { .. } => Class::Blocked,
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Storage { source, .. } => source.hint(),
            Self::Damaged { .. } => Some(
                "put a copy of the object back; without one, `perennial repair` rebuilds its entries from the packs",
            ),
            Self::DamagedLog { .. } => Some(
                "put a copy of the object back; without one, move it away: the index blobs that it replaced count again",
            ),
            Self::Vanishing { .. } => Some("another program is rewriting the index; try again"),
            Self::Table { .. } => Some("check room and rights on the disk of the cache directory, or name another one"),
        }
    }
}

/// A content could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// The index does not know it.
    #[error("content {content} is in no index")]
    Unknown {
        /// Which.
        content: ContentId,
    },
    /// Its pack could not be read.
    #[error("read content {content} from pack {pack} at {offset}, {length_bytes} bytes")]
    Read {
        /// Which.
        content: ContentId,
        /// Where it should be.
        pack: PackId,
        /// Where in it.
        offset: u64,
        /// How much of it.
        length_bytes: u64,
        /// The store's answer.
        #[source]
        source: storage::Error,
    },
    /// Its bytes are wrong.
    #[error("content {content} in pack {pack} is damaged: {detail}")]
    Damaged {
        /// Which.
        content: ContentId,
        /// Where it is.
        pack: PackId,
        /// What is wrong.
        detail: String,
    },
    /// It uses something unknown here.
    #[error("content {content}")]
    Unsupported {
        /// Which.
        content: ContentId,
        /// What.
        #[source]
        source: Unsupported,
    },
    /// Whether the index knows it could not be told.
    #[error("look content {content} up")]
    LookUp {
        /// Which.
        content: ContentId,
        /// Why not.
        #[source]
        source: IndexError,
    },
}

impl ContentError {
    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Unknown { .. } | Self::Damaged { .. } => Class::Damaged,
            Self::Read { source, .. } => source.class(),
            Self::Unsupported { .. } => Class::Blocked,
            Self::LookUp { source, .. } => source.class(),
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unknown { .. } | Self::Damaged { .. } => Some("run `perennial verify` to learn what is affected"),
            Self::Read { source, .. } => source.hint(),
            Self::Unsupported { .. } => Some("open this repository with kopia"),
            Self::LookUp { source, .. } => source.hint(),
        }
    }
}

/// A record inside the repository (directory, indirect object, manifest) could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A content behind it could not be had.
    #[error("{what}")]
    Content {
        /// What was being read.
        what: String,
        /// Why not.
        #[source]
        source: ContentError,
    },
    /// Its bytes make no sense.
    #[error("{what} is damaged: {detail}")]
    Damaged {
        /// What was being read.
        what: String,
        /// What is wrong.
        detail: String,
    },
    /// The index could not be searched.
    #[error(transparent)]
    Index(#[from] IndexError),
}

impl ReadError {
    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Index(error) => error.class(),
            Self::Content { source, .. } => source.class(),
            Self::Damaged { .. } => Class::Damaged,
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Index(error) => error.hint(),
            Self::Content { source, .. } => source.hint(),
            Self::Damaged { .. } => Some("run `perennial verify` to learn what is affected"),
        }
    }
}

/// Writing to the repository failed. What was there before is untouched.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The store failed.
    #[error("{operation}")]
    Storage {
        /// What was being done.
        operation: String,
        /// The store's answer.
        #[source]
        source: storage::Error,
    },
    /// A cipher, compressor or the random generator failed.
    #[error("seal content {content}")]
    Seal {
        /// Which.
        content: ContentId,
        /// Why.
        #[source]
        source: codec::Error,
    },
    /// A whole blob could not be sealed.
    #[error("seal {blob}")]
    SealBlob {
        /// What kind of blob.
        blob: &'static str,
        /// Why.
        #[source]
        source: codec::Error,
    },
    /// What was sealed does not open to what it was made from. Nothing of it was uploaded.
    #[error("content {content} does not read back as it was written: memory or processor are not to be trusted")]
    ReadsBackDifferently {
        /// Which.
        content: ContentId,
    },
    /// A content is longer than an index can say.
    #[error("content {content} has {length_bytes} bytes, more than an index can hold")]
    TooLong {
        /// Which.
        content: ContentId,
        /// How long it is.
        length_bytes: u64,
    },
    /// The write epoch moved on twice while index blobs were written; they were taken back.
    #[error("writing the index took so long that its epoch {epoch} was closed meanwhile")]
    TooSlow {
        /// The epoch.
        epoch: u64,
    },
    /// The epochs could not be read, or the index not be searched.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// Someone else is upgrading the repository: nothing may be written meanwhile.
    #[error("the repository is being upgraded by {owner}")]
    UpgradeInProgress {
        /// Who holds the lock.
        owner: String,
    },
    /// The format blob changed under us: the repository was replaced or is being upgraded.
    #[error("the repository at {address} is no longer the one that was opened")]
    Replaced {
        /// The store.
        address: String,
    },
    /// The record to change could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A thread gave up on something that it had begun to write; its own error says why.
    #[error("another part of the run gave up")]
    GivenUp,
    /// Without the whole index nobody knows what is there already.
    #[error("nothing is written while part of the index is unreadable: {detail}")]
    DamagedIndex {
        /// The first index blob that could not be read.
        detail: String,
    },
    /// What was written into the index is not found there.
    #[error("content {content} was written into the index and is not found there")]
    NotReadBack {
        /// Which.
        content: ContentId,
    },
    /// This machine's clock and the store's differ too much.
    #[error("the store's clock is {skew_seconds} seconds ahead of this machine's")]
    ClockSkew {
        /// Store minus machine.
        skew_seconds: i64,
    },
}

impl WriteError {
    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Storage { source, .. } => source.class(),
            Self::Seal { .. } | Self::SealBlob { .. } | Self::TooLong { .. } => Class::Bug,
            Self::ReadsBackDifferently { .. } => Class::Blocked,
            Self::TooSlow { .. } | Self::UpgradeInProgress { .. } => Class::Retry,
            Self::Index(error) => error.class(),
            Self::Replaced { .. } | Self::ClockSkew { .. } => Class::Blocked,
            Self::Read(error) => error.class(),
            Self::DamagedIndex { .. } => Class::Damaged,
            Self::NotReadBack { .. } => Class::Retry,
            Self::GivenUp => Class::Bug,
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Storage { source, .. } => source.hint(),
            Self::Seal { .. } | Self::SealBlob { .. } | Self::TooLong { .. } | Self::GivenUp => None,
            Self::ReadsBackDifferently { .. } => Some("test this machine's memory before using it for backups"),
            Self::TooSlow { .. } | Self::NotReadBack { .. } => Some("try again"),
            Self::UpgradeInProgress { .. } => Some("wait until the upgrade has ended"),
            Self::Index(error) => error.hint(),
            Self::Replaced { .. } => Some("check who wiped or upgraded it; then run again"),
            Self::Read(error) => error.hint(),
            Self::DamagedIndex { .. } => Some(
                "put a copy of the index blob back; without one, `perennial repair` rebuilds its entries from the packs",
            ),
            Self::ClockSkew { .. } => {
                Some("set the clocks; their difference decides what garbage collection may remove")
            }
        }
    }
}
