use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use codec::split::{Algorithm, Splitter};
use jiff::Timestamp;
use repository::{ContentId, DataId, Entry, EntryKind};
use repository_kopia::{ObjectId, PREFIX_DATA};
use rustix::fs::{Mode, OFlags};

use super::{BackupError, Chunk, FileJob, Finished, Memory, ReadJob, WholeFile, run};
use crate::lane;
use crate::limits::{Limits, SEGMENT_BYTES};
use crate::listing::folder::Folder;
use crate::meter::{Counter, Meter};
use crate::run::{Cancel, Run};

/// Bytes that no two seeds share, with runs in which nothing but the longest length cuts.
fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut bytes = Vec::with_capacity(length + 1024);
    while bytes.len() < length {
        let word = next();
        match word % 16 {
            0 => bytes.extend(std::iter::repeat_n(b'=', (word >> 8) as usize % 1024)),
            _ => bytes.extend_from_slice(&word.to_le_bytes()),
        }
    }
    bytes.truncate(length);
    bytes
}

/// The pieces as they should be: each part of a file cut from its beginning to its end.
fn pieces(bytes: &[u8], splitter: Algorithm, parts_bytes: Option<u64>) -> Vec<Vec<u8>> {
    let part_bytes = parts_bytes.map_or(usize::MAX, |bytes| bytes as usize).min(bytes.len().max(1));
    let mut pieces = Vec::new();
    let mut parts: Vec<&[u8]> = bytes.chunks(part_bytes).collect();
    if parts.is_empty()
        || parts_bytes.is_some_and(|part| bytes.len() as u64 > part && (bytes.len() as u64).is_multiple_of(part))
    {
        parts.push(&[]);
    }
    for part in parts {
        let mut splitter = Splitter::new(splitter);
        let mut rest = part;
        while let Some(cut) = splitter.next_cut(rest) {
            pieces.push(rest[..cut].to_vec());
            rest = &rest[cut..];
        }
        if !rest.is_empty() || part.is_empty() {
            pieces.push(rest.to_vec());
        }
    }
    pieces
}

fn job(directory: &Path, name: &str, size_bytes: u64, parts_bytes: Option<u64>) -> FileJob {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    FileJob {
        directory: 0,
        parent: Folder::root(rustix::fs::open(directory, flags, Mode::empty()).unwrap()),
        name: std::ffi::CString::new(name).unwrap(),
        path: name.to_owned(),
        draft: Entry {
            name: name.to_owned(),
            kind: EntryKind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: Timestamp::UNIX_EPOCH,
            size_bytes,
            data: DataId::new(""),
            summary: None,
            side: None,
        },
        compression: None,
        parts_bytes,
        ignore_errors: false,
    }
}

/// What two readers with little memory make of files: the pieces by file. Whoever takes them keeps none for long.
#[track_caller]
fn read(directory: &Path, jobs: Vec<FileJob>, splitter: Algorithm) -> BTreeMap<String, Vec<Vec<u8>>> {
    let total: u64 = jobs.iter().map(|job| fs::metadata(directory.join(&job.path)).unwrap().len()).sum();
    let (found, bytes_read) = read_and_count(jobs, splitter);
    assert_eq!(bytes_read, total);
    found
}

/// The same, and how many bytes came from the disk.
fn read_and_count(jobs: Vec<FileJob>, splitter: Algorithm) -> (BTreeMap<String, Vec<Vec<u8>>>, u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let run_of = Run {
        runtime: runtime.handle().clone(),
        limits: Limits::for_memory(0, NonZeroUsize::MIN),
        meter: Arc::new(Meter::new()),
        cancel: Cancel::new(),
    };
    let memory = Memory::new(0, 2, splitter);
    let mut found: BTreeMap<String, BTreeMap<(usize, usize), Vec<u8>>> = BTreeMap::new();
    let mut parts: Vec<ReadJob> = Vec::new();
    for job in jobs {
        let split: Result<(), ()> = job.split(|part| {
            parts.push(part);
            Ok(())
        });
        split.unwrap();
    }
    let done: Result<(), BackupError> = lane::scope(|lanes| {
        let (to_read, files) = lane::channel(parts.len());
        let (to_hash, chunks) = lane::channel::<Vec<Chunk>>(1);
        let (to_tree, finished) = lane::channel::<Finished>(parts.len());
        parts.into_iter().for_each(|part| to_read.send(part).unwrap());
        drop(to_read);
        for _ in 0..2 {
            let (files, to_hash, to_tree) = (files.clone(), to_hash.clone(), to_tree.clone());
            let (memory, run_of) = (&memory, &run_of);
            lanes.spawn("chunk", move || run(&files, &to_hash, &to_tree, splitter, memory, run_of));
        }
        drop((files, to_hash, to_tree));
        for chunk in chunks.into_iter().flatten() {
            let name = chunk.file.state.lock().unwrap().draft.as_ref().unwrap().name.clone();
            let bytes: Vec<u8> = chunk.parts().flatten().copied().collect();
            assert_eq!(bytes.len() as u64, chunk.length_bytes());
            let part = chunk.file.part_of.as_ref().map_or(0, |part| part.number);
            assert!(found.entry(name).or_default().insert((part, chunk.number), bytes).is_none());
        }
        assert!(finished.into_iter().next().is_none(), "nothing ends before its pieces are named");
        Ok(())
    });
    done.unwrap();
    let bytes_read = run_of.meter.get(Counter::BytesRead);
    (found.into_iter().map(|(name, pieces)| (name, pieces.into_values().collect())).collect(), bytes_read)
}

