use proptest::prelude::*;

use super::{Algorithm, Digest, Hasher, KeyedHash};
use crate::Error;

const FOX: &[u8] = b"The quick brown fox jumps over the lazy dog";

fn secret() -> Vec<u8> {
    (0..32).collect()
}

#[track_caller]
fn check(name: &str, secret: &[u8], input: &[u8], expected: &str) {
    let algorithm = Algorithm::from_kopia_name(name).unwrap();
    let keyed = KeyedHash::new(algorithm, secret).unwrap();
    assert_eq!(keyed.hash(input).to_string(), expected);
    assert_eq!(keyed.hash(input).as_bytes().len(), algorithm.output_bytes());
    assert_eq!(algorithm.kopia_name(), name);
    let mut many = Vec::new();
    keyed.hash_many(&[input, b"other", input], &mut many);
    assert_eq!(many, [keyed.hash(input), keyed.hash(b"other"), keyed.hash(input)]);
}

#[test]
fn default_test_repository() {
    let secret = b"a-repository-testing-hmac-secret";
    for (input, expected) in [
        (&b""[..], "0c2d44dc80de21b71d4219623082f5dc253fe9bb54e48b0fc90e118f8e6cf419"),
        (
            b"the quick brown fox jumps over the lazy dog",
            "f65fc4107863281faaeb7087197c05ad59457362607330c665c86c852c5e5906",
        ),
        (FOX, "6bbb74fef0699e516fb96252d8280c1c7f3492e12de9ec6d79c3c9c39b7b0063"),
        (&[0; 100], "bfa2b4b9421671ab2b5bfa8c90ee33607784a27e452b08556509ef9bd47a37c6"),
        (&[0xcd; 50], "e37e93ba74e074ad1366ee2f032ee9c3a5b81ec82c140b053c1a4e6673d5d9d9"),
    ] {
        check("HMAC-SHA256", secret, input, expected);
    }
}

#[test]
fn secret_of_32_bytes() {
    for (name, empty, hello, zeros) in [
        (
            "BLAKE2B-256",
            "4e51e7a913fc80137da52880fecca175bf81e117d5c68126dc2774033517ea0d",
            "bc2cf927f9ed52cc29116e6a5cfdbdf96a7250f85db66887b13652596bf40d61",
            "51f63c2dab2f6d5b294d7ed4a0c416742097810fb33e4873db960d7a2322ddc1",
        ),
        (
            "BLAKE2B-256-128",
            "4e51e7a913fc80137da52880fecca175",
            "bc2cf927f9ed52cc29116e6a5cfdbdf9",
            "51f63c2dab2f6d5b294d7ed4a0c41674",
        ),
        (
            "BLAKE2S-128",
            "9536f9b267655743dee97b8a670f9f53",
            "1f946dc212a39570bc06fd378517a91e",
            "b8b3518ac6d32040d18dbe6034d95261",
        ),
        (
            "BLAKE2S-256",
            "48a8997da407876b3d79c0d92325ad3b89cbb754d86ab71aee047ad345fd2c49",
            "9eb0cbcd6be5835f87e6c7d7f9bfcb07454a311777a671f274222bab4c191dea",
            "65baec1f1974e3a49b5cef0131ff729cb615e5a9f6ffb23dd095f5f9a170a80d",
        ),
        (
            "BLAKE3-256",
            "73492b19995d71cdb1e9d74decc09809eb732f1b00bc95c27cb15f9dd4d6478f",
            "23278c18c8c9fe0fbfadfb940af5f08d3fd1802bf919dd6d77ebd211a19fbe29",
            "53717b068dcc86ad9883cf9a39ab7b60c3f9ee3e59438729fe9cce49225d8835",
        ),
        (
            "BLAKE3-256-128",
            "73492b19995d71cdb1e9d74decc09809",
            "23278c18c8c9fe0fbfadfb940af5f08d",
            "53717b068dcc86ad9883cf9a39ab7b60",
        ),
        (
            "HMAC-SHA224",
            "2a7430f93bb5456d155c654063c7074aa70c01936a6c0e53a9f9407f",
            "37f5f97c60a525c95aa82d8b17f759224536bf18a922d52f0311df41",
            "40570718e615cf08b1a017d03ee089e4b60dcf050c58e524e5dc1ad5",
        ),
        (
            "HMAC-SHA256",
            "d38b42096d80f45f826b44a9d5607de72496a415d3f4a1a8c88e3bb9da8dc1cb",
            "53c40272a70c15ca4ee0af4df1f155fd6c41e00ce2307d8987ecd4bb36a7e990",
            "7b8a33622703a143e29751df60bd7a18621e9713258788e8629aa3cc1e50fe27",
        ),
        (
            "HMAC-SHA256-128",
            "d38b42096d80f45f826b44a9d5607de7",
            "53c40272a70c15ca4ee0af4df1f155fd",
            "7b8a33622703a143e29751df60bd7a18",
        ),
        (
            "HMAC-SHA3-224",
            "2e37c6fd64fd8a04653d260323bc726482d8cb6b4d9e59e02bd58cd9",
            "3ad0789a45fa11d480688d11c59d27147ba7460753e1b87d89117a07",
            "9af0428427b6b96118165f7029c7351a1871bee60a5b947862c3e1a6",
        ),
        (
            "HMAC-SHA3-256",
            "50ab1606034383fe4b3b4bc0a341a82e40ac85e455cdfeed4cac902a7b8ccfc1",
            "e6d520deb05cf56101c5bbbc508af68ee30d077975a59ed8a70523d8ea84e11e",
            "fe27d92d391a38a3390e79630adaf4b386384316392608fa9d45811e67705a59",
        ),
    ] {
        check(name, &secret(), b"", empty);
        check(name, &secret(), b"hello", hello);
        check(name, &secret(), &[0; 100], zeros);
    }
}

