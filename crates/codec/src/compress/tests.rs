use proptest::prelude::*;

use super::{Algorithm, Compressor, decompress, decompresses_to};
use crate::Error;

#[track_caller]
fn check(name: &str, compressed: &str, expected: &[u8]) {
    let algorithm = Algorithm::from_kopia_name(name).unwrap();
    let compressed = hex::decode(compressed).unwrap();
    assert_eq!(expand(algorithm, &compressed, expected.len()).unwrap(), expected);
    if let Some(limit) = expected.len().checked_sub(1) {
        let too_long = Err(Error::DecompressedTooLong { algorithm, max_bytes: limit });
        assert_eq!(expand(algorithm, &compressed, limit), too_long);
    }
}

fn expand(algorithm: Algorithm, compressed: &[u8], max_bytes: usize) -> Result<Vec<u8>, Error> {
    let mut out = b"kept".to_vec();
    let result = decompress(algorithm, compressed, max_bytes, &mut out);
    let appended = out.strip_prefix(b"kept").unwrap().to_vec();
    assert!(result.is_ok() || appended.is_empty());
    result.map(|()| appended)
}

fn shrink(algorithm: Algorithm, input: &[u8]) -> Vec<u8> {
    let mut out = b"kept".to_vec();
    Compressor::new().compress(algorithm, input, &mut out).unwrap();
    out.strip_prefix(b"kept").unwrap().to_vec()
}

#[test]
fn vectors_of_section_17_8() {
    for (name, kopia, zeros) in [
        (
            "gzip",
            "000010001f8b08000000000000ffcace2fc84c54183924200000ffff9931e2c8f0000000",
            "000010001f8b08000000000000ffecc03101000000c220fba7b6c60e1800000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000090f5000000ffff7d9511d4a0860100",
        ),
        (
            "zstd",
            "0000110028b52ffd0400750000306b6f70696120015406032be70482b41b07",
            "0000110028b52ffda4a086010003350c00db234ef3",
        ),
        (
            "zstd-fastest",
            "0000110128b52ffd0400750000306b6f70696120015406032be70482b41b07",
            "0000110128b52ffd0460020008005500000001540010339d060080db234ef3",
        ),
        (
            "zstd-better-compression",
            "0000110228b52ffd0400750000306b6f70696120015406032be70482b41b07",
            "0000110228b52ffda4a086010003350c00db234ef3",
        ),
        (
            "s2-default",
            "00001200ff06000053327354774f00120000f8a8c4cbf001146b6f7069612011061500da",
            "00001200ff06000053327354774f00100000c9b6fec0a08d06000011011d00938600",
        ),
        (
            "s2-better",
            "00001201ff06000053327354774f00120000f8a8c4cbf001146b6f7069612011061500da",
            "00001201ff06000053327354774f00100000c9b6fec0a08d06000011011d00938600",
        ),
        (
            "pgzip",
            "000013001f8b080000096e8800ffcace2fc84c54183924000000ffff03009931e2c8f0000000",
            "000013001f8b080000096e8800ffecdd810c00000002b0fca9dbd2e82709000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000e7a6ecc0b10000000080307feb343a36000000000000000000000000000000000000000000000000000000000000000000a6020000ffff03007d9511d4a0860100",
        ),
        (
            "deflate-default",
            "00001500cace2fc84c541839246000",
            "00001500ecdd810c00000002b0fca9dbd2e82709000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000e7a6ecc0b10000000080307feb343a36000000000000000000000000000000000000000000000000000000000000000000a61a00",
        ),
    ] {
        check(name, kopia, &b"kopia ".repeat(40));
        check(name, zeros, &[0; 100_000]);
    }
}

/// Written by the reference tool, `lz4` 1.9.4.
#[test]
fn lz4_frames() {
    let kopia = "0000140004224d186440a7100000006f6b6f706961200600d2506f7069612000000000626953a4";
    check("lz4", kopia, &b"kopia ".repeat(40));
    let zeros =
        ["0000140004224d18645008930100001f000100", &"ff".repeat(392), "0f50000000000000000000d339cec9"].concat();
    check("lz4", &zeros, &[0; 100_000]);
}

