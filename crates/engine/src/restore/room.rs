//! Whether the target can hold what is to be restored, before anything is written.

use std::collections::HashSet;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;

use repository::{Entry, EntryKind};
use repository_kopia::DirectoryListing;

use super::Context;
use super::attributes::Attributes;
use super::error::RestoreError;
use super::fetch::{FetchError, wait};
use super::names::Names;
use super::target::{self, Folder, Handles};
use super::walk::Walk;

/// Refuses what does not fit.
///
/// Only if the whole does not fit beside what is there, it is looked up what is there and will be replaced. Blocks and
/// directories are not counted, nor are holes, whose extent no snapshot tells.
pub(crate) fn check(context: &Context<'_>, entry: &Entry, is_tree: bool) -> Result<(), RestoreError> {
    let whole_bytes = entry.summary.as_ref().map_or(entry.size_bytes, |summary| summary.size_bytes);
    let room = rustix::fs::fstatvfs(&*context.root).map_err(|errno| RestoreError::Target {
        operation: "look up the free space of",
        path: context.target.clone(),
        source: errno.into(),
    })?;
    if room.f_blocks == 0 {
        // A file system without an end of its own, as ramfs is, does not know its room.
        return Ok(());
    }
    let available_bytes = room.f_bavail.saturating_mul(room.f_frsize);
    if is_enough(whole_bytes, available_bytes).is_ok() {
        return Ok(());
    }
    let root = Folder::root(true);
    let there_bytes = match is_tree {
        true => bytes_given_back(context, entry, root)?,
        false => bytes_of_one(context, &mut Handles::new(&context.root), &root, entry),
    };
    is_enough(whole_bytes.saturating_sub(there_bytes), available_bytes)
}

fn is_enough(needed_bytes: u64, available_bytes: u64) -> Result<(), RestoreError> {
    if needed_bytes <= available_bytes { Ok(()) } else { Err(RestoreError::NoRoom { needed_bytes, available_bytes }) }
}

/// Bytes of the target that the restore keeps as they are, writes over or removes.
fn bytes_given_back(context: &Context<'_>, entry: &Entry, root: Arc<Folder>) -> Result<u64, RestoreError> {
    let mut handles = Handles::new(&context.root);
    let mut walk = Walk::new(context.repository, context.run);
    let mut folder_count = 1;
    let mut bytes = 0;
    let mut linked = HashSet::new();
    walk.push(entry, root);
    while let Some((folder, listing)) = walk.next()? {
        let (Ok(listing), Ok(handle)) = (listing, handles.get(&folder)) else { continue };
        if context.delete_extra {
            bytes += bytes_of_extras(context, &handle, &listing)?;
        }
        let mut entries = listing.entries(context.repository);
        // What cannot be read is not restored either.
        while let Ok(Some(some)) = wait(context.run, entries.next())? {
            for entry in some.iter() {
                match entry.kind {
                    EntryKind::Directory if !folder.is_too_deep() => {
                        folder_count += 1;
                        walk.push(entry, folder.child(folder_count, entry.raw_name(), true, Attributes::from(entry)));
                    }
                    EntryKind::Directory => {}
                    // Another name takes no room.
                    EntryKind::File if entry.hard_link().is_some_and(|link| !linked.insert(link)) => {
                        bytes += entry.size_bytes;
                    }
                    EntryKind::File | EntryKind::Symlink => {
                        bytes += bytes_of_one(context, &mut handles, &folder, entry);
                    }
                }
            }
        }
    }
    Ok(bytes)
}

fn bytes_of_extras(context: &Context<'_>, handle: &OwnedFd, listing: &DirectoryListing) -> Result<u64, FetchError> {
    let Ok(names) = wait(context.run, Names::read(context.repository, listing))? else { return Ok(0) };
    let specials: HashSet<&[u8]> = listing.side.specials.iter().map(|special| special.name.as_slice()).collect();
    let extras = target::extra_names(handle.as_fd(), |name| names.has(name) || specials.contains(name));
    Ok(extras.unwrap_or_default().iter().map(|name| target::allocated_bytes(handle.as_fd(), name, 0)).sum())
}

fn bytes_of_one(context: &Context<'_>, handles: &mut Handles, folder: &Folder, entry: &Entry) -> u64 {
    let Ok(handle) = handles.get(folder) else { return 0 };
    let Ok(Some(stat)) = target::look_up(&*handle, entry.raw_name()) else { return 0 };
    let finished = context.resumes && Attributes::from(entry).are_those_of(&stat, entry.size_bytes, context.owners);
    if finished { entry.size_bytes } else { target::allocated(&stat) }
}

#[cfg(test)]
mod tests {
    use super::is_enough;

    #[test]
    fn as_much_as_is_needed_is_enough() {
        assert!(is_enough(10, 10).is_ok());
        let error = is_enough(11, 10).unwrap_err();
        assert_eq!(error.to_string(), "the target has room for 10 bytes, and 11 are needed");
        assert_eq!(error.class(), storage::Class::Blocked);
    }
}
