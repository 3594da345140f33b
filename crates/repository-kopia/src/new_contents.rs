//! Contents that are new in a run, so that none is written twice.

use std::collections::HashSet;
use std::io;

use repository::ContentId;

use crate::error::IndexError;
use crate::index::{KEY_BYTES_MAX, Output, Scratch, Sorted, SortedWriter};

/// Contents held in memory before they go into a file: 5 MiB.
const RECENT_MAX: usize = 64 << 10;
/// Blocks of a file read at a time when two are made one.
const BLOCKS_AT_ONCE: usize = 64;

/// A set that only grows. Memory: the latest 65,536 contents, and less than two bytes for each of the others, which lie in
/// files without a name.
pub(crate) struct NewContents {
    recent: HashSet<ContentId>,
    recent_max: usize,
    /// Each at least twice as long as the next, so there are few of them.
    runs: Vec<Sorted>,
    scratch: Scratch,
}

impl NewContents {
    pub(crate) fn new(scratch: Scratch) -> Self {
        Self { recent: HashSet::new(), recent_max: RECENT_MAX, runs: Vec::new(), scratch }
    }

    pub(crate) fn contains(&self, content: &ContentId) -> Result<bool, IndexError> {
        if self.recent.contains(content) {
            return Ok(true);
        }
        let mut key = [0; KEY_BYTES_MAX];
        let key = content.key_in(&mut key);
        for run in &self.runs {
            if run.find(key, |_, _| ()).map_err(failed)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// True if the content was not there before.
    pub(crate) fn insert(&mut self, content: &ContentId) -> Result<bool, IndexError> {
        if self.contains(content)? {
            return Ok(false);
        }
        if self.recent.len() >= self.recent_max {
            self.put_away()?;
        }
        Ok(self.recent.insert(*content))
    }

    fn put_away(&mut self) -> Result<(), IndexError> {
        let mut sorted: Vec<ContentId> = self.recent.iter().copied().collect();
        sorted.sort_unstable();
        let key_bytes = sorted.first().map_or(1, ContentId::key_length);
        let mut run = self.write(key_bytes, sorted.len(), |take| {
            sorted.iter().try_for_each(|content| take(content.key_in(&mut [0; KEY_BYTES_MAX])))
        })?;
        while let Some(before) = self.runs.pop_if(|before| before.len() < 2 * run.len()) {
            run = self.write(key_bytes, before.len() + run.len(), |take| merge(&before, &run, take))?;
        }
        self.runs.push(run);
        // Only now: what went wrong above has taken nothing away.
        self.recent.clear();
        Ok(())
    }

    fn write(
        &mut self,
        key_bytes: usize,
        count: usize,
        each: impl Fn(&mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()>,
    ) -> Result<Sorted, IndexError> {
        self.scratch.begin_file();
        let (writer, body) = self.scratch.write(|out: &mut Output| {
            let mut writer = SortedWriter::new(out, key_bytes, 0, Some(count));
            each(&mut |key| writer.push(out, key))?;
            Ok(writer)
        })?;
        Ok(writer.finish(body))
    }
}

/// The keys of two runs, which have none in common.
fn merge(a: &Sorted, b: &Sorted, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let (mut a, mut b) = (a.cursor(0, BLOCKS_AT_ONCE), b.cursor(0, BLOCKS_AT_ONCE));
    let (mut next_a, mut next_b) = (a.next()?, b.next()?);
    loop {
        match (next_a, next_b) {
            (None, None) => return Ok(()),
            (Some(key), None) => {
                take(key)?;
                next_a = a.next()?;
            }
            (Some(key), Some(other)) if key < other => {
                take(key)?;
                next_a = a.next()?;
            }
            (_, Some(key)) => {
                take(key)?;
                next_b = b.next()?;
            }
        }
    }
}

fn failed(source: io::Error) -> IndexError {
    IndexError::Table { operation: "read from a temporary file which contents are new".to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;
    use repository::ContentId;

    use super::NewContents;
    use crate::index::Scratch;

    proptest! {
        #[test]
        fn it_is_a_set(
            numbers in prop::collection::vec(0..500_u16, 0..800),
            recent_max in 1..50_usize,
        ) {
            let mut set = NewContents { recent_max, ..NewContents::new(Scratch::new(None, 1 << 30)) };
            let mut oracle = HashSet::new();
            for number in numbers {
                let prefix = [0, b'k'][usize::from(number % 2)];
                let content = ContentId::new(prefix, &[&number.to_be_bytes()[..], &[5; 14]].concat()).unwrap();
                prop_assert_eq!(set.contains(&content).unwrap(), oracle.contains(&number));
                prop_assert_eq!(set.insert(&content).unwrap(), oracle.insert(number));
            }
            prop_assert!(set.runs.len() <= 11, "{} files", set.runs.len());
            prop_assert!(set.recent.len() <= recent_max);
        }
    }
}
