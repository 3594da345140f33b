//! A listing that comes in pieces: an entry is read when its last byte is there, so that the text of all entries is never in
//! memory at once.
//!
//! What is around the entries is kept and read at the end as a listing without any; so every rule of [`super::read`] holds.

use repository::{Directory, Entry};

use super::{ReadEntry, read};
use crate::error::ReadError;
use crate::object::ObjectId;

/// The key of the entries, as Kopia writes it. Another spelling of it costs memory and nothing else.
const KEY: &[u8] = b"\"entries\"";

/// What the next byte belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The listing around its entries.
    Frame,
    /// Between entries; whether one must follow, as after a comma, or may not, as after another one.
    Between { must_follow: bool, may_follow: bool },
    /// An entry.
    Entry,
}

/// A listing of which some has come.
pub(crate) struct Arriving {
    object: ObjectId,
    place: Place,
    /// Everything but the entries.
    frame: Vec<u8>,
    /// Of the entry that has not ended.
    entry: Vec<u8>,
    entries: Vec<Entry>,
    /// Objects and lists that are open, in the frame and in the entry.
    frame_depth: usize,
    entry_depth: usize,
    is_in_text: bool,
    is_escaped: bool,
    /// The last text of the outermost object, with its quotes, as far as it may be the key.
    last_text: Vec<u8>,
    /// The value that comes is that of the key.
    is_after_key: bool,
}

impl Arriving {
    pub(crate) fn new(object: ObjectId) -> Self {
        Self {
            object,
            place: Place::Frame,
            frame: Vec::new(),
            entry: Vec::new(),
            entries: Vec::new(),
            frame_depth: 0,
            entry_depth: 0,
            is_in_text: false,
            is_escaped: false,
            last_text: Vec::new(),
            is_after_key: false,
        }
    }