#[test]
fn several_members_and_frames() {
    for algorithm in [Algorithm::Gzip, Algorithm::Pgzip, Algorithm::Zstd, Algorithm::S2Default] {
        let mut both = shrink(algorithm, b"first ");
        both.extend_from_slice(&shrink(algorithm, b"second")[4..]);
        assert_eq!(expand(algorithm, &both, 12).unwrap(), b"first second", "{algorithm:?}");
        assert!(matches!(expand(algorithm, &both, 11), Err(Error::DecompressedTooLong { .. })), "{algorithm:?}");
    }
}

/// A frame without its length in the header, as Kopia's streaming encoder writes them; then one with.
#[test]
fn zstd_frame_of_unknown_length() {
    let plain = b"kopia ".repeat(200_000);
    let mut encoder = zstd::Encoder::new(0x1100_u32.to_be_bytes().to_vec(), 3).unwrap();
    encoder.window_log(27).unwrap();
    std::io::Write::write_all(&mut encoder, &plain).unwrap();
    let mut compressed = encoder.finish().unwrap();
    assert_eq!(expand(Algorithm::Zstd, &compressed, plain.len()).unwrap(), plain);
    assert!(matches!(expand(Algorithm::Zstd, &compressed, plain.len() - 1), Err(Error::DecompressedTooLong { .. })));
    let cut = compressed[..compressed.len() - 1].to_vec();
    assert!(matches!(expand(Algorithm::Zstd, &cut, plain.len()), Err(Error::CompressedDamaged { .. })));
    compressed.extend_from_slice(&shrink(Algorithm::Zstd, b"end")[4..]);
    assert_eq!(expand(Algorithm::Zstd, &compressed, plain.len() + 3).unwrap(), [&plain[..], b"end"].concat());
}

/// A few bytes that claim to be 200 MiB.
#[test]
fn memory_is_not_taken_on_the_word_of_a_frame() {
    let mut frame = Algorithm::Zstd.header_id().to_be_bytes().to_vec();
    frame.extend_from_slice(&[0x28, 0xb5, 0x2f, 0xfd, 0xa0]);
    frame.extend_from_slice(&(200_u32 << 20).to_le_bytes());
    // The last block: raw, and empty.
    frame.extend_from_slice(&[1, 0, 0]);
    let mut out = Vec::new();
    let error = decompress(Algorithm::Zstd, &frame, 256 << 20, &mut out).unwrap_err();
    assert!(matches!(error, Error::CompressedDamaged { .. }), "{error}");
    assert!(out.is_empty() && out.capacity() < 20 << 20, "{}", out.capacity());
    // A real one of such a length, and compressed as well as can be, is read all the same.
    let long = vec![7; 40 << 20];
    assert!(expand(Algorithm::Zstd, &shrink(Algorithm::Zstd, &long), 256 << 20).unwrap() == long);
}

#[test]
fn wrong_headers() {
    let gzip = shrink(Algorithm::Gzip, b"bytes");
    let found = |found| Err(Error::CompressionHeader { algorithm: Algorithm::Zstd, found });
    assert_eq!(expand(Algorithm::Zstd, &gzip, 5), found(Some(0x1000)));
    assert_eq!(expand(Algorithm::Zstd, &[0, 0, 17], 5), found(None));
}

#[test]
fn names_and_ids() {
    for algorithm in Algorithm::ALL {
        assert_eq!(Algorithm::from_kopia_name(algorithm.kopia_name()), Some(algorithm));
        assert_eq!(Algorithm::from_header_id(algorithm.header_id()), Some(algorithm));
        assert_eq!(algorithm.writable(), algorithm != Algorithm::Lz4);
    }
    assert_eq!(Algorithm::from_header_id(0), None);
    assert_eq!(Algorithm::from_kopia_name("none"), None);
    let algorithm = Algorithm::Lz4;
    let written = Compressor::new().compress(algorithm, b"", &mut Vec::new());
    assert_eq!(written, Err(Error::CompressionReadOnly { algorithm }));
}

#[test]
fn several_blocks() {
    // Noise, which stays as it is, then text: S2 and zstd write both kinds of block.
    let noise = (0..1_500_000_u64).scan(1_u64, |state, _| {
        *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        Some((*state >> 56) as u8)
    });
    let input: Vec<u8> = noise.chain(b"kopia ".repeat(500_000)).collect();
    for algorithm in Algorithm::ALL.into_iter().filter(Algorithm::writable) {
        let compressed = shrink(algorithm, &input);
        assert!(compressed.len() < 1_700_000, "{algorithm:?}");
        assert!(expand(algorithm, &compressed, input.len()).unwrap() == input, "{algorithm:?}");
    }
}

