//! Extended attributes, access control lists and capabilities back onto entries.

use std::fmt::Write as _;

use repository::Xattr;
use rustix::io::Errno;

use crate::xattr::{ACCESS_LISTS, LINUX_BYTES_MAX, Place, Xattrs, words};

/// Enough for nearly every list of names.
const LIST_BYTES: usize = 1 << 10;

/// Attributes that an entry lacks now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct NotGiven {
    /// Which, and why, in words.
    pub(crate) reason: String,
    /// Whoever may do more would have given them all.
    pub(crate) for_rights: bool,
}

/// One thread's hand for attributes.
pub(crate) struct Giver {
    calls: Xattrs,
    list: Vec<u8>,
}

impl Giver {
    pub(crate) fn new() -> Self {
        Self { calls: Xattrs::default(), list: vec![0; LIST_BYTES] }
    }

    /// Gives an entry these attributes, and takes from it access control lists that came by inheritance.
    pub(crate) fn give(&mut self, place: Place<'_>, xattrs: &[Xattr]) -> Option<NotGiven> {
        let mut not_given: Option<NotGiven> = None;
        let mut fails = |name: &[u8], errno: Errno| {
            let for_rights = matches!(errno, Errno::PERM | Errno::ACCESS);
            let all = not_given.get_or_insert_with(|| NotGiven { reason: String::new(), for_rights });
            all.for_rights &= for_rights;
            let separator = if all.reason.is_empty() { "" } else { "; " };
            let _ = write!(all.reason, "{separator}{}: {}", String::from_utf8_lossy(name), words(errno));
        };
        for inherited in self.access_lists(place) {
            let is_wanted = xattrs.iter().any(|xattr| xattr.name == inherited);
            if !is_wanted && let Err(errno) = self.calls.remove(place, inherited) {
                fails(inherited, errno);
            }
        }
        for xattr in xattrs {
            if let Err(errno) = self.calls.set(place, &xattr.name, &xattr.value) {
                fails(&xattr.name, errno);
            }
        }
        not_given
    }

    fn access_lists(&mut self, place: Place<'_>) -> impl Iterator<Item = &'static [u8]> + use<> {
        let length = match self.calls.list(place, &mut self.list) {
            Err(Errno::RANGE) => {
                self.list.resize(LINUX_BYTES_MAX, 0);
                self.calls.list(place, &mut self.list)
            }
            listed => listed,
        };
        let names = &self.list[..length.unwrap_or(0)];
        let is_there = |list: &[u8]| names.split(|byte| *byte == 0).any(|name| name == list);
        ACCESS_LISTS.map(|list| (list, is_there(list))).into_iter().filter(|(_, there)| *there).map(|(list, _)| list)
    }
}
