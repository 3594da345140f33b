use proptest::prelude::*;
use serde_json::Value;

use super::{Algorithm, NAMES, Splitter};

/// The generator of section 17.3: bytes that look random and that anyone can reproduce.
fn lcg(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 56) as u8
        })
        .collect()
}

/// Lengths of all pieces, the unfinished one included unless it is empty.
fn pieces(splitter: &mut Splitter, bytes: &[u8]) -> Vec<usize> {
    let mut lengths = Vec::new();
    let mut rest = bytes;
    while let Some(cut) = splitter.next_cut(rest) {
        lengths.push(cut);
        rest = &rest[cut..];
    }
    if !rest.is_empty() {
        lengths.push(rest.len());
    }
    lengths
}

/// A line of section 17.3, where a negative length is the unfinished piece.
#[track_caller]
fn check(algorithm: Algorithm, bytes: &[u8], expected: &str) {
    let expected: Vec<usize> = expected.split(", ").map(|length| length.trim_matches('-').parse().unwrap()).collect();
    let mut splitter = Splitter::new(algorithm);
    assert_eq!(pieces(&mut splitter, bytes), expected, "{algorithm:?}");
    splitter.reset();
    assert_eq!(pieces(&mut splitter, bytes), expected, "{algorithm:?} after reset");
}

fn named(name: &str) -> Algorithm {
    Algorithm::from_kopia_name(name).unwrap()
}

#[test]
fn vectors_of_section_17_3() {
    let bytes = lcg(64 << 20);
    let tiny = &bytes[..20_000];
    let small = &bytes[..5_000_000];
    check(
        Algorithm::Buzhash { average_bytes: 1024 },
        tiny,
        "745, 1944, 2048, 938, 2048, 2048, 2048, 2048, 528, 1414, 1192, 642, 569, 520, -1268",
    );
    check(
        Algorithm::RabinKarp { average_bytes: 1024 },
        tiny,
        "701, 1008, 2048, 587, 637, 545, 1516, 2048, 2048, 773, 544, 997, 2048, 2048, 1139, 589, 520, -204",
    );
    for (name, lengths) in [
        (
            "DYNAMIC-128K-BUZHASH",
            "106903, 262144, 262144, 75634, 70225, 262144, 262144, 227264, 82510, 176587, 262144, 126363, 262144, 157276, 243487, 262144, 78774, 66041, 262144, 195626, 217136, 138546, 135117, 227386, 262144, 262144, -53685",
        ),
        (
            "DYNAMIC-128K-RABINKARP",
            "262144, 146874, 203115, 111867, 98443, 92381, 150181, 90574, 208838, 262144, 129756, 178906, 262144, 70925, 262144, 102885, 97325, 219922, 68820, 139618, 262144, 100702, 83682, 109946, 262144, 71885, 262144, 231041, 246380, 92969, 105028, -12929",
        ),
        (
            "DYNAMIC-256K-BUZHASH",
            "524288, 197908, 360239, 524288, 524288, 482921, 524288, 417123, 148499, 524288, 193897, 524288, -53685",
        ),
        (
            "DYNAMIC-256K-RABINKARP",
            "270407, 138611, 203115, 210310, 392184, 149790, 391900, 188230, 524288, 164486, 317247, 208438, 362846, 193628, 384966, 442248, 339349, -117957",
        ),
        ("DYNAMIC-512K-BUZHASH", "722196, 360239, 1048576, 482921, 566099, 375312, 917148, -527509"),
        ("DYNAMIC-512K-RABINKARP", "270407, 552036, 392184, 575922, 1048576, 319881, 362846, 1020842, -457306"),
        ("DYNAMIC-1M-BUZHASH", "1082435, 1531497, 566099, -1819969"),
        ("DYNAMIC-1M-RABINKARP", "822443, 2097152, 602257, 1020842, -457306"),
    ] {
        check(named(name), small, lengths);
    }
    for (name, lengths) in [
        (
            "DYNAMIC-2M-BUZHASH",
            "2613932, 4194304, 2141717, 4194304, 3686915, 2183932, 1089096, 2977570, 1762920, 1050094, 4194304, 2470717, 1585036, 2019343, 1566149, 1074848, 2560783, 1877865, 2106237, 3102329, 1725764, 4194304, 1526495, 2163216, 4194304, 4194304, -658082",
        ),
        (
            "DYNAMIC-2M-RABINKARP",
            "3159006, 1383688, 2100934, 3617764, 1632504, 4194304, 2366465, 4194304, 1864420, 2414949, 2254136, 4194304, 4194304, 3916326, 2970140, 3485622, 1647547, 1255840, 2078128, 2078233, 3224948, 1440691, 1198273, 2303093, -3938941",
        ),
        (
            "DYNAMIC-4M-BUZHASH",
            "2613932, 4740655, 8388608, 3271909, 4066666, 2813014, 8388608, 8388608, 2678066, 3102329, 7446563, 8388608, 2663824, -157474",
        ),
        (
            "DYNAMIC-4M-RABINKARP",
            "3159006, 7102386, 8388608, 5863389, 2804411, 6270518, 7899090, 8388608, 3048669, 5303181, 2638964, -6242034",
        ),
        ("DYNAMIC-8M-BUZHASH", "7354587, 13724507, 16777216, 5799102, 4796983, 7446563, 11052432, -157474"),
        ("DYNAMIC-8M-RABINKARP", "10261392, 16777216, 14448800, 16740458, -8880998"),
    ] {
        check(named(name), &bytes, lengths);
    }
}