fn input() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::collection::vec(prop_oneof![any::<u8>(), 0..3_u8], 0..60);
    prop::collection::vec((piece, 1..40_usize), 0..30)
        .prop_map(|pieces| pieces.iter().flat_map(|(piece, count)| piece.repeat(*count)).collect())
}

proptest! {
    #[test]
    fn round_trip(inputs in prop::collection::vec(input(), 1..4)) {
        let mut compressor = Compressor::new();
        for algorithm in Algorithm::ALL.into_iter().filter(Algorithm::writable) {
            for input in &inputs {
                let mut compressed = Vec::new();
                compressor.compress(algorithm, input, &mut compressed).unwrap();
                prop_assert_eq!(&compressed[..4], algorithm.header_id().to_be_bytes());
                prop_assert_eq!(&expand(algorithm, &compressed, input.len()).unwrap(), input);
            }
        }
    }

    /// A damaged stream is an error or other bytes within the limit, but no panic.
    #[test]
    fn damaged(
        input in input(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        for algorithm in Algorithm::ALL.into_iter().filter(Algorithm::writable) {
            let mut compressed = shrink(algorithm, &input);
            for (at, byte) in &changes {
                let length = compressed.len();
                compressed[4 + at.index(length - 4)] = *byte;
            }
            for bytes in [&compressed[..], &compressed[..cut.index(compressed.len())]] {
                let length = expand(algorithm, bytes, input.len()).map_or(0, |out| out.len());
                prop_assert!(length <= input.len());
            }
        }
    }

    #[test]
    fn noise(bytes in prop::collection::vec(any::<u8>(), 0..300), length: [u8; 2]) {
        for algorithm in Algorithm::ALL {
            let mut framed = algorithm.header_id().to_be_bytes().to_vec();
            framed.extend_from_slice(&bytes);
            let _ = expand(algorithm, &framed, 1 << 16);
        }
        // Straight into the S2 block decoder.
        let mut block = b"\0\0\x12\0\xff\x06\0\0S2sTwO".to_vec();
        block.extend_from_slice(&[0, (bytes.len() + 6) as u8, ((bytes.len() + 6) >> 8) as u8, 0, 0, 0, 0, 0]);
        block.extend_from_slice(&[length[0] | 0x80, length[1] & 0x7f]);
        block.extend_from_slice(&bytes);
        let _ = expand(Algorithm::S2Default, &block, 1 << 16);
    }
}

proptest! {
    /// Cut anywhere, an input is compressed to a stream of the whole, and found to be it; changed, shorter or longer, it is not.
    #[test]
    fn parts_are_as_the_whole(input in input(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5), at in any::<prop::sample::Index>()) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
        cuts.extend([0, input.len()]);
        cuts.sort_unstable();
        let parts: Vec<&[u8]> = cuts.windows(2).map(|cut| &input[cut[0]..cut[1]]).collect();
        let mut compressor = Compressor::new();
        for algorithm in Algorithm::ALL.into_iter().filter(Algorithm::writable) {
            let mut compressed = b"kept".to_vec();
            compressor.compress_parts(algorithm, &parts, &mut compressed).unwrap();
            let compressed = compressed.strip_prefix(b"kept").unwrap();
            prop_assert_eq!(&expand(algorithm, compressed, input.len()).unwrap(), &input);
            prop_assert!(decompresses_to(algorithm, compressed, &parts));
            prop_assert!(decompresses_to(algorithm, &shrink(algorithm, &input), &parts));
            prop_assert!(!decompresses_to(algorithm, compressed, &[&input, b"x"]));
            if !input.is_empty() {
                let mut changed = input.clone();
                changed[at.index(input.len())] ^= 1;
                prop_assert!(!decompresses_to(algorithm, compressed, &[&changed]));
                prop_assert!(!decompresses_to(algorithm, compressed, &[&input[1..]]));
                prop_assert!(!decompresses_to(algorithm, compressed, &[&input[..input.len() - 1]]));
            }
        }
    }
}
