//! Owner, mode and times.

use std::os::fd::{AsFd, BorrowedFd};

use jiff::Timestamp;
use repository::{Entry, EntryKind, Special};
use rustix::fs::{AtFlags, FileType, Gid, Mode, Stat, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::Errno;

use super::tally::Problem;

const NANOSECONDS: i128 = 1_000_000_000;
/// Go's zero time as Kopia writes it: nobody knew. Source: Kopia format, "Times".
const UNKNOWN_TIME_NANOSECONDS: i128 = -6_795_364_578_871_345_152;
/// Set-user-id and set-group-id.
const SET_ID: u32 = 0o6000;

/// Whose files the restored ones become.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OwnerMode {
    /// The numeric owner and group of the snapshot; an entry that cannot have them is a failed entry.
    Restore,
    /// Whoever runs this program.
    Skip,
    /// Those of the snapshot as far as they can be given: root can give nearly all, others their own; else whoever runs
    /// this program.
    #[default]
    Auto,
}

/// What to do about owners, once it is known who runs this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owners {
    Restore,
    RestoreIfAllowed,
    /// Left alone because that was asked for.
    Leave,
}

impl From<OwnerMode> for Owners {
    fn from(mode: OwnerMode) -> Self {
        match mode {
            OwnerMode::Restore => Self::Restore,
            OwnerMode::Skip => Self::Leave,
            OwnerMode::Auto => Self::RestoreIfAllowed,
        }
    }
}

/// What became of the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnerGiven {
    Yes,
    No,
    /// No, and nobody asked for that.
    Skipped,
    /// No, and neither mode nor times: a directory that was there before belongs to somebody else, such as the root of a
    /// volume.
    Foreign,
}

/// What an entry has beside its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) kind: EntryKind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Timestamp,
}

impl From<&Entry> for Attributes {
    fn from(entry: &Entry) -> Self {
        Self { kind: entry.kind, mode: entry.mode, uid: entry.uid, gid: entry.gid, mtime: entry.mtime }
    }
}

impl From<&Special> for Attributes {
    fn from(special: &Special) -> Self {
        let Special { mode, uid, gid, mtime, .. } = *special;
        Self { kind: EntryKind::File, mode, uid, gid, mtime }
    }
}

impl Attributes {
    /// Gives a file or a directory its attributes. The owner first: changing it clears the set-id bits and capabilities.
    /// Then what `give_xattrs` gives: a mode sets the mask of an access control list, not the other way round.
    pub(crate) fn apply(
        &self,
        fd: BorrowedFd<'_>,
        owners: Owners,
        give_xattrs: impl FnOnce(),
    ) -> Result<OwnerGiven, Problem> {
        let given = self.give_owner(owners, |uid, gid| rustix::fs::fchown(fd, Some(uid), Some(gid)))?;
        give_xattrs();
        let mode = Mode::from_raw_mode(self.mode_with(given == OwnerGiven::Yes));
        match rustix::fs::fchmod(fd, mode) {
            Err(Errno::PERM) if given == OwnerGiven::Skipped && self.kind == EntryKind::Directory => {
                return Ok(OwnerGiven::Foreign);
            }
            set => set.map_err(Problem::target("set the mode"))?,
        }
        if let Some(times) = times(self.mtime) {
            rustix::fs::futimens(fd, &times).map_err(Problem::target("set the times"))?;
        }
        Ok(given)
    }

    /// Gives the same to what cannot be opened: a special file, or a symbolic link, which has no mode of its own.
    pub(crate) fn apply_by_name(
        &self,
        directory: impl AsFd,
        name: &[u8],
        owners: Owners,
        give_xattrs: impl FnOnce(),
    ) -> Result<OwnerGiven, Problem> {
        let directory = directory.as_fd();
        let given = self.give_owner(owners, |uid, gid| {
            rustix::fs::chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        })?;
        give_xattrs();
        if self.kind != EntryKind::Symlink {
            let mode = Mode::from_raw_mode(self.mode_with(given == OwnerGiven::Yes));
            rustix::fs::chmodat(directory, name, mode, AtFlags::empty()).map_err(Problem::target("set the mode"))?;
        }
        if let Some(times) = times(self.mtime) {
            rustix::fs::utimensat(directory, name, &times, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(Problem::target("set the times"))?;
        }
        Ok(given)
    }

    fn give_owner(
        &self,
        owners: Owners,
        give: impl FnOnce(Uid, Gid) -> Result<(), Errno>,
    ) -> Result<OwnerGiven, Problem> {
        match owners {
            Owners::Leave => return Ok(OwnerGiven::No),
            Owners::Restore | Owners::RestoreIfAllowed => {}
        }
        // All ones means "leave as it is" to the kernel, and rustix refuses it.
        if self.uid == u32::MAX || self.gid == u32::MAX {
            return Ok(OwnerGiven::Skipped);
        }
        match give(Uid::from_raw(self.uid), Gid::from_raw(self.gid)) {
            Ok(()) => Ok(OwnerGiven::Yes),
            // Without the right to, or with an owner that the user namespace does not have.
            Err(Errno::PERM | Errno::INVAL) if owners == Owners::RestoreIfAllowed => Ok(OwnerGiven::Skipped),
            Err(error) => Err(Problem::target("set the owner")(error)),
        }
    }

    /// A program that runs as its owner must not run as someone else who happens to restore it.
    fn mode_with(&self, owner_given: bool) -> u32 {
        let drops = self.kind == EntryKind::File && !owner_given;
        if drops { self.mode & 0o7777 & !SET_ID } else { self.mode & 0o7777 }
    }

    /// Whether what lies there was finished by an earlier run of the same restore: times are set last.
    pub(crate) fn are_those_of(&self, stat: &Stat, size_bytes: u64, owners: Owners) -> bool {
        let same_kind = match self.kind {
            EntryKind::File => FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile,
            EntryKind::Symlink => FileType::from_raw_mode(stat.st_mode) == FileType::Symlink,
            EntryKind::Directory => false,
        };
        let is_owned = stat.st_uid == self.uid && stat.st_gid == self.gid;
        let (same_owner, mode) = match owners {
            Owners::Restore => (is_owned, self.mode_with(true)),
            Owners::RestoreIfAllowed => (is_owned || !rustix::process::geteuid().is_root(), self.mode_with(is_owned)),
            Owners::Leave => (true, self.mode_with(false)),
        };
        let same_mode = self.kind == EntryKind::Symlink || stat.st_mode & 0o7777 == mode;
        let mtime = i128::from(stat.st_mtime) * NANOSECONDS + i128::from(stat.st_mtime_nsec);
        same_kind
            && same_mode
            && same_owner
            && u64::try_from(stat.st_size).is_ok_and(|bytes| bytes == size_bytes)
            && mtime == self.mtime.as_nanosecond()
    }
}

/// Nothing when the time is not known.
fn times(mtime: Timestamp) -> Option<Timestamps> {
    let nanoseconds = mtime.as_nanosecond();
    if nanoseconds == UNKNOWN_TIME_NANOSECONDS {
        return None;
    }
    Some(Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec {
            tv_sec: nanoseconds.div_euclid(NANOSECONDS) as i64,
            tv_nsec: nanoseconds.rem_euclid(NANOSECONDS) as _,
        },
    })
}
