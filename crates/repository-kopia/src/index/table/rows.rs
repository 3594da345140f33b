//! Rows of one length, one after the other, in memory or in a file: read a block at a time, each with a checksum.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

/// Rows of one block: what a look-up reads and checks at once, some 3 KiB of index entries.
pub(crate) const BLOCK_ROWS: usize = 64;
/// Bytes gathered before they are written to a file.
const WRITE_BYTES: usize = 256 << 10;

/// Where rows lie.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    Memory(Arc<Vec<u8>>),
    File(Arc<File>),
}

impl Body {
    /// Puts the bytes from `at` on into `bytes`.
    pub(crate) fn read_at(&self, at: u64, length_bytes: usize, bytes: &mut Vec<u8>) -> io::Result<()> {
        bytes.resize(length_bytes, 0);
        match self {
            Self::Memory(all) => bytes.copy_from_slice(&all[at as usize..at as usize + length_bytes]),
            Self::File(file) => file.read_exact_at(bytes, at)?,
        }
        Ok(())
    }
}

/// Rows to be read.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    pub(super) body: Body,
    pub(super) at: u64,
    pub(super) count: usize,
    pub(super) row_bytes: usize,
    /// CRC-32 of each block.
    pub(super) checksums: Arc<Vec<u32>>,
}

impl Rows {
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// The rows of block `number`. `scratch` is where they are put if they come from a file.
    pub(crate) fn block<'a>(&'a self, number: usize, scratch: &'a mut Vec<u8>) -> io::Result<&'a [u8]> {
        self.blocks(number, 1, scratch)
    }

    /// Some blocks from `first` on, or as many as there are.
    fn blocks<'a>(&'a self, first: usize, number: usize, scratch: &'a mut Vec<u8>) -> io::Result<&'a [u8]> {
        let block_bytes = BLOCK_ROWS * self.row_bytes;
        let rows = (number * BLOCK_ROWS).min(self.count.saturating_sub(first * BLOCK_ROWS));
        let (start, bytes) = (self.at + (first * block_bytes) as u64, rows * self.row_bytes);
        match &self.body {
            Body::Memory(all) => Ok(&all[start as usize..start as usize + bytes]),
            Body::File(file) => {
                scratch.resize(bytes, 0);
                file.read_exact_at(scratch, start)?;
                for (block, expected) in scratch.chunks(block_bytes).zip(&self.checksums[first..]) {
                    if crc32fast::hash(block) != *expected {
                        return Err(io::Error::new(io::ErrorKind::InvalidData, "its bytes have changed"));
                    }
                }
                Ok(scratch)
            }
        }
    }

    /// Row `at`, which must be below [`Rows::len`].
    pub(crate) fn row<'a>(&'a self, at: usize, scratch: &'a mut Vec<u8>) -> io::Result<&'a [u8]> {
        let block = self.block(at / BLOCK_ROWS, scratch)?;
        let start = at % BLOCK_ROWS * self.row_bytes;
        Ok(&block[start..start + self.row_bytes])
    }

    /// Goes through the rows from `first` on, some blocks at a time.
    pub(crate) fn cursor(&self, first: usize, blocks_at_once: usize) -> Cursor {
        Cursor {
            rows: self.clone(),
            next: first,
            blocks_at_once: blocks_at_once.max(1),
            loaded: 0..0,
            bytes: Vec::new(),
        }
    }
}

/// A place among rows that moves on.
pub(crate) struct Cursor {
    rows: Rows,
    next: usize,
    blocks_at_once: usize,
    /// The rows that `bytes` holds.
    loaded: std::ops::Range<usize>,
    bytes: Vec<u8>,
}

