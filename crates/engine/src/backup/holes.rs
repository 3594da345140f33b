//! A file from some place to its end, without asking the disk for its holes.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom as From};
use std::os::unix::fs::MetadataExt as _;

use rustix::fs::{SeekFrom, fstatfs};
use rustix::io::Errno;

/// OpenZFS before 2.2.2 calls holes what was written a moment ago. (Its `ZFS_SUPER_MAGIC`.)
const ZFS: i64 = 0x2fc1_2fc1;
/// Blocks of a file are counted in this unit, whatever its file system's are.
const BLOCK_BYTES: u64 = 512;

/// What is read of a file next.
#[derive(Clone, Copy)]
enum Extent {
    /// As the disk has it, up to here.
    Data(u64),
    /// Zeros, up to here.
    Hole(u64),
}

/// Reads a file; holes come as the zeros they stand for.
///
/// What is written into a hole meanwhile may be missed, as it may be by any reader that has passed it.
pub(super) struct HoleReader {
    file: File,
    at: u64,
    extent: Extent,
}

impl HoleReader {
    /// From `at` on. Only of a file that takes less room than its length is asked where its holes are.
    pub(super) fn open(mut file: File, at: u64) -> io::Result<Self> {
        file.seek(From::Start(at))?;
        let metadata = file.metadata()?;
        let is_sparse = metadata.blocks() * BLOCK_BYTES < metadata.len();
        let may_ask = is_sparse && fstatfs(&file).is_ok_and(|system| system.f_type != ZFS);
        Ok(Self { file, at, extent: Extent::Data(if may_ask { at } else { u64::MAX }) })
    }

    /// Appends up to `wanted` bytes, fewer only at the end of the file. Gives how many there are, and how many of them came
    /// from the disk.
    pub(super) fn read(&mut self, wanted: u64, buffer: &mut Vec<u8>) -> io::Result<(u64, u64)> {
        let (mut left, mut from_disk) = (wanted, 0);
        while left > 0 {
            let (Extent::Data(end) | Extent::Hole(end)) = self.extent;
            if self.at >= end {
                self.extent = self.next_extent()?;
                continue;
            }
            let length = left.min(end - self.at);
            let read = match self.extent {
                Extent::Hole(_) => {
                    buffer.resize(buffer.len() + length as usize, 0);
                    length
                }
                Extent::Data(_) => {
                    let read = (&mut self.file).take(length).read_to_end(buffer)? as u64;
                    from_disk += read;
                    read
                }
            };
            self.at += read;
            left -= read;
            if read < length {
                break;
            }
        }
        Ok((wanted - left, from_disk))
    }

    /// What begins here. Where the file ends, or is said to, reading is what finds its end.
    fn next_extent(&mut self) -> io::Result<Extent> {
        let to_the_end = Extent::Data(u64::MAX);
        let extent = match rustix::fs::seek(&self.file, SeekFrom::Data(self.at)) {
            Ok(data) if data > self.at => Extent::Hole(data),
            Ok(_) => match rustix::fs::seek(&self.file, SeekFrom::Hole(self.at)) {
                Ok(hole) if hole > self.at => Extent::Data(hole),
                Ok(_) | Err(_) => to_the_end,
            },
            // No data from here on.
            Err(Errno::NXIO) => match self.file.metadata()?.len() {
                length if length > self.at => Extent::Hole(length),
                _ => to_the_end,
            },
            // A file system that does not know.
            Err(_) => to_the_end,
        };
        self.file.seek(From::Start(match extent {
            Extent::Data(_) => self.at,
            Extent::Hole(end) => end,
        }))?;
        Ok(extent)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::{FileExt as _, MetadataExt as _};

    use super::HoleReader;

    /// Reads a file of this length with data in these places, some bytes at a time.
    #[track_caller]
    fn check(length: u64, data: &[(u64, usize)]) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sparse");
        let file = File::create(&path).unwrap();
        file.set_len(length).unwrap();
        for (offset, count) in data {
            file.write_all_at(&vec![7; *count], *offset).unwrap();
        }
        let (whole, allocated) = (fs::read(&path).unwrap(), fs::metadata(&path).unwrap().blocks() * 512);
        for wanted in [1 << 20, 300_000, 4096] {
            let mut reader = HoleReader::open(File::open(&path).unwrap(), 0).unwrap();
            let (mut read, mut from_disk) = (Vec::new(), 0);
            loop {
                let (count, disk) = reader.read(wanted, &mut read).unwrap();
                from_disk += disk;
                if count < wanted {
                    break;
                }
            }
            assert!(read == whole, "{length} {data:?} {wanted}");
            assert!(from_disk <= allocated, "{from_disk} bytes read of {allocated}");
        }
    }

    #[test]
    fn holes_are_zeros_that_nobody_reads() {
        check(0, &[]);
        check(1, &[]);
        check(10 << 20, &[]);
        check(5_000_001, &[(0, 10)]);
        check(5_000_000, &[(4_999_990, 10)]);
        check(9_000_000, &[(0, 70_000), (1 << 20, 1), (3_000_000, 500_000), (8_999_999, 1)]);
        check(600_000, &[(0, 600_000)]);
    }

    #[test]
    fn a_file_that_shrinks_ends_where_it_ends() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, vec![1; 1_000_000]).unwrap();
        let mut reader = HoleReader::open(File::open(&path).unwrap(), 0).unwrap();
        let mut read = Vec::new();
        assert_eq!(reader.read(400_000, &mut read).unwrap(), (400_000, 400_000));
        File::options().write(true).open(&path).unwrap().set_len(500_000).unwrap();
        assert_eq!(reader.read(400_000, &mut read).unwrap(), (100_000, 100_000));
        assert_eq!(reader.read(400_000, &mut read).unwrap(), (0, 0));
    }
}
