use std::ops::Range;

use proptest::prelude::*;

use super::{LENGTH_BYTES, ReedSolomonCrc32, shard_counts};
use crate::Error;

fn encode(code: &ReedSolomonCrc32, payload: &[u8]) -> Vec<u8> {
    let mut out = b"kept".to_vec();
    code.encode(payload, &mut out).unwrap();
    out.split_off(4)
}

#[track_caller]
fn check(overhead_percent: u32, payload: &[u8], stored: &str) {
    let code = ReedSolomonCrc32::new(overhead_percent).unwrap();
    let mut encoded = encode(&code, payload);
    assert_eq!(hex::encode(&encoded), stored);
    assert_eq!(code.decode(&mut encoded).unwrap(), (payload.to_vec().as_mut_slice(), 0));
}

#[test]
fn short_payloads_have_kopias_bytes() {
    check(2, b"\x01", "4c667a2e074c667a2e07d202ef8d00d202ef8d00d202ef8d00a505df1b01a505df1b01d202ef8d00");
    check(
        2,
        b"hello world",
        "e3396797edd9807bc47ee4d8c681ff41d91200000063e8428b0b6865aac9b3346c6c6f7a7f0c0a20776f2ba3e4c6726c64ff41d912000000",
    );
}

/// Source: Kopia format, "ECC", its table and the vectors for other shard lengths.
#[test]
fn shards_follow_from_the_overhead_as_kopia_has_them() {
    for (percent, longest, data, parity) in [
        (1, 1024, 254, 2),
        (2, 512, 164, 2),
        (3, 256, 139, 2),
        (4, 128, 228, 2),
        (5, 128, 128, 2),
        (6, 128, 128, 3),
        (7, 64, 254, 2),
        (8, 64, 128, 2),
        (10, 64, 128, 4),
        (20, 64, 128, 17),
    ] {
        let code = ReedSolomonCrc32::new(percent).unwrap();
        assert_eq!((code.shard_bytes_max, code.large.data, code.large.parity), (longest, data, parity), "{percent} %");
    }
    for percent in 1..=100 {
        let code = ReedSolomonCrc32::new(percent).unwrap();
        assert!(code.large.data + code.large.parity <= 256, "{percent} %");
    }
    // With nothing taken off for checksums.
    for (percent, data, parity) in [(0.1, 254, 2), (1.0, 200, 2), (2.0, 128, 2), (10.0, 128, 12)] {
        assert_eq!(shard_counts(percent, usize::MAX), (data, parity), "{percent} %");
    }
    assert!(ReedSolomonCrc32::new(0).is_none() && ReedSolomonCrc32::new(101).is_none());
}

#[test]
fn every_length_near_a_change_of_layout_comes_back() {
    for percent in [1, 2, 5, 7, 20, 100] {
        let code = ReedSolomonCrc32::new(percent).unwrap();
        let block = code.large.data * code.shard_bytes_max;
        let shard = code.shard_bytes_max;
        for edge in [LENGTH_BYTES, code.small_stream_bytes_max(), block, block + shard, 2 * block, 3 * block - shard] {
            for stream_bytes in edge.saturating_sub(2).max(LENGTH_BYTES)..=edge + 2 {
                let payload = noise(stream_bytes - LENGTH_BYTES, stream_bytes as u64);
                let mut stored = encode(&code, &payload);
                assert_eq!(stored.len(), code.encoded_bytes(payload.len()));
                let (decoded, repaired) = code.decode(&mut stored).unwrap();
                assert!(decoded == payload && repaired == 0, "{percent} %, {} bytes", payload.len());
            }
        }
    }
}

#[test]
fn lengths_that_no_payload_has_are_refused() {
    let code = ReedSolomonCrc32::new(10).unwrap();
    for stored_bytes in (0..40).chain([41, 1441, 8977, 8978, 20_000]) {
        assert_eq!(code.decode(&mut vec![0; stored_bytes]).unwrap_err(), Error::BeyondRepair, "{stored_bytes}");
    }
}

fn noise(length_bytes: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(length_bytes).collect()
}

