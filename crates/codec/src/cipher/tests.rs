use proptest::prelude::*;
use serde_json::Value;

use super::{
    Algorithm, ContentCipher, OVERHEAD_BYTES, open_aes256_gcm, random_bytes, seal_aes256_gcm,
    seal_aes256_gcm_with_nonce,
};
use crate::digest::KeyedHash;
use crate::{Error, compress, digest};

const ALGORITHMS: [Algorithm; 2] = [Algorithm::Aes256GcmHmacSha256, Algorithm::ChaCha20Poly1305HmacSha256];

#[track_caller]
fn check_open(name: &str, iv: &[u8], sealed: &str, plaintext: &[u8]) {
    let algorithm = Algorithm::from_kopia_name(name).unwrap();
    let cipher = ContentCipher::new(algorithm, b"01234567890123456789012345678901").unwrap();
    let mut sealed = hex::decode(sealed).unwrap();
    assert_eq!(cipher.open(iv, &mut sealed).unwrap(), plaintext);
}

#[test]
fn kopia_opens() {
    let iv = b"aabbccddeeffgghhiijjkkllmmnnoopp";
    let fox = b"quick brown fox jumps over the lazy dog";
    check_open("AES256-GCM-HMAC-SHA256", iv, "e43ba07f85a6d70c5f1102ca06cf19c597e5f91e527b21f00fb76e8bec3fd1", b"foo");
    check_open(
        "CHACHA20-POLY1305-HMAC-SHA256",
        iv,
        "118359f3d4d589d939efbbc3168ae4c77c51bcebce6845fe6ef5d11342faa6",
        b"foo",
    );
    check_open(
        "AES256-GCM-HMAC-SHA256",
        &[b'0'; 32],
        "eaad755a238f1daa4052db2e5ccddd934790b6cca415b3ccfd46ac5746af33d9d30f4400ffa9eb3a64fb1ce21b888c12c043bf6787d4a5c15ad10f21f6a6027ee3afe0",
        fox,
    );
    check_open(
        "CHACHA20-POLY1305-HMAC-SHA256",
        &[b'0'; 32],
        "836d2ba87892711077adbdbe1452d3b2c590bbfdf6fd3387dc6810220a32ec19de862e1a4f865575e328424b5f178afac1b7eeff11494f719d119b7ebb924d1d0846a3",
        fox,
    );
}

#[track_caller]
fn check_seal(hash: digest::Algorithm, plaintext: &[u8], aes: &str, chacha: &str) {
    let secret: Vec<u8> = (0..32).collect();
    let master: Vec<u8> = (0x20..0x40).collect();
    let nonce = std::array::from_fn(|index| 0xa0 + index as u8);
    let id = KeyedHash::new(hash, &secret).unwrap().hash(plaintext);
    let iv = id.as_bytes().last_chunk::<16>().unwrap();
    for (algorithm, expected) in ALGORITHMS.into_iter().zip([aes, chacha]) {
        let mut out = b"kept".to_vec();
        ContentCipher::new(algorithm, &master).unwrap().seal_with_nonce(iv, nonce, plaintext, &mut out).unwrap();
        assert_eq!(hex::encode(out.strip_prefix(b"kept").unwrap()), expected);
    }
}

#[test]
fn seals_as_section_17_4() {
    check_seal(
        digest::Algorithm::Blake2b256_128,
        b"hello world",
        "a0a1a2a3a4a5a6a7a8a9aaabc1a4c7d3e030934dce7312ff55beec896935c7014715697b29e249",
        "a0a1a2a3a4a5a6a7a8a9aaab32fdb7f1ff4509faf63bbf10b67507fb5ac989951d0c69e9412dea",
    );
    check_seal(
        digest::Algorithm::Blake2b256,
        b"hello world",
        "a0a1a2a3a4a5a6a7a8a9aaab9ec63a8cf515c5d39c2b800e7f0cf6dde9de64787e6306c268c564",
        "a0a1a2a3a4a5a6a7a8a9aaab5b3fbefb2792902acc8664ad73896e1bd6c09449ef70fc755eed36",
    );
    check_seal(
        digest::Algorithm::Blake2b256_128,
        b"",
        "a0a1a2a3a4a5a6a7a8a9aaaba356861a4159078c312659c741b25a8c",
        "a0a1a2a3a4a5a6a7a8a9aaabcab5e12c7b351cc5faa5c38d13816e57",
    );
}

/// Every content that kopia 0.22.3 wrote for the vectors: its name, its key, its payload, its plain bytes; and sealed
/// again with the same nonce, the same bytes.
#[test]
fn contents_of_kopia_repositories() {
    let vectors: Value = serde_json::from_str(include_str!("../../tests/vectors/contents.json")).unwrap();
    let rows = vectors["contents"].as_array().unwrap();
    assert_eq!(rows.len(), 194);
    rows.iter().for_each(check_content);
}

