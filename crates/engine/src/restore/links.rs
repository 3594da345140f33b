//! Hard links: the first name that is met of a file becomes a file, the others are linked to it when all data is written.
//!
//! Memory: some 200 bytes a file with several names and 100 for each name beyond the first.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use repository::{Entry, EntryKind, HardLink, Special, SpecialKind, Xattr};
use rustix::io::Errno;

use super::Context;
use super::attributes::Attributes;
use super::error::RestoreError;
use super::tally::{Problem, Tally};
use super::target::{self, Folder};
use super::write::Writer;
use crate::meter::Counter;
use crate::shortfall::ShortfallKind;

/// Files with several names, as far as they were met.
#[derive(Default)]
pub(crate) struct Links {
    firsts: HashMap<HardLink, First>,
    others: Vec<Other>,
}

/// The name that becomes a file of its own.
struct First {
    folder: Arc<Folder>,
    name: Vec<u8>,
    file: Linked,
    is_restored: Arc<AtomicBool>,
}

/// The other names that wait for a file, if there are any.
#[derive(Debug, Default)]
pub(crate) struct Waiting(Option<Arc<AtomicBool>>);

impl Waiting {
    /// It is restored.
    pub(crate) fn end(&self) {
        if let Some(is_restored) = &self.0 {
            is_restored.store(true, Ordering::Release);
        }
    }
}

/// What all names of one file have in common. Not their data's id: the same bytes have another one where they were stored
/// under another policy, and a name that was another file when it was read is no longer one of several in the snapshot.
#[derive(PartialEq)]
pub(crate) struct Linked {
    what: What,
    attributes: Attributes,
    size_bytes: u64,
    xattrs: Vec<Xattr>,
}

#[derive(Clone, Copy, PartialEq)]
enum What {
    File,
    Symlink,
    Special(SpecialKind),
}

struct Other {
    folder: Arc<Folder>,
    name: Vec<u8>,
    link: HardLink,
}

/// What to do with a name.
pub(crate) enum Met {
    /// To be restored; others wait for it.
    First(Waiting),
    /// Nothing: it is linked later.
    Other,
    /// To be restored as a file of its own: the snapshot says something else of the file under this name, so that it was
    /// changed while it was backed up.
    Apart,
}

impl Linked {
    /// A directory has no other names.
    pub(crate) fn of_entry(entry: &Entry) -> Self {
        Self {
            what: if entry.kind == EntryKind::Symlink { What::Symlink } else { What::File },
            attributes: Attributes::from(entry),
            size_bytes: entry.size_bytes,
            xattrs: entry.xattrs().to_vec(),
        }
    }

    pub(crate) fn of_special(special: &Special) -> Self {
        Self {
            what: What::Special(special.kind),
            attributes: Attributes::from(special),
            size_bytes: 0,
            xattrs: special.xattrs.clone(),
        }
    }
}

impl Links {
    /// A name of a file that has several. Its folder is not done before [`Links::finish`].
    pub(crate) fn meet(&mut self, link: HardLink, folder: &Arc<Folder>, name: &[u8], file: Linked) -> Met {
        match self.firsts.entry(link) {
            Slot::Occupied(first) if first.get().file != file => Met::Apart,
            Slot::Occupied(_) => {
                self.others.push(Other { folder: Arc::clone(folder), name: name.to_vec(), link });
                folder.hold();
                Met::Other
            }
            Slot::Vacant(slot) => {
                folder.hold();
                let is_restored = Arc::new(AtomicBool::new(false));
                let (folder, name) = (Arc::clone(folder), name.to_vec());
                slot.insert(First { folder, name, file, is_restored: Arc::clone(&is_restored) });
                Met::First(Waiting(Some(is_restored)))
            }
        }
    }

    /// Makes all links, when what they lead to is written.
    pub(crate) fn finish(self, context: &Context<'_>) -> Result<(), RestoreError> {
        let mut writer = Writer::new(context);
        for other in &self.others {
            if context.run.cancel.is_cancelled() {
                return Err(RestoreError::Interrupted);
            }
            if let Some(first) = self.firsts.get(&other.link) {
                match link(&mut writer, first, other) {
                    Ok(()) => first.file.count(context),
                    Err(problem) => context.fail(&other.folder, &other.name, &problem)?,
                }
            }
            writer.release(&other.folder)?;
        }
        self.firsts.values().try_for_each(|first| writer.release(&first.folder))
    }
}

impl Linked {
    fn count(&self, context: &Context<'_>) {
        let tally = &context.tally;
        match self.what {
            What::File => {
                Tally::add(&tally.file_count, 1);
                Tally::add(&tally.linked_bytes, self.size_bytes);
                context.run.meter.add(Counter::FilesDone, 1);
                context.run.meter.add(Counter::BytesDone, self.size_bytes);
            }
            What::Symlink => Tally::add(&tally.symlink_count, 1),
            What::Special(_) => Tally::add(&tally.special_count, 1),
        }
    }
}

fn link(writer: &mut Writer<'_>, first: &First, other: &Other) -> Result<(), Problem> {
    if !first.is_restored.load(Ordering::Acquire) {
        let path = first.folder.path_of(&first.name);
        return Err(Problem::blocked(format!("it is another name of {path}, which is not restored")));
    }
    let from = writer.handles.get(&first.folder)?;
    let directory = writer.handles.get(&other.folder)?;
    let Err(problem) = target::create_hard_link(&*from, &first.name, &*directory, &other.name) else { return Ok(()) };
    let cannot_link = [Errno::PERM, Errno::OPNOTSUPP, Errno::XDEV, Errno::MLINK, Errno::ACCESS, Errno::NOSYS];
    match problem.call {
        Some((target::LINK, errno)) if cannot_link.contains(&errno) => {
            copy(writer, first, other)?;
            let reason = format!("a copy of {}: {}", first.folder.path_of(&first.name), problem.text);
            writer.context.falls_short(ShortfallKind::HardLink, &other.folder, &other.name, reason, false);
            Ok(())
        }
        _ => Err(problem),
    }
}

/// Where names cannot be shared the data still is what it was.
fn copy(writer: &mut Writer<'_>, first: &First, other: &Other) -> Result<(), Problem> {
    let from = writer.handles.get(&first.folder)?;
    let directory = writer.handles.get(&other.folder)?;
    let Linked { what, attributes, xattrs, .. } = &first.file;
    match *what {
        What::File => {
            let of_io = |error: io::Error| Problem::blocked(format!("copy: {error}"));
            let mut source = target::open_to_read(&*from, &first.name)?;
            let mut file: File = target::create_file(&*directory, &other.name, false)?;
            io::copy(&mut source, &mut file).map_err(of_io)?;
            writer.give(&file, attributes, xattrs, &other.folder, &other.name)
        }
        What::Symlink => {
            let to = rustix::fs::readlinkat(&*from, first.name.as_slice(), Vec::new());
            let to = to.map_err(Problem::target("read the symbolic link"))?;
            target::create_link(&*directory, &other.name, to.as_bytes())?;
            writer.give_by_name(attributes, xattrs, &other.folder, &other.name)
        }
        What::Special(kind) => {
            target::create_special(&*directory, &other.name, kind)?;
            writer.give_by_name(attributes, xattrs, &other.folder, &other.name)
        }
    }
}
