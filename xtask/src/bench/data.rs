//! Deterministic data: the same bytes, modes and times on every machine.

use anyhow::{Context, Result};
use std::fs::{File, FileTimes, OpenOptions, Permissions};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The unit in which a big file changes.
const BLOCK_BYTES: u64 = 1 << 20;

/// Gathered before each call to the system.
const WRITE_BYTES: usize = 128 << 10;

/// Every hundredth file or block changes; the number is arbitrary and below the smallest set's count.
const CHANGED_EVERY: u64 = 100;
const CHANGED_AT: u64 = 37;

/// 2026-01-01, in seconds: all times lie after it and before any run.
const TIME_BASE_S: u64 = 1_767_225_600;
const DAY_S: u64 = 86_400;

/// The two shapes of data that backups meet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    Small,
    Big,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Small => "small files",
            Self::Big => "big files",
        }
    }
}

/// Before or after the change of one in a hundred.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    First,
    Changed,
}

#[derive(Clone, Copy)]
enum Content {
    Random,
    Text,
    /// First half random, second half text.
    Half,
}

/// A file to be: everything follows from these.
struct Item {
    path: PathBuf,
    length_bytes: u64,
    content: Content,
    mode: u32,
    seed: u64,
}

/// A data set.
pub struct Set {
    pub kind: Kind,
    items: Vec<Item>,
}

impl Set {
    /// 60,000 files of 1 to 64 KiB, or 8 of 256 and 512 MiB; quick ones are a hundredth of it or less.
    pub fn new(kind: Kind, quick: bool) -> Self {
        let items = match kind {
            Kind::Small => small_items(if quick { 1_100 } else { 60_000 }),
            Kind::Big if quick => big_items(12 << 20, 4 << 20),
            Kind::Big => big_items(512 << 20, 256 << 20),
        };
        Self { kind, items }
    }

    pub fn total_bytes(&self) -> u64 {
        self.items.iter().map(|item| item.length_bytes).sum()
    }

    pub fn describe(&self) -> String {
        format!("{}: {} files, {} MiB", self.kind.name(), self.items.len(), self.total_bytes() >> 20)
    }

    /// Writes everything in its first state.
    pub fn write(&self, root: &Path) -> Result<()> {
        for (index, item) in self.items.iter().enumerate() {
            let path = root.join(&item.path);
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
            }
            let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
            file.set_permissions(Permissions::from_mode(item.mode)).context("set a mode")?;
            let blocks = 0..item.length_bytes.div_ceil(BLOCK_BYTES);
            write_blocks(&file, item, blocks, State::First).with_context(|| format!("write {}", path.display()))?;
            set_time(&file, index as u64, State::First)?;
        }
        self.set_directory_times(root)
    }

    /// Brings what [`Self::write`] wrote into a state, whatever its state was.
    pub fn apply(&self, root: &Path, state: State) -> Result<()> {
        let mut first_block = 0;
        for (index, item) in self.items.iter().enumerate() {
            let blocks_count = item.length_bytes.div_ceil(BLOCK_BYTES);
            let changing: Vec<u64> = match self.kind {
                Kind::Small if changes(index as u64) => (0..blocks_count).collect(),
                Kind::Small => Vec::new(),
                Kind::Big => (0..blocks_count).filter(|block| changes(first_block + block)).collect(),
            };
            first_block += blocks_count;
            if changing.is_empty() {
                continue;
            }
            let path = root.join(&item.path);
            let file = OpenOptions::new().write(true).open(&path);
            let file = file.with_context(|| format!("open {}", path.display()))?;
            let written = write_blocks(&file, item, changing.into_iter(), state);
            written.with_context(|| format!("write {}", path.display()))?;
            set_time(&file, index as u64, state)?;
        }
        Ok(())
    }

    /// Last and deepest first, since every new entry touches its directory.
    fn set_directory_times(&self, root: &Path) -> Result<()> {
        let parents = self.items.iter().flat_map(|item| item.path.ancestors().skip(1));
        let mut directories: Vec<&Path> = parents.collect();
        directories.sort_by_key(|directory| std::cmp::Reverse((directory.components().count(), *directory)));
        directories.dedup();
        for directory in directories {
            let path = root.join(directory);
            let opened = File::open(&path).with_context(|| format!("open {}", path.display()))?;
            set_time(&opened, 0, State::First)?;
        }
        Ok(())
    }
}

fn changes(number: u64) -> bool {
    number % CHANGED_EVERY == CHANGED_AT
}

fn small_items(count: u64) -> Vec<Item> {
    let directories_count = (count / 100).max(1);
    (0..count)
        .map(|index| {
            let mut random = Random::new(index);
            let directory = random.below(directories_count);
            let (upper, lower) = (directory / 25, directory % 25);
            Item {
                path: format!("d{upper:02}/d{lower:02}/file-{index:05}").into(),
                length_bytes: small_length(&mut random, index),
                content: [Content::Random, Content::Text, Content::Half][(index % 3) as usize],
                mode: [0o644, 0o600, 0o755, 0o640][(index % 4) as usize],
                seed: random.next(),
            }
        })
        .collect()
}

/// 1 to 64 KiB, most of them near the lower end as in real trees: 18 KiB on average.
fn small_length(random: &mut Random, index: u64) -> u64 {
    const RANGE_BYTES: u64 = 63 << 10;
    let mut length_bytes = RANGE_BYTES;
    let powers = if index.is_multiple_of(4) { 2 } else { 3 };
    let part = random.below(1 << 16);
    for _ in 0..powers {
        length_bytes = (length_bytes * part) >> 16;
    }
    1024 + length_bytes
}

