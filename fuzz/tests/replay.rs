//! Each target gets its corpus and some thousand fixed changes of it, without a fuzzer: it may not panic, and not
//! allocate more than it says.
//!
//! `PERENNIAL_FUZZ_MUTATIONS` sets how many changes, `PERENNIAL_FUZZ_SEED` which. An input that fails is written to the
//! temporary directory and named; once the cause is gone, it belongs into the corpus.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use fuzz::mutate::{INPUT_BYTES_MAX, Mutator};
use fuzz::{TARGETS, Target};
use peak_alloc::PeakAlloc;

/// Counts what Rust code allocates; the buffers of zstd's C code are not seen.
#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

const MUTATIONS: u64 = 20_000;

fn corpus_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn corpus_of(target: &Target) -> Vec<Vec<u8>> {
    let directory = corpus_directory().join(target.name);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let corpus: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
    assert!(!corpus.is_empty(), "{} is empty", directory.display());
    corpus
}

/// Runs one input; in words what is wrong with the target.
fn try_input(target: &Target, input: &[u8]) -> Result<(), String> {
    let before = ALLOCATED.current_usage();
    ALLOCATED.reset_peak_usage();
    let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let allocated = ALLOCATED.peak_usage().saturating_sub(before);
    let allowed = target.allocated_bytes_max + target.allocated_bytes_per_byte * input.len();
    match outcome {
        Err(_) => Err("it panics".to_owned()),
        Ok(()) if allocated > allowed => Err(format!("it allocates {allocated} bytes, more than {allowed}")),
        Ok(()) => Ok(()),
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// One test, since the peak of memory is counted for the whole program.
#[test]
fn no_target_fails() {
    let mutations = number("PERENNIAL_FUZZ_MUTATIONS").unwrap_or(MUTATIONS);
    let seed = number("PERENNIAL_FUZZ_SEED").unwrap_or(1);
    let mut failures = Vec::new();
    for target in TARGETS {
        let corpus = corpus_of(target);
        let mut mutator = Mutator::new(seed);
        let mutated = (0..mutations).map(|_| mutator.mutate(&corpus));
        for input in corpus.iter().cloned().chain(mutated) {
            if let Err(what) = try_input(target, &input) {
                let path = std::env::temp_dir().join(format!("perennial-fuzz-{}", target.name));
                std::fs::write(&path, &input).unwrap();
                failures.push(format!("{}: {what}: {}", target.name, path.display()));
                break;
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_corpus_is_small_and_of_known_targets() {
    let mut names: Vec<String> = std::fs::read_dir(corpus_directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let mut targets: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    targets.sort_unstable();
    assert_eq!(names, targets);
    let inputs: Vec<Vec<u8>> = TARGETS.iter().flat_map(corpus_of).collect();
    assert!(inputs.iter().all(|input| input.len() <= INPUT_BYTES_MAX));
    assert!(inputs.iter().map(Vec::len).sum::<usize>() <= 1 << 20);
}