    /// Takes the next bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), ReadError> {
        bytes.iter().try_for_each(|byte| self.take(*byte)).map_err(|detail| self.damaged(detail))
    }

    /// The entries that have come since this was asked last.
    pub(crate) fn take_entries(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.entries)
    }

    /// The listing, of which everything has come; without the entries that were taken.
    pub(crate) fn finish(mut self) -> Result<Directory, ReadError> {
        let mut directory = read(&self.object, &self.frame)?;
        directory.entries.append(&mut self.entries);
        Ok(directory)
    }

    fn damaged(&self, detail: String) -> ReadError {
        ReadError::Damaged { what: format!("directory {}", self.object), detail }
    }

    fn take(&mut self, byte: u8) -> Result<(), String> {
        let was_in_text = self.is_in_text;
        self.follow_text(byte);
        let is_text = was_in_text || self.is_in_text;
        match self.place {
            Place::Frame => {
                self.frame.push(byte);
                self.of_frame(byte, is_text, was_in_text);
            }
            Place::Between { must_follow, may_follow } => match byte {
                b' ' | b'\t' | b'\n' | b'\r' => {}
                b'{' if may_follow => {
                    self.entry.push(byte);
                    (self.place, self.entry_depth) = (Place::Entry, 1);
                }
                b',' if !may_follow => self.place = Place::Between { must_follow: true, may_follow: true },
                b']' if !must_follow => {
                    self.frame.push(byte);
                    self.frame_depth -= 1;
                    self.place = Place::Frame;
                }
                _ => return Err(format!("{:?} stands where an entry should", char::from(byte))),
            },
            Place::Entry => {
                self.entry.push(byte);
                match byte {
                    _ if is_text => {}
                    b'{' | b'[' => self.entry_depth += 1,
                    b'}' | b']' => self.entry_depth -= 1,
                    _ => {}
                }
                if self.entry_depth == 0 {
                    let ReadEntry(entry) = serde_json::from_slice(&self.entry).map_err(|error| error.to_string())?;
                    self.entries.push(entry);
                    self.entry.clear();
                    self.place = Place::Between { must_follow: false, may_follow: false };
                }
            }
        }
        Ok(())
    }

    fn follow_text(&mut self, byte: u8) {
        match byte {
            _ if self.is_escaped => self.is_escaped = false,
            b'\\' if self.is_in_text => self.is_escaped = true,
            b'"' => self.is_in_text = !self.is_in_text,
            _ => {}
        }
    }

    fn of_frame(&mut self, byte: u8, is_text: bool, was_in_text: bool) {
        if is_text {
            if !was_in_text {
                self.last_text.clear();
            }
            if self.last_text.len() <= KEY.len() {
                self.last_text.push(byte);
            }
            return;
        }
        match byte {
            b'[' if self.is_after_key && self.frame_depth == 1 => {
                self.frame_depth += 1;
                self.place = Place::Between { must_follow: false, may_follow: true };
            }
            b'{' | b'[' => self.frame_depth += 1,
            // One too many: what is read in the end says so.
            b'}' | b']' => self.frame_depth = self.frame_depth.saturating_sub(1),
            b':' if self.frame_depth == 1 => self.is_after_key = self.last_text == KEY,
            b',' if self.frame_depth == 1 => self.is_after_key = false,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use repository::Directory;

    use super::{super::tests, Arriving, read};
    use crate::object::ObjectId;

    /// The same as when it is read at once, whatever pieces it comes in.
    fn check(listing: &[u8], piece_bytes: usize) -> Result<(), TestCaseError> {
        let object: ObjectId = "kaabb".parse().unwrap();
        let mut arriving = Arriving::new(object);
        let pushed = listing.chunks(piece_bytes).try_for_each(|piece| arriving.push(piece));
        let arrived = pushed.and_then(|()| arriving.finish());
        match read(&object, listing) {
            Ok(expected) => {
                let parts = |directory: Directory| (directory.entries, directory.summary, directory.side);
                prop_assert_eq!(parts(arrived.unwrap()), parts(expected));
            }
            Err(_) => prop_assert!(arrived.is_err(), "{}", String::from_utf8_lossy(listing)),
        }
        Ok(())
    }

    fn listings() -> impl Strategy<Value = Vec<u8>> {
        let odd = [
            "{\"stream\":\"kopia:directory\",\"entries\":[]}",
            "{\"stream\":\"kopia:directory\",\"entries\":[ ]}\n",
            "{\"stream\":\"kopia:directory\",\"entries\":null}",
            "{\"entries\":[{\"name\":\"]}\\\"{\",\"type\":\"f\",\"obj\":\"aa\"} , {\"type\":\"f\",\"obj\":\"ab\"}],\"stream\":\"kopia:directory\"}",
            "{\"stream\":\"kopia:directory\",\"summary\":{\"entries\":[{}]},\"entries\":[]}",
            "{\"stream\":\"kopia:directory\",\"\\u0065ntries\":[{\"type\":\"f\",\"obj\":\"aa\"}]}",
            "{\"stream\":\"kopia:directory\",\"entries\":[{\"type\":\"f\",\"obj\":\"aa\"}],\"entries\":[]}",
        ];
        let all = odd.into_iter().chain([tests::EMPTY, tests::FULL, tests::BEYOND]);
        prop::sample::select(all.map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>())
    }

    proptest! {
        #[test]
        fn pieces_are_as_good_as_the_whole(listing in listings(), piece_bytes in 1..400_usize) {
            check(&listing, piece_bytes)?;
        }

        #[test]
        fn what_is_wrong_in_one_piece_is_wrong_in_several(
            listing in listings(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(b"{}[],:\"\\ x0".to_vec())), 0..3),
            end in any::<prop::sample::Index>(),
            is_cut: bool,
            piece_bytes in 1..50_usize,
        ) {
            let mut listing = listing;
            for (at, byte) in changes {
                let at = at.index(listing.len());
                listing[at] = byte;
            }
            if is_cut {
                listing.truncate(end.index(listing.len()));
            }
            check(&listing, piece_bytes)?;
        }
    }
}