#[test]
fn secret_of_3_bytes() {
    for (name, expected) in [
        ("BLAKE2B-256", "27fbd5f2cdea2c98fa372a1a3b572a2f51c06bc627e306de84663f48c8b0eb13"),
        ("BLAKE2B-256-128", "27fbd5f2cdea2c98fa372a1a3b572a2f"),
        ("BLAKE2S-128", "f7e1470b0b9afb58dcbafccb1b8b8530"),
        ("BLAKE2S-256", "eec94d00b8c9d214636adfad587bc9c75f271d7a64d9639ef2e959f94da468e6"),
        ("BLAKE3-256", "109f7e6ec10cda22662850d9d790955d9fffee3ec42d577d9b5666ce85a668bf"),
        ("BLAKE3-256-128", "109f7e6ec10cda22662850d9d790955d"),
        ("HMAC-SHA224", "88ff8b54675d39b8f72322e65ff945c52d96379988ada25639747e69"),
        ("HMAC-SHA256", "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8"),
        ("HMAC-SHA256-128", "f7bc83f430538424b13298e6aa6fb143"),
        ("HMAC-SHA3-224", "ff6fa8447ce10fb1efdccfe62caf8b640fe46c4fb1007912bf85100f"),
        ("HMAC-SHA3-256", "8c6e0683409427f8931711b10ca92a506eb1fafa48fadd66d76126f47ac2c333"),
    ] {
        check(name, b"key", FOX, expected);
    }
}

#[test]
fn secrets_that_are_refused() {
    let refused = |algorithm, length| matches!(KeyedHash::new(algorithm, &vec![1; length]), Err(Error::KeyLength { length_bytes, .. }) if length_bytes == length);
    assert!(refused(Algorithm::Blake2b256, 65));
    assert!(refused(Algorithm::Blake2s256, 33));
    assert!(refused(Algorithm::Blake2s128, 33));
    assert!(refused(Algorithm::Blake2s128, 0));
    for algorithm in Algorithm::ALL {
        assert_eq!(refused(algorithm, 0), algorithm == Algorithm::Blake2s128, "{algorithm:?}");
    }
}

#[test]
fn unknown_names() {
    assert_eq!(Algorithm::from_kopia_name("blake2b-256"), None);
    assert_eq!(Algorithm::from_kopia_name(""), None);
}

#[test]
fn debug_shows_no_secret() {
    let keyed = KeyedHash::new(Algorithm::Blake3_256, &[0xab; 32]).unwrap();
    assert_eq!(format!("{keyed:?}"), "KeyedHash { algorithm: Blake3_256, .. }");
}

proptest! {
    #[test]
    fn digests_are_ordered_as_their_bytes(a in prop::collection::vec(0..3_u8, 0..5), b in prop::collection::vec(0..3_u8, 0..5)) {
        let (digest_a, digest_b) = (Digest::from_bytes(&a).unwrap(), Digest::from_bytes(&b).unwrap());
        prop_assert_eq!(digest_a.cmp(&digest_b), a.cmp(&b));
        prop_assert_eq!(digest_a.as_ref(), &a[..]);
    }

    #[test]
    fn many_are_as_each(inputs in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 0..20)) {
        let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
        for algorithm in Algorithm::ALL {
            let keyed = KeyedHash::new(algorithm, &secret()).unwrap();
            let mut many = vec![keyed.hash(b"kept")];
            keyed.hash_many(&inputs, &mut many);
            prop_assert_eq!(many[0], keyed.hash(b"kept"));
            prop_assert_eq!(&many[1..], inputs.iter().map(|input| keyed.hash(input)).collect::<Vec<_>>());
        }
    }
}

proptest! {
    /// Several at a time, each in parts of its own, of lengths around those of the algorithms' blocks.
    #[test]
    fn parts_are_as_the_whole(
        inputs in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..6), 0..7)
    ) {
        for algorithm in Algorithm::ALL {
            let keyed = KeyedHash::new(algorithm, &secret()).unwrap();
            let mut hashers: Vec<Hasher> = inputs.iter().map(|_| keyed.hasher()).collect();
            for turn in 0..6 {
                let parts = hashers.iter_mut().zip(&inputs);
                Hasher::update_many(parts.filter_map(|(hasher, parts)| Some((hasher, parts.get(turn)?.as_slice()))));
            }
            let whole: Vec<Digest> = inputs.iter().map(|parts| keyed.hash(&parts.concat())).collect();
            prop_assert_eq!(hashers.into_iter().map(Hasher::finish).collect::<Vec<_>>(), whole);
        }
    }
}

#[test]
fn longer_than_any_hash() {
    assert_eq!(Digest::from_bytes(&[0; 33]), None);
    assert_eq!(Digest::from_bytes(&[7; 32]).unwrap().as_bytes(), [7; 32]);
}