impl Cursor {
    /// The next row.
    pub(crate) fn next(&mut self) -> io::Result<Option<&[u8]>> {
        if self.next >= self.rows.count {
            return Ok(None);
        }
        let first_block = self.next / BLOCK_ROWS;
        if !self.loaded.contains(&self.next) && matches!(self.rows.body, Body::File(_)) {
            self.loaded = 0..0;
            self.rows.blocks(first_block, self.blocks_at_once, &mut self.bytes)?;
            let first = first_block * BLOCK_ROWS;
            self.loaded = first..first + self.bytes.len() / self.rows.row_bytes;
        }
        let row_bytes = self.rows.row_bytes;
        let (all, start) = match &self.rows.body {
            Body::Memory(all) => (all.as_slice(), self.rows.at as usize + self.next * row_bytes),
            Body::File(_) => (self.bytes.as_slice(), (self.next - self.loaded.start) * row_bytes),
        };
        self.next += 1;
        Ok(Some(&all[start..start + row_bytes]))
    }
}

/// Where bytes go.
pub(crate) struct Output {
    target: Target,
    /// Where the next byte goes.
    at: u64,
    bytes_max: u64,
    buffer: Vec<u8>,
}

enum Target {
    Memory(Vec<u8>),
    File(Arc<File>),
}

impl Output {
    /// Into memory, up to `bytes_max`.
    pub(crate) fn memory(bytes_max: u64) -> Self {
        Self { target: Target::Memory(Vec::new()), at: 0, bytes_max, buffer: Vec::new() }
    }

    /// Into a file from `at` on, which must not grow past `bytes_max`.
    pub(crate) fn file(file: Arc<File>, at: u64, bytes_max: u64) -> Self {
        Self { target: Target::File(file), at, bytes_max, buffer: Vec::with_capacity(WRITE_BYTES) }
    }

    pub(crate) fn position(&self) -> u64 {
        self.at
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.at += bytes.len() as u64;
        if matches!(self.target, Target::Memory(_)) {
            self.check_room()?;
        }
        match &mut self.target {
            Target::Memory(all) => all.extend_from_slice(bytes),
            Target::File(_) => {
                self.buffer.extend_from_slice(bytes);
                if self.buffer.len() >= WRITE_BYTES {
                    self.flush()?;
                }
            }
        }
        Ok(())
    }

    fn check_room(&self) -> io::Result<()> {
        if self.at <= self.bytes_max {
            return Ok(());
        }
        let text = format!("it would grow past {} bytes", self.bytes_max);
        Err(io::Error::new(io::ErrorKind::QuotaExceeded, text))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.check_room()?;
        if let Target::File(file) = &self.target {
            file.write_all_at(&self.buffer, self.at - self.buffer.len() as u64)?;
            self.buffer.clear();
        }
        Ok(())
    }

    /// What was written, to be read.
    pub(crate) fn finish(mut self) -> io::Result<Body> {
        self.flush()?;
        Ok(match self.target {
            Target::Memory(bytes) => Body::Memory(Arc::new(bytes)),
            Target::File(file) => Body::File(file),
        })
    }
}

/// Sums up rows on their way to an [`Output`].
pub(crate) struct RowsWriter {
    start: u64,
    row_bytes: usize,
    count: usize,
    hasher: crc32fast::Hasher,
    checksums: Vec<u32>,
}

impl RowsWriter {
    pub(crate) fn new(out: &Output, row_bytes: usize) -> Self {
        Self { start: out.position(), row_bytes, count: 0, hasher: crc32fast::Hasher::new(), checksums: Vec::new() }
    }

    pub(crate) fn push(&mut self, out: &mut Output, row: &[u8]) -> io::Result<()> {
        debug_assert_eq!(row.len(), self.row_bytes);
        self.hasher.update(row);
        self.count += 1;
        if self.count.is_multiple_of(BLOCK_ROWS) {
            self.checksums.push(std::mem::take(&mut self.hasher).finalize());
        }
        out.write(row)
    }

    /// The rows as they will be once `body`, the output, is finished.
    pub(crate) fn finish(mut self, body: Body) -> Rows {
        if !self.count.is_multiple_of(BLOCK_ROWS) {
            self.checksums.push(self.hasher.finalize());
        }
        let checksums = Arc::new(self.checksums);
        Rows { body, at: self.start, count: self.count, row_bytes: self.row_bytes, checksums }
    }
}
