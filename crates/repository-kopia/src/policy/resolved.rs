//! What a backup needs to know of a policy, resolved to values.

use crate::error::Unsupported;
use crate::retention::Retention;

use super::{CompressionJson, FilesJson, NO_COMPRESSION, PolicyJson, clamp};

/// What a backup and its retention need to know of a source's effective policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Which snapshots to keep.
    pub retention: Retention,
    /// What compresses file data.
    pub compression: CompressionChoice,
    /// What compresses directory listings and indirect objects; none leaves them as they are.
    pub metadata_compression: Option<codec::compress::Algorithm>,
    /// What cuts files; none means the repository's own splitter.
    pub splitter: Option<codec::split::Algorithm>,
    /// Which files to take.
    pub files: FileRules,
    /// Which failures of single entries do not count.
    pub errors: ErrorHandling,
    /// Files of more bytes are cut at multiples of this length and uploaded as independent parts; none never does.
    pub parallel_upload_above_bytes: Option<u64>,
    /// How many files to read at once, at least one; none leaves it to the program.
    pub parallel_file_reads: Option<u32>,
    /// A backup that finds nothing changed leaves no snapshot.
    pub ignore_identical_snapshots: bool,
}

/// Which files to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRules {
    /// Rules at the policy's directory, for [`crate::ignore::Rules::root`].
    pub ignore: Vec<String>,
    /// Names of the files in which directories hold further rules.
    pub ignore_dot_files: Vec<String>,
    /// Store directories that are marked as caches empty.
    pub ignore_cache_dirs: bool,
    /// Leave out what is larger, in bytes; never zero.
    pub max_file_bytes: Option<u64>,
    /// Leave out what lies on another device than its parent.
    pub one_file_system: bool,
}

/// Which failures of single entries do not count as such.
///
/// Source: Kopia format, "Errors".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorHandling {
    /// Files that cannot be read.
    pub ignore_file_errors: bool,
    /// Directories that cannot be read.
    pub ignore_directory_errors: bool,
    /// Sockets, pipes, devices and the like.
    pub ignore_unknown_types: bool,
}

impl Policy {
    /// Takes the members that matter here out of a document, usually an [`effective`] one.
    ///
    /// Unset members count as in a policy that inherits nothing. An unknown splitter is the repository's. Errors:
    /// [`Unsupported`] for a compressor that is unknown or that can only be read.
    pub(crate) fn resolve(document: &PolicyJson) -> Result<Self, Unsupported> {
        let errors = &document.error_handling;
        let upload = &document.upload;
        Ok(Self {
            retention: document.retention.resolve(),
            compression: CompressionChoice::resolve(&document.compression)?,
            metadata_compression: compressor(&document.metadata_compression.compressor_name)?,
            splitter: codec::split::Algorithm::from_kopia_name(&document.splitter.algorithm),
            files: FileRules::resolve(&document.files),
            errors: ErrorHandling {
                ignore_file_errors: errors.ignore_file_errors.unwrap_or(false),
                ignore_directory_errors: errors.ignore_directory_errors.unwrap_or(false),
                ignore_unknown_types: errors.ignore_unknown_types.unwrap_or(true),
            },
            parallel_upload_above_bytes: upload.parallel_upload_above_size.and_then(positive),
            parallel_file_reads: upload.max_parallel_file_reads.map(clamp).filter(|count| *count > 0),
            ignore_identical_snapshots: document.retention.ignore_identical_snapshots.unwrap_or(false),
        })
    }
}

impl FileRules {
    fn resolve(document: &FilesJson) -> Self {
        Self {
            ignore: document.ignore.clone(),
            ignore_dot_files: document.ignore_dot_files.clone(),
            ignore_cache_dirs: document.ignore_cache_dirs.unwrap_or(true),
            max_file_bytes: positive(document.max_file_size),
            one_file_system: document.one_file_system.unwrap_or(false),
        }
    }
}

fn positive(bytes: i64) -> Option<u64> {
    u64::try_from(bytes).ok().filter(|bytes| *bytes > 0)
}

fn compressor(name: &str) -> Result<Option<codec::compress::Algorithm>, Unsupported> {
    if name.is_empty() || name == NO_COMPRESSION {
        return Ok(None);
    }
    codec::compress::Algorithm::from_kopia_name(name)
        .filter(codec::compress::Algorithm::writable)
        .map(Some)
        .ok_or_else(|| Unsupported::new("compressor", name))
}

/// What compresses which file.
///
/// Source: Kopia format, "Compression choice for a file".
#[derive(Clone, Debug, PartialEq)]
pub struct CompressionChoice {
    algorithm: Option<codec::compress::Algorithm>,
    only: Vec<String>,
    never: Vec<String>,
    min_bytes: Option<u64>,
    max_bytes: Option<u64>,
}

impl CompressionChoice {
    /// The same for every file; none compresses nothing.
    pub fn always(algorithm: Option<codec::compress::Algorithm>) -> Self {
        Self { algorithm, only: Vec::new(), never: Vec::new(), min_bytes: None, max_bytes: None }
    }

    fn resolve(document: &CompressionJson) -> Result<Self, Unsupported> {
        Ok(Self {
            algorithm: compressor(&document.compressor_name)?,
            only: document.only_compress.clone(),
            never: document.never_compress.clone(),
            min_bytes: positive(document.min_size),
            max_bytes: positive(document.max_size),
        })
    }

    /// Whether any file may be compressed.
    pub fn is_on(&self) -> bool {
        self.algorithm.is_some()
    }

    /// What compresses a file of this name, without directories, and of this size in bytes; none leaves it as it is.
    ///
    /// The list of extensions to compress only overrides the list of those that are not: it excludes no others.
    pub fn for_file(&self, name: &str, size_bytes: u64) -> Option<codec::compress::Algorithm> {
        let too_small = self.min_bytes.is_some_and(|min| size_bytes < min);
        let too_large = self.max_bytes.is_some_and(|max| size_bytes > max);
        if too_small || too_large {
            return None;
        }
        let extension = name.rfind('.').map_or("", |dot| &name[dot..]);
        let lists = |list: &[String]| list.iter().any(|listed| listed == extension);
        if !lists(&self.only) && lists(&self.never) {
            return None;
        }
        self.algorithm
    }
}