#[test]
fn runs_and_fixed_lengths() {
    let runs = "2097152, 2097152, 2097152, 2097152, 2097152";
    check(named("DYNAMIC-4M-BUZHASH"), &vec![0; 10 << 20], runs);
    check(named("DYNAMIC-4M-RABINKARP"), &vec![0; 10 << 20], runs);
    check(named("DYNAMIC-4M-BUZHASH"), &vec![0xff; 10 << 20], runs);
    check(named("DYNAMIC-4M-RABINKARP"), &vec![0xff; 10 << 20], "8388608, -2097152");
    check(named("FIXED-1M"), &vec![0; 1_441_792], "1048576, 393216");
    check(named("FIXED-256K"), &vec![0; 1_441_792], "262144, 262144, 262144, 262144, 262144, 131072");
    check(Algorithm::Fixed { bytes: 1000 }, &vec![0; 3005], "1000, 1000, 1000, 5");
}

/// What kopia 0.22.3 itself stored, for each of its splitters. (Section 17.3 also counts pieces of bytes that only Go's
/// generator gives; these say more.)
#[test]
fn pieces_that_kopia_wrote() {
    let vectors: Value = serde_json::from_str(include_str!("../../tests/vectors/splitters.json")).unwrap();
    let lcg = lcg(48 << 20);
    let text: Vec<u8> = (0..200_000)
        .flat_map(|line| format!("{line:08} the quick brown fox jumps over the lazy dog\n").into_bytes())
        .collect();
    let mixed =
        [&lcg[..3_000_000], &vec![0; 20 << 20], &lcg[3_000_000..9_000_000], &vec![0xff; 5_000_000], &text[..7_000_000]]
            .concat();
    let zeros = vec![0; 5_000_000];
    let inputs = [("lcg48m", &lcg[..]), ("text", &text), ("mixed", &mixed), ("empty", &[]), ("zeros5m", &zeros)];
    let splitters = vectors["piece_lengths"].as_object().unwrap();
    assert_eq!(splitters.len(), NAMES.len());
    for (name, by_input) in splitters {
        assert_eq!(by_input.as_object().unwrap().len(), inputs.len());
        for (input, bytes) in inputs {
            let mut lengths = pieces(&mut Splitter::new(named(name)), bytes);
            if bytes.is_empty() {
                // An empty file is one empty content.
                lengths.push(0);
            }
            check_lengths(&format!("{name} {input}"), &lengths, &by_input[input]);
        }
    }
}

fn check_lengths(context: &str, lengths: &[usize], expected: &Value) {
    if expected.is_array() {
        assert_eq!(serde_json::json!(lengths), *expected, "{context}");
        return;
    }
    let joined = lengths.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let digest = hex::encode(ring::digest::digest(&ring::digest::SHA256, joined.as_bytes()));
    assert_eq!(lengths.len(), expected["count"].as_u64().unwrap() as usize, "{context}");
    assert_eq!(digest, expected["sha256_of_comma_joined_decimal_lengths"].as_str().unwrap(), "{context}");
}

#[test]
fn names() {
    for (name, algorithm) in NAMES {
        assert_eq!(Algorithm::from_kopia_name(name), Some(algorithm));
        let canonical = match name {
            "FIXED" => "FIXED-4M",
            "DYNAMIC" => "DYNAMIC-4M-BUZHASH",
            name => name,
        };
        assert_eq!(algorithm.kopia_name(), Some(canonical));
    }
    assert_eq!(Algorithm::from_kopia_name("DYNAMIC-4M"), None);
    assert_eq!(Algorithm::Buzhash { average_bytes: 1024 }.kopia_name(), None);
    assert_eq!(named("DYNAMIC").min_piece_bytes(), 2_097_152);
    assert_eq!(named("DYNAMIC").max_piece_bytes(), 8_388_608);
    assert_eq!(named("FIXED-8M").max_piece_bytes(), 8_388_608);
}

/// Lengths out of range are brought into it, so that no splitter loops or cuts empty pieces.
#[test]
fn odd_lengths() {
    for algorithm in [
        Algorithm::Fixed { bytes: 0 },
        Algorithm::Buzhash { average_bytes: 0 },
        Algorithm::RabinKarp { average_bytes: 1 },
        Algorithm::Buzhash { average_bytes: 1000 },
        Algorithm::RabinKarp { average_bytes: u32::MAX },
    ] {
        let lengths = pieces(&mut Splitter::new(algorithm), &lcg(5000));
        assert_eq!(lengths.iter().sum::<usize>(), 5000);
        assert!(lengths.iter().all(|length| (1..=algorithm.max_piece_bytes()).contains(length)), "{algorithm:?}");
    }
}