#[test]
fn sparse_files_are_cut_as_if_their_holes_were_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sparse");
    let file = fs::File::create(&path).unwrap();
    let segment = SEGMENT_BYTES as u64;
    file.set_len(40 * segment + 5).unwrap();
    for (offset, length) in [(segment - 9000, 20_000), (7 * segment, 3), (20 * segment - 1, SEGMENT_BYTES + 2)] {
        file.write_all_at(&bytes(length as u64, length), offset).unwrap();
    }
    let whole = fs::read(&path).unwrap();
    for splitter in [Algorithm::Buzhash { average_bytes: 1 << 17 }, Algorithm::Fixed { bytes: 3_000_000 }] {
        for parts_bytes in [None, Some(3 * segment - 5)] {
            let job = job(directory.path(), "sparse", whole.len() as u64, parts_bytes);
            let (found, bytes_read) = read_and_count(vec![job], splitter);
            assert!(found["sparse"] == pieces(&whole, splitter, parts_bytes), "{splitter:?} {parts_bytes:?}");
            assert!(bytes_read < 2 * segment, "{bytes_read}");
        }
    }
}

#[test]
fn pieces_are_those_of_a_splitter_that_sees_each_file_whole() {
    let splitters = [
        Algorithm::Buzhash { average_bytes: 1 << 14 },
        Algorithm::Buzhash { average_bytes: 1 << 19 },
        Algorithm::RabinKarp { average_bytes: 1 << 17 },
        Algorithm::Fixed { bytes: SEGMENT_BYTES as u32 },
        Algorithm::Fixed { bytes: 100_000 },
    ];
    let segment = SEGMENT_BYTES;
    let lengths = [0, 1, 70_000, segment - 1, segment, segment + 1, 3 * segment, 5 * segment + 77, 9 * segment, 0, 300];
    let directory = tempfile::tempdir().unwrap();
    let files: Vec<(String, Vec<u8>)> =
        (0..).zip(lengths).map(|(n, length)| (format!("{n}"), bytes(n, length))).collect();
    for (name, bytes) in &files {
        fs::write(directory.path().join(name), bytes).unwrap();
    }
    for splitter in splitters {
        for parts_bytes in [None, Some(segment as u64), Some(3 * segment as u64 - 5)] {
            let jobs = files.iter().map(|(name, bytes)| job(directory.path(), name, bytes.len() as u64, parts_bytes));
            let found = read(directory.path(), jobs.collect(), splitter);
            for (name, bytes) in &files {
                let parts_bytes = parts_bytes.filter(|part| bytes.len() as u64 > *part);
                assert!(found[name] == pieces(bytes, splitter, parts_bytes), "{name} {splitter:?} {parts_bytes:?}");
            }
        }
    }
}

#[test]
fn files_that_grew_or_shrank_are_read_as_they_are() {
    let splitter = Algorithm::Buzhash { average_bytes: 1 << 17 };
    let directory = tempfile::tempdir().unwrap();
    let seen = [0, 10, 1000, 500_000, 2_000_000, 100, 3];
    let files: Vec<(String, Vec<u8>)> = (0..)
        .zip([5, 2_000_000, 10, 0, 1000, 100_000, 3])
        .map(|(n, length)| (format!("{n}"), bytes(n, length)))
        .collect();
    for (name, bytes) in &files {
        fs::write(directory.path().join(name), bytes).unwrap();
    }
    let jobs = files.iter().zip(seen).map(|((name, _), seen)| job(directory.path(), name, seen, None));
    let found = read(directory.path(), jobs.collect(), splitter);
    for (name, bytes) in &files {
        assert_eq!(found[name].concat(), *bytes, "{name}");
    }
}

fn object(number: u8) -> ObjectId {
    ObjectId::direct(ContentId::new(PREFIX_DATA, &[number; 16]).unwrap())
}

#[test]
fn parts_are_joined_in_their_order_whichever_is_done_first() {
    let whole = WholeFile::new(3, 10);
    assert_eq!(whole.part_done(2, vec![(object(4), 3)]), None);
    assert_eq!(whole.part_done(0, vec![(object(1), 6), (object(2), 4)]), None);
    let joined = whole.part_done(1, vec![(object(3), 10)]);
    assert_eq!(joined, Some(vec![(object(1), 6), (object(2), 4), (object(3), 10), (object(4), 3)]));
}

#[test]
fn a_file_that_shrank_ends_with_its_first_short_part() {
    let empty = (object(0), 0);
    for (lengths, expected) in [([10, 10, 0], 3), ([10, 0, 0], 2), ([10, 4, 0], 2), ([0, 0, 0], 1), ([10, 4, 2], 3)] {
        let whole = WholeFile::new(3, 10);
        let part = |length| if length == 0 { vec![empty] } else { vec![(object(1), length)] };
        let joined = (0..).zip(lengths).filter_map(|(number, length)| whole.part_done(number, part(length))).last();
        assert_eq!(joined.map(|pieces| pieces.len()), Some(expected), "{lengths:?}");
    }
}

#[test]
fn a_file_fails_once_whatever_its_parts_do() {
    let directory = tempfile::tempdir().unwrap();
    let mut parts = Vec::new();
    let split: Result<(), ()> = job(directory.path(), "gone", 25, Some(10)).split(|part| {
        parts.push(part);
        Ok(())
    });
    split.unwrap();
    assert_eq!(parts.len(), 3);
    assert_eq!(parts.iter().filter(|part| part.fails()).count(), 1);
    assert!(parts.iter().all(ReadJob::is_lost));
    let whole = &parts[0].part.as_ref().unwrap().whole;
    let joined = (0..3).filter_map(|number| whole.part_done(number, Vec::new())).count();
    assert_eq!(joined, 0, "a file of which a part is lost is not finished");
}