/// Four random ones, which no compression helps, and four of text.
fn big_items(random_bytes: u64, text_bytes: u64) -> Vec<Item> {
    let shapes = (0..4).map(|number| ("random", number, random_bytes, Content::Random));
    let shapes = shapes.chain((0..4).map(|number| ("text", number, text_bytes, Content::Text)));
    shapes
        .map(|(name, number, length_bytes, content)| Item {
            path: format!("{name}-{number}.bin").into(),
            length_bytes,
            content,
            mode: 0o644,
            seed: Random::new(length_bytes + number).next(),
        })
        .collect()
}

/// Writes the numbered blocks in place; each follows from its file, its number and its state alone.
fn write_blocks(file: &File, item: &Item, blocks: impl Iterator<Item = u64>, state: State) -> Result<()> {
    let mut writer = BufWriter::with_capacity(WRITE_BYTES, file);
    for block in blocks {
        let start = block * BLOCK_BYTES;
        let length_bytes = BLOCK_BYTES.min(item.length_bytes - start) as usize;
        writer.seek(SeekFrom::Start(start)).context("seek")?;
        let mut random = Random::new(item.seed ^ (block << 8) ^ u64::from(state == State::Changed));
        let random_bytes = match item.content {
            Content::Random => length_bytes,
            Content::Text => 0,
            Content::Half => length_bytes / 2,
        };
        random.write_random(&mut writer, random_bytes).context("write")?;
        random.write_text(&mut writer, length_bytes - random_bytes).context("write")?;
    }
    writer.flush().context("write")
}

fn set_time(file: &File, number: u64, state: State) -> Result<()> {
    let changed_s = if state == State::Changed { 200 * DAY_S } else { 0 };
    // Nanoseconds that no coarse clock would show, so that a program that cuts them off is noticed.
    let since = Duration::new(TIME_BASE_S + changed_s + number % DAY_S, (number * 7_919 % 1_000_000_000) as u32);
    let time = SystemTime::UNIX_EPOCH + since;
    file.set_times(FileTimes::new().set_modified(time).set_accessed(time)).context("set a time")
}

/// xorshift64*: fast, and the same everywhere.
struct Random(u64);

impl Random {
    /// Neighbouring seeds give unrelated streams: the seed goes through the finishing steps of splitmix64.
    fn new(seed: u64) -> Self {
        let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        // Zero would stay zero for ever.
        Self((mixed ^ (mixed >> 31)) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `limit`, which is far below 2³²: the tiny bias does not matter here.
    fn below(&mut self, limit: u64) -> u64 {
        ((self.next() >> 32) * limit) >> 32
    }

    fn write_random(&mut self, writer: &mut impl Write, length_bytes: usize) -> std::io::Result<()> {
        let mut left = length_bytes;
        while left > 0 {
            let bytes = self.next().to_le_bytes();
            let taken = left.min(bytes.len());
            writer.write_all(&bytes[..taken])?;
            left -= taken;
        }
        Ok(())
    }

    /// Words of a small vocabulary, frequent ones short, in lines: zstd makes a third of it.
    fn write_text(&mut self, writer: &mut impl Write, length_bytes: usize) -> std::io::Result<()> {
        const SYLLABLES: &[u8] = b"kalotemirusenapodivehogaryxobuzi";
        let mut left = length_bytes;
        while left > 0 {
            // The product of two prefers small numbers, as the words of a language do.
            let word = (self.below(64) * self.below(64)) as usize;
            let mut text = [b' '; 10];
            let letters = 2 + 2 * (word.checked_ilog2().unwrap_or(0) as usize / 3);
            for (position, letter) in text[..letters].iter_mut().enumerate() {
                let syllable = (word >> (3 * (position / 2))) % (SYLLABLES.len() / 2);
                *letter = SYLLABLES[2 * syllable + position % 2];
            }
            if word % 12 == 11 {
                text[letters] = b'\n';
            }
            let taken = left.min(letters + 1);
            writer.write_all(&text[..taken])?;
            left -= taken;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(root: &Path, set: &Set) -> Result<Vec<Vec<u8>>> {
        set.items.iter().map(|item| Ok(std::fs::read(root.join(&item.path))?)).collect()
    }

    fn tiny(kind: Kind) -> Set {
        let items = match kind {
            Kind::Small => small_items(150),
            Kind::Big => big_items(5 << 20, 5 << 20),
        };
        Set { kind, items }
    }

    #[test]
    fn one_in_a_hundred_changes_and_changes_back() -> Result<()> {
        for (kind, changed_count) in [(Kind::Small, 2), (Kind::Big, 1)] {
            let root = tempfile::tempdir()?;
            let set = tiny(kind);
            set.write(root.path())?;
            let first = bytes_of(root.path(), &set)?;
            set.apply(root.path(), State::Changed)?;
            let changed = bytes_of(root.path(), &set)?;
            assert_eq!(first.iter().zip(&changed).filter(|(before, after)| before != after).count(), changed_count);
            set.apply(root.path(), State::First)?;
            assert!(bytes_of(root.path(), &set)? == first, "it did not change back");
        }
        Ok(())
    }

    #[test]
    fn sizes_are_as_announced() {
        let small = Set::new(Kind::Small, false);
        assert!((1_050..1_150).contains(&(small.total_bytes() / 1_000_000)), "{}", small.describe());
        let directories: std::collections::BTreeSet<_> =
            small.items.iter().filter_map(|item| item.path.parent()).collect();
        assert_eq!(directories.len(), 600);
        assert_eq!(Set::new(Kind::Big, false).total_bytes(), 3 << 30);
        assert_eq!(Set::new(Kind::Big, true).total_bytes(), 64 << 20);
    }
}