/// Section 8.5 word for word: every window from its 64 bytes, byte by byte, with neither tables that roll nor skipping.
fn oracle(algorithm: Algorithm, bytes: &[u8]) -> Vec<usize> {
    let (mask, hash): (u64, fn(&[u8]) -> u64) = match algorithm {
        Algorithm::Fixed { .. } => (0, |_| 1),
        Algorithm::Buzhash { average_bytes } => (u64::from(average_bytes) - 1, naive_buzhash),
        Algorithm::RabinKarp { average_bytes } => (u64::from(average_bytes) - 1, naive_rabin_karp),
    };
    let padded = [&[0; 64], bytes].concat();
    let mut lengths = Vec::new();
    let mut count = 0;
    for end in 1..=bytes.len() {
        count += 1;
        let long_enough = count >= algorithm.min_piece_bytes();
        if long_enough && (count >= algorithm.max_piece_bytes() || hash(&padded[end..end + 64]) & mask == 0) {
            lengths.push(count);
            count = 0;
        }
    }
    lengths.extend((count > 0).then_some(count));
    lengths
}

fn naive_buzhash(window: &[u8]) -> u64 {
    let terms = window.iter().enumerate();
    let hash = terms.fold(0, |hash, (index, byte)| {
        hash ^ super::buzhash::TABLE[usize::from(*byte)].rotate_left((63 - index as u32) % 32)
    });
    u64::from(hash)
}

fn naive_rabin_karp(window: &[u8]) -> u64 {
    let bits = window.iter().flat_map(|byte| (0..8).rev().map(move |bit| u64::from(byte >> bit & 1)));
    bits.fold(0, |remainder, bit| {
        let next = remainder << 1 | bit;
        if next >> 53 & 1 == 1 { next ^ 0x2e3e3e4a305605 } else { next }
    })
}

#[test]
fn window_hashes_of_section_17_3() {
    let text = b"The quick brown fox jumps over the lazy dog, then naps 64 bytes.";
    let counting: Vec<u8> = (0..200).collect();
    for (window, buzhash, rabin_karp) in [
        (&[0; 64][..], 0, 0),
        (&counting[..64], 0xd9b0c9cf, 0x001a91598731792b),
        (&counting[136..], 0x139ab536, 0x00145898e479b35c),
        (text, 0xdd6bb859, 0x001ab5cb3e64c313),
    ] {
        assert_eq!(naive_buzhash(window), buzhash);
        assert_eq!(naive_rabin_karp(window), rabin_karp);
    }
}

fn algorithm() -> impl Strategy<Value = Algorithm> {
    let average = (5..12_u32).prop_map(|log| 1 << log);
    prop_oneof![
        (1..3000_u32).prop_map(|bytes| Algorithm::Fixed { bytes }),
        average.clone().prop_map(|average_bytes| Algorithm::Buzhash { average_bytes }),
        average.prop_map(|average_bytes| Algorithm::RabinKarp { average_bytes }),
    ]
}

/// Runs of one byte and noise: cuts at the shortest length, at the longest, and between.
fn object() -> impl Strategy<Value = Vec<u8>> {
    let run = (any::<u8>(), 1..3000_usize).prop_map(|(byte, length)| vec![byte; length]);
    let noise = prop::collection::vec(any::<u8>(), 1..6000);
    prop::collection::vec(prop_oneof![1 => run, 3 => noise], 0..5).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn as_the_oracle_however_sliced(
        algorithm in algorithm(),
        bytes in object(),
        slices in prop::collection::vec(prop_oneof![1..100_usize, 1..20_000_usize], 1..20),
    ) {
        let expected = oracle(algorithm, &bytes);
        let mut splitter = Splitter::new(algorithm);
        prop_assert_eq!(&pieces(&mut splitter, &bytes), &expected);

        splitter.reset();
        let mut lengths = Vec::new();
        let mut count = 0;
        let mut rest = &bytes[..];
        for slice_bytes in slices.into_iter().cycle() {
            let (mut slice, after) = rest.split_at(slice_bytes.min(rest.len()));
            while let Some(cut) = splitter.next_cut(slice) {
                lengths.push(count + cut);
                count = 0;
                slice = &slice[cut..];
            }
            count += slice.len();
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        lengths.extend((count > 0).then_some(count));
        prop_assert_eq!(lengths, expected);
    }
}

/// Windows long enough for the lanes, with cuts in each of them and at their seams.
#[test]
fn as_the_oracle_in_lanes() {
    let bytes = lcg(200_000);
    for average_bytes in [4096, 8192, 32768] {
        for algorithm in [Algorithm::Buzhash { average_bytes }, Algorithm::RabinKarp { average_bytes }] {
            assert_eq!(pieces(&mut Splitter::new(algorithm), &bytes), oracle(algorithm, &bytes), "{algorithm:?}");
        }
    }
}
