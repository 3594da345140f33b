use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use super::{Kdf, hkdf_sha256, hmac_sha256, pbkdf2_sha256, scrypt, scrypt_kopia};
use crate::{Error, cipher};

fn unique_id() -> Vec<u8> {
    (0x80..0xa0).collect()
}

fn master() -> Vec<u8> {
    (0x20..0x40).collect()
}

fn hkdf(ikm: &[u8], salt: &[u8], info: &[u8], length: usize) -> Vec<u8> {
    let mut out = vec![0; length];
    hkdf_sha256(ikm, salt, info, &mut out).unwrap();
    out
}

#[track_caller]
fn check(actual: impl AsRef<[u8]>, expected: &str) {
    assert_eq!(hex::encode(actual), expected);
}

#[test]
fn vectors_of_section_17_1() {
    let secret: Vec<u8> = (0..32).collect();
    let ascii_master = b"01234567890123456789012345678901";
    let password = b"correct horse";
    check(
        hkdf(b"ABCDEFGHIJKLMNOP", b"0123456789012345", b"the-test-purpose", 32),
        "828769ee8969bc37f11dbaa32838f8db6c19daa6e3ae5f5eed2da2d94d8faddb",
    );
    let km = Kdf::Scrypt65536_8_1.derive(password, &unique_id()).unwrap();
    check(km, "028b8a7e121b113945580dda343cf9ce368abda109576967ec51aef2f9a538e2");
    check(
        Kdf::Pbkdf2Sha256_600000.derive(password, &unique_id()).unwrap(),
        "89099bbcb390e4c9e433af9f312e9dd413bae6f42772b3e47c43d72c9c512104",
    );
    check(hkdf(&km, &unique_id(), b"AES", 32), "1bb2101da97275ab51c7248701d3971f54415f7d48ca0fdd88954e08e1dbeb13");
    check(hkdf(&km, &unique_id(), b"CHECKSUM", 32), "a63d126ab8ae818128ff2d4bc1538fbd4c1f0f6677ec09bf5ebf8a821a580316");
    check(hkdf(&master(), b"encryption", b"", 32), "49cbbd8ec38e25389b29de48aa0a383cb3aa37e0e2aa4e02e75c7894aebfacce");
    let s = hkdf(ascii_master, b"encryption", b"", 32);
    check(&s, "88aac0fcc646ffc04813cc17f4c7a17f8a73b53e4add438898256a7c87ad45d2");
    check(
        hmac_sha256(&s, b"aabbccddeeffgghhiijjkkllmmnnoopp"),
        "6c82491c819ee6c89e7bdd065cca8b86c314a7d950dffa92e1c30506f60463ea",
    );
    check(
        hkdf(&master(), &unique_id(), b"maintenance schedule", 32),
        "52605b74e5a4fdac57ce41a87b43fa8687ef93b03d8e493f66f2d3099dd33a99",
    );
    check(hkdf(&secret, &unique_id(), b"local-cache-integrity", 16), "4ecd07c6a7ae715f1800dc51730d8f96");
}

#[test]
fn rfc_7914_scrypt() {
    let mut out = [0; 64];
    scrypt(b"password", b"NaCl", 10, 8, 16, &mut out).unwrap();
    check(
        out,
        "fdbabe1c9d3472007856e7190d01e9fe7c6ad7cbc8237830e77376634b3731622eaf30d92e22a3886ff109279d9830dac727afb94a83ee6d8360cbdfa2cc0640",
    );
}

#[test]
fn refused_parameters() {
    let short_salt = Err(Error::KeyLength { what: "salt", length_bytes: 15, min_bytes: 16, max_bytes: usize::MAX });
    assert_eq!(scrypt_kopia(b"password", &[0; 15]), short_salt);
    assert_eq!(Kdf::Scrypt65536_8_1.derive(b"password", &[0; 15]), short_salt);
    assert_eq!(Kdf::Pbkdf2Sha256_600000.derive(b"password", &[0; 15]), short_salt);
    let refused = |result| matches!(result, Err(Error::KeyParameters { .. }));
    assert!(refused(pbkdf2_sha256(b"", b"", 0, &mut [0; 32])));
    assert!(refused(scrypt(b"", b"", 10, 0, 1, &mut [0; 32])));
    assert!(refused(scrypt(b"", b"", 200, 8, 1, &mut [0; 32])));
    assert!(refused(scrypt(b"", b"", 4, 8, 1, &mut [])));
    assert!(refused(hkdf_sha256(b"", b"", b"", &mut [0; 8161])));
}

#[test]
fn kdf_names() {
    for kdf in [Kdf::Scrypt65536_8_1, Kdf::Pbkdf2Sha256_600000] {
        assert_eq!(Kdf::from_kopia_name(kdf.kopia_name()), Some(kdf));
    }
    assert_eq!(Kdf::from_kopia_name("testing-only-insecure"), None);
    assert_eq!(Kdf::from_kopia_name(""), None);
}

/// Every key of every repository that kopia 0.22.3 wrote for the vectors, from password to opened format.
#[test]
fn keys_of_kopia_repositories() {
    let vectors: Value = serde_json::from_str(include_str!("../../tests/vectors/keys.json")).unwrap();
    let rows = vectors["keys"].as_array().unwrap();
    assert_eq!(rows.len(), 28);
    std::thread::scope(|scope| {
        for part in rows.chunks(rows.len().div_ceil(2)) {
            scope.spawn(|| part.iter().for_each(check_repository));
        }
    });
}

fn check_repository(row: &Value) {
    let text = |field: &str| row[field].as_str().unwrap();
    let bytes = |field: &str| hex::decode(text(field)).unwrap();
    let unique_id = bytes("uniqueID");
    let km = Kdf::from_kopia_name(text("keyAlgo")).unwrap().derive(text("password").as_bytes(), &unique_id).unwrap();
    check(km, text("Km"));
    let ke = hkdf(&km, &unique_id, b"AES", 32);
    check(&ke, text("Ke"));
    let ad = hkdf(&km, &unique_id, b"CHECKSUM", 32);
    check(&ad, text("AD"));
    let ke = ke.try_into().unwrap();

    let blob: Value = serde_json::from_str(text("kopia.repository")).unwrap();
    let sealed = BASE64_STANDARD.decode(blob["encryptedBlockFormat"].as_str().unwrap()).unwrap();
    let format = cipher::open_aes256_gcm(&ke, &ad, &sealed).unwrap();
    assert_eq!(String::from_utf8_lossy(&format), text("decryptedFormat"));
    if let Some(sealed) = row["kopia.blobcfg"].as_str() {
        let plain = cipher::open_aes256_gcm(&ke, &ad, &hex::decode(sealed).unwrap()).unwrap();
        assert_eq!(String::from_utf8_lossy(&plain), text("blobcfgPlain"));
    }

    let format: Value = serde_json::from_slice(&format).unwrap();
    let master = BASE64_STANDARD.decode(format["format"]["masterKey"].as_str().unwrap()).unwrap();
    check(hkdf(&master, b"encryption", b"", 32), text("S"));
    let root = if format["format"]["enablePasswordChange"] == true { master } else { km.to_vec() };
    check(hkdf(&root, &unique_id, b"maintenance schedule", 32), text("maintenanceKey"));
}