/// Where the parity and the data shards of each block lie, checksum included; padding that is not stored is left out.
fn units(code: &ReedSolomonCrc32, payload_bytes: usize) -> Vec<[Vec<Range<usize>>; 2]> {
    let layout = code.layout_of_stream(payload_bytes + LENGTH_BYTES);
    let end = code.encoded_bytes(payload_bytes);
    let unit = |start: usize| start.min(end)..(start + layout.unit_bytes()).min(end);
    let of_block = |from: usize, count: usize, block: usize| {
        let starts = (block * count..(block + 1) * count).map(|at| from + at * layout.unit_bytes());
        starts.map(unit).filter(|range| !range.is_empty()).collect()
    };
    let blocks = 0..layout.block_count;
    let code = layout.code;
    blocks.map(|at| [of_block(0, code.parity, at), of_block(layout.parity_bytes(), code.data, at)]).collect()
}

/// Changes one byte each of several of these shards: which, where in it, and how.
fn lose<'p>(stored: &mut [u8], mut units: Vec<Range<usize>>, picks: impl Iterator<Item = &'p (u16, u16, u8)>) {
    for (pick, offset, flip) in picks {
        if units.is_empty() {
            return;
        }
        let unit = units.swap_remove(usize::from(*pick) % units.len());
        stored[unit.start + usize::from(*offset) % unit.len()] ^= flip.max(&1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Any shards of every block may change, as many as it has parity: the payload is the same.
    #[test]
    fn as_many_lost_shards_as_there_is_parity_come_back(
        percent in prop_oneof![1u32..=10, 1u32..=100],
        size in prop_oneof![0usize..3_000, 0usize..400_000],
        picks in proptest::collection::vec(any::<(u16, u16, u8)>(), 0..130),
    ) {
        let code = ReedSolomonCrc32::new(percent).unwrap();
        let payload = noise(size, u64::from(percent));
        let mut stored = encode(&code, &payload);
        let parity = code.layout_of_stream(size + LENGTH_BYTES).code.parity;
        for block in units(&code, size) {
            lose(&mut stored, block.into_iter().flatten().collect(), picks.iter().take(parity));
        }
        prop_assert!(code.decode(&mut stored).unwrap().0 == payload);
    }

    /// One data shard more than there is parity left: an error.
    #[test]
    fn one_more_is_an_error(
        percent in prop_oneof![1u32..=10, 1u32..=100],
        size in prop_oneof![0usize..3_000, 0usize..400_000],
        block: u16,
        parity_lost: u16,
        pick: (u16, u16, u8),
    ) {
        let code = ReedSolomonCrc32::new(percent).unwrap();
        let mut stored = encode(&code, &noise(size, u64::from(percent)));
        let mut blocks = units(&code, size);
        let [parity, data] = blocks.swap_remove(usize::from(block) % blocks.len());
        let parity_lost = usize::from(parity_lost) % (parity.len() + 1);
        // A last block that is mostly padding may have fewer shards than it has parity.
        let data_lost = parity.len() - parity_lost + 1;
        prop_assume!(data_lost <= data.len());
        lose(&mut stored, parity, [pick].iter().cycle().take(parity_lost));
        lose(&mut stored, data, [pick].iter().cycle().take(data_lost));
        prop_assert_eq!(code.decode(&mut stored).unwrap_err(), Error::BeyondRepair);
    }

    /// Whatever the bytes are: an answer without a panic, and never more than what is there.
    #[test]
    fn any_bytes_at_all_are_refused_or_hold_less_than_themselves(
        percent in 1u32..=100,
        mut stored in proptest::collection::vec(any::<u8>(), 0..30_000),
    ) {
        let code = ReedSolomonCrc32::new(percent).unwrap();
        let length = stored.len();
        if let Ok((payload, _)) = code.decode(&mut stored) {
            prop_assert!(payload.len() < length);
        }
    }

    /// Cut off or longer: never another payload.
    #[test]
    fn a_wrong_length_is_never_another_payload(size in 0usize..300_000, cut in 1usize..20_000, longer: bool) {
        let code = ReedSolomonCrc32::new(5).unwrap();
        let mut stored = encode(&code, &noise(size, 1));
        let length = if longer { stored.len() + cut } else { stored.len().saturating_sub(cut) };
        stored.resize(length, 0);
        prop_assert_eq!(code.decode(&mut stored).unwrap_err(), Error::BeyondRepair);
    }
}
