//! Every decoder of bytes that come from outside: from a store, from a cluster, or typed in.
//!
//! A target takes any bytes and may do anything but panic, run for ever, or take more memory than it says here. The same
//! targets are run with fixed mutations by the tests (`tests/replay.rs`) and for as long as one likes by libFuzzer
//! (`README.md`).

use std::sync::LazyLock;

use codec::compress::{Algorithm, Compressor, decompress};
use codec::ecc::ReedSolomonCrc32;
use codec::key::hmac_sha256;
use repository_kopia::fuzzing as kopia;

pub mod mutate;

/// One decoder.
#[derive(Clone, Copy)]
pub struct Target {
    /// Also the name of its directory below `corpus/`.
    pub name: &'static str,
    /// Decodes.
    pub run: fn(&[u8]),
    /// What it may allocate at most, whatever the input, in bytes.
    pub allocated_bytes_max: usize,
    /// What it may allocate on top for each byte of input, in bytes.
    pub allocated_bytes_per_byte: usize,
}

/// A MiB.
const MIB: usize = 1 << 20;
/// No decompressor is asked for more than this here, in bytes.
const PLAIN_BYTES_MAX: usize = MIB;

/// A decoder of a small document: what it builds is some hundred bytes for each byte read, at worst.
const fn document(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run, allocated_bytes_max: 64 << 10, allocated_bytes_per_byte: 400 }
}

/// A decoder that may give [`PLAIN_BYTES_MAX`] bytes, in a buffer that has grown by doubling, with tables of its own.
const fn unpacking(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run, allocated_bytes_max: 12 * MIB, allocated_bytes_per_byte: 16 }
}

/// All of them.
pub const TARGETS: &[Target] = &[
    unpacking("decompress-gzip", |bytes| unpack(&[Algorithm::Gzip, Algorithm::PgzipBestSpeed], bytes)),
    unpacking("decompress-zstd", |bytes| unpack(&[Algorithm::ZstdFastest], bytes)),
    unpacking("decompress-s2", |bytes| unpack(&[Algorithm::S2Default, Algorithm::S2Better], bytes)),
    unpacking("decompress-lz4", |bytes| unpack(&[Algorithm::Lz4], bytes)),
    unpacking("decompress-deflate", |bytes| unpack(&[Algorithm::Deflate], bytes)),
    unpacking("ecc", correct),
    document("format-blob", kopia::format_blob),
    document("configuration", kopia::configuration),
    document("blobcfg", kopia::blobcfg),
    document("index-file", kopia::index_file),
    document("compaction-log", kopia::compaction_log),
    document("postamble", kopia::postamble),
    document("whole-blob", kopia::whole_blob),
    unpacking("content", kopia::content),
    document("directory", kopia::directory),
    document("index-object", kopia::index_object),
    Target {
        name: "manifests",
        run: kopia::manifests,
        allocated_bytes_max: MIB,
        // Gzip makes a thousand bytes of one, and a record of a manifest is larger than its JSON.
        allocated_bytes_per_byte: 4 * 1032,
    },
    // Gzip's own tables come on top.
    Target { allocated_bytes_max: MIB, ..document("manifests-json", kopia::manifests_json) },
    document("snapshot", kopia::snapshot),
    document("policy", kopia::policy),
    // What the trials remember: 256 stars by 1000 characters of a path.
    Target { allocated_bytes_max: MIB, ..document("ignore-rules", kopia::ignore_rules) },
    document("ids", kopia::ids),
    document("epochs", kopia::epochs),
    document("session-marker", kopia::session_marker),
    document("schedule", kopia::schedule),
    document("maintenance-parameters", kopia::maintenance_parameters),
    document("task", |bytes| {
        let _ = serde_json::from_slice::<api::mover::Task>(bytes);
    }),
    document("report", |bytes| {
        let Ok(report) = api::mover::Report::from_termination_message(&String::from_utf8_lossy(bytes)) else { return };
        let message = report.to_termination_message();
        assert!(message.len() <= api::mover::TERMINATION_MESSAGE_BYTES_MAX);
        assert!(api::mover::Report::from_termination_message(&message).is_ok());
    }),
    document("ledger", ledger),
    document("address", |bytes| {
        let text = String::from_utf8_lossy(bytes);
        let _ = storage::Address::parse(&text);
        let _ = storage::Address::from_env(&|name| {
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
        });
    }),
];

/// As the stream of each algorithm: what comes out is within the limit, and what failed has left nothing behind.
fn unpack(algorithms: &[Algorithm], stream: &[u8]) {
    for algorithm in algorithms {
        let input = [algorithm.header_id().to_be_bytes().as_slice(), stream].concat();
        let mut out = b"before".to_vec();
        match decompress(*algorithm, &input, PLAIN_BYTES_MAX, &mut out) {
            Err(_) => assert_eq!(out, b"before"),
            Ok(()) => {
                assert!(out.starts_with(b"before") && out.len() - 6 <= PLAIN_BYTES_MAX);
                pack(*algorithm, &out[6..]);
            }
        }
    }
    if let Some(algorithm) = algorithms.first() {
        pack(*algorithm, stream);
    }
}

/// What is compressed is decompressed to itself.
fn pack(algorithm: Algorithm, plain: &[u8]) {
    if !algorithm.writable() {
        return;
    }
    let mut packed = Vec::new();
    Compressor::new().compress(algorithm, plain, &mut packed).expect("anything can be compressed");
    let mut out = Vec::new();
    decompress(algorithm, &packed, plain.len(), &mut out).expect("what was compressed is decompressed");
    assert!(out == plain, "{algorithm:?}");
}

/// A code takes far longer to make than to use.
static CODES: LazyLock<Vec<ReedSolomonCrc32>> =
    LazyLock::new(|| [2, 1, 5, 10, 100].into_iter().filter_map(ReedSolomonCrc32::new).collect());

/// Bytes as they stand, and then behind their parity: up to two that rotted come back, and more are refused or come back.
fn correct(bytes: &[u8]) {
    let Some(([overhead, at, further, damage], payload)) = bytes.split_first_chunk() else { return };
    let code = &CODES[usize::from(*overhead) % CODES.len()];
    let _ = code.decode(&mut payload.to_vec());
    let mut stored = Vec::new();
    code.encode(payload, &mut stored).expect("short payloads are encoded");
    assert_eq!(stored.len(), code.encoded_bytes(payload.len()));
    let first = usize::from(*at) * 31 % stored.len();
    let second = (first + usize::from(*further)) % stored.len();
    stored[first] ^= damage;
    stored[second] ^= damage;
    match code.decode(&mut stored) {
        Ok((found, _)) => assert_eq!(found, payload),
        Err(_) => assert!(*damage != 0),
    }
}

/// A record under a right seal, and the bytes as they stand.
fn ledger(bytes: &[u8]) {
    const KEY: [u8; 32] = [7; 32];
    let text = String::from_utf8_lossy(bytes);
    let seal: String = hmac_sha256(&KEY, text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let sealed = format!(r#"{{"entry":{text},"hmacSha256":"{seal}"}}"#);
    if let Ok(entry) = api::ledger::open(sealed.as_bytes(), &KEY) {
        let again = api::ledger::open(&api::ledger::seal(&entry, &KEY), &KEY);
        assert_eq!(again.expect("what was sealed is opened"), entry);
    }
    let _ = api::ledger::open(bytes, &KEY);
    let _ = api::naming::ClaimKey::of_ledger_object(&text);
}