fn check_content(row: &Value) {
    let text = |field: &str| row[field].as_str().unwrap();
    let bytes = |field: &str| hex::decode(text(field)).unwrap();
    let id = text("contentID");
    let iv = bytes("iv");
    let hash = digest::Algorithm::from_kopia_name(text("hash")).unwrap();
    let keyed = KeyedHash::new(hash, &bytes("secret")).unwrap();
    let cipher =
        ContentCipher::new(Algorithm::from_kopia_name(text("encryption")).unwrap(), &bytes("masterKey")).unwrap();
    assert_eq!(hex::encode(ring::hmac::sign(&cipher.content_key_source, &iv)), text("K"), "{id}");

    let stored = match row.get("ecc") {
        Some(ecc) => hex::decode(ecc["afterEccDecode"].as_str().unwrap()).unwrap(),
        None => bytes("stored"),
    };
    let payload = cipher.open(&iv, &mut stored.clone()).unwrap().to_vec();
    let mut again = Vec::new();
    cipher.seal_with_nonce(&iv, bytes("nonce").try_into().unwrap(), &payload, &mut again).unwrap();
    assert_eq!(again, stored, "{id}");

    let plain = match compress::Algorithm::from_header_id(u32::from_str_radix(text("compression"), 16).unwrap()) {
        Some(algorithm) => {
            assert_eq!(payload, bytes("payload"), "{id}");
            let length = row["plaintextLength"].as_u64().unwrap() as usize;
            let mut plain = Vec::new();
            compress::decompress(algorithm, &payload, length, &mut plain).unwrap();
            plain
        }
        None => payload,
    };
    // Long ones are in the vectors by length and hash only.
    let sha256 = ring::digest::digest(&ring::digest::SHA256, &plain);
    assert_eq!(plain.len() as u64, row["plaintextLength"], "{id}");
    assert_eq!(hex::encode(sha256), text("plaintextSha256"), "{id}");
    assert_eq!(&id[id.len() % 2..], keyed.hash(&plain).to_string());
    assert!(keyed.hash(&plain).as_bytes().ends_with(&iv), "{id}");
}

#[test]
fn empty_master_key() {
    for algorithm in ALGORITHMS {
        assert!(matches!(ContentCipher::new(algorithm, b""), Err(Error::KeyLength { .. })));
    }
}

#[test]
fn too_short() {
    for algorithm in ALGORITHMS {
        let cipher = ContentCipher::new(algorithm, &[1; 32]).unwrap();
        for length_bytes in 0..OVERHEAD_BYTES {
            let opened = cipher.open(b"iv", &mut vec![0; length_bytes]).map(<[u8]>::to_vec);
            assert_eq!(opened, Err(Error::SealedTooShort { length_bytes }));
        }
    }
}

#[test]
fn names() {
    for algorithm in ALGORITHMS {
        assert_eq!(Algorithm::from_kopia_name(algorithm.kopia_name()), Some(algorithm));
    }
    assert_eq!(Algorithm::from_kopia_name("NONE"), None);
}

#[test]
fn debug_shows_no_key() {
    let cipher = ContentCipher::new(Algorithm::Aes256GcmHmacSha256, &[0xab; 32]).unwrap();
    assert_eq!(format!("{cipher:?}"), "ContentCipher { algorithm: Aes256GcmHmacSha256, .. }");
}

#[test]
fn fresh_nonces() {
    assert_ne!(random_bytes::<16>().unwrap(), random_bytes::<16>().unwrap());
    let sealed = || seal_aes256_gcm(&[1; 32], b"aad", b"plain").unwrap();
    assert_ne!(sealed(), sealed());
}

proptest! {
    #[test]
    fn round_trip_and_any_flipped_bit(
        plaintext in prop::collection::vec(any::<u8>(), 0..200),
        iv in prop::collection::vec(any::<u8>(), 1..33),
        flip in any::<prop::sample::Index>(),
        chacha: bool,
    ) {
        let cipher = ContentCipher::new(ALGORITHMS[usize::from(chacha)], &[7; 32]).unwrap();
        let mut sealed = Vec::new();
        cipher.seal(&iv, &plaintext, &mut sealed).unwrap();
        prop_assert_eq!(sealed.len(), plaintext.len() + OVERHEAD_BYTES);
        prop_assert_eq!(cipher.open(&iv, &mut sealed.clone()).map(<[u8]>::to_vec), Ok(plaintext));

        let bit = flip.index(sealed.len() * 8);
        sealed[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(cipher.open(&iv, &mut sealed.clone()).map(<[u8]>::to_vec), Err(Error::NotAuthentic));
        sealed[bit / 8] ^= 1 << (bit % 8);

        let mut other_iv = iv.clone();
        other_iv[flip.index(iv.len())] ^= 1;
        prop_assert_eq!(cipher.open(&other_iv, &mut sealed).map(<[u8]>::to_vec), Err(Error::NotAuthentic));
    }

    #[test]
    fn plain_aes_round_trip_and_any_flipped_bit(
        key: [u8; 32],
        nonce: [u8; 12],
        aad in prop::collection::vec(any::<u8>(), 0..40),
        plaintext in prop::collection::vec(any::<u8>(), 0..200),
        flip in any::<prop::sample::Index>(),
    ) {
        let mut sealed = seal_aes256_gcm_with_nonce(&key, nonce, &aad, &plaintext).unwrap();
        prop_assert_eq!(open_aes256_gcm(&key, &aad, &sealed), Ok(plaintext));
        let bit = flip.index(sealed.len() * 8);
        sealed[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(open_aes256_gcm(&key, &aad, &sealed), Err(Error::NotAuthentic));
    }
}
